"""The output layer is the one whose output leaves the model, whatever order the code has."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from reducible_train import LayerRule, Ramp, RankError, RankScheduler, _keras, factorize
from reducible_train.errors import ShortfallWarning
from reducible_train.selection.input_shapes import InputShapes
from reducible_train.selection.survey import survey

L = keras.layers


class Blocks(keras.Model):
    """Layers defined in any order."""

    def __init__(self, **layers: Any):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


class Plain(Blocks):
    """Defined in reverse, with an activation, a product and a new shape behind the last."""

    def call(self, x: Any) -> Any:
        y = keras.ops.softmax(self.last(self.middle(self.start(x))))
        return keras.ops.reshape(y * 2.0, (-1, 4, 5))


class Several(Blocks):
    """A dictionary of inputs, two outputs, the trunk called between them."""

    def call(self, inputs: Any) -> Any:
        x = keras.ops.concatenate([inputs["a"], inputs["b"]], -1)
        x = self.start(x)
        first = self.last(x)
        return {"first": first, "second": self.other(self.middle(x))}


class Logits(Blocks):
    """Logits by a table that another layer looks words up in; the hidden layer comes last."""

    def call(self, ids: Any) -> Any:
        x = self.middle(keras.ops.mean(self.table(ids), axis=1))
        return keras.ops.matmul(x, keras.ops.transpose(self.table.embeddings))


class Head(L.Layer):
    """A layer of its own within a Functional model, its output defined first."""

    def __init__(self, recurrent: bool = False):
        super().__init__()
        self.last = L.LSTM(20) if recurrent else L.Dense(20)
        self.middle = L.Dense(48, "relu")

    def call(self, x: Any) -> Any:
        return self.last(self.middle(x))


def dense(units: int = 48) -> L.Dense:
    return L.Dense(units, "relu")


def plain() -> keras.Model:
    model = Plain(last=L.Dense(20), middle=dense(), start=dense())
    model(np.zeros((1, 32)))
    return model


def several() -> keras.Model:
    model = Several(last=L.Dense(20), other=L.Dense(20), middle=dense(), start=dense())
    model({name: np.zeros((1, 16)) for name in "ab"})
    return model


def logits() -> keras.Model:
    model = Logits(table=L.Embedding(60, 48), middle=dense())
    model(np.zeros((1, 7), "int32"))
    return model


def head(recurrent: bool = False) -> keras.Model:
    inputs = keras.Input((6, 32) if recurrent else (32,))
    own = Head(recurrent)
    return keras.Model(inputs, own(L.Dense(48, "relu", name="start")(inputs)))


def tied() -> keras.Model:
    table = L.ReversibleEmbedding(60, 48, name="table")
    inputs = keras.Input((7,), dtype="int32")
    x = L.Dense(48, "relu", name="middle")(L.GlobalAveragePooling1D()(table(inputs)))
    return keras.Model(inputs, table(x, reverse=True))


class Stream(Blocks):
    """A residual stream: each block adds to what was there."""

    def call(self, x: Any) -> Any:
        x = self.start(x)
        x = x + self.middle(x)
        return x + self.last(self.wide(x))


def stream(by_graph: bool = False) -> keras.Model:
    blocks = {"last": L.Dense(48), "wide": dense(96), "middle": L.Dense(48), "start": L.Dense(48)}
    if not by_graph:
        model = Stream(**blocks)
        model(np.zeros((1, 32)))
        return model
    for name, layer in blocks.items():
        layer.name = name
    x = blocks["start"](inputs := keras.Input((32,)))
    x = L.Add()([x, blocks["middle"](x)])
    hidden = L.Add()([x, blocks["last"](blocks["wide"](x))])
    return keras.Model(inputs, [hidden, x])


def side_by_side() -> keras.Model:
    inputs = keras.Input((32,))
    deep = L.Dense(20, name="deep")(L.Dense(48, "relu", name="start")(inputs))
    return keras.Model(inputs, L.Add()([deep, L.Dense(20, name="linear")(inputs)]))


MODELS = {
    "a residual stream": (stream, {"last/kernel"}),
    "a stream that leaves twice": (
        lambda: stream(by_graph=True),
        {"last/kernel", "middle/kernel"},
    ),
    "logits that add up": (side_by_side, {"deep/kernel", "linear/kernel"}),
    "defined in reverse": (plain, {"last/kernel"}),
    "several outputs": (several, {"last/kernel", "other/kernel"}),
    "logits by a table": (logits, {"table/embeddings"}),
    "a head of one's own": (head, {"head/last/kernel"}),
    "a recurrent head": (
        lambda: head(recurrent=True),
        {"head/last/cell/kernel", "head/last/cell/recurrent_kernel"},
    ),
    "tied": (tied, {"table/embeddings"}),
}


def kept(report: Any) -> set[str]:
    return {k.path for k in report.kernels if k.reason and "output" in k.reason}


@pytest.mark.parametrize("name", MODELS)
def test_what_leaves_the_model_stays_dense(name):
    make, wanted = MODELS[name]
    model = make()
    report = factorize(model, rank=3)
    assert {path.replace(model.layers[-1].name, "head", 1) for path in kept(report)} == wanted or (
        kept(report) == wanted
    )
    assert all(kernel.rank == 3 for kernel in report.kernels if kernel.reason is None)
    again = factorize(model, rank=2)  # found again through factors
    assert all(kernel.rank in (2, None) for kernel in again.kernels)
    assert kept(again) == kept(report)


def test_a_table_that_makes_logits_is_taken_in_by_a_rule():
    model = logits()
    x = np.arange(14).reshape(2, 7).astype("int32")
    before = model.predict(x, verbose=0)
    factorize(model, rank=24, rules=[LayerRule("table", keep_dense=False, rank=20)])
    assert model.table.ranks == {"embeddings": 20}
    assert model.predict(x, verbose=0).shape == before.shape


class Parts(keras.Model):
    """Trained by its parts alone; nobody calls it."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((32,)), dense(), L.Dense(24, name="code")])
        self.decoder = keras.Sequential([keras.Input((24,)), dense(), L.Dense(32, name="image")])


