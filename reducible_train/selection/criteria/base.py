"""What a criterion is: statistics of a kernel's data in, a metric for its errors out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from reducible_train.errors import ArgumentError
from reducible_train.linalg.metric import RIDGE, Metric, ridged
from reducible_train.linalg.moments import Counts, Moments, Variances
from reducible_train.linalg.refit import Refit
from reducible_train.linalg.roots import Array, Thin, Weight
from reducible_train.linalg.separation import Separated
from reducible_train.settings.checks import check_name, is_version
from reducible_train.settings.compression import AUTO, MEASURED

NEEDS = ("inputs", "gradients")

Known = TypeVar("Known", bound=Moments | Variances | Separated)


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of the data that passes through a kernel `W (m, n)`.

    Args:
        inputs: Moments of the inputs `x (m,)` it is multiplied with, or variances where they are
            too many; or counts of the rows that they choose; or moments of inputs whose pieces
            meet a block of columns each.
        gradients: Moments of the gradient of the loss by its outputs `x W (n,)`, a tenth of the
            loss with targets of other samples included, or variances; of one block.
        absorbs_mean: True if a bias, or a BatchNormalization behind the kernel, takes up the mean
            of what is lost, so that only the spread of the inputs matters.
    """

    inputs: Moments | Variances | Counts | Separated | None = None
    gradients: Moments | Variances | None = None
    absorbs_mean: bool = True

    @property
    def input_moment(self) -> Weight:
        """`(m, m)`: the covariance of the inputs, or their second moment if it absorbs no mean.

        `(m,)`, its diagonal, where the rest is 0; by its vectors, where these are few.

        Raises:
            ArgumentError: Nothing is known of the inputs.
        """
        if isinstance(self.inputs, Counts):
            return self.inputs.second_moment
        return _present(self.inputs, "inputs").weight(centred=self.absorbs_mean)

    @property
    def is_still(self) -> bool:
        """True where `input_moment` is 0: the inputs were, or a bias takes up what they were."""
        inputs = self.inputs
        return isinstance(inputs, Moments | Variances) and inputs.is_zero(centred=self.absorbs_mean)

    @property
    def block_gram(self) -> Array | None:
        """`(p, p)`: what the pieces have in common that meet `p` blocks of columns; `None` for
        inputs in one piece.
        """
        if not isinstance(self.inputs, Separated):
            return None
        return self.inputs.block_gram(centred=self.absorbs_mean)

    @property
    def mean(self) -> Array | None:
        """The mean that is taken up: `(m,)`, or `(p, m)` of pieces; `None` if it is not."""
        if not self.absorbs_mean or self.inputs is None or isinstance(self.inputs, Counts):
            return None
        return self.inputs.mean

    @property
    def gradient_moment(self) -> Weight:
        """`(n, n)`: the second moment of the gradients; `(n,)`, its diagonal, of variances.

        Raises:
            ArgumentError: Nothing is known of the gradients.
        """
        return _present(self.gradients, "gradients").weight(centred=False)


@dataclass(frozen=True, eq=False)
class Criterion:
    """A way to say what an error of a kernel costs.

    Args:
        name: Its name, such as `"activation"`.
        needs: The statistics it asks for, some of `"inputs"` and `"gradients"`.
        metric: Statistics -> metric; a pure function.
        comparable: True if lost energy means the same for every kernel, such as a rise of the loss.
    """

    name: str
    needs: tuple[str, ...]
    metric: Callable[[Statistics], Metric]
    comparable: bool = False

    def metric_of(self, statistics: Statistics) -> Metric:
        """The metric of a kernel, also of one whose inputs come in pieces.

        Raises:
            ArgumentError: The criterion, of one's own, returns what is none.
        """
        metric, inputs = self.metric(statistics), statistics.inputs
        fault = _fault(metric)
        if fault is not None:
            raise ArgumentError(
                f"The criterion {self.name!r} must return a Metric, whose weights are None or "
                "symmetric, positive definite arrays: (k, k), or (k,) for a diagonal. Received: "
                f"{fault}. ridged(weight) puts a floor under one that may be zero."
            )
        block_gram = statistics.block_gram
        if not isinstance(inputs, Separated) or block_gram is None:
            return metric
        metric = replace(metric, block_gram=ridged(block_gram))
        if isinstance(inputs.whole, Variances):  # a matrix of moments would be too large
            return metric
        outputs = metric.outputs.whole if isinstance(metric.outputs, Thin) else metric.outputs
        return replace(metric, refit=Refit(inputs, statistics.absorbs_mean, RIDGE, outputs))


