"""Targets of a training whose cuts wait until the stable ranks have settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.layers import Kernel
from reducible_train.linalg.svd import singular_spectrum, stable_rank
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.targets import Target
from reducible_train.training.target_controllers import TargetController


class AdaptiveController:
    """Holds another controller until the stable ranks have settled.

    Args:
        adaptive: When that is.
        compressible: The kernels to watch.
        controller: What goes on from then, by a clock that starts at 0.
        settle: Called once with the ranks to go to, by path.
        last_epoch: When it goes on in any case.
        told: Gives what the first of several processes has found.
    """

    def __init__(
        self,
        adaptive: Adaptive,
        compressible: Sequence[CompressibleKernel],
        controller: TargetController,
        settle: Callable[[dict[str, float]], None],
        last_epoch: float,
        told: _keras.Broadcast,
    ):
        self._adaptive = adaptive
        self._kernels = [each.kernel for each in compressible if each.kernel.rank is None]
        self._controller = controller
        self._settle = settle
        self._last_epoch = last_epoch
        self._told = told
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
        own = [_stable_rank(kernel) for kernel in self._kernels]
        self._seen.append((epoch, self._told(own)))
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

    # --- as a target controller -------------------------------------------------------

    def target_value(self, goal: Target, time: float) -> float:
        if self._began is None:
            return goal.idle
        return self._controller.target_value(goal, time - self._began)

    def wait(self, epochs: float) -> None:
        if self._began is not None:
            self._controller.wait(epochs)

    def accept(self) -> None:
        self._controller.accept()

    def mark(self) -> Any:
        return self._controller.mark()

    def undo(self, time: float, mark: Any) -> None:
        self._controller.undo(time - (self._began or 0.0), mark)

    @property
    def tries(self) -> float:
        """As what it holds."""
        return self._controller.tries

    @property
    def delay(self) -> float:
        """As what it holds."""
        return self._controller.delay

    def room(self, time: float) -> float:
        """As what it holds."""
        return self._controller.room(time)

    def lenience(self, time: float) -> float | None:
        """As what it holds."""
        return self._controller.lenience(time)

    @property
    def note(self) -> str | None:
        steepest = f" (steepest: {self._steepest})" if self._steepest else ""
        if self._began is None:
            own = f"The stable ranks have not settled yet{steepest}; nothing was cut."
        elif not self._settled:
            own = f"Cuts began before epoch {self._began:g}, the last they could{steepest}."
        else:
            own = f"The stable ranks had settled before epoch {self._began:g}{steepest}."
        return " ".join(filter(None, (own, self._controller.note)))


def _stable_rank(kernel: Kernel) -> float:
    """Of all matrices of a dense kernel together."""
    (matrices,) = kernel.matrices()
    return stable_rank(np.linalg.norm([singular_spectrum(each) for each in matrices], axis=0))
