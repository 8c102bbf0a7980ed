"""When cuts may be made."""

from __future__ import annotations

from dataclasses import dataclass

from reducible_train.settings.base import OneOf, Settings
from reducible_train.settings.fields import Count, option


@dataclass(frozen=True)
class Cadence(
    Settings,
    owner="a cadence",
    help="How often the ranks may change: every so many epochs or training steps, one of the two.",
    one_of=OneOf(("epochs", "steps")),
):
    """When cuts may be made: every so many epochs, or every so many steps.

    Example:
        >>> Cadence(steps=500)
        Cadence(epochs=None, steps=500)
    """

    epochs: int | None = option(Count(), None, help="Cuts are made before every this many epochs.")
    steps: int | None = option(
        Count(),
        None,
        help="Cuts are made before every this many training steps. Each costs about a second of "
        "spectra and of retracing, so let at least some hundred pass.",
    )
