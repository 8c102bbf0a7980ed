"""Mistakes in Python: each is told before a step is trained, with what came and the way out.

Keras's own errors, which come before a callback hears of a fit, are not in the table.
"""

from __future__ import annotations

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from reducible_train import (
    Cadence,
    Guard,
    Join,
    LayerRule,
    PiecewiseConstant,
    ProductDecay,
    Ramp,
    RankBackupAndRestore,
    RankEarlyStopping,
    RankModelCheckpoint,
    RankScheduler,
    RankTensorBoard,
    ReducibleError,
    Search,
    TailShrink,
    factorize,
    load_config,
    load_model,
    load_weights_into,
    merge,
    save_model,
)
from reducible_train.preflight.values import check_values

L = keras.layers
RNG = np.random.default_rng(3)
X = RNG.normal(size=(32, 12)).astype("float32")
Y = RNG.integers(0, 5, 32)
SPARSE = "sparse_categorical_crossentropy"


def network(classes=5, loss=SPARSE, metric="accuracy"):
    units = [L.Dense(24, "relu", name="one"), L.Dense(24, "relu", name="two"), L.Dense(classes)]
    model = keras.Sequential([keras.Input((12,)), *units])
    metrics = [metric if metric == "accuracy" else keras.metrics.SparseCategoricalAccuracy(metric)]
    model.compile("sgd", loss, metrics=metrics)
    return model


MODEL = network()


def fit(*others, model=MODEL, x=X, y=Y, data=(), **settings):
    """A fit that would cut at once, of a model that stays as it is where it is refused."""
    steps = []
    settings = {"budget": PiecewiseConstant(values=(1.0, 0.6), start_epochs=(0, 1))} | settings
    scheduler = RankScheduler(**settings)
    listeners = [scheduler, *(make(scheduler) for make in others)]
    counter = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: steps.append(1)
    )
    try:
        model.fit(x, y, epochs=2, verbose=0, callbacks=[counter, *listeners], **dict(data))
    finally:
        assert not steps, "told after training"


def cut(**settings):
    factorize(MODEL, **({"budget": 0.6} | settings))


def observed(calibration, criterion="activation"):
    cut(criterion=criterion, calibration=calibration)


SETTINGS = {
    "nothing to fall": (lambda: RankScheduler(), "Exactly one of"),
    "two to fall": (lambda: RankScheduler(budget=0.5, energy=0.9), "Exactly one of"),
    "budget in per cent": (lambda: RankScheduler(budget=25), "write 0.25"),
    "budget as text": (lambda: RankScheduler(budget="25%"), "write 0.25"),
    "budget of nothing": (lambda: RankScheduler(budget=0.0), r"in \(0, 1\]"),
    "ramp in per cent": (lambda: RankScheduler(budget=Ramp(100, 25, 0, 1)), "write "),
    "ramp that rises": (lambda: RankScheduler(budget=Ramp(0.2, 1.0, 0, 1)), "fall|rise"),
    "ramp that ends first": (lambda: Ramp(1.0, 0.2, 4, 2), "end_epoch"),
    "steps of two lengths": (
        lambda: PiecewiseConstant(values=(1.0,), start_epochs=(0, 2)),
        "start_epochs",
    ),
    "join without boundary": (lambda: Join(schedules=(1.0, 0.5), boundaries=()), "boundar"),
    "energy in per cent": (lambda: RankScheduler(energy=95), "write 0.95"),
    "half a rank": (lambda: RankScheduler(rank=4.5), "Write 4"),
    "criterion": (lambda: RankScheduler(budget=0.5, criterion="fischer"), "'fisher'"),
    "measure": (lambda: RankScheduler(budget=0.5, measure="params"), "'parameters'"),
    "allocation": (lambda: RankScheduler(budget=0.5, allocation="knap"), "'knapsack'"),
    "guard as text": (lambda: RankScheduler(budget=0.5, guard="val_loss"), r"guard=Guard\("),
    "guard in per cent": (lambda: Guard("val_accuracy", max_drop=5), "write 0.05"),
    "guard without a limit": (lambda: Guard("val_accuracy"), "max_drop"),
    "search without guard": (lambda: RankScheduler(search=Search(start_epoch=2)), "guard="),
    "cadence as number": (lambda: RankScheduler(budget=0.5, cadence=500), r"steps=500"),
    "cadence of both": (lambda: Cadence(epochs=1, steps=5), "steps"),
    "adaptive as flag": (lambda: Cadence(start=True), r"Adaptive\("),
    "one aid": (lambda: RankScheduler(budget=0.5, aids=ProductDecay(1e-4)), r"aids=\["),
    "one rule": (lambda: RankScheduler(budget=0.5, rules=LayerRule("one")), r"rules=\["),
    "samples by half": (lambda: RankScheduler(budget=0.5, calibration=2.5), "whole number"),
}

