"""The best epoch in a file, chosen among those at the final ranks."""

from __future__ import annotations

import math
import os
import secrets
import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import keras

from reducible_train import _keras
from reducible_train.container.files import accessing, check_path, replacing_by
from reducible_train.errors import ArgumentError, FormatError, shortened
from reducible_train.preflight.paths import check_writable
from reducible_train.report.records import Report
from reducible_train.saving.checks import check_savable
from reducible_train.saving.model_file import write_model
from reducible_train.saving.way_back import WayBack
from reducible_train.settings.callbacks import CheckpointSettings
from reducible_train.settings.checkpoint_names import ENDINGS, ending_of, folder_of
from reducible_train.surgery.plans import plan_of
from reducible_train.training.other_callbacks import AtFinalRanks, check_scheduler
from reducible_train.training.rank_scheduler import RankScheduler

# What writes a model, with the report of its scheduler, into a file of each ending; a compact one
# has its own way back.
_Writer = Callable[[Any, Path, Report | None], WayBack | None]


def _by_keras(save: Callable[[Any, Path], None]) -> _Writer:
    """A writer of Keras's, whose file takes its place once it is whole.

    Also of a model that trains its parts and is never built itself. What Keras cannot write, such
    as a class without `get_config`, is a `FormatError`.
    """

    def write(model: Any, path: Path, _: Report | None) -> None:
        try:
            with replacing_by(path) as beside, _keras.seen_as_built(model):
                save(model, beside)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise FormatError(
                f"A {ending_of(path.name)} file cannot hold model '{model.name}'. Received: "
                f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 300)} Name the "
                "file *.reducible or *.weights.h5, for load_weights_into."
            ) from error

    return write


WRITERS: Mapping[str, _Writer] = dict(
    zip(
        ENDINGS,
        (
            lambda model, *to: write_model(_keras.trained_model(model), *to)[1],
            _by_keras(lambda model, path: model.save(path)),
            _by_keras(_keras.save_weights),
        ),
        strict=True,
    )
)


