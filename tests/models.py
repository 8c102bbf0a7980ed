"""The catalogue of whole models, each with the traits by which laws choose.

A new entry is met by every law on models: that a cut meets its budget and `merge` ends it, that a
fit with cuts is what its files bring back (`whole/test_models.py`), that what leaves the model
stays dense (`_keras/test_outputs.py`), that a weight of k is a sample k times
(`selection/test_weighting.py`). Single layers are in `kinds.py`; what surgery needs, in `zoo.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import zoo

L = keras.layers
TOKENS, LENGTH, WIDTH, CLASSES = 60, 8, 24, 5


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue.

    Args:
        make: Makes it.
        x: Makes inputs, of a generator of random numbers and a number of samples.
        leaves: Paths of the kernels whose outputs leave the model.
        y: Makes targets of the same and of the inputs; left out, a class for each sample.
        target: What `factorize` is asked for.
        fit: How it is fitted and saved: `"eager"`, or `"traced"`, which takes seconds; `"slow"`, if
            an entry like it meets the same code; `"no"`, if its classes cannot be built again.
        weighed: True if all that is observed comes from single samples, each with one target: no
            positions that are looked up for all, no grid of which some places are drawn.
        slow: True if another entry, like it or a part of it, meets the same code.
    """

    make: Callable[[], keras.Model]
    x: Callable[[np.random.Generator, int], Any]
    leaves: frozenset[str]
    y: Callable[[np.random.Generator, int, Any], Any] | None = None
    target: tuple[str, float] = ("budget", 0.6)
    fit: str = "eager"
    weighed: bool = False
    slow: bool = False

    def data(self, samples: int = 16) -> tuple[Any, Any]:
        """Random inputs and targets."""
        rng = np.random.default_rng(0)
        x = self.x(rng, samples)
        return x, classes(rng, samples) if self.y is None else self.y(rng, samples, x)

    def compiled(self, **kwargs: Any) -> keras.Model:
        """The model, with a loss for each of its outputs."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model, (_, y) = self.make(), self.data(1)
        model.compile("adam", keras.tree.map_structure(lambda _: loss, y), **kwargs)
        return model


def chosen(
    law: Callable[[Entry], bool] = lambda _: True, slow: Callable[[Entry], bool] | None = None
) -> list[Any]:
    """The entries that a law is about, by name, as parameters of its test."""
    is_slow = slow or (lambda entry: entry.slow)
    return [
        pytest.param(entry, id=name, marks=pytest.mark.slow if is_slow(entry) else ())
        for name, entry in CATALOGUE.items()
        if law(entry)
    ]


# --- data -----------------------------------------------------------------------------------


def numbers(*shape: int) -> Callable[[np.random.Generator, int], Any]:
    return lambda rng, n: rng.normal(size=(n, *shape)).astype("float32") + 0.3


def images(rng: np.random.Generator, n: int) -> Any:
    return rng.uniform(0, 255, (n, 32, 32, 3)).astype("float32")


def words(length: int, among: int = TOKENS) -> Callable[[np.random.Generator, int], Any]:
    """Sequences, of which every other one ends in padding."""

    def make(rng: np.random.Generator, n: int) -> Any:
        x = rng.integers(1, among, (n, length)).astype("int32")
        x[::2, -2:] = 0
        return x

    return make


def words_and_places(rng: np.random.Generator, n: int) -> Any:
    return [words(LENGTH)(rng, n), np.tile(np.arange(LENGTH, dtype="int32"), (n, 1))]


def classes(rng: np.random.Generator, n: int, *shape: int) -> Any:
    return rng.integers(3, size=(n, *shape))


def next_words(rng: np.random.Generator, n: int, x: Any) -> Any:
    return np.roll(x, -1, axis=1)


# --- transformers, networks of images, towers -----------------------------------------------


def called(model: keras.Model, x: Callable[[np.random.Generator, int], Any]) -> keras.Model:
    """A model that its first call has built."""
    model(x(np.random.default_rng(0), 1))
    return model


@keras.saving.register_keras_serializable("models")
class Positions(L.Layer):
    """Adds a vector for each position: a table that is a weight of its own."""

    def build(self, input_shape: Any) -> None:
        self.table = self.add_weight(shape=input_shape[1:], name="table")

    def call(self, x: Any) -> Any:
        return x + self.table


@keras.saving.register_keras_serializable("models")
class Block(L.Layer):
    """Attention and a feed-forward part, each beside a residual."""

    def __init__(self, causal: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.causal = causal
        self.attention = L.MultiHeadAttention(2, WIDTH // 2)
        self.norms = [L.LayerNormalization() for _ in range(2)]
        self.feed = keras.Sequential([L.Dense(2 * WIDTH, activation="gelu"), L.Dense(WIDTH)])
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        self.attention.build(input_shape, input_shape)
        for norm in self.norms:
            norm.build(input_shape)
        self.feed.build(input_shape)

    def call(self, x: Any) -> Any:
        x = self.norms[0](x + self.attention(x, x, use_causal_mask=self.causal))
        return self.norms[1](x + self.feed(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "causal": self.causal}


@keras.saving.register_keras_serializable("models")
class Encoder(keras.Model):
    """A small encoder with a class for each sequence."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.tokens = L.Embedding(TOKENS, WIDTH, mask_zero=True)
        self.positions = L.Embedding(LENGTH, WIDTH)
        self.blocks = [Block() for _ in range(2)]
        self.head = {
            "pool": L.GlobalAveragePooling1D(),
            "output": L.Dense(CLASSES),
        }

    def call(self, ids: Any) -> Any:
        x = self.tokens(ids) + self.positions(keras.ops.arange(LENGTH))
        for block in self.blocks:
            x = block(x)
        return self.head["output"](self.head["pool"](x))


