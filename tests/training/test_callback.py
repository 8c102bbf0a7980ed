"""Laws of the callback: when it acts, what it publishes, what it refuses."""

from __future__ import annotations

import copy
import math
import pickle

import keras
import numpy as np
import pytest
import zoo
from keras import layers

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    Cadence,
    Constant,
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankError,
    RankScheduler,
    SpectrumError,
    _keras,
)
from reducible_train.errors import ShortfallWarning
from reducible_train.layers import find_kernels

BACKEND = keras.backend.backend()
RAMP = {"initial": 1.0, "final": 0.4, "start_epoch": 0, "end_epoch": 3}


class GuardRun(keras.callbacks.Callback):
    """Reads sizes while epochs run, and checks predictions against calls."""

    def __init__(self, x):
        super().__init__()
        self.x = x
        self.sizes, self.differences = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.sizes.append(self.model.count_params())
        difference = zoo.predicted(self.model, self.x) - zoo.outputs(self.model, self.x)
        self.differences.append(np.abs(difference).max())


@pytest.fixture(params=zoo.traced_or_slow())
def model(request):
    return zoo.compiled(zoo.MODELS[request.param]())


@pytest.mark.traced
def test_sizes_fall_as_the_schedule_says_and_nothing_is_stale(model):
    x, y = zoo.data(model)
    dense = model.count_params()
    scheduler, watch = RankScheduler(budget=Ramp(1.0, 0.6, start_epoch=0, end_epoch=2)), GuardRun(x)
    history = model.fit(
        x, y, epochs=3, validation_data=(x, y), callbacks=[scheduler, watch], verbose=0
    ).history
    allowed = [scheduler.target(epoch) * dense for epoch in range(3)]
    assert all(size <= limit for size, limit in zip(watch.sizes, allowed, strict=True))
    assert watch.sizes[-1] > 0.9 * 0.6 * dense - 70, "the budget is used"
    assert history["params"] == watch.sizes
    assert history["params_fraction"][-1] == watch.sizes[-1] / dense
    assert max(watch.differences) < 2e-5
    value = model.evaluate(x, y, verbose=0)
    value = value[0] if isinstance(value, list) else value
    np.testing.assert_allclose(history["val_loss"][-1], value, rtol=1e-5)
    report = scheduler.report
    assert report.dense_parameters == dense
    assert report.parameters == model.count_params()
    assert [cut.epoch for cut in report.cuts] == sorted({cut.epoch for cut in report.cuts})
    ranks = {k.path: k.rank for k in find_kernels(model)}
    assert report.ranks == {path: rank for path, rank in ranks.items() if rank}
    for first, second in zip(report.cuts, report.cuts[1:], strict=False):
        assert first.parameters == second.parameters_before > second.parameters


def test_the_reported_energy_is_the_measured_one():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    before = {k.path: k.matrices()[0][0].astype("float64") for k in find_kernels(model)}
    scheduler = RankScheduler(rank=5)
    model.fit(x, y, epochs=1, callbacks=[scheduler, Freeze()], verbose=0)
    (cut,) = scheduler.report.cuts
    for record in cut.kernels:
        kernel = next(k for k in find_kernels(model) if k.path == record.path)
        u, v = (m[0].astype("float64") for m in kernel.matrices())
        w = before[record.path]
        error = np.linalg.norm(w - u @ v) / np.linalg.norm(w)
        assert record.relative_error == pytest.approx(error, rel=1e-4)
        assert record.energy == pytest.approx(1 - error**2, rel=1e-4)


class Freeze(keras.callbacks.Callback):
    """Keeps the optimizer from changing anything."""

    def on_train_begin(self, logs=None):
        self.model.optimizer.learning_rate = 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        {"steps_per_execution": 3},
        {"jit_compile": True},
        {"optimizer": "sgd"},
    ],
    ids=str,
)
@pytest.mark.traced
def test_every_way_to_run_a_step(options):
    if BACKEND == "torch" and not {"steps_per_execution", "jit_compile"}.isdisjoint(options):
        pytest.skip("Keras has no steps_per_execution on torch, and compiles with warnings")
    model = zoo.compiled(zoo.sequential(), **options)
    x, y = zoo.data(model)
    scheduler = RankScheduler(rank=PiecewiseConstant((20, 3), (0, 1)))
    history = model.fit(
        x, y, batch_size=8, epochs=2, validation_split=0.2, callbacks=[scheduler], verbose=0
    ).history
    assert scheduler.report.ranks == {"first/kernel": 3, "second/kernel": 3}
    assert np.isfinite(history["loss"]).all()
    np.testing.assert_allclose(zoo.predicted(model, x), zoo.outputs(model, x), atol=2e-5)


