"""One model on its way to a target: what is due, the cut, and what was done so far."""

from reducible_train.compressor.asked import asked_of
from reducible_train.compressor.compression import Compression
from reducible_train.compressor.history import History
from reducible_train.compressor.progress import Progress
from reducible_train.compressor.target_values import TargetValue, on_schedule

__all__ = ["Compression", "History", "Progress", "TargetValue", "asked_of", "on_schedule"]
