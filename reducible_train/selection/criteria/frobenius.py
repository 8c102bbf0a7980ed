"""The error of the kernel itself."""

from __future__ import annotations

from reducible_train.linalg.metric import Metric
from reducible_train.selection.criteria.base import Statistics, criterion


@criterion("frobenius")
def frobenius(statistics: Statistics) -> Metric:
    """Minimises `||W - W_r||_F`; every input and every output counts alike. Needs no data.

    Blind to what the kernel sees: rows of inputs that never occur (the border of an image) keep
    the energy they were initialised with, and get rank for it. For white inputs it is the same as
    `"activation"`, whose docstring has the measured difference.

    Reference: Eckart and Young, *The approximation of one matrix by another of lower rank*,
    Psychometrika 1936.
    """
    return Metric()
