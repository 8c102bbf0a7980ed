"""When to begin: not at an epoch that was guessed, but once the stable ranks have settled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reducible_train.errors import ArgumentError
from reducible_train.settings.checks import POSITIVE, settle_counts, settle_numbers, settle_span
from reducible_train.settings.schedules import Constant
from reducible_train.settings.targets import StableRank, Target


@dataclass(frozen=True)
class Adaptive:
    """Waits until the stable ranks of all kernels have settled, then lets cuts begin.

    While a network learns, the stable rank `||W||_F**2 / ||W||_2**2` of each kernel falls, fast at
    first; where it has become flat, the kernel is about as low in rank as it wants to be. Before
    each epoch the slope of every compressible kernel is taken, by least squares over the last
    `window` epochs, as a fraction of its stable rank. Once none is steeper than `slope`, cuts may
    be made: at `end_epoch` at the latest. From then on the clock of every schedule runs, so that
    `Ramp(1.0, 0.25, start_epoch=0, end_epoch=4)` falls over the four epochs that follow.
    A network that has hardly begun to learn is flat as well: give it time by `start_epoch`.

    Without a budget or another target, all kernels are cut at once, each to its stable rank times
    (full rank / stable rank at the start): the rank the start would have had, had it been as flat
    as full rank says. A kernel that would not become smaller by that stays dense.

    The paper's slope is absolute, 0.1 ranks in one epoch. That suits its long trainings: a
    784-256-256-256-10 on 8000 images of MNIST still had 2 to 3.2 after seven epochs (of stable
    ranks near 33), when its validation accuracy no longer rose; hence the fraction.

    It takes the singular values of every compressible kernel once an epoch, until cuts begin.

    Args:
        slope: Change of the stable rank in one epoch, as a fraction of it, that counts as flat;
            greater than 0.
        window: Epochs over which the slope is taken, at least 1; more of them smooth more.
        start_epoch: First epoch (from 0) before which cuts may begin.
        end_epoch: Epoch before which they begin in any case; half of the training if not given.

    Raises:
        ArgumentError: Unusable values.

    Example:
        >>> Adaptive(end_epoch=10)
        Adaptive(slope=0.1, window=3, start_epoch=0, end_epoch=10)

    Reference: Wang et al., *Cuttlefish: low-rank model training without all the tuning*, MLSys
    2023.
    """

    slope: float = 0.1
    window: int = 3
    start_epoch: int = 0
    end_epoch: int | None = None

    def __post_init__(self) -> None:
        settle_numbers(self, "", slope=POSITIVE)
        settle_counts(self, "Adaptive", "window")
        settle_span(self, "Adaptive")

    @property
    def target(self) -> Target:
        """What the model is brought to where nothing else is asked for."""
        return StableRank(Constant(1.0))

    def last_epoch(self, epochs: int | None) -> float:
        """The epoch before which cuts begin in any case, in a training of `epochs` epochs.

        Raises:
            ArgumentError: The training is over before.
        """
        if self.end_epoch is None:
            return math.inf if epochs is None else max(epochs // 2, self.start_epoch)
        if epochs is not None and self.end_epoch > epochs - 1:
            raise ArgumentError(
                f"`end_epoch` of Adaptive must be {epochs - 1} at the latest, the last epoch of a "
                f"training of epochs={epochs}, counted from 0. Received: {self}. Let it end "
                f"earlier, or train for epochs={self.end_epoch + 1} or more."
            )
        return self.end_epoch
