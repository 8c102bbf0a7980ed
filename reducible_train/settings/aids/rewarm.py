"""The learning rate climbs anew after every cut."""

from __future__ import annotations

from dataclasses import dataclass

from reducible_train.errors import ArgumentError
from reducible_train.settings.aids.base import Aid, AidContext
from reducible_train.settings.base import OneOf
from reducible_train.settings.checks import POSITIVE, SHARE
from reducible_train.settings.fields import Count, Number, option


@dataclass(frozen=True)
class Rewarm(
    Aid,
    owner="a warm-up",
    help="After each cut, the learning rate climbs back from a fraction of itself.",
    one_of=OneOf(("epochs", "steps")),
):
    """After each cut, the learning rate climbs back from a fraction of itself.

    In step `i = 1, 2, ...` after a cut it is

        rate * (initial + (1 - initial) * min(i / steps, 1))

    with the `rate` that the optimizer has at that time, be it a number, one that callbacks
    change, or a `LearningRateSchedule`: from step `steps` on it is exactly that again. The
    optimizer's `iterations` go on counting. Torch's own optimizers climb in their steps, and show
    the plain `lr` of their groups between them. A cut within the climb begins another. A fit that
    was broken off would go on without the climb, so it takes no `RankBackupAndRestore`.

    With Adam, whose state is carried over, it lost accuracy: 0.18 points of a ramp, 0.09 of a
    single cut (`benchmarks/aids.py`, five seeds).

    Raises:
        ArgumentError: Not exactly one length, or a value out of range.

    Example:
        >>> Rewarm(epochs=0.5)
        Rewarm(epochs=0.5, steps=None, initial=0.0)

    Reference: the warm-up after a change of ranks is that of Wang et al., *Cuttlefish: low-rank
    model training without all the tuning*, MLSys 2023.
    """

    kind = "rewarm"
    resumes = False

    epochs: float | None = option(
        Number(POSITIVE),
        None,
        help="Length of the climb. Exactly one of `epochs` and `steps` is given.",
    )
    steps: int | None = option(Count(), None, help="The same in training steps.")
    initial: float = option(Number(SHARE), 0.0, help="The fraction it begins from, in [0, 1).")

    def after_cut(self, training: AidContext) -> None:
        training.warm_up(self._length(training), self.initial)

    def _length(self, training: AidContext) -> int:
        if self.steps is not None:
            return self.steps
        if training.steps_per_epoch is None:
            raise ArgumentError(
                "A warm-up in epochs needs to know how many steps an epoch has, and this fit does "
                f"not tell before one is over. Received: {self}. Give its length as steps=..., or "
                "cut after the first epoch."
            )
        return max(1, round((self.epochs or 0.0) * training.steps_per_epoch))
