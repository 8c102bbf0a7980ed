"""What an error of a training step tells, where a cut may be to blame for it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from reducible_train import PiecewiseConstant, RankScheduler
from reducible_train._keras.stand_ins import StandIn

pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

L = keras.layers
FALLING = PiecewiseConstant(values=(1.0, 0.7), start_epochs=(0, 1))
X = np.random.default_rng(0).normal(size=(16, 12)).astype("float32")


def net(name: str) -> keras.Model:
    return keras.Sequential([keras.Input((12,)), L.Dense(12, name="a"), L.Dense(12)], name=name)


class Pulled(keras.Model):
    """Its weights are pulled to those of another network, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = net("student"), net("teacher")
        self.teacher.trainable = False

    def call(self, x: Any) -> Any:
        return self.student(x)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        pairs = zip(self.student.weights, self.teacher.weights, strict=False)
        pull = sum(keras.ops.mean((mine - other) ** 2) for mine, other in pairs)
        return super().compute_loss(*args, **kwargs) + pull


class Counting(keras.Model):
    """Refuses the batch of one step, counted from 0."""

    def __init__(self, refused: int):
        super().__init__()
        self.inner, self.refused, self.steps = net("inner"), refused, 0

    def call(self, x: Any) -> Any:
        return self.inner(x)

    def train_step(self, *given: Any) -> Any:
        self.steps += 1
        if self.steps > self.refused:
            raise ValueError("no such batch")
        return super().train_step(*given)


def notes_of(model: Any) -> list[str]:
    """Those of the error that a training ends with."""
    model(X)
    model.compile("sgd", "mse", run_eagerly=True)
    scheduler = RankScheduler(FALLING)
    with pytest.raises(Exception) as caught:  # noqa: PT011 each backend has an error of its own
        model.fit(X, X, epochs=3, batch_size=8, verbose=0, callbacks=[scheduler])
    return [note for note in getattr(caught.value, "__notes__", []) if "reducible_train" in note]


def test_a_step_that_pairs_weights_says_what_was_cut():
    model = Pulled()
    (note,) = notes_of(model)
    assert "the 2 before it ran. Factors are in place of student/a/kernel (rank " in note
    assert "LayerRule(match=..., keep_dense=True)" in note
    assert all(np.isfinite(each).all() for each in model.get_weights())


@pytest.mark.parametrize(("refused", "told"), [(0, False), (1, False), (2, True), (3, False)])
def test_an_error_is_told_of_a_cut_only_in_the_first_step_after_it(refused, told):
    assert bool(notes_of(Counting(refused))) == told


def test_nothing_stands_before_the_train_function_after_a_fit():
    model = net("plain")
    model.compile("sgd", "mse")
    scheduler = RankScheduler(FALLING)
    model.fit(X, X, epochs=2, batch_size=8, verbose=0, callbacks=[scheduler])
    assert scheduler.report.cuts
    assert not isinstance(model.train_function, StandIn)
