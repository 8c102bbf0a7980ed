"""Reports of models that a neighbour refuses, or passes over without a word.

Each docstring begins with the address of the report; the situation is told in our words.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tiny import CLASSES, FEATURES, RNG, X, Y, answer, compiled, dense, fit, plain, stack

from reducible_train import (
    ArgumentTypeError,
    LayerRule,
    PiecewiseConstant,
    RankScheduler,
    factorize,
    merge,
    to_stock_layers,
)

L = keras.layers
FALL = PiecewiseConstant(values=(1.0, 0.6), start_epochs=(0, 1))


# --- how a model is put together ----------------------------------------------------------


def convolutions():
    """https://github.com/tensorflow/model-optimization/issues/1167 (1119, 1141 and keras#23082 too)

    A Sequential of Keras 3, convolutions and a dense head, is "no Sequential" to the pruner.
    """
    return stack(
        L.Conv2D(8, 3, activation="relu"),
        L.MaxPooling2D(2),
        L.Conv2D(12, 3, activation="relu"),
        L.Flatten(),
        L.Dense(CLASSES),
        inputs=keras.Input((9, 9, 4)),
    )


def backbone_and_head():
    """https://github.com/tensorflow/model-optimization/issues/40

    A head, a Sequential, on top of a pretrained functional backbone: the inner model is refused.
    """
    inputs = keras.Input((FEATURES,))
    backbone = keras.Model(inputs, dense(24)(dense(24)(inputs)), name="backbone")
    head = keras.Sequential([dense(20), L.Dropout(0.5), L.Dense(CLASSES)], name="head")
    return keras.Model(backbone.input, head(backbone.output))


class Classifier(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = keras.Sequential([dense(24), dense(24)])
        self.head = L.Dense(CLASSES)

    def call(self, x):
        return self.head(self.body(x))


def class_of_its_own():
    """https://github.com/tensorflow/model-optimization/issues/155 (and openvinotoolkit/nncf#1939)

    A class derived from Model is refused; only Sequential and functional models are taken.
    """
    return Classifier()


class Appended(keras.Model):
    def __init__(self, depth=3):
        super().__init__()
        self.steps = []
        for _ in range(depth):
            self.steps.append(dense(20))
        self.head = L.Dense(CLASSES)

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return self.head(x)


def list_that_grows():
    """https://github.com/keras-team/keras/issues/12334 (and 16797)

    As many layers as the constructor is told, appended to a list: they are not among the layers.
    """
    return Appended()


class Composed(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = [L.Dense(24), L.LayerNormalization(), L.Dense(FEATURES)]

    def call(self, x):
        y = x
        for layer in self.inner:
            y = layer(y)
        return x + y


def layer_of_layers():
    """https://github.com/tensorflow/model-optimization/issues/756

    A layer of one's own that is made of Keras's own layers is "not supported".
    """
    return stack(Composed(name="block"), L.Dense(CLASSES))


def operations_between_layers():
    """https://github.com/tensorflow/model-optimization/issues/1051

    A functional model with operations between its layers is refused for the operations.
    """
    inputs = keras.Input((FEATURES,))
    x = keras.ops.tanh(dense(24)(inputs) * 2.0) + 1.0
    return keras.Model(inputs, L.Dense(CLASSES)(dense(24)(x)))


def normalised():
    """https://github.com/tensorflow/model-optimization/issues/165 (and 449)

    One BatchNormalization, which has no kernel, and the whole model is refused.
    """
    return stack(dense(24), L.BatchNormalization(), dense(24), L.Dense(CLASSES))


def texts():
    """https://github.com/tensorflow/model-optimization/issues/401

    The example of an LSTM over an embedding ends in "please use a supported layer".
    """
    inputs = keras.Input((5,), dtype="int32")
    return stack(L.Embedding(40, 16), L.LSTM(16), L.Dense(CLASSES), inputs=inputs)


def one_layer_twice():
    """https://github.com/keras-team/keras/issues/10333

    One layer shall do the same to two inputs, with one set of weights.
    """
    left, right = keras.Input((FEATURES,)), keras.Input((FEATURES,))
    shared = dense(24, "shared")
    return keras.Model(
        [left, right], L.Dense(CLASSES)(L.Concatenate()([shared(left), shared(right)]))
    )


def data_of(model):
    if isinstance(model, (Classifier, Appended)):
        return X
    made = [RNG.normal(size=(32, *each.shape[1:])).astype("float32") for each in model.inputs]
    if model.inputs[0].dtype == "int32":
        made = [RNG.integers(40, size=(32, *model.inputs[0].shape[1:]))]
    return made if len(made) > 1 else made[0]


@pytest.mark.parametrize(
    "make",
    [
        convolutions,
        backbone_and_head,
        class_of_its_own,
        list_that_grows,
        layer_of_layers,
        operations_between_layers,
        normalised,
        texts,
        one_layer_twice,
    ],
    ids=lambda make: make.__name__,
)
def test_a_model_that_others_refuse_is_made_smaller_in_fit(make):
    """The report is named by the model: see its docstring. The budget is met, all is counted."""
    model = make()
    x = data_of(model)
    scheduler = RankScheduler(budget=FALL)
    fit(model, scheduler, x=x, epochs=2)
    assert scheduler.shortfall is None
    assert scheduler.report.ranks
    assert model.count_params() == scheduler.report.parameters
    assert scheduler.report.size_fraction <= 0.6
    assert np.isfinite(answer(model, x)).all()


def test_a_schedule_never_passes_over_a_model_in_silence():
    """https://github.com/tensorflow/model-optimization/issues/965

    The layers of a class of one's own are not found by the callback, and training ends with
    nothing pruned and nothing said. Here what has nothing to give is refused before training.
    """
    bare = stack(L.Rescaling(0.5), L.Dense(CLASSES, name="out"))
    before = bare.get_weights()
    with pytest.raises(ValueError, match="out"):
        fit(bare, RankScheduler(budget=0.5))
    for one, two in zip(bare.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_layer_alone_of_a_class_of_its_own():
    """https://github.com/tensorflow/model-optimization/issues/662

    One layer inside a subclassed model shall be compressed, the others left, and wrapping it
    by hand ends in an error. A rule names the layer by its attribute.
    """
    model = Appended()
    rules = [LayerRule("steps/1", rank=4), LayerRule("*", keep_dense=True)]
    scheduler = RankScheduler(rank=4, rules=rules)
    fit(model, scheduler, epochs=1)
    assert scheduler.report.ranks == {"steps/1/kernel": 4}


def test_a_training_loop_of_ones_own():
    """https://github.com/tensorflow/model-optimization/issues/590 (and 271)

    Outside `fit` the steps of a callback have to be called by hand, in the right order, or it
    fails. `factorize` makes a model that any loop trains, with the variables it has then.
    """
    tf = pytest.importorskip("tensorflow")
    model, optimizer = Classifier(), keras.optimizers.SGD(0.1)
    answer(model)
    factorize(model, rank=3)
    before = [v.numpy() for v in model.trainable_variables]
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(X, training=True)))
        slopes = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply(slopes, model.trainable_variables)
    moved = [(a != v.numpy()).any() for a, v in zip(before, model.trainable_variables, strict=True)]
    assert all(moved)


def test_a_model_of_lower_ranks_needs_no_callback_to_be_trained():
    """https://github.com/tensorflow/model-optimization/issues/4

    A pruned model fails in training, deep in the graph, where its callback is missing from the
    list. A factorised one is a model like any other.
    """
    model = plain()
    factorize(model, budget=0.5)
    ranks = factorize(model, energy=1.0).ranks
    fit(model, epochs=1)
    assert ranks
    assert model.get_layer("one").rank == ranks["one/kernel"]


@pytest.mark.parametrize("what", ["model.keras", L.Dense(4), [1, 2]], ids=["path", "layer", "list"])
def test_what_is_no_model_is_told_with_what_came(what):
    """https://github.com/tensorflow/model-optimization/issues/166

    Anything else than the expected model ends in an error that has nothing to do with it.
    """
    with pytest.raises(
        ArgumentTypeError, match=rf"must be a Keras model\. Received: {type(what).__name__}"
    ):
        factorize(what, rank=2)


# --- what becomes of it afterwards --------------------------------------------------------


@pytest.mark.parametrize("leave", [merge, to_stock_layers])
def test_a_part_of_a_model_that_was_led_back_is_a_model(leave):
    """https://github.com/tensorflow/model-optimization/issues/1063

    After stripping the wrappers, a new model from the first input to an inner layer fails: the
    input is cut off from the graph.
    """
    model = plain()
    factorize(model, rank=4)
    wanted = answer(model)
    back = leave(model) or model
    head = back.layers[-1]
    part = keras.Model(back.inputs[0], head.input)
    np.testing.assert_allclose(answer(head, answer(part)), wanted, atol=1e-5)


def test_tied_tables_stay_tied():
    """https://github.com/huggingface/peft/issues/2018 (and transformers#45127)

    A table that embeds words is also the output layer; merging the low-rank part into one of
    them leaves two different tables behind, or overwrites one with the other.
    """
    words = keras.Input((4,), dtype="int32")
    table = L.ReversibleEmbedding(30, 12, name="table")
    x = L.Dense(12, "relu", name="between")(table(words))
    model = keras.Model(words, table(x, reverse=True))
    x = RNG.integers(30, size=(5, 4))
    factorize(model, rank=3, rules=[LayerRule("table", keep_dense=False)])
    small = answer(model, x)
    merge(model)
    assert [v.path for v in table.weights] == ["table/embeddings"]
    np.testing.assert_allclose(answer(model, x), small, atol=1e-5)


def test_both_factors_of_zeros_would_never_learn():
    """https://github.com/Guitaricet/relora/issues/18 (and KU-VGI/LFS-GAN#2)

    Both factors begin as zeros, so that both gradients are zero for ever.
    """
    model = stack(L.Dense(24, kernel_initializer="zeros", name="zeros"), L.Dense(CLASSES))
    compiled(model, "sgd")
    fit(model, RankScheduler(rank=4), epochs=1)
    layer = model.get_layer("zeros")
    fit(model, epochs=2)
    factorized = hasattr(layer, "product")
    learned = layer.product("kernel") if factorized else layer.kernel
    assert np.abs(keras.ops.convert_to_numpy(learned)).max() > 0


class Adversaries(keras.Model):
    """Two networks, two optimizers, a step that calls the parts and never the whole."""

    def __init__(self):
        super().__init__()
        self.maker = stack(dense(24, "m1"), L.Dense(FEATURES, name="m2"), inputs=keras.Input((8,)))
        self.judge = stack(dense(24, "j1"), dense(24, "j2"), L.Dense(1, name="j3"))

    def compile(self, **how):
        super().compile(**how)
        self.optimizers = [keras.optimizers.Adam(), keras.optimizers.SGD(0.1, momentum=0.9)]

    def train_step(self, data):
        import tensorflow as tf

        real = data[0] if isinstance(data, tuple) else data
        noise = keras.random.normal((keras.ops.shape(real)[0], 8))
        losses = {}
        parts = [(self.maker, self.judge, -1.0), (self.judge, self.maker, 1.0)]
        for (part, _, sign), optimizer in zip(parts, self.optimizers, strict=True):
            with tf.GradientTape() as tape:
                false = keras.ops.mean(self.judge(self.maker(noise)))
                loss = sign * (false - keras.ops.mean(self.judge(real)))
            slopes = tape.gradient(loss, [v.value for v in part.trainable_variables])
            optimizer.apply(
                [
                    keras.ops.zeros_like(v) if g is None else g
                    for g, v in zip(slopes, part.trainable_variables, strict=True)
                ],
                part.trainable_variables,
            )
            losses[part.name] = loss
        return losses


def test_adversaries_with_two_optimizers():
    """https://github.com/tensorflow/tensorflow/issues/32328 (and 38061)

    Two networks with an optimizer each shall be trained in turns, by `fit` and its callbacks.
    """
    model = Adversaries()
    model.compile(run_eagerly=True)
    scheduler = RankScheduler(budget=FALL)
    model.fit(X, epochs=3, batch_size=16, verbose=0, callbacks=[scheduler])
    assert scheduler.shortfall is None
    assert scheduler.report.size_fraction <= 0.6
    for optimizer, part in zip(model.optimizers, (model.maker, model.judge), strict=True):
        assert optimizer.iterations == 6
        held = {id(v) for v in optimizer._trainable_variables}
        assert held == {id(v) for v in part.trainable_variables}


def test_svd_in_place_of_a_layer_then_fine_tuned():
    """https://github.com/huggingface/peft/issues/1270 (and syp2ysy/SVF#17)

    The factors of a trained weight, not random ones, in place of a linear layer, to fine-tune
    them: asked for, not to be had. What a cut loses of a weight is measured, and told.
    """
    model = compiled(plain(), keras.optimizers.Adam(0.02))
    layer, only = model.get_layer("two"), [LayerRule("two"), LayerRule("*", keep_dense=True)]
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    report = factorize(model, rank=6, rules=only)
    assert report.ranks == {"two/kernel": 6}
    small = keras.ops.convert_to_numpy(layer.product("kernel"))
    lost = np.linalg.norm(kernel - small) / np.linalg.norm(kernel)
    np.testing.assert_allclose(lost, report.cuts[-1].kernels[0].relative_error, atol=1e-5)
    before = model.evaluate(X, Y, verbose=0)
    fit(model, epochs=3)
    assert model.evaluate(X, Y, verbose=0) < before
