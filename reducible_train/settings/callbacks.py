"""What the callbacks beside a `RankScheduler` are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass

from reducible_train.settings.base import Settings, together
from reducible_train.settings.checkpoint_names import name_fault
from reducible_train.settings.checks import AMOUNT
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import (
    Choice,
    Count,
    EpochNumber,
    Number,
    PathName,
    Truth,
    option,
)
from reducible_train.settings.monitors import METRIC, MODE_HELP, MODES, percent_fault_of


@dataclass(frozen=True)
class EarlyStoppingSettings(
    Settings,
    owner="RankEarlyStopping",
    help="Ends the training when it no longer improves, once the ranks have fallen.",
):
    """When a training ends early."""

    monitor: str = option(METRIC, "val_loss", help="The metric to watch, as it stands in the logs.")
    min_delta: float = option(
        Number(AMOUNT), 0.0, help="Least change that counts as an improvement."
    )
    patience: int = option(
        Count(0), 0, help="Epochs without an improvement after which training stops."
    )
    mode: str = option(Choice(MODES), "auto", help=MODE_HELP)
    baseline: float | None = option(
        Number(), None, help="A value that must be passed to count as an improvement."
    )
    restore_best_weights: bool = option(
        Truth(), False, help="Whether to end with the weights of the best epoch."
    )
    start_from_epoch: int = option(
        EpochNumber(),
        0,
        help="First epoch that counts; the first at the final ranks, if that is later.",
    )

    @together("monitor", "min_delta", "mode")
    def _change_is_no_percentage(self) -> Fault | None:
        return percent_fault_of(self, "min_delta")

    @together("monitor", "baseline", "mode")
    def _baseline_is_no_percentage(self) -> Fault | None:
        return percent_fault_of(self, "baseline")


@dataclass(frozen=True)
class CheckpointSettings(
    Settings,
    owner="RankModelCheckpoint",
    help="Saves the best epoch in a file, once the ranks have fallen.",
):
    """What is kept of a training, and where."""

    filepath: str | os.PathLike[str] = option(
        PathName(),
        help="The file: .reducible, .keras or .weights.h5. {epoch} and metrics in braces become "
        "their values.",
    )
    monitor: str = option(METRIC, "val_loss", help="The metric to watch, as it stands in the logs.")
    mode: str = option(Choice(MODES), "auto", help=MODE_HELP)
    save_best_only: bool = option(
        Truth(), True, help="Whether only epochs better than those before are saved."
    )
    save_weights_only: bool = option(
        Truth(), False, help="Whether only weights are saved; needs .weights.h5."
    )
    initial_value_threshold: float | None = option(
        Number(), None, help="A value that must be passed for an epoch to be saved."
    )

    @together("filepath", "save_weights_only")
    def _name_says_what_is_written(self) -> Fault | None:
        name = os.fspath(self.filepath)
        fault = name_fault(name, self.save_weights_only)
        if fault is None:
            return None
        return Fault(("filepath",), f"`filepath` {fault}. Received: {name!r}.")


@dataclass(frozen=True)
class BackupSettings(
    Settings,
    owner="RankBackupAndRestore",
    help="Saves the training after every epoch; the same command goes on from there.",
):
    """Where a training can be taken up again."""

    backup_dir: str | os.PathLike[str] = option(
        PathName(), help="Folder for the backup of this training alone."
    )
    delete_checkpoint: bool = option(
        Truth(), True, help="Whether the backup is removed when training has ended."
    )


@dataclass(frozen=True)
class TensorBoardSettings(Settings, help="Where the logs for TensorBoard go."):
    """Where the logs go."""

    log_dir: str | os.PathLike[str] = option(
        PathName(), help="Folder for the logs; made if it does not exist."
    )
