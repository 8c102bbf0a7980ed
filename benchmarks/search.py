"""How small a network gets where the accuracy is given, not the size.

784-128-128-128-10: `RankScheduler(search=..., guard=Guard("val_accuracy", max_drop))` steps its
budget down during one fit and keeps the smallest that the validation metric recovers from. Beside
it, the dense network, trained on the same samples for as long; both with one cosine decay over all
epochs. The guard's bound is to the best that the same fit has shown on validation samples; points
lost on the test split against the dense control are what a user has in the end.
"""

from __future__ import annotations

import time

import keras
import numpy as np
from common import accuracy, command, console, finish, load, network, parser, show, train

from reducible_train import Guard, RankScheduler, Search


def build(features: int) -> keras.Sequential:
    """The dense network."""
    return network(features, (128, 128, 128))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--start-epoch", type=int, default=12)
    options.add_argument("--points", type=float, nargs="+", default=[0.2, 0.5, 1.0])
    options.set_defaults(seeds=3)
    args = options.parse_args()
    console.print(f"$ {command()}")
    data = load(args.data)

    def fit(seed: int, callbacks: list) -> keras.Model:
        recipe = {"epochs": args.epochs, "batch_size": 128, "learning_rate": 2e-3, "validate": True}
        return train(build, data, seed=seed, callbacks=callbacks, **recipe)

    rows = []
    for points in args.points:
        rows.append({"points": points, "removed": [], "test_drop": [], "cuts": [], "undone": []})
    dense_seconds: list[float] = []
    for seed in range(args.seeds):
        started = time.process_time()
        dense = fit(seed, [])
        dense_seconds.append(time.process_time() - started)
        control = accuracy(dense, data.x_test, data.y_test)
        for row in rows:
            scheduler = RankScheduler(
                search=Search(start_epoch=args.start_epoch),
                guard=Guard("val_accuracy", max_drop=row["points"] / 100),
            )
            model = fit(seed, [scheduler])
            row["test_drop"].append(control - accuracy(model, data.x_test, data.y_test))
            row["removed"].append(1 - model.count_params() / dense.count_params())
            row["cuts"].append(len(scheduler.report.cuts))
            row["undone"].append(len(scheduler.report.undone))
            console.print(
                f"seed {seed}, {row['points']:g} points: {row['removed'][-1]:.3f} removed"
            )
    show(
        f"given: points of validation accuracy; {args.data}, {args.epochs} epochs",
        ["may fall by", "parameters removed %", "lost on the test split", "cuts kept", "undone"],
        [
            [
                f"{row['points']:g}",
                *(
                    f"{factor * np.mean(row[key]):.{digits}f}"
                    for key, factor, digits in (
                        ("removed", 100, 1),
                        ("test_drop", 1, 2),
                        ("cuts", 1, 1),
                        ("undone", 1, 1),
                    )
                ),
            ]
            for row in rows
        ],
    )
    finish(
        {"epochs": args.epochs, "seeds": args.seeds, "dense_seconds": dense_seconds, "rows": rows}
    )


if __name__ == "__main__":
    main()
