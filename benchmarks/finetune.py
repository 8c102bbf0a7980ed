"""A trained network, compressed and trained on for a third of its epochs: settings side by side.

Every way starts from the same trained dense weights and sees the same samples in the same order
as the dense network that is trained on beside it, against which points are lost. `default` is what
a user gets who gives the budget alone. Ways are data: what `RankScheduler` is told, how the budget
falls, and the learning rate; `untrained` and `halved` ones are cut once by `factorize`, to the
cell's size or to half of the parameters, and compared with the network as it was before.

A way takes about half a minute on one core, because the networks are narrow and are trained
on 20,000 images of 60,000, or on 12,000 windows of text of 16,000, for nine epochs and then three
(784-128-128-128-10: 50,000). Of the other images, 5,000 join the validation split. A row has the
figures of both splits: ways are chosen by `--measure validation --first-seed 10`, the test split is
for the final figure.

Trained networks stay in `--dense`, rows in `--runs`, and another call goes on from there: with
more `--ways` (patterns; `"*"` is all of them), seeds, or `--networks`. Calls of different networks
may run beside each other. `--share 0.3` trains on less, for a first look.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
from common import adam, command, compile_model, console, environment, show
from published import count, flops, kept
from records import DENSE, records, table
from trained import CELLS, NETWORKS, Cell, data_of
from ways import Trainer

from reducible_train import (
    Cadence,
    LayerRule,
    PiecewiseConstant,
    ProductDecay,
    Ramp,
    RankScheduler,
    Rewarm,
    factorize,
)

UNTRAINED = ("untrained", "halved")


@dataclass(frozen=True)
class Way:
    """One setting of the package.

    Args:
        settings: Of `RankScheduler`, beside the budget; or of `factorize`.
        pace: `"cut"` (once, when the fit begins), `"steps"` (half of the way then, the rest after
            a third), `"ramp"` (three cuts over the first half), `"untrained"` (by `factorize`, and
            no fit), `"halved"` (the same, to half of the parameters).
        rate: Where the learning rate begins, as a fraction of the training's; the network's own, if
            not given.
        warmup: Fraction of the fine-tuning over which it rises to that.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    pace: str = "cut"
    rate: float | None = None
    warmup: float = 0.0

    @property
    def is_trained(self) -> bool:
        """Whether there is a fit."""
        return self.pace not in UNTRAINED

    def scheduler(self, target: Mapping[str, Any], epochs: int, steps: int) -> RankScheduler:
        """For a fit of so many epochs of so many steps."""
        budget, told = target["budget"], {**target, **self.settings}
        if self.pace == "steps":
            told["budget"] = PiecewiseConstant([math.sqrt(budget), budget], [0, epochs / 3])
        elif self.pace == "ramp":
            told["budget"] = Ramp(1.0, budget, 0, epochs / 2)
        if self.pace != "cut":
            told["cadence"] = Cadence(steps=steps * epochs // 6)
        return RankScheduler(**told)


def by_hand() -> dict[str, Way]:
    """Every criterion with every allocation and pace, and what else may help one of them."""
    ways: dict[str, Way] = {}
    for pace, criterion, allocation in itertools.product(
        ("cut", "ramp", "steps", *UNTRAINED),
        ("fisher", "activation", "frobenius"),
        ("knapsack", "equal_energy", "uniform"),
    ):
        settings = {"criterion": criterion, "allocation": allocation}
        ways[f"{criterion} {allocation} {pace}"] = Way(settings, pace)
    base = ways["fisher knapsack cut"]

    def also(**settings: Any) -> Way:
        return replace(base, settings={**base.settings, **settings})

    return ways | {
        "fisher knapsack cut, rate 0.25": replace(base, rate=0.25),
        "fisher knapsack cut, rate 1": replace(base, rate=1.0),
        "fisher knapsack cut, rate 2": replace(base, rate=2.0),
        "activation uniform cut, rate 2": replace(ways["activation uniform cut"], rate=2.0),
        "fisher knapsack cut, warm-up": replace(base, warmup=0.1),
        "fisher knapsack cut, decay": also(aids=(ProductDecay(2e-4),)),
        "fisher knapsack cut, least rank": also(rules=(LayerRule("*", min_rank=4),)),
        "fisher knapsack ramp, rewarm": replace(also(aids=(Rewarm(epochs=0.1),)), pace="ramp"),
    }


DEFAULT = "default"
CONTROLS = (Way(), Way(pace="untrained"))  # dense, trained on and as it was
WAYS = {DEFAULT: Way()} | {f"{DEFAULT} {p}": Way(pace=p) for p in UNTRAINED} | by_hand()
USUAL = ["default*", *(f"fisher knapsack {p}" for p in ("cut", "ramp", *UNTRAINED))]
USUAL += ["activation knapsack cut", "activation equal_energy cut"]


class FineTuning:
    """One seed of one network that was trained beforehand."""

    def __init__(self, name: str, seed: int, folder: Path, share: float):
        self.network, self.seed = NETWORKS[name], seed
        self.recipe, self.data = self.network.recipe, data_of(self.network, share)
        folder = folder / f"{name}-{len(self.data.x_train)}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(self.recipe, self.data, seed, folder)
        self.x, self.shaped = trainer.x, trainer.shaped
        self.path = folder / f"dense_{self.recipe.epochs}.keras"
        if not self.path.exists():
            trainer.dense()

    def start(self, way: Way) -> keras.Model:
        """The trained network, with a new optimizer."""
        keras.utils.set_random_seed(self.seed)
        model = keras.models.load_model(self.path, compile=False)
        rate = self.network.rate if way.rate is None else way.rate
        rate, steps = rate * self.recipe.learning_rate, self.steps * self.network.epochs
        rising = round(way.warmup * steps)
        if not rising:
            optimizer = adam(rate, self.network.epochs, len(self.x), self.recipe.batch_size)
            return compile_model(model, optimizer)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, steps - rising, warmup_target=rate, warmup_steps=rising
        )
        return compile_model(model, keras.optimizers.Adam(schedule))

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.x) / self.recipe.batch_size)

    def run(self, cell: Cell | None, way: Way) -> keras.Model:
        """The network by one way; without a cell it stays dense."""
        model, epochs = self.start(way), self.network.epochs
        y, callbacks = self.data.y_train, []
        if cell is not None and not way.is_trained:
            target = {"budget": 0.5} if way.pace == "halved" else cell.target(model)
            factorize(model, **target, calibration=(self.x[:2048], y[:2048]), **way.settings)
        elif cell is not None:
            callbacks.append(way.scheduler(cell.target(model), epochs, self.steps))
        if way.is_trained:
            batch_size = self.recipe.batch_size
            model.fit(self.x, y, batch_size, epochs, verbose=0, callbacks=callbacks)
        return model

    def judged(self, model: keras.Model) -> dict[str, dict[str, float]]:
        """Loss and accuracy in percent on both splits."""
        found = {}
        for split, x, y in (
            ("validation", self.data.x_val, self.data.y_val),
            ("test", self.data.x_test, self.data.y_test),
        ):
            loss, right = model.evaluate(self.shaped(x), y, batch_size=500, verbose=0)
            found[split] = {"loss": loss, "accuracy": 100 * right}
        return found


