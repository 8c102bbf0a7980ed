"""A causal transformer that predicts characters, at half of its size; it writes before and after.

The text is this package's own documentation, as Python keeps it in docstrings.

    python examples/transformer.py
"""

from __future__ import annotations

import argparse
import pydoc

import keras
import numpy as np

from reducible_train import RankScheduler

LENGTH = 32


def text() -> str:
    """English about Keras layers, some hundred thousand characters."""
    told = [pydoc.getdoc(getattr(keras.layers, name)) for name in dir(keras.layers)]
    return "\n\n".join(part for part in told if len(part) > 200)


def network(characters: int) -> keras.Model:
    """Two blocks of attention and two dense layers each."""
    tokens = keras.Input((LENGTH,), dtype="int32")
    positions = keras.ops.cumsum(keras.ops.ones_like(tokens), axis=1) - 1
    x = keras.layers.Embedding(characters, 64, name="characters")(tokens)
    x = x + keras.layers.Embedding(LENGTH, 64, name="positions")(positions)
    for block in (1, 2):
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(4, 16, name=f"attention_{block}")(
            y, y, use_causal_mask=True
        )
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(256, activation="gelu", name=f"wide_{block}")(y)
        x = x + keras.layers.Dense(64, name=f"narrow_{block}")(y)
    return keras.Model(tokens, keras.layers.Dense(characters, name="output")(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=4000, help="of 32 characters")
    parser.add_argument("--epochs", type=int, default=6, help="of the training; then a third of it")
    args = parser.parse_args()
    corpus = text()
    alphabet = sorted(set(corpus))
    codes = np.array([alphabet.index(character) for character in corpus], dtype="int32")
    starts = np.random.default_rng(0).integers(0, len(codes) - LENGTH - 1, args.windows)
    x = np.stack([codes[start : start + LENGTH] for start in starts])
    y = np.stack([codes[start + 1 : start + 1 + LENGTH] for start in starts])

    keras.utils.set_random_seed(0)
    model = network(len(alphabet))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)

    def written(start: str, length: int = 60) -> str:
        while len(start) < length:
            window = [alphabet.index(c) for c in start[-LENGTH:]]
            padded = np.array([window + [0] * (LENGTH - len(window))], dtype="int32")
            logits = np.asarray(model(padded, training=False))[0, len(window) - 1]
            start += alphabet[int(logits.argmax())]
        return start

    model.fit(x, y, epochs=args.epochs, verbose=0, validation_split=0.1)
    print(f"dense: {written('The layer ')!r}")

    model.compile(keras.optimizers.Adam(1e-3), loss)
    scheduler = RankScheduler(0.5)
    fit = {"epochs": max(1, args.epochs // 3), "validation_split": 0.1, "verbose": 0}
    model.fit(x, y, callbacks=[scheduler], **fit)
    print(scheduler.report)
    print(f"half the size: {written('The layer ')!r}")


if __name__ == "__main__":
    main()
