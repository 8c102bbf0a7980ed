"""Latency of factorised models against dense ones: Keras, LiteRT, onnxruntime, one thread.

Each model is cut to 50 % and 25 % of its FLOPs, exported as it is, and run beside its dense
twin: blocks of calls take turns, the ratio of each pair of blocks is one measurement, the
median of them is what the table shows. Latency is processor time, which on one thread is what
a call takes where nothing else runs; the ratio of the wall clock is kept beside it. Keras is a
traced function with a fixed batch, so that the overhead of `predict` is not in it. Weights are
random, which time does not depend on; ranks are the same fraction of full rank everywhere,
because there is nothing in random kernels to choose by. First come layers alone, for which the
goal is set, then whole networks, whose FLOPs are those of their kernels.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from common import command, console, finish, network, show, use_threads

from reducible_train import LayerRule, RankError, factorize

GOAL = 1.3  # times the FLOPs fraction, at batch 64, for layers of 256 units and more
BUDGETS = (0.5, 0.25)
BATCHES = (1, 64)
Run = Callable[[], Any]


# --- models ---------------------------------------------------------------------------


def dense_layers(units: int) -> keras.Model:
    """Eight, so that the call from Python weighs little beside them."""
    layers = [keras.layers.Dense(units, activation="relu", name=f"layer_{i}") for i in range(8)]
    return keras.Sequential([keras.Input((units,)), *layers])


def convolution(filters: int) -> keras.Model:
    """On feature maps of the size they have in the network below."""
    layer = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name="layer_0")
    return keras.Sequential([keras.Input((8, 8, filters)), layer])


def mlp() -> keras.Model:
    return network(784, (1024, 1024, 512))


def vgg() -> keras.Model:
    layers: list[Any] = [keras.Input((32, 32, 3))]
    for filters in (64, 128, 256):
        for _ in range(2):
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", activation="relu"))
        layers.append(keras.layers.MaxPooling2D())
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dense(10, name="output"),
    ]
    return keras.Sequential(layers)


def encoder(width: int = 256, length: int = 64, blocks: int = 2) -> keras.Model:
    """Attention and a feed-forward part of four times the width, normalised before each."""
    inputs = keras.Input((length, width))
    x = inputs
    for _ in range(blocks):
        y = keras.layers.LayerNormalization()(x)
        x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(4, width // 4)(y, y)])
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(4 * width, activation="relu")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(width)(y)])
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="output")(x))


LAYERS = {
    "8 x Dense 256": lambda: dense_layers(256),
    "8 x Dense 512": lambda: dense_layers(512),
    "8 x Dense 1024": lambda: dense_layers(1024),
    "Conv2D 256": lambda: convolution(256),
}
NETWORKS = {"MLP": mlp, "VGG": vgg, "encoder": encoder}


def pair(make: Callable[[], keras.Model], budget: float) -> tuple[keras.Model, keras.Model, float]:
    """The dense model, its factorised twin, and the fraction of the FLOPs that is left."""
    dense, model = make(), make()
    layers_alone = model.layers[-1].name.startswith("layer")
    rules = [LayerRule("layer_*", keep_dense=False)] if layers_alone else []
    report = factorize(model, budget=budget, measure="flops", allocation="uniform", rules=rules)
    return dense, model, report.flops_fraction


# --- runtimes -------------------------------------------------------------------------


def in_keras(model: keras.Model, x: np.ndarray, folder: Path) -> Run:
    data = tf.constant(x)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(data)
    return lambda: function(data)


def in_litert(model: keras.Model, x: np.ndarray, folder: Path) -> Run:
    path = folder / "model.tflite"
    model.export(path, format="litert", verbose=False, input_signature=[tf.TensorSpec(x.shape)])
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]["index"]
    out = interpreter.get_output_details()[0]["index"]

    def run() -> np.ndarray:
        interpreter.set_tensor(into, x)
        interpreter.invoke()
        return interpreter.get_tensor(out)

    return run


def in_onnxruntime(model: keras.Model, x: np.ndarray, folder: Path) -> Run:
    path = folder / "model.onnx"
    model.export(path, format="onnx", verbose=False, input_signature=[tf.TensorSpec(x.shape)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed)[0]


RUNTIMES = {"Keras": in_keras, "LiteRT": in_litert, "onnxruntime": in_onnxruntime}
PACKAGES = ("ai-edge-litert", "onnxruntime", "tf2onnx")


# --- measuring ------------------------------------------------------------------------


def seconds(run: Run, calls: int) -> np.ndarray:
    """Processor time and wall time of a call."""
    started = time.process_time(), time.perf_counter()
    for _ in range(calls):
        run()
    ended = time.process_time(), time.perf_counter()
    return np.subtract(ended, started) / calls


def compare(dense: Run, factorised: Run, args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a call of each, and the median of the ratios of neighbours."""
    assert dense().shape == factorised().shape
    once = max(seconds(dense, 2)[0], seconds(factorised, 1)[0])
    calls = max(1, round(args.block_seconds / max(once, 1e-6)))
    pairs = []
    for turn in range(args.rounds):
        order = (dense, factorised) if turn % 2 else (factorised, dense)
        times = {run: seconds(run, calls) for run in order}
        pairs.append((times[dense], times[factorised]))
    both = np.array(pairs)  # rounds, models, clocks
    cpu, wall = np.median(both[:, 1] / both[:, 0], axis=0)
    dense_ms, factorised_ms = 1e3 * np.median(both[:, :, 0], axis=0)
    return {
        "dense_ms": dense_ms,
        "factorised_ms": factorised_ms,
        "latency_fraction": cpu,
        "wall_clock_fraction": wall,
    }


