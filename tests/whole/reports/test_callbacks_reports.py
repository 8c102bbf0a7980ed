"""Reports of callbacks: crashes in mid-training, broken resumption, schedules that do nothing.

Each docstring begins with the address of the report; the situation is told in our words.
"""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
from tiny import CLASSES, RNG, X, Y, answer, compiled, dense, fit, plain, stack

from reducible_train import (
    ArgumentError,
    Guard,
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankBackupAndRestore,
    RankEarlyStopping,
    RankError,
    RankModelCheckpoint,
    RankScheduler,
    RankTensorBoard,
    Rewarm,
    factorize,
)

L = keras.layers
FALL = PiecewiseConstant(values=(1.0, 0.6), start_epochs=(0, 1))


class At(keras.callbacks.Callback):
    """Does something to the model before one epoch."""

    def __init__(self, epoch, act):
        super().__init__()
        self.epoch, self.act = epoch, act

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.act(self.model)


def broken_off(model):
    raise KeyboardInterrupt


# --- changing the model while it trains ---------------------------------------------------


def test_layers_change_in_mid_training_and_nothing_is_compiled_anew():
    """https://github.com/keras-team/keras/issues/14874 (and 13368, 17255, tensorflow#50633)

    Whoever changes a model in a callback has to compile it, and that ends in "NoneType is not
    callable". With compiled graphs: a cut keeps the optimizer, its steps and the metrics.
    """
    model = compiled(plain(), run_eagerly=False, metrics=["accuracy"])
    optimizer = model.optimizer
    history = fit(model, RankScheduler(budget=FALL), epochs=2).history
    assert model.optimizer is optimizer
    assert optimizer.iterations == 4
    assert np.isfinite(history["loss"]).all()
    assert len(history["accuracy"]) == 2
    assert history["params"][1] < history["params"][0]


def test_layers_that_thaw_between_two_cuts():
    """https://github.com/keras-team/keras/issues/15893 (and 16234, tensorflow#47906)

    Layers are frozen at first and thawed by a callback after some epochs; compiling them then
    crashes, not compiling them has no effect. Cuts before and after it go on.
    """
    model = plain()
    model.get_layer("one").trainable = False
    compiled(model)
    scheduler = RankScheduler(budget=PiecewiseConstant(values=(0.8, 0.6), start_epochs=(0, 2)))

    def thaw(model):
        model.get_layer("one").trainable = True

    fit(model, scheduler, At(1, thaw), epochs=4)
    assert scheduler.report.size_fraction <= 0.6
    assert model.get_layer("one").trainable


def test_a_model_that_is_compiled_in_mid_training():
    """https://github.com/keras-team/keras/issues/17255 (and tf-keras#359)

    A callback compiles the model with another optimizer. Keras alone does not allow it in a
    compiled fit; compiled between two fits, the ranks fall on with the new optimizer.
    """
    model = plain()
    fit(model, RankScheduler(budget=0.8), epochs=1)
    compiled(model, keras.optimizers.SGD(0.05, momentum=0.9))
    scheduler = RankScheduler(budget=0.6)
    fit(model, scheduler, epochs=1)
    assert scheduler.report.size_fraction <= 0.6
    assert model.optimizer.iterations == 2


