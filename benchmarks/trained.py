"""What `finetune.py` starts from: networks, how they are trained, and how much is then removed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from common import load
from published import fraction_left, lenet5, mlp
from text import CHARACTERS, LENGTH, load_text
from ways import Recipe

from reducible_train.datasets import Dataset

layers = keras.layers


def convolution(x: Any, filters: int, name: str, *, strides: int = 1, size: int = 3) -> Any:
    """A convolution without bias, and its normalisation."""
    options = {"strides": strides, "padding": "same", "use_bias": False}
    x = layers.Conv2D(filters, size, name=name, **options)(x)
    return layers.BatchNormalization(name=f"{name}_norm")(x)


def vgg() -> keras.Model:
    """Four 3 x 3 convolutions with BatchNorm in three blocks, two dense layers."""
    inputs = x = keras.Input((28, 28, 1))
    for block, (filters, depth) in enumerate(((16, 1), (32, 1), (64, 2)), start=1):
        for index in range(1, depth + 1):
            x = layers.ReLU()(convolution(x, filters, f"conv_{block}_{index}"))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(128, activation="relu", name="hidden")(layers.Flatten()(x))
    x = layers.Dropout(0.3)(x)
    return keras.Model(inputs, layers.Dense(10, name="output")(x))


def resnet() -> keras.Model:
    """A stem of stride 2 and three residual blocks of 16, 32 and 64 filters, with BatchNorm."""
    inputs = keras.Input((28, 28, 1))
    x = layers.ReLU()(convolution(inputs, 16, "stem", strides=2))
    for block, (filters, strides) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
        shortcut = x
        if strides > 1:
            shortcut = convolution(x, filters, f"shortcut_{block}", strides=strides, size=1)
        x = layers.ReLU()(convolution(x, filters, f"conv_{block}_1", strides=strides))
        x = convolution(x, filters, f"conv_{block}_2")
        x = layers.ReLU()(layers.Add()([x, shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, name="output")(x))


def transformer(features: int = 128) -> keras.Model:
    """Two causal encoder blocks of four heads; four times as many hidden units as features."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    positions = keras.ops.cumsum(keras.ops.ones_like(tokens), axis=1) - 1
    x = layers.Embedding(CHARACTERS, features, name="characters")(tokens)
    x = x + layers.Embedding(LENGTH, features, name="positions")(positions)
    for block in (1, 2):
        y = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(4, features // 4, name=f"attention_{block}")
        x = x + attention(y, y, use_causal_mask=True)
        y = layers.Dense(4 * features, activation="gelu", name=f"wide_{block}")(
            layers.LayerNormalization()(x)
        )
        x = x + layers.Dense(features, name=f"narrow_{block}")(y)
    x = layers.LayerNormalization()(x)
    return keras.Model(tokens, layers.Dense(CHARACTERS, name="output")(x))


def lstm() -> keras.Model:
    """An LSTM of 256 units on characters of 64 features."""
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(CHARACTERS, 64, name="characters"),
            layers.LSTM(256, return_sequences=True, name="lstm"),
            layers.Dense(CHARACTERS, name="output"),
        ]
    )


@dataclass(frozen=True)
class Network:
    """A network, its data, and how it was trained; it is trained on for a third as long.

    Args:
        recipe: Of the training.
        data: Name of the data.
        samples: How many of them.
        rate: Where the learning rate of the fine-tuning begins, as a fraction of the training's,
            for the dense network as well: of 0.5, 1 and 2 the one with which that was better on the
            validation split.
    """

    recipe: Recipe
    data: str = "mnist"
    samples: int = 20_000
    rate: float = 0.5

    @property
    def epochs(self) -> int:
        """Of the fine-tuning."""
        return self.recipe.epochs // 3


IMAGE = (28, 28, 1)
NETWORKS = {
    "lenet5": Network(Recipe(lenet5, 9, 2e-3, image=IMAGE, batch_size=64)),
    "vgg": Network(Recipe(vgg, 9, 2e-3, image=IMAGE, batch_size=64), "fashion_mnist"),
    "resnet": Network(Recipe(resnet, 9, 4e-3, image=IMAGE, batch_size=64), "fashion_mnist"),
    "transformer": Network(Recipe(transformer, 9, 2e-3, batch_size=32), "text", 12_000, 2.0),
    "transformer_256": Network(
        Recipe(partial(transformer, 256), 9, 2e-3, batch_size=32), "text", 12_000, 2.0
    ),
    "lstm": Network(Recipe(lstm, 9, 3e-3, batch_size=32), "text", 12_000, 2.0),
    "origin": Network(Recipe(mlp(128, 128, 128), 9, 3e-3), samples=50_000, rate=2.0),
}


@dataclass(frozen=True)
class Cell:
    """A network and how much of it is removed.

    Args:
        network: Name of the network.
        removed: The fraction.
        points: What may be lost; `None` where nothing was asked for.
        counted: What it is a fraction of: `"weights"` (of kernels), `"parameters"`, `"flops"`.
        rise: Of the loss, in percent, that will do as well; `None` if only points count.
    """

    network: str
    removed: float
    points: float | None
    counted: str = "parameters"
    rise: float | None = None
    flops = 0.0  # asks for none beside

    @property
    def goals(self) -> dict[float, float | None]:
        """As `records` reads it."""
        return {self.removed: self.points}

    def target(self, dense: keras.Model) -> dict[str, Any]:
        """Budget and measure for the package."""
        if self.counted == "flops":
            return {"budget": 1 - self.removed, "measure": "flops"}
        return {"budget": fraction_left(dense, self.removed, self.counted)}


CELLS = {
    "lenet5, 90 %": Cell("lenet5", 0.9, 0.1, "weights"),
    "lenet5, 95.3 %": Cell("lenet5", 0.953, 0.3, "weights"),
    "vgg, 80 %": Cell("vgg", 0.8, 0.3),
    "vgg, 93 %": Cell("vgg", 0.93, None),
    "vgg, half of the FLOPs": Cell("vgg", 0.5, 0.3, "flops"),
    "resnet, 60 %": Cell("resnet", 0.6, 0.3),
    "transformer, half": Cell("transformer", 0.5, 0.2, rise=1.0),
    "transformer_256, half": Cell("transformer_256", 0.5, 0.2, rise=1.0),
    "lstm, half": Cell("lstm", 0.5, 0.2, rise=1.0),
    "origin, 82 %": Cell("origin", 0.82, 0.3),
}


def data_of(network: Network, share: float) -> Dataset:
    """A share of its training samples; of the others, up to 5,000 join the validation split."""
    data = load_text() if network.data == "text" else load(network.data)
    first = round(share * network.samples)
    rest = slice(first, first + (0 if network.data == "text" else 5000))
    return replace(
        data,
        x_train=data.x_train[:first],
        y_train=data.y_train[:first],
        x_val=np.concatenate([data.x_val, data.x_train[rest]]),
        y_val=np.concatenate([data.y_val, data.y_train[rest]]),
    )
