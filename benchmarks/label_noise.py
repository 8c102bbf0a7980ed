"""Wrong labels: does a network whose ranks fall stop learning them by heart?

784-512-512-512-512-10 on MNIST, of whose training labels a fraction was exchanged for others at
random. Every way trains equally long on the same samples, Adam with one cosine decay; the figure is
the accuracy on the test split, whose labels are right, and beside it the share of the wrong labels
that the network gives back: what it has memorised.

- dense, without and with weight decay (AdamW);
- `RankScheduler` with a ramp over the first half to each of the budgets;
- the same ranks from the first step on (`factorize` of the untrained network).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from common import compile_model, finish, load, network, parser, show, spread

from reducible_train import Ramp, RankScheduler, factorize
from reducible_train.datasets import Dataset

HIDDEN = (512, 512, 512, 512)


def with_wrong_labels(data: Dataset, fraction: float, seed: int) -> tuple[Dataset, np.ndarray]:
    """The data with so many labels exchanged for another class, and which those are."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(data.y_train)) < fraction
    others = (data.y_train + rng.integers(1, data.classes, len(wrong))) % data.classes
    return replace(data, y_train=np.where(wrong, others, data.y_train)), wrong


def trained(data: Dataset, seed: int, args, way: Callable[[keras.Model], list], decay: float):
    """A network by one way, which may change it, and gives callbacks."""
    keras.utils.set_random_seed(seed)
    model = network(data.features, HIDDEN)
    callbacks = way(model)
    steps = args.epochs * math.ceil(len(data.x_train) / args.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(args.learning_rate, steps)
    compile_model(model, keras.optimizers.AdamW(rate, weight_decay=decay))
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=args.batch_size,
        epochs=args.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return model


def ways(args) -> dict[str, tuple[Callable[[keras.Model], Sequence[Any]], float]]:
    """Name -> what is done to the network before its fit, and decay of the weights."""

    def ramp(budget: float) -> Callable[[keras.Model], list]:
        return lambda model: [RankScheduler(Ramp(1.0, budget, 1, args.epochs // 2))]

    def at_once(budget: float) -> Callable[[keras.Model], list]:
        def cut(model: keras.Model) -> list:
            factorize(model, budget, allocation="uniform")
            return []

        return cut

    made = {"dense": (lambda model: [], 0.0), "dense, AdamW": (lambda model: [], args.decay)}
    for budget in args.budgets:
        made[f"ramp to {budget:.0%}"] = (ramp(budget), 0.0)
        made[f"{budget:.0%} from the start"] = (at_once(budget), 0.0)
    return made


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--fraction", type=float, default=0.6, help="of wrong labels")
    options.add_argument("--budgets", type=float, nargs="+", default=[0.2, 0.05])
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--batch-size", type=int, default=128)
    options.add_argument("--learning-rate", type=float, default=1e-3)
    options.add_argument("--decay", type=float, default=0.1, help="of AdamW")
    options.set_defaults(seeds=3)
    args = options.parse_args()
    clean, found = load(args.data), {}
    for seed in range(args.seeds):
        data, wrong = with_wrong_labels(clean, args.fraction, seed)
        for name, (way, decay) in ways(args).items():
            model = trained(data, seed, args, way, decay)
            given = model.predict(data.x_train, batch_size=1000, verbose=0).argmax(-1)
            right = model.evaluate(data.x_test, data.y_test, batch_size=1000, verbose=0)[1]
            memorised = float((given == data.y_train)[wrong].mean())
            found.setdefault(name, []).append((100 * right, 100 * memorised))
            print(f"seed {seed}: {name} {right:.4f}, memorised {memorised:.4f}", flush=True)
            keras.backend.clear_session()
    rows = [
        [name, *(spread([run[i] for run in runs]) for i in (0, 1))] for name, runs in found.items()
    ]
    show(
        f"{args.data}, {args.fraction:.0%} wrong labels, {args.seeds} seeds",
        ["way", "test accuracy %", "wrong labels given back %"],
        rows,
    )
    settings = {key: value for key, value in vars(args).items() if key != "data"}
    finish({"data": args.data, "settings": settings, "ways": found})


if __name__ == "__main__":
    main()
