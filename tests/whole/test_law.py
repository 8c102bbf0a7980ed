"""The law over layer kinds, model kinds and dtype policies.

A run meets every kind in every class of policies, and every model in every policy, with one file
each. A shift from 1 to 5 lets each pair of kind and model meet another policy, and another of the
files; these are slow. After all of them each pair has met every policy; a variant of a kind has
been in five of the models, with one policy each, in every file.
"""

from __future__ import annotations

import json

import keras
import law
import numpy as np
import pytest
from law import FILES, KINDS, MODELS, POLICIES

from reducible_train import (
    PiecewiseConstant,
    RankScheduler,
    factorize,
    load_model,
    merge,
    save_model,
    to_stock_layers,
)
from reducible_train.layers import dense_classes

SHIFTS = [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, len(POLICIES) + 1))]
MAIN = [name for name, kind in KINDS.items() if not kind.variant]
VARIANTS = [name for name, kind in KINDS.items() if kind.variant]
# What a layer may have to do: nothing more, cast variables at each call, round its own variables.
CLASSES = (("float32", "float64"), ("mixed_float16", "mixed_bfloat16"), ("bfloat16",))


def combinations(model, shift=0):
    """Kind, policy and files for one model, and whether each cut is a call of its own."""
    place = list(MODELS).index(model)
    policies, files = list(POLICIES), list(FILES)
    for i, kind in enumerate(MAIN):
        turn = (i + place) % len(MODELS)
        file = files[(i + place + shift) % len(files)]
        if shift:
            yield kind, policies[(turn + shift) % len(policies)], [file], True
        elif turn < len(CLASSES):
            alike = CLASSES[turn]
            yield kind, alike[i // len(MODELS) % len(alike)], [file], turn == 0
    for i, kind in enumerate(VARIANTS):
        if i % len(MODELS) == (place + shift) % len(MODELS):
            some = files if shift else [files[i % len(files)]]
            policy = policies[shift % len(policies)]  # the strictest tolerance first
            yield kind, policy, some, shift > 0 or i % 2 == 0


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("model", MODELS)
def test_the_law(model, shift, elsewhere, tmp_path):
    chosen = list(combinations(model, shift))
    faults = {}
    for kind, policy, files, anew in chosen:
        try:
            law.check(kind, model, policy, tmp_path, files, anew)
        except Exception as fault:
            faults[f"{kind}, {policy}"] = f"{type(fault).__name__}: {fault}"
    assert not faults, "\n".join(f"{name}: {fault}" for name, fault in faults.items())
    read = json.loads(elsewhere.run(law.FAULTS, tmp_path))
    assert len(read) == len(chosen)
    faults = {name: found for name, found in read.items() if found}
    assert not faults, "\n".join(f"{name}: {found}" for name, found in faults.items())


def test_every_pair_meets():
    met = {(kind, policy) for model in MODELS for kind, policy, *_ in combinations(model)}
    assert sum(CLASSES, ()) == tuple(POLICIES)
    for alike in CLASSES:
        assert {kind for kind, policy in met if policy in alike} >= set(MAIN)
    pairs = {(model, policy) for model in MODELS for _, policy, *_ in combinations(model)}
    assert len(pairs) == len(MODELS) * len(POLICIES)
    assert {kind for kind, _ in met} == set(KINDS)
    shifts = range(1, len(POLICIES) + 1)
    slow = {(k, m, p) for m in MODELS for shift in shifts for k, p, *_ in combinations(m, shift)}
    assert {(k, m, p) for k in MAIN for m in MODELS for p in POLICIES} <= slow


def test_every_class_that_can_be_factorised_is_here():
    models = [law.sequential(name, "float32") for name in MAIN]
    found = {kernel.kind.dense_class for model in models for kernel in law.kernels_of(model)}
    known = {each for each in dense_classes() if each.__module__ != "__main__"}  # of a page
    assert found == known


# --- mixed precision, with its loss scale, through a fit ----------------------------------


def test_a_loss_scale_goes_through_the_cuts_of_a_fit(tmp_path):
    """A layer within a layer of our own, in float16, cut twice while it trains."""
    keras.utils.set_random_seed(1)
    model = law.make("dense of rows", "in a layer", "mixed_float16")
    x = KINDS["dense of rows"].inputs(64)
    y = (x.sum((1, 2)) > 0).astype("int32")
    # The first steps overflow, so that the scale falls until they do not.
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.02), 2.0**24)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            (kernel,) = law.kernels_of(model)
            seen.append((kernel.rank, float(law.host(optimizer.dynamic_scale))))
            if kernel.rank:
                u, _ = kernel.variables
                place = [v is u for v in optimizer.inner_optimizer._trainable_variables]
                moments = optimizer.inner_optimizer._momentums[place.index(True)]
                assert np.abs(law.host(moments)).max() > 0

    scheduler = RankScheduler(rank=PiecewiseConstant(values=(6, 3, 2), start_epochs=(0, 3, 5)))
    history = model.fit(
        x, y, batch_size=16, epochs=9, verbose=0, callbacks=[scheduler, Look()]
    ).history["loss"]
    assert [rank for rank, _ in seen] == [None] * 3 + [3] * 2 + [2] * 4
    scales = [scale for _, scale in seen]
    assert scales[0] > scales[2] == scales[-1]
    assert np.isfinite(history).all()
    assert history[-1] < 0.8 * history[0]
    assert model.optimizer is optimizer
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(law.host(ours), law.host(theirs))
    np.testing.assert_array_equal(law.run(loaded, x), law.run(model, x))
    loaded.fit(x, y, batch_size=16, verbose=0)


