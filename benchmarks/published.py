"""Accuracy against size on the networks of published results, ways and seeds side by side.

Every way trains for the same epochs on the same samples; points of accuracy are lost against
the dense control of the same seed. Ranks come from spectra, budget and training samples;
settings were chosen on the validation split with other seeds (`--measure validation
--first-seed 10`), the figures are of the test split.

Each seed of each network is a process of its own, on one thread. What is done stays in
`--runs`, so that a run which was stopped goes on where it was. `--peer` runs tensorly-torch beside
them on the networks of dense layers, by a Python that has it (`make peer`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # of each worker
os.environ["TF_NUM_INTEROP_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # convolutions in half the time

import keras
import numpy as np
from common import command, console, environment, load, network
from records import DENSE, OURS, draw, records, table
from ways import Recipe, Trainer

from reducible_train import LayerRule, ProductDecay
from reducible_train.datasets import Dataset
from reducible_train.selection.survey import survey
from reducible_train.settings.measures import Flops

ACTIVATION = {"allocation": "knapsack", "criterion": "activation"}
FISHER = {"allocation": "knapsack", "criterion": "fisher"}
DECAY = {"aids": [ProductDecay(2e-4)]}


@dataclass(frozen=True)
class Case:
    """One network, and what is asked of it.

    Args:
        recipe: How it is trained.
        goals: Fraction removed -> points that may be lost; `None` for a point of the curve alone.
        counted: What "removed" is a fraction of: `"weights"` (kernels alone, as the source
            of the goals counts) or `"parameters"` (everything).
        beside: Fraction removed at which the other ways are tried; all goals if not given.
        data: Name of the data set.
        flops: Fraction of the FLOPs that must be removed with them.
        settings: Of `RankScheduler`.
        peer: Whether Cuttlefish's rule, which chooses the size itself, is run beside, and
            tensorly-torch.
    """

    recipe: Recipe
    goals: dict[float, float | None]
    counted: str = "parameters"
    beside: tuple[float, ...] | None = None
    data: str = "mnist"
    flops: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=lambda: ACTIVATION)
    peer: bool = False

    @property
    def compared(self) -> tuple[float, ...]:
        """Fractions removed at which the other ways are tried."""
        return tuple(self.goals) if self.beside is None else self.beside


def lenet5() -> keras.Model:
    """LeNet-5 with 20 and 50 filters of 5 x 5 and 500 units: 430,500 weights.

    With dropout: at the smallest sizes the 500 units are functions of four numbers, which learn
    the training samples by heart.
    """
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(20, 5, activation="relu", name="conv_1"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, activation="relu", name="conv_2"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, activation="relu", name="hidden"),
            layers.Dropout(0.3),
            layers.Dense(10, name="output"),
        ]
    )


def vgg() -> keras.Model:
    """3 x 3 convolutions and pooling in blocks, two dense layers: 135,370 parameters."""
    layers = keras.layers
    stack = [keras.Input((28, 28, 1))]
    for block, (filters, depth) in enumerate(((16, 1), (32, 1), (64, 2)), start=1):
        for index in range(1, depth + 1):
            name = f"conv_{block}_{index}"
            stack.append(layers.Conv2D(filters, 3, padding="same", activation="relu", name=name))
        stack.append(layers.MaxPooling2D())
    stack += [
        layers.Flatten(),
        layers.Dense(128, activation="relu", name="hidden"),
        layers.Dropout(0.3),
        layers.Dense(10, name="output"),
    ]
    return keras.Sequential(stack)


def mlp(*hidden: int) -> Callable[[], keras.Model]:
    """Maker of a network of dense layers on 784 inputs."""
    return lambda: network(784, hidden)


CASES = {
    "mlp500": Case(
        Recipe(mlp(500, 500, 500, 500), 10, 1e-3),
        {0.75: 0.1, 0.865: 0.3, 0.924: 1.0},
        counted="weights",
        beside=(0.865,),
        peer=True,
    ),
    "mlp784": Case(
        Recipe(mlp(784, 784, 784, 784), 10, 1e-3),
        {0.84: 0.1, 0.886: 0.3, 0.943: 0.8},
        counted="weights",
        beside=(0.886,),
        peer=True,
    ),
    "lenet5": Case(
        Recipe(
            lenet5,
            16,
            3e-3,
            image=(28, 28, 1),
            batch_size=64,
            ramp_end=5,
            rules=(LayerRule("output", keep_dense=False, min_rank=4), LayerRule("*", min_rank=4)),
        ),
        {0.953: 0.4, 0.97: 0.6, 0.978: 1.0},
        counted="weights",
        beside=(0.97,),
        settings=FISHER,
    ),
    "lenet300": Case(
        Recipe(mlp(300, 100), 16, 4e-3),
        {0.6: 0.0, 0.8: None, 0.9: None, 0.95: None},
        beside=(0.9,),
        settings=FISHER | DECAY,
        peer=True,
    ),
    "origin": Case(
        Recipe(mlp(128, 128, 128), 16, 4e-3),
        {0.66: 0.0, 0.82: 0.45},
        settings=FISHER | DECAY,
        peer=True,
    ),
    "vgg_fashion": Case(
        Recipe(vgg, 12, 2e-3, image=(28, 28, 1)),
        {0.8: 0.5},
        data="fashion_mnist",
        flops=0.6,
        settings=FISHER,
    ),
}


QUICK = ("lenet300", "origin")


def ways(trainer: Trainer, case: Case, only: list[str]) -> Iterator[tuple[str, float, Any]]:
    """Every way at every size: its name, the fraction to remove, and what trains it."""
    dense: list[keras.Model] = []

    def control() -> keras.Model:
        dense.append(trainer.dense())
        return dense[0]

    def offered() -> Iterator[tuple[str, float, Callable[[], keras.Model]]]:
        yield DENSE, 0.0, control
        for goal in case.goals:
            budget = fraction_left(dense[0], goal, case.counted)
            yield OURS, goal, lambda b=budget: trainer.ramp(b, **case.settings)
            yield "defaults", goal, lambda b=budget: trainer.defaults(b)
        for goal in case.compared:
            budget = fraction_left(dense[0], goal, case.counted)
            yield (
                "energy allocation",
                goal,
                lambda b=budget: trainer.ramp(b, allocation="equal_energy"),
            )
            yield "uniform allocation", goal, lambda b=budget: trainer.ramp(b, allocation="uniform")
            yield "cut, then fine-tuned", goal, lambda b=budget: trainer.late_cut(b)
            yield "low rank from scratch", goal, lambda b=budget: trainer.scratch(b)
            yield "ancestor's way", goal, lambda b=budget: trainer.ancestor(b)
        if case.peer:
            yield "Cuttlefish's rule", 0.0, trainer.stable_rank

    for name, goal, make in offered():
        if name == DENSE or not only or name in only:
            yield name, goal, make


def fraction_left(dense: keras.Model, removed: float, counted: str) -> float:
    """The budget, of all parameters, at which a fraction of what is counted is removed."""
    whole, part = dense.count_params(), count(dense, counted)
    return (whole - removed * part) / whole


def count(model: keras.Model, counted: str) -> int:
    """Parameters, or only those of matrices and of convolutions' kernels."""
    if counted == "parameters":
        return model.count_params()
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables if len(v.shape) > 1)


