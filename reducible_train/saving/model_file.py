"""Models in compact files: save, load, load weights into a model.

The file holds the Keras configuration, the rank plan by kernel path, the report and the
weights by layer path and variable name; never optimizer state, never code. Its bytes are
the business of `container`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.container import (
    Container,
    Header,
    read_container,
    write_container,
)
from reducible_train.container.files import check_path
from reducible_train.errors import (
    ArgumentTypeError,
    FormatError,
    OutputErrorWarning,
    shortened,
)
from reducible_train.layers import find_kernels
from reducible_train.preflight.paths import check_file_name
from reducible_train.report.records import Report
from reducible_train.saving.checks import check_savable
from reducible_train.saving.content import content_of, described, no_configuration, own_version
from reducible_train.saving.fitting_report import is_fitting
from reducible_train.saving.model_config import build_model, only_format_errors
from reducible_train.saving.tensors import (
    expected_shapes,
    left_out,
    places,
    renaming,
    tensor_names,
    tensors_of,
)
from reducible_train.saving.way_back import WayBack
from reducible_train.saving.weights_file import is_weights_file, load_keras_weights, misfit
from reducible_train.surgery.change import apply_plan
from reducible_train.surgery.merge import check_built
from reducible_train.surgery.plans import plan_of

# Bytes that variables may take before it is known that the file has as many.
_ALLOWANCE = 64 << 20
# Bytes that layers of Keras may keep and not save: the state of random numbers.
_UNSAVED = 1 << 20

Path_ = str | os.PathLike[str]


@dataclass(frozen=True)
class SavedFile:
    """What a save has made.

    Args:
        path: The file.
        bytes: Its size.
        weight_bytes: Bytes of the weights in it, in memory.
        dense_bytes: Bytes of the weights of the dense model, in memory.
        loads_with: The call that brings the model back, such as `"load_model(path)"`.
        custom_objects: Names of classes and functions that this call must be given.
    """

    path: Path
    bytes: int
    weight_bytes: int
    dense_bytes: int
    loads_with: str = "load_model(path)"
    custom_objects: tuple[str, ...] = ()

    @property
    def size_fraction(self) -> float:
        """Size of the file over the bytes of the dense model's weights."""
        return self.bytes / max(self.dense_bytes, 1)


def save_model(model: Any, path: Path_, report: Report | None = None) -> SavedFile:
    """Save a model in a compact file, bit for bit.

    The file appears whole or not at all: an old file of that name stays until the new one
    is written and read back. State of random number generators and of the optimizer is not
    kept, nor what stateful recurrent layers remember of the last batch; use `model.save` or
    checkpoints to go on training. Equal models give equal bytes, if their layers have equal names.

    Before it is written, the model is built from its configuration, as `load_model` will. Where
    that call alone will not do, a warning says which one brings the model back, and so does
    the result (`loads_with`). Another warning tells of weights that are NaN or infinite.

    Args:
        model: A built Keras model, factorised or not.
        path: The file, by custom `*.reducible`.
        report: What `RankScheduler.report` or `factorize` gave, to be kept with it. One that is not
            of the model as it is stays out, with a warning.

    Returns:
        Its size, and the sizes to compare it with.

    Raises:
        ArgumentError: The name is that of one of Keras's own files.
        SurgeryError: The model is not built.
        FormatError: The file cannot hold the model: see `check_savable`.
        FileAccessError: The file cannot be written; the old one is untouched.

    Example:
        >>> import keras, tempfile
        >>> from reducible_train import factorize, load_model
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="hidden"),
        ...                           keras.layers.Dense(10, name="output")])
        >>> report = factorize(model, rank=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saved = save_model(model, f"{folder}/model.reducible", report)
        ...     loaded = load_model(f"{folder}/model.reducible")
        >>> loaded.get_layer("hidden").rank
        8
    """
    saved, back = write_model(model, path, report)
    if back.needs_more:
        warnings.warn(f"{saved.path} is written. {back}", stacklevel=2)
    lost = _keras.lost_numbers(model.weights)
    if lost is not None:
        where, bad, size = lost
        warnings.warn(
            f"{saved.path} is written, of a model that is broken: {bad:,} of {size:,} numbers of "
            f"{where} are NaN or infinite. Save weights of before its training diverged.",
            OutputErrorWarning,
            stacklevel=2,
        )
    return saved


def write_model(model: Any, path: Path_, report: Report | None = None) -> tuple[SavedFile, WayBack]:
    """What `save_model` does, without its warning; the second answer says how it comes back."""
    check_path(path)
    check_file_name(Path(path))
    if report is not None and not isinstance(report, Report):
        raise ArgumentTypeError(
            f"`report` must be a Report. Received: {type(report).__name__}. Give scheduler.report, "
            "or what factorize returned."
        )
    back = check_savable(model)
    if report is not None and not is_fitting(model, report):
        report = None
    kernels = find_kernels(model)
    dense = sum(_keras.size(v) * _keras.itemsize(v) for v in model.weights)
    weights = dense
    for kernel in kernels:
        if kernel.rank is not None:
            m, n = kernel.shape
            dense += (m * n - kernel.rank * (m + n)) * kernel.count * kernel.itemsize
    header = {
        "keras_config": back.config,
        "model": described(model, back),
        "plan": plan_of(model),
        "report": None if report is None else report.to_dict(),
        "versions": {
            "keras": keras.__version__,
            "reducible_train": own_version(),
        },
    }
    write_container(path, header, tensors_of(model))
    path = Path(path)
    size = path.stat().st_size
    return SavedFile(path, size, weights, dense, back.loads_with, back.custom_objects), back


