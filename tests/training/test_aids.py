"""Laws of the aids: what each does to a training, and that nothing of it stays."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo

from reducible_train import (
    Adaptive,
    ArgumentError,
    ArgumentTypeError,
    Cadence,
    ConfigError,
    Guard,
    LayerRule,
    PiecewiseConstant,
    ProductDecay,
    Ramp,
    RankBackupAndRestore,
    RankEarlyStopping,
    RankScheduler,
    Regrow,
    Rewarm,
    Search,
    TailShrink,
    factorize,
)
from reducible_train.compressor import Compression
from reducible_train.config import parse_config
from reducible_train.errors import ShortfallWarning
from reducible_train.layers import find_kernels
from reducible_train.selection.calibration import samples_of
from reducible_train.selection.scoring import decomposition
from reducible_train.settings.aids import Aid, aid_kinds
from reducible_train.settings.aids import base as aids
from reducible_train.settings.targets import target

pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

FALL = PiecewiseConstant(values=(24, 8, 4), start_epochs=(0, 1, 3))
BATCHES = 4


class Rates(keras.callbacks.Callback):
    """The step that plain SGD makes along a gradient that is always 1: the rate in force."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _value(self):
        return float(zoo.as_array(self.model.get_layer("output").bias)[0])

    def on_train_batch_begin(self, batch, logs=None):
        self._before = self._value()

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self._before - self._value())


def first_output(y, predicted):
    """A loss whose gradient by the first output is 1."""
    return predicted[:, 0]


def rates(rate, scheduler, epochs=6, **kwargs) -> np.ndarray:
    """The rate of every step of a fit, one row for each epoch."""
    model = zoo.sequential()
    model.compile(keras.optimizers.SGD(rate, **kwargs), first_output)
    x, y = zoo.data(model)
    look = Rates()
    model.fit(x, y, batch_size=16, epochs=epochs, callbacks=[scheduler, look], verbose=0)
    assert int(zoo.as_array(model.optimizer.iterations)) == epochs * BATCHES
    return np.array(look.seen).reshape(epochs, BATCHES)


def cosine():
    return keras.optimizers.schedules.CosineDecay(0.5, 6 * BATCHES)


# --- warm-up --------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [lambda: 0.25, cosine], ids=["number", "schedule"])
def test_the_rate_climbs_after_each_cut_and_is_then_the_scheduled_one(rate):
    plain = rates(rate(), RankScheduler(rank=FALL))
    warm = rates(rate(), RankScheduler(rank=FALL, aids=[Rewarm(steps=6, initial=0.25)]))
    climb = 0.25 + 0.75 * np.arange(1, 7) / 6
    expected = np.ones_like(plain)
    expected[1], expected[2, :2] = climb[:4], climb[4:]
    expected[3], expected[4, :2] = climb[:4], climb[4:]
    np.testing.assert_allclose(warm, plain * expected, atol=2e-6)


def test_a_cut_within_the_climb_begins_another():
    fall = PiecewiseConstant(values=(24, 8, 4), start_epochs=(0, 1, 2))
    warm = rates(0.25, RankScheduler(rank=fall, aids=[Rewarm(epochs=2)]))
    climb = np.arange(1, 9) / 8
    np.testing.assert_allclose(warm[1], 0.25 * climb[:4], atol=1e-6)
    np.testing.assert_allclose(warm[2:4].ravel(), 0.25 * climb, atol=1e-6)
    np.testing.assert_allclose(warm[4:], 0.25, atol=1e-6)


def test_the_rate_is_exactly_the_scheduled_one_afterwards():
    model = zoo.compiled(zoo.sequential(), keras.optimizers.Adam(0.3))
    x, y = zoo.data(model)

    class Read(keras.callbacks.Callback):
        values = ()

        def on_train_batch_end(self, batch, logs=None):
            self.values += (float(zoo.as_array(self.model.optimizer.learning_rate)),)

    read = Read()
    warm = RankScheduler(
        rank=PiecewiseConstant((24, 8), (0, 1)), aids=[Rewarm(steps=3, initial=0.1)]
    )
    model.fit(x, y, batch_size=16, epochs=3, callbacks=[warm, read], verbose=0)
    assert read.values[:3] == (np.float32(0.3),) * 3
    assert read.values[4] < np.float32(0.3)
    assert read.values[7:] == (np.float32(0.3),) * 5
    assert model.optimizer.learning_rate is model.optimizer._learning_rate
    pickle.loads(pickle.dumps(model))


