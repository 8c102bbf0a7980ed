"""Go on with a fit that was broken off, at the ranks it had."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.container.files import accessing, read_whole, write_text
from reducible_train.errors import ArgumentError, FormatError
from reducible_train.preflight.paths import check_folder
from reducible_train.saving.weights_file import load_keras_weights
from reducible_train.settings.callbacks import BackupSettings
from reducible_train.surgery.merge import check_built
from reducible_train.training.backup_form import form_fault
from reducible_train.training.backup_state import Arrays, misfit_of, put_back, state_of
from reducible_train.training.comparisons import comparing
from reducible_train.training.other_callbacks import check_place, check_scheduler
from reducible_train.training.rank_scheduler import RankScheduler

_VERSION = 2
_FILE = "state.json"
_OLD_FILE = "story.json"  # what it was called first
_REMEDY = "Remove the folder to begin anew."


class RankBackupAndRestore(keras.callbacks.Callback):
    """Saves a training after every epoch, and goes on from there when `fit` is called again.

    For trainings that may be broken off: run the same script once more. Ranks, weights,
    optimizer state (that of torch's own optimizers, too, with the numbers of their groups), the
    epoch, what the `RankScheduler` has done, the state of `Dropout` and
    all other random layers and of stateful RNN layers, and what other callbacks remember of
    the best epoch come back, so that the resumed training is the one that would have been. The
    order of the data is the caller's: `shuffle=True` of `fit` has a state that nobody can
    keep; give `shuffle=False`, or a dataset whose order depends on the epoch only. The same
    holds for random functions of TensorFlow itself. With a criterion that judges
    by the first samples of the fit those are gathered anew; give `calibration` to have the same.

    Put it after the scheduler, and after callbacks that compare epochs: these must compare the
    same metrics again. A training that one of them had stopped, and that was broken off before it
    could end, ends without another epoch. A backup is the weights and what was done, and a file of
    state where the model has some; an old one stays until the new one is complete.

    Args:
        scheduler: The `RankScheduler` of the same fit, without `guard`, `Adaptive`, `Regrow` and
            `Rewarm`, whose state is in no backup.
        backup_dir: Folder for the backup, of this training only; made if it does not exist.
        delete_checkpoint: False to keep the backup when training has ended.

    Attributes:
        start: A fingerprint of what the training begins from, where that is the same each time, as
            a model that is read from a file; a backup of another start is refused. Empty: what
            `fit` is given may be drawn anew, and is not compared.

    Raises:
        ArgumentTypeError: `scheduler` is something else.
        ArgumentError: It has one of these; when `fit` begins: it does not stand after the
            scheduler and all that compares epochs, or the model has optimizers of its own that
            are not built.
        SurgeryError: When `fit` begins: the model is not built.
        FormatError: When `fit` begins: the backup is damaged, or of another model, or callbacks
            remember the best of another metric.
        FileAccessError: It cannot be read or written.

    Example:
        >>> from reducible_train import Ramp, RankScheduler
        >>> scheduler = RankScheduler(budget=Ramp(1.0, 0.2, start_epoch=2, end_epoch=6))
        >>> backup = RankBackupAndRestore(scheduler, "backup")
        >>> # model.fit(x, y, epochs=16, callbacks=[scheduler, backup])
    """

    def __init__(
        self,
        scheduler: RankScheduler,
        backup_dir: str | os.PathLike[str],
        *,
        delete_checkpoint: bool = True,
    ):
        super().__init__()
        check_scheduler(scheduler, RankScheduler, "RankBackupAndRestore")
        scheduler.check_resumable()
        self.scheduler = scheduler
        asked = BackupSettings(backup_dir, delete_checkpoint)
        self.backup_dir = Path(asked.backup_dir)
        self.delete_checkpoint = asked.delete_checkpoint
        self.start = ""
        self.resumed_at: int | None = None  # the epoch at which the fit that runs went on
        self._torch_optimizers: list[Any] = []
        self._has_told_of_late = False
        self._end_watch: Callable[[], None] = _nothing

    def __getstate__(self) -> dict[str, Any]:
        in_no_fit = vars(keras.callbacks.Callback()) | {
            "_torch_optimizers": [],
            "_end_watch": _nothing,
        }
        return vars(self) | in_no_fit

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        check_place(self, self.scheduler)
        check_built(self.model)
        self._check_optimizers()
        check_folder(self.backup_dir, "`backup_dir`", "Choose another.")
        comparers, callbacks = self._comparers(), _keras.other_callbacks(self)
        optimizers = self._torch_optimizers = _keras.torch_optimizers_of(self.model)
        self._has_told_of_late = False
        self.resumed_at, path = None, self._kept()
        if path is None:
            return
        backup = _read(path)
        arrays = self._arrays(backup["epochs"])
        fault = misfit_of(self.model, comparers, backup["state"], arrays, optimizers)
        if len(backup["averages"]) != len(_keras.swapped_averages(callbacks)):
            fault = "it had another number of SwapEMAWeights callbacks. Give the same."
        if self.start and backup.get("start", "") not in ("", self.start):
            fault = (
                "it began from another trained model. Give that one, or remove the folder to begin "
                "anew."
            )
        if fault is not None:
            raise FormatError(f"{self.backup_dir} is of another training: {fault}")
        if backup.get("trains_by_its_optimizer", True):
            _keras.built_optimizer(self.model)
        weights = self._weights(backup["epochs"])
        load_keras_weights(self.model, weights, training=True, remedy=_REMEDY)
        self.scheduler.set_state(backup["scheduler"])
        put_back(self.model, comparers, backup["state"], arrays, optimizers)
        _keras.set_swapped_averages(callbacks, backup["averages"])
        _keras.begin_at(self.model, self._go_on_at(backup))
        self._end_watch = _keras.when_broken_off(self.model, self._begin_no_more)
        self.resumed_at = backup["epochs"]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._begin_no_more()  # Keras has read it: a fit that is broken off leaves it to none

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        _keras.sync_state(self.model)
        self._look_for_late()
        state, arrays = state_of(self.model, self._comparers(), self._torch_optimizers)
        backup = {
            "version": _VERSION,
            "epochs": epoch + 1,
            "start": self.start,
            "scheduler": self.scheduler.get_state(),
            "averages": _keras.swapped_averages(_keras.other_callbacks(self)),
            "state": state,
            "has_stopped": self._has_stopped,
            "trains_by_its_optimizer": getattr(
                _keras.compiled_optimizer(self.model), "built", False
            ),
        }
        files = [self._weights(epoch + 1)]
        with accessing(self.backup_dir, "write"):
            self.backup_dir.mkdir(parents=True, exist_ok=True)
            with _keras.seen_as_built(self.model):
                _keras.save_weights(self.model, files[0])
            if arrays:
                files.append(self._state(epoch + 1))
                np.savez(files[1], **arrays)  # type: ignore[arg-type]
        write_text(self.backup_dir / _FILE, json.dumps(backup))
        (self.backup_dir / _OLD_FILE).unlink(missing_ok=True)
        self._remove(but=files)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._begin_no_more()
        self._torch_optimizers = []
        path = self._kept() if self._has_stopped else None
        if path is not None and not self.delete_checkpoint:  # who keeps it may go on with it
            write_text(path, json.dumps(_read(path) | {"has_stopped": False}))
        if self.delete_checkpoint and self.backup_dir.exists():
            for name in (_FILE, _OLD_FILE):
                (self.backup_dir / name).unlink(missing_ok=True)
            self._remove()
            if not any(self.backup_dir.iterdir()):
                self.backup_dir.rmdir()

    @property
    def _has_stopped(self) -> bool:
        """True once a callback has stopped the training; a model without `fit` tells of none."""
        return bool(getattr(self.model, "stop_training", False))

    def _go_on_at(self, backup: Mapping[str, Any]) -> int:
        """The epoch to begin with: of a training that was to train no more, one after the last."""
        done: int = backup["epochs"]
        if not backup.get("has_stopped"):
            return done
        self.model.stop_training = True
        warnings.warn(
            f"The training in {self.backup_dir} had been stopped after epoch {done - 1}, counted "
            "from 0, by a callback. It now ends without another. To begin anew, remove the folder.",
            UserWarning,
            stacklevel=2,
        )
        return max(done, (self.params or {}).get("epochs") or 0)

    def _begin_no_more(self) -> None:
        """Let fits to come begin where they are told to."""
        self._end_watch()
        self._end_watch = _nothing
        _keras.begin_at(self.model, None)

    def _check_optimizers(self) -> None:
        """Refuse an optimizer that would begin anew: only its first step will tell what it trains.

        Raises:
            ArgumentError: The model holds one beside its own, and it is not built.
        """
        own, held = _keras.compiled_optimizer(self.model), _keras.held_optimizers(self.model)
        waiting = [each for each in held if each is not own and not each.built]
        if waiting:
            raise ArgumentError(
                f"Model '{self.model.name}' has optimizers of its own, whose state can only be "
                "put back if they are built before fit begins. Received: "
                f"{', '.join(f'{each.name} ({type(each).__name__})' for each in waiting)}, not "
                "built. Call build(variables) of each with what it trains, as in "
                "model.g_optimizer.build(model.generator.trainable_variables), and run once more."
            )

    def _look_for_late(self) -> None:
        """Warn, once, of an optimizer of torch's that would begin anew."""
        if self._has_told_of_late:
            return
        known = {id(each) for each in self._torch_optimizers}
        late = [each for each in _keras.torch_optimizers_of(self.model) if id(each) not in known]
        if late:
            self._has_told_of_late = True
            warnings.warn(
                f"The state of {', '.join(type(each).__name__ for each in late)} (torch.optim) is "
                f"in no backup of model '{self.model.name}', for it was made after fit began: a "
                "resumed training would begin it anew. Make it before fit.",
                UserWarning,
                stacklevel=2,
            )

    def _comparers(self) -> list[Any]:
        """The callbacks whose memory of the epochs belongs to the training.

        Raises:
            ArgumentError: One stands after this one, so that what it remembers would be late.
        """
        callbacks = _keras.other_callbacks(self)
        own = next((i for i, each in enumerate(callbacks) if each is self), 0)
        late = comparing(callbacks[own + 1 :])
        if late:
            name = type(late[0]).__name__
            raise ArgumentError(
                "RankBackupAndRestore must stand after the callbacks that compare epochs, whose "
                f"memory it keeps. Received: {name} after it. Put {name} before it."
            )
        return comparing(callbacks[:own])

    def _kept(self) -> Path | None:
        """The file that says what was done; the new one, where an old one is left beside it."""
        paths = (self.backup_dir / _FILE, self.backup_dir / _OLD_FILE)
        return next((path for path in paths if path.exists()), None)

    def _weights(self, epochs: int | str) -> Path:
        return self.backup_dir / f"epoch_{epochs}.weights.h5"

    def _state(self, epochs: int | str) -> Path:
        return self.backup_dir / f"epoch_{epochs}.state.npz"

    def _arrays(self, epochs: int) -> Arrays:
        path = self._state(epochs)
        if not path.exists():
            return {}
        raw = read_whole(path, most=None)
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as file:
                return dict(file)
        except Exception as error:  # numpy and zipfile fail in any way
            raise _damaged(path, f"{type(error).__name__}: {error}") from error

    def _remove(self, but: Sequence[Path] = ()) -> None:
        for name in (self._weights("*").name, self._state("*").name):
            for old in self.backup_dir.glob(name):
                if old not in but:
                    old.unlink(missing_ok=True)


def _nothing() -> None:
    """In the place of a watch that has ended."""


def _read(path: Path) -> dict[str, Any]:
    """What a backup keeps beside weights and arrays.

    Raises:
        FormatError: It is something else, or of another version.
    """
    raw = read_whole(path, most=None)
    try:
        backup: dict[str, Any] = json.loads(raw)
        if backup["version"] == _VERSION:
            fault = form_fault(backup)
        else:
            fault = f"it is of version {backup['version']!r}, not {_VERSION}"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"
    if fault is not None:
        raise _damaged(path, fault)
    return backup


def _damaged(path: Path, fault: str) -> FormatError:
    return FormatError(f"{path} is no backup that can be resumed: {fault}. {_REMEDY}")
