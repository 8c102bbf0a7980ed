"""How small a network gets where the accuracy is given, not the size.

784-128-128-128-10: `RankScheduler(search=Search(), guard=Guard("val_accuracy", max_drop))` steps
its budget down during one fit and keeps the smallest that the validation metric recovers from.
Beside it, the dense network, trained on the same samples for as long; both with one cosine decay
over all epochs. The guard's bound is to the best that the same fit has shown on validation samples;
points lost on the test split against the dense control are what a user has in the end. Settings are
chosen on other seeds (`--first-seed 10 --measure validation`).

Each fit is a line in `--runs`, and another call goes on from there; calls of different seeds may
run beside each other.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import accuracy, command, console, finish, load, network, parser, show, spread, train

from reducible_train import Guard, RankScheduler, Search

RUNS = Path(__file__).parent / "results" / "search_runs.jsonl"
GOALS = {0.5: 0.75, 1.0: 0.85}  # points that may be lost -> the fraction to be removed


def build(features: int) -> keras.Sequential:
    """The dense network."""
    return network(features, (128, 128, 128))


class Runs:
    """The fits so far, each with its settings."""

    def __init__(self, path: Path):
        self._path = path

    def found(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """The fit with these settings, if there was one."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        for line in map(json.loads, text.splitlines()):
            if line["settings"] == settings:
                return line
        return None

    def add(self, run: dict[str, Any]) -> dict[str, Any]:
        """Keep one more."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run, default=float) + "\n")
        return run


def fit(data: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """One fit, dense where no points are given: size, accuracies, what was cut and undone."""
    points, callbacks = settings["points"], []
    if points is not None:
        guard = Guard("val_accuracy", max_drop=points / 100)
        callbacks = [RankScheduler(search=Search(**settings["search"]), guard=guard)]
    started = time.process_time()
    recipe = {"epochs": settings["epochs"], "batch_size": 128, "learning_rate": 2e-3}
    model = train(build, data, seed=settings["seed"], callbacks=callbacks, validate=True, **recipe)
    run = {
        "settings": settings,
        "seconds": time.process_time() - started,
        "parameters": model.count_params(),
        "validation": accuracy(model, data.x_val, data.y_val),
        "test": accuracy(model, data.x_test, data.y_test),
    }
    for scheduler in callbacks:
        report = scheduler.report
        run["cuts"] = [[cut.epoch, cut.parameters] for cut in report.cuts]
        run["undone"] = [[u.epoch, u.undone_epoch, u.parameters] for u in report.undone]
    return run


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--points", type=float, nargs="+", default=[0.5, 1.0, 1.5])
    options.add_argument("--search", type=json.loads, default={}, help="options of it, in JSON")
    options.add_argument("--measure", choices=("test", "validation"), default="test")
    options.add_argument("--runs", type=Path, default=RUNS)
    options.set_defaults(seeds=3)
    args = options.parse_args()
    console.print(f"$ {command()}")
    data, runs = load(args.data), Runs(args.runs)

    def run(seed: int, points: float | None) -> dict[str, Any]:
        settings = {"data": args.data, "seed": seed, "epochs": args.epochs, "points": points}
        settings["search"] = {} if points is None else args.search
        return runs.found(settings) or runs.add(fit(data, settings))

    rows = [
        {"points": points, "removed": [], "drop": [], "cuts": [], "undone": []}
        for points in args.points
    ]
    dense_seconds = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        dense = run(seed, None)
        dense_seconds.append(dense["seconds"])
        for row in rows:
            found = run(seed, row["points"])
            row["drop"].append(dense[args.measure] - found[args.measure])
            row["removed"].append(1 - found["parameters"] / dense["parameters"])
            row["cuts"].append(len(found["cuts"]))
            row["undone"].append(len(found["undone"]))
            console.print(
                f"seed {seed}, {row['points']:g} points: {row['removed'][-1]:.3f} removed, "
                f"{row['drop'][-1]:.2f} lost"
            )
    for row in rows:
        goal = GOALS.get(row["points"])
        if goal is not None:
            enough = np.mean(row["removed"]) >= goal and np.mean(row["drop"]) <= row["points"]
            row["goal"], row["reached"] = goal, bool(enough)
    show(
        f"given: points of validation accuracy; {args.data}, {args.epochs} epochs",
        ["may fall by", "removed %", "goal %", f"lost ({args.measure})", "cuts kept", "undone"],
        [
            [
                f"{row['points']:g}",
                spread([100 * each for each in row["removed"]], 1),
                f"{100 * row['goal']:g}" if "goal" in row else "",
                spread(row["drop"], 2),
                f"{np.mean(row['cuts']):.1f}",
                f"{np.mean(row['undone']):.1f}",
            ]
            for row in rows
        ],
    )
    settings = {name: getattr(args, name) for name in ("data", "epochs", "seeds", "first_seed")}
    settings |= {"search": args.search, "measure": args.measure}
    finish({**settings, "dense_seconds": dense_seconds, "rows": rows})


if __name__ == "__main__":
    main()
