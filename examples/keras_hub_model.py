"""A model of keras-hub, cut by the same callback; here a small BERT with random weights.

With a network: `keras_hub.models.BertTextClassifier.from_preset("bert_tiny_en_uncased")`.

    pip install keras-hub; python examples/keras_hub_model.py
"""

from __future__ import annotations

import argparse

import keras
import keras_hub
import numpy as np

from reducible_train import RankScheduler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=500,
        num_layers=2,
        num_heads=2,
        hidden_dim=64,
        intermediate_dim=128,
        max_sequence_length=16,
    )
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2)
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 500, (256, 16))
    x = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
    }
    y = (tokens[:, 1] < 250).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    scheduler = RankScheduler(0.6)
    model.fit(x, y, epochs=args.epochs, callbacks=[scheduler], verbose=0)
    print(scheduler.report)
    print(f"answers of shape {model.predict(x, verbose=0).shape}")


if __name__ == "__main__":
    main()