@pytest.mark.parametrize("steps_per_execution", [1, 2])
@pytest.mark.traced
def test_a_cadence_in_steps_cuts_within_an_epoch(steps_per_execution):
    if BACKEND == "torch" and steps_per_execution > 1:
        pytest.skip("Keras has no steps_per_execution on torch")
    model = zoo.compiled(zoo.sequential(), steps_per_execution=steps_per_execution)
    x, y = zoo.data(model)
    scheduler = RankScheduler(
        rank=Ramp(12, 4, start_epoch=0, end_epoch=1, shape="linear"), cadence=Cadence(steps=4)
    )
    model.fit(x, y, batch_size=8, epochs=2, callbacks=[scheduler], verbose=0)
    steps = [cut.step for cut in scheduler.report.cuts]
    assert steps == [0, 4, 8]
    assert [(cut.epoch, cut.epoch_step) for cut in scheduler.report.cuts] == [
        (0, 0),
        (0, 4),
        (1, 0),
    ]
    assert [cut.kernels[0].rank for cut in scheduler.report.cuts] == [12, 8, 4]


def generated(model):
    """Data that says nowhere how many steps an epoch has."""
    x, y = zoo.data(model)
    return ((x[start : start + 8], y[start : start + 8]) for start in range(0, 64, 8))


def fit_generated(model, scheduler, **options):
    data, options = generated(model), {"shuffle": False, "verbose": 0} | options
    return model.fit(data, callbacks=[scheduler], **options).history


def test_cuts_within_an_epoch_of_unknown_length_are_refused_where_none_follows():
    model = zoo.compiled(zoo.sequential(), run_eagerly=True)
    budget, cadence = PiecewiseConstant((1.0, 0.5), (0, 0.5)), Cadence(steps=3)
    scheduler = RankScheduler(budget, cadence=cadence)
    with pytest.raises(ArgumentError, match=r"`budget` must end at epoch 0.*steps_per_epoch"):
        fit_generated(model, scheduler)
    assert model.optimizer.iterations == 0
    fit_generated(model, scheduler, steps_per_epoch=8)
    assert [cut.step for cut in scheduler.report.cuts] == [6]


@pytest.mark.parametrize("first", [0, 1], ids=["within the first epoch", "after it"])
def test_cuts_within_an_epoch_of_unknown_length_are_told_to_come_late(first, recwarn):
    model = zoo.compiled(zoo.sequential(), run_eagerly=True)
    budget = PiecewiseConstant((1.0, 0.5), (0, first + 0.5))
    scheduler = RankScheduler(budget, cadence=Cadence(steps=3))
    scheduler.set_model(model)
    scheduler.set_params({"epochs": 2})
    scheduler.on_train_begin()
    scheduler.on_epoch_begin(0)
    told = [str(each.message) for each in recwarn if "announced" in str(each.message)]
    assert len(told) == (first == 0)
    assert [note for note in scheduler.report.notes if "announced" in note] == told
    scheduler.on_train_end()


def test_a_loop_that_looked_within_an_epoch_of_unknown_length_says_what_it_lacked():
    model = zoo.compiled(zoo.sequential(), run_eagerly=True)
    scheduler = RankScheduler(PiecewiseConstant((1.0, 0.5), (0, 0.5)), cadence=Cadence(steps=3))
    callbacks = keras.callbacks.CallbackList([scheduler], model=model)
    callbacks.on_train_begin()
    with pytest.warns(UserWarning, match="how many steps epoch 0 has"):
        callbacks.on_epoch_begin(0)
    for batch, (x, y) in enumerate(generated(model)):
        callbacks.on_train_batch_begin(batch)
        callbacks.on_train_batch_end(batch, {"loss": model.train_on_batch(x, y)})
    callbacks.on_epoch_end(0)
    with pytest.warns(ShortfallWarning, match="steps_per_epoch"):
        callbacks.on_train_end()
    assert "number of steps nobody has announced" in scheduler.shortfall.reason
    assert "often" not in scheduler.shortfall.remedy


