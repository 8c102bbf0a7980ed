"""Kernels are decomposed once for as long as their numbers are the same."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import zoo

from reducible_train import ArgumentTypeError, DecompositionCache, PiecewiseConstant, factorize
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
