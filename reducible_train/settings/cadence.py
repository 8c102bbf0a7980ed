"""When cuts may be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.base import Nested, OneOf, Settings, together
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Count, Truth, option


@dataclass(frozen=True, repr=False)
class Cadence(
    Settings,
    owner="a cadence",
    help="When the ranks may change: every so many epochs or training steps, and from when on.",
):
    """When cuts may be made: every so many epochs, or every so many steps, and from when on.

    In steps, the time within an epoch is what share of its steps was trained. Where a fit does not
    announce their number, as with a generator, it is known only from the second epoch on: until
    then all looks see the first as at its begin, and what should fall within it falls after it. A
    training of one epoch then refuses what ends within it; `steps_per_epoch` of `fit` announces it.

    Example:
        >>> Cadence(steps=500), Cadence(start=Adaptive(end_epoch=10)).epochs
        (Cadence(steps=500), 1)
    """

    epochs: int | None = option(Count(), None, help="Cuts are made before every this many epochs.")
    steps: int | None = option(
        Count(),
        None,
        help="Cuts are made before every this many training steps. Each costs about a second of "
        "spectra and of retracing, so let at least some hundred pass.",
    )
    start: Adaptive | None = option(
        Nested(Adaptive, "Adaptive(end_epoch=10)"),
        None,
        help="Lets cuts begin once the stable ranks of the kernels have settled; schedules count "
        "from there. With it alone, cuts are made every epoch; without a target, each kernel is "
        "cut to its stable rank. Not with a search, which chooses its own times.",
    )

    compare: bool = option(
        Truth(),
        True,
        help="Whether the outputs, loss and metrics of the model are measured right before and "
        "after each cut, on at most 1024 samples of the validation data, or of the training data. "
        "False saves these two runs of the model.",
    )

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        start, *units = (values.get(name) for name in ("start", "epochs", "steps"))
        said = start is not None or values.get("compare") is False
        alone = said and units == [None, None]
        return {**values, "epochs": 1} if alone else values

    @together("epochs", "steps")
    def _one_unit(self) -> Fault | None:
        return OneOf(("epochs", "steps")).fault(self)

    def __repr__(self) -> str:
        values = {name: value for name, value in vars(self).items() if value is not None}
        if self.compare:
            del values["compare"]
        return f"Cadence({', '.join(f'{name}={value!r}' for name, value in values.items())})"