@pytest.mark.traced
def test_a_model_that_builds_itself_is_met_after_the_first_batch():
    model = zoo.compiled(zoo.Subclassed())
    x, y = zoo.data(zoo.sequential())
    scheduler = RankScheduler(rank=4)
    model.fit(x, y, epochs=2, callbacks=[scheduler], verbose=0)
    assert set(scheduler.report.ranks.values()) == {4}
    np.testing.assert_allclose(zoo.predicted(model, x), zoo.outputs(model, x), atol=2e-5)


def test_usable_twice_and_ranks_never_rise():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    scheduler = RankScheduler(rank=PiecewiseConstant((10, 6), (0, 1)))
    model.fit(x, y, epochs=2, callbacks=[scheduler], verbose=0)
    assert [cut.target for cut in scheduler.report.cuts] == [10, 6]
    model.fit(x, y, initial_epoch=2, epochs=4, callbacks=[scheduler], verbose=0)
    assert scheduler.report.cuts == ()
    assert set(scheduler.report.ranks.values()) == {6}
    fresh = zoo.compiled(zoo.sequential())
    fresh.fit(x, y, epochs=2, callbacks=[scheduler], verbose=0)
    assert set(scheduler.report.ranks.values()) == {6}


def test_a_budget_is_of_the_dense_model_in_a_second_fit_too():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    dense = model.count_params()
    for budget in (0.7, 0.5):
        scheduler = RankScheduler(budget=budget)
        model.fit(x, y, epochs=1, callbacks=[scheduler], verbose=0)
        assert 0.9 * budget * dense < model.count_params() <= budget * dense
        assert scheduler.report.dense_parameters == dense


def test_initial_epoch_goes_to_the_target_of_that_time():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    scheduler = RankScheduler(rank=Ramp(12, 4, start_epoch=0, end_epoch=4, shape="linear"))
    model.fit(x, y, initial_epoch=2, epochs=5, callbacks=[scheduler], verbose=0)
    assert [(c.epoch, c.target) for c in scheduler.report.cuts] == [(2, 8), (3, 6), (4, 4)]


def test_a_constant_energy_does_not_erode():
    model = zoo.compiled(zoo.sequential(), "sgd")
    x, y = zoo.data(model)
    scheduler = RankScheduler(energy=Constant(0.7))
    model.fit(x, y, epochs=4, callbacks=[scheduler], verbose=0)
    assert len(scheduler.report.cuts) == 1
    for record in scheduler.report.kernels:
        if record.rank is not None:
            assert record.energy >= 0.7


def test_energy_is_counted_from_the_start():
    model = zoo.compiled(zoo.sequential(), keras.optimizers.SGD(0.0))
    x, y = zoo.data(model)
    before = {k.path: k.matrices()[0][0].astype("float64") for k in find_kernels(model)}
    scheduler = RankScheduler(energy=Ramp(0.8, 0.5, start_epoch=0, end_epoch=2))
    model.fit(x, y, epochs=3, callbacks=[scheduler], verbose=0)
    for record in scheduler.report.kernels:
        if record.rank is None:
            continue
        s = np.linalg.svd(before[record.path], compute_uv=False) ** 2
        smallest = int(np.searchsorted(np.cumsum(s) / s.sum(), 0.5)) + 1
        assert record.rank == smallest
        assert record.energy == pytest.approx(s[: record.rank].sum() / s.sum(), rel=1e-3)


