"""Callbacks that compare epochs, and how each begins anew when ranks have changed.

An epoch says nothing about another one at other ranks: a dense epoch stays the best for ever,
and the epochs after a cut count as a plateau. What such a callback remembers of the epochs so
far is its *marks*, here in one registry; the scheduler sets them back at each change of ranks,
and a backup keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.surgery.plans import plan_of

Marks = Mapping[str, Any]  # attribute -> value


@dataclass(frozen=True)
class Comparison:
    """A way to compare epochs.

    Args:
        used_by: True for a callback, of any class, that compares in this way.
        first: What it remembers before its first epoch.
        lasting: What it remembers whatever becomes of the ranks, by the names of the attributes.
    """

    used_by: Callable[[Any], bool]
    first: Callable[[Any], Marks]
    lasting: Callable[[Any], Sequence[str]] = lambda _: ()


def is_tuner_saver(callback: Any) -> bool:
    """True for the callback by which keras-tuner saves the best epoch of a trial.

    Known by what it has, so that keras-tuner need not be there.
    """
    return hasattr(callback, "best_value") and hasattr(
        getattr(callback, "objective", None), "better_than"
    )


def _worst(saver: Any) -> Marks:
    return {"best_value": -math.inf if saver.objective.direction == "max" else math.inf}


def _kind(*kinds: type) -> Callable[[Any], bool]:
    return lambda callback: isinstance(callback, kinds)


COMPARISONS = (
    Comparison(_kind(_keras.MonitorCallback), lambda _: {"best": None}),
    Comparison(
        _kind(keras.callbacks.EarlyStopping),
        lambda _: {"wait": 0, "best_epoch": 0, "best_weights": None},
        lambda _: ["stopped_epoch"],
    ),
    Comparison(
        _kind(keras.callbacks.ReduceLROnPlateau), lambda _: {"wait": 0, "cooldown_counter": 0}
    ),
    Comparison(is_tuner_saver, _worst),
    Comparison(
        lambda each: hasattr(each, "first_marks"),
        lambda each: each.first_marks,
        lambda each: getattr(each, "lasting_marks", ()),
    ),
)


def first_marks(callback: Any) -> dict[str, Any]:
    """The marks of a callback before its first epoch; empty if it compares no epochs.

    Example:
        >>> first_marks(keras.callbacks.ReduceLROnPlateau())
        {'best': None, 'wait': 0, 'cooldown_counter': 0}
    """
    found: dict[str, Any] = {}
    for each in COMPARISONS:
        if each.used_by(callback):
            found |= each.first(callback)
    return found


def marks_of(callback: Any) -> dict[str, Any]:
    """What a callback remembers of the epochs so far."""
    return {name: getattr(callback, name) for name in first_marks(callback)}


def set_marks(callback: Any, marks: Marks) -> None:
    """Let a callback remember something else."""
    for name, value in marks.items():
        setattr(callback, name, value)


def lasting_marks(callback: Any) -> dict[str, Any]:
    """What it remembers beside its marks, which no change of ranks sets back; plain JSON values.

    Example:
        >>> lasting_marks(keras.callbacks.EarlyStopping())
        {'stopped_epoch': 0}
    """
    found = [each.lasting(callback) for each in COMPARISONS if each.used_by(callback)]
    return {name: getattr(callback, name) for names in found for name in names}


@dataclass(frozen=True)
class Way:
    """What a callback compares: epochs say something about each other where this is the same.

    Args:
        monitor: The metric; empty where nobody knows.
        mode: `"max"` or `"min"`; `None` where nobody knows.
        restores: True if it keeps the weights of its best epoch.
        measured: By what the metric is measured.

    Example:
        >>> str(Way("val_loss", "min", True, "loss='mse'"))
        "val_loss, mode='min', restore_best_weights=True"
    """

    monitor: str
    mode: str | None
    restores: bool
    measured: str

    def is_like(self, other: Way) -> bool:
        """True if values of the one may be compared with those of the other, as far as is known."""
        modes = {self.mode, other.mode} - {None}
        return len(modes) < 2 and replace(self, mode=other.mode) == other

    def __str__(self) -> str:
        mode = "" if self.mode is None else f", mode={self.mode!r}"
        return f"{self.monitor}{mode}{', restore_best_weights=True' * self.restores}"


def way_of(callback: Any, model: Any) -> Way:
    """What a callback compares, of the epochs of a model."""
    goes_by = callback.objective if is_tuner_saver(callback) else callback
    monitor = getattr(goes_by, "monitor", None) or getattr(goes_by, "name", None) or ""
    mode = getattr(goes_by, "mode", None) or getattr(goes_by, "direction", None)
    if mode not in ("max", "min"):
        known = _keras.metrics_to_watch(model, monitor, "auto") | {"loss": "down"}
        mode = {"up": "max", "down": "min"}.get(known.get(monitor.removeprefix("val_")) or "")
    restores = bool(getattr(callback, "restore_best_weights", False))
    return Way(monitor, mode, restores, _keras.measured_as(model, monitor))


def comparing(callbacks: Iterable[Any]) -> list[Any]:
    """Those that compare epochs, in their order."""
    return [each for each in callbacks if first_marks(each)]


class Comparers:
    """The callbacks of a fit that compare epochs.

    Args:
        callbacks: All callbacks of the fit.
        model: The model as the fit begins.
    """

    def __init__(self, callbacks: Sequence[Any], model: Any):
        self._callbacks = comparing(callbacks)
        self._restoring = [e for e in callbacks if getattr(e, "restore_best_weights", False)]
        self._plan = plan_of(model) if self._callbacks or self._restoring else {}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._callbacks)

    @property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights will be put back; `None` if none will."""
        last = self._last_to_restore
        return getattr(last, "best_epoch", None)

    @property
    def _last_to_restore(self) -> Any | None:
        """The last of those that put the best weights back when training ends, and have some."""
        kept = [e for e in self._restoring if getattr(e, "best_weights", None) is not None]
        return kept[-1] if kept else None

    def look(self, model: Any) -> bool:
        """Let them begin anew if ranks have changed since the last look; True if so."""
        followed = self._callbacks or self._restoring
        if not followed or plan_of(model) == self._plan:
            return False
        self._plan = plan_of(model)
        for each in self._callbacks:
            set_marks(each, first_marks(each))
        return True

    @contextmanager
    def as_left(self, model: Any) -> Iterator[None]:
        """Let the model be, for a while, as they leave it when training ends.

        One that restores the best weights may do so later than whoever looks at the model.
        """
        restoring = self._last_to_restore
        if restoring is None or plan_of(model) != self._plan:  # of other ranks
            yield
            return
        _keras.sync_state(model)
        last = model.get_weights()
        model.set_weights(restoring.best_weights)
        try:
            yield
        finally:
            model.set_weights(last)

    def close(self, model: Any, epoch: int) -> None:
        """Let them look when training ends: what a saver kept of a cut just undone is replaced."""
        if self.look(model):
            for each in filter(is_tuner_saver, self._callbacks):
                each.on_epoch_end(epoch, {})  # without a value it saves the model as it is
