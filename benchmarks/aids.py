"""What helps a training while ranks fall, and what does not: each aid beside none.

784-128-128-128-10, Adam with ONE cosine decay over all epochs, knapsack and criterion
"fisher"; every way trains equally long on the same samples, and the dense network beside it. Three
ways to come to the ranks:

- ramp: ranks fall over epochs 1 to 4; with no aid, with each of
  `reducible_train.settings.aids`, and with
  distillation from the dense network (`keras.distillation.Distiller`, and the epochs of
  the teacher on top);
- one cut, half-way: where an aid may be needed more;
- low rank from the start: `U`, `V` drawn at random, or the SVD of the dense initial kernel
  (`factorize` of an untrained model), each with and without decay of the product.

All of it at the middle one of the budgets; at the others the ramp without aid, with decay of the
product, and with regrowth. Figures are of the validation split, on which settings were chosen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import keras
import numpy as np
from common import (
    adam,
    command,
    compile_model,
    console,
    finish,
    load,
    network,
    parser,
    show,
    spread,
)

from reducible_train import (
    LowRankDense,
    PiecewiseConstant,
    ProductDecay,
    Ramp,
    RankScheduler,
    Regrow,
    Rewarm,
    TailShrink,
    factorize,
)
from reducible_train.datasets import Dataset

HIDDEN = (128, 128, 128)
SHARING = {"allocation": "knapsack", "criterion": "fisher"}


def train(
    model: keras.Model, data: Dataset, args, callbacks: list, teacher: keras.Model | None = None
) -> tuple[float, float]:
    """One fit; what `quality` gives."""
    optimizer = adam(args.learning_rate, args.epochs, len(data.x_train), args.batch_size)
    if teacher is None:
        trained = compile_model(model, optimizer, steps_per_execution=16)
    else:
        loss = keras.distillation.LogitsDistillation(temperature=args.temperature)
        trained = keras.distillation.Distiller(teacher, model, loss, student_loss_weight=0.5)
        hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trained.compile(optimizer, hard, steps_per_execution=16)
    trained.fit(
        data.x_train,
        data.y_train,
        batch_size=args.batch_size,
        epochs=args.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return quality(model, data)


def quality(model: keras.Model, data: Dataset) -> tuple[float, float]:
    """Accuracy, in percent, and cross-entropy, both on the validation split."""
    logits = model.predict(data.x_val, batch_size=1000, verbose=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    right = 100 * float((logits.argmax(-1) == data.y_val).mean())
    return right, float(loss(data.y_val, logits))


def fresh(data: Dataset, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return network(data.features, HIDDEN)


def falling(data: Dataset, seed: int, args, schedule, aids=(), teacher=None):
    model = fresh(data, seed)
    scheduler = RankScheduler(
        budget=schedule,
        aids=aids,
        calibration=(data.x_train[:2048], data.y_train[:2048]),
        **SHARING,
    )
    return train(model, data, args, [scheduler], teacher)


def low_from_start(data: Dataset, seed: int, args, budget: float, init: str, aids=()):
    """Ranks of equal fractions of full rank, which stay; a scheduler only for the aids."""
    model = fresh(data, seed)
    factorize(model, budget=budget, allocation="uniform")
    if init == "random":
        model = keras.Sequential(
            [
                keras.Input((data.features,)),
                *[
                    LowRankDense(layer.units, rank=layer.rank, activation="relu", name=layer.name)
                    for layer in model.layers[:-1]
                ],
                keras.layers.Dense(10, name="output"),
            ]
        )
    callbacks = [RankScheduler(budget=1.0, aids=aids)] if aids else []
    return train(model, data, args, callbacks)


def ways(
    data: Dataset, args, budget: float, dense: keras.Model
) -> dict[str, Callable[[int], tuple[float, float]]]:
    """Every way to train down to a budget, by name: seed -> quality."""
    ramp = Ramp(1.0, budget, args.start_epoch, args.end_epoch)
    late = PiecewiseConstant(values=(1.0, budget), start_epochs=(0, args.epochs // 2))
    decay = ProductDecay(args.weight)

    def fall(schedule, **kwargs) -> Callable[[int], tuple[float, float]]:
        return lambda seed: falling(data, seed, args, schedule, **kwargs)

    made = {
        "ramp": fall(ramp),
        "ramp, ProductDecay": fall(ramp, aids=[decay]),
        "ramp, Regrow": fall(ramp, aids=[Regrow(0.1)]),
    }
    if budget != args.budgets[len(args.budgets) // 2]:
        return made
    return made | {
        "ramp, Rewarm": fall(ramp, aids=[Rewarm(epochs=1)]),
        "ramp, TailShrink": fall(ramp, aids=[TailShrink(0.3)]),
        "ramp, Distiller": fall(ramp, teacher=dense),
        "ramp, Regrow for longer": fall(ramp, aids=[Regrow(0.1, end_epoch=args.epochs * 3 // 4)]),
        "one cut": fall(late),
        "one cut, Rewarm": fall(late, aids=[Rewarm(epochs=1)]),
        "one cut, TailShrink": fall(late, aids=[TailShrink(0.3, ahead=3)]),
        **{
            f"from the start, {init}{', ProductDecay' if aids else ''}": (
                lambda seed, init=init, aids=aids: low_from_start(
                    data, seed, args, budget, init, aids
                )
            )
            for init in ("random", "spectral")
            for aids in ((), (decay,))
        },
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--batch-size", type=int, default=256)
    options.add_argument("--learning-rate", type=float, default=4e-3)
    options.add_argument("--start-epoch", type=float, default=1)
    options.add_argument("--end-epoch", type=float, default=4)
    options.add_argument("--weight", type=float, default=2e-4, help="of ProductDecay")
    options.add_argument("--temperature", type=float, default=3.0, help="of the Distiller")
    options.add_argument("--budgets", type=float, nargs="+", default=[0.34, 0.18, 0.1])
    options.add_argument("--minutes", type=float, default=math.inf, help="begin no run later")
    options.set_defaults(seeds=5)
    args = options.parse_args()
    console.print(f"$ {command()}")
    data = load(args.data)
    started = time.monotonic()
    found: dict[str, list[tuple[float, float]]] = {}
    control: list[tuple[float, float]] = []
    for seed in range(args.seeds):
        dense = fresh(data, seed)
        control.append(train(dense, data, args, []))
        middle = args.budgets[len(args.budgets) // 2]
        for budget in sorted(args.budgets, key=lambda each: each != middle):
            for name, way in ways(data, args, budget, dense).items():
                if time.monotonic() - started > 60 * args.minutes:
                    continue
                key = f"{1 - budget:.0%} fewer: {name}"
                found.setdefault(key, []).append(way(seed))
                right, loss = found[key][-1]
                lost = control[-1][0] - right
                console.print(f"seed {seed}, {key}: {lost:.2f} points lost, loss {loss:.4f}")
    report(args, control, found)


def report(args, control: list[tuple[float, float]], found: dict) -> None:
    """Table and figures."""
    dense = np.array(control)
    rows, figures = [], []
    for key, values in found.items():
        size, _, name = key.partition(": ")
        start = "from the start"
        plain = f"{start}, random" if name.startswith(start) else name.partition(", ")[0]
        here, none = np.array(values), np.array(found[f"{size}: {plain}"])
        lost = dense[: len(here), 0] - here[:, 0]
        gained = here[:, 0] - none[: len(here), 0]
        over = here[:, 1] / none[: len(here), 1]
        rows.append([key, len(here), *(spread(list(each), 2) for each in (lost, gained, over))])
        figures.append(
            {
                "size": size,
                "way": name,
                "seeds": len(here),
                "points_lost": lost.tolist(),
                "points_gained": gained.tolist(),
                "loss": here[:, 1].tolist(),
                "loss_over_none": over.tolist(),
            }
        )
    title = f"{args.data}, validation split, {args.epochs} epochs"
    columns = ["way", "seeds", "points lost", "points gained over none", "loss over that of none"]
    show(title, columns, rows)
    args.minutes = min(args.minutes, 1e9)  # JSON knows no infinity
    accuracy = {"accuracy": dense[:, 0].tolist(), "loss": dense[:, 1].tolist()}
    finish({"settings": vars(args), "dense": accuracy, "ways": figures})


if __name__ == "__main__":
    main()