@keras.saving.register_keras_serializable("models")
class Decoder(keras.Model):
    """A small decoder whose output is its table of tokens, read in reverse."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.tokens = L.ReversibleEmbedding(TOKENS, WIDTH)
        self.positions = Positions()
        self.blocks = [Block(causal=True) for _ in range(2)]

    def call(self, ids: Any) -> Any:
        x = self.positions(self.tokens(ids))
        for block in self.blocks:
            x = block(x)
        return self.tokens(x, reverse=True)


def attended(x: Any, **kwargs: Any) -> Any:
    """A block of stock layers in the graph of the model itself."""
    attention = L.MultiHeadAttention(2, WIDTH // 2)(x, x, **kwargs)
    x = L.LayerNormalization()(L.Add()([x, attention]))
    y = L.Dense(2 * WIDTH, activation="gelu")(x)
    y = L.Dense(WIDTH)(y)
    return L.LayerNormalization()(L.Add()([x, y]))


def encoder() -> keras.Model:
    ids, places = keras.Input((LENGTH,), dtype="int32"), keras.Input((LENGTH,), dtype="int32")
    x = L.Embedding(TOKENS, WIDTH, mask_zero=True, name="tokens")(ids)
    x = L.Add()([x, L.Embedding(LENGTH, WIDTH, name="positions")(places)])
    x = attended(x)
    x = L.GlobalAveragePooling1D()(x)
    return keras.Model([ids, places], L.Dense(CLASSES, name="output")(x))


def decoder() -> keras.Model:
    ids = keras.Input((LENGTH,), dtype="int32")
    tokens = L.ReversibleEmbedding(TOKENS, WIDTH, name="tokens")
    x = Positions(name="positions")(tokens(ids))
    x = attended(x, use_causal_mask=True)
    return keras.Model(ids, tokens(x, reverse=True))


IMAGE = {"input_shape": (32, 32, 3), "weights": None}


def mobile_net() -> keras.Model:
    return keras.applications.MobileNetV3Small(
        **IMAGE, classes=CLASSES, classifier_activation=None, alpha=0.75
    )


def first_mobile_net() -> keras.Model:
    return keras.applications.MobileNet(
        **IMAGE, classes=CLASSES, classifier_activation=None, alpha=0.25
    )


def begun(model: keras.Model, end: str) -> keras.Model:
    """The first blocks of a network of images, up to a layer, with an output of their own."""
    x = L.GlobalAveragePooling2D()(model.get_layer(end).output)
    return keras.Model(model.input, L.Dense(CLASSES, name="output")(x))


def mobile_blocks() -> keras.Model:
    """Inverted residuals, with squeeze and excitation and without."""
    return begun(mobile_net(), "expanded_conv_5_add")


def first_mobile_blocks() -> keras.Model:
    """Depthwise convolutions, each followed by a pointwise one."""
    return begun(first_mobile_net(), "conv_pw_6_relu")


@keras.saving.register_keras_serializable("models")
class Tower(keras.Model):
    """A Functional model with recurrent layers in a Sequential, one layer frozen."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        ids = keras.Input((LENGTH,), dtype="int32")
        recurrent = keras.Sequential(
            [
                L.Embedding(TOKENS, WIDTH, mask_zero=True, name="words"),
                L.Bidirectional(L.GRU(WIDTH, return_sequences=True)),
                L.LSTM(WIDTH),
            ]
        )
        frozen = L.Dense(2 * WIDTH, activation="relu", trainable=False, name="frozen")
        self.graph = keras.Model(ids, frozen(recurrent(ids)))
        self.output_dense = L.Dense(CLASSES)

    def call(self, ids: Any) -> Any:
        return self.output_dense(self.graph(ids))


# --- what leaves, in every order that code may have -------------------------------------------


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
        super().__init__(name="head")
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


# --- one kind of layer or two, before an output ------------------------------------------------


def over(shape: tuple[int, ...], *layers: Any, dtype: str = "float32") -> keras.Model:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers, L.Dense(3, name="out")])