STREAMS = {
    "a dataset": lambda *parts: {
        "x": tf.data.Dataset.from_tensor_slices(parts).shuffle(9).batch(8),
        "y": None,
    },
    "a generator": lambda *parts: {
        "x": (tuple(part[:8] for part in parts) for _ in itertools.count()),
        "y": None,
        "data": {"steps_per_epoch": 2},
    },
}

FITS = {
    "classes from 1": (lambda: fit(y=Y + 1), "from 0 to 4.*x and y of the fit"),
    "classes below 0": (lambda: fit(y=(Y - 1).astype("float32")), "Number the classes from 0"),
    "classes in a tensor": (
        lambda: fit(x=keras.ops.array(X), y=keras.ops.array(Y + 1)),
        "from 0 to 4",
    ),
    "parts of classes": (lambda: fit(y=Y + 0.5), "whole numbers from 0 to 4"),
    "classes of validation": (
        lambda: fit(data={"validation_data": (X, Y + 5)}),
        "validation_data of the fit",
    ),
    "classes split off": (
        lambda: fit(y=np.append(Y[:30], [7, 7]), data={"validation_split": 0.1}),
        "Received: 7 in validation_data",
    ),
    "a metric called like a size": (
        lambda: fit(model=network(metric="params_fraction")),
        "'my_params_fraction'",
    ),
    "a metric called like a rank": (lambda: fit(model=network(metric="rank/two")), "'my_rank/two'"),
    "a tail that nothing takes": (
        lambda: fit(budget=0.6, aids=[TailShrink()]),
        "TailShrink would do nothing",
    ),
    "a tail that is not looked at yet": (
        lambda: fit(aids=[TailShrink(ahead=0.5)]),
        "look further ahead",
    ),
    "a guard without time": (
        lambda: fit(guard=Guard("loss", limit=9), cadence=Cadence(epochs=2)),
        "epochs=3 or more",
    ),
    "no targets": (lambda: fit(y=None), "inputs alone in x and y of the fit"),
    "no targets in batches": (
        lambda: fit(x=tf.data.Dataset.from_tensor_slices(X).batch(8), y=None),
        "inputs alone in x and y",
    ),
    **{
        f"{name} in {kind}": (lambda data=data, make=make: fit(**make(*data)), told)
        for name, data, told in [
            ("samples of another shape", (X[:, :5], Y), "inputs of shape .None, 5.*x and y"),
            ("one-hot classes", (X, np.eye(5)[Y]), r"targets of shape \(None, 5\).*x and y"),
        ]
        for kind, make in STREAMS.items()
    },
    "samples without batches": (
        lambda: fit(x=tf.data.Dataset.from_tensor_slices((X, Y)), y=None),
        r"targets of shape \(\) in x and y of the fit",
    ),
    "samples of another shape": (
        lambda: fit(x=X[:, :5]),
        "inputs of shape .None, 5.*x and y of the fit",
    ),
    "one-hot classes": (lambda: fit(y=np.eye(5)[Y]), r"targets of shape \(None, 5\)"),
    "targets too wide": (lambda: fit(model=network(loss="mse"), y=X), r"shape \(None, 12\)"),
    **{
        f"validation of {name}": (
            lambda data=data: fit(data={"validation_data": data}),
            f"(?s){words}.*validation_data of the fit",
        )
        for name, data, words in [
            ("another shape", (X[:, :5], Y), r"shape \(None, 5\)"),
            ("one-hot classes", (X, np.eye(5)[Y]), r"shape \(None, 5\)"),
            ("no targets", (X, None), "inputs alone"),
            ("samples alone", X, "inputs alone"),
            ("fewer targets", (X, Y[:9]), "32, 9"),
            ("weights of another shape", (X, Y, np.ones((32, 3))), "Received"),
            ("unknown inputs", ({"one": X, "two": X}, Y), "Received"),
            ("batches", tf.data.Dataset.from_tensors((X[:, :5], Y)), r"shape \(None, 5\)"),
        ]
    },
    "guard without validation": (
        lambda: fit(guard=Guard("val_accuracy", max_drop=0.1)),
        "watch 'accuracy'",
    ),
    "guard of no metric": (lambda: fit(guard=Guard("auc", limit=0.5)), "there will be"),
    "stop without validation": (lambda: fit(RankEarlyStopping), "without validation data"),
    "save without validation": (
        lambda: fit(lambda s: RankModelCheckpoint(s, "b.reducible")),
        "without validation data",
    ),
    "pattern of no layer": (lambda: fit(rules=[LayerRule("three")]), "one, two"),
    "late schedule": (lambda: fit(budget=Ramp(1.0, 0.6, 0, 9)), "epochs=10 or more"),
    "budget too small": (lambda: fit(budget=0.001), "smallest possible"),
    "calibration of another shape": (
        lambda: fit(criterion="activation", calibration=X[:, :5]),
        r"\(None, 12\)",
    ),
    "keras's checkpoint": (
        lambda: fit(lambda _: keras.callbacks.ModelCheckpoint("b.keras", save_best_only=True)),
        "RankModelCheckpoint",
    ),
    "keras's backup": (
        lambda: fit(lambda _: keras.callbacks.BackupAndRestore("b")),
        "RankBackupAndRestore",
    ),
    "two schedulers": (lambda: fit(lambda _: RankScheduler(rank=4)), "one RankScheduler"),
}

