"""The picture in the README: ranks, size and accuracy over the epochs of one real fit.

784-512-512-10, the same start and the same epochs twice: dense, and with `RankScheduler`
(two dense epochs, down to a tenth of the parameters over the next four).
"""

from __future__ import annotations

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from common import adam, command, compile_model, console, finish, load, network, parser, show

from reducible_train import Ramp, RankScheduler

HIDDEN = (512, 512)
HOME = Path(__file__).parent / "results"


class Ranks(keras.callbacks.Callback):
    """The ranks in force in each epoch, by kernel; full rank while dense."""

    def __init__(self, scheduler: RankScheduler) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.of: dict[str, list[int]] = {}

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        for kernel in self.scheduler.report.kernels:
            if kernel.reason is None:
                rank = kernel.rank or min(kernel.shape)
                self.of.setdefault(kernel.path.removesuffix("/kernel"), []).append(rank)


def fit(data, args, callbacks: list) -> tuple[keras.Model, dict[str, list[float]]]:
    """One training; all start alike."""
    keras.utils.set_random_seed(args.seed)
    optimizer = adam(1e-3, args.epochs, len(data.x_train), 256)
    model = compile_model(network(data.features, HIDDEN), optimizer)
    history = model.fit(
        data.x_train,
        data.y_train,
        batch_size=256,
        epochs=args.epochs,
        validation_data=(data.x_val, data.y_val),
        callbacks=callbacks,
        verbose=0,
    )
    return model, history.history


def draw(path: Path, dense: list[float], small: list[float], size: list[float], ranks) -> None:
    """Accuracy above, ranks and size below."""
    epochs = np.arange(1, len(dense) + 1)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.5, 5.6), sharex=True, layout="constrained", height_ratios=[1, 1.2]
    )
    top.plot(epochs, 100 * np.array(dense), color="0.55", marker="o", ms=3.5, label="dense")
    top.plot(epochs, 100 * np.array(small), color="C0", marker="o", ms=3.5, label="ranks fall")
    top.set_ylabel("validation accuracy, %")
    top.legend(loc="lower right", frameon=False)
    for number, (name, values) in enumerate(ranks.items()):
        bottom.plot(
            epochs, values, drawstyle="steps-mid", color=f"C{number + 1}", label=f"rank of {name}"
        )
    bottom.set_yscale("log", base=2)
    bottom.yaxis.set_major_formatter("{x:g}")
    bottom.set_ylabel("rank (log scale)")
    bottom.set_xlabel("epoch")
    bottom.set_xticks(epochs)
    share = bottom.twinx()
    share.fill_between(epochs, 100 * np.array(size), step="mid", color="C0", alpha=0.13, lw=0)
    share.set_ylim(0, 105)
    share.set_ylabel("parameters, % of dense")
    bottom.set_zorder(share.get_zorder() + 1)
    bottom.patch.set_visible(False)
    bottom.legend(loc="upper right", frameon=False)
    for axes in (top, bottom, share):
        axes.spines[["top"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=16)
    options.add_argument("--budget", type=float, default=0.1)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--out", type=Path, default=HOME / "ranks_and_accuracy.png")
    args = options.parse_args()
    console.print(f"$ {command()}")
    data = load(args.data)
    dense_model, dense = fit(data, args, [])
    scheduler = RankScheduler(budget=Ramp(1.0, args.budget, start_epoch=2, end_epoch=6))
    ranks = Ranks(scheduler)
    small_model, small = fit(data, args, [scheduler, ranks])
    draw(args.out, dense["val_accuracy"], small["val_accuracy"], small["params_fraction"], ranks.of)

    rows = {}
    for name, model in (("dense", dense_model), ("ranks fall", small_model)):
        right = model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
        rows[name] = {"parameters": model.count_params(), "test_accuracy": right["accuracy"]}
    show(
        f"{args.data}, {args.epochs} epochs, seed {args.seed}",
        ["", "parameters", "test accuracy, %"],
        [
            [name, f"{row['parameters']:,}", f"{100 * row['test_accuracy']:.2f}"]
            for name, row in rows.items()
        ],
    )
    console.print(f"written: {args.out}")
    finish({"models": rows, "ranks": {name: values[-1] for name, values in ranks.of.items()}})


if __name__ == "__main__":
    main()
