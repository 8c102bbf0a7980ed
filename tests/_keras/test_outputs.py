"""The output layer is the one whose output leaves the model, whatever order the code has."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from models import CATALOGUE, chosen, logits

from reducible_train import LayerRule, Ramp, RankError, RankScheduler, _keras, factorize
from reducible_train.errors import ShortfallWarning
from reducible_train.selection.input_shapes import InputShapes
from reducible_train.selection.survey import survey

L = keras.layers


def kept(report: Any) -> set[str]:
    return {k.path for k in report.kernels if k.reason and k.reason.startswith("output layer")}


@pytest.mark.parametrize("entry", chosen())
def test_what_leaves_the_model_stays_dense(entry):
    model = entry.make()
    report = factorize(model, rank=1)
    assert kept(report) == entry.leaves
    assert all(kernel.rank == 1 for kernel in report.kernels if kernel.reason is None)
    found = survey(model)  # found again through factors
    again = {path for path, _, _, reason in found.skipped if reason.startswith("output layer")}
    assert again == entry.leaves


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
        self.encoder = keras.Sequential([keras.Input((32,)), L.Dense(48), L.Dense(24, name="code")])
        self.decoder = keras.Sequential(
            [keras.Input((24,)), L.Dense(48), L.Dense(32, name="image")]
        )


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


# --- layers beside a graph ----------------------------------------------------------------


class Headed(keras.Model):
    """A Functional model whose own code calls one more layer on what its graph gives."""

    def __init__(self):
        inputs = keras.Input((24,))
        super().__init__(inputs, L.Dense(24, name="last")(L.Dense(24, name="first")(inputs)))
        self.head = L.Dense(24)
        self.head.build((None, 24))

    def call(self, x, training=None):
        return self.head(super().call(x, training=training))


def test_a_layer_beside_a_graph_that_is_called_last_gives_the_outputs():
    model = Headed()
    assert kept(factorize(model, rank=2)) == {"head/kernel"}
    calls = _keras.trace_calls(model, [layer for _, layer in _keras.walk(model)])
    assert _keras.output_layers(model, calls) == [model.head]  # where a trace tells calls alone


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
    entry = CATALOGUE[name]
    found = {f"{layer.name}/kernel" for layer in _keras.output_layers(entry.make())}
    assert found == {path.replace("/embeddings", "/kernel") for path in entry.leaves}