def test_of_a_model_that_nobody_calls_each_part_keeps_its_output():
    model = Parts()
    model.built = True
    report = factorize(model, rank=3)
    reasons = {k.path: k.reason for k in report.kernels if k.reason}
    assert set(reasons) == {"encoder/code/kernel", "decoder/image/kernel"}
    assert "no call of the whole model can be traced" in reasons["decoder/image/kernel"]


# --- frozen ---------------------------------------------------------------------------------------


def transfer(how: str) -> keras.Model:
    """A base that is frozen in one of the ways in which Keras lets it be, and a head."""
    base = keras.Sequential(
        [keras.Input((24,)), L.Dense(32, "relu", name="a"), L.Dense(32, "relu", name="b")],
        name="base",
    )
    if how == "base":
        base.trainable = False
    elif how == "layers":
        for layer in base.layers:
            layer.trainable = False
    elif how == "variables":
        for layer in base.layers:
            layer.kernel.trainable = False
    model = keras.Sequential(
        [keras.Input((24,)), base, L.Dense(48, "relu", name="head"), L.Dense(4, name="output")]
    )
    model.compile("adam", "mse")
    return model


def cut(model: keras.Model, **arguments: Any) -> Any:
    """What a fit does before its first step."""
    scheduler = RankScheduler(**arguments)
    scheduler.set_model(model)
    scheduler.set_params({"epochs": 1, "steps": 1})
    scheduler.on_train_begin()
    scheduler.on_epoch_begin(0)
    return scheduler.report


@pytest.mark.parametrize("how", ["base", "layers", "variables"])
def test_frozen_kernels_are_left(how):
    report = cut(transfer(how), rank=3)
    assert report.ranks == {"head/kernel": 3}
    frozen = {k.path for k in report.kernels if k.reason and k.reason.startswith("frozen")}
    assert frozen == {"base/a/kernel", "base/b/kernel"}


