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
    from reducible_train import layers, tuner
    from reducible_train.analysis import analyze
    from reducible_train.config import load_config
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
    from reducible_train.layers import LowRankDense
    from reducible_train.report.analysis import Analysis
    from reducible_train.report.records import Report
    from reducible_train.saving.model_file import load_model, load_weights_into, save_model
    from reducible_train.saving.report_file import read_report
    from reducible_train.selection.decomposition_cache import DecompositionCache
    from reducible_train.settings.adaptive import Adaptive
    from reducible_train.settings.aids import ProductDecay, Regrow, Rewarm, TailShrink
    from reducible_train.settings.cadence import Cadence
    from reducible_train.settings.guard import Guard
    from reducible_train.settings.measures import Flops, Latency
    from reducible_train.settings.objectives import QualityAtSize, SizeAtQuality
    from reducible_train.settings.rules import LayerRule
    from reducible_train.settings.schedules import Constant, Join, PiecewiseConstant, Ramp
    from reducible_train.settings.search import Search
    from reducible_train.settings.search_space import SearchSpace
    from reducible_train.surgery.merge import merge
    from reducible_train.surgery.stock_layers import to_stock_layers
    from reducible_train.tensorboard.callback import RankTensorBoard
    from reducible_train.training.backup import RankBackupAndRestore
    from reducible_train.training.checkpoint import RankModelCheckpoint
    from reducible_train.training.early_stopping import RankEarlyStopping
    from reducible_train.training.one_shot import factorize
    from reducible_train.training.rank_scheduler import RankScheduler
    from reducible_train.training.records import RankRecords
    from reducible_train.tuner.hypermodel import RankHyperModel

_HOMES = {
    "analysis": ("analyze",),
    "config": ("load_config",),
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
    "layers": ("LowRankDense",),
    "report.analysis": ("Analysis",),
    "report.records": ("Report",),
    "saving.model_file": (
        "load_model",
        "load_weights_into",
        "save_model",
    ),
    "saving.report_file": ("read_report",),
    "selection.decomposition_cache": ("DecompositionCache",),
    "settings.adaptive": ("Adaptive",),
    "settings.aids": (
        "ProductDecay",
        "Regrow",
        "Rewarm",
        "TailShrink",
    ),
    "settings.cadence": ("Cadence",),
    "settings.guard": ("Guard",),
    "settings.measures": ("Flops", "Latency"),
    "settings.objectives": ("QualityAtSize", "SizeAtQuality"),
    "settings.rules": ("LayerRule",),
    "settings.schedules": (
        "Constant",
        "Join",
        "Ramp",
        "PiecewiseConstant",
    ),
    "settings.search": ("Search",),
    "settings.search_space": ("SearchSpace",),
    "surgery.merge": ("merge",),
    "surgery.stock_layers": ("to_stock_layers",),
    "tensorboard.callback": ("RankTensorBoard",),
    "training.backup": ("RankBackupAndRestore",),
    "training.checkpoint": ("RankModelCheckpoint",),
    "training.early_stopping": ("RankEarlyStopping",),
    "training.one_shot": ("factorize",),
    "training.rank_scheduler": ("RankScheduler",),
    "training.records": ("RankRecords",),
    "tuner.hypermodel": ("RankHyperModel",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Adaptive",
    "Analysis",
    "ArgumentError",
    "ArgumentTypeError",
    "Cadence",
    "ConfigError",
    "Constant",
    "DecompositionCache",
    "FileAccessError",
    "Flops",
    "FormatError",
    "Guard",
    "Join",
    "Latency",
    "LayerRule",
    "LowRankDense",
    "PiecewiseConstant",
    "ProductDecay",
    "QualityAtSize",
    "Ramp",
    "RankBackupAndRestore",
    "RankEarlyStopping",
    "RankError",
    "RankHyperModel",
    "RankModelCheckpoint",
    "RankRecords",
    "RankScheduler",
    "RankTensorBoard",
    "ReducibleError",
    "Regrow",
    "Report",
    "Rewarm",
    "Search",
    "SearchSpace",
    "SizeAtQuality",
    "SpectrumError",
    "SurgeryError",
    "TailShrink",
    "analyze",
    "factorize",
    "layers",
    "load_config",
    "load_model",
    "load_weights_into",
    "merge",
    "read_report",
    "save_model",
    "to_stock_layers",
    "tuner",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # pyproject.toml is its one place
        return importlib.import_module("importlib.metadata").version("reducible-train")
    if name in ("layers", "tuner"):  # public modules
        return importlib.import_module(f"reducible_train.{name}")
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if "keras" in sys.modules:  # keras.models.load_model shall find the layers of this package
    importlib.import_module("reducible_train.surgery.rebuild")