def test_a_callback_may_change_the_rate_while_it_climbs():
    def later(epoch, rate):
        return 0.5 if epoch < 2 else 0.125

    model = zoo.sequential()
    model.compile(keras.optimizers.SGD(0.5), first_output)
    x, y = zoo.data(model)
    look, other = Rates(), keras.callbacks.LearningRateScheduler(later)
    scheduler = RankScheduler(rank=PiecewiseConstant((24, 8), (0, 1)), aids=[Rewarm(steps=8)])
    model.fit(x, y, batch_size=16, epochs=4, callbacks=[scheduler, other, look], verbose=0)
    seen = np.array(look.seen).reshape(4, BATCHES)
    climb = np.arange(1, 9).reshape(2, 4) / 8
    np.testing.assert_allclose(seen[1], 0.5 * climb[0], atol=1e-6)
    np.testing.assert_allclose(seen[2], 0.125 * climb[1], atol=1e-6)
    np.testing.assert_allclose(seen[3], 0.125, atol=1e-6)


@pytest.mark.traced
def test_a_wrapped_optimizer_is_warmed_up():
    inner = keras.optimizers.SGD(0.25)
    model = zoo.sequential()
    model.compile(keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0), first_output)
    x, y = zoo.data(model)
    look = Rates()
    scheduler = RankScheduler(rank=PiecewiseConstant((24, 8), (0, 1)), aids=[Rewarm(epochs=1)])
    model.fit(x, y, batch_size=16, epochs=3, callbacks=[scheduler, look], verbose=0)
    climb = np.repeat([1.0, 0.0, 1.0], BATCHES)
    climb[BATCHES : 2 * BATCHES] = np.arange(1, 5) / 4
    np.testing.assert_allclose(look.seen, 0.25 * climb, atol=1e-6)


def test_epochs_of_unknown_length():
    x, y = zoo.data(zoo.sequential())
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    batches = batches.filter(lambda x, y: True)  # whose number nobody knows

    def fit(fall):
        model = zoo.compiled(zoo.sequential())
        scheduler = RankScheduler(rank=fall, aids=[Rewarm(epochs=0.5)])
        model.fit(batches, epochs=3, shuffle=False, callbacks=[scheduler], verbose=0)
        return scheduler.report.ranks

    with warnings.catch_warnings():  # Keras tells that an epoch was over
        warnings.simplefilter("ignore")
        assert fit(PiecewiseConstant((24, 8), (0, 1)))  # the first epoch has told
    with pytest.raises(ArgumentError, match="steps="):
        fit(8)


# --- decay of the product -------------------------------------------------------------


def penalty(model) -> float:
    total = 0.0
    for kernel in find_kernels(model):
        if kernel.rank is not None:
            u, v = kernel.matrices()
            total += float(((u.astype("float64") @ v) ** 2).sum())
    return total