CUTS = {
    "number of samples": (lambda: observed(2048), "Received: 2048.*RankScheduler"),
    "name of a file": (lambda: observed("x.npz"), r"Received: 'x.npz'.*np\.load"),
    "number as targets": (lambda: observed((X, 5)), "Received: 5"),
    "no samples": (lambda: cut(criterion="activation"), "calibration=None"),
    "samples of another shape": (lambda: observed(X[:, :5]), r"\(None, 12\)"),
    "samples of NaN": (lambda: observed(X * np.nan), "must be finite"),
    "samples without targets": (lambda: observed(X, "fisher"), r"must be \(x, y\)"),
    "targets out of range": (lambda: observed((X, Y + 5), "fisher"), "from 0 to 4.*`calibration`"),
    "a schedule": (lambda: cut(budget=Ramp(1.0, 0.5, 0, 1)), "RankScheduler"),
    "path of a model": (lambda: factorize("m.keras", budget=0.5), r"load_model\(path\)"),
    "merge nothing": (lambda: merge(MODEL, layers="three"), "Correct the pattern"),
}

FILES = {
    "name of keras's": (lambda: save_model(MODEL, "m.keras"), "m.reducible"),
    "no report": (lambda: save_model(MODEL, "m.reducible", "report"), r"scheduler\.report"),
    "no file": (lambda: load_model("none.reducible"), "Check the path"),
    "no weights": (lambda: load_weights_into(MODEL, "none.weights.h5"), "Check the path"),
    "no configuration": (lambda: load_config("none.yaml"), "Check the path"),
    "order of TensorBoard": (
        lambda: RankTensorBoard("logs", RankScheduler(rank=4)),
        r"RankTensorBoard\(scheduler",
    ),
    "order of the checkpoint": (
        lambda: RankModelCheckpoint("b.keras", RankScheduler(rank=4)),
        r"RankModelCheckpoint\(scheduler",
    ),
    "no scheduler to stop by": (lambda: RankEarlyStopping("val_loss"), r"\(scheduler"),
    "no scheduler to back up": (lambda: RankBackupAndRestore("b", "b"), r"\(scheduler"),
}

MISTAKES = SETTINGS | FITS | CUTS | FILES


@pytest.mark.filterwarnings("ignore:.*shuffle=True")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_what_came_and_the_way_out(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    act, words = MISTAKES[name]
    before = [np.array(each) for each in MODEL.get_weights()]
    with pytest.raises(ReducibleError) as caught:
        act()
    assert re.search(words, str(caught.value)), caught.value
    assert re.search("Received|Its layers are", str(caught.value)), caught.value
    assert "__wrapped__" not in str(caught.value)
    after = MODEL.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def two_heads(loss):
    given = keras.Input((12,), name="given")
    hidden = L.Dense(24)(given)
    outputs = {"kind": L.Dense(5, name="kind")(hidden), "size": L.Dense(1, name="size")(hidden)}
    model = keras.Model({"given": given}, outputs)
    model.compile("sgd", loss)
    return model


OF_KERAS = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=9)