# Name -> what makes the model, and its inputs.
SMALL: dict[str, tuple[Callable[[], keras.Model], Any]] = {
    "dense": (lambda: over((6,), L.Dense(8, "tanh"), L.BatchNormalization()), numbers(6)),
    "convolutions": (
        lambda: over((5, 5, 2), L.Conv2D(4, 3, padding="same"), L.Conv2D(4, 2), L.Flatten()),
        numbers(5, 5, 2),
    ),
    "groups": (
        lambda: over((7, 4), L.Conv1D(4, 3, groups=2, padding="causal"), L.Flatten()),
        numbers(7, 4),
    ),
    "separable": (
        lambda: over((7, 3), L.SeparableConv1D(5, 3, padding="same"), L.Flatten()),
        numbers(7, 3),
    ),
    "transpose": (
        lambda: over((4, 4, 3), L.Conv2DTranspose(4, 2, strides=2), L.Flatten()),
        numbers(4, 4, 3),
    ),
    "einsum": (
        lambda: over((4, 6), L.EinsumDense("abc,cd->abd", (4, 5), bias_axes="d"), L.Flatten()),
        numbers(4, 6),
    ),
    "lstm": (lambda: over((4, 3), L.LSTM(5)), numbers(4, 3)),
    "both ways": (lambda: over((4, 3), L.Bidirectional(L.GRU(4))), numbers(4, 3)),
    "steps": (lambda: over((4, 3), L.TimeDistributed(L.Dense(5)), L.Flatten()), numbers(4, 3)),
    "table": (lambda: over((4,), L.Embedding(9, 6), L.Flatten(), dtype="int32"), words(4, 9)),
}


# --- the catalogue --------------------------------------------------------------------------

OUTPUT = frozenset({"output/kernel"})

CATALOGUE: dict[str, Entry] = {
    "encoder": Entry(encoder, words_and_places, OUTPUT, fit="traced"),
    "encoder of its own": Entry(
        lambda: called(Encoder(), words(LENGTH)),
        words(LENGTH),
        frozenset({"head/output/kernel"}),
    ),
    "decoder": Entry(decoder, words(LENGTH), frozenset({"tokens/embeddings"}), next_words),
    "decoder of its own": Entry(
        lambda: called(Decoder(), words(LENGTH)),
        words(LENGTH),
        frozenset({"tokens/embeddings"}),
        next_words,
        slow=True,
    ),
    "tower": Entry(
        lambda: called(Tower(), words(LENGTH)),
        words(LENGTH),
        frozenset({"output_dense/kernel"}),
        weighed=True,
    ),
    "mobile blocks": Entry(mobile_blocks, images, OUTPUT),
    "first mobile blocks": Entry(first_mobile_blocks, images, OUTPUT, slow=True),
    "mobile net": Entry(mobile_net, images, frozenset({"logits/kernel"}), slow=True),
    "first mobile net": Entry(
        first_mobile_net, images, frozenset({"conv_preds/kernel"}), slow=True
    ),
    **{
        name: Entry(make, numbers(6, 24) if name == "wrapped" else numbers(24), OUTPUT, fit="slow")
        for name, make in zoo.MODELS.items()
        if name not in ("branches", "subclassed")
    },
    "branches": Entry(
        zoo.branches,
        lambda rng, n: [numbers(24)(rng, n) for _ in range(2)],
        frozenset({"one/kernel", "two/kernel"}),
        lambda rng, n, _: [classes(rng, n) for _ in range(2)],
        fit="slow",
    ),
    "subclassed": Entry(zoo.subclassed, numbers(24), frozenset({"last/kernel"}), fit="slow"),
    "a residual stream": Entry(stream, numbers(32), frozenset({"last/kernel"}), fit="no"),
    "a stream that leaves twice": Entry(
        lambda: stream(by_graph=True),
        numbers(32),
        frozenset({"last/kernel", "middle/kernel"}),
        lambda rng, n, _: [classes(rng, n) for _ in range(2)],
        fit="slow",
    ),
    "logits that add up": Entry(
        side_by_side, numbers(32), frozenset({"deep/kernel", "linear/kernel"}), fit="slow"
    ),
    "defined in reverse": Entry(
        plain,
        numbers(32),
        frozenset({"last/kernel"}),
        lambda rng, n, _: classes(rng, n, 4),
        fit="no",
    ),
    "several outputs": Entry(
        several,
        lambda rng, n: {name: numbers(16)(rng, n) for name in "ab"},
        frozenset({"last/kernel", "other/kernel"}),
        lambda rng, n, _: {name: classes(rng, n) for name in ("first", "second")},
        fit="no",
    ),
    "logits by a table": Entry(
        logits, words(7), frozenset({"table/embeddings"}), fit="no", weighed=True
    ),
    "a head of one's own": Entry(head, numbers(32), frozenset({"head/last/kernel"}), fit="no"),
    "a recurrent head": Entry(
        lambda: head(recurrent=True),
        numbers(6, 32),
        frozenset({"head/last/cell/kernel", "head/last/cell/recurrent_kernel"}),
        target=("rank", 2),
        fit="no",
    ),
    "tied": Entry(tied, words(7), frozenset({"table/embeddings"}), fit="slow", weighed=True),
    **{
        name: Entry(
            make, x, frozenset({"out/kernel"}), target=("rank", 1), fit="slow", weighed=True
        )
        for name, (make, x) in SMALL.items()
    },
}
OWN_CLASSES = {
    keras.saving.get_registered_name(kind): kind
    for kind in (Positions, Block, Encoder, Decoder, Tower, zoo.Block, zoo.Subclassed)
}