@pytest.mark.parametrize("rule", [{"keep_dense": False}, {"rank": 5}, {"energy": 0.3}])
def test_a_rule_takes_frozen_kernels_in(rule):
    report = cut(transfer("base"), rank=5, rules=[LayerRule("base/*", **rule)])
    assert "base/a/kernel" in report.ranks


def test_a_budget_counts_frozen_kernels_as_they_are():
    model = transfer("base")
    with pytest.raises(RankError, match=r"(?s)smallest possible fraction.*frozen"):
        cut(model, budget=0.01)
    model.trainable = False
    with pytest.raises(Exception, match=r"(?s)nothing to compress.*frozen.*keep_dense=False"):
        cut(model, rank=3)
    assert "base/a/kernel" in factorize(model, rank=3).ranks, "nothing need be trained after it"


def test_what_only_frozen_layers_keep_from_a_budget_is_told_and_the_fit_goes_on():
    model = transfer("base")
    kept = model.get_layer("base").get_weights()
    scheduler = RankScheduler(budget=Ramp(1.0, 0.4, start_epoch=0, end_epoch=1))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(32, 24)).astype("float32"), np.zeros((32, 4), "float32")
    with pytest.warns(ShortfallWarning) as told:
        model.fit(x, y, epochs=2, verbose=0, callbacks=[scheduler])
    messages = [str(w.message) for w in told.list if issubclass(w.category, ShortfallWarning)]
    first, last = messages
    assert "base/a/kernel, base/b/kernel" in first
    assert "will not be met" in first
    assert "keep_dense=False" in first
    assert str(scheduler.shortfall) in last
    assert "Frozen layers stay dense" in last
    head = scheduler.report.ranks["head/kernel"]
    assert head * (32 + 48) <= 0.4 * 32 * 48 < (head + 1) * (32 + 48)
    for before, after in zip(kept, model.get_layer("base").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


# --- models that only train their parts ---------------------------------------------------


class Loose(keras.Model):
    """Models by name, each of two layers; no call."""

    def __init__(self, **sizes):
        super().__init__()
        for name, (read, made) in sizes.items():
            layers = [L.Dense(24, name="hidden"), L.Dense(made, name="last")]
            setattr(self, name, keras.Sequential([keras.Input((read,)), *layers]))


@pytest.mark.parametrize(
    ("sizes", "fed", "expected"),
    [
        ({"coder": (24, 16), "decoder": (16, 24)}, 24, ["decoder"]),
        ({"coder": (24, 16), "decoder": (16, 24)}, None, ["coder", "decoder"]),
        ({"maker": (16, 24), "critic": (24, 20)}, 24, ["maker", "critic"]),
        ({"body": (24, 16), "head": (16, 20), "probe": (16, 18)}, 24, ["head", "probe"]),
        ({"one": (24, 20), "other": (24, 16)}, 24, ["one", "other"]),
    ],
)
def test_of_parts_those_give_outputs_that_no_other_reads_or_that_make_data(sizes, fed, expected):
    shapes = [] if fed is None else [InputShapes(keras.KerasTensor((1, fed)), "the data")]
    found = survey(Loose(**sizes), shapes=shapes)
    told = [path for path, _, _, reason in found.skipped if reason.startswith("output layer")]
    assert told == [f"{name}/last/kernel" for name in expected]
    hidden = [name for name in sizes if name not in expected]
    assert [note.split("'")[1] for note in found.notes] == hidden


@pytest.mark.parametrize("name", ["a stream that leaves twice", "logits that add up", "tied"])
def test_the_graph_of_layers_says_the_same_where_no_call_can_be_traced(name):
    make, wanted = MODELS[name]
    found = {f"{layer.name}/kernel" for layer in _keras.output_layers(make())}
    assert found == {path.replace("/embeddings", "/kernel") for path in wanted}
