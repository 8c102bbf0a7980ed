"""How small twenty trials make a trained network that may lose 0.3 points, by engine.

Each search begins from the trained dense networks of `finetune.py` and looks for the smallest
network whose validation accuracy is at most 0.3 points below the start's; what its best trial has
lost is then told on the test split, against the dense network trained on for as many epochs, whose
learning rate falls as that of a trial does and of which the best epoch counts as well. All engines
search the same space with the same seeds: two of keras-tuner as they are, and random search
steered by `propose`; `"..., analysis"` is given one of the validation split.
Beside it: what the trials of the goal's size lose, and what a search takes over the sum of its
fits, in processor seconds.

Each search is a row in `--runs`, and another call goes on from there; calls of different networks,
seeds or engines may run beside each other.
"""

from __future__ import annotations

import os

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # convolutions in half the time

import argparse
import contextlib
import functools
import io
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import keras
import keras_tuner
from common import command, compile_model, console, deviation, environment, show, spread
from finetune import FineTuning
from published import kept

from reducible_train import (
    Analysis,
    RankHyperModel,
    SearchSpace,
    SizeAtQuality,
    analyze,
    load_model,
)
from reducible_train.tuner import propose

POINTS = 0.3
STEPS = 32  # in one execution, for steps of the small network take less than their call


@dataclass(frozen=True)
class Task:
    """A network to search for.

    Args:
        network: Its name in `trained.py`.
        goal: The fraction of the parameters that shall be removed.
        epochs: Of a trial.
    """

    network: str
    goal: float
    epochs: int


TASKS = {"origin": Task("origin", 0.82, 12), "vgg": Task("vgg", 0.8, 9)}
ENGINES = {
    "random": keras_tuner.RandomSearch,
    "bayesian": keras_tuner.BayesianOptimization,
    "proposed": keras_tuner.RandomSearch,
    "proposed, analysis": keras_tuner.RandomSearch,
}