@pytest.mark.parametrize("loss", [{"kind": SPARSE, "size": "mse"}, {"kind": OF_KERAS}])
def test_classes_are_looked_at_output_by_output(loss):
    heads = {"model": two_heads(loss), "x": {"given": X}}
    with pytest.raises(ReducibleError, match=r"from 0 to 4.*Received: 5"):
        fit(**heads, y={"kind": np.where(Y == 4, 5, Y), "size": X[:, :1] - 7})


def test_classes_of_outputs_with_keys_are_looked_at():
    heads = two_heads("mse")
    model = keras.Model(heads.inputs, dict(zip("ab", heads.outputs, strict=True)))
    model.compile("sgd", {"a": SPARSE, "b": "mse"})
    given = {"a": np.where(Y == 4, 5, Y), "b": X[:, :1]}
    with pytest.raises(ReducibleError, match=r"from 0 to 4.*Received: 5"):
        check_values(model, X, given, "")


def test_a_class_that_the_loss_ignores_and_a_loss_of_ones_own_are_let_pass():
    class Own(keras.losses.SparseCategoricalCrossentropy):
        def call(self, y_true, y_pred):
            return super().call(y_true % 5, y_pred)

    check_values(network(loss=OF_KERAS), X, np.where(Y == 4, 9, Y), "")
    check_values(network(loss=Own(from_logits=True)), X, Y + 5, "")
    check_values(network(), X, None, "")
    with pytest.raises(ReducibleError, match="Received: 8"):
        check_values(network(loss=OF_KERAS), X, np.where(Y == 4, 8, Y), "")


def test_labels_that_weigh_nothing_may_be_any():
    beyond = np.where(Y == 4, -1, Y)
    weight = (Y != 4).astype("float32")
    check_values(network(), X, beyond, "", weight)
    with pytest.raises(ReducibleError, match="Received: -1"):
        check_values(network(), X, beyond, "", weight + 1)


def test_what_only_looks_like_an_embedding_reads_what_it_likes():
    class Projection(L.Layer):
        def __init__(self):
            super().__init__()
            self.input_dim = 4

        def call(self, x):
            return x * 2

    class Hashed(L.Embedding):
        def call(self, x):
            return super().call(x % self.input_dim)

    for layer, given in ((Projection(), X), (Hashed(5, 3), np.full((9, 2), 77))):
        inputs = keras.Input(given.shape[1:])
        check_values(keras.Model(inputs, layer(inputs)), given, None, "")


@pytest.mark.parametrize("named", [True, False])
def test_tokens_are_looked_at_where_they_enter_a_table(named):
    given = keras.Input((4,), name="text"), keras.Input((3,), name="other")
    table = L.Embedding(11, 8, name="table")(given[0])
    hidden = keras.ops.concatenate([L.Flatten()(table), given[1]], -1)
    model = keras.Model(given, L.Dense(1)(hidden))
    model.compile("sgd", "mse")
    tokens, other = RNG.integers(9, 14, (32, 4)), X[:, :3] * 99
    inputs = {"text": tokens, "other": other} if named else [tokens, other]
    with pytest.raises(ReducibleError, match=r"'table' .* 0 to 10.*input_dim=14"):
        fit(model=model, x=inputs, y=X[:, 0])


def taken(model, x, y, **data):
    """True where a fit with a scheduler brings what is asked, as one without would train."""
    scheduler = RankScheduler(PiecewiseConstant(values=(1.0, 0.8), start_epochs=(0, 1)))
    data = {"batch_size": 32} | data
    model.fit(x, y, epochs=2, verbose=0, callbacks=[scheduler], **data)
    return len(scheduler.report.cuts) == 1


