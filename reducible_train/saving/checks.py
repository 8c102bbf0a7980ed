"""Whether a compact file can hold a model, and how it comes back: told before it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.container import Header
from reducible_train.container.codecs.dtypes import dtype_named
from reducible_train.container.header import header_bytes
from reducible_train.container.records import check_name
from reducible_train.errors import FormatError, shortened
from reducible_train.saving.content import described
from reducible_train.saving.tensors import expected_shapes, places, tensor_names, tensor_shapes
from reducible_train.saving.way_back import WayBack, way_back
from reducible_train.saving.weights_file import misfit
from reducible_train.surgery.merge import check_built
from reducible_train.surgery.plans import plan_of


def check_savable(model: Any) -> WayBack:
    """Learn before a long training whether a compact file can hold a model, and how it loads.

    Nothing is written and no value of a variable is looked at: it takes the time of building
    the model from its configuration once, without memory for its weights.

    Args:
        model: A built model, before or after its ranks fell.

    Returns:
        How it comes back: `loads_with`, `custom_objects`, and in words as `str`.

    Raises:
        SurgeryError: The model is not built.
        FormatError: The file cannot hold it; every layer that stands against it is named.
    """
    check_built(model)
    beside = _keras.beside_graphs(model)
    problems = [
        problem
        for path, layer in places(model)
        for problem in _problems(path, layer, may_file=path in beside)
    ]
    _refuse(model, problems)
    plan, stored = plan_of(model), tensor_shapes(model)

    def misfits(other: Any) -> str | None:
        not_made = _not_made(beside, other)
        if not_made is not None:
            return not_made
        wanted = expected_shapes(other, plan, "the file", stored)
        if wanted != stored:
            return str(misfit(other, wanted, stored, "The file"))
        problems.extend(_untaken(model, other))
        return _other_dtype(model, other) or _other_order(model, other)

    filing = tuple(path for path, layer in beside.items() if _keras.keeps_files(layer))
    back = replace(
        way_back(model, len(stored), misfits),
        left_out=filing,
        replaced=tuple(_keras.replaced_calls(model)),
    )
    _refuse(model, problems)
    header = {"keras_config": back.config, "model": described(model, back), "plan": plan}
    header_bytes(Header(header, ()))  # refuses what is too long
    return back


def _problems(layer_path: str, layer: Any, *, may_file: bool) -> Iterator[str]:
    """Why a compact file cannot hold what a layer keeps; files that it may keep are left out."""
    where = _where(layer_path, layer)
    if _keras.keeps_files(layer) and not may_file:
        yield f"{where} keeps files of its own (save_assets)"
    names = tensor_names(layer_path, layer)
    for key, value in _keras.state_of(layer).items():
        try:
            check_name(names[key])
            dtype_named(_keras.dtype_of(value) if hasattr(value, "dtype") else "")
        except (FormatError, ValueError, TypeError) as error:
            yield f"{where}, {key!r}: {error}"


def _where(layer_path: str, layer: Any) -> str:
    return f"layer '{layer_path}' ({type(layer).__name__})"


def _refuse(model: Any, problems: Sequence[str]) -> None:
    if problems:
        raise FormatError(
            f"A compact file cannot hold model '{model.name}'. Received:\n  "
            + "\n  ".join(problems)
            + "\nUse model.save, or take these layers out of the model."
        )


def _not_made(beside: Mapping[str, Any], other: Any) -> str | None:
    """Why the other model lacks what is held beside graphs and gives the file tensors."""
    made = dict(places(other))
    lost = [
        path for path, layer in beside.items() if path not in made and tensor_names(path, layer)
    ]
    if not lost:
        return None
    named = shortened(", ".join(map(repr, lost)), 300)
    return f"its configuration does not hold {named}, which no graph in it calls."


def _pairs(model: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each layer with that of a model like it, which has all those that give a file tensors."""
    theirs = dict(places(other))
    return ((path, layer, theirs[path]) for path, layer in places(model) if path in theirs)


def _untaken(model: Any, other: Any) -> Iterator[str]:
    """Which layers do not take back what they gave; nothing is copied."""
    with keras.StatelessScope(initialize_variables=False):
        for path, layer, theirs in _pairs(model, other):
            if type(layer) is not type(theirs):
                continue  # it has other ranks until the file is read
            try:
                _keras.put_state(theirs, _keras.state_of(layer))
            except Exception as error:  # its own code may fail in any way
                told = shortened(str(error), 300)
                yield (
                    f"{_where(path, layer)} does not take back what it gave "
                    f"(load_own_variables): {told}"
                )


def _other_dtype(model: Any, other: Any) -> str | None:
    """Why values would be rounded on their way into the other model."""
    for path, layer, theirs in _pairs(model, other):
        dtypes = {key: _keras.dtype_of(value) for key, value in _keras.state_of(layer).items()}
        for key, value in _keras.state_of(theirs).items():
            if dtypes.get(key, _keras.dtype_of(value)) != _keras.dtype_of(value):
                return (
                    f"layer '{path}' holds {key!r} as {dtypes[key]}, and its configuration makes "
                    f"it {_keras.dtype_of(value)}."
                )
    return None


def _other_order(model: Any, other: Any) -> str | None:
    """Why the other model calls fewer layers: a Sequential keeps one of those it holds twice."""
    for path, part, theirs in _pairs(model, other):
        if isinstance(part, keras.Sequential) and len(part.layers) != len(theirs.layers):
            names = [layer.name for layer in part.layers]
            twice = next((name for name in names if names.count(name) > 1), names[-1])
            return (
                f"'{path or part.name}' (Sequential) holds layer '{twice}' more than once, and its "
                "configuration only once."
            )
    return None
