"""Draws the pictures of `docs/concepts.md`, from a network trained on scikit-learn's digits.

python docs/pictures.py
"""

from __future__ import annotations

from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reducible_train import Ramp, factorize
from reducible_train.datasets import Dataset, load
from reducible_train.report.records import Report

FOLDER = Path(__file__).parent / "pictures"
BLUE, ORANGE, GREEN = "#2a6fbb", "#d9772b", "#3a8f5c"
mpl.rcParams["svg.hashsalt"] = "reducible_train"  # the same picture gives the same bytes
mpl.rcParams["svg.fonttype"] = "none"


def trained(data: Dataset) -> keras.Model:
    """64-256-256-256-10."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((data.features,))]
    layers += [keras.layers.Dense(256, "relu", name=f"hidden_{i}") for i in (1, 2, 3)]
    model = keras.Sequential([*layers, keras.layers.Dense(data.classes, "softmax", name="output")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data.x_train, data.y_train, epochs=12, verbose=0)
    return model


def cut(model: keras.Model, data: Dataset, **settings: object) -> tuple[float, Report]:
    """Test accuracy and report of a copy that is cut once and not trained."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.compile(model.optimizer.__class__(), model.loss, metrics=["accuracy"])
    samples = None if settings.get("criterion") == "frobenius" else (data.x_train, data.y_train)
    report = factorize(copy, calibration=samples, **settings)
    return 100 * copy.evaluate(data.x_test, data.y_test, verbose=0)[1], report


def axes(title: str, x: str, y: str, *, width: float = 6.0) -> tuple[Figure, Axes]:
    """One plot, with nothing but what is needed."""
    figure = Figure((width, 3.0), layout="constrained")
    found = figure.subplots()
    found.set_title(title, fontsize=10, loc="left")
    found.set_xlabel(x)
    found.set_ylabel(y)
    found.spines[["top", "right"]].set_visible(False)
    return figure, found


def spectrum(model: keras.Model) -> Figure:
    """Singular values of a trained kernel, and of the same numbers shuffled."""
    kernel = np.asarray(model.get_layer("hidden_2").kernel)
    shuffled = np.random.default_rng(0).permuted(kernel.ravel()).reshape(kernel.shape)
    figure, plot = axes("Singular values of a trained 256 x 256 kernel", "index", "singular value")
    plot.plot(np.linalg.svd(kernel, compute_uv=False), color=BLUE, label="the kernel")
    plot.plot(
        np.linalg.svd(shuffled, compute_uv=False), "--", color=ORANGE, label="its numbers, shuffled"
    )
    plot.legend(frameon=False)
    return figure


def judged(model: keras.Model, data: Dataset) -> Figure:
    """Accuracy right after one cut, by criterion and budget."""
    figure, plot = axes(
        "One cut, no training: the data knows which directions matter",
        "parameters left",
        "test accuracy, %",
    )
    budgets = (0.6, 0.4, 0.3, 0.2, 0.15, 0.1)
    for criterion, color in (("fisher", GREEN), ("activation", BLUE), ("frobenius", ORANGE)):
        found = [cut(model, data, budget=budget, criterion=criterion)[0] for budget in budgets]
        plot.plot(budgets, found, "o-", color=color, label=criterion)
    plot.invert_xaxis()
    plot.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    plot.legend(frameon=False)
    return figure


def shared(model: keras.Model, data: Dataset) -> Figure:
    """Ranks that one budget gives to the kernels, by allocation."""
    figure, plot = axes("A quarter of the parameters, shared among three kernels", "", "rank")
    ways = ("knapsack", "equal_energy", "uniform")
    for index, (allocation, color) in enumerate(zip(ways, (GREEN, BLUE, ORANGE), strict=True)):
        _, report = cut(model, data, budget=0.25, allocation=allocation, criterion="fisher")
        ranks = [report.ranks.get(f"hidden_{i}/kernel", 0) for i in (1, 2, 3)]
        places = np.arange(3) + 0.26 * (index - 1)
        plot.bar(places, ranks, 0.24, color=color, label=allocation)
    plot.set_xticks(range(3), ["hidden_1, 64 x 256", "hidden_2, 256 x 256", "hidden_3, 256 x 256"])
    plot.legend(frameon=False)
    return figure


def schedules() -> Figure:
    """The shapes of a ramp."""
    figure, plot = axes("Ramp(1.0, 0.25, start_epoch=2, end_epoch=8)", "epoch", "budget")
    times = np.linspace(0, 12, 241)
    for shape, color in (("cubic", GREEN), ("linear", BLUE), ("cosine", ORANGE)):
        ramp = Ramp(1.0, 0.25, start_epoch=2, end_epoch=8, shape=shape)
        plot.plot(times, [ramp(time) for time in times], color=color, label=shape)
    plot.set_ylim(0, 1.05)
    plot.legend(frameon=False)
    return figure


def main() -> None:
    """Write all of them."""
    data = load("digits")
    model = trained(data)
    drawn = {
        "spectrum": spectrum(model),
        "judged": judged(model, data),
        "shared": shared(model, data),
        "schedules": schedules(),
    }
    FOLDER.mkdir(exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