def test_exclusions_from_weight_decay_outlive_a_cut():
    """https://github.com/keras-team/keras/issues/16201 (and tensorflow/addons#1903)

    Some parameters shall not decay; which ones must not be forgotten when others take their
    place.
    """
    model = plain()
    optimizer = keras.optimizers.AdamW(0.0, weight_decay=0.5)
    kept = model.get_layer("one").kernel
    optimizer.exclude_from_weight_decay([kept])
    compiled(model, optimizer)
    factorize(model, rank=4)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    optimizer.learning_rate = 0.1
    zeros = [keras.ops.zeros_like(v) for v in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    factors = [v for v in model.trainable_variables if v.path.endswith(("_u", "_v"))]
    decayed = {v.path for v in factors if (v.numpy() != before[v.path]).any()}
    decayed = {path.partition("/")[2] for path in decayed}
    assert decayed == {"two/kernel_u", "two/kernel_v"}


def test_averages_are_swapped_in_while_ranks_fall():
    """https://github.com/keras-team/keras/pull/18978

    Callbacks of an epoch see the averages in place of the weights, by their order in the list.
    A cut must be one of the weights that are trained.
    """
    ends = []
    for swaps in ([], [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]):
        keras.utils.set_random_seed(3)
        model = compiled(plain(), keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
        ends.append(fit(model, RankScheduler(budget=FALL), *swaps, epochs=3).history["loss"])
    np.testing.assert_allclose(*ends, rtol=1e-5)


def test_a_climbing_learning_rate_beside_a_schedule_of_it():
    """https://github.com/tensorflow/tensorflow/issues/36612

    A callback that sets the learning rate crashes after an epoch where the optimizer has a
    schedule.
    """
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model = compiled(plain(), keras.optimizers.SGD(rate))
    fit(model, RankScheduler(budget=FALL, aids=[Rewarm(epochs=1)]), epochs=3)
    assert float(model.optimizer.learning_rate) == pytest.approx(float(rate(6)))


# --- going on after a break ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras of unknown lengths
@pytest.mark.parametrize("data", ["arrays", "generator"])
def test_a_training_that_was_broken_off_goes_on(data, tmp_path):
    """https://github.com/keras-team/keras/issues/19179 (and 17520, 19389, tensorflow#84027)

    The backup does not count the epochs that were done, wants a model that is built already,
    loses the optimizer's variables in a new process, or fails without a known number of steps.
    """

    def batches():
        for start in range(0, len(X), 16):
            yield X[start : start + 16], Y[start : start + 16]

    def run(folder, *more):
        keras.utils.set_random_seed(5)
        keras.utils.clear_session(free_memory=False)
        layers = dense(24, "one"), dense(24, "two"), L.Dense(CLASSES, name="out")
        model = compiled(stack(*layers), keras.optimizers.Adam(0.01))
        scheduler = RankScheduler(budget=FALL)
        callbacks = [scheduler, RankBackupAndRestore(scheduler, str(folder)), *more]
        how = {"epochs": 4, "verbose": 0, "callbacks": callbacks}
        if data == "arrays":
            history = model.fit(X, Y, batch_size=16, shuffle=False, **how)
        else:
            tf = pytest.importorskip("tensorflow")
            shapes = tf.TensorSpec((None, X.shape[1])), tf.TensorSpec((None,), "int64")
            source = tf.data.Dataset.from_generator(batches, output_signature=shapes)
            history = model.fit(source, shuffle=False, **how)
        return history, model

    whole, wanted = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", At(2, broken_off))
    rest, model = run(tmp_path / "broken")
    assert rest.epoch == [2, 3]
    assert model.optimizer.iterations == wanted.optimizer.iterations == 8
    np.testing.assert_allclose(rest.history["loss"], whole.history["loss"][2:], rtol=1e-5)
    np.testing.assert_allclose(answer(model), answer(wanted), atol=1e-5)


def test_the_learning_rate_goes_on_where_it_was(tmp_path):
    """https://github.com/keras-team/keras/issues/22010

    Broken off in the middle: how to go on with the learning rate of that moment?
    """
    rates = []
    for more in ([At(1, broken_off)], []):
        rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
        model, scheduler = compiled(plain(), keras.optimizers.SGD(rate)), RankScheduler(rank=4)
        backup = RankBackupAndRestore(scheduler, str(tmp_path))
        seen = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, model=model: rates.append(
                float(model.optimizer.learning_rate)
            )
        )
        try:
            fit(model, scheduler, backup, seen, *more, epochs=2)
        except KeyboardInterrupt:
            continue
    np.testing.assert_allclose(rates, [0.1 * 0.5**2, 0.1 * 0.5**4])


# --- the best epoch -----------------------------------------------------------------------


class Scores(keras.callbacks.Callback):
    def __init__(self, *scores):
        super().__init__()
        self.scores, self.answers = scores, []

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.scores[epoch]
        self.answers.append(answer(self.model))


@pytest.mark.parametrize("patience", [1, 20])
def test_the_best_weights_come_back_whoever_ends_the_training(patience):
    """https://github.com/keras-team/keras/issues/12511 (and 20323, tensorflow#35634)

    The best weights come back only where early stopping itself ends the training; or those of
    the epoch after the best one do.
    """
    model, scheduler = plain(), RankScheduler(budget=FALL)
    scores = Scores(0.1, 0.9, 0.3, 0.5)  # the first is of a larger model
    stop = RankEarlyStopping(
        scheduler, "score", mode="min", patience=patience, restore_best_weights=True
    )
    fit(model, scheduler, scores, stop, epochs=4)
    assert len(scores.answers) == 4
    np.testing.assert_allclose(answer(model), scores.answers[2], atol=1e-6)


def test_a_checkpoint_in_a_folder_that_is_not_there(tmp_path):
    """https://github.com/tensorflow/tensorflow/issues/38294 (and keras#12484)

    The folder of the checkpoint does not exist: three days of training, and nothing was saved.
    A folder that can be made is made; what cannot be is told before the first step.
    """
    scheduler = RankScheduler(rank=4)
    best = RankModelCheckpoint(scheduler, tmp_path / "not" / "there" / "best.reducible", "loss")
    fit(plain(), scheduler, best, epochs=1)
    assert best.saved.is_file()
    (tmp_path / "file").write_text("no folder")
    model, scheduler = compiled(plain()), RankScheduler(rank=4)
    best = RankModelCheckpoint(scheduler, tmp_path / "file" / "best.reducible", "loss")
    with pytest.raises(OSError, match="file"):
        fit(model, scheduler, best)
    assert model.optimizer.iterations == 0


def test_a_tuner_copies_its_callbacks():
    """https://github.com/keras-team/keras-tuner/issues/392 (and 170)

    The callbacks are copied for each trial; those that cannot be copied end the search, and
    those that are not made anew act in the first trial only.
    """
    scheduler = RankScheduler(budget=FALL, rules=[LayerRule("one", min_rank=2)])
    callbacks = [scheduler, RankEarlyStopping(scheduler, "loss", patience=9)]
    for _ in range(2):
        again, stop = copy.deepcopy(callbacks)
        assert stop.scheduler is again is not scheduler
        fit(plain(), again, stop, epochs=2, batch_size=32)
        assert again.report.size_fraction <= 0.6
    for _ in range(2):  # the same one for another model
        model = plain()
        fit(model, *callbacks, epochs=2, batch_size=32)
        assert scheduler.report.parameters == model.count_params()
        assert scheduler.report.size_fraction <= 0.6


# --- what was asked for -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"budget": Ramp(1.0, 0.5, start_epoch=500, end_epoch=1000)}, "end_epoch=1000|1000"),
        ({"rank": PiecewiseConstant((12, 8), (0, 500))}, "500|epochs"),
        ({"rank": 12}, r"rank=12.*largest rank.* is 7 \(\w+/kernel\)"),
        ({"rank": PiecewiseConstant((24, 12), (0, 1))}, r"rank=12.*largest rank"),
        ({"budget": 0.5, "rules": [LayerRule("decoder/*", max_rank=4)]}, "decoder"),
    ],
    ids=["starts too late", "ends too late", "gains nothing", "never gains", "matches nothing"],
)
def test_ranks_that_would_never_change_are_told(options, told):
    """https://github.com/huggingface/peft/issues/1801 (and 432, 3373)

    The rank stays where it began for the whole training: the times are those of another length
    of training, or a call is missing that nothing asks for.
    """
    model = compiled(stack(dense(16, "one"), dense(16, "two"), L.Dense(CLASSES)))
    with pytest.raises((ArgumentError, RankError), match=told):
        fit(model, RankScheduler(**options))
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize("percent", [20, 80.0])
def test_a_ratio_says_of_what_it_is(percent):
    """https://github.com/AIoT-MLSys-Lab/SVD-LLM/issues/16 (and 22)

    Does 20 % mean what is taken or what is left, of the singular values or of the parameters?
    A budget is what is left of the parameters of the whole model, as a fraction, and reported so.
    """
    with pytest.raises(ArgumentError, match=rf"in \(0, 1\].*Received: .*{percent:g}"):
        RankScheduler(budget=percent)
    model = plain()
    dense_size = model.count_params()
    report = factorize(model, budget=percent / 100 + 0.4 * (percent < 50))
    wanted = percent / 100 + 0.4 * (percent < 50)
    assert wanted - 0.1 < model.count_params() / dense_size <= wanted
    assert report.size_fraction == model.count_params() / dense_size