class Free(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return keras.ops.mean(y_pred**2)


def in_graphs_only(y_true, y_pred):
    if tf.executing_eagerly():
        raise NotImplementedError
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def test_a_loss_that_wants_a_graph_is_let_pass():
    model = keras.Sequential([keras.Input((12,)), L.Dense(24), L.Dense(24), L.Dense(5)])
    model.compile("sgd", in_graphs_only)
    assert taken(model, X, Y, validation_data=(X[:8], Y[:8, None]))


class Bags(keras.utils.PyDataset):
    """Batches of twelve samples, of which each four have one target."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[:12], Y[:3]


def in_batch(targets, outputs):
    """A loss of batches of 16, whose targets are of another shape than outputs and not below 1."""
    with tf.control_dependencies([tf.debugging.assert_positive(targets)]):
        alike = tf.matmul(outputs, outputs, transpose_b=True)
    return keras.losses.sparse_categorical_crossentropy(tf.range(16), alike, from_logits=True)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_of_batches_that_are_not_read_shapes_alone_are_judged(run_eagerly):
    model = network(loss=in_batch)
    model.compile("sgd", in_batch, run_eagerly=run_eagerly)
    targets = np.ones((32, 2), "float32")
    batches = tf.data.Dataset.from_tensor_slices((X, targets)).batch(16)
    assert taken(model, batches, None, batch_size=None, shuffle=False)


def test_batches_may_hold_fewer_targets_than_inputs():
    samples = keras.Input((12,))
    hidden = L.Dense(24)(L.Dense(24)(samples))
    means = L.Lambda(lambda x: keras.ops.mean(keras.ops.reshape(x, (-1, 4, 24)), 1))(hidden)
    model = keras.Model(samples, L.Dense(5)(means))
    model.compile("sgd", SPARSE, run_eagerly=True)
    assert taken(model, Bags(), None, validation_data=Bags())


TAKEN = {
    "a last axis of one": (SPARSE, (X[..., None], Y[:, None]), (X[..., None], Y)),
    "by name": (SPARSE, (X, Y), ({"given": X}, Y)),
    "in a list": (SPARSE, (X, Y), [X, Y]),
    "tensors": (SPARSE, (X, Y), (keras.ops.array(X), keras.ops.array(Y[:, None]))),
    "that broadcasts": ("mse", (X, X[:, :5]), (X, X[:, :1])),
    "batches": (SPARSE, (X, Y), tf.data.Dataset.from_tensors((X, Y[:, None]))),
    "without targets, of a loss that takes none": (Free(), (X, None), (X, None)),
    "without targets, of no loss": (None, (X, None), X),
}


@pytest.mark.filterwarnings("ignore:Gradients do not exist", "ignore:(?s).*The structure of")
@pytest.mark.parametrize("name", TAKEN)
def test_data_that_keras_takes_are_let_pass(name):
    class Penalty(L.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(x**2))
            return x

    loss, (x, y), validation = TAKEN[name]
    given = keras.Input((12,), name="given")
    hidden = L.Dense(24)(L.Dense(24)(given))
    model = keras.Model(given, L.Dense(5)(Penalty()(hidden)))
    model.compile("sgd", loss, run_eagerly=True)
    assert taken(model, x, y, validation_data=validation)


@pytest.mark.parametrize(("x", "y"), [(X[:, :5], Y), (X, np.eye(5)[Y])])
def test_what_a_model_of_ones_own_cannot_validate_is_told_as_well(x, y):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = L.Dense(24), L.Dense(24)
            self.last = L.Dense(5)

        def call(self, x):
            return self.last(self.two(self.one(x)))

    model = Own()
    model.compile("sgd", SPARSE, run_eagerly=True)
    model(X)
    with pytest.raises(ReducibleError, match="validation_data of the fit"):
        fit(model=model, data={"validation_data": (x, y)})
    assert taken(model, X, Y, validation_data=(X, Y[:, None]))


@pytest.mark.parametrize("wrong", [{"kind": np.eye(5)[Y]}, {"size": None}])
def test_targets_are_tried_on_several_outputs(wrong):
    loss = {"kind": SPARSE, "size": "mse"}
    good = {"kind": Y, "size": X[:, :1]}
    with pytest.raises(ReducibleError, match="validation_data of the fit"):
        fit(
            model=two_heads(loss),
            x={"given": X},
            y=good,
            data={"validation_data": ({"given": X}, good | wrong)},
        )
    assert taken(
        two_heads(loss), {"given": X}, good, validation_data=({"given": X}, good | {"size": Y})
    )


def test_a_metric_of_one_of_several_outputs_may_be_called_like_a_size():
    model = two_heads({"kind": SPARSE, "size": "mse"})
    metric = {"size": [keras.metrics.MeanSquaredError(name="params")]}
    model.compile("sgd", {"kind": SPARSE, "size": "mse"}, metrics=metric, run_eagerly=True)
    assert taken(model, {"given": X}, {"kind": Y, "size": X[:, :1]})
    assert "size_params" in model.history.history