class Penalties(keras.callbacks.Callback):
    """What the model adds to the loss, and what the products say."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        added = sum(float(zoo.as_array(loss)) for loss in self.model.losses)
        self.seen.append((added, penalty(self.model)))


@pytest.mark.parametrize(
    "name",
    [pytest.param("sequential", marks=pytest.mark.traced), "nested", "subclassed", "wrapped"],
)
def test_the_product_is_penalised_once_it_is_one_and_until_training_ends(name):
    model = zoo.compiled(zoo.MODELS[name]())
    x, y = zoo.data(model)
    look = Penalties()
    fall = PiecewiseConstant(values=(24, 8, 4), start_epochs=(0, 1, 2))
    scheduler = RankScheduler(rank=fall, aids=[ProductDecay(0.25)])
    model.fit(x, y, epochs=3, callbacks=[scheduler, look], verbose=0)
    assert look.seen[0] == (0, 0)
    for added, expected in look.seen[1:]:
        assert expected > 0
        np.testing.assert_allclose(added, 0.25 * expected, rtol=1e-5)
    assert model.losses == []
    again = model.evaluate(x, y, verbose=0)
    predicted = zoo.predicted(model, x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(again, float(zoo.as_array(loss(y, predicted))), rtol=1e-5)


class Says(keras.callbacks.Callback):
    """Puts a metric of its own into the logs."""

    def __init__(self, *values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["quality"] = self.values[epoch]


@pytest.mark.traced
def test_a_layer_that_an_undone_cut_made_dense_again_keeps_no_penalty():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    scheduler = RankScheduler(
        rank=PiecewiseConstant((24, 4), (0, 1)),
        guard=Guard("quality", max_drop=0.1, mode="max", tries=1, patience=1),
        aids=[ProductDecay(0.25)],
    )
    look = Penalties()
    callbacks = [Says(1, 0, 0), scheduler, look]
    with pytest.warns(ShortfallWarning, match="undone at epoch 2"):
        model.fit(x, y, epochs=3, callbacks=callbacks, verbose=0)
    assert len(scheduler.report.undone) == 1
    assert look.seen[1][0] > 0 == look.seen[2][0]
    factorize(model, rank=4)
    assert model.losses == []


def test_a_training_that_is_taken_up_ends_its_penalty_too(tmp_path):
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    factorize(model, rank=8)
    for epochs in (1, 2):
        scheduler = RankScheduler(rank=8, aids=[ProductDecay(0.25)])
        backup = RankBackupAndRestore(scheduler, tmp_path, delete_checkpoint=False)
        look = Penalties()
        callbacks = [scheduler, backup, look]
        model.fit(x, y, epochs=epochs, callbacks=callbacks, verbose=0)
        assert len(look.seen) == 1
        assert look.seen[0][0] > 0
        assert model.losses == []


def test_the_report_tells_losses_without_it():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    fall = PiecewiseConstant(values=(24, 8, 4), start_epochs=(0, 1, 2))
    scheduler = RankScheduler(rank=fall, aids=[ProductDecay(9.0)])
    data = {"validation_data": (x, y), "verbose": 0}
    history = model.fit(x, y, epochs=3, callbacks=[scheduler], **data).history
    again = model.evaluate(x, y, verbose=0)
    told = scheduler.report.answers.metrics["loss"]
    np.testing.assert_allclose(told, again, rtol=1e-5)
    assert history["val_loss"][-1] > 2 * again
    for cut in scheduler.report.cuts:
        assert cut.metrics_after["loss"] < 2 * cut.metrics_before["loss"] < history["val_loss"][-1]


class OwnLoss(keras.Model):
    """A loss of its own, that does or does not ask for the losses of its layers."""

    def __init__(self, *, adds):
        super().__init__()
        self.inner, self.adds = zoo.sequential(), adds

    def call(self, x):
        return self.inner(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred, True))
        return loss + sum(self.losses) if self.adds else loss


@pytest.mark.traced
@pytest.mark.parametrize("adds", [True, False])
def test_a_loss_of_ones_own_that_leaves_it_out_is_told(adds):
    model = OwnLoss(adds=adds)
    model.compile("sgd", "mse")
    x, y = zoo.data(model.inner)
    scheduler = RankScheduler(rank=8, aids=[ProductDecay(0.1)])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=2, callbacks=[scheduler], verbose=0)
    words = "The penalty of ProductDecay is not in what"
    found = [each for each in told if issubclass(each.category, UserWarning)]
    assert [words in str(each.message) for each in found] == [True] * (not adds)
    assert any(note.startswith(words) for note in scheduler.report.notes) is not adds


@pytest.mark.parametrize("monitor", ["loss", "val_loss"])
def test_a_guard_beside_it_watches_no_loss(monitor):
    def made(weight, **options):
        guard = Guard(monitor, max_drop=0.1, **options)
        return RankScheduler(**way, guard=guard, aids=[ProductDecay(weight)])

    for way in ({"rank": 4}, {"search": Search()}):
        with pytest.raises(ArgumentError, match=f"a guard with monitor='{monitor}'") as caught:
            made(1e-4)
        told = {name: 4 if name == "rank" else {} for name in way}
        told |= {"guard": {"monitor": monitor, "max_drop": 0.1}, "aids": {"product_decay": {}}}
        with pytest.raises(ConfigError) as file:
            parse_config({"compression": told})
        (problem,) = file.value.problems
        assert problem.path == "$.compression.aids.product_decay"
        assert problem.message == str(caught.value).replace("`", "")
        made(0.0)
        told["aids"]["product_decay"]["weight"] = 0
        parse_config({"compression": told})
        told["guard"]["monitor"] = "val_accuracy"
        told["aids"]["product_decay"]["weight"] = 1
        parse_config({"compression": told})


def test_it_is_trained_against():
    def trained(aids):
        keras.utils.set_random_seed(1)
        model = zoo.compiled(zoo.sequential(), keras.optimizers.SGD(0.05))
        x, y = zoo.data(model)
        model.fit(x, y, epochs=5, callbacks=[RankScheduler(rank=FALL, aids=aids)], verbose=0)
        return penalty(model)

    assert trained([ProductDecay(1.0)]) < 0.8 * trained([])


@pytest.mark.traced
def test_a_model_that_begins_factorised_is_penalised_from_its_first_step():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    factorize(model, rank=8)
    model.fit(x, y, verbose=0)  # compiles a step without penalty
    look = Penalties()
    scheduler = RankScheduler(rank=8, aids=[ProductDecay(0.25)])
    history = model.fit(x, y, batch_size=64, callbacks=[scheduler, look], verbose=0).history
    added, expected = look.seen[0]
    np.testing.assert_allclose(added, 0.25 * expected, rtol=1e-5)
    assert history["loss"][0] > added


def test_it_stands_beside_a_regularizer_and_leaves_frozen_layers_alone():
    model = zoo.compiled(zoo.sequential())
    first, second = model.get_layer("first"), model.get_layer("second")
    first.kernel.regularizer = keras.regularizers.L2(0.5)
    factorize(model, rank=4)
    second.trainable = False
    for layer in (first, second):
        assert layer.penalize_product(0.25)
        assert not layer.penalize_product(0.25)
    assert second.losses == []
    u, v = (zoo.as_array(f).astype("float64") for f in first.factors("kernel"))
    square = float(((u @ v) ** 2).sum())
    added = sum(float(zoo.as_array(loss)) for loss in first.losses)
    np.testing.assert_allclose(added, 0.75 * square, rtol=1e-5)


# --- shrinking tails ------------------------------------------------------------------


def kernels_and_biases(model) -> dict[str, np.ndarray]:
    """Every kernel as one matrix, and every bias, in double precision."""
    found = {}
    for kernel in find_kernels(model):
        matrices = [m[0].astype("float64") for m in kernel.matrices()]
        found[kernel.path] = matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1]
        if kernel.layer.bias is not None:
            found[f"{kernel.path} bias"] = zoo.as_array(kernel.layer.bias).astype("float64")
    return found


@pytest.mark.parametrize("criterion", ["frobenius", "activation"])
def test_kernels_are_pulled_a_fraction_of_the_way_to_the_coming_cut(criterion):
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)  # an optimizer that has been built
    samples = None if criterion == "frobenius" else samples_of(x)
    fall = target("rank", PiecewiseConstant(values=(24, 9, 4), start_epochs=(0, 1, 2)))
    compression = Compression(model, fall, criterion=criterion, samples=samples)
    for time, rank in ((1.0, 9), (2.0, 4)):  # from dense, and from factors
        weights, before = model.get_weights(), kernels_and_biases(model)
        ranks = compression.report.ranks
        compression.pull(time, 0.25)
        pulled = kernels_and_biases(model)
        assert compression.report.ranks == ranks
        model.set_weights(weights)
        compression.cut(time)
        assert compression.report.ranks["first/kernel"] == rank
        moved = 0
        for name, cut in kernels_and_biases(model).items():
            expected = before[name] + 0.25 * (cut - before[name])
            np.testing.assert_allclose(pulled[name], expected, atol=2e-6)
            moved += np.abs(cut - before[name]).max() > 1e-3
        assert moved == (2 if criterion == "frobenius" else 3)


def test_tails_shrink_only_while_cuts_are_to_come():
    model = zoo.compiled(zoo.sequential(), keras.optimizers.SGD(0.0))
    x, y = zoo.data(model)

    class Spectra(keras.callbacks.Callback):
        seen = ()

        def on_epoch_end(self, epoch, logs=None):
            (kernel,) = (k for k in find_kernels(self.model) if k.path == "first/kernel")
            self.seen += (decomposition(kernel).values,)

    look = Spectra()
    aids = [TailShrink(0.5, ahead=2)]
    scheduler = RankScheduler(
        rank=PiecewiseConstant((24, 6), (0, 3)), criterion="frobenius", aids=aids
    )
    model.fit(x, y, epochs=5, callbacks=[scheduler, look], verbose=0)
    plain = look.seen[0]
    for epoch, left in ((1, 0.5), (2, 0.25)):
        np.testing.assert_allclose(look.seen[epoch][:6], plain[:6], rtol=1e-5)
        np.testing.assert_allclose(look.seen[epoch][6:], left * plain[6:], rtol=1e-4, atol=1e-6)
    for later in look.seen[3:]:
        np.testing.assert_allclose(later[:6], plain[:6], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"energy": 0.5}, "energy"),
        ({"rtol": 0.5}, "rtol"),
        ({"rank": 4, "rules": [LayerRule("first", energy=0.5)]}, "energy"),
        ({"rank": 4, "rules": [LayerRule("first", rtol=0.5)]}, "rtol"),
        ({"cadence": Cadence(start=Adaptive())}, "cadence.start alone"),
        ({"rank": 4, "guard": Guard("loss", max_drop=1.0)}, "guard"),
        ({"search": Search(), "guard": Guard("loss", max_drop=1.0)}, "guard and search"),
    ],
)
def test_what_cannot_be_foreseen_is_refused(arguments, word):
    with pytest.raises(ArgumentError, match=f"TailShrink.*Received: {word}"):
        RankScheduler(**arguments, aids=[Rewarm(steps=2), TailShrink()])
    RankScheduler(**arguments, aids=[Rewarm(steps=2)])


def test_a_target_that_falls_after_an_adaptive_wait_can_be_foreseen():
    RankScheduler(cost=500, cadence=Cadence(start=Adaptive()), aids=[TailShrink()])


# --- growing between cuts -------------------------------------------------------------


class Sizes(keras.callbacks.Callback):
    """Ranks and parameters that an epoch ran with."""

    def __init__(self):
        super().__init__()
        self.ranks = []
        self.sizes = []

    def on_epoch_end(self, epoch, logs=None):
        kernels = {k.path: k.rank for k in find_kernels(self.model) if k.rank is not None}
        self.ranks.append(kernels.get("first/kernel"))
        self.sizes.append(self.model.count_params())


def regrown(aid, epochs=8, model=None, **kwargs):
    if model is None:
        model = zoo.compiled(zoo.sequential(), "sgd", run_eagerly=True)
    x, y = zoo.data(model)
    kwargs.setdefault("calibration", (x, y))
    kwargs.setdefault("rank", PiecewiseConstant((24, 10, 4), (0, 1, 4)))
    scheduler = RankScheduler(aids=[aid], **kwargs)
    look = Sizes()
    model.fit(x, y, 64, epochs, 0, callbacks=[scheduler, look])
    return look, scheduler


@pytest.mark.traced
def test_ranks_grow_until_the_next_cut_and_end_as_the_schedule_says():
    look, scheduler = regrown(Regrow(0.2))
    assert look.ranks == [None, 12, 12, 12, 4, 4, 4, 4]
    look, scheduler = regrown(Regrow(0.3, start_epoch=3, end_epoch=6))
    assert look.ranks == [None, 10, 10, 13, 5, 5, 4, 4]
    cuts = [
        (cut.epoch, k.rank_before, k.rank) for cut in scheduler.report.cuts for k in cut.kernels
    ]
    first = [cut for cut in cuts if cut[0] in (4, 5, 6)][::2]
    assert first == [(4, 13, 4), (5, 5, 4), (6, 5, 4)]
    (note,) = scheduler.report.notes
    assert "before epoch 3, 4, 5, each time until the next cut, by" in note
    assert scheduler.final_epoch == 6


def test_a_budget_is_met_at_the_end_and_ranks_may_have_moved():
    look, scheduler = regrown(
        Regrow(0.5, end_epoch=6), budget=Ramp(1.0, 0.4, start_epoch=0, end_epoch=3), rank=None
    )
    dense = scheduler.report.dense_parameters
    assert max(look.sizes[3:6]) > 0.4 * dense
    assert max(look.sizes[6:]) <= 0.4 * dense


def test_it_takes_samples_of_the_fit_before_the_first_step():
    for calibration in (None, 40):
        fall = PiecewiseConstant((8, 4), (0, 2))
        look, _ = regrown(Regrow(0.5), rank=fall, calibration=calibration, epochs=3)
        assert look.ranks == [12, 12, 4]


class RankOfSteps(keras.callbacks.Callback):
    """The rank of each step."""

    def __init__(self):
        super().__init__()
        self.ranks = []

    def on_train_batch_end(self, batch, logs=None):
        self.ranks.append(self.model.get_layer("first").get_config().get("ranks"))


@pytest.mark.parametrize(
    ("cadence", "expected"),
    [
        (Cadence(epochs=2), [12] * 8 + [8] * 4),  # grown once, and cut in the third epoch
        (Cadence(steps=4), [12] * 8 + [8] * 4),  # cut and grown again at once
        (Cadence(steps=2), [12, 12, 8, 8] * 2 + [8] * 4),
    ],
)
def test_what_grew_is_trained_until_the_next_cut(cadence, expected):
    model = zoo.compiled(zoo.sequential(), run_eagerly=True)
    x, y = zoo.data(model)
    look = RankOfSteps()
    aid = Regrow(0.5, end_epoch=2)
    scheduler = RankScheduler(rank=8, aids=[aid], cadence=cadence, calibration=(x, y))
    model.fit(x, y, batch_size=16, epochs=3, callbacks=[scheduler, look], verbose=0)
    assert look.ranks == expected


def test_a_training_that_is_stopped_ends_at_the_schedule_s_ranks():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert self.model.get_layer("first").rank == 12
            self.model.stop_training = epoch == 2

    model = zoo.compiled(zoo.sequential(), run_eagerly=True)
    x, y = zoo.data(model)
    scheduler = RankScheduler(rank=8, aids=[Regrow(0.5, end_epoch=6)], calibration=(x, y))
    history = model.fit(x, y, epochs=9, callbacks=[scheduler, Stop()], verbose=0).history
    assert len(history["loss"]) == 3
    assert set(scheduler.report.ranks.values()) == {8}
    assert model.get_layer("first").rank == 8
    last = scheduler.report.cuts[-1]
    assert (last.epoch, last.epoch_step, last.step) == (2, steps := last.step // 3, 3 * steps)


def test_a_model_factorised_before_grows_as_far_as_factors_save():
    model = zoo.compiled(zoo.sequential(), "sgd", run_eagerly=True)
    factorize(model, rank=4)
    look, scheduler = regrown(
        Regrow(0.99, end_epoch=6), rank=PiecewiseConstant((24, 6), (0, 2)), model=model
    )
    assert look.ranks == [8, 13, 12, 12, 12, 12, 6, 6]  # at 13 of 24 x 32 factors still save
    most = {k.path: k.break_even_rank for k in scheduler.report.kernels}
    look, _ = regrown(Regrow(0.99, end_epoch=6), rank=14, model=model)
    assert max(look.ranks) == most["first/kernel"]


@pytest.mark.traced
def test_samples_of_the_fit_serve_across_cuts():
    model = zoo.compiled(zoo.sequential(), run_eagerly=True)
    x, y = zoo.data(model)
    taken = []
    scheduler = RankScheduler(
        rank=PiecewiseConstant((9, 8, 7, 6, 5), (0, 0.25, 0.5, 0.75, 1)),
        aids=[Regrow(0.5, end_epoch=2)],
        cadence=Cadence(steps=1),
        calibration=48,
    )
    look = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: taken.append(len(scheduler._run.control.compression.samples))
    )
    model.fit(x, y, batch_size=16, epochs=3, callbacks=[scheduler, look], verbose=0)
    assert len(scheduler.report.cuts) >= 5
    assert taken == [48, 48, 48]


def test_a_group_grows_together():
    model = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(24, name="first"),
            keras.layers.Dense(24, name="second"),
            keras.layers.Dense(5, name="output"),
        ]
    )
    zoo.compiled(model, keras.optimizers.Adam(0.01), run_eagerly=True)
    rules = [LayerRule("first", group="both"), LayerRule("second", group="both")]
    _, scheduler = regrown(
        Regrow(0.5, end_epoch=6),
        model=model,
        rank=None,
        budget=Ramp(1.0, 0.5, start_epoch=0, end_epoch=2),
        rules=rules,
    )
    ranks = scheduler.report.ranks
    assert ranks["first/kernel"] == ranks["second/kernel"]
    assert scheduler.report.parameters <= 0.5 * scheduler.report.dense_parameters


@pytest.mark.traced
def test_a_student_grows_by_the_loss_of_its_distiller():
    model = keras.distillation.Distiller(
        zoo.sequential(), zoo.sequential(), keras.distillation.LogitsDistillation()
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = zoo.data(model.student)
    scheduler = RankScheduler(rank=8, aids=[Regrow(0.5, end_epoch=2)], calibration=(x, y))
    sizes = []
    see = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: sizes.append(model.student.count_params())
    )
    model.fit(x, y, epochs=3, callbacks=[scheduler, see], verbose=0)
    assert sizes[0] == sizes[1] > sizes[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"aid": Regrow(end_epoch=8)}, "Regrow must end before .* at epoch 7 .*epochs=9"),
        ({"aid": Regrow(end_epoch=7), "cadence": Cadence(epochs=2)}, "at epoch 6"),
        ({"aid": Regrow(end_epoch=8), "cadence": Cadence(epochs=2), "epochs": 9}, None),
        ({"aid": Regrow(end_epoch=7), "cadence": Cadence(epochs=2)}, "Train for epochs=9"),
        ({"aid": Regrow(), "rank": 4}, "Regrow would do nothing.* epoch 0"),
        ({"aid": Regrow(start_epoch=4)}, "Regrow would do nothing.* epoch 4"),
        ({"aid": Regrow(), "calibration": np.zeros((8, 24))}, "Regrow asks for gradients"),
        (
            {"aid": Regrow(start_epoch=3), "calibration": (np.zeros((8, 24)), np.zeros((8, 3)))},
            "cannot be computed with the targets of the calibration samples",
        ),
        ({"aid": Regrow(), "rank": None, "energy": 0.5}, "Regrow must know .*Received: energy"),
        ({"aid": Regrow(), "guard": Guard("loss", max_drop=1.0)}, "Received: guard"),
    ],
)
def test_what_does_not_go_with_growing_is_refused_before_training(arguments, words):
    if words is None:
        regrown(**arguments)
        return
    model = arguments.setdefault("model", zoo.compiled(zoo.sequential()))
    before = model.get_weights()
    with pytest.raises(ArgumentError, match=words):
        regrown(**arguments)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_early_stopping_waits_until_it_rests(tmp_path):
    scheduler = RankScheduler(rank=4, aids=[Regrow(end_epoch=5)])
    assert RankEarlyStopping(scheduler, "loss").scheduler.final_epoch == 5
    with pytest.raises(ArgumentError, match="Regrow"):
        RankBackupAndRestore(scheduler, tmp_path)


# --- low rank from the start ----------------------------------------------------------


def test_an_untrained_model_starts_from_the_nearest_product_balanced():
    model = zoo.sequential()
    kernel = next(k for k in find_kernels(model) if k.path == "first/kernel")
    dense = kernel.matrices()[0][0].astype("float64")
    factorize(model, rank=5)
    left, values, right = np.linalg.svd(dense)
    nearest = left[:, :5] * values[:5] @ right[:5]
    u, v = (matrix[0].astype("float64") for matrix in kernel.matrices())
    np.testing.assert_allclose(u @ v, nearest, atol=1e-6)
    np.testing.assert_allclose(u.T @ u, np.diag(values[:5]), atol=1e-5)
    np.testing.assert_allclose(v @ v.T, np.diag(values[:5]), atol=1e-5)
    x, y = zoo.data(model)
    zoo.compiled(model, keras.optimizers.Adam(0.01))
    look = Penalties()
    scheduler = RankScheduler(budget=1.0, aids=[ProductDecay(0.01)])
    history = model.fit(x, y, epochs=5, callbacks=[scheduler, look], verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert look.seen[0][0] > 0
    assert scheduler.report.ranks == {"first/kernel": 5, "second/kernel": 5}


# --- all of them ----------------------------------------------------------------------


def test_they_are_values():
    every = [Rewarm(epochs=1), ProductDecay(), TailShrink(), Regrow()]
    scheduler = RankScheduler(rank=4, aids=every)
    assert copy.deepcopy(scheduler).aids == scheduler.aids
    assert pickle.loads(pickle.dumps(scheduler)).aids == scheduler.aids
    assert {type(aid) for aid in scheduler.aids} == set(aid_kinds().values())


def test_a_scheduler_may_be_used_twice():
    scheduler = RankScheduler(rank=FALL, aids=[Rewarm(epochs=1), ProductDecay(0.25)])
    for _ in range(2):
        model = zoo.compiled(zoo.sequential())
        x, y = zoo.data(model)
        look = Penalties()
        model.fit(x, y, epochs=4, callbacks=[scheduler, look], verbose=0)
        assert look.seen[0][0] == 0 < look.seen[-1][0]


def test_it_works_in_a_model_that_builds_itself_and_with_ranks_of_a_budget():
    model = keras.Sequential([keras.layers.Dense(32, name="first"), keras.layers.Dense(5)])
    zoo.compiled(model)
    x, y = zoo.data(zoo.sequential())
    scheduler = RankScheduler(
        budget=Ramp(1.0, 0.5, start_epoch=0, end_epoch=2), aids=[ProductDecay(), Rewarm(steps=2)]
    )
    history = model.fit(x, y, epochs=4, callbacks=[scheduler], verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Rewarm(), ArgumentError, "exactly one"),
        (lambda: Rewarm(epochs=1, steps=3), ArgumentError, "exactly one"),
        (lambda: Rewarm(epochs=0), ArgumentError, "greater than 0"),
        (lambda: Rewarm(epochs=-1), ArgumentError, "greater than 0"),
        (lambda: Rewarm(steps=0), ArgumentError, "at least 1"),
        (lambda: Rewarm(steps=1.5), ArgumentTypeError, "whole number"),
        (lambda: Rewarm(steps=3, initial=1.0), ArgumentError, r"in \[0, 1\)"),
        (lambda: Rewarm(epochs="1"), ArgumentTypeError, "without quotes"),
        (lambda: ProductDecay(-1e-4), ArgumentError, "at least 0"),
        (lambda: TailShrink(0.0), ArgumentError, r"in \(0, 1\)"),
        (lambda: TailShrink(1.0), ArgumentError, r"in \(0, 1\)"),
        (lambda: TailShrink(ahead=-1), ArgumentError, "greater than 0"),
        (lambda: Regrow(0.0), ArgumentError, r"in \(0, 1\)"),
        (lambda: Regrow(1.0), ArgumentError, r"in \(0, 1\)"),
        (lambda: Regrow(start_epoch=-1), ArgumentError, "at least 0"),
        (lambda: Regrow(start_epoch=3, end_epoch=3), ArgumentError, "later than"),
        (lambda: Regrow(end_epoch="3"), ArgumentTypeError, "without quotes"),
        (lambda: ProductDecay(True), ArgumentTypeError, "a number"),
        (lambda: RankScheduler(rank=4, aids=["rewarm"]), ArgumentTypeError, "rewarm"),
        (lambda: RankScheduler(rank=4, aids=ProductDecay()), ArgumentTypeError, "list"),
        (lambda: RankScheduler(rank=4, aids=[ProductDecay()] * 2), ArgumentError, "each kind"),
    ],
)
def test_what_cannot_be_used_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


# --- of one's own ---------------------------------------------------------------------------


def of_ones_own(**hooks):
    return dataclass(frozen=True)(type("Nap", (Aid,), {"kind": "nap", **hooks}))()


@pytest.mark.parametrize(
    ("hooks", "words"),
    [
        ({"idle_fault": lambda *_: "it is idle"}, "`idle_fault` of Nap must return a Fault"),
        ({"rests_from": lambda *_: None}, "`rests_from` of Nap must return the epoch"),
        ({"rests_from": lambda *_: math.inf}, "ends at epoch inf.* Nap.*let it end earlier"),
        ({"after_cut": lambda _, fit: fit.warm_up(-5, 0.0)}, "`steps` of a warm-up.* at least 0"),
        ({"after_cut": lambda _, fit: fit.warm_up(3, math.nan)}, "`initial` of a warm-up"),
        ({"before_epoch": lambda _, fit: fit.pull(5.0, 1)}, "`fraction` of a pull must be in"),
        ({"before_epoch": lambda _, fit: fit.regrow("1")}, "`fraction` of a regrowth"),
        ({"begin": lambda _, fit: fit.penalize_products(-1.0)}, "`weight` of a penalty"),
    ],
)
def test_what_an_aid_of_ones_own_says_is_refused_in_a_sentence(monkeypatch, hooks, words):
    monkeypatch.setattr(aids, "_KINDS", dict(aids._KINDS))
    model = zoo.sequential()
    model.compile("sgd", "mse", run_eagerly=True)
    scheduler = RankScheduler(rank=4, aids=[of_ones_own(**hooks)])
    with pytest.raises((ArgumentError, ArgumentTypeError), match=words):
        model.fit(np.ones((8, 24)), np.ones((8, 5)), verbose=0, callbacks=[scheduler])


def test_what_an_aid_of_ones_own_needs_is_one_of_what_there_is(monkeypatch):
    monkeypatch.setattr(aids, "_KINDS", dict(aids._KINDS))
    assert of_ones_own(needs=("inputs",)).needs == ("inputs",)
    with pytest.raises(ArgumentError, match=r"'inputs', 'gradients'. Received: 'input' in Nap"):
        of_ones_own(needs=("input",))


def test_what_an_aid_needs_may_be_told_by_itself(monkeypatch):
    monkeypatch.setattr(aids, "_KINDS", dict(aids._KINDS))

    def trained(needs):
        model = zoo.sequential()
        model.compile("sgd", "mse", run_eagerly=True)
        scheduler = RankScheduler(rank=4, aids=[of_ones_own(needs=property(lambda self: needs))])
        model.fit(np.ones((8, 24)), np.ones((8, 5)), verbose=0, callbacks=[scheduler])
        return scheduler.report.ranks

    assert set(trained(("inputs",)).values()) == {4}
    for needs in (("input",), 3):
        with pytest.raises(ArgumentError, match=r"`needs` of an aid must be .* in Nap"):
            trained(needs)


def test_a_hook_that_is_misspelt_is_told(monkeypatch):
    monkeypatch.setattr(aids, "_KINDS", dict(aids._KINDS))
    with pytest.warns(UserWarning, match="`before_epochs` of the aid Nap. Did .* `before_epoch`"):
        of_ones_own(before_epochs=lambda self, training: None)


def test_a_part_of_a_hook_is_no_misspelt_one(monkeypatch, recwarn):
    monkeypatch.setattr(aids, "_KINDS", dict(aids._KINDS))

    def hook(self, training):
        pass

    of_ones_own(after_cut=hook, _after_cut=hook, after_cuts=hook)
    of_ones_own(_after_cut=hook)
    first = type(of_ones_own(after_cut=hook))
    type("Longer", (first,), {"kind": "longer", "after_cuts": hook})
    assert not recwarn.list