def load_model(path: Path_, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Load a model from a compact file; it is not compiled.

    No code from the file is run. Layers and functions that are not Keras's own are built
    only if they are named in `custom_objects`.

    Args:
        path: The file.
        custom_objects: Name -> class or function, for what is not Keras's own.

    Returns:
        The model, with the ranks and weights of the file.

    Raises:
        FormatError: The file is damaged, of another version, names what is not allowed,
            or its model cannot be rebuilt.
        FileAccessError: It cannot be read.
    """
    if custom_objects is not None and not isinstance(custom_objects, Mapping):
        raise ArgumentTypeError(
            "`custom_objects` must be a mapping from names to classes or functions. Received: "
            f"{custom_objects!r}. Write for example custom_objects={{'Block': Block}}."
        )
    with read_container(path) as container, only_format_errors():
        content = content_of(container.header)
        if content["keras_config"] is None:
            raise no_configuration(path, content)
        model, fit = _rebuilt(content["keras_config"], custom_objects, container.header, path)
        _keras.allocate(model)
        _fill(model, container, fit)
    _tell_left(model, path, fit)
    return model


def _rebuilt(
    config: Any, custom_objects: Mapping[str, Any] | None, header: Header, path: Path_
) -> tuple[Any, _Fit]:
    """The model of a configuration, at the ranks of the file, and how that fits it.

    What is larger than the file tells has no memory yet.
    """
    stored = sum(record.nbytes for record in header.tensors)
    with _keras.bounded_variables(2 * stored + _ALLOWANCE):
        model = build_model(config, len(header.tensors), custom_objects)
        if not _keras.has_weights(model):
            raise no_configuration(path, header.content)
        fit = _fit(model, header, path)
    if custom_objects is None and _keras.waiting_bytes(model) > stored + _UNSAVED:
        raise FormatError(
            f"The model in {path} must not need more memory than its tensors tell. "
            f"Received: {stored} bytes of tensors. The file was altered; get it again."
        )
    return model, fit


def load_weights_into(model: Any, path: Path_) -> Any:
    """Load the weights of a file into a model, which gets the ranks of the file.

    For going on from a file, and for subclassed models that cannot be rebuilt from their
    configuration. The model may be dense, or have other ranks. The file is a compact one;
    or, by its name, a `.weights.h5`, `.weights.json` (of several files) or `.keras` file of
    Keras, as `model.save_weights`, `model.save` and `keras.callbacks.ModelCheckpoint` write
    them in any process. It is checked that every name and shape fits before anything is
    changed. Names that Keras gave by itself (`dense_1`) may differ by their numbers; layers
    are then matched in their order.

    A compiled model keeps its optimizer; what it knew of kernels that changed starts anew.
    From a file of Keras it gets the optimizer state too, if that fits its own.

    Args:
        model: A built Keras model of the same architecture.
        path: The file.

    Returns:
        The same model.

    Raises:
        FormatError: The file is damaged, or does not fit the model; it is as it was.
        FileAccessError: It cannot be read.
        SurgeryError: The model is not built.

    Example:
        >>> import keras, tempfile
        >>> from reducible_train import factorize, load_weights_into
        >>> def make():
        ...     return keras.Sequential([keras.Input((64,)), keras.layers.Dense(64),
        ...                              keras.layers.Dense(10)])
        >>> model, other = make(), make()
        >>> _ = factorize(model, rank=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_weights(f"{folder}/last.weights.h5")
        ...     _ = load_weights_into(other, f"{folder}/last.weights.h5")
        >>> other.layers[0].rank
        8
    """
    check_built(model)
    if is_weights_file(path):
        load_keras_weights(model, path)
        return model
    with read_container(path) as container:
        fit = _fit(model, container.header, path)
        _fill(model, container, fit)
    _tell_left(model, path, fit)
    return model


@dataclass(frozen=True)
class _Fit:
    """How a file fits a model.

    Args:
        renamed: How the model names a tensor of the file.
        left: Paths of the layers of which the file has nothing.
    """

    renamed: Callable[[str], str]
    left: tuple[str, ...] = ()


def _fit(model: Any, header: Header, path: Path_) -> _Fit:
    """Bring a model to the ranks of a file that is known to fit.

    Files were written without the layers beside graphs before they held these, which then stay as
    they are.
    """
    names = [record.name for record in header.tensors]
    left = left_out(model, list(map(renaming(model, names), names)))
    fit = _Fit(renaming(model, names, left), left)
    plan = {fit.renamed(name): entry for name, entry in content_of(header)["plan"].items()}
    received = {fit.renamed(record.name): record.shape for record in header.tensors}
    shapes = expected_shapes(model, plan, path, received)
    expected = {name: shape for name, shape in shapes.items() if not _is_in(name, left)}
    if expected != received:
        raise misfit(model, expected, received, path)
    kept = {name: entry for name, entry in plan_of(model).items() if _is_in(name, left)}
    apply_plan(model, plan | kept)
    return fit


def _is_in(name: str, layer_paths: Collection[str]) -> bool:
    """True for the name of a tensor, or the path of a kernel, of one of these layers."""
    return any(name.startswith(f"{path}/") for path in layer_paths)


def _tell_left(model: Any, path: Path_, fit: _Fit) -> None:
    if fit.left:
        named = shortened(", ".join(map(repr, fit.left)), 300)
        warnings.warn(
            f"{path} has nothing of {named}, which no graph of model '{model.name}' calls. "
            "What is not in it stays as it is: files were once written without such layers. Save "
            "the model anew.",
            stacklevel=3,
        )


def _fill(model: Any, container: Container, fit: _Fit) -> None:
    tensors = ((fit.renamed(name), value) for name, value in container)
    for layer_path, layer in places(model, fit.left):
        names = tensor_names(layer_path, layer)
        if names:
            given = dict(next(tensors) for _ in names)
            _keras.put_state(layer, {key: given[name] for key, name in names.items()})
