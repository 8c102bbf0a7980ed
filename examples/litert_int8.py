"""Low rank, then 8 bits: what each takes from a LiteRT file, and what both do.

pip install '.[export]'; python examples/litert_int8.py
"""

from __future__ import annotations

import argparse
import tempfile

import keras
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from reducible_train import RankScheduler
from reducible_train.datasets import Dataset, load


def converted(model: keras.Model, data: Dataset, *, int8: bool) -> bytes:
    """A LiteRT file; its kernels in 8 bits with ranges that samples tell, if asked for."""
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([row[None]] for row in data.x_train[:200])
        return converter.convert()


def accuracy(file: bytes, data: Dataset) -> float:
    """Of the test split, as a phone would find it."""
    interpreter = Interpreter(model_content=file)
    interpreter.resize_tensor_input(0, data.x_test.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], data.x_test)
    interpreter.invoke()
    answers = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return float((answers.argmax(axis=1) == data.y_test).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12, help="of the training; then a third")
    args = parser.parse_args()
    data = load("digits")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(512, activation="relu", name="hidden_1"),
            keras.layers.Dense(512, activation="relu", name="hidden_2"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(data.x_train, data.y_train, epochs=args.epochs, verbose=0)
    files = {"dense": converted(model, data, int8=False)}
    files["dense, int8"] = converted(model, data, int8=True)

    model.compile(keras.optimizers.Adam(5e-4), "sparse_categorical_crossentropy")
    callbacks = [RankScheduler(0.15)]
    epochs = max(1, args.epochs // 3)
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=callbacks, verbose=0)
    files["low rank"] = converted(model, data, int8=False)
    files["low rank, int8"] = converted(model, data, int8=True)
    for name, file in files.items():
        print(f"{name:15} {len(file):9,} bytes, test accuracy {accuracy(file, data):.4f}")


if __name__ == "__main__":
    main()
