"""Laws of the tree of layers: what Keras counts is in it, once, and graphs come first."""

from __future__ import annotations

import keras
import pytest

from reducible_train import LayerRule, _keras, factorize

L = keras.layers


class Inner(keras.Model):
    """A graph, and beside it layers in attributes, in lists and in dictionaries."""

    def __init__(self):
        inputs = keras.Input((8,), name="in")
        shared = L.Dense(8, name="shared")
        body = keras.Sequential([keras.Input((8,)), L.Dense(8, name="a")], name="body")
        super().__init__(inputs, body(shared(shared(inputs))), name="inner")
        self.again = shared
        self.features = keras.Model(inputs, shared(inputs))
        self.heads = {"one": [L.Dense(4), keras.Sequential([keras.Input((4,)), L.Dense(6)])]}
        self.heads["one"][0].build((None, 8))


def outer():
    inner, inputs = Inner(), keras.Input((8,), name="in")
    model = keras.Model(inputs, L.Dense(5, name="last")(inner(inputs)))
    model.inner_again, model.proj = inner, L.Dense(64)
    model.proj.build((None, 8))
    return model


def test_layers_beside_a_graph_come_after_those_in_it_each_once():
    model = outer()
    inner = ("in", "shared", "body", "body/a", "features", "heads/one/0", "heads/one/1")
    below = [f"inner/{path}" for path in (*inner, "heads/one/1/dense")]
    found = dict(_keras.walk(model))
    assert list(found) == ["in", "inner", *below, "last", "proj"]
    assert len({id(layer) for layer in found.values()}) == len(found)
    assert list(_keras.beside_graphs(model)) == [*below[4:], "proj"]
    held = [v for each in found.values() for v in each.trainable_variables]
    assert {id(v) for v in held} == {id(v) for v in model.trainable_variables}


@pytest.mark.parametrize("match", ["proj", "inner/heads/*"])
def test_rules_and_budgets_know_layers_beside_a_graph(match):
    model = outer()
    report = factorize(model, rank=2, rules=[LayerRule(match, rank=1)])
    ranks = {each.path: each.rank for each in report.kernels}
    assert ranks["inner/shared/kernel"] == 2
    assert ranks["proj/kernel"] == (1 if match == "proj" else 2)
    assert ranks["inner/heads/one/0/kernel"] == (2 if match == "proj" else 1)
    assert report.parameters == model.count_params()
