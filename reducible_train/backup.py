"""Go on with a fit that was broken off, at the ranks it had."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.callback import RankScheduler
from reducible_train.companions import check_place, check_scheduler
from reducible_train.container.files import accessing
from reducible_train.errors import FormatError
from reducible_train.factorization import check_built
from reducible_train.weights_files import load_keras_weights

_VERSION = 1
_STORY = "story.json"


class RankBackupAndRestore(keras.callbacks.Callback):
    """Saves a training after every epoch, and goes on from there when `fit` is called again.

    For trainings that may be broken off: run the same script once more. Ranks, weights,
    optimizer state, the epoch and what the `RankScheduler` has done come back, so that the
    resumed training is the one that would have been (as far as the order of its data is). Put
    it after the scheduler. With a criterion that judges by the first samples of the fit those
    are gathered anew; give `calibration` to have the same.

    A backup is two files, the weights and the story; an old one stays until the new one is
    complete.

    Args:
        scheduler: The `RankScheduler` of the same fit, without `guard`, `adaptive` and `Rewarm`,
            whose state is in no backup.
        backup_dir: Folder for the backup, of this training only; made if it does not exist.
        delete_checkpoint: False to keep the backup when training has ended.

    Raises:
        ArgumentTypeError: `scheduler` is something else.
        ArgumentError: It has one of these; when `fit` begins: it does not stand after the
            scheduler.
        SurgeryError: When `fit` begins: the model is not built.
        FormatError: When `fit` begins: the backup is damaged, or of another model.
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
        self.backup_dir = Path(backup_dir)
        self.delete_checkpoint = delete_checkpoint

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_model": None}  # a copy is given its own when its fit begins

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        check_place(self, self.scheduler)
        check_built(self.model)
        if not (self.backup_dir / _STORY).exists():
            return
        story = self._read()
        _keras.built_optimizer(self.model)
        load_keras_weights(self.model, self._weights(story["epochs"]), training=True)
        self.scheduler.take_up(story["scheduler"])
        _keras.begin_at(self.model, story["epochs"])

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        story = {
            "version": _VERSION,
            "epochs": epoch + 1,
            "scheduler": self.scheduler.story(),
        }
        weights = self._weights(epoch + 1)
        with accessing(self.backup_dir, "write"):
            self.backup_dir.mkdir(parents=True, exist_ok=True)
            with _keras.seen_as_built(self.model):
                self.model.save_weights(weights)
            new = self.backup_dir / f"new_{_STORY}"
            new.write_text(json.dumps(story), encoding="utf-8")
            new.replace(self.backup_dir / _STORY)
        self._remove(but=weights)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        _keras.begin_at(self.model, None)
        if self.delete_checkpoint and self.backup_dir.exists():
            (self.backup_dir / _STORY).unlink(missing_ok=True)
            self._remove()
            if not any(self.backup_dir.iterdir()):
                self.backup_dir.rmdir()

    def _weights(self, epochs: int | str) -> Path:
        return self.backup_dir / f"epoch_{epochs}.weights.h5"

    def _remove(self, but: Path | None = None) -> None:
        for old in self.backup_dir.glob(self._weights("*").name):
            if old != but:
                old.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        path = self.backup_dir / _STORY
        with accessing(path, "read"):
            text = path.read_text(encoding="utf-8")
        try:
            story = json.loads(text)
            if story["version"] == _VERSION and isinstance(story["epochs"], int):
                return story
            fault = f"it is of version {story['version']!r}, not {_VERSION}"
        except (ValueError, KeyError, TypeError) as error:
            fault = f"{type(error).__name__}: {error}"
        raise FormatError(
            f"{path} is no backup that can be resumed: {fault}. Remove the folder to begin anew."
        )
