"""One of two processes of JAX that train one model: what one decides, both do.

    KERAS_BACKEND=jax python tests/two_processes.py PORT 0 & ... PORT 1

Each has its own clock, its own calibration set and a metric of its own; ranks and weights must
stay the same, which each prints in the end.
"""

from __future__ import annotations

import hashlib
import os
import sys
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import keras
import numpy as np

from reducible_train import (
    Adaptive,
    ArgumentError,
    Cadence,
    Guard,
    Latency,
    PiecewiseConstant,
    RankScheduler,
    TailShrink,
)

FALL = PiecewiseConstant((1.0, 0.9, 0.6), (0, 1, 2))
Y = "own"


def clock(process: int) -> Any:
    """Another clock for each process: by one a factor costs nothing, by the other much."""

    def seconds(calls: Any, rounds: int) -> list[float]:
        for call in calls:
            call()
        sizes = [[v.shape for v in call.layer.weights if len(v.shape) == 2] for call in calls]
        return [sum(m * n + 200 * process for m, n in shapes) for shapes in sizes]

    return seconds


class OwnMetric(keras.callbacks.Callback):
    """A metric that gets worse in the second process only, after its first epochs."""

    def __init__(self, process: int):
        super().__init__()
        self.process = process

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs[Y] = 1.0 - self.process * (epoch > 0)


def fits(process: int) -> dict[str, dict[str, Any]]:
    """Settings of schedulers that decide by what only one process knows."""
    x = np.random.default_rng(process).normal(size=(64, 24)).astype("float32")
    x[:, : 12 * process] = 0
    return {
        "latency": {"budget": FALL, "measure": Latency(timer=clock(process))},
        "measured": {"budget": PiecewiseConstant((1.0, 0.9), (0, 1)), "measure": Latency(rounds=1)},
        "activation": {"budget": FALL, "criterion": "activation", "calibration": x},
        "guard": {"budget": FALL, "guard": Guard(Y, max_drop=0.1, mode="max")},
        "adaptive": {"cadence": Cadence(start=Adaptive(end_epoch=2))},
        "aid": {"budget": PiecewiseConstant((1.0, 0.5), (0, 2)), "aids": [TailShrink()]},
    }


WIDTHS = {"measured": 1024}  # narrow layers take as long with factors, but for chance


def model(width: int = 32) -> Any:
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(width, "tanh", name=f"hidden_{i}") for i in range(2)]
    made = keras.Sequential([keras.Input((24,)), *layers, keras.layers.Dense(4, name="last")])
    made.compile("adam", "mse")
    return made


def main(port: str, process: int) -> None:
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process, initialization_timeout=60)
    devices = keras.distribution.list_devices()
    parallel = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    keras.distribution.set_distribution(parallel)
    x, y = (np.random.default_rng(9).normal(size=(64, n)).astype("float32") for n in (24, 4))
    for name, settings in fits(process).items():
        net, scheduler = model(WIDTHS.get(name, 32)), RankScheduler(**settings)
        callbacks = [OwnMetric(process), scheduler]
        net.fit(x, y, batch_size=16, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
        ours = [np.asarray(each.value.addressable_data(0)) for each in net.variables]
        ours += [np.asarray(each.value.addressable_data(0)) for each in net.optimizer.variables]
        digest = hashlib.sha256(b"".join(each.tobytes() for each in ours)).hexdigest()[:16]
        undone = len(scheduler.report.undone)
        print(f"{name}: {scheduler.report.ranks} {undone} undone {digest}", flush=True)
    print("split:", refusal(x, y), flush=True)


def refusal(x: np.ndarray, y: np.ndarray) -> str:
    """What is said of kernels of which each process has a part."""
    mesh = keras.distribution.DeviceMesh(
        (1, 2), ("batch", "model"), keras.distribution.list_devices()
    )
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*kernel"] = (None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layouts, auto_shard_dataset=False)
    )
    try:
        model().fit(x, y, epochs=3, verbose=0, callbacks=[RankScheduler(budget=FALL)])
    except ArgumentError as error:
        return str(error)
    return "trained"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
