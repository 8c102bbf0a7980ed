"""When cuts may be made."""

from __future__ import annotations

from dataclasses import dataclass

from reducible_train.errors import ArgumentError
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.checks import checked, settle, settle_counts


@dataclass(frozen=True, repr=False)
class Cadence:
    """When cuts may be made: every so many epochs, or every so many steps, and from when on.

    Args:
        epochs: Epochs between cuts; cuts are made before an epoch.
        steps: Training steps between cuts. Each cut costs about a second of spectra and
            of retracing, so let at least some hundred steps pass.
        start: Lets cuts begin once the stable ranks of the kernels have settled; schedules count
            from there. With it alone, cuts are made every epoch. Not with a search, which chooses
            its own times.

    Example:
        >>> Cadence(steps=500), Cadence(start=Adaptive(end_epoch=10)).epochs
        (Cadence(steps=500), 1)
    """

    epochs: int | None = None
    steps: int | None = None
    start: Adaptive | None = None

    def __post_init__(self) -> None:
        checked("start", self.start, Adaptive, "start=Adaptive(end_epoch=10)")
        given = [name for name in ("epochs", "steps") if getattr(self, name) is not None]
        if not given and self.start is not None:
            settle(self, epochs=1)
        elif len(given) != 1:
            raise ArgumentError(
                "A cadence is in epochs or in steps. Received: "
                f"epochs={self.epochs!r}, steps={self.steps!r}. Give exactly one."
            )
        settle_counts(self, "a cadence", *given)

    def __repr__(self) -> str:
        values = {name: value for name, value in vars(self).items() if value is not None}
        return f"Cadence({', '.join(f'{name}={value!r}' for name, value in values.items())})"
