"""The file of a trained, factorised model: bytes against the bound, the others, the promise.

784-512-512-10, hidden layers ramped down to rank 40 in `fit`. Every storage holds the same
float32 weights; the bound is the entropy bound of `codec.py`. The promise is the parameter
count: the reduction of the file, against the dense `.keras` WITHOUT optimizer state, must
be at least that of the parameters. MB/s are of the raw weights, best of several runs:
those of the codec for large tensors are measured by `codec.py`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
import safetensors.numpy
from codec import best_rate, bound, npz_bytes, speeds
from common import command, compile_model, console, finish, keras_bytes, load, network, show

from reducible_train import Ramp, RankScheduler, load_model, save_model
from reducible_train.container.codecs import codec_for

HIDDEN = (512, 512)


def trained(data, args) -> tuple[keras.Model, RankScheduler]:
    """The network after its fit."""
    keras.utils.set_random_seed(1)
    model = compile_model(network(data.features, HIDDEN))
    last = args.epochs // 2
    ramp = Ramp(initial=min(HIDDEN), final=args.rank, start_epoch=1, end_epoch=last)
    scheduler = RankScheduler(rank=ramp)
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=128,
        epochs=args.epochs,
        callbacks=[scheduler],
        verbose=0,
    )
    return model, scheduler


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="mnist", help="digits, mnist or fashion_mnist")
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--rank", type=int, default=40)
    options.add_argument("--repeats", type=int, default=7)
    options.add_argument("--megabytes", type=int, default=40)
    args = options.parse_args()
    console.print(f"$ {command()}")
    data = load(args.data)
    model, scheduler = trained(data, args)
    dense = network(data.features, HIDDEN)
    tensors = {w.path: np.ascontiguousarray(w.numpy()) for w in model.weights}
    raw = sum(array.nbytes for array in tensors.values())
    least = sum(map(bound, tensors.values()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "model.reducible"
        saved = save_model(model, path, scheduler.report)
        codec = codec_for(np.dtype(np.float32))
        planes = {n: list(codec.encode(a.reshape(-1))) for n, a in tensors.items()}
        payload = sum(len(plane) for made in planes.values() for plane in made)
        lengths = {
            "raw float32": raw,
            "entropy bound": least,
            "compact file": saved.bytes,
            "compact file, its planes alone": payload,
            "compact file, without report": save_model(model, folder / "bare.reducible").bytes,
            "npz": npz_bytes(tensors, np.savez),
            "npz, compressed": npz_bytes(tensors, np.savez_compressed),
            "safetensors": len(safetensors.numpy.save(tensors)),
            ".keras, without optimizer": keras_bytes(model, folder),
            ".keras, with optimizer": keras_bytes(model, folder, optimizer=True),
        }
        dense_bytes = keras_bytes(dense, folder)
        loaded = load_model(path)
        again = all(
            np.array_equal(a.numpy().view(np.uint32), b.numpy().view(np.uint32))
            for a, b in zip(model.weights, loaded.weights, strict=True)
        )
        flips = np.argmax(model.predict(data.x_test, verbose=0), 1) != np.argmax(
            loaded.predict(data.x_test, verbose=0), 1
        )
        flat = {n: a.reshape(-1) for n, a in tensors.items()}
        rates = {
            "encode the weights": best_rate(
                lambda: [list(codec.encode(a)) for a in flat.values()], raw, args.repeats
            ),
            "decode the weights": best_rate(
                lambda: [codec.decode(planes[n], a.dtype, a.size) for n, a in flat.items()],
                raw,
                args.repeats,
            ),
            "save_model": best_rate(lambda: save_model(model, path), raw, args.repeats),
            "load_model": best_rate(lambda: load_model(path), raw, args.repeats),
        }
        large = speeds(np.dtype(np.float32), args.megabytes, args.repeats, folder)
        rates |= {f"{what}, {args.megabytes} MB tensor": rate for what, rate in large.items()}

    show(
        f"{args.data}, rank {args.rank}, {model.count_params():,} parameters",
        ["storage", "bytes", "% of raw", "% over the bound"],
        [
            [n, f"{v:,.0f}", f"{100 * v / raw:.2f}", f"{100 * (v / least - 1):+.2f}"]
            for n, v in lengths.items()
        ],
    )
    show("speed", ["", "MB/s"], [[what, f"{rate:.0f}"] for what, rate in rates.items()])
    predicted = 1 - model.count_params() / dense.count_params()
    actual = {
        n: 1 - lengths[n] / dense_bytes
        for n in ("compact file", ".keras, without optimizer", ".keras, with optimizer")
    }
    show(
        "reduction, of the parameters and of the files",
        ["", "%"],
        [
            ["predicted: parameters", f"{100 * predicted:.2f}"],
            *([f"actual: {n}", f"{100 * v:.2f}"] for n, v in actual.items()),
        ],
    )
    goals = {
        "actual reduction at least the predicted one": actual["compact file"] >= predicted,
        "file at most 0.84 of 4 bytes a parameter, plus 1.5 KB": saved.bytes <= 0.84 * raw + 1536,
        "planes at most 1.005 of the bound": payload <= 1.005 * least,
        "weights and predictions the same after loading": again and not flips.any(),
        "encode at least 100 MB/s, decode at least 200": large["encode"] >= 100
        and large["decode"] >= 200,
    }
    for goal, reached in goals.items():
        console.print(f"{'reached' if reached else 'MISSED '}  {goal}")
    finish(
        {
            "parameters": model.count_params(),
            "bytes": lengths,
            "dense_keras_bytes": dense_bytes,
            "predicted_reduction": predicted,
            "actual_reduction": actual,
            "megabytes_per_second": rates,
            "settings": vars(args),
            "goals": {goal: bool(reached) for goal, reached in goals.items()},
        }
    )


if __name__ == "__main__":
    main()
