"""Training speed: dense against rank 20, step by step and fit by fit.

784-512-512-10, batch 256. Whole fits alternate between dense and `RankScheduler` (two
dense epochs, rank falling over the next four, the rest at rank 20); their wall time holds
everything: spectra, surgery, retracing. Then the two last trained models take turns in
blocks of training steps inside `fit`; the ratio of each pair of blocks is one measurement,
so what else the machine does meets both.
"""

from __future__ import annotations

import time

import keras
import numpy as np
from common import (
    command,
    compile_model,
    console,
    finish,
    load,
    network,
    parser,
    show,
    use_threads,
)

from reducible_train import Ramp, RankScheduler
from reducible_train.datasets import Dataset

HIDDEN = (512, 512)
STEP_GOAL, FIT_GOAL = 2.5, 0.75


class StepClock(keras.callbacks.Callback):
    """Seconds between the ends of training steps; the first step of a fit is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> np.ndarray:
        return np.diff(self.ends)


def fit(
    data: Dataset, seed: int, args, callbacks: list
) -> tuple[keras.Model, float, dict[str, list[float]]]:
    """A fresh model, the wall time of its fit, and its history."""
    keras.utils.set_random_seed(seed)
    model = compile_model(network(data.features, HIDDEN))
    started = time.perf_counter()
    history = model.fit(
        data.x_train,
        data.y_train,
        batch_size=args.batch_size,
        epochs=args.epochs,
        validation_data=(data.x_val, data.y_val),
        callbacks=callbacks,
        verbose=0,
    )
    return model, time.perf_counter() - started, history.history


def block(model: keras.Model, data: Dataset, args) -> float:
    """Median seconds of a training step in one block."""
    count = (args.steps + 1) * args.batch_size
    clock = StepClock()
    model.fit(
        data.x_train[:count],
        data.y_train[:count],
        batch_size=args.batch_size,
        callbacks=[clock],
        verbose=0,
    )
    return float(np.median(clock.seconds))


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(seeds=3)
    options.add_argument("--epochs", type=int, default=16)
    options.add_argument("--batch-size", type=int, default=256)
    options.add_argument("--rank", type=int, default=20)
    options.add_argument("--blocks", type=int, default=15, help="pairs of blocks of steps")
    options.add_argument("--steps", type=int, default=100, help="steps in a block")
    options.add_argument("--threads", type=int, default=1)
    args = options.parse_args()
    use_threads(args.threads)
    console.print(f"$ {command()}")
    data = load(args.data)

    fits: dict[str, list[float]] = {"dense": [], "ramp": []}
    quality: dict[str, list[float]] = {"dense": [], "ramp": []}
    own: list[float] = []
    models = {}
    for seed in range(args.seeds):
        for name in ("dense", "ramp") if seed % 2 == 0 else ("ramp", "dense"):
            ramp = Ramp(initial=min(HIDDEN), final=args.rank, start_epoch=2, end_epoch=6)
            scheduler = RankScheduler(rank=ramp)
            callbacks = [scheduler] if name == "ramp" else []
            models[name], seconds, history = fit(data, seed, args, callbacks)
            fits[name].append(seconds)
            quality[name].append(100 * history["val_accuracy"][-1])
            if name == "ramp":
                own.append(scheduler.seconds)
        console.print(
            f"seed {seed}: dense {fits['dense'][-1]:.1f} s, ramp {fits['ramp'][-1]:.1f} s"
        )

    steps: dict[str, list[float]] = {"dense": [], "ramp": []}
    for name in models:
        block(models[name], data, args)  # traces, and warms up
    for turn in range(args.blocks):
        for name in ("dense", "ramp") if turn % 2 == 0 else ("ramp", "dense"):
            steps[name].append(block(models[name], data, args))

    faster = np.array(steps["dense"]) / steps["ramp"]
    wall = np.array(fits["ramp"]) / fits["dense"]
    show(
        f"{args.data}, batch {args.batch_size}, rank {args.rank}, {args.threads} thread(s)",
        ["", "dense", f"rank {args.rank}", "median ratio", "lowest", "highest", "goal"],
        [
            [
                f"a step, ms (median of {args.blocks} blocks)",
                *(f"{1e3 * np.median(steps[name]):.2f}" for name in steps),
                f"{np.median(faster):.2f} x faster",
                f"{faster.min():.2f}",
                f"{faster.max():.2f}",
                f">= {STEP_GOAL}",
            ],
            [
                f"a fit of {args.epochs} epochs, s (median of {args.seeds})",
                *(f"{np.median(fits[name]):.1f}" for name in fits),
                f"{np.median(wall):.2f} of the time",
                f"{wall.min():.2f}",
                f"{wall.max():.2f}",
                f"<= {FIT_GOAL}",
            ],
            [
                "validation accuracy, %",
                *(f"{np.mean(quality[name]):.2f}" for name in quality),
                *[""] * 4,
            ],
        ],
    )
    finish(
        {
            "step_milliseconds": {name: 1e3 * np.median(v) for name, v in steps.items()},
            "step_speedup": {
                "median": np.median(faster),
                "lowest": faster.min(),
                "highest": faster.max(),
            },
            "fit_seconds": fits,
            "fit_fraction": {
                "median": np.median(wall),
                "lowest": wall.min(),
                "highest": wall.max(),
            },
            "callback_seconds": own,
            "validation_accuracy": quality,
            "settings": vars(args),
            "goals": {
                f"a step {STEP_GOAL} times faster": bool(np.median(faster) >= STEP_GOAL),
                f"a fit in {FIT_GOAL} of the time": bool(np.median(wall) <= FIT_GOAL),
            },
        }
    )


if __name__ == "__main__":
    main()
