"""The TensorBoard companion: it listens to the rank callback and writes what happened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import keras

from reducible_train.errors import ArgumentError, ArgumentTypeError, FileAccessError
from reducible_train.report.records import Cut, KernelCut, Report
from reducible_train.tensorboard import events
from reducible_train.tensorboard import tags as form

_LAYOUT = {
    "Size and quality": {
        "fraction of the dense model": [r"^reducible/(params|flops)_fraction$"],
        "validation loss": [r"^reducible/val_(.*_)?loss$"],
        "validation metrics": [r"^reducible/val_(?!(.*_)?loss$).*$"],
    },
    "Layers": {
        "rank": [r"^reducible_rank/.*$"],
        "energy kept by a cut": [r"^reducible_energy/.*$"],
        "output error of a cut": [r"^reducible_error/.*$"],
    },
    "Cuts": {
        "output error of the model": [r"^reducible/output_error$"],
        "loss before and after": [r"^reducible/(before|after)_cut_(.*_)?loss$"],
        "metrics before and after": [r"^reducible/(before|after)_cut_(?!(.*_)?loss$).*$"],
    },
}


class HasReport(Protocol):
    """Anything with a current `Report`; a `RankScheduler` in practice."""

    @property
    def report(self) -> Report: ...


class RankTensorBoard(keras.callbacks.Callback):
    """Shows ranks, sizes, energies and singular spectra in TensorBoard.

    Put it after the rank callback in the list. It writes to a run of its own,
    `<log_dir>/reducible`, at the end of every epoch: the ranks in force while the epoch
    ran, next to the validation metrics measured under them. With a cadence in steps these
    are the ranks at the end of the epoch, and of several cuts of one kernel in one epoch
    the last is shown. Tags and tensors are listed in `tensorboard_format`.

    The step is the epoch, `initial_epoch` included; used for another fit, it goes on after
    the last epoch written.

    Args:
        scheduler: The `RankScheduler` of the same fit.
        log_dir: Folder of the logs, or a `keras.callbacks.TensorBoard`, whose `log_dir` is
            then read when training begins (Keras Tuner gives each trial its own).

    Raises:
        ArgumentTypeError: If `scheduler` has no report, or `log_dir` is neither a path nor
            a callback with a log folder.
        ArgumentError: When `fit` begins, if the scheduler does not take part in it.
        FileAccessError: When `fit` begins, if the log folder is a file.

    Example:
        >>> from reducible_train import Ramp, RankScheduler
        >>> scheduler = RankScheduler(budget=Ramp(1.0, 0.2, start_epoch=2, end_epoch=6))
        >>> board = keras.callbacks.TensorBoard("logs")
        >>> companion = RankTensorBoard(scheduler, board)
        >>> # model.fit(x, y, epochs=16, callbacks=[scheduler, board, companion])
    """

    def __init__(
        self,
        scheduler: HasReport,
        log_dir: str | os.PathLike[str] | keras.callbacks.TensorBoard,
    ):
        super().__init__()
        if not (hasattr(type(scheduler), "report") or hasattr(scheduler, "report")):
            raise ArgumentTypeError(
                "`scheduler` must be the RankScheduler of the same fit. "
                f"Received: {scheduler!r}. Write RankTensorBoard(scheduler, log_dir)."
            )
        if not (isinstance(log_dir, str | os.PathLike) or hasattr(log_dir, "log_dir")):
            raise ArgumentTypeError(
                "`log_dir` must be a folder or a keras.callbacks.TensorBoard. "
                f'Received: {log_dir!r}. Write RankTensorBoard(scheduler, "logs").'
            )
        self.scheduler = scheduler
        self.log_dir = log_dir
        self._writer: events.RunWriter | None = None
        self._folder = ""
        self._last_step = -1
        self._offset = 0  # from epoch to step
        self._cuts: tuple[Cut, ...] = ()  # already written

    def __getstate__(self) -> dict[str, Any]:
        # A copy is in no fit yet: it opens its own file when one begins.
        free: dict[str, Any] = vars(keras.callbacks.Callback()) | {"_writer": None}
        return vars(self) | free

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._close()
        if getattr(self.scheduler, "model", self.model) is not self.model:
            raise ArgumentError(
                "`scheduler` must take part in the same fit. Received: a RankScheduler that is not "
                "among its callbacks. Write model.fit(callbacks=[scheduler, "
                "RankTensorBoard(scheduler, log_dir)])."
            )
        log_dir = os.fspath(getattr(self.log_dir, "log_dir", self.log_dir))
        folder = os.path.join(log_dir, form.RUN)
        for path in (log_dir, folder):
            if os.path.exists(path) and not os.path.isdir(path):
                raise FileAccessError(
                    f"`log_dir` must be a folder. Received: {log_dir!r}, but {path!r} is a file. "
                    "Choose another place for the logs."
                )
        if folder != self._folder:
            self._folder, self._last_step = folder, -1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        report = self._report()
        if report is None:
            return
        values: list[events.Value] = []
        if self._writer is None:  # not earlier: a fit that is refused leaves no file behind
            self._writer = events.RunWriter(self._folder)
            self._offset = max(self._last_step + 1 - epoch, 0)
            self._cuts = tuple(c for c in report.cuts if c.epoch < epoch)  # of a fit before
            if self._last_step < 0:
                values += _written_once(self.scheduler, report)
        self._last_step = epoch + self._offset
        values += [*_model_values(report, logs or {}), *_rank_values(report)]
        made = [c for c in report.cuts if not any(c is old for old in self._cuts)]
        values += [*_cut_values(made), *_answer_values(made)]
        self._cuts = report.cuts
        self._writer.write(self._last_step, values)

    def _report(self) -> Report | None:
        """What there is to show; nothing while no step has given the model its weights."""
        try:
            return self.scheduler.report
        except ArgumentError:
            return None

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _written_once(scheduler: HasReport, report: Report) -> Iterator[events.Value]:
    yield events.custom_scalars_layout(_LAYOUT)
    table = configuration_table(scheduler, report)
    yield events.text(form.CONFIGURATION, table, "What the rank callback was told to do.")


def configuration_table(scheduler: HasReport, report: Report) -> str:
    """The settings of the rank callback as a Markdown table."""
    rows: dict[str, object] = {}
    asked = getattr(scheduler, "settings", scheduler)
    target = getattr(asked, "target", None)
    if target is not None and getattr(asked, "search", None) is None:
        rows |= {part.name: part.schedule for part in target.parts}
    for name in (
        "measure",
        "allocation",
        "criterion",
        "cadence",
        "rules",
        "guard",
        "search",
        "aids",
    ):
        if (value := getattr(asked, name, None)) not in (None, ()):
            rows[name] = value
    calibration = getattr(asked, "calibration", None)
    if calibration is not None:  # data are too much to show
        count = isinstance(calibration, int)
        rows["calibration"] = f"{calibration} samples of the fit" if count else "data of its own"
    rows["parameters of the dense model"] = f"{report.dense_parameters:,}"
    rows["kernels compressible"] = ", ".join(k.path for k in report.kernels if k.reason is None)
    kept = [f"{k.path} ({k.reason})" for k in report.kernels if k.reason is not None]
    rows["kernels left dense"] = ", ".join(kept) or "none"
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| setting | value |", "|---|---|", *lines])


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _model_values(report: Report, logs: Mapping[str, Any]) -> Iterator[events.Value]:
    yield events.scalar(form.PARAMS, report.parameters, "Parameters of the whole model.")
    yield events.scalar(
        form.PARAMS_FRACTION, report.size_fraction, "Parameters over those of the dense model."
    )
    if report.flops_fraction is not None:
        yield events.scalar(
            form.FLOPS_FRACTION,
            report.flops_fraction,
            "FLOPs of one sample over those of the dense model.",
        )
    for name, value in logs.items():
        if name.startswith("val_") and (number := _number(value)) is not None:
            yield events.scalar(
                form.metric_tag(name), number, "Measured at the sizes and ranks of this step."
            )


def _rank_values(report: Report) -> Iterator[events.Value]:
    for kernel in report.kernels:
        if kernel.rank is not None or kernel.reason is None:
            rank = min(kernel.shape) if kernel.rank is None else kernel.rank
            yield events.scalar(
                form.rank_tag(kernel.path),
                rank,
                "Rank in force while the epoch ran; the full rank while the layer is dense.",
            )


def _cut_values(cuts: list[Cut]) -> Iterator[events.Value]:
    last: dict[str, KernelCut] = {kernel.path: kernel for cut in cuts for kernel in cut.kernels}
    for path, kernel in last.items():
        yield events.scalar(
            form.energy_tag(path),
            kernel.energy,
            "Energy kept by the cut made in this epoch alone, not since the start.",
        )
        if kernel.output_error is not None:
            yield events.scalar(
                form.error_tag(path),
                kernel.output_error,
                "Share of the variance of the kernel's outputs lost by the cut of this epoch.",
            )
        yield events.tensor(
            form.spectrum_tag(path),
            form.thin_spectrum(kernel.spectrum, kernel.rank).to_tensor(),
            form.PLUGIN_NAME,
            "Singular values before the cut of this epoch, thinned, and the rank kept.",
        )


def _answer_values(cuts: list[Cut]) -> Iterator[events.Value]:
    """What the cuts of an epoch did to the answers: from before the first to after the last."""
    measured = [cut for cut in cuts if cut.output_error is not None]
    if not measured:
        return
    worst = max(cut.output_error or 0.0 for cut in measured)
    yield events.scalar(
        form.OUTPUT_ERROR, worst, "Error of the outputs right after a cut, over their variance."
    )
    around = ("before", measured[0].metrics_before), ("after", measured[-1].metrics_after)
    for side, metrics in around:
        for name, value in metrics.items():
            told = f"Measured right {side} the cuts of this epoch, on the same samples."
            yield events.scalar(form.around_cut_tag(side, name), value, told)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):  # some callbacks leave other things in the logs
        return None
