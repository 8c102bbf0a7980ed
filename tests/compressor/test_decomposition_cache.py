"""Kernels are decomposed once for as long as their numbers are the same."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    DecompositionCache,
    PiecewiseConstant,
    factorize,
)
from reducible_train.compressor import Compression
from reducible_train.settings.targets import target


def copied(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def same(model, other):
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def test_another_budget_of_the_same_weights_decomposes_nothing():
    cache, model = DecompositionCache(), zoo.sequential()
    second, alone = copied(model), copied(model)
    factorize(model, 0.7, cache=cache)
    made = cache.misses
    assert (made > 0, cache.hits) == (True, 0)
    report = factorize(second, 0.5, cache=cache)
    assert (cache.misses, cache.hits) == (made, made)
    expected = factorize(alone, 0.5)
    assert report.cuts[-1].kernels == expected.cuts[-1].kernels
    assert same(second, alone)
    assert same(second, model) is False


def test_other_weights_are_decomposed_and_what_is_found_is_theirs():
    cache, model = DecompositionCache(), zoo.sequential()
    other = copied(model)
    other.set_weights([weight * 2 + 0.01 for weight in model.get_weights()])
    alone = copied(other)
    factorize(model, 0.5, cache=cache)
    factorize(other, 0.5, cache=cache)
    factorize(alone, 0.5)
    assert cache.hits == 0
    assert same(other, alone)


def test_one_bit_of_one_weight_is_seen():
    cache, model = DecompositionCache(), zoo.sequential()
    other = copied(model)
    kernel = other.get_layer("second").kernel
    values = np.array(kernel)
    values.view(np.uint32)[3, 5] ^= 1
    kernel.assign(values)
    factorize(model, 0.5, cache=cache)
    made = cache.misses
    factorize(other, 0.5, cache=cache)
    assert (cache.misses, cache.hits) == (made + 1, made - 1)


def test_what_was_used_longest_ago_makes_room():
    models = [zoo.sequential() for _ in range(2)]
    whole = DecompositionCache()
    factorize(copied(models[0]), 0.5, cache=whole)
    kernels = whole.misses
    assert whole.nbytes > 0
    small = DecompositionCache(max_bytes=whole.nbytes)
    for model, hits in ((models[0], 0), (models[0], kernels), (models[1], kernels)):
        factorize(copied(model), 0.5, cache=small)
        assert small.hits == hits
        assert 0 < small.nbytes <= small.max_bytes
    small.clear()
    assert small.nbytes == 0
    tiny, alone = DecompositionCache(max_bytes=1), copied(models[0])
    report = factorize(models[0], 0.5, cache=tiny)
    assert (tiny.nbytes, tiny.misses) == (0, kernels)
    assert report.cuts[-1].kernels == factorize(alone, 0.5).cuts[-1].kernels
    assert same(models[0], alone)


@pytest.mark.parametrize("size", [-1, 0.5, "1 GiB", None])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ArgumentError, match=r"`max_bytes` must be .* Received: max_bytes="):
        DecompositionCache(max_bytes=size)


def test_a_compression_asked_again_without_training_decomposes_what_it_changed_alone():
    fall = target("budget", PiecewiseConstant((0.9, 0.5), (0, 1)))
    cache = DecompositionCache()
    compression = Compression(zoo.sequential(), fall, cache=cache)
    first = compression.cut(0.0)
    kernels, changed = len(compression.survey.compressible), len(first.kernels)
    assert changed > 0
    compression.cut(1.0)
    assert (cache.misses, cache.hits) == (kernels + changed, kernels - changed)


def test_what_is_no_cache_is_refused():
    with pytest.raises(ArgumentTypeError, match=r"`cache` must be .* Received: \{\}"):
        factorize(zoo.sequential(), 0.5, cache={})


def wide():
    """A model with a kernel that is large enough for sketches."""
    layers = [keras.layers.Dense(520, name="wide"), keras.layers.Dense(3, name="last")]
    return keras.Sequential([keras.Input((600,)), *layers])


def test_a_rank_asked_of_a_large_kernel_takes_its_leading_directions_alone():
    model, cache = wide(), DecompositionCache()
    before, others = model.get_weights(), [copied(model) for _ in range(3)]
    (cut,) = factorize(model, rank=8).cuts[-1].kernels
    assert np.ptp(cut.spectrum[8:]) == 0, "values after the first eight are not told apart"
    found = model.layers[0]
    off = np.linalg.norm(before[0] - np.array(found.kernel_u) @ np.array(found.kernel_v))
    exact = np.linalg.svd(before[0].astype(float))[1]
    assert off <= 1.005 * np.linalg.norm(exact[8:])
    assert cut.relative_error == pytest.approx(off / np.linalg.norm(before[0]), rel=1e-4)
    assert len(cut.spectrum) == 520
    for rank, other in zip((8, 9, 4), others, strict=True):
        (cut,) = factorize(other, rank=rank, cache=cache).cuts[-1].kernels
        np.testing.assert_allclose(cut.spectrum, exact, rtol=1e-4)
    assert (cache.hits, cache.misses) == (2, 1), "what serves other ranks has all directions"