def test_layer_rules():
    model = zoo.compiled(zoo.branches())
    x, y = zoo.data(model)
    rules = [
        LayerRule("a", keep_dense=True),
        LayerRule("one", keep_dense=False, rank=2),
        LayerRule("trunk", min_rank=6),
        LayerRule("b", max_rank=2),
    ]
    scheduler = RankScheduler(rank=4, rules=rules)
    model.fit(x, y, epochs=1, callbacks=[scheduler], verbose=0)
    report = scheduler.report
    assert report.ranks == {
        "one/kernel": 2,
        "trunk/kernel": 6,
        "b/kernel": 2,
    }
    reasons = {k.path: k.reason for k in report.kernels if k.reason}
    assert "rule for 'a'" in reasons["a/kernel"]
    assert "output layer" in reasons["two/kernel"]
    binding = {k.path: k.binding for cut in report.cuts for k in cut.kernels}
    assert binding == {"one/kernel": "rank", "trunk/kernel": "min_rank", "b/kernel": "max_rank"}


def test_above_break_even_a_layer_stays_dense():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    scheduler = RankScheduler(
        rank=PiecewiseConstant((14, 13), (0, 1))
    )  # break-even of 24 x 32 is 13
    model.fit(x, y, epochs=2, callbacks=[scheduler], verbose=0)
    assert [(c.epoch, [k.path for k in c.kernels]) for c in scheduler.report.cuts] == [
        (0, ["second/kernel"]),
        (1, ["first/kernel", "second/kernel"]),
    ]


def test_a_budget_of_flops_counts_positions():
    model = zoo.compiled(zoo.wrapped())
    x, y = zoo.data(model)
    scheduler = RankScheduler(budget=0.5, measure="flops")
    model.fit(x, y, epochs=1, callbacks=[scheduler], verbose=0)
    report = scheduler.report
    dense = 2 * (6 * 24 * 24 + 6 * 24 * 26 + 156 * 5)
    assert report.dense_flops == dense
    assert 0.4 * dense < report.flops <= 0.5 * dense


def test_a_budget_of_bytes_knows_the_dtype():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    scheduler = RankScheduler(budget=0.6, measure="bytes")
    model.fit(x, y, epochs=1, callbacks=[scheduler], verbose=0)
    assert scheduler.report.bytes <= 0.6 * scheduler.report.dense_bytes
    assert scheduler.report.bytes == 4 * model.count_params()


def test_it_can_be_copied_and_pickled_before_and_after_a_fit():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    scheduler = RankScheduler(rank=4, rules=[LayerRule("first", min_rank=5)])
    copies = [copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))]
    for each in copies:
        each.set_model(None)
        fresh = zoo.compiled(zoo.sequential())
        fresh.fit(x, y, epochs=1, callbacks=[each], verbose=0)
        assert each.report.ranks == {"first/kernel": 5, "second/kernel": 4}
    model.fit(x, y, epochs=1, callbacks=[scheduler], verbose=0)


