"""When cuts may be made."""

from __future__ import annotations

from dataclasses import dataclass

from reducible_train.errors import ArgumentError
from reducible_train.settings.checks import settle_counts


@dataclass(frozen=True)
class Cadence:
    """When cuts may be made: every so many epochs, or every so many steps.

    Args:
        epochs: Epochs between cuts; cuts are made before an epoch.
        steps: Training steps between cuts. Each cut costs about a second of spectra and
            of retracing, so let at least some hundred steps pass.

    Example:
        >>> Cadence(steps=500)
        Cadence(epochs=None, steps=500)
    """

    epochs: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("epochs", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ArgumentError(
                "A cadence is in epochs or in steps. Received: "
                f"epochs={self.epochs!r}, steps={self.steps!r}. Give exactly one."
            )
        settle_counts(self, "a cadence", *given)
