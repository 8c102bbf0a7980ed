"""What a fit learns of its data: samples for who asks, and lengths that a model leaves open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.layers import find_kernels
from reducible_train.preflight.values import check_values
from reducible_train.selection.calibration import ENOUGH, drawn, samples_of
from reducible_train.selection.call_counts import count_calls
from reducible_train.selection.input_shapes import (
    InputShapes,
    no_shapes,
    shapes_of_fit,
    shapes_of_samples,
    shapes_told,
)
from reducible_train.selection.judge import NO_DATA, UNWATCHED, asking_of, takes_samples
from reducible_train.selection.sample_checks import (
    check_asking,
    check_inputs,
    check_samples,
    try_out,
)
from reducible_train.selection.sample_collector import SampleCollector
from reducible_train.selection.samples import ROOM, Samples
from reducible_train.settings.aids import checked_needs
from reducible_train.settings.compression import CompressionSettings


class CalibrationSet:
    """The samples that a user gives, or how many of the fit shall be taken.

    Args:
        calibration: As `RankScheduler` takes it.
        arrays: Inputs, targets and weights of the fit, where they are arrays.
    """

    def __init__(self, calibration: Any, arrays: Any = None):
        self._given = calibration
        self._arrays = arrays
        self._read: Samples | None = None
        self._counting: Samples | None = None

    def in_fit(self, arrays: Any) -> CalibrationSet:
        """The same in a fit, of whose arrays samples can be drawn before it begins."""
        return CalibrationSet(self._given, arrays) if self.is_of_the_fit else self

    @property
    def is_of_the_fit(self) -> bool:
        """True where the samples are those of the fit itself."""
        return self._given is None or isinstance(self._given, int)

    @property
    def is_number(self) -> bool:
        """True where so many samples of the fit are asked for."""
        return isinstance(self._given, int)

    def collector(self, model: Any) -> SampleCollector:
        """What takes as many samples of a running fit.

        Raises:
            ArgumentError: It cannot be done with this backend or distribution strategy.
        """
        if self._given is None:
            return SampleCollector(model, ENOUGH, ROOM)
        return SampleCollector(model, int(self._given))

    def samples(self) -> Samples | None:
        """Those that were given, or that are at hand, of a weight above 0."""
        every = self.every()
        if self._counting is None and every is not None:
            self._counting = every.counting
        return self._counting

    def every(self) -> Samples | None:
        """The same, whatever they weigh; read once, as a generator gives them once."""
        if self._read is None and not self.is_of_the_fit:
            self._read = samples_of(self._given, every=True)
        elif self._read is None and self._arrays is not None:
            found = drawn(*self._arrays, count=self._given)
            self._read = found if len(found) else None
        return self._read


def check_calibration(model: Any, samples: Samples | None) -> None:
    """Refuse samples of the user that name a class, or a row of a table, which is not there.

    Also those that a model cannot be called on, where its training calls it on them.

    Raises:
        ArgumentError: They do, or it cannot.
        SpectrumError: Inputs of NaN or infinity, of which the model makes no finite outputs.
    """
    _check_values(model, samples, "`calibration`")
    called = _keras.has_call(_keras.trained_model(model)) and not _keras.has_own_step(model)
    if samples is not None and called and not _keras.is_distributed(model):
        check_samples(samples, model, None, run=not _keras.unbuilt_parts(model))
    if samples is not None:
        check_inputs(samples, model)


def _check_values(model: Any, samples: Samples | None, where: str) -> None:
    for part in () if samples is None else (samples, *samples.more):
        check_values(model, part.x, part.y, where, part.weight)


def asking_in(settings: CompressionSettings) -> dict[str, tuple[str, ...]]:
    """What must be known of the data, by who asks: the criterion, and aids."""
    return asking_of(settings.criterion) | asking_of_aids(settings)


def _asks_for_gradients(settings: CompressionSettings) -> bool:
    """True if somebody cannot do without the loss of samples."""
    return any("gradients" in needs for needs in asking_in(settings).values())


def _takes_samples(settings: CompressionSettings) -> bool:
    """True if somebody looks at samples, where there are any."""
    asking = asking_of_aids(settings)
    return any(asking.values()) or takes_samples(settings.criterion, settings.target)


def asking_of_aids(settings: CompressionSettings) -> dict[str, tuple[str, ...]]:
    """What the aids must know of the data, by aid."""
    return {type(aid).__name__: checked_needs(aid.needs, type(aid)) for aid in settings.aids}


class NoCollector:
    """In the place of a `SampleCollector` where nobody asks for samples."""

    enough = count = 0
    done = False
    ahead = None

    def drop(self) -> None:
        """Nothing was fetched."""


class Sampling:
    """The samples of one fit, and the shapes of its data.

    Those who ask for samples of the fit get some of its arrays, at random, or else the first
    batches, fetched before the first step. Where nobody does and the model leaves lengths open, the
    first batch tells them.

    Args:
        model: The model in training.
        settings: What is asked for.
        calibration: The calibration set.
        data: Inputs, targets and weights of the fit, as `_keras.data_of_fit` tells them.

    Attributes:
        without: What to tell where a judge has no samples, and why there are none.
    """

    def __init__(
        self,
        model: Any,
        settings: CompressionSettings,
        calibration: CalibrationSet,
        data: Any,
    ):
        self.calibration = calibration
        self.without = NO_DATA
        self.collector: SampleCollector | NoCollector = NoCollector()
        self._model = model
        self._settings = settings
        self._of_fit = shapes_of_fit(data)
        self._seen: InputShapes | None = None  # by the first batch, or in another fit
        asked = _takes_samples(settings) or not calibration.is_of_the_fit
        self.samples = calibration.samples() if asked else None  # at hand before the fit
        self.takes = asked and self.samples is None
        if not calibration.is_of_the_fit:
            check_calibration(model, self.samples)
        elif _asks_for_gradients(settings):
            _check_values(model, self.samples, "x and y of the fit")
        self._drop_unusable()
        self._is_tried = False  # the model, on the first of the samples

    def _drop_unusable(self) -> None:
        """Do without data of the fit that only its own training step can use, if nobody asks."""
        asked = any(asking_in(self._settings).values())
        if self.samples is None or asked or not self.calibration.is_of_the_fit:
            return
        try:
            check_samples(self.samples, self._model, None, run=False)
        except ArgumentError:
            self.samples = None

    def shapes(self) -> list[InputShapes]:
        """All that tells lengths which the model leaves open, the best first."""
        settings, samples = self._settings, self.samples
        found = []
        if settings.input_shape is not None:
            found.append(shapes_told(settings.input_shape, _keras.trained_model(self._model)))
        if samples is not None and not self.calibration.is_of_the_fit:
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
        """See the batches to come, for the samples that the criterion or an aid asks for.

        Raises:
            ArgumentError: They cannot be seen, and somebody cannot do without, or a number of them
                was asked for.
        """
        if not self.takes:
            return
        self.collector.drop()
        try:
            self.collector = self.calibration.collector(self._model)
        except ArgumentError:
            if self.calibration.is_number or any(asking_in(self._settings).values()):
                raise
            self.takes, self.without = False, UNWATCHED

    def look_for_shapes(self, *, needed: bool) -> None:
        """See the first batch, which tells lengths.

        Raises:
            ArgumentError: It cannot be seen, and a budget counts by it.
        """
        if self.takes or not self._model.built:
            return
        try:
            self.collector = SampleCollector(self._model, 1)
        except ArgumentError as error:
            if needed:
                needing = (m.name for m in self._settings.measures if m.needs_shapes)
                raise no_shapes(next(needing), self._model) from error

    def first_batch(self) -> InputShapes | None:
        """What the first batch says, once: whether the model can be listened to, and lengths.

        Raises:
            ArgumentError: It cannot, or what was seen names a class, or a row of a table, which is
                not there.
        """
        collector = self.collector
        if self._is_tried or not isinstance(collector, SampleCollector) or not collector.count:
            return None
        self._is_tried = True
        samples, asking = collector.samples(), asking_in(self._settings)
        if _asks_for_gradients(self._settings) or not _keras.has_own_step(self._model):
            _check_values(self._model, samples, "the first batches of the fit")
        if self.takes and any(asking.values()):
            try_out(samples, self._model, check_asking(self._model, asking, None))
        self._seen = shapes_of_samples(samples, "the first batches")
        return self._seen

    def enough(self) -> Samples | None:
        """The samples of the fit, once there are enough or all; also those of weight 0."""
        collector = self.collector
        if not self.takes or not isinstance(collector, SampleCollector):
            return None
        return collector.every() if collector.done else None

    @property
    def ahead(self) -> _keras.Ahead | None:
        """What fetches batches before the first step, if somebody wants them."""
        return self.collector.ahead

    def go_on(self) -> None:
        """Have what was fetched trained on, also where the training step was made anew."""
        if self.ahead is not None:
            self.ahead.attach()

    def drop(self) -> None:
        """The fit is over."""
        self.collector.drop()
