"""What the callbacks themselves cost in a fit: spectra, allocation, surgery, records, logs.

Every hook of `RankScheduler` and `RankTensorBoard` is timed from outside; tracing the new
train function is not in it (it happens in the next step, and is counted in
`training_speed.py`). Two dense epochs, ramp over four, ten at the final size. Cuts are judged
by the kernels alone, and by default: by the data, the answers before and after each cut compared.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

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

from reducible_train import Cadence, Ramp, RankScheduler, RankTensorBoard

GOAL = 0.03
PARTS = ("spectra", "allocation", "surgery")
HOOKS = (
    "train_begin",
    "epoch_begin",
    "train_batch_begin",
    "train_batch_end",
    "epoch_end",
    "train_end",
)


def timed(callback: keras.callbacks.Callback) -> dict[str, float]:
    """Let every hook of a callback add its wall time to a dictionary."""
    spent = dict.fromkeys(HOOKS, 0.0)

    def wrap(hook: str, method: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[hook] += time.perf_counter() - started

        return run

    for hook in HOOKS:
        method = getattr(callback, f"on_{hook}")
        if method.__func__ is not getattr(keras.callbacks.Callback, f"on_{hook}"):
            setattr(callback, f"on_{hook}", wrap(hook, method))
    return spent


def measured(
    args: Any, data: Any, *, compare: bool, **settings: Any
) -> tuple[dict[str, list[float]], int]:
    """Seconds of each part by seed, and how many cuts were made."""
    seconds: dict[str, list[float]] = {}
    cuts = 0
    for seed in range(args.seeds):
        keras.utils.set_random_seed(seed)
        model = compile_model(network(data.features, args.hidden))
        scheduler = RankScheduler(
            budget=Ramp(initial=1.0, final=args.budget, start_epoch=2, end_epoch=6),
            cadence=Cadence(steps=args.steps, epochs=None if args.steps else 1, compare=compare),
            **settings,
        )
        with tempfile.TemporaryDirectory() as logs:
            board = RankTensorBoard(scheduler, logs)
            spent = {"scheduler": timed(scheduler), "companion": timed(board)}
            started = time.perf_counter()
            model.fit(
                data.x_train,
                data.y_train,
                batch_size=args.batch_size,
                epochs=args.epochs,
                callbacks=[scheduler, board],
                verbose=0,
            )
            wall = time.perf_counter() - started
        made = scheduler.report.cuts
        cuts = len(made)
        row = {part: sum(cut.seconds[part] for cut in made) for part in PARTS}
        total = sum(spent["scheduler"].values())
        row["the rest (survey, records, logs)"] = total - sum(row.values())
        row["RankScheduler"] = total
        row["RankTensorBoard"] = sum(spent["companion"].values())
        row["fit"] = wall
        for name, value in row.items():
            seconds.setdefault(name, []).append(value)
    return seconds, cuts


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(seeds=3)
    options.add_argument("--hidden", type=int, nargs="+", default=[512, 512])
    options.add_argument("--budget", type=float, default=0.1)
    options.add_argument("--epochs", type=int, default=16)
    options.add_argument("--batch-size", type=int, default=256)
    options.add_argument("--steps", type=int, help="cadence in steps instead of epochs")
    options.add_argument("--threads", type=int, default=1)
    args = options.parse_args()
    use_threads(args.threads)
    console.print(f"$ {command()}")
    data = load(args.data)
    ways = {
        "the kernels alone": {"criterion": "frobenius", "compare": False},
        "the data, answers compared": {"compare": True},
    }
    found = {}
    for way, settings in ways.items():
        seconds, cuts = measured(args, data, **settings)
        fractions = {n: float(np.median(np.divide(v, seconds["fit"]))) for n, v in seconds.items()}
        show(
            f"{args.data}, hidden {args.hidden}, batch {args.batch_size}, {cuts} cuts judged by "
            f"{way}, median of {args.seeds}",
            ["part", "seconds", "% of the fit"],
            [[n, f"{np.median(v):.3f}", f"{100 * fractions[n]:.2f}"] for n, v in seconds.items()],
        )
        found[way] = {"cuts": cuts, "seconds": seconds, "fraction_of_fit": fractions}
    own, by_data = found.values()
    reached = own["fraction_of_fit"]["RankScheduler"] <= GOAL
    console.print(f"{'reached' if reached else 'MISSED '}  at most {GOAL:.0%} of the fit")
    finish(
        {
            **own,
            "by_data": by_data,
            "settings": vars(args),
            "goals": {f"at most {GOAL} of the fit": reached},
        }
    )


if __name__ == "__main__":
    main()