def test_how_much_a_cut_loses_is_told_before_anyone_is_surprised():
    """https://github.com/qualcomm/aimet/issues/56 (and thkimKETI/CNN_compression...#1)

    Accuracy falls from 76 % to 0.1 % in the moment of compression, and nothing has said how
    much was lost. The report has energy and error of each kernel; a guard holds the metric.
    """
    model = plain()
    report = factorize(model, rank=2)
    for cut in report.cuts[-1].kernels:
        assert 0 < cut.energy < 1
        assert cut.relative_error == pytest.approx(np.sqrt(1 - cut.energy))
        assert str(round(cut.energy, 3)) in str(report)
    assert "output layer" in str(report)
    guard = Guard("accuracy", limit=0.999, mode="max", patience=1)
    scheduler = RankScheduler(budget=FALL, guard=guard)
    model = compiled(plain(), metrics=["accuracy"])
    with pytest.warns(UserWarning, match="guard"):
        fit(model, scheduler, epochs=3)
    assert scheduler.shortfall.held_back
    assert model.count_params() == scheduler.report.dense_parameters


def test_no_layer_takes_more_steps_than_before():
    """https://github.com/JeanKossaifi/tensorly-notebooks/issues/10 (and wenwei202/caffe#8)

    The decomposed network runs slower than the original one. Counted in FLOPs, no layer is
    factorised that would take more of them, and the report counts what is left.
    """
    model = stack(
        L.Conv2D(6, 3, padding="same", name="wide"),
        L.Conv2D(24, 3, padding="same", name="deep"),
        L.GlobalAveragePooling2D(),
        L.Dense(CLASSES),
        inputs=keras.Input((8, 8, 3)),
    )
    report = factorize(model, budget=0.6, measure="flops")
    assert report.flops_fraction <= 0.6
    small = model.get_layer("deep")
    x = RNG.normal(size=(1, 8, 8, 6)).astype("float32")
    assert small(x).shape == (1, 8, 8, 24)
    factors = sum(int(np.prod(v.shape)) for v in small.weights if len(v.shape) > 1)
    assert factors < 3 * 3 * 6 * 24