def row(tuning: FineTuning, name: str, method: str, way: Way) -> dict[str, Any]:
    """What one way gives in a cell; a dense network in all cells of that name."""
    started = time.process_time()
    model = tuning.run(CELLS.get(name), way)
    return {
        "network": name,
        "method": method,
        "seed": tuning.seed,
        "samples": len(tuning.x),
        "epochs": tuning.network.epochs if way.is_trained else 0,
        "weights": count(model, "weights"),
        "parameters": count(model, "parameters"),
        "flops": flops(model),
        "seconds": round(time.process_time() - started, 1),
        **tuning.judged(model),
    }


def run_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every seed of every cell, way after way; what is kept is not done again."""

    @cache
    def tuning(network: str, seed: int) -> FineTuning:
        return FineTuning(network, seed, args.dense, args.share)

    cells = {name: cell.network for name, cell in CELLS.items() if cell.network in args.networks}
    names = [name for each in args.ways for name in WAYS if fnmatch.fnmatch(name, each)]
    asked = [(DENSE, way, {n: n for n in args.networks}) for way in CONTROLS]
    asked += [(name, WAYS[name], cells) for name in dict.fromkeys(names)]
    known = {_key(row): row for row in kept(args.runs)}
    found = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for method, way, places in asked:
            for name, network in places.items():
                samples = round(args.share * NETWORKS[network].samples)
                key = (name, method, way.is_trained, seed, samples)
                if key not in known:
                    known[key] = row(tuning(network, seed), name, method, way)
                    print(json.dumps(known[key]), flush=True)
                    if args.runs is not None:
                        with args.runs.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(known[key]) + "\n")
                    keras.backend.clear_session()
                found.append(known[key])
    return found


def _key(row: Mapping[str, Any]) -> tuple:
    return row["network"], row["method"], row["epochs"] > 0, row["seed"], row["samples"]


def by_cell(found: Sequence[Mapping[str, Any]], measure: str) -> list[dict[str, Any]]:
    """The rows as `records` reads them: of one split, dense ones for each cell of the network."""

    def asked(method: str, cell: Cell) -> float:
        if method == DENSE:
            return 0.0
        return 0.5 if method.endswith("halved") else cell.removed

    return [
        row
        | row[measure]
        | {"network": name, "counted": row[cell.counted], "goal": asked(row["method"], cell)}
        for row in found
        for name, cell in CELLS.items()
        if row["network"] in (name, cell.network)
    ]


def summary(made: Sequence[dict[str, Any]]) -> None:
    """Print the default beside the best way, after fine-tuning and right after one cut."""

    def lost(record: Mapping[str, Any]) -> str:
        return f"{record['drop_mean']:.2f} ({record['rise_mean']:+.1f} %)"

    rows = []
    for name, end in itertools.product(CELLS, ("", *UNTRAINED)):
        here = [r for r in made if r["network"] == name and r["method"] != DENSE]
        if end:
            here = [r for r in here if r["method"].endswith(end)]
        else:
            here = [r for r in here if r["epochs"]]
        usual = [r for r in here if r["method"].startswith(DEFAULT)]
        if usual:
            best = min(here, key=lambda r: (r["drop_mean"], r["rise_mean"]))
            rows.append([f"{name} {end}", lost(usual[0]), lost(best), best["method"]])
    columns = ["cell", "default", "best", "by"]
    show("Points lost (and the rise of the loss), means over the seeds", columns, rows)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    options.add_argument("--ways", nargs="*", default=USUAL, help="patterns")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--quick", action="store_true", help="one seed of the cheapest network")
    options.add_argument("--measure", default="test", choices=["test", "validation"])
    options.add_argument("--share", type=float, default=1.0, help="of the training samples")
    options.add_argument("--dense", type=Path, default=Path("runs/finetune"), help="folder")
    options.add_argument("--runs", type=Path, help="file that keeps each row")
    args = options.parse_args()
    if args.quick:
        args.networks, args.seeds = ["origin"], 1
    console.print(f"$ {command()}")
    made = records(by_cell(run_all(args), args.measure), CELLS, ours=DEFAULT)
    for record in made:
        rise = CELLS[record["network"]].rise
        if "reached" in record and rise is not None:
            record["reached"] |= record["rise_mean"] <= rise
    table(made)
    summary(made)
    told = {"command": command(), "measure": args.measure, "processor": environment()["processor"]}
    print(json.dumps([record | told for record in made]), flush=True)


if __name__ == "__main__":
    main()