def flops(model: keras.Model) -> int:
    """Of one sample, as the report counts them."""
    return survey(model, (), measures=(Flops(),)).total("flops")


def judged_on(data: Dataset, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """The samples that figures are of, and their classes."""
    return (data.x_test, data.y_test) if measure == "test" else (data.x_val, data.y_val)


def run(
    name: str, seed: int, measure: str, only: list[str], epochs: int | None = None
) -> list[dict[str, Any]]:
    """Every way of one network and seed, for its usual number of epochs or another."""
    case, found = CASES[name], []
    if epochs is not None:
        case = replace(case, recipe=replace(case.recipe, epochs=epochs))
    data = load(case.data)
    x, y = judged_on(data, measure)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(case.recipe, data, seed, Path(folder))
        for way, goal, make in ways(trainer, case, only):
            trainer.shared, started = 0.0, time.process_time()
            model = make()
            seconds = time.process_time() - started + trainer.shared
            right = model.evaluate(trainer.shaped(x), y, batch_size=1000, verbose=0)[1]
            figures = {
                "network": name,
                "method": way,
                "goal": goal,
                "seed": seed,
                "epochs": case.recipe.epochs,
                "accuracy": 100 * right,
                "counted": count(model, case.counted),
                "flops": flops(model),
                "seconds": seconds,
            }
            found.append(figures)
            print(json.dumps(figures), flush=True)
    return found


def run_peer(name: str, seed: int, measure: str, python: Path) -> list[dict[str, Any]]:
    """A network and seed by tensorly-torch, in another environment."""
    case, dense = CASES[name], CASES[name].recipe.build()
    data, recipe = load(case.data), case.recipe
    x_seen, y_seen = judged_on(data, measure)
    task = {
        "seed": seed,
        "hidden": [layer.units for layer in dense.layers[:-1]],
        "epochs": recipe.epochs,
        "learning_rate": recipe.learning_rate,
        "batch_size": recipe.batch_size,
        "warmup": recipe.warmup,
        "late": recipe.late_epoch,
        "counted": case.counted,
        "budgets": [
            (goal, int(dense.count_params() * fraction_left(dense, goal, case.counted)))
            for goal in case.compared
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "data.npz")
        np.savez(file, x=data.x_train, y=data.y_train, x_seen=x_seen, y_seen=y_seen)
        script = Path(__file__).with_name("peer_tensorly.py")
        answer = subprocess.run(
            [python, script],
            input=json.dumps(task | {"data": str(file)}),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    known = {"network": name, "seed": seed, "epochs": recipe.epochs}
    return [known | json.loads(line) for line in answer.splitlines()]


def kept(path: Path | None) -> list[dict[str, Any]]:
    """The runs of an earlier call."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every seed of every network, what is kept left out."""

    def usual(name: str) -> int:
        return CASES[name].recipe.epochs

    def is_done(run: Mapping[str, Any]) -> bool:
        name = run["network"]
        return run.get("epochs", usual(name)) == (args.epochs or usual(name))

    seeds = range(args.first_seed, args.first_seed + args.seeds)
    tasks = [(name, seed) for seed in seeds for name in args.networks]
    found = [r for r in kept(args.runs) if (r["network"], r["seed"]) in tasks]
    done = {(r["network"], r["seed"]) for r in found if is_done(r)}
    seen = {(r["network"], r["seed"]) for r in found if r["method"].startswith("tensorly")}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, context, max_tasks_per_child=1) as pool:
        waiting = [
            pool.submit(run, *task, args.measure, args.only, args.epochs)
            for task in tasks
            if task not in done
        ]
        if args.peer is not None and args.epochs is None:
            waiting += [
                pool.submit(run_peer, *task, args.measure, args.peer)
                for task in tasks
                if CASES[task[0]].peer and task not in seen
            ]
        for each in as_completed(waiting):
            found += each.result()
            if args.runs is not None:
                with args.runs.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(line) + "\n" for line in each.result())
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--networks", nargs="*", choices=list(CASES), default=list(CASES))
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--quick", action="store_true", help="one seed of the cheapest networks")
    options.add_argument("--epochs", type=int, help="another number than that of the recipe")
    options.add_argument("--measure", default="test", choices=["test", "validation"])
    options.add_argument("--only", nargs="*", default=[], help="ways to run beside the dense one")
    options.add_argument("--workers", type=int, default=os.cpu_count())
    options.add_argument("--peer", type=Path, help="a Python that has tensorly-torch")
    options.add_argument("--runs", type=Path, help="file that keeps each seed of each network")
    options.add_argument("--draw", type=Path, help="file for a picture of all methods")
    args = options.parse_args()
    if args.quick:
        args.networks, args.seeds = list(QUICK), 1
    console.print(f"$ {command()}")
    made = records(run_all(args), CASES)
    table(made)
    if args.draw is not None:
        draw(made, args.draw)
    told = {"command": command(), "processor": environment()["processor"]}
    print(json.dumps([record | told for record in made]), flush=True)


if __name__ == "__main__":
    main()
