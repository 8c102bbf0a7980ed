"""Lower the ranks of a Keras model while it trains.

Add `RankScheduler` to the callbacks of `model.fit`; the ranks of the layers fall on a
schedule, the variables shrink, the factors go on training. Names are imported on first
use, so that `import reducible_train` loads neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reducible_train.adaptive import Adaptive
    from reducible_train.aids import ProductDecay, Regrow, Rewarm, TailShrink
    from reducible_train.backup import RankBackupAndRestore
    from reducible_train.callback import Cadence, RankScheduler
    from reducible_train.checkpoint import RankModelCheckpoint
    from reducible_train.config import load_config
    from reducible_train.early_stopping import RankEarlyStopping
    from reducible_train.errors import (
        ArgumentError,
        ArgumentTypeError,
        ConfigError,
        FileAccessError,
        FormatError,
        RankError,
        ReducibleError,
        SpectrumError,
        SurgeryError,
    )
    from reducible_train.factorization import factorize, merge
    from reducible_train.guard import Guard
    from reducible_train.latency import Latency
    from reducible_train.layers import LowRankDense
    from reducible_train.report import Report
    from reducible_train.report_file import read_report
    from reducible_train.rules import LayerRule
    from reducible_train.saving import load_model, load_weights_into, save_model
    from reducible_train.schedules import Constant, Join, Ramp, Steps
    from reducible_train.search import Search
    from reducible_train.tensorboard import RankTensorBoard
    from reducible_train.unfactorization import unfactorize

_HOMES = {
    "aids": ("ProductDecay", "Regrow", "Rewarm", "TailShrink"),
    "backup": ("RankBackupAndRestore",),
    "checkpoint": ("RankModelCheckpoint",),
    "adaptive": ("Adaptive",),
    "callback": ("Cadence", "RankScheduler"),
    "config": ("load_config",),
    "early_stopping": ("RankEarlyStopping",),
    "errors": (
        "ArgumentError",
        "ArgumentTypeError",
        "ConfigError",
        "FileAccessError",
        "FormatError",
        "RankError",
        "ReducibleError",
        "SpectrumError",
        "SurgeryError",
    ),
    "factorization": ("factorize", "merge"),
    "guard": ("Guard",),
    "latency": ("Latency",),
    "layers": ("LowRankDense",),
    "report": ("Report",),
    "report_file": ("read_report",),
    "rules": ("LayerRule",),
    "saving": ("load_model", "load_weights_into", "save_model"),
    "schedules": ("Constant", "Join", "Ramp", "Steps"),
    "search": ("Search",),
    "tensorboard": ("RankTensorBoard",),
    "unfactorization": ("unfactorize",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Adaptive",
    "ArgumentError",
    "ArgumentTypeError",
    "Cadence",
    "ConfigError",
    "Constant",
    "FileAccessError",
    "FormatError",
    "Guard",
    "Join",
    "Latency",
    "LayerRule",
    "LowRankDense",
    "ProductDecay",
    "Ramp",
    "RankBackupAndRestore",
    "RankEarlyStopping",
    "RankError",
    "RankModelCheckpoint",
    "RankScheduler",
    "RankTensorBoard",
    "ReducibleError",
    "Regrow",
    "Report",
    "Rewarm",
    "Search",
    "SpectrumError",
    "Steps",
    "SurgeryError",
    "TailShrink",
    "factorize",
    "load_config",
    "load_model",
    "load_weights_into",
    "merge",
    "read_report",
    "save_model",
    "unfactorize",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # pyproject.toml is its one place
        return importlib.import_module("importlib.metadata").version("reducible-train")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if "keras" in sys.modules:  # keras.models.load_model shall find the layers of this package
    importlib.import_module("reducible_train.containers")