# --- channels first, where TensorFlow has no such convolution on a CPU --------------------

CHANNELS_FIRST = {
    "conv2d": lambda **kwargs: keras.layers.Conv2D(8, 3, strides=2, padding="same", **kwargs),
    "transposed": lambda **kwargs: keras.layers.Conv2DTranspose(8, 3, **kwargs),
}


@pytest.mark.parametrize("make", CHANNELS_FIRST.values(), ids=CHANNELS_FIRST)
def test_a_layer_that_cannot_run_here_is_cut_and_saved(make, tmp_path):
    """Its channels stand first; the numbers are those of the layer with channels last."""
    models = {}
    for order in ("channels_first", "channels_last"):
        keras.utils.set_random_seed(1)
        keras.utils.clear_session(free_memory=False)
        shape = (6, 8, 7) if order == "channels_first" else (8, 7, 6)
        inputs = keras.Input(shape)
        x = make(data_format=order, name="hidden")(inputs)
        x = keras.layers.GlobalAveragePooling2D(data_format=order)(x)
        models[order] = keras.Model(inputs, keras.layers.Dense(3, name="output")(x))
    reports = [factorize(model, budget=0.7, measure="flops") for model in models.values()]
    assert reports[0].to_dict()["kernels"] == reports[1].to_dict()["kernels"]
    assert reports[0].flops == reports[1].flops
    assert reports[0].ranks
    first, last = models.values()
    for ours, theirs in zip(first.weights, last.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    save_model(first, tmp_path / "model.reducible")
    first.save(tmp_path / "model.keras")
    for loaded in (
        load_model(tmp_path / "model.reducible"),
        keras.models.load_model(tmp_path / "model.keras"),
        to_stock_layers(first),
    ):
        assert loaded.layers[1].data_format == "channels_first"
        assert loaded.count_params() == first.count_params()
    merge(first)
    assert type(first.layers[1]) is type(make())


def test_a_mobile_net_with_channels_first_is_surveyed_and_cut():
    reports = []
    before = keras.config.image_data_format()
    for order, shape in (("channels_last", (32, 32, 3)), ("channels_first", (3, 32, 32))):
        keras.utils.set_random_seed(1)
        keras.config.set_image_data_format(order)
        try:
            model = keras.applications.MobileNet(shape, alpha=0.25, weights=None, classes=5)
        finally:
            keras.config.set_image_data_format(before)
        reports.append(factorize(model, budget=0.6, measure="flops", allocation="uniform"))
        assert len(reports[-1].ranks) > 5
    last, first = reports
    assert first.ranks == last.ranks
    assert (first.flops, first.dense_flops) == (last.flops, last.dense_flops)
