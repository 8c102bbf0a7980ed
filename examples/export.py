"""Take a smaller model to where this package is not: Keras, TensorFlow, LiteRT, ONNX.

Keras's own `export` keeps the factors: what runs there are the two thin products. Only a
`.keras` file needs `to_stock_layers` first, which puts two stock layers in place of each
factorised one. The runtimes come with `pip install '.[export]'`.

    python examples/export.py
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from reducible_train import Ramp, RankScheduler, to_stock_layers
from reducible_train.datasets import Dataset, load


def trained(data: Dataset, epochs: int, budget: float | None) -> keras.Model:
    """A small network, dense or with falling ranks."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((data.features,), name="pixels")
    x = keras.layers.Dense(256, activation="relu", name="wide")(inputs)
    x = keras.layers.Dense(256, activation="relu", name="deep")(x)
    outputs = keras.layers.Dense(data.classes, activation="softmax", name="output")(x)
    model = keras.Model(inputs, outputs, name="digits")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    callbacks = []
    if budget is not None:
        ramp = Ramp(initial=1.0, final=budget, start_epoch=0, end_epoch=epochs // 2)
        callbacks.append(RankScheduler(budget=ramp))
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=callbacks, verbose=0)
    return model


def write(model: keras.Model, folder: Path) -> None:
    """The model in four formats."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = to_stock_layers(model)
    plain.save(folder / "model.keras")
    model.export(folder / "saved_model", verbose=False)
    model.export(folder / "model.tflite", format="litert", verbose=False)
    model.export(folder / "model.onnx", format="onnx", verbose=False)


def predictions(folder: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """What each file says, in its own runtime; this package is not asked."""
    from_keras = keras.saving.load_model(folder / "model.keras")
    from_tensorflow = tf.saved_model.load(folder / "saved_model")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    interpreter = Interpreter(str(folder / "model.tflite"))
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.resize_tensor_input(into["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(into["index"], x)
    interpreter.invoke()
    return {
        "model.keras": np.asarray(from_keras(x)),
        "saved_model": from_tensorflow.serve(x).numpy(),
        "model.tflite": interpreter.get_tensor(out["index"]),
        "model.onnx": session.run(None, {session.get_inputs()[0].name: x})[0],
    }


def size(path: Path) -> int:
    """Bytes of a file or of all files below a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--folder", type=Path, help="keep the files here")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("--epochs must be at least 2: the ramp needs an epoch to fall in")
    data = load(args.data)
    with tempfile.TemporaryDirectory() as temporary:
        top = args.folder or Path(temporary)
        dense = trained(data, args.epochs, None)
        model = trained(data, args.epochs, args.budget)
        write(dense, top / "dense")
        write(model, top / "smaller")
        expected = np.asarray(model(data.x_test))
        print(f"{model.count_params():,} parameters instead of {dense.count_params():,}")
        for name, found in predictions(top / "smaller", data.x_test).items():
            before, now = size(top / "dense" / name), size(top / "smaller" / name)
            off = np.abs(found - expected).max()
            print(f"{name:<13}{before:>9,} -> {now:>9,} bytes, off by at most {off:.0e}")


if __name__ == "__main__":
    main()