def test_it_publishes_to_callbacks_behind_it(tmp_path):
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    file = tmp_path / "log.csv"
    callbacks = [RankScheduler(rank=4), keras.callbacks.CSVLogger(str(file))]
    model.fit(x, y, epochs=1, callbacks=callbacks, verbose=0)
    assert "params_fraction" in file.read_text().splitlines()[0]


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ArgumentError, "Exactly one of"),
        ({"budget": 0.5, "rank": 3}, ArgumentError, "Exactly one of"),
        ({"budget": 25}, ArgumentError, r"For 25 % write 0\.25"),
        ({"budget": Ramp(1.0, 25)}, ArgumentError, r"For 25 % write 0\.25"),
        ({"energy": 1.5}, ArgumentError, r"in \(0, 1\]"),
        ({"rank": 0.5}, ArgumentError, "at least 1"),
        ({"budget": "half"}, ArgumentTypeError, "`budget` must be a number.*half"),
        ({"budget": math.nan}, ArgumentError, "`budget` must be finite"),
        ({"budget": 0}, ArgumentError, "Received: 0. Write for example 0.25 for a quarter"),
        ({"rank": 0}, ArgumentError, r"`rank` must be at least 1\. Received: 0"),
        (
            {"budget": 0.5, "measure": "size"},
            ArgumentError,
            "'bytes', 'file', 'flops', 'latency', 'parameters'",
        ),
        ({"budget": 0.5, "allocation": "fair"}, ArgumentError, "'knapsack'"),
        ({"budget": 0.5, "rules": ["a"]}, ArgumentTypeError, "LayerRule"),
        ({"budget": 0.5, "rules": LayerRule("a")}, ArgumentTypeError, r"one alone.*rules=\["),
        ({"budget": 0.5, "min_gain": 0.2}, ArgumentTypeError, r"rules=\[LayerRule\('\*', min_gain"),
        ({"adaptive": True}, ArgumentTypeError, r"adaptive=True.*cadence=Cadence\(start=Adaptive"),
        ({"budget": 0.5, "input_shape": (3,)}, ArgumentTypeError, r"measure=Flops\(input_shape="),
        (
            {"budget": 0.5, "critrion": "fisher"},
            ArgumentTypeError,
            "critrion='fisher'.*'criterion'",
        ),
        ({"bugdet": 0.5}, ArgumentTypeError, "unexpected keyword argument 'bugdet'.*'budget'"),
        ({"budget": 0.5, "cadence": 2}, ArgumentTypeError, r"Received: 2.*Cadence\(epochs=2\)"),
    ],
)
def test_unusable_arguments_are_refused_at_once(options, error, words):
    with pytest.raises(error, match=words):
        RankScheduler(**options)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: LayerRule("x", keep_dense=True, rank=3), ArgumentError, "keep_dense=True"),
        (lambda: LayerRule("x", rank=3, energy=0.5), ArgumentError, "one of.*energy and rank"),
        (lambda: LayerRule("x", min_rank=4, max_rank=3), ArgumentError, "min_rank=4"),
        (lambda: LayerRule("x", min_rank=0), ArgumentError, "at least 1"),
        (lambda: LayerRule(""), ArgumentTypeError, "pattern"),
        (lambda: LayerRule("x", keep_dense="no"), ArgumentTypeError, "True or False.*'no'"),
        (lambda: Cadence(), ArgumentError, "exactly one"),
        (lambda: Cadence(epochs=1, steps=1), ArgumentError, "exactly one"),
        (lambda: Cadence(steps=0), ArgumentError, "at least 1"),
    ],
)
def test_unusable_rules_and_cadences_are_refused_at_once(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"budget": 0.1}, RankError, r"smallest possible fraction .* is 0\.\d+"),
        ({"rank": 4, "rules": [LayerRule("third")]}, ArgumentError, "'third' matches no layer"),
        (
            {"rank": 4, "rules": [LayerRule("*r*", min_rank=2), LayerRule("first", rank=3)]},
            ArgumentError,
            r"'first' applies to no layer.*match='\*r\*' before it.*Put the rule for 'first'",
        ),
        ({"budget": Ramp(**RAMP | {"end_epoch": 5})}, ArgumentError, "ends at epoch 5"),
        (
            {"rank": 4, "rules": [LayerRule("first", rank=PiecewiseConstant((5, 4), (0, 9)))]},
            ArgumentError,
            r"rule for 'first'.*ends at epoch 9",
        ),
        (
            {"budget": Ramp(**RAMP), "cadence": Cadence(steps=10_000)},
            ArgumentError,
            r"at epoch 0 at the latest.*steps=10000.*more often",
        ),
        (
            {"budget": Ramp(**RAMP | {"end_epoch": 5}), "cadence": Cadence(steps=10_000)},
            ArgumentError,
            r"steps=10000\), which looks once, for all the training has .*epochs=6 or let it end",
        ),
    ],
)
def test_what_cannot_be_met_is_refused_before_training(options, error, words):
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    before = model.get_weights()
    with pytest.raises(error, match=words):
        model.fit(x, y, epochs=5, callbacks=[RankScheduler(**options)], verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rules", [(), (LayerRule("output", keep_dense=True),)], ids=len)
def test_the_smallest_budget_named_can_be_had(rules):
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    with pytest.raises(RankError) as caught:
        model.fit(x, y, callbacks=[RankScheduler(budget=0.01, rules=rules)], verbose=0)
    smallest = float(str(caught.value).split(" is ")[1].split(" ")[0])
    dense = model.count_params()
    scheduler = RankScheduler(budget=smallest, rules=rules)
    model.fit(x, y, callbacks=[scheduler], verbose=0)
    assert model.count_params() <= smallest * dense
    assert not rules or set(scheduler.report.ranks.values()) == {1}


def test_nothing_to_compress_says_why():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="only")])
    zoo.compiled(model)
    with pytest.raises(RankError, match=r"nothing to compress.*only/kernel: output layer"):
        model.fit(np.zeros((8, 8)), np.zeros(8), callbacks=[RankScheduler(rank=1)], verbose=0)


