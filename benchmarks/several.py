"""Several budgets at once: what one of them leaves of the other, and what asking for both costs.

The VGG-like network of `trained.py`, trained on MNIST, is cut once to a fifth of its
parameters, to half or a quarter of its FLOPs, and to both, by each way on one calibration set. The
objective is the loss that the criterion predicts, summed over the kernels (relative to each); no
allocation loses less than the bound. Nothing is trained after the cut.
"""

from __future__ import annotations

import time
from dataclasses import replace

import keras
from common import compile_model, console, finish, parser, show
from trained import NETWORKS, data_of

from reducible_train import factorize

WAYS = (
    ("fisher", "knapsack"),
    ("activation", "knapsack"),
    ("frobenius", "knapsack"),
    ("frobenius", "equal_energy"),
)
BUDGETS = (
    {"parameters": 0.2},
    {"flops": 0.5},
    {"parameters": 0.2, "flops": 0.5},
    {"flops": 0.25},
    {"parameters": 0.2, "flops": 0.25},
)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--samples", type=int, default=10_000)
    options.add_argument("--epochs", type=int, default=4)
    args = options.parse_args()
    network = replace(NETWORKS["vgg"], data=args.data)
    data, recipe = data_of(network, args.samples / network.samples), network.recipe
    keras.utils.set_random_seed(0)
    dense = compile_model(recipe.build(), keras.optimizers.Adam(recipe.learning_rate))
    x, x_test = (each.reshape(-1, *recipe.image) for each in (data.x_train, data.x_test))
    dense.fit(x, data.y_train, batch_size=recipe.batch_size, epochs=args.epochs, verbose=0)

    def accuracy(model: keras.Model) -> float:
        return 100 * model.evaluate(x_test, data.y_test, verbose=0, return_dict=True)["accuracy"]

    dense_accuracy, runs = accuracy(dense), []
    for criterion, allocation in WAYS:
        for budget in BUDGETS:
            model = compile_model(keras.models.clone_model(dense), "adam")
            model.set_weights(dense.get_weights())
            needs = criterion != "frobenius"
            samples = (x[:2048], data.y_train[:2048]) if needs else None
            started = time.perf_counter()
            report = factorize(
                model,
                budget,
                criterion=criterion,
                allocation=allocation,
                calibration=samples,
            )
            seconds = time.perf_counter() - started
            (cut,) = report.cuts
            left = {"parameters": report.size_fraction, "flops": report.flops_fraction}
            assert all(left[measure] <= most for measure, most in budget.items())
            runs.append(
                {
                    "criterion": criterion,
                    "allocation": allocation,
                    "budget": budget,
                    **left,
                    **cut.certificate,
                    "accuracy": accuracy(model),
                    "seconds": seconds,
                    "allocation_seconds": cut.seconds["allocation"],
                }
            )
    columns = ["budget", "parameters left", "FLOPs left", "objective", "bound", "accuracy"]
    rows = [
        [
            f"{run['criterion']}, {run['allocation']}: "
            + ", ".join(f"{measure} {most}" for measure, most in run["budget"].items()),
            f"{100 * run['parameters']:.1f} %",
            f"{100 * run['flops']:.1f} %",
            f"{run['objective']:.4f}",
            f"{run['bound']:.4f}",
            f"{run['accuracy']:.2f}",
        ]
        for run in runs
    ]
    console.print(f"dense: {dense_accuracy:.2f} % of the test split")
    show("right after the cut, no training", columns, rows)
    finish({"dense": dense_accuracy, "runs": runs})


if __name__ == "__main__":
    main()
