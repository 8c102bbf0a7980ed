"""Keras's own weights files, of models of any ranks, into a model of other ranks.

A weights file (`model.save_weights`, `ModelCheckpoint`, also the one inside `.keras`) keys
the layers of a list by class name and a count: `layers/low_rank_dense_1/vars/kernel_u`.
Which of the layers that is depends on which others were factorised; therefore a low-rank
layer notes its place among the layers of its kind when it is saved. Ranks are read from
the shapes of the factors.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
import warnings
import zipfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.container import MAGIC
from reducible_train.container.files import accessing, check_regular
from reducible_train.errors import FormatError, shortened
from reducible_train.layers import Kernel, LowRank, dense_classes, find_kernels, low_rank_class
from reducible_train.surgery.change import apply_plan
from reducible_train.surgery.plans import PlanEntry, checked

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]  # key in the file -> shape
Stored = Mapping[str, _keras.StoredVariables]

_IN_KERAS_FILE = "model.weights.h5"
# The last word of a name in the path of what the model itself may not have: `d_optimizer`.
_OPTIMIZER = re.compile(r"(?:^|/|_)optimizer(?:/|$)")
_MOST_COPIES = 8  # of the weights: values, averages and state of the hungriest optimizers
_WIDEST = 8  # bytes of a number
_OVERHEAD = 8192  # bytes that HDF5 spends on a variable and its groups
_ANEW = "Save it anew by `model.save_weights`."


def is_weights_file(path: Any) -> bool:
    """True for the names Keras gives to files of weights, and of models."""
    return str(path).endswith((".weights.h5", ".weights.json", ".keras"))


def load_keras_weights(
    model: Any, path: Any, *, training: bool = False, remedy: str = _ANEW
) -> None:
    """Bring a model to the ranks of a weights file, then let Keras load it.

    It is checked that every path and shape fits before anything is changed. The optimizer
    gets the state of the file where that fits.

    Args:
        model: A built model.
        path: A file of `model.save_weights` or `model.save`.
        training: True inside `fit`, whose train function must be made anew at once.
        remedy: What to do if it is damaged.

    Raises:
        FormatError: The file is damaged, or does not fit the model; it is as it was.
        FileAccessError: It cannot be read.
    """
    with _weights_of(path, _most_bytes(model)) as weights:
        stored = _stored_in(weights, path, remedy)
        plan = _fitting_plan(model, stored, path)
        _check_readable(weights, _loaded_places(model, stored), path, remedy)
        apply_plan(model, plan, training=training)
        optimizers = _misfitting_optimizers(model, stored)
        if any(name in stored for name in optimizers):
            warnings.warn(
                f"The state of the optimizer in {path} does not fit that of model "
                f"'{model.name}', which keeps its own. To go on from the state of the file, "
                "compile the model alike, and first call "
                "model.optimizer.build(model.trainable_variables).",
                stacklevel=3,
            )
        with _keras.seen_as_built(model):
            model.load_weights(weights, objects_to_skip=list(optimizers.values()))


@contextmanager
def _weights_of(path: Any, most: int) -> Iterator[Path]:
    """The file of weights; of a `.keras` file, a copy of the one inside, if it is no larger."""
    check_regular(path, "read")
    with accessing(path, "read"), Path(path).open("rb") as stream:
        if stream.read(len(MAGIC)) == MAGIC:
            raise FormatError(
                "the file is a compact one, though it is named like one of Keras's. Name it "
                f"{Path(path).with_suffix('.reducible').name}."
            )
    if not str(path).endswith(".keras"):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / _IN_KERAS_FILE
        try:
            with zipfile.ZipFile(path) as archive, archive.open(_IN_KERAS_FILE) as inside:
                _check_size(archive.getinfo(_IN_KERAS_FILE).file_size, most, path)
                with copy.open("xb") as stream:
                    shutil.copyfileobj(inside, stream)
        except FormatError:
            raise
        except Exception as error:  # zipfile and its three decompressors fail in any way
            raise FormatError(
                f"{path} is no file of `model.save`, or it is damaged: {error}. Save it anew."
            ) from error
        yield copy


def _check_size(size: int, most: int, path: Any) -> None:
    if size > most:
        raise FormatError(
            f"{path} does not fit the model: the weights in it take {size} bytes, and those of "
            f"the model with any optimizer's state at most {most}. Use a model of the "
            "architecture it was saved from."
        )


def _most_bytes(model: Any) -> int:
    """More than any file of weights of a model takes, the state of its optimizer included."""
    numbers = sum(map(_keras.size, model.variables))
    for kernel in find_kernels(model):
        numbers += math.prod(kernel.variable_shape) if kernel.rank is not None else 0
    return _MOST_COPIES * (_WIDEST * numbers + _OVERHEAD * (len(model.variables) + 64))


def _stored_in(weights: Path, path: Any, remedy: str) -> Stored:
    try:
        return _keras.stored_variables(weights)
    except Exception as error:  # h5py fails in any way on a forged file
        raise FormatError(
            f"{path} is no weights file of Keras, or it is damaged: {error}. {remedy}"
        ) from error


def _check_readable(weights: Path, places: Collection[str], path: Any, remedy: str) -> None:
    """Read what is about to be loaded, once it is known to fit: nothing may fail half-way."""
    try:
        _keras.read_variables(weights, places)
    except Exception as error:  # as above
        raise FormatError(f"{path} is damaged: {error}. {remedy}") from error


# --- the plan of a file -------------------------------------------------------------------


def _fitting_plan(model: Any, stored: Stored, path: Any) -> dict[str, PlanEntry]:
    """The plan of the file, once all of it is known to fit."""
    kernels: dict[int, list[Kernel]] = defaultdict(list)
    for kernel in find_kernels(model):
        kernels[id(kernel.layer)].append(kernel)
    plan: dict[str, PlanEntry] = {}
    expected: dict[str, Shapes] = {}
    optimizers: set[str] = set()
    for place, saveable in _state(model, stored):
        if isinstance(saveable, keras.optimizers.Optimizer):
            optimizers.add(place)
            continue
        received = stored.get(place)
        own = kernels.get(id(saveable), [])
        if received is not None and received.place is not None:
            for kernel in own:
                entry = _entry(kernel, received.shapes, place, path)
                if entry is not None:
                    plan[kernel.path] = entry
            expected[place] = _low_rank_shapes(saveable, own, plan)
        else:
            expected[place] = _dense_shapes(saveable, own)
    weights = {
        place: each
        for place, each in stored.items()
        if place in expected
        or not (
            any(f"{place}/".startswith(f"{optimizer}/") for optimizer in optimizers)
            or _OPTIMIZER.search(place)
        )
    }
    _check(model, expected, weights, path)
    return plan


def _state(model: Any, stored: Stored) -> Iterator[tuple[str, Any]]:
    """What the model would save with the ranks of the file: place in the file, and object."""
    dense_names = {
        _keras.snake_case(kind.__name__): _keras.snake_case(dense.__name__)
        for dense, kind in dense_classes().items()
    }
    places: dict[tuple[str, str], set[int]] = defaultdict(set)
    for path, each in stored.items():
        if each.place is not None:
            folder, _, name = path.rpartition("/")
            name = re.sub(r"_\d+$", "", name)
            places[folder, dense_names.get(name, name)].add(each.place)
    counts: Counter[tuple[str, str]] = Counter()

    def class_name(layer: Any, folder: str, met_at: str | None) -> str:
        kind = low_rank_class(layer)
        dense = type(layer) if kind is None else kind.kernel_kind.dense_class
        key = folder, _keras.snake_case(dense.__name__)
        if met_at is None:
            is_low_rank = counts[key] in places[key]
            counts[key] += 1
        else:
            is_low_rank = met_at in stored and stored[met_at].place is not None
        return (kind if kind is not None and is_low_rank else dense).__name__

    return _keras.walk_state(model, class_name)


def _entry(kernel: Kernel, stored: Shapes, place: str, path: Any) -> PlanEntry | None:
    """The entry of a plan that gives a kernel the factors of the file; `None` without factors."""
    factors = [stored.get(f"{kernel.name}_{side}") for side in "uv"]
    if factors == [None, None]:
        return None
    for split in kernel.kind.splits_of(kernel.layer, kernel.name):
        full_rank = min(kernel.shape_in(split))
        for rank in {axis for shape in factors for axis in shape or () if 1 <= axis <= full_rank}:
            if [*kernel.view(split).factor_shapes(kernel.variable_shape, rank)] == factors:
                return {"rank": rank, "split": split} if len(kernel.kind.splits) > 1 else rank
    raise FormatError(
        f"{path} does not fit the model: in {place!r} it has factors of shapes "
        f"{' and '.join(map(str, factors))}, which cannot be of kernel {kernel.path!r} of shape "
        f"{kernel.variable_shape}. Use a model of the architecture it was saved from."
    )


def _low_rank_shapes(layer: Any, kernels: list[Kernel], plan: Mapping[str, PlanEntry]) -> Shapes:
    """What a layer stores once it has the ranks of a plan: name of variable -> shape."""
    shapes = {v.name: _shape(v) for v in _others(layer, kernels)}
    for kernel in kernels:
        if kernel.path not in plan:
            shapes[kernel.name] = kernel.variable_shape
            continue
        rank, split = checked(plan[kernel.path], kernel)
        u, v = kernel.view(split).factor_shapes(kernel.variable_shape, rank)
        shapes |= {f"{kernel.name}_u": u, f"{kernel.name}_v": v}
    return shapes


def _dense_shapes(layer: Any, kernels: list[Kernel]) -> Shapes:
    """What a layer stores once it is dense, in the way of its own class."""
    if not isinstance(layer, LowRank):
        store: dict[str, Any] = {}
        layer.save_own_variables(store)
        return {key: tuple(int(size) for size in np.shape(v)) for key, v in store.items()}
    leading = [getattr(layer, name) for name in layer.kernel_kind.leading_variables]
    others = [v for v in _others(layer, kernels) if not any(v is each for each in leading)]
    shapes = [_shape(variable) for variable in leading]
    shapes += [kernel.variable_shape for kernel in kernels]
    shapes += [_shape(variable) for variable in others]
    return {str(position): shape for position, shape in enumerate(shapes)}


def _others(layer: Any, kernels: list[Kernel]) -> list[Any]:
    own = {id(variable) for kernel in kernels for variable in kernel.variables}
    return [variable for variable in _keras.own_variables(layer) if id(variable) not in own]


def _shape(variable: Any) -> Shape:
    return tuple(int(size) for size in variable.shape)


def _check(model: Any, expected: Mapping[str, Shapes], stored: Stored, path: Any) -> None:
    wanted = {
        _name(place, key): shape
        for place, shapes in expected.items()
        for key, shape in shapes.items()
    }
    given = {
        _name(place, key): shape
        for place, each in stored.items()
        for key, shape in each.shapes.items()
    }
    if wanted != given:
        raise misfit(model, wanted, given, path)


def _name(place: str, key: str) -> str:
    return f"{place}/vars/{key}".lstrip("/")


def misfit(
    model: Any, expected: Mapping[str, Shape], received: Mapping[str, Shape], path: Any
) -> FormatError:
    """The error for a file whose tensors, name -> shape, are not those of a model."""
    lines = [f"it lacks {name!r}" for name in expected if name not in received]
    lines += [f"it has {name!r}, unknown to the model" for name in received if name not in expected]
    lines += [
        f"{name!r} has shape {received[name]}, the model needs {expected[name]}"
        for name in expected
        if name in received and expected[name] != received[name]
    ]
    told = "; ".join(shortened(line, 300) for line in lines[:3])
    more = f", and {len(lines) - 3} more" if len(lines) > 3 else ""
    return FormatError(
        f"{path} does not fit model '{shortened(model.name)}': {told}{more}. Use a model of "
        "the architecture it was saved from."
    )


def _loaded_places(model: Any, stored: Stored) -> set[str]:
    """The places of a file that Keras will read, the state of optimizers that fits included."""
    skipped = _misfitting_optimizers(model, stored)
    return {place for place, _ in _state(model, stored) if place in stored} - set(skipped)


def _misfitting_optimizers(model: Any, stored: Stored) -> dict[str, Any]:
    """Place -> optimizer of a model, for those whose state is not in the file as they have it."""
    return {
        place: saveable
        for place, saveable in _state(model, stored)
        if isinstance(saveable, keras.optimizers.Optimizer)
        and _dense_shapes(saveable, []) != (stored[place].shapes if place in stored else {})
    }
