"""The model of a fit on its way: what cuts it, what holds it back, what helps it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from reducible_train import _keras
from reducible_train.compressor import Compression, asked_of
from reducible_train.compressor.answers import AnswerWatch
from reducible_train.report.records import AT_THE_END, Report
from reducible_train.selection.feasibility import smallest_fraction
from reducible_train.selection.input_shapes import InputShapes
from reducible_train.selection.samples import Samples
from reducible_train.settings.compression import CompressionSettings
from reducible_train.settings.guard import Bound, Guard, direction_of
from reducible_train.settings.monitors import is_validation_accuracy
from reducible_train.settings.search import Search
from reducible_train.training.adaptive_controller import AdaptiveController
from reducible_train.training.aid_context import AidRun, ModelAidContext
from reducible_train.training.guard_run import GuardRun
from reducible_train.training.guarded_model import KerasModel, lost_numbers
from reducible_train.training.sampling import asking_of_aids
from reducible_train.training.shortfall import Shortfall
from reducible_train.training.target_controllers import (
    ScheduleController,
    SearchController,
    TargetController,
)
from reducible_train.training.unguarded import Unguarded


class RankControl:
    """The model of a fit, and all that acts on its ranks.

    Args:
        compression: What cuts it.
        controller: How far each cut goes.
        guard: What has cuts undone, or nothing in its place.
        aids: What helps the training.

    Attributes:
        diverged: What of the model was NaN or infinite when the training was over; `None` if
            nothing was that had not been before.
    """

    def __init__(
        self,
        compression: Compression,
        controller: TargetController,
        guard: GuardRun | Unguarded,
        aids: AidRun,
    ):
        self.compression = compression
        self.controller = controller
        self.guard = guard
        self.diverged: str | None = None
        self._aids = aids

    @property
    def began(self) -> float | None:
        """When cuts began; `None` while an `Adaptive` holds them."""
        return self.controller.began

    @property
    def counts_uses(self) -> bool:
        """True if FLOPs are known."""
        return self.compression.survey.uses is not None

    @property
    def ranks(self) -> dict[str, int]:
        """Rank in force of every kernel that may change, by path; the full one while dense."""
        kernels = [each.kernel for each in self.compression.survey.compressible]
        return {k.path: min(k.shape) if k.rank is None else k.rank for k in kernels}

    @property
    def ranks_of_factors(self) -> dict[str, int]:
        """Rank of every kernel that has factors, by path."""
        kernels = self.compression.survey.kernels
        return {kernel.path: kernel.rank for kernel in kernels if kernel.rank is not None}

    def open(self, epoch: int) -> None:
        """An epoch has its first step: undo what has failed, look at the kernels."""
        self.guard.go_back(float(epoch))
        self.controller.look(float(epoch))

    def act(self, time: float, step: int, epoch_step: int, steps_per_epoch: int | None) -> None:
        """Cut, if it is time."""
        before = len(self.compression.history.cuts)
        self.guard.act(time, step, epoch_step)
        if len(self.compression.history.cuts) > before:
            self._aids.after_cut(steps_per_epoch)

    def before_epoch(self, epoch: int, schedule_end: float) -> None:
        """Let the aids do what they do before an epoch."""
        self._aids.before_epoch(epoch, schedule_end)

    def see_loss(self, logs: Mapping[str, Any] | None, epoch: int) -> None:
        """A step was trained, with the loss within its epoch."""
        self._aids.end_step()
        self.guard.see_loss(logs, epoch)

    def see(self, epoch: int, logs: dict[str, Any] | None) -> None:
        """The metrics of an epoch, to which the size of the model is added."""
        self.guard.see(epoch, logs)
        if logs is not None:
            found = self.compression.survey
            now, dense = found.total("parameters"), found.dense_total("parameters")
            logs |= {"params": now, "params_fraction": now / dense}

    def learn(self, enough: Callable[[], Samples | None]) -> None:
        """Take samples, if there are none yet and enough of them are there."""
        samples = enough() if self.compression.samples is None else None
        if samples is not None:
            self.compression.learn_from(samples)

    def count_uses(self, shapes: InputShapes) -> None:
        """Learn lengths that the model leaves open, if they are not known yet."""
        if not self.counts_uses:
            self.compression.count_uses(shapes)

    def close(
        self, epoch: int, step: int, epoch_step: int, as_left: AbstractContextManager[None]
    ) -> None:
        """The training is over: leave nothing of it that is not to stay.

        Args:
            epoch: The last epoch.
            step: Steps that were trained.
            epoch_step: Those of them that are of the epoch.
            as_left: Within it the model is as other callbacks will leave it.
        """
        self.guard.close(float(epoch + 1))
        if self.compression.history.is_grown:  # stopped before the cut that would take it back
            value = self.controller.target_value
            time = float(epoch)
            self.compression.cut(time, value, step=step, epoch_step=epoch_step, training=True)
        with as_left:
            self.compression.answers.close(self.compression.history.cuts)
            self.diverged = lost_numbers(self.compression.model) or self.compression.answers.lost
        self.abandon()

    def abandon(self) -> None:
        """Take away what aids have added."""
        self._aids.close()

    def report(self, shortfall: Shortfall | None) -> Report | None:
        """The model as it is, and every cut so far.

        Args:
            shortfall: What was not brought, once the fit is over; it may tell what a note does.
        """
        report = replace(self.compression.report, undone=tuple(self.guard.undone))
        notes = [*report.notes, *self.guard.notes, *self._aids.notes]
        if self.diverged is not None:
            notes.append(f"{AT_THE_END}{self.diverged}.")
        if shortfall is not None:
            words = str(shortfall)
            notes = [words, *(note for note in notes if note not in words)]
        return replace(report, notes=tuple(notes))

    def get_state(self) -> dict[str, Any]:
        """Of the compression, for a fit that goes on with it."""
        return {
            "compression": self.compression.get_state(),
            "input_shape": self.compression.survey.counted_shape,
        }


def rank_control(
    model: Any,
    settings: CompressionSettings,
    epochs: int | None,
    *,
    samples: Samples | None,
    comes: bool,
    without: str,
    shapes: Sequence[InputShapes],
    validated: int | None = None,
    rhythm: _keras.Rhythm | None = None,
    state: Mapping[str, Any] | None = None,
    answers: AnswerWatch | None = None,
) -> RankControl:
    """Meet the model of a fit.

    Args:
        model: The model, built.
        settings: What is asked for.
        epochs: Epochs of the fit; `None` where nobody said.
        samples: The data to learn from, where it is at hand.
        comes: True if it will be given later.
        without: What to tell where a judge has none, and why there is none.
        shapes: All that tells lengths which the model leaves open, the best first.
        validated: Number of validation samples; `None` where nobody knows.
        rhythm: After which epochs the fit validates; `None` if after none, or nobody knows.
        state: Of the compression in another fit, which this one goes on with.
        answers: What compares outputs before and after each cut.
    """
    compression = Compression(
        model,
        **asked_of(settings),
        samples=samples,
        comes=comes,
        without=without,
        shapes=shapes,
        asking=asking_of_aids(settings),
        state=state,
        answers=answers,
    )
    controller = _controller(settings, compression, epochs)
    guard: GuardRun | Unguarded = Unguarded(compression, controller)
    if settings.guard is not None:
        guarded = KerasModel(model, settings.guard.folder)
        bound = _bound(settings.guard, settings.search, model, validated)
        guard = GuardRun(bound, compression, controller, guarded, rhythm)
    context = ModelAidContext(model, compression, controller.target_value)
    aids = AidRun(settings.aids, context)
    if state is not None:
        compression.set_state(state)
    return RankControl(compression, controller, guard, aids)


def _bound(guard: Guard, search: Search | None, model: Any, validated: int | None) -> Bound:
    """A guard with what is known of its metric: the direction, of how many answers it is."""
    known = _keras.metrics_to_watch(model, guard.monitor, guard.mode)
    name, logged = guard.monitor.removeprefix("val_"), _keras.logged_metrics(model)
    counts = is_validation_accuracy(guard.monitor) and name in logged
    one_each = counts and _keras.answers_once(_keras.trained_model(model))
    samples, margin = validated if one_each else None, 0.0 if search is None else search.margin
    return Bound(guard, direction_of(guard, known), samples, margin)


def _controller(
    settings: CompressionSettings, compression: Compression, epochs: int | None
) -> TargetController:
    """How far cuts go: by schedules, by a search, or once stable ranks have settled."""
    if settings.search is not None:
        return SearchController(
            settings.search,
            compression.progress.present(settings.search.target),
            smallest_fraction(compression.survey, compression.measure),
            (settings.search.first_epoch(epochs), settings.search.last_epoch(epochs)),
            settings.search.memory(epochs),
            lambda time, budget: compression.told(compression.foreseen_loss(time, budget)),
            math.inf if epochs is None else epochs,
        )
    schedules = ScheduleController(lambda goal: compression.progress.present(goal))
    if settings.adaptive is None:
        return schedules
    return AdaptiveController(
        settings.adaptive,
        compression.survey.compressible,
        schedules,
        compression.own_ranks.update,
        settings.adaptive.last_epoch(epochs),
        compression.told,
    )
