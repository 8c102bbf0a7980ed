"""The TensorBoard companion: it listens to the rank callback and writes what happened."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, ArgumentTypeError, FileAccessError
from reducible_train.linalg.noise import effective_rank, noise_edge_of_spectrum
from reducible_train.preflight.paths import takes_files
from reducible_train.report.analysis import Analysis
from reducible_train.report.records import Cut, KernelCut, KernelRecord, Report, UndoneCut
from reducible_train.tensorboard import events, hparams, measured
from reducible_train.tensorboard import outcome as told
from reducible_train.tensorboard import tags as form

_LAYOUT = {
    "Size and quality": {
        "fraction of the dense model": [r"^reducible/(params|flops)_fraction$"],
        "validation loss": [r"^reducible/val_(.*_)?loss$"],
        "validation metrics": [r"^reducible/val_(?!(.*_)?loss$).*$"],
    },
    "Layers": {
        "rank": [r"^reducible_rank/.*$"],
        "energy kept since the start": [r"^reducible_energy_kept/.*$"],
        "energy kept by a cut": [r"^reducible_cut_energy/.*$"],
        "output error of a cut": [r"^reducible_cut_error/.*$"],
    },
    "Cuts": {
        "cuts undone so far": [r"^reducible/undone_cuts$"],
        "output error of the model": [r"^reducible/output_error$"],
        "loss before and after": [r"^reducible/(before|after)_cut_(.*_)?loss$"],
        "metrics before and after": [r"^reducible/(before|after)_cut_(?!(.*_)?loss$).*$"],
    },
}

Ranks: TypeAlias = tuple[int | None, ...]  # of all kernels, in their order

# What logs hold beside metrics.
_OF_THE_MODEL = ("params", "rank/", "learning_rate")


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
    the last is shown. What the tab *Reducible* shows beside them is written too; all tags are
    listed in `reducible_train.tensorboard.tags`.

    For a dense run to compare with, give it and the fit a `RankScheduler(1.0)`, which cuts
    nothing: the tags are the same.

    The step is the epoch, `initial_epoch` included; used for another fit, it goes on after
    the last epoch written. Where the ranks at the end are not those of the last epoch, as when a
    cut is undone then, they stand at one step more. A new fit that finds logs of another one in
    its folder writes to `reducible_2`, so that nothing is lost, also one with an
    `initial_epoch`; one that resumes from a backup goes on in the last run there is.

    Args:
        scheduler: The `RankScheduler` of the same fit.
        log_dir: Folder of the logs, or a `keras.callbacks.TensorBoard`, whose `log_dir` is
            then read when training begins (Keras Tuner gives each trial its own).
        analysis: What `analyze` has found of the dense model, for the tab's view *sensitivity*.
        latency: Whether the seconds of a prediction for 32 samples are measured when training
            ends, of a `Distiller` by its student, so that the tab can show accuracy against
            latency. What cannot be measured is said in a warning, and in the tab.
        in_hparams: Whether the fit is a row of the HParams dashboard; not where another writes it,
            as keras-tuner does for each trial.

    Raises:
        ArgumentTypeError: If `scheduler` has no report, `log_dir` is neither a path nor
            a callback with a log folder, or `analysis` is no `Analysis`.
        ArgumentError: When `fit` begins, if the scheduler does not take part in it.
        FileAccessError: When `fit` begins, if the log folder is a file, below one, or where
            nothing may be written.

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
        *,
        analysis: Analysis | None = None,
        latency: bool = False,
        in_hparams: bool = True,
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
        if analysis is not None and not isinstance(analysis, Analysis):
            raise ArgumentTypeError(
                "`analysis` must be an Analysis, as analyze(model, data) gives it. "
                f"Received: {analysis!r}. Read a file with Analysis.from_json(text)."
            )
        self.scheduler = scheduler
        self.log_dir = log_dir
        self.analysis = analysis
        self.latency = latency
        self.in_hparams = in_hparams
        self._writer: events.RunWriter | None = None
        self._asked = ""  # the folder of the run
        self._folder = ""  # the one that was free
        self._last_step = -1
        self._added_steps: list[int] = []  # after which no epoch was
        self._offset = 0  # from epoch to step
        self._cuts: tuple[Cut, ...] = ()  # already written
        self._undone = 0  # how many of those that were undone
        self._metrics: dict[str, None] = {}  # names seen, in their order
        self._ranks: Ranks = ()  # those written last
        self._logs: dict[Ranks, Mapping[str, Any]] = {}  # of the last epoch at each ranks
        self._session = hparams.Session({})

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
        _check_folder(log_dir, folder)
        self._session = hparams.session_of(self.scheduler, self.model, self.params)
        self._session.is_row = self.in_hparams
        if folder != self._asked:
            self._asked = self._folder = folder
            self._last_step, self._added_steps = -1, []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        report = self._report()
        if report is None:
            return
        values: list[events.Value] = []
        opens = self._writer is None
        if self._writer is None:  # not earlier: a fit that is refused leaves no file behind
            is_first = self._last_step < 0
            self._writer = self._opened(report, epoch)
            if is_first:
                values += _written_once(self.scheduler, report, self.analysis)
        self._last_step = epoch + self._offset
        metrics = list(_metric_values(logs or {}))
        self._metrics |= dict.fromkeys(each.tag.removeprefix("reducible/") for each in metrics)
        values += [*_model_values(report), *metrics, *_kernel_values(report)]
        self._ranks = _ranks(report)
        self._logs[self._ranks] = dict(logs or {})
        values += self._session.values(self._metrics, logs or {})
        made, undone = self._news(report)
        values += [*_cut_values(made), *_answer_values(made)]
        values += self._decided(epoch, made, undone)
        if opens or made or undone:
            values.append(self._outcome_value(report))
        self._writer.write(self._last_step, values)

    def _opened(self, report: Report, epoch: int) -> events.RunWriter:
        """What writes from an epoch on."""
        if self._last_step < 0:
            self._folder = _run(self._folder, resumes=self._resumed_at() == epoch)
        self._offset = max(self._last_step + 1 - epoch, 0)
        self._cuts = tuple(c for c in report.cuts if c.epoch < epoch)  # of a fit before
        self._undone, self._metrics, self._logs = 0, {}, {}
        return events.RunWriter(self._folder)

    def _resumed_at(self) -> int | None:
        """The epoch at which a backup among the callbacks goes on."""
        found = (getattr(each, "resumed_at", None) for each in _keras.other_callbacks(self))
        return next((epoch for epoch in found if epoch is not None), None)

    def _opened_to_end(self, report: Report) -> events.RunWriter | None:
        """What tells the end of a training that was broken off after its last epoch."""
        epoch = self._resumed_at()
        if epoch is None or not os.path.isdir(self._folder):
            return None
        writer = self._opened(report, epoch)
        self._last_step, self._ranks = epoch - 1 + self._offset, _ranks(report)
        known = getattr(self.scheduler, "metric_directions", {})
        self._metrics = {f"{side}_{name}": None for name in known for side in ("val", "train")}
        return writer

    def _news(self, report: Report) -> tuple[list[Cut], Sequence[UndoneCut]]:
        """The cuts that were made, and those that were undone, since the last call."""
        made = [c for c in report.cuts if not any(c is old for old in self._cuts)]
        undone = report.undone[self._undone :]
        self._cuts, self._undone = report.cuts, len(report.undone)
        return made, undone

    def _decided(
        self, epoch: int, cuts: Sequence[Cut], undone: Sequence[UndoneCut]
    ) -> Iterator[events.Value]:
        """For the tab and, in words, for the text dashboard; nothing if nothing was decided."""
        if not cuts and not undone:
            return
        yield events.json_text(
            form.DECISIONS,
            form.to_json(told.decisions(epoch, cuts, undone)),
            form.PLUGIN_NAME,
            "The cuts of this epoch, and those that were undone in it.",
        )
        words = told.sentences(cuts, undone)
        yield events.text(form.CUTS, words, "The cuts of this epoch, and those undone in it.")

    def _outcome_value(self, report: Report, **more: Any) -> events.Value:
        """The model as it is; what it says takes the place of what was said before."""
        values = told.outcome(report, self.scheduler, self._metrics)
        epochs = (self.params or {}).get("epochs")
        plain = {"epochs": epochs, "done": False, "added_steps": list(self._added_steps)}
        return events.json_text(
            form.OUTCOME,
            form.to_json(values | plain | more),
            form.PLUGIN_NAME,
            "The model as it is, what was asked for and what was reached; the last one counts.",
        )

    def _report(self) -> Report | None:
        """What there is to show; nothing while no step has given the model its weights."""
        try:
            return self.scheduler.report
        except ArgumentError:
            return None

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        report = self._report()
        missing: list[str] = []
        if self._writer is None and report is not None:
            self._writer = self._opened_to_end(report)
        if self._writer is not None and report is not None:
            decided = self._decided(self._last_step - self._offset, *self._news(report))
            ends = [hparams.session_end()] if self.in_hparams else []
            found, missing = self._measured(report)
            outcome = self._at_the_end(report, found, missing)
            self._writer.write(self._last_step, [*decided, outcome, *ends])
            if _ranks(report) != self._ranks:
                self._last_step += 1
                self._added_steps.append(self._last_step)
                self._writer.write(self._last_step, self._after_the_last_epoch(report))
        self._close()
        for sentence in missing:
            warnings.warn(sentence, stacklevel=2)

    def _after_the_last_epoch(self, report: Report) -> Iterator[events.Value]:
        """A model whose last cut was undone: its size, and the quality that it had with it."""
        yield from _model_values(report)
        yield from _kernel_values(report)
        yield from self._session.quality(self._logs.get(_ranks(report), {}))

    def _measured(self, report: Report) -> tuple[dict[str, float | None], list[str]]:
        """What is measured of the trained model; a sentence on each thing that cannot be."""
        asked: dict[str, tuple[str, Callable[[Any], float]]] = {}
        if isinstance(self.model, keras.Model):  # else a loop of one's own
            asked["file_bytes"] = "size of the file", partial(measured.file_bytes, report=report)
        if self.latency:
            asked["latency"] = "latency", measured.latency
        found: dict[str, float | None] = {"file_bytes": None, "latency": None}
        missing: list[str] = []
        for name, (what, measure) in asked.items():
            try:
                found[name] = measure(self)
            except Exception as error:  # whatever it is, the fit ends as it would without logs
                why = str(error) if isinstance(error, ArgumentError) else measured.told(error)
                missing.append(f"RankTensorBoard has not measured the {what}: {why}")
        return found, missing

    def _at_the_end(
        self, report: Report, found: Mapping[str, float | None], missing: Sequence[str]
    ) -> events.Value:
        """The outcome, with what is measured of the trained model."""
        epoch = getattr(self.scheduler, "kept_epoch", None)
        more = {
            "done": True,
            "kept_step": None if epoch is None else epoch + self._offset,
            "last_step": self._last_step,
        }
        notes = [*report.notes, *missing]
        return self._outcome_value(report, **more, **found, notes=notes)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _check_folder(log_dir: str, folder: str) -> None:
    """Refuse, before anything is trained, what cannot become a folder with logs."""
    if "://" in log_dir:  # elsewhere: what is there is known when it is written to
        return
    there = os.path.abspath(folder)
    while not os.path.lexists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        wrong = f"but {there!r} is no folder"
    elif not takes_files(there):
        wrong = f"but nothing may be written to {there!r}"
    else:
        return
    raise FileAccessError(
        f"`log_dir` must be a folder. Received: {log_dir!r}, {wrong}. "
        "Choose another place for the logs."
    )


def _run(folder: str, *, resumes: bool) -> str:
    """The folder, or one beside it if another fit has written there: its points would be lost.

    A fit that resumes from a backup goes on in the last one that is there.
    """
    last, found, count = folder, folder, 1
    while os.path.isdir(found) and os.listdir(found):
        count += 1
        last, found = found, f"{folder}_{count}"
    return last if resumes else found


def _written_once(
    scheduler: HasReport, report: Report, analysis: Analysis | None
) -> Iterator[events.Value]:
    yield events.custom_scalars_layout(_LAYOUT)
    if analysis is not None:
        yield events.json_text(
            form.ANALYSIS,
            form.to_json(told.sensitivity(analysis)),
            form.PLUGIN_NAME,
            "The metric of the dense model with each kernel alone cut to each of some ranks.",
        )
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


def _ranks(report: Report) -> Ranks:
    return tuple(kernel.rank for kernel in report.kernels)


def _model_values(report: Report) -> Iterator[events.Value]:
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
    yield events.scalar(
        form.UNDONE_CUTS, len(report.undone), "Cuts that the guard has undone so far."
    )


def _metric_values(logs: Mapping[str, Any]) -> Iterator[events.Value]:
    """The validation metrics; where nothing is validated those of the training data."""
    numbers = {name: number for name in logs if (number := _number(logs[name])) is not None}
    validated = {name: value for name, value in numbers.items() if name.startswith("val_")}
    for name, value in validated.items():
        words = "Measured at the sizes and ranks of this step."
        yield events.scalar(form.metric_tag(name), value, words)
    if validated:
        return
    for name, value in numbers.items():
        if not name.startswith(_OF_THE_MODEL):
            words = "Of the training data while the epoch ran; nothing was validated."
            yield events.scalar(form.metric_tag(f"train_{name}"), value, words)


def _kernel_values(report: Report) -> Iterator[events.Value]:
    for kernel in report.kernels:
        if kernel.rank is not None or kernel.reason is None:
            yield from _values_of(kernel)


def _values_of(kernel: KernelRecord) -> Iterator[events.Value]:
    yield events.scalar(
        form.rank_tag(kernel.path),
        min(kernel.shape) if kernel.rank is None else kernel.rank,
        "Rank in force as the epoch ended; the full rank while the layer is dense.",
    )
    yield events.scalar(
        form.energy_kept_tag(kernel.path),
        1.0 if kernel.energy is None else kernel.energy,
        "Energy that the kernel has kept since the start, over all its cuts; 1 while dense.",
    )


def _cut_values(cuts: list[Cut]) -> Iterator[events.Value]:
    last: dict[str, KernelCut] = {kernel.path: kernel for cut in cuts for kernel in cut.kernels}
    for path, kernel in last.items():
        yield events.scalar(
            form.cut_energy_tag(path),
            kernel.energy,
            "Energy kept by the last cut of this epoch alone, not since the start.",
        )
        if kernel.output_error is not None:
            yield events.scalar(
                form.cut_error_tag(path),
                kernel.output_error,
                "Share of the variance of the kernel's outputs lost by the last cut of this epoch.",
            )
        yield events.tensor(
            form.spectrum_tag(path),
            _spectrum(kernel).to_tensor(),
            form.PLUGIN_NAME,
            "Singular values before the last cut of this epoch, thinned, and the rank kept.",
        )


def _spectrum(kernel: KernelCut) -> form.ThinnedSpectrum:
    """Some of its values, and what all of them tell."""
    values = np.asarray(kernel.spectrum)
    tail = values[kernel.rank :]
    known = kernel.effective_rank
    if known is None and not (len(tail) > 1 and tail[0] == tail[-1] > 0):  # else never told apart
        known = effective_rank(values)
    return dataclasses.replace(
        form.thin_spectrum(values, kernel.rank),
        effective_rank=known,
        noise_edge=noise_edge_of_spectrum(values, kernel.shape),
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
            words = f"Measured right {side} the cuts of this epoch, on the same samples."
            yield events.scalar(form.around_cut_tag(side, name), value, words)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):  # some callbacks leave other things in the logs
        return None