def test_nan_kernels_are_refused_before_training():
    model = zoo.compiled(zoo.sequential())
    weights = model.get_weights()
    weights[0][0, 0] = np.inf
    model.set_weights(weights)
    x, y = zoo.data(model)
    with pytest.raises(SpectrumError, match="first/kernel: 1 of 768"):
        model.fit(x, y, epochs=3, callbacks=[RankScheduler(rank=4)], verbose=0)


def test_there_is_no_report_before_fit():
    with pytest.raises(ArgumentError, match="once `fit` has begun"):
        _ = RankScheduler(rank=4).report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": Ramp(0.3, 1.0, 1, 4)}, r"`budget` must not rise.*Ramp"),
        ({"rank": PiecewiseConstant((4, 8), (0, 2))}, r"`rank` must not rise.*from 4 to 8"),
        ({"rank": 2.5}, r"`rank` must be a whole number\. Received: 2\.5"),
    ],
)
def test_a_target_that_no_cut_can_follow_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        RankScheduler(**options)


@pytest.mark.traced
def test_the_callback_serves_a_training_loop_of_ones_own():
    model = zoo.compiled(zoo.sequential())
    scheduler = RankScheduler(rank=2)
    scheduler.set_model(model)
    scheduler.on_train_begin()  # no set_params: nobody but Keras knows of it
    scheduler.on_epoch_begin(0)
    assert set(scheduler.report.ranks.values()) == {2}


WORDS = ("a b dog", "cat c", "dog dog a", "b")


