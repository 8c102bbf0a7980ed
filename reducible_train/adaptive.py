"""When to begin: not at an epoch that was guessed, but once the stable ranks have settled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reducible_train.arguments import POSITIVE, settle_counts, settle_numbers, settle_span
from reducible_train.errors import ArgumentError
from reducible_train.layers import Kernel
from reducible_train.pacing import Pace
from reducible_train.schedules import Constant
from reducible_train.spectra import singular_spectrum, stable_rank
from reducible_train.survey import Managed
from reducible_train.targets import STABLE_RANK, Target


@dataclass(frozen=True)
class Adaptive:
    """Waits until the stable ranks of all kernels have settled, then lets cuts begin.

    While a network learns, the stable rank `||W||_F**2 / ||W||_2**2` of each kernel falls, fast at
    first; where it has become flat, the kernel is about as low in rank as it wants to be. Before
    each epoch the slope of every managed kernel is taken, by least squares over the last
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

    It takes the singular values of every managed kernel once an epoch, until cuts begin.

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
        return Target(STABLE_RANK, Constant(1.0))

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


class AdaptivePace:
    """Holds another pace until the stable ranks have settled.

    Args:
        adaptive: When that is.
        managed: The kernels to watch.
        pace: What goes on from then, by a clock that starts at 0.
        settle: Called once with the ranks to go to, by path.
        last_epoch: When it goes on in any case.
    """

    def __init__(
        self,
        adaptive: Adaptive,
        managed: Sequence[Managed],
        pace: Pace,
        settle: Callable[[dict[str, float]], None],
        last_epoch: float,
    ):
        self._adaptive = adaptive
        self._kernels = [each.kernel for each in managed if each.kernel.rank is None]
        self._pace = pace
        self._settle = settle
        self._last_epoch = last_epoch
        self._seen: list[tuple[float, list[float]]] = []  # epoch, stable rank of each kernel
        self._began: float | None = None
        self._steepest = ""
        self._settled = False

    @property
    def began(self) -> float | None:
        """The epoch before which cuts began; `None` while they wait."""
        return self._began

    def look(self, epoch: float) -> None:
        """Take the stable ranks before an epoch, unless they have settled already."""
        if self._began is not None:
            return
        self._seen.append((epoch, [_stable_rank(kernel) for kernel in self._kernels]))
        slopes = self._slopes()
        if slopes is not None and len(slopes):
            worst = int(np.argmax(np.abs(slopes)))
            path = self._kernels[worst].path
            self._steepest = f"{path}, {100 * slopes[worst]:+.2g} % in an epoch"
        flat = slopes is not None and bool((np.abs(slopes) <= self._adaptive.slope).all())
        self._settled = flat and epoch >= self._adaptive.start_epoch
        if self._settled or epoch >= self._last_epoch:
            self._began = epoch
            self._settle(self._ranks())

    def _slopes(self) -> np.ndarray | None:
        """Change of each stable rank in one epoch, a fraction; `None` before there are enough."""
        recent = self._seen[-self._adaptive.window - 1 :]
        if len(recent) <= self._adaptive.window:
            return None
        epochs = np.array([epoch for epoch, _ in recent])
        ranks = np.array([ranks for _, ranks in recent]).reshape(len(recent), len(self._kernels))
        centred = epochs - epochs.mean()
        slopes: np.ndarray = centred @ ranks / (centred @ centred)
        return slopes / np.maximum(ranks[-1], 1.0)

    def _ranks(self) -> dict[str, float]:
        """Stable rank now times full rank over stable rank at the start.

        Full rank, which stays dense, for a kernel that began with zeros: it has no such start.
        """
        (_, first), (_, last) = self._seen[0], self._seen[-1]
        return {
            kernel.path: max(now / start, 1e-9) * min(kernel.shape) if start else min(kernel.shape)
            for kernel, start, now in zip(self._kernels, first, last, strict=True)
        }

    # --- as a pace --------------------------------------------------------------------

    def aim(self, goal: Target, time: float) -> float:
        if self._began is None:
            return goal.idle
        return self._pace.aim(goal, time - self._began)

    def wait(self, epochs: float) -> None:
        if self._began is not None:
            self._pace.wait(epochs)

    def accept(self) -> None:
        self._pace.accept()

    def mark(self) -> Any:
        return self._pace.mark()

    def undo(self, time: float, mark: Any) -> None:
        self._pace.undo(time - (self._began or 0.0), mark)

    @property
    def note(self) -> str | None:
        steepest = f" (steepest: {self._steepest})" if self._steepest else ""
        if self._began is None:
            own = f"The stable ranks have not settled yet{steepest}; nothing was cut."
        elif not self._settled:
            own = f"Cuts began before epoch {self._began:g}, the last they could{steepest}."
        else:
            own = f"The stable ranks had settled before epoch {self._began:g}{steepest}."
        return " ".join(filter(None, (own, self._pace.note)))


def _stable_rank(kernel: Kernel) -> float:
    """Of all matrices of a dense kernel together."""
    (matrices,) = kernel.matrices()
    return stable_rank(np.linalg.norm([singular_spectrum(each) for each in matrices], axis=0))
