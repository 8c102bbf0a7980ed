"""A model on several devices or in several processes: whether it can be changed there."""

from __future__ import annotations

import warnings
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.layers.layouts import layouts_at_rank
from reducible_train.selection.compressible import CompressibleKernel
from reducible_train.selection.factorizations import Factorization
from reducible_train.selection.survey import Survey


def check_distribution(model: Any, survey: Survey) -> None:
    """Refuse before training what would fail, or go wrong, at a cut.

    Args:
        model: The model in training.
        survey: Its kernels.

    Raises:
        ArgumentError: Several programs train it, each process has a part of a kernel only, or a
            map of layouts cannot tell how a factor shall be split.
    """
    check_workers(model)
    for compressible in survey.compressible:
        kernel = compressible.kernel
        if any(_keras.is_split_among_processes(v) for v in kernel.variables):
            raise ArgumentError(
                f"Kernel '{kernel.path}' is split among processes, none of which can decompose it. "
                "Received: a layout along an axis of the mesh that runs over processes. Lay out "
                "the mesh so that each process has whole kernels, use "
                "keras.distribution.DataParallel, or leave it dense by a rule with "
                "keep_dense=True."
            )
        for form in compressible.options:
            _check_layouts(compressible, form)


def check_workers(model: Any) -> None:
    """Refuse a model that several programs of TensorFlow train, each cutting for itself.

    Raises:
        ArgumentError: There are several.
    """
    count = _keras.workers(model)
    if count > 1:
        raise ArgumentError(
            f"Ranks of model '{model.name}' cannot change under a strategy of several workers: "
            "each would decide and cut for itself, and variables would no longer be the same. "
            f"Received: {count} workers. Use tf.distribute.MirroredStrategy on one machine, or "
            "several processes on JAX with keras.distribution."
        )


def _check_layouts(compressible: CompressibleKernel, form: Factorization) -> None:
    kernel = compressible.kernel
    path = f"{kernel.variables[0].path.rpartition('/')[0]}/{kernel.name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a rank that nobody has chosen yet
            layouts_at_rank(kernel.view(form.split), path, kernel.variable_shape, form.max_rank)
    except ValueError as error:
        raise ArgumentError(
            f"The map of layouts cannot tell how the factors of kernel '{kernel.path}' shall be "
            f"split. Received: {error}. Remove its entries for factors, which then are split as "
            "the kernel would be."
        ) from error
