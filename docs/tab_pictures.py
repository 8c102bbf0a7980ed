"""Takes the pictures of the tab in TensorBoard, light and dark, on runs that it makes by real fits.

    python docs/tab_pictures.py                  # make pictures
    python docs/tab_pictures.py --logs FOLDER    # with the runs that are there, and keep them

The runs are trained on scikit-learn's digits from one seed: the same numbers every time on one
machine. Only Chromium and its driver are needed beside the packages of `make env`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import keras

from reducible_train import Guard, PiecewiseConstant, Ramp, RankScheduler, RankTensorBoard, analyze
from reducible_train.datasets import Dataset, load
from reducible_train.errors import ShortfallWarning
from reducible_train.report.analysis import Analysis

TOP = Path(__file__).resolve().parents[1]
sys.path.append(str(TOP / "tests"))

from browser import BROWSER, DRIVER, Tab, chromium, served  # noqa: E402

FOLDER = TOP / "docs" / "pictures"
Network: TypeAlias = Callable[[Dataset], keras.Model]
START, EPOCHS = 4, 24
# Which run each view shows.
SHOWN = {
    "overview": "ramp-10",
    "ranks": "guard",
    "map": "transformer-25",
    "spectrum": "ramp-10",
    "frontier": "ramp-10",
    "decisions": "guard",
    "sensitivity": "ramp-10",
}


def mlp(data: Dataset) -> keras.Model:
    """64-256-256-256-10."""
    layers = [keras.Input((data.features,))]
    layers += [keras.layers.Dense(256, "relu", name=f"hidden_{i}") for i in (1, 2, 3)]
    return keras.Sequential([*layers, keras.layers.Dense(data.classes, "softmax", name="output")])


def transformer(data: Dataset) -> keras.Model:
    """Four encoder blocks of width 64 on the eight rows of an image: 26 kernels."""
    inputs = keras.Input((data.features,))
    x = keras.layers.Reshape((8, data.features // 8))(inputs)
    x = keras.layers.Dense(64, name="embed")(x)
    for i in range(1, 5):
        attention = keras.layers.MultiHeadAttention(4, 16, name=f"encoder_{i}_attention")
        x = keras.layers.LayerNormalization()(x + attention(x, x))
        wide = keras.layers.Dense(128, "gelu", name=f"encoder_{i}_expand")(x)
        narrow = keras.layers.Dense(64, name=f"encoder_{i}_contract")(wide)
        x = keras.layers.LayerNormalization()(x + narrow)
    pooled = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(data.classes, "softmax", name="output")(pooled))


def ramp(final: float, **options: object) -> RankScheduler:
    """Dense for four epochs, then down to a budget until the twelfth."""
    return RankScheduler(Ramp(1.0, final, start_epoch=START, end_epoch=12), **options)


def runs(data: Dataset, logs: Path) -> None:
    """Train all of them, but those that are there."""
    ways = {
        "dense": (mlp, RankScheduler(1.0)),
        "ramp-25": (mlp, ramp(0.25)),
        "ramp-10": (mlp, ramp(0.1)),
        "ramp-5": (mlp, ramp(0.05)),
        "one-cut-10": (mlp, RankScheduler(PiecewiseConstant((1.0, 0.1), (0, 12)))),
        "guard": (mlp, ramp(0.04, guard=Guard("val_accuracy", max_drop=0.01))),
        "transformer": (transformer, RankScheduler(1.0)),
        "transformer-25": (transformer, ramp(0.25)),
    }
    for name, (network, scheduler) in ways.items():
        if not (logs / name).exists():
            table = analysed(network, data) if name == "ramp-10" else None
            fit(network, data, scheduler, logs / name, table)


def compiled(network: Network, data: Dataset) -> keras.Model:
    """A new model, from the seed."""
    keras.utils.set_random_seed(0)
    model = network(data)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def analysed(network: Network, data: Dataset) -> Analysis:
    """What each kernel is worth, once the model is trained."""
    model = compiled(network, data)
    model.fit(data.x_train, data.y_train, epochs=START, batch_size=32, verbose=0)
    return analyze(model, (data.x_val, data.y_val))


def fit(
    network: Network,
    data: Dataset,
    scheduler: RankScheduler,
    folder: Path,
    table: Analysis | None,
) -> None:
    """Train a new model, and log it."""
    board = RankTensorBoard(scheduler, folder, analysis=table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShortfallWarning)  # of the guard, which the page tells
        compiled(network, data).fit(
            data.x_train,
            data.y_train,
            epochs=EPOCHS,
            batch_size=32,
            verbose=0,
            validation_data=(data.x_val, data.y_val),
            callbacks=[scheduler, board],
        )


def take(address: str) -> None:
    """Every view, light and dark."""
    with chromium() as driver:
        tab = Tab(driver, address)
        for name, run in SHOWN.items():
            tab.run(run).view("ranks" if name == "map" else name)
            if name == "frontier":
                tab.find(".choices input")[0].send_keys("50 kB")
                tab.js("document.activeElement.blur()")  # a caret blinks
            for theme in ("light", "dark"):
                tab.dark(theme == "dark")
                tab.picture(FOLDER / f"tab_{name}_{theme}.png")
        if found := tab.severe():
            sys.exit("\n".join(found))


def main() -> None:
    """Make the runs, then the pictures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--logs", type=Path)
    asked = options.parse_args()
    if BROWSER is None or DRIVER is None:
        sys.exit("no Chromium with its chromedriver is on the PATH; make browser installs them")
    logs = asked.logs or Path(tempfile.mkdtemp(prefix="tab-runs-"))
    runs(load("digits"), logs)
    with served(logs, logs.parent / f"{logs.name}.told.txt") as address:
        take(address)
    (logs.parent / f"{logs.name}.told.txt").unlink()
    if asked.logs is None:
        shutil.rmtree(logs)


if __name__ == "__main__":
    main()
