"""When to begin: not at an epoch that was guessed, but once the stable ranks have settled."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reducible_train.settings.base import Settings, span_fault, together
from reducible_train.settings.checks import POSITIVE
from reducible_train.settings.faults import Fault
from reducible_train.settings.fields import Count, EpochNumber, Number, option
from reducible_train.settings.schedules import Constant
from reducible_train.settings.targets import StableRank, Target


@dataclass(frozen=True)
class Adaptive(
    Settings,
    owner="Adaptive",
    help="Lets cuts begin once the stable ranks have settled; schedules count from there.",
):
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

    Raises:
        ArgumentError: Unusable values.

    Example:
        >>> Adaptive(end_epoch=10)
        Adaptive(slope=0.1, window=3, start_epoch=0, end_epoch=10)

    Reference: Wang et al., *Cuttlefish: low-rank model training without all the tuning*, MLSys
    2023.
    """

    slope: float = option(
        Number(POSITIVE),
        0.1,
        help="Change of a stable rank in one epoch, as a fraction of it, that counts as flat.",
    )
    window: int = option(
        Count(), 3, help="Epochs over which the slope is taken; more of them smooth more."
    )
    start_epoch: int = option(
        EpochNumber(), 0, help="First epoch, from 0, before which cuts may begin."
    )
    end_epoch: int | None = option(
        EpochNumber(),
        None,
        help="Epoch before which they begin in any case. Left out: half of the training.",
    )

    @together("start_epoch", "end_epoch")
    def _span(self) -> Fault | None:
        return span_fault(self)

    @property
    def target(self) -> Target:
        """What the model is brought to where nothing else is asked for."""
        return StableRank(Constant(1.0))

    def last_epoch(self, epochs: int | None) -> float:
        """The epoch before which cuts begin in any case, in a training of `epochs` epochs."""
        if self.end_epoch is not None:
            return self.end_epoch
        return math.inf if epochs is None else max(epochs // 2, self.start_epoch)

    def time_fault(self, epochs: int) -> Fault | None:
        """A training that is over before."""
        last = self.last_epoch(epochs)
        if last <= epochs - 1:
            return None
        name = "start_epoch" if self.end_epoch is None else "end_epoch"
        return Fault(
            (name,),
            f"`{name}` of Adaptive must be {epochs - 1} at the latest, the last epoch of a "
            f"training of epochs={epochs}, counted from 0. Received: {self}. Let it be "
            f"earlier, or train for epochs={int(last) + 1} or more.",
        )