_CRITERIA: dict[str, Criterion] = {}


def criterion(
    name: str, *, needs: tuple[str, ...] = (), comparable: bool = False
) -> Callable[[Callable[[Statistics], Metric]], Callable[[Statistics], Metric]]:
    """Make a function known as a criterion: statistics of a kernel -> metric of its errors."""
    check_name(name, "A criterion", AUTO, MEASURED)
    if not set(needs) <= set(NEEDS):
        raise ArgumentError(
            f"A criterion may need {' and '.join(map(repr, NEEDS))}. Received: needs={needs!r}."
        )

    def register(function: Callable[[Statistics], Metric]) -> Callable[[Statistics], Metric]:
        known = _CRITERIA.get(name)
        if known is not None and not is_version(function, known.metric):
            raise ArgumentError(
                "A criterion must have a name of its own. "
                f"Received: {name!r}, taken by {known.metric.__name__}. Choose another."
            )
        _CRITERIA[name] = Criterion(name, needs, function, comparable)
        return function

    return register


def criterion_names() -> tuple[str, ...]:
    """Names of all criteria, in alphabetical order.

    >>> criterion_names()
    ('activation', 'fisher', 'frobenius')
    """
    return tuple(sorted(_CRITERIA))


def criterion_named(name: str) -> Criterion:
    """The criterion of a name.

    Raises:
        ArgumentError: Nobody knows it.
    """
    if not isinstance(name, str) or name not in _CRITERIA:
        raise ArgumentError(
            f"`criterion` must be one of "
            f"{', '.join(map(repr, ('auto', *criterion_names(), 'measured')))}. "
            f"Received: criterion={name!r}. If unsure, leave it out."
        )
    return _CRITERIA[name]


def _present(moments: Known | None, name: str) -> Known:
    if moments is None:
        raise ArgumentError(
            f"This criterion needs statistics of the {name}. Received: {name}=None. "
            "Collect them over a calibration set first."
        )
    return moments


def _fault(metric: object) -> str | None:
    """What cannot be of a metric, or `None`; an eigenvalue below 0 is not looked for."""
    if not isinstance(metric, Metric):
        return "None" if metric is None else f"a {type(metric).__name__}"
    for name in ("inputs", "outputs", "block_gram"):
        weight = getattr(metric, name)
        found = None if weight is None else _weight_fault(weight)
        if found is not None:
            return f"`{name}` {found}"
    return None


def _weight_fault(weight: Weight) -> str | None:
    """What is wrong with the numbers of a weight, or `None`."""
    numbers = np.asarray(weight.vectors if isinstance(weight, Thin) else weight)
    if (
        not hasattr(weight, "shape")
        or numbers.dtype.kind not in "fiu"
        or numbers.ndim not in (1, 2)
    ):
        return f"that is a {type(weight).__name__}, of {numbers.dtype} and shape {numbers.shape}"
    bad = int(numbers.size - np.isfinite(numbers).sum())
    if bad:
        return f"with {bad} of {numbers.size} numbers NaN or infinite"
    if numbers.ndim == 1:
        return None if numbers.min() > 0 else f"whose least number is {numbers.min():g}"
    if isinstance(weight, Thin):
        diagonal = (numbers**2).sum(axis=0) + weight.floor
    else:
        diagonal = np.diagonal(numbers)
    if diagonal.min() >= 0 and diagonal.max() > 0:
        return None
    return f"whose diagonal is from {diagonal.min():g} to {diagonal.max():g}"
