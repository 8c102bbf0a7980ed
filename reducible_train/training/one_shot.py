"""Bring a model to lower ranks once, outside `fit`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from reducible_train import _keras
from reducible_train.compressor import Compression, asked_of
from reducible_train.compressor.answers import NO_DATA, AnswerWatch, unknown_outputs
from reducible_train.errors import ArgumentError, ArgumentTypeError, OutputErrorWarning
from reducible_train.report.records import Report
from reducible_train.selection.calibration import samples_of
from reducible_train.selection.decomposition_cache import DecompositionCache
from reducible_train.selection.input_shapes import shapes_of_samples, shapes_told
from reducible_train.selection.measured import check_weights, losses_of
from reducible_train.settings.compression import compression_settings
from reducible_train.settings.measures import Measure
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.targets import target_kinds
from reducible_train.surgery.merge import check_built
from reducible_train.training.sampling import check_calibration


class OnceTargets(TypedDict, total=False):
    """The targets beside `budget`, for editors; exactly one of all is given."""

    cost: float | Mapping[str, float]
    energy: float
    rtol: float
    rank: int
    effective_rank: float


def factorize(
    model: Any,
    budget: float | Mapping[str, float] | None = None,
    *,
    measure: str | Measure | Sequence[Measure] = "parameters",
    criterion: str = "auto",
    allocation: str = "auto",
    analysis: Any = None,
    calibration: Any = None,
    rules: Sequence[LayerRule] = (),
    multiple: int = 1,
    min_share: float = 0.0,
    cache: DecompositionCache | None = None,
    **target: Unpack[OnceTargets],
) -> Report:
    """Bring a built model to lower ranks at once, in place.

    Use it to compress a trained model; inside `fit`, `RankScheduler` does better, because
    the factors are trained between the cuts. Each kernel `W (m, n)` becomes the nearest
    product `U (m, r) V (r, n)`. Optimizer state follows, if the model is compiled.

    Layers that are not trainable are factorised like all others, since nothing need be trained
    afterwards; `RankScheduler` leaves them. A kernel of zeros has nothing to lose, so it gets the
    smallest rank where no `rank` is asked for; its factors can learn.

    On a model that is not trained yet this is the spectral initialisation of a network that
    has low rank from the start: the factors are balanced, and `U V` is the nearest product to
    the dense kernel as its initializer drew it. Give `RankScheduler(budget=1.0,
    aids=[ProductDecay()])` to its training for the decay that goes with it.

    Args:
        model: A built Keras model.
        budget: Fraction of the whole dense model it may cost, in (0, 1]; a dictionary by measure
            asks for several at once, all of which are met: `{"parameters": 0.25, "flops": 0.5}`.
        measure: What a budget counts: `"parameters"`, `"bytes"` (of the variables), `"flops"`,
            `"file"` (bytes of the compact file) or `"latency"` (seconds of a batch, measured), or a
            `Latency`, or a `Flops`. Where a model leaves lengths open, `Flops(input_shape=(128,))`
            tells them; left out, they are the mean of the calibration set. Beside a dictionary,
            whose keys say what is counted, only such measures with options, one or a list.
        criterion: What a lost direction costs: `"fisher"` (in the loss of the compiled model, to
            second order), `"activation"` (of the kernel's output on data, the mean made up for by
            the bias), `"frobenius"` (of the kernel). `"auto"`: the best of them that model and
            data allow; of an energy or an error, the last. `"measured"`: that within a kernel, and
            between kernels what `analysis` has measured.
        analysis: For `criterion="measured"`, what `analyze` has returned of this model, or its
            file.
        allocation: How a budget is shared among the kernels: `"knapsack"` (the least lost in all),
            `"equal_energy"` (the same energy kept everywhere), `"uniform"` (the same fraction of
            full rank). `"auto"`: the first where data judges, every kernel keeping four ranks while
            there is room, else the second.
        calibration: Data for the first two criteria, as `model.fit` takes it: `x`, `(x, y)` or
            `(x, y, sample_weight)`, where several inputs are a list or a dictionary, or a source of
            batches of these (a `tf.data.Dataset`, a `PyDataset`, a generator, ...). A few thousand
            samples do; `"fisher"` needs `y`. Samples count by their weights; positions that a mask
            hides, or a loss ignores, do not.
        rules: Rules for single layers.
        multiple: What ranks are multiples of, such as 8, which hardware multiplies fastest; a
            kernel of which no multiple saves anything stays dense.
        min_share: The least that a factorised kernel keeps, as a share of its full rank, in [0, 1).
        cache: Keeps the decompositions, for another budget of the same weights: give the same
            `DecompositionCache` to each call.
        **target: One target in place of a budget: `cost` (the same, not as a fraction: in
            parameters, bytes or whatever `measure` counts), `energy` (the fraction of its energy
            each kernel keeps, in (0, 1]), `rtol` (the relative error each kernel may have,
            `sqrt(1 - energy)`, in [0, 1), as the criterion weighs it), `rank` (of every kernel) or
            `effective_rank` (the multiple of its own that each kernel keeps, 1.0 for all of it).

    Returns:
        What was done to every kernel, or why not.

    Raises:
        ArgumentError: Unusable arguments, or a rule that matches no layer.
        RankError: Nothing to compress, a budget that no ranks meet, or several that none meet
            together.
        SpectrumError: A weight holds NaN or infinity.
        SurgeryError: The model is not built, or Keras failed; it is as it was.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="hidden"),
        ...                           keras.layers.Dense(10, name="output")])
        >>> factorize(model, rank=8).ranks
        {'hidden/kernel': 8}

    Reference: Eckart and Young, *The approximation of one matrix by another of lower
    rank*, Psychometrika 1936; for the initialisation, Khodak et al., *Initialization and
    regularization of factorized neural layers*, ICLR 2021.
    """
    given: dict[str, Any] = {"budget": budget, **target}
    for name, value in _named(given):
        if isinstance(value, Schedule):
            raise ArgumentTypeError(
                f"`{name}` of factorize must be a number, since it cuts once. Received: {value!r}. "
                f"Write {name}={value.values[-1]:g}, or give the schedule to RankScheduler."
            )
    settings = compression_settings(
        "factorize",
        given,
        known=target_kinds(),
        measure=measure,
        criterion=criterion,
        allocation=allocation,
        analysis=analysis,
        calibration=calibration,
        rules=rules,
        multiple=multiple,
        min_share=min_share,
    )
    if not isinstance(cache, DecompositionCache | None):
        raise ArgumentTypeError(
            f"`cache` must be a DecompositionCache, or None. Received: {cache!r}. Write "
            "cache=DecompositionCache(), and give the same one to each call."
        )
    check_built(model)
    losses = losses_of(settings.analysis)
    if losses is not None:
        check_weights(losses, _keras.trained_model(model))
    every = None if calibration is None else samples_of(settings.calibration, every=True)
    samples = None if every is None else every.counting
    told = settings.input_shape
    shapes = [] if told is None else [shapes_told(told, _keras.trained_model(model))]
    if samples is not None:
        shapes.append(shapes_of_samples(samples, "calibration"))
        check_calibration(model, samples)
    compression = Compression(
        model,
        **asked_of(settings, analysis=losses),
        samples=samples,
        trains=False,
        shapes=shapes,
        answers=AnswerWatch(model, every, "the calibration set" if every else NO_DATA),
        cache=cache,
    )
    if compression.waits_for_samples:  # of a criterion that was asked for
        raise ArgumentError(
            f"criterion={criterion!r} needs data to judge by. Received: calibration=None. "
            "Give some thousand samples of the training set, calibration=(x, y)."
        )
    compression.cut(0.0)
    answers = compression.answers
    if answers.complaint is not None:
        warnings.warn(
            f"factorize was asked for too much of model '{model.name}': right after it, "
            f"{answers.complaint}. Ask for less{compression.judge.remedy}, or train the model "
            "on.",
            OutputErrorWarning,
            stacklevel=2,
        )
    if answers.unknown is not None:
        warnings.warn(unknown_outputs(model, answers.unknown), OutputErrorWarning, stacklevel=2)
    return compression.report


def _named(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value that was given, by the name it has in messages."""
    for name, value in given.items():
        inner = value.items() if isinstance(value, Mapping) else ()
        yield from [(f"{name}.{key}", each) for key, each in inner] or [(name, value)]