class Fits:
    """Processor seconds of all fits while it is entered."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Fits:
        self._fit = fit = keras.Model.fit

        @functools.wraps(fit)
        def timed(model: keras.Model, *args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return fit(model, *args, **kwargs)
            finally:
                self.seconds += time.process_time() - started

        keras.Model.fit = timed
        return self

    def __exit__(self, *failure: object) -> None:
        keras.Model.fit = self._fit


class Bench:
    """One seed of one network: its data, its dense control, its searches."""

    def __init__(self, task: Task, seed: int, args: argparse.Namespace):
        self.task, self.seed, self.args = task, seed, args
        self.tuning = FineTuning(task.network, seed, args.dense, 1.0)
        recipe, network = self.tuning.recipe, self.tuning.network
        self.rate = network.rate * recipe.learning_rate
        data = self.tuning.data
        self.validation = (self.tuning.shaped(data.x_val), data.y_val)
        self.test = (self.tuning.shaped(data.x_test), data.y_test)
        self.fit = {
            "x": self.tuning.x,
            "y": data.y_train,
            "batch_size": recipe.batch_size,
            "epochs": args.epochs or task.epochs,
            "validation_data": self.validation,
            "verbose": 0,
        }

    @property
    def space(self) -> SearchSpace:
        """What every engine chooses from: a single cut, for by hand no ramp was better."""
        rate = self.tuning.recipe.learning_rate
        return SearchSpace(
            budget=(0.05, 0.5),
            learning_rate=(rate / 10, rate * 3),
            criterion=("fisher", "activation"),
            allocation=("knapsack", "equal_energy", "uniform"),
        )

    def start(self) -> keras.Model:
        """The trained network, with a new optimizer of constant rate."""
        keras.utils.set_random_seed(self.seed)
        model = keras.models.load_model(self.tuning.path, compile=False)
        optimizer = keras.optimizers.Adam(self.rate)
        return compile_model(model, optimizer, steps_per_execution=STEPS)

    def dense(self) -> dict[str, Any]:
        """The dense network, trained on as long as a trial."""
        model = self.start()
        begun = self._judged(model)
        best = keras.callbacks.EarlyStopping(
            "val_accuracy", patience=99, mode="max", restore_best_weights=True
        )
        model.fit(**self.fit, callbacks=[self._falling(), best])
        return {"parameters": model.count_params(), "begun": begun, **self._judged(model)}

    def search(self, engine: str) -> dict[str, Any]:
        """One search, and what its trials have come to."""
        keras.backend.clear_session()
        name = f"{self.task.network}-{self.seed}-{engine.replace(', ', '-')}"
        shutil.rmtree(self.args.folder / name, ignore_errors=True)
        model, started = self.start(), time.process_time()
        hypermodel = RankHyperModel(
            model,
            self.space,
            objective=SizeAtQuality("val_accuracy", max_drop=POINTS / 100),
            analysis=self._analysis(model) if engine.endswith("analysis") else None,
        )
        with Fits() as fits, contextlib.redirect_stdout(io.StringIO()):
            tuner = ENGINES[engine](
                hypermodel,
                hypermodel.objective,
                max_trials=self.args.trials,
                seed=self.seed + 1,  # keras-tuner draws one itself for 0
                directory=self.args.folder,
                project_name=name,
            )
            if engine.startswith("proposed"):
                propose(tuner)
            tuner.search(**self.fit, callbacks=[self._falling()])
        seconds = time.process_time() - started
        trials = [self._trial(tuner, each) for each in tuner.oracle.trials.values()]
        found = {
            "seconds": seconds,
            "fits": fits.seconds,
            "holds": hypermodel.foresight.holds,
            "best": self._found(tuner, min(trials, key=lambda each: each["score"])),
            "trials": trials,
        }
        small = [each for each in trials if each["removed"] >= self.task.goal]
        if small:
            nearest = max(small, key=lambda each: each["validation"])
            found["at_goal"] = self._found(tuner, nearest)
        shutil.rmtree(self.args.folder / name)
        return found

    def _analysis(self, model: keras.Model) -> Analysis:
        """Of the metric and the data that decide."""
        return analyze(model, self.validation, metric="accuracy")

    def _trial(self, tuner: Any, trial: Any) -> dict[str, Any]:
        told = {name: trial.metrics.get_best_value(name) for name in trial.metrics.metrics}
        return {
            "trial": trial.trial_id,
            "score": trial.score,
            "removed": 1 - told["params_fraction"],
            "validation": 100 * told["val_accuracy"],
            "settings": trial.hyperparameters.values,
        }

    def _found(self, tuner: Any, trial: Mapping[str, Any]) -> dict[str, Any]:
        """A trial with what its file says on both splits."""
        model = load_model(Path(tuner.get_trial_dir(trial["trial"])) / "model.reducible")
        return {**trial, "parameters": model.count_params(), **self._judged(compile_model(model))}

    def _falling(self) -> keras.callbacks.Callback:
        """The learning rate falls from epoch to epoch, by a cosine over all of them."""

        def share(epoch: int) -> float:
            return (1 + math.cos(math.pi * epoch / self.fit["epochs"])) / 2

        return keras.callbacks.LearningRateScheduler(
            lambda epoch, rate: rate * share(epoch) / share(epoch - 1) if epoch else rate
        )

    def _judged(self, model: keras.Model) -> dict[str, float]:
        """Accuracy in percent on both splits."""
        splits = {"validation": self.validation, "test": self.test}
        return {
            name: 100 * model.evaluate(x, y, batch_size=500, verbose=0)[1]
            for name, (x, y) in splits.items()
        }


def rows_of(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every search of every seed, beside its dense control; what is kept is not done again."""
    known = {_key(row): row for row in kept(args.runs)}
    for name in args.networks:
        task = TASKS[name]
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            bench: Bench | None = None
            for engine in ("dense", *args.engines):
                trials = 0 if engine == "dense" else args.trials
                asked = {"network": name, "engine": engine, "seed": seed, "trials": trials}
                asked["epochs"] = args.epochs or task.epochs
                if _key(asked) not in known:
                    bench = bench or Bench(task, seed, args)
                    found = bench.dense() if engine == "dense" else bench.search(engine)
                    known[_key(asked)] = {**asked, "found": found}
                    _keep(args.runs, known[_key(asked)])
                yield known[_key(asked)]


