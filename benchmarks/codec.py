"""The compact file's codec: bytes against the entropy bound, and speed on one core.

Bytes are those of a trained 784-512-512-10 network whose hidden kernels were replaced by
balanced factors of rank 40; speed is that of one large tensor of normal numbers, best of
several runs, for the codec alone and for whole files (checksums, flushing to the disk and
reading back included). The bound is zeroth order: exponents at their entropy, tensor by
tensor, signs and mantissas as they are.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import safetensors.numpy
from common import command, compile_model, console, finish, load, network, show

from reducible_train.container import read_container, write_container
from reducible_train.container.codecs import codec_for
from reducible_train.linalg.svd import decompose

EXPONENTS = {"float32": (23, 8), "bfloat16": (7, 8), "float16": (10, 5)}  # mantissa bits, own bits
DTYPES = [np.dtype(t) for t in ("float32", ml_dtypes.bfloat16, "float16")]
Tensors = dict[str, np.ndarray]


def trained_factors(data: str, epochs: int, rank: int) -> Tensors:
    """Variables of the trained network, hidden kernels as factors."""
    keras.utils.set_random_seed(1)
    splits = load(data)
    model = compile_model(network(splits.x_train.shape[1], (512, 512)))
    model.fit(splits.x_train, splits.y_train, batch_size=128, epochs=epochs, verbose=0)
    tensors = {}
    for layer in model.layers:
        kernel, bias = layer.get_weights()
        if layer.name == "output":
            tensors[f"{layer.name}/kernel"] = kernel
        else:
            factors = decompose(kernel).factors(rank)
            for side, factor in zip("uv", factors, strict=True):
                tensors[f"{layer.name}/kernel_{side}"] = factor.astype(np.float32)
        tensors[f"{layer.name}/bias"] = bias
    return tensors


def bound(values: np.ndarray) -> float:
    """Entropy bound in bytes."""
    mantissa, width = EXPONENTS[values.dtype.name]
    words = values.reshape(-1).view(f"u{values.itemsize}")
    counts = np.bincount((words >> mantissa) & ((1 << width) - 1))
    shares = counts[counts > 0] / values.size
    return values.size * (mantissa + 1 - float(np.sum(shares * np.log2(shares)))) / 8


def file_bytes(tensors: Tensors, folder: Path) -> int:
    """Length of the compact file."""
    write_container(folder / "model.reducible", {}, tensors.items())
    return (folder / "model.reducible").stat().st_size


def npz_bytes(tensors: Tensors, save: Callable) -> int:
    """Length of an npz archive."""
    stream = io.BytesIO()
    save(stream, **{name.replace("/", "."): array for name, array in tensors.items()})
    return stream.tell()


def best_rate(work: Callable[[], object], nbytes: int, repeats: int) -> float:
    """MB/s of the fastest of several runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return nbytes / min(times) / 1e6


def speeds(dtype: np.dtype, megabytes: int, repeats: int, folder: Path) -> dict[str, float]:
    """MB/s of the codec and of whole files."""
    count = megabytes * 10**6 // dtype.itemsize
    values = np.random.default_rng(1).normal(scale=0.05, size=count).astype(dtype)
    codec, path = codec_for(dtype), folder / "large.reducible"
    planes = list(codec.encode(values))

    def read() -> None:
        with read_container(path) as container:
            for _ in container:
                pass

    return {
        "encode": best_rate(lambda: list(codec.encode(values)), values.nbytes, repeats),
        "decode": best_rate(
            lambda: codec.decode(planes, dtype, values.size), values.nbytes, repeats
        ),
        "write": best_rate(
            lambda: write_container(path, {}, [("x", values)]), values.nbytes, repeats
        ),
        "read": best_rate(read, values.nbytes, repeats),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="mnist", help="digits, mnist or fashion_mnist")
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--rank", type=int, default=40)
    options.add_argument("--megabytes", type=int, default=40)
    options.add_argument("--repeats", type=int, default=5)
    args = options.parse_args()
    console.print(command())

    trained = trained_factors(args.data, args.epochs, args.rank)
    figures = {"parameters": sum(array.size for array in trained.values()), "dtypes": {}}
    sizes, rates = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dtype in DTYPES:
            tensors = {name: array.astype(dtype) for name, array in trained.items()}
            raw = sum(array.nbytes for array in tensors.values())
            lengths = {
                "raw": raw,
                "bound": sum(map(bound, tensors.values())),
                "file": file_bytes(tensors, folder),
                "codec": sum(
                    len(plane)
                    for array in tensors.values()
                    for plane in codec_for(dtype).encode(array.reshape(-1))
                ),
                "npz": npz_bytes(tensors, np.savez),
                "npz_compressed": npz_bytes(tensors, np.savez_compressed),
                "safetensors": len(safetensors.numpy.save(tensors)),
            }
            mbs = speeds(dtype, args.megabytes, args.repeats, folder)
            figures["dtypes"][dtype.name] = {"bytes": lengths, "megabytes_per_second": mbs}
            shares = [f"{100 * lengths[k] / raw:.2f}" for k in list(lengths)[1:]]
            over = f"{100 * (lengths['codec'] / lengths['bound'] - 1):.2f}"
            sizes.append((dtype.name, f"{raw:,}", *shares, over))
            rates.append((dtype.name, *(f"{rate:.0f}" for rate in mbs.values())))

    show(
        "bytes, % of raw",
        ["dtype", "raw", "bound", "file", "codec", "npz", "npz compr.", "safetensors", "over %"],
        sizes,
    )
    show("MB/s of raw bytes", ["dtype", "encode", "decode", "write file", "read file"], rates)
    finish(figures)


if __name__ == "__main__":
    main()
