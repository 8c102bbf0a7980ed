"""tensorly-torch on a dense network of `published.py`, in an environment of its own.

    make peer    # builds it: torch, tensorly, tensorly-torch, nothing of this project

`published.py --peer` gives it a task, as JSON on standard input, and reads a line of JSON for each
way: the dense network in torch, and `FactorizedLinear.from_linear` (CP of the kernel as it is, a
matrix, so `U diag(s) V`) early and late in the same training, an equal fraction of the weights
left in every layer but the last. It has no schedule and no way to choose ranks, and new parameters
start with a new state of Adam. Its implementation is the usual one, which multiplies the factors
out at every call; the one called "factorized" took seconds for one step of a small layer.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tltorch
import torch
from torch import nn


class Training:
    """One network and seed: Adam with one cosine decay, the same samples for every way."""

    def __init__(self, task: Mapping[str, Any]):
        self.task = task
        with np.load(task["data"]) as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        self.steps = math.ceil(len(self.arrays["x"]) / task["batch_size"])

    def network(self) -> nn.Sequential:
        """Dense, its weights drawn as Keras draws them."""
        torch.manual_seed(self.task["seed"])
        sizes = [self.arrays["x"].shape[1], *self.task["hidden"]]
        layers: list[nn.Module] = []
        for inputs, units in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, units), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
        for layer in model[::2]:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        return model

    def train(self, model: nn.Module, first: int, last: int, optimizer: Any = None) -> Any:
        """Epochs `first` to `last`; the answer is the optimizer, to go on with."""
        x, y = self.arrays["x"], self.arrays["y"]
        optimizer = optimizer or torch.optim.Adam(model.parameters(), eps=1e-7)
        order = torch.Generator().manual_seed(1000 * self.task["seed"] + first)
        step = first * self.steps
        for _ in range(first, last):
            for batch in torch.randperm(len(x), generator=order).split(self.task["batch_size"]):
                done = step / (self.steps * self.task["epochs"])
                rate = self.task["learning_rate"] * (1 + math.cos(math.pi * done)) / 2
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
                step += 1
        return optimizer

    def accuracy(self, model: nn.Module) -> float:
        """In percent."""
        with torch.no_grad():
            right = model(self.arrays["x_seen"]).argmax(-1) == self.arrays["y_seen"]
        return 100 * float(right.float().mean())


def factorised(model: nn.Sequential, budget: int) -> nn.Sequential:
    """The same network within so many parameters, its last layer dense."""
    dense = list(model[::2])
    fixed = sum(p.numel() for p in dense[-1].parameters()) + sum(d.bias.numel() for d in dense[:-1])
    whole = sum(layer.weight.numel() for layer in dense[:-1])
    fraction = (budget - fixed) / whole
    made = copy.deepcopy(model)
    for index, layer in enumerate(dense[:-1]):
        n, m = layer.weight.shape
        made[2 * index] = tltorch.FactorizedLinear.from_linear(
            copy.deepcopy(layer),
            rank=max(1, int(fraction * m * n / (m + n + 1))),
            auto_tensorize=False,
            in_tensorized_features=(m,),
            out_tensorized_features=(n,),
        )
    return made


def counted(model: nn.Module, *, weights_only: bool) -> int:
    """Parameters, or all but the biases."""
    return sum(
        p.numel()
        for name, p in model.named_parameters()
        if not (weights_only and name.endswith("bias"))
    )


def ways(task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every way: what `published.py` keeps of a run."""
    training = Training(task)
    stops = {"tensorly-torch": task["warmup"], "tensorly-torch, late": task["late"]}
    model, optimizer, spent, at = training.network(), None, 0.0, 0
    flops = 2 * counted(model, weights_only=True)
    kept: dict[str, tuple[nn.Sequential, float]] = {}

    def figures(method: str, goal: float, model: nn.Module, seconds: float) -> dict[str, Any]:
        return {
            "method": method,
            "goal": goal,
            "accuracy": training.accuracy(model),
            "counted": counted(model, weights_only=task["counted"] == "weights"),
            "flops": flops,  # the dense ones: it multiplies the factors out, and then by them
            "seconds": seconds,
        }

    for name, stop in [*stops.items(), ("dense", task["epochs"])]:
        started = time.process_time()
        optimizer, at = training.train(model, at, stop, optimizer), stop
        spent += time.process_time() - started
        kept[name] = copy.deepcopy(model), spent
    yield figures("tensorly-torch, dense", 0.0, *kept["dense"])
    for goal, budget in task["budgets"]:
        for name, stop in stops.items():
            dense, before = kept[name]
            started = time.process_time()
            made = factorised(dense, budget)
            training.train(made, stop, task["epochs"])
            yield figures(name, goal, made, before + time.process_time() - started)


def run() -> None:
    torch.set_num_threads(1)
    for found in ways(json.load(sys.stdin)):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    run()