def _key(row: Mapping[str, Any]) -> tuple:
    return tuple(row[name] for name in ("network", "engine", "seed", "trials", "epochs"))


def _keep(path: Path | None, row: Mapping[str, Any]) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def record(network: str, engine: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What an engine has come to over the seeds."""
    dense = {r["seed"]: r["found"] for r in rows if r["engine"] == "dense"}
    runs = [r for r in rows if r["engine"] == engine]
    best = [(r["found"]["best"], dense[r["seed"]]) for r in runs]
    at_goal = [(r["found"]["at_goal"], dense[r["seed"]]) for r in runs if "at_goal" in r["found"]]
    goal = TASKS[network].goal
    made = {
        "network": network,
        "engine": engine,
        "seeds": len(runs),
        "goal": goal,
        "removed": [one["removed"] for one, _ in best],
        "lost": [beside["test"] - one["test"] for one, beside in best],
        "lost_validation": [
            beside["begun"]["validation"] - one["validation"] for one, beside in best
        ],
        "lost_at_goal": [beside["test"] - one["test"] for one, beside in at_goal],
        "over_fits": [r["found"]["seconds"] / r["found"]["fits"] for r in runs],
        "seconds": [r["found"]["seconds"] for r in runs],
    }
    made["reached"] = fmean(made["removed"]) >= goal and fmean(made["lost"]) <= POINTS
    return made


def table(made: Sequence[Mapping[str, Any]]) -> None:
    """Print the records."""
    columns = [
        "network, engine",
        "seeds",
        "removed %",
        "lost (test)",
        "lost at goal",
        "over fits",
        "",
    ]
    show(
        f"Smallest that loses at most {POINTS:g} points on the validation split",
        columns,
        [
            [
                f"{r['network']}, {r['engine']}",
                r["seeds"],
                spread([100 * each for each in r["removed"]], 1),
                spread(r["lost"], 2),
                spread(r["lost_at_goal"], 2) if r["lost_at_goal"] else "",
                f"{fmean(r['over_fits']):.2f}",
                f"{'reached' if r['reached'] else 'MISSED'} {100 * r['goal']:g}",
            ]
            for r in made
        ],
    )


def margins(made: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each engine removes beyond the random one, seed by seed, in points of the parameters."""
    of = {(r["network"], r["engine"]): r for r in made}
    found = []
    for (network, engine), one in of.items():
        other = of.get((network, "random"))
        if engine == "random" or other is None:
            continue
        more = [100 * (a - b) for a, b in zip(one["removed"], other["removed"], strict=False)]
        found.append({"network": network, "engine": engine, "more": more})
        console.print(
            f"{network}: {engine} removes {fmean(more):+.1f} ± {deviation(more):.1f} points of the"
            f" parameters more than random search ({len(more)} seeds)"
        )
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--networks", nargs="*", choices=list(TASKS), default=list(TASKS))
    options.add_argument("--engines", nargs="*", choices=list(ENGINES), default=list(ENGINES))
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--trials", type=int, default=20)
    options.add_argument("--epochs", type=int, help="of a trial, in place of the task's")
    options.add_argument("--dense", type=Path, default=Path("runs/finetune"), help="folder")
    options.add_argument("--folder", type=Path, default=Path("runs/tune"), help="of the searches")
    options.add_argument("--runs", type=Path, help="file that keeps each row")
    args = options.parse_args()
    console.print(f"$ {command()}")
    rows = []
    for row in rows_of(args):
        rows.append(row)
        if row["engine"] != "dense":
            best = row["found"]["best"]
            console.print(
                f"{row['network']} {row['seed']} {row['engine']}: {100 * best['removed']:.1f} %"
                f" removed, {best['validation']:.2f} / {best['test']:.2f}"
            )
    made = [
        record(network, engine, [r for r in rows if r["network"] == network])
        for network in args.networks
        for engine in args.engines
    ]
    table(made)
    told = {"command": command(), "trials": args.trials, "records": made, "margins": margins(made)}
    print(json.dumps(told | {"processor": environment()["processor"]}), flush=True)


if __name__ == "__main__":
    main()
