"""What a model answers on samples, and how far two such answers are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.linalg.weighting import aligned
from reducible_train.selection.samples import Samples, batches_for, count_of, part_of, told_apart

MOST = 1024  # samples
_NUMBERS = 2**24  # of all outputs that are kept
_ROUND_OFF = 8  # least steps of a float, by which outputs of the same inputs may differ


@dataclass(frozen=True, eq=False)
class Answers:
    """The outputs of a model on samples.

    Args:
        batches: Of each batch, by name of the output (`""` for an only one): its values
            `(samples, ...)`, and how much each of its samples or positions counts, `(samples,)`
            or `(samples, positions...)`, `None` where all count alike.
        metrics: Loss and metrics on these samples, by name, where they were asked for.
    """

    batches: tuple[Mapping[str, tuple[np.ndarray, np.ndarray | None]], ...]
    metrics: Mapping[str, float] = field(default_factory=dict)


def outputs_of(
    model: Any, samples: Samples, *, judged: bool = False, evaluated: int | None = None
) -> Answers:
    """The outputs of a model on samples, as for predictions; nothing of it is changed.

    Args:
        model: A built model; a `Distiller` answers as its student does.
        samples: The samples, all of which are run: take `some_of` many.
        judged: True to have its loss and compiled metrics too, where there are targets and it is
            compiled.
        evaluated: As `batches_for` takes it.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> outputs_of(model, Samples(np.ones((3, 4)))).batches[0][""][0].shape
        (3, 2)
    """
    batches = list(batches_for(model, samples, evaluated))
    told, metrics = _keras.answers(model, batches, judged=judged)
    are_counted = samples.are_counted
    weights = [
        told_apart((x, y, _keras.weights_of_counted(model, y, w if are_counted else None)))[0]
        for x, y, w in batches
    ]
    return Answers(
        tuple(
            {each.name: (each.values, _counts(each, shares)) for each in outputs}
            for outputs, shares in zip(told, weights, strict=True)
        ),
        metrics,
    )


def relative_output_errors(before: Answers, after: Answers) -> dict[str, float]:
    r"""The squared error of each output, as a share of its variance over the samples.

    With `f` the outputs before and `g` those after, each sample, and each position that no mask
    hides, counting as much as its weight says:

        sum w ||g - f||^2  /  sum w ||f - mean f||^2

    which is the fraction of variance unexplained: 0 for the same answers, 1 for answers no better
    than the mean `(channels,)` over samples and positions, whatever the unit of the output.

    Returns:
        By name of the output; 0 where both are constant and equal, infinity where what was constant
        or finite is so no more, NaN where `f` holds nothing finite.

    Example:
        >>> one = Answers(({"": (np.array([[0.0], [2.0]]), None)},))
        >>> other = Answers(({"": (np.array([[1.0], [1.0]]), None)},))
        >>> relative_output_errors(one, other)
        {'': 1.0}
    """
    names = dict.fromkeys(name for batch in before.batches for name in batch)
    return {name: _error(name, before, after) for name in names}


def worst(errors: Mapping[str, float]) -> float:
    """The largest of errors, NaN left out; NaN if there are no others."""
    return max((each for each in errors.values() if not math.isnan(each)), default=math.nan)


def are_alike(answers: Answers, name: str) -> bool:
    """True if an output is the same on all samples and positions that count, to round-off.

    Example:
        >>> are_alike(Answers(({"": (np.array([[0.1, 3.0], [0.1, 3.0]]), None)},)), "")
        True
    """
    given = [batch[name] for batch in answers.batches if name in batch]
    kinds = {values.dtype for values, _ in given if values.dtype.kind == "f"}
    epsilon = max((float(np.finfo(kind).eps) for kind in kinds), default=0.0)
    wide = len({values.shape[-1:] for values, _ in given}) == 1
    rows = [_rows(values, values, counts, wide=wide) for values, counts in given]
    least, most = math.inf, -math.inf
    low = np.min([np.where(w > 0, v, least).min(axis=0, initial=least) for v, _, w in rows], axis=0)
    high = np.max([np.where(w > 0, v, most).max(axis=0, initial=most) for v, _, w in rows], axis=0)
    size = max(float(np.abs(values).max(initial=0.0)) for values, _, _ in rows)
    return bool(np.all(high - low <= _ROUND_OFF * epsilon * size))


def is_finite(answers: Answers, name: str) -> bool:
    """True if an output holds no NaN or infinity."""
    given = (batch[name][0] for batch in answers.batches if name in batch)
    return all(bool(np.isfinite(values).all()) for values in given)


def not_finite(answers: Answers) -> tuple[int, int]:
    """How many numbers of the outputs are NaN or infinite, and of how many."""
    found = [values for batch in answers.batches for values, _ in batch.values()]
    total = sum(values.size for values in found)
    return total - sum(int(np.isfinite(values).sum()) for values in found), total


def some_of(model: Any, samples: Samples, most: int = MOST) -> Samples:
    """At most so many of the samples, spread evenly, fewer where a model's outputs are large.

    One sample is run to know.

    Args:
        model: A built model.
        samples: The samples.
        most: How many.
    """
    size = _keras.fixed_batch(model)
    first = next(samples.batches(size or 1), None)
    if first is None:
        return samples
    told, _ = _keras.answers(model, [first])
    numbers = max(sum(each.values.size for each in told[0]) // count_of(first[0]), 1)
    most = max(min(most, _NUMBERS // numbers), size or 1)
    return _spread(samples, most)


def _spread(samples: Samples, most: int) -> Samples:
    total = len(samples)
    if total <= most:
        return samples
    parts = []
    for each in (replace(samples, more=()), *samples.more):
        count = max(round(most * len(each) / total), 1)
        places = np.linspace(0, len(each) - 1, min(count, len(each))).round().astype(int)
        parts.append(Samples(*part_of(places, each.x, each.y, each.weight)))
    return replace(parts[0], more=tuple(parts[1:]))


def _counts(output: _keras.Output, weights: np.ndarray | None) -> np.ndarray | None:
    """How much the samples and positions of an output count, by weights and mask."""
    shares = None if weights is None else aligned(weights, output.values.shape)
    if output.mask is None or shares is None:
        return shares if output.mask is None else output.mask.astype(np.float64)
    axes = max(output.mask.ndim, shares.ndim)
    mask, shares = (
        each.reshape(each.shape + (1,) * (axes - each.ndim)) for each in (output.mask, shares)
    )
    return np.asarray(mask * shares)


def _error(name: str, before: Answers, after: Answers) -> float:
    pairs = [
        (old[name], new[name])
        for old, new in zip(before.batches, after.batches, strict=True)
        if name in old and name in new
    ]
    wide = len({old[0].shape[-1:] for old, _ in pairs}) == 1
    rows = [_rows(old[0], new[0], old[1], wide=wide) for old, new in pairs]
    total = sum(weights.sum(axis=0) for _, _, weights in rows)
    with np.errstate(all="ignore"):  # infinity and NaN have their meaning here
        mean = sum((weights * old).sum(axis=0) for old, _, weights in rows) / total
        spread = sum(float(np.nansum(weights * (old - mean) ** 2)) for old, _, weights in rows)
        lost = sum(float((weights * (new - old) ** 2).sum()) for old, new, weights in rows)
    if not np.any(total):
        return math.nan
    if not math.isfinite(lost):
        return math.inf
    if spread <= 0:
        return 0.0 if lost <= 0 else math.inf
    return lost / spread


def _rows(
    old: np.ndarray, new: np.ndarray, counts: np.ndarray | None, *, wide: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outputs as rows of channels, and how much each number counts; one not finite, not."""
    channels = old.shape[-1] if wide and old.ndim > 1 else 1
    weights = np.ones((1,) * old.ndim) if counts is None else counts
    weights = weights.reshape(weights.shape + (1,) * (old.ndim - weights.ndim))
    weights = np.broadcast_to(weights, old.shape).reshape(-1, channels)
    before, now = (each.astype(np.float64).reshape(-1, channels) for each in (old, new))
    known = np.isfinite(before) & (weights > 0)
    return (
        np.where(known, before, 0.0),
        np.where(known, now, 0.0),
        np.where(known, weights, 0.0),
    )
