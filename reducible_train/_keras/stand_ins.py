"""Stand in the place of the train function of a model for some steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


class StandIn:
    """In the place of the train function of a model, until that is put back.

    Args:
        model: The model in training.
        train: Called with the train function, and with what that is called with.
    """

    def __init__(self, model: Any, train: Callable[..., Any]):
        self.original = model.train_function
        self._model, self._train = model, train
        model.train_function = self

    def __call__(self, *given: Any) -> Any:
        return self._train(self.original, *given)

    def put_back(self) -> None:
        """Put the train function back, if there is no other by now."""
        if self._model.train_function is self:
            self._model.train_function = self.original


def real_train_function(model: Any) -> Any:
    """The train function of a model, whatever stands in its place; `None` if it has none."""
    found = getattr(model, "train_function", None)
    while isinstance(found, StandIn):
        found = found.original
    return found


def put_back_train_function(model: Any) -> None:
    """Let a model train on what it is given, after a `fit` that was broken off."""
    while isinstance(stand_in := getattr(model, "train_function", None), StandIn):
        stand_in.put_back()


def note_failure(model: Any, note: str) -> None:
    """Have a note added to what the next step of a model raises; not to what later ones do.

    Args:
        model: The model in training.
        note: What may be to blame, and what to do.
    """
    ran = False

    def train(original: Callable[..., Any], *given: Any) -> Any:
        nonlocal ran
        _let_state_count(model, given)
        try:
            result = original(*given)
        except StopIteration:  # the data has ended
            raise
        except Exception as error:
            if not ran:
                error.add_note(note)
            raise
        ran = True
        stand_in.put_back()
        return result

    stand_in = StandIn(model, train)


def _let_state_count(model: Any, given: tuple[Any, ...]) -> None:
    """Let Keras put back on JAX what a step began with, should that fail (nothing elsewhere).

    What it holds is of the step before, and of other shapes than the variables have since a cut.
    """
    if keras.backend.backend() == "jax":
        kinds = ("trainable", "non_trainable", "optimizer", "metrics")
        model._jax_state = {f"{k}_variables": v for k, v in zip(kinds, given[0], strict=True)}