@pytest.mark.parametrize("batched", [False, True])
def test_a_model_of_words_is_cut_before_its_first_step(batched):
    words = keras.Input((), dtype="string")
    vocabulary = ["a", "b", "c", "dog", "cat"]
    numbers = layers.TextVectorization(output_sequence_length=6, vocabulary=vocabulary)(words)
    h = layers.Flatten()(layers.Embedding(7, 16, name="e")(numbers))
    model = keras.Model(words, layers.Dense(2)(layers.Dense(40, name="d")(h)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = (keras.ops.convert_to_tensor(WORDS * 4), np.tile([0, 1], 8))
    if batched:
        import tensorflow as tf

        data = (tf.data.Dataset.from_tensor_slices(data).batch(16),)
    scheduler = RankScheduler(0.5)
    how = {"shuffle": False, "verbose": 0}
    sizes = model.fit(*data, callbacks=[scheduler], **how).history["params"]
    assert [(cut.epoch, cut.step) for cut in scheduler.report.cuts] == [(0, 0)]
    assert sizes == [model.count_params()]
    assert scheduler.shortfall is None
    with pytest.raises(ArgumentError, match="'hiden' matches no layer"):
        model.fit(*data, callbacks=[RankScheduler(0.4, rules=[LayerRule("hiden", rank=3)])], **how)
    assert model.optimizer.iterations == 1


def of_two_outputs(losses):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((24,))
    h = layers.Dense(24, "relu", name="d")(inputs)
    model = keras.Model(inputs, [layers.Dense(2, name="one")(h), layers.Dense(3, name="two")(h)])
    model.compile("sgd", losses)
    return model


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_an_output_without_weights_is_one_of_weights_of_1(criterion):
    x = np.random.default_rng(0).normal(size=(32, 24)).astype("float32")
    y, some, ones = [x[:, :2], x[:, :3]], np.repeat([0.0, 1.0], 16), np.ones(32)
    fitted = []
    for one in (None, ones):
        scheduler = RankScheduler(0.6, criterion=criterion)
        data = {"sample_weight": [one, some], "validation_data": (x, y, [some, one])}
        model = of_two_outputs(["mse", "mse"])
        model.fit(x, y, callbacks=[scheduler], shuffle=False, verbose=0, **data)
        assert scheduler.report.cuts[0].output_error is not None
        fitted.append(scheduler.report.ranks)
    assert fitted[0] == fitted[1] != {}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("weight", [None, [np.ones(32), None]])
def test_an_output_without_a_loss_has_no_targets(weight):
    x = np.random.default_rng(0).normal(size=(32, 24)).astype("float32")
    scheduler = RankScheduler(0.6, criterion="fisher")
    data = (x, [x[:, :2], None], *([] if weight is None else [weight]))
    fit = {"validation_data": data, "callbacks": [scheduler], "verbose": 0}
    of_two_outputs(["mse", None]).fit(*data[:2], sample_weight=weight, **fit)
    assert scheduler.report.cuts[0].output_error is not None


def with_an_optional_input():
    keras.utils.set_random_seed(1)
    inputs = {"a": keras.Input((4,), optional=True, name="a"), "x": keras.Input((24,), name="x")}
    h = layers.Dense(24, "relu", name="d")(inputs["x"])
    model = keras.Model(inputs, layers.Dense(2)(h))
    model.compile("sgd", "mse")
    return model


def ways_to_leave_an_input_out(x, y):
    def generator():
        while True:
            yield {"a": None, "x": x}, y

    yield {"x": {"a": None, "x": x}, "y": y}
    yield {"x": generator(), "steps_per_epoch": 1}
    if BACKEND == "tensorflow":
        import tensorflow as tf

        batches = tf.data.Dataset.from_tensors((x, y)).map(lambda x, y: ({"a": None, "x": x}, y))
        yield {"x": batches, "validation_data": batches}


def test_an_optional_input_may_be_left_out():
    x = np.random.default_rng(0).normal(size=(32, 24)).astype("float32")
    for given in ways_to_leave_an_input_out(x, x[:, :2]):
        scheduler = RankScheduler(0.6)
        with_an_optional_input().fit(callbacks=[scheduler], shuffle=False, verbose=0, **given)
        assert scheduler.report.cuts[0].output_error is not None


def test_a_sparse_matrix_of_scipy_is_data():
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.random(32, 24, 0.2, "csr", dtype="float32", random_state=0)
    y = np.ones((32, 2), "float32")
    fitted = []
    for given in (x, x.toarray()):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((24,), sparse=given is x)
        model = keras.Model(inputs, layers.Dense(2)(layers.Dense(24, "relu", name="d")(inputs)))
        model.compile("sgd", "mse")
        scheduler = RankScheduler(0.6)
        data = {"validation_data": (given, y), "epochs": 2, "shuffle": False, "verbose": 0}
        model.fit(given, y, callbacks=[scheduler], **data)
        assert scheduler.report.cuts[0].output_error is not None
        fitted.append(scheduler.report.ranks)
    assert fitted[0] == fitted[1] != {}
    with pytest.raises(ArgumentError, match=r"inputs of shape \(None, 20\)"):
        model.fit(x[:, :20], y, callbacks=[RankScheduler(0.4)], verbose=0)


def test_samples_are_drawn_from_a_sparse_matrix_of_scipy_on_every_backend(monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(_keras, "batches_ahead", lambda *_: None)  # as on other backends
    x = sparse.random(32, 24, 0.2, "csr", dtype="float32", random_state=0)
    y = np.asarray(x.sum(1), "float32")
    ranks = []
    for given in (x, x.toarray()):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((24,)), layers.Dense(24, "relu", name="d"), layers.Dense(1)]
        )
        model.compile("sgd", "mse", run_eagerly=True)
        scheduler = RankScheduler(0.6, calibration=20)
        model.fit(given, y, callbacks=[scheduler], shuffle=False, verbose=0)
        assert [k.criterion for cut in scheduler.report.cuts for k in cut.kernels] == ["fisher"]
        ranks.append(scheduler.report.ranks)
    assert ranks[0] == ranks[1] != {}
