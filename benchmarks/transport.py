"""Optimizer state across a cut: reset, projected, or projected and corrected.

From the same trained state and on the same batches, cut a network in three ways and
watch the training loss afterwards: 784-512-512-10 from dense to rank 32, from rank 32 to
rank 8, and from rank 64 to 12 in 16 cuts. `no cut` trains on undisturbed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np
from common import command, compile_model, console, finish, load, network, parser, show, spread

from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import change_kernels, cut

WAYS = ("reset", "project", "signal")
WINDOWS = ((11, 50), (51, 200))


def train(model: keras.Model, batches: list) -> np.ndarray:
    """Loss of each batch before the step on it."""
    losses = []
    for x, y in batches:
        model.reset_metrics()
        losses.append(model.train_on_batch(x, y)[0])
    return np.array([float(loss) for loss in losses])


def to_rank(model: keras.Model, rank: int, way: str) -> None:
    """Cut every hidden kernel to a rank."""
    kernels = find_kernels(model)[:-1]
    changes = [cut(kernel, rank, decomposition(kernel)) for kernel in kernels]
    change_kernels(model, changes, at_split=way, at_truncation=way)


def batches(x: np.ndarray, y: np.ndarray, count: int, rng: np.random.Generator) -> list:
    """Random batches of 128."""
    chosen = (rng.integers(len(x), size=128) for _ in range(count))
    return [(x[i], y[i]) for i in chosen]


def optimizer(name: str) -> keras.optimizers.Optimizer:
    """An optimizer with the rate used for pre-training and after."""
    rates = {"sgd": 0.05, "rmsprop": 1e-3, "adam": 1e-3}
    extra = {"momentum": 0.9} if name == "sgd" else {}
    return keras.optimizers.get(
        {"class_name": name, "config": {"learning_rate": rates[name], **extra}}
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--optimizer", default="adam", choices=["adam", "sgd", "rmsprop"])
    options.add_argument("--warm-up", type=int, default=400, help="dense training steps")
    args = options.parse_args()
    data = load(args.data)
    console.print(f"$ {command()}")
    figures: dict[str, list] = {}
    folder = Path(tempfile.mkdtemp())
    for seed in range(args.seeds):
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        x, y = data.x_train, data.y_train
        dense, thin, thick = (folder / f"{name}.keras" for name in ("dense", "thin", "thick"))
        model = compile_model(network(data.features, (512, 512)), optimizer(args.optimizer))
        train(model, batches(x, y, args.warm_up, rng))
        model.save(dense)
        for path, rank in ((thin, 32), (thick, 64)):
            model = keras.models.load_model(dense)
            to_rank(model, rank, "signal")
            train(model, batches(x, y, 200, np.random.default_rng(seed)))
            model.save(path)
        after = batches(x, y, 200, rng)
        for name, start, rank in (("dense -> 32", dense, 32), ("32 -> 8", thin, 8)):
            for way in ("no cut", *WAYS):
                model = keras.models.load_model(start)
                if way != "no cut":
                    to_rank(model, rank, way)
                losses = train(model, after)
                for first, last in WINDOWS:
                    key = f"{name}, steps {first}-{last}|{way}"
                    figures.setdefault(key, []).append(float(losses[first - 1 : last].mean()))
        ranks = np.linspace(64, 12, 17).round().astype(int)[1:]
        for way in ("no cut", *WAYS):
            model = keras.models.load_model(thick)
            losses = []
            for rank, start in zip(ranks, range(0, 160, 10), strict=True):
                if way != "no cut":
                    to_rank(model, int(rank), way)
                losses.append(train(model, after[start : start + 10]))
            figures.setdefault(f"64 -> 12 in 16 cuts|{way}", []).append(
                float(np.concatenate(losses).mean())
            )
    names = list(dict.fromkeys(key.split("|")[0] for key in figures))
    rows = [
        [way, *(spread(figures[f"{name}|{way}"], 4) for name in names)] for way in ("no cut", *WAYS)
    ]
    show(f"mean training loss, {args.optimizer}, {args.seeds} seeds", ["after", *names], rows)
    finish(
        {
            key: {"mean": np.mean(v), "std": np.std(v, ddof=1) if len(v) > 1 else 0.0}
            for key, v in figures.items()
        }
    )


if __name__ == "__main__":
    main()
