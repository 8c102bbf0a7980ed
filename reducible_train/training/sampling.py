"""What a fit learns of its data: samples for who asks, and lengths that a model leaves open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.layers import find_kernels
from reducible_train.selection.calibration import ENOUGH, samples_of
from reducible_train.selection.call_counts import count_calls
from reducible_train.selection.criteria import criterion_named
from reducible_train.selection.input_shapes import (
    InputShapes,
    no_shapes,
    shapes_of_fit,
    shapes_of_samples,
    shapes_told,
)
from reducible_train.selection.sample_checks import check_asking, try_out
from reducible_train.selection.sample_collector import SampleCollector
from reducible_train.selection.samples import Samples
from reducible_train.settings.compression import CompressionSettings
from reducible_train.training.clock import Clock


class CalibrationSet:
    """The samples that a user gives, or how many of the fit shall be taken.

    Args:
        calibration: As `RankScheduler` takes it.
    """

    def __init__(self, calibration: Any):
        self._given = calibration
        self._read: Samples | None = None

    @property
    def is_of_the_fit(self) -> bool:
        """True where the samples are those of the fit itself."""
        return self._given is None or isinstance(self._given, int)

    @property
    def count(self) -> int:
        """Samples to take of the fit."""
        return ENOUGH if self._given is None else int(self._given)

    def samples(self) -> Samples | None:
        """Those that were given; read once, for a generator gives them once."""
        if self._read is None and not self.is_of_the_fit:
            self._read = samples_of(self._given)
        return self._read


def asking_of(settings: CompressionSettings) -> dict[str, tuple[str, ...]]:
    """What must be known of the data, by who asks: the criterion, and aids."""
    needs = criterion_named(settings.criterion).needs
    return {f"criterion={settings.criterion!r}": needs} | asking_of_aids(settings)


def asking_of_aids(settings: CompressionSettings) -> dict[str, tuple[str, ...]]:
    """What the aids must know of the data, by aid."""
    return {type(aid).__name__: aid.needs for aid in settings.aids}


class NoCollector:
    """In the place of a `SampleCollector` where nobody asks for samples."""

    enough = count = 0
    done = False

    def go_on(self, model: Any) -> None:
        """Nothing was stopped."""

    def stop(self) -> None:
        """Nothing to stop."""


class Sampling:
    """The samples of one fit, and the shapes of its data.

    Batches are seen for two ends: those who ask for samples of the fit get the first so many; where
    nobody does and the model leaves lengths open, the first batch tells them.

    Args:
        model: The model in training.
        settings: What is asked for.
        calibration: The calibration set.
        data: Inputs, targets and weights of the fit, as `_keras.data_of_fit` tells them.
        clock: The time of the fit: after one epoch it has shown all its samples.
    """

    def __init__(
        self,
        model: Any,
        settings: CompressionSettings,
        calibration: CalibrationSet,
        data: Any,
        clock: Clock,
    ):
        self.calibration = calibration
        self.collector: SampleCollector | NoCollector = NoCollector()
        self._model = model
        self._settings = settings
        self._clock = clock
        self._of_fit = shapes_of_fit(data)
        self._seen: InputShapes | None = None  # by the first batch, or in another fit
        self._takes = calibration.is_of_the_fit and any(asking_of(settings).values())
        self._is_tried = False  # the model, on the first of the samples
        self._is_over = False  # what was to be seen was

    def shapes(self) -> list[InputShapes]:
        """All that tells lengths which the model leaves open, the best first."""
        settings, samples = self._settings, self.calibration.samples()
        found = []
        if settings.input_shape is not None:
            found.append(shapes_told(settings.input_shape, _keras.trained_model(self._model)))
        if samples is not None:
            found.append(shapes_of_samples(samples, "calibration"))
        return [*found, *(each for each in (self._of_fit, self._seen) if each is not None)]

    def waits_for_shapes(self) -> bool:
        """True if a budget counts by lengths that only a batch will tell."""
        if not any(m.needs_shapes for m in self._settings.measures) or not self._model.built:
            return False
        part = _keras.trained_model(self._model)
        return count_calls(part, find_kernels(part), self.shapes())[1] is None

    def take_shape(self, shape: Any, source: str) -> None:
        """Go on with the lengths that another fit has counted by."""
        told = shapes_told(shape, _keras.trained_model(self._model))
        self._seen = replace(told, source=source, binding=False)

    def gather(self) -> None:
        """See the batches to come, for the samples that the criterion or an aid asks for."""
        if self._takes:
            self.collector.stop()
            self.collector = SampleCollector(self._model, self.calibration.count)
            self._is_over = False

    def look_for_shapes(self, *, needed: bool) -> None:
        """See the first batch, which tells lengths.

        Raises:
            ArgumentError: It cannot be seen, and a budget counts by it.
        """
        if self._takes or not self._model.built:
            return
        try:
            self.collector = SampleCollector(self._model, 1)
        except ArgumentError as error:
            if needed:
                needing = (m.name for m in self._settings.measures if m.needs_shapes)
                raise no_shapes(next(needing), self._model) from error

    def first_batch(self) -> InputShapes | None:
        """What the first batch says, once: whether the model can be listened to, and lengths."""
        collector = self.collector
        if self._is_tried or not isinstance(collector, SampleCollector) or not collector.count:
            return None
        self._is_tried = True
        samples = collector.samples()
        if self._takes:
            try_out(
                samples, self._model, check_asking(self._model, asking_of(self._settings), None)
            )
        else:
            self.stop()
        self._seen = shapes_of_samples(samples, "the first batch")
        return self._seen

    def enough(self) -> Samples | None:
        """The samples of the fit, if there are enough or all; then no more are taken."""
        collector = self.collector
        if not self._takes or not isinstance(collector, SampleCollector):
            return None
        is_all = self._clock.epoch_length is not None
        if not collector.done and not (collector.count and is_all):
            return None
        self.stop()
        return collector.samples()

    def go_on(self) -> None:
        """The same after the training step was made anew, for whoever still waits."""
        if not self._is_over:
            self.collector.go_on(self._model)

    def stop(self) -> None:
        """See no more batches."""
        self.collector.stop()
        self._is_over = True