def test_operations_are_counted():
    """https://github.com/keras-team/keras/issues/18391 (and 12970, 16699)

    How many FLOPs does the model take? Asked for since 2017.
    """
    model = plain()
    report = factorize(model, budget=0.6)
    left = sum(int(np.prod(v.shape)) for v in model.weights if len(v.shape) == 2)
    assert report.dense_flops == 2 * (16 * 24 + 24 * 24 + 24 * CLASSES)
    assert report.flops == 2 * left


def test_svd_is_done_on_the_host(monkeypatch):
    """https://github.com/tensorflow/tensorflow/issues/13222 (and 17352)

    The SVD of TensorFlow takes up to twenty times as long as numpy's, most on a GPU.
    """
    tf = pytest.importorskip("tensorflow")

    def slow(*args, **kwargs):
        raise AssertionError("an SVD on the device")

    for owner, name in ((tf.linalg, "svd"), (keras.ops, "svd"), (tf.linalg, "qr")):
        monkeypatch.setattr(owner, name, slow)
    assert factorize(plain(), budget=0.5).ranks


def test_summaries_are_not_written_at_every_step(tmp_path):
    """https://github.com/tensorflow/tensorflow/issues/24643 (and model-optimization#310)

    Writing summaries makes the training five times as long. They are written once an epoch,
    however many steps it has, and not at all between.
    """
    sizes = {}
    for batch_size in (32, 8):
        folder = tmp_path / str(batch_size)
        keras.utils.set_random_seed(1)
        scheduler = RankScheduler(budget=FALL)
        board = RankTensorBoard(scheduler, str(folder))
        fit(plain(), scheduler, board, epochs=2, batch_size=batch_size)
        (file,) = folder.rglob("*tfevents*")
        sizes[batch_size] = file.stat().st_size
    assert sizes[8] < 1.05 * sizes[32]
