"""NaN that no cut on trial is to blame for: when training goes on, and when it must end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from reducible_train.errors import either
from reducible_train.training.trial import Snapshot

NAN_REMEDIES = ("look for NaN or infinity in the data", "lower the learning rate")
NAN_REMEDY = either(NAN_REMEDIES)


class GuardedModel(Protocol):
    """All that a guard has done to a model in training."""

    def take_snapshot(self) -> Snapshot:
        """Remember it as it is, optimizer state included."""

    def restore(self, snapshot: Any, *, training: bool) -> None:
        """Bring it back; after what `fit` has done at its end, if that is over."""

    def is_finite(self) -> bool:
        """True unless weights are lost."""

    def reset_metrics(self) -> None:
        """Begin running means anew: one that was NaN once stays so."""

    def stop_training(self) -> None:
        """End the training after this epoch."""


class LostWeights:
    """Keeps the state in which NaN was left, until training shows that it is over.

    Where NaN comes again from there, the cut that was undone for it was not to blame: the model
    gets the state once more, and training ends. A loss alone that is NaN, while the weights are
    finite, ends nothing: with loss scaling that comes and goes.

    Args:
        model: The model.
        warn: Gives a warning.

    Attributes:
        end: Why training was stopped; `None` if it was not.
    """

    def __init__(self, model: GuardedModel, warn: Callable[[str], None]):
        self.end: str | None = None
        self._model = model
        self._warn = warn
        self._refuge: Snapshot | None = None
        self._undone = -1  # the epoch in which the last cut was undone
        self._looked: int | None = None  # the epoch in which weights were looked at last

    def keep(self, snapshot: Snapshot) -> None:
        """Remember where NaN was left."""
        if snapshot is not self._refuge:
            self.let_go()
        self._refuge = snapshot

    def forget(self, snapshot: Snapshot) -> None:
        """A snapshot is not needed any more, unless it is this one."""
        if snapshot is not self._refuge:
            snapshot.forget()

    def cut_undone(self, epoch: int) -> None:
        """The last cut was undone in an epoch, which ends with metrics of before."""
        self._undone = epoch

    def is_over(self, epoch: int) -> None:
        """An epoch had finite metrics."""
        if epoch > self._undone:
            self.let_go()

    def let_go(self) -> None:
        """Nothing more will go back to where NaN was left."""
        if self._refuge is not None:
            self._refuge.forget()
        self._refuge = None

    def meet(self, what: str, epoch: int) -> None:
        """NaN, and there is no cut to undo: end a training that can only go on losing.

        Args:
            what: What is NaN, and that it is.
            epoch: The epoch.
        """
        if self.end is not None or epoch == self._looked:
            return
        self._looked = epoch
        if self._model.is_finite():
            self._warn(f"{what} in epoch {epoch}, and there is no cut to undo.")
            return
        self.end = f"{what} in epoch {epoch}, and so are weights, with no cut to undo. "
        if self._refuge is not None:
            self._model.restore(self._refuge, training=True)
            self._model.reset_metrics()
            self.end = (
                f"{what} in epoch {epoch}, again after the last cut was undone for it, so the cut "
                "was not to blame. The model has the weights of before that cut. "
            )
        self.end += "Training was stopped."
        self._model.stop_training()
