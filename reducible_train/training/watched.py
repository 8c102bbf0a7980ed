"""What a guard, the callbacks behind it and searches go by: one number each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from reducible_train import _keras
from reducible_train.settings.guard import Guard
from reducible_train.settings.monitors import check_one_number
from reducible_train.training.other_callbacks import AtFinalRanks


class Watched:
    """The metrics of a fit that something goes by.

    Args:
        model: The model in training.
        asked: What goes by a metric, for messages, and the name of that in the logs.
    """

    def __init__(self, model: Any, asked: Sequence[tuple[str, str]]):
        self._model, self._asked = model, asked
        self._is_known = False

    @classmethod
    def of_fit(cls, model: Any, guard: Guard | None, others: Sequence[Any]) -> Self:
        """Those of a guard, if there is one, and of the other callbacks of the fit."""
        asked = [] if guard is None else [("a guard", guard.monitor)]
        asked += [
            (type(each).__name__, each.monitor) for each in others if isinstance(each, AtFinalRanks)
        ]
        return cls(model, asked)

    def look(self) -> None:
        """Refuse one that is several numbers, as soon as its metric tells.

        Raises:
            SeveralNumbersError: There is one.
        """
        counts = _keras.several_numbers(self._model) if self._asked else {}
        for whose, monitor in self._asked:
            check_one_number(monitor, counts.get(monitor.removeprefix("val_"), 1), whose)

    def end_step(self) -> None:
        """The same, once, as metrics are built by the first step."""
        if not self._is_known:
            self._is_known = True
            self.look()

    def see(self, logs: Mapping[str, Any] | None) -> None:
        """The same of the metrics of an epoch, also of those that no `compile` names."""
        for whose, monitor in self._asked:
            check_one_number(monitor, _keras.numbers_in((logs or {}).get(monitor)), whose)