def measure(
    name: str, make: Callable[[], keras.Model], args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Every batch size and budget of one model, in each runtime."""
    for budget in BUDGETS:
        keras.utils.set_random_seed(0)
        try:
            dense, model, fraction = pair(make, budget)
        except RankError as error:
            console.print(f"{name} at {budget:.0%}: {error}")
            continue
        assert fraction is not None
        for batch in BATCHES:
            x = np.random.default_rng(0).normal(size=(batch, *model.input_shape[1:]))
            x = x.astype("float32")
            row = {"model": name, "budget": budget, "batch": batch, "flops_fraction": fraction}
            with tempfile.TemporaryDirectory() as folder:
                places = Path(folder) / "dense", Path(folder) / "factorised"
                for place in places:
                    place.mkdir()
                for runtime, load in RUNTIMES.items():
                    runs = load(dense, x, places[0]), load(model, x, places[1])
                    row[runtime] = compare(*runs, args)
            yield row


def cell(row: dict[str, Any], runtime: str) -> str:
    return f"{row[runtime]['latency_fraction']:.2f} ({row[runtime]['dense_ms']:.3g} ms)"


def goal(
    rows: list[dict[str, Any]], limit: Callable[[dict[str, Any]], float]
) -> tuple[bool, list[str]]:
    """Whether the latency fraction is within the limit everywhere, and where it is not."""
    missed = [
        f"{row['model']} at {row['budget']:.0%}, batch {row['batch']}, {runtime}: "
        f"{row[runtime]['latency_fraction']:.2f} against {limit(row):.2f}"
        for row in rows
        for runtime in RUNTIMES
        if row[runtime]["latency_fraction"] > limit(row)
    ]
    return not missed, missed


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--block-seconds", type=float, default=0.02)
    options.add_argument("--only", nargs="+", choices=[*LAYERS, *NETWORKS])
    args = options.parse_args()
    use_threads(1)
    console.print(f"$ {command()}")
    chosen = args.only or [*LAYERS, *NETWORKS]
    tables = {"layers alone": LAYERS, "networks": NETWORKS}
    rows: dict[str, list[dict[str, Any]]] = {}
    for title, models in tables.items():
        rows[title] = [
            row
            for name, make in models.items()
            if name in chosen
            for row in measure(name, make, args)
        ]
        if not rows[title]:
            continue
        show(
            f"{title}, one thread: latency of the factorised over the dense (of the dense in ms)",
            ["model", "budget", "batch", "FLOPs", *RUNTIMES],
            [
                [row["model"], f"{row['budget']:.0%}", row["batch"], f"{row['flops_fraction']:.2f}"]
                + [cell(row, runtime) for runtime in RUNTIMES]
                for row in rows[title]
            ],
        )
    large = [row for row in rows["layers alone"] if row["batch"] == 64]
    every = [row for some in rows.values() for row in some]
    goals = {
        f"layers of 256 units and more, batch 64: at most {GOAL} times the FLOPs fraction": goal(
            large, lambda row: GOAL * row["flops_fraction"]
        ),
        "nothing slower than dense": goal(every, lambda row: 1.0),
    }
    for text, (reached, missed) in goals.items():
        console.print(f"{'reached' if reached else 'MISSED '}  {text}")
        for each in missed:
            console.print(f"         {each}")
    finish(
        {
            "rows": every,
            "goals": {text: reached for text, (reached, _) in goals.items()},
            "missed": {text: missed for text, (_, missed) in goals.items()},
            "settings": vars(args),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        }
    )


if __name__ == "__main__":
    main()