class RankModelCheckpoint(AtFinalRanks, keras.callbacks.Callback):
    """Saves the best epoch of a training, once the ranks have fallen.

    Keras's `ModelCheckpoint(save_best_only=True)` compares a model with the larger one it was
    before a cut, so that the best file is that of the larger one. This one begins at the final
    ranks, and begins anew whenever ranks change after that (a guard has undone a cut, a search
    goes on): the file is of the best epoch at the ranks in force, written whole or not at all.
    An older file stays until then. Another `fit` goes on with the best of the one before: of the
    same model, at the same ranks, by the same metric, with the same loss and metrics compiled, in
    a file of the same name that is still there. So does one that goes on from a backup.
    Put it after the `RankScheduler`, and after `SwapEMAWeights(swap_on_epoch=True)`, whose averages
    are what validation measures.

    Args:
        scheduler: The `RankScheduler` of the same fit.
        filepath: The file: `*.reducible`, a compact one with the report, of a `Distiller` its
            student; `*.keras` and `*.weights.h5`, Keras's own, with the state of the optimizer, of
            a `Distiller` the teacher as well. `{epoch}` in it, counted
            from 1, and the names of metrics become their values: `"{epoch:02d}.reducible"`.
        monitor: A metric of the logs.
        mode: `"max"` or `"min"`, whether the metric should be large or small; `"auto"` asks
            Keras.
        save_best_only: False to save every epoch at the final ranks.
        save_weights_only: True only says what the name tells, `*.weights.h5`.
        initial_value_threshold: A value that must be passed for an epoch to be saved.

    Attributes:
        best: The metric of the epoch that was saved last; `None` before one was.
        best_epoch: That epoch, from 0.
        saved: The file that was written last.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentError: Another kind of file; when `fit` begins: it does not stand after the
            scheduler, the metric will not be in the logs or is of averages of the weights, or
            nobody knows whether it should be large or small; after the first epoch: the name asks
            for what is not in the logs.
        FormatError: When `fit` begins: the file cannot hold the model.
        FileAccessError: The file cannot be written; known when `fit` begins, unless the disk
            fills up.

    Example:
        >>> from reducible_train import Ramp, RankScheduler
        >>> scheduler = RankScheduler(budget=Ramp(1.0, 0.2, start_epoch=2, end_epoch=6))
        >>> best = RankModelCheckpoint(scheduler, "best.reducible", monitor="val_accuracy")
        >>> # model.fit(x, y, validation_split=0.1, epochs=16, callbacks=[scheduler, best])
    """

    first_marks: ClassVar[Mapping[str, Any]] = {"best": None, "best_epoch": None}
    lasting_marks = ("_saved", "_saved_as", "_wrote")

    def __init__(
        self,
        scheduler: RankScheduler,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        mode: str = "auto",
        save_best_only: bool = True,
        save_weights_only: bool = False,
        initial_value_threshold: float | None = None,
    ):
        check_scheduler(scheduler, RankScheduler, "RankModelCheckpoint")
        super().__init__()
        check_path(filepath)
        asked = CheckpointSettings(
            filepath, monitor, mode, save_best_only, save_weights_only, initial_value_threshold
        )
        self.scheduler = scheduler
        self.filepath = os.fspath(asked.filepath)
        self.monitor = asked.monitor
        self.mode = asked.mode
        self.save_best_only = asked.save_best_only
        self.initial_value_threshold = asked.initial_value_threshold
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._saved: str | None = None
        self._saved_as = ""  # the name it was given by
        self._sign = 1
        self._told = False  # how the file comes back
        self._named = False  # whether the name is known to be one that the logs can fill
        self._last: tuple[int, dict[str, Any]] | None = None  # epoch of this fit
        self._why = ""  # nothing was saved
        self._wrote = False  # in this training, also before it was broken off
        self._of: tuple[Any, ...] | None = None  # what the best is of, and by

    def __getstate__(self) -> dict[str, Any]:  # a copy is in no fit yet
        return vars(self) | vars(keras.callbacks.Callback()) | {"_of": None}

    @property
    def saved(self) -> Path | None:
        """The file that was written last."""
        return None if self._saved is None else Path(self._saved)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._sign = self.check_fit()
        if not (self._has_file() and self._of == self._compared()):
            self._forget()
        self._told, self._named, self._wrote, self._last = False, False, False, None
        self._why = "training ended before the first epoch at the final ranks"
        self._try()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if self._last is None:
            self._look_for_file()
        self._last = epoch, dict(logs)
        self._of = self._compared()
        if not self._named and self.monitor in logs:
            self._filled(epoch, logs)
            self._named = True
        if not self.counts(epoch):
            return
        if not _keras.has_weights(self.model):
            self._why = "the model had no weights, for no step was trained"
            return
        value = logs.get(self.monitor)
        if not self.save_best_only or self._is_better(value):
            self._save(epoch, logs)
            self.best = None if value is None else float(value)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._last is None:
            self._look_for_file()
        has_best = self.best_epoch is not None
        if has_best and (self._wrote or self.saved is None):  # or of an older backup
            return
        if not self._wrote or self._last is None:
            stays = (
                f"{str(self.saved)!r} is still of an earlier fit ({self.monitor}={self.best})."
                if has_best
                else "A file that was there before is as it was. Train for more epochs, or let "
                f"ranks fall earlier; {self.monitor!r} must be in the logs."
            )
            warnings.warn(
                f"RankModelCheckpoint has written nothing to {self.filepath!r}: {self._why}. "
                + stays,
                stacklevel=2,
            )
        else:  # ranks have changed since
            old = self.saved
            self._save(*self._last)
            warnings.warn(
                f"Ranks changed after the epoch in {str(old)!r}, as training ended. "
                f"{str(self.saved)!r} now holds the model as it is, not the best of its epochs.",
                stacklevel=2,
            )

    def _compared(self) -> tuple[Any, ...]:
        """What must be the same for the values of two epochs to be compared, and for their file."""
        measured = self.monitor, self._sign, _keras.measured_with(self.model)
        return weakref.ref(self.model), plan_of(self.model), *measured

    def _has_file(self) -> bool:
        """True if the best is in a file that is there, and of the name that is asked for."""
        asked, saved = (os.path.abspath(each) for each in (self.filepath, self._saved_as))
        return asked == saved and self.saved is not None and self.saved.exists()

    def _look_for_file(self) -> None:
        """Begin anew, once a backup has brought its best, if that is in no file of this fit."""
        if self.saved is not None and not self._has_file():
            self._why = f"{str(self.saved)!r}, of a fit before, is gone or was called otherwise"
            self._forget()

    def _forget(self) -> None:
        self.best = self.best_epoch = self._saved = None
        self._wrote = False

    def _is_better(self, value: Any) -> bool:
        if value is None:
            self._why = f"{self.monitor!r} was not in the logs"
            return False
        best = self.initial_value_threshold if self.best is None else self.best
        if math.isnan(value):
            self._why = f"{self.monitor!r} was NaN"
            return False
        named = "initial_value_threshold=" if self.best is None else ""
        self._why = f"no value of {self.monitor!r} was better than {named}{best!r}"
        return best is None or self._sign * value > self._sign * best

    def _save(self, epoch: int, logs: Mapping[str, Any]) -> None:
        path = self._filled(epoch, logs)
        with accessing(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._write(path, self.scheduler.report)
        self._saved, self._saved_as = os.fspath(path), self.filepath
        self.best_epoch, self._wrote = epoch, True

    def _write(self, path: Path, report: Report | None) -> None:
        self._tell(WRITERS[ending_of(path.name) or ""](self.model, path, report))

    def _tell(self, back: WayBack | None) -> None:
        """Say once how the model comes back, where its file alone will not do."""
        if back is not None and back.needs_more and not self._told:
            self._told = True
            warnings.warn(f"{self.filepath} will be written. {back}", stacklevel=3)

    def _try(self) -> None:
        """Learn before the training, not after it, what cannot be written."""
        if Path(self.filepath).is_dir():
            raise ArgumentError(
                f"`filepath` must be a file. Received: {self.filepath!r}, which is a folder."
            )
        if Path(self.filepath).is_symlink():
            check_writable(Path(self.filepath), "`filepath`")
        folder = folder_of(self.filepath)
        with accessing(folder, "write"):
            folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{secrets.token_hex(8)}{ending_of(self.filepath)}"
        try:
            with accessing(self.filepath, "write"):
                trial.touch()
            if _keras.unbuilt_parts(self.model):
                return
            if trial.suffix == ".reducible":
                self._tell(check_savable(_keras.trained_model(self.model)))
            else:
                self._write(trial, None)
        finally:
            trial.unlink(missing_ok=True)

    def _filled(self, epoch: int, logs: Mapping[str, Any]) -> Path:
        try:
            return Path(self.filepath.format(epoch=epoch + 1, **logs))
        except (KeyError, ValueError, TypeError) as error:
            raise ArgumentError(
                f"`filepath` must be a name that the logs can fill. Received: {self.filepath!r} "
                f"({type(error).__name__}: {error}). The logs have "
                f"{', '.join(['epoch', *logs])}."
            ) from error
