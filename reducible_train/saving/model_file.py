"""Models in compact files: save, load, load weights into a model.

The file holds the Keras configuration, the rank plan by kernel path, the report and the
weights by layer path and variable name; never optimizer state, never code. Its bytes are
the business of `container`.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.container import (
    Container,
    Header,
    read_container,
    read_header,
    write_container,
)
from reducible_train.container.codecs.dtypes import dtype_named
from reducible_train.container.files import check_path
from reducible_train.container.header import header_bytes
from reducible_train.container.records import check_name
from reducible_train.errors import (
    ArgumentTypeError,
    FormatError,
    OutputErrorWarning,
    SurgeryError,
    shortened,
)
from reducible_train.layers import find_kernels
from reducible_train.preflight.paths import check_file_name
from reducible_train.report.records import Report
from reducible_train.saving.model_config import build_model, only_format_errors
from reducible_train.saving.way_back import WayBack, way_back
from reducible_train.saving.weights_file import is_weights_file, load_keras_weights, misfit
from reducible_train.surgery.change import apply_plan
from reducible_train.surgery.merge import check_built
from reducible_train.surgery.plans import Plan, checked, plan_of

# What the content of the header must have, of which types.
_KINDS: dict[str, Any] = {
    "keras_config": (dict, type(None)),
    "model": dict,
    "plan": dict,
    "report": (dict, type(None)),
    "versions": dict,
}
_CONTENT_VERSION = 1
# Bytes that variables may take before it is known that the file has as many.
_ALLOWANCE = 64 << 20
# Bytes that layers of Keras may keep and not save: the state of random numbers.
_UNSAVED = 1 << 20
_AUTOMATIC = re.compile(r"variable(_\d+)?")

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
    if report is not None and not _is_fitting(model, report):
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
        "model": _described(model, back),
        "plan": plan_of(model),
        "report": None if report is None else report.to_dict(),
        "versions": {
            "keras": keras.__version__,
            "reducible_train": _version(),
        },
    }
    write_container(path, header, _tensors(model))
    path = Path(path)
    size = path.stat().st_size
    return SavedFile(path, size, weights, dense, back.loads_with, back.custom_objects), back


def _is_fitting(model: Any, report: Report) -> bool:
    """True for a report of the model as it is, or of a model in it; or else there is a warning.

    No error: a model that was trained for long is worth more than what is said of it. Stock layers
    in place of factors have the parameters of the report, and no ranks. One of a training that
    did nothing says nothing.
    """
    inner = [layer for _, layer in _keras.walk(model) if isinstance(layer, keras.Model)]
    told = [_misreported(part, report) for part in (_keras.trained_model(model), model, *inner)]
    if not report.dense_parameters or not all(told) or _is_of_larger(model, report):
        return True
    warnings.warn(
        "The file is written without its `report`, which is not of the model as it is. Received: "
        f"{told[0]}. Give scheduler.report of the fit that left model '{shortened(model.name)}' "
        "so, or what factorize returned.",
        stacklevel=4,
    )
    return False


def _is_of_larger(model: Any, report: Report) -> bool:
    """True for the report of a model that holds this one, with its ranks."""
    own = [kernel for kernel in find_kernels(model) if kernel.rank is not None]
    ends = [path.removesuffix(own[0].path) for path in report.ranks] if own else []
    return any(all(report.ranks.get(f"{end}{k.path}") == k.rank for k in own) for end in ends)


def _misreported(model: Any, report: Report) -> str | None:
    """In what a report is not of a model; `None` if it is."""
    count = sum(map(_keras.size, model.weights))
    if report.parameters != count:
        return f"one of {report.parameters:,} parameters, where there are {count:,}"
    ranks = {kernel.path: kernel.rank for kernel in find_kernels(model) if kernel.rank is not None}
    other = [
        path for path in {**ranks, **report.ranks} if ranks.get(path) != report.ranks.get(path)
    ]
    if not ranks or not other:
        return None
    was, now = (each.get(other[0]) for each in (report.ranks, ranks))
    said, found = ("is dense" if each is None else f"has rank {each}" for each in (was, now))
    return f"one by which {other[0]} {said}, where it {found}"


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
    problems = [problem for place in _places(model) for problem in _problems(*place)]
    _refuse(model, problems)
    plan, stored = plan_of(model), _shapes(model)

    def misfits(other: Any) -> str | None:
        wanted = _expected(other, plan, "the file", stored)
        if wanted != stored:
            return str(misfit(other, wanted, stored, "The file"))
        problems.extend(_untaken(model, other))
        return _other_dtype(model, other) or _other_order(model, other)

    back = way_back(model, misfits)
    _refuse(model, problems)
    header = {"keras_config": back.config, "model": _described(model, back), "plan": plan}
    header_bytes(Header(header, ()))  # refuses what is too long
    return back


def _described(model: Any, back: WayBack) -> dict[str, Any]:
    """What the file says of the model; names that Keras counts up, without their number."""
    name = _keras.automatic_stem(model) or model.name
    described = {"name": name, "class": type(model).__name__}
    return described if back.reason is None else described | {"reason": back.reason}


def _problems(layer_path: str, layer: Any) -> Iterator[str]:
    """Why a compact file cannot hold what a layer keeps."""
    where = f"layer '{layer_path}' ({type(layer).__name__})"
    if _keras.keeps_files(layer):
        yield f"{where} keeps files of its own (save_assets)"
    names = _names(layer_path, layer)
    for key, value in _keras.state_of(layer).items():
        try:
            check_name(names[key])
            dtype_named(_keras.dtype_of(value) if hasattr(value, "dtype") else "")
        except (FormatError, ValueError, TypeError) as error:
            yield f"{where}, {key!r}: {error}"


def _refuse(model: Any, problems: Sequence[str]) -> None:
    if problems:
        raise FormatError(
            f"A compact file cannot hold model '{model.name}'. Received:\n  "
            + "\n  ".join(problems)
            + "\nUse model.save, or take these layers out of the model."
        )


def _untaken(model: Any, other: Any) -> Iterator[str]:
    """Which layers do not take back what they gave; nothing is copied."""
    with keras.StatelessScope(initialize_variables=False):
        for (path, layer), (_, theirs) in zip(_places(model), _places(other), strict=True):
            if type(layer) is not type(theirs):
                continue  # it has other ranks until the file is read
            try:
                _keras.put_state(theirs, _keras.state_of(layer))
            except Exception as error:  # its own code may fail in any way
                told = shortened(str(error), 300)
                yield (
                    f"layer '{path}' ({type(layer).__name__}) does not take back what it gave "
                    f"(load_own_variables): {told}"
                )


def _other_dtype(model: Any, other: Any) -> str | None:
    """Why values would be rounded on their way into the other model."""
    for (path, layer), (_, theirs) in zip(_places(model), _places(other), strict=True):
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
    for (path, part), (_, theirs) in zip(_places(model), _places(other), strict=True):
        if isinstance(part, keras.Sequential) and len(part.layers) != len(theirs.layers):
            names = [layer.name for layer in part.layers]
            twice = next((name for name in names if names.count(name) > 1), names[-1])
            return (
                f"'{path or part.name}' (Sequential) holds layer '{twice}' more than once, and its "
                "configuration only once."
            )
    return None


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
        content = _content(container.header)
        if content["keras_config"] is None:
            raise _no_configuration(path, content)
        model, renamed = _rebuilt(content["keras_config"], custom_objects, container.header, path)
        _keras.allocate(model)
        _fill(model, container, renamed)
    return model


def _rebuilt(
    config: Any, custom_objects: Mapping[str, Any] | None, header: Header, path: Path_
) -> tuple[Any, Callable[[str], str]]:
    """The model of a configuration, at the ranks of the file, and how it names the tensors.

    What is larger than the file tells has no memory yet.
    """
    stored = sum(record.nbytes for record in header.tensors)
    with _keras.bounded_variables(2 * stored + _ALLOWANCE):
        model = build_model(config, custom_objects)
        if not _keras.has_weights(model):
            raise _no_configuration(path, header.content)
        renamed = _fit(model, header, path)
    if custom_objects is None and _keras.waiting_bytes(model) > stored + _UNSAVED:
        raise FormatError(
            f"The model in {path} must not need more memory than its tensors tell. "
            f"Received: {stored} bytes of tensors. The file was altered; get it again."
        )
    return model, renamed


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
        _fill(model, container, _fit(model, container.header, path))
    return model


def _fit(model: Any, header: Header, path: Path_) -> Callable[[str], str]:
    """Bring a model to the ranks of a file that is known to fit; how it names the tensors."""
    renamed = _renaming(model, [record.name for record in header.tensors])
    plan = {renamed(name): entry for name, entry in _content(header)["plan"].items()}
    received = {renamed(record.name): record.shape for record in header.tensors}
    expected = _expected(model, plan, path, received)
    if expected != received:
        raise misfit(model, expected, received, path)
    apply_plan(model, plan)
    return renamed


def _fill(model: Any, container: Container, renamed: Callable[[str], str]) -> None:
    tensors = ((renamed(name), value) for name, value in container)
    for layer_path, layer in _places(model):
        names = _names(layer_path, layer)
        if names:
            given = dict(next(tensors) for _ in names)
            _keras.put_state(layer, {key: given[name] for key, name in names.items()})


# --- names of tensors ---------------------------------------------------------------------


def _places(model: Any) -> Iterator[tuple[str, Any]]:
    yield "", model
    yield from _keras.walk(model)


def _names(layer_path: str, layer: Any) -> dict[str, str]:
    """The layer's own keys -> names in the file: by variable, not by position.

    Names that Keras gave by itself (`variable_7`) count up within a process: there the key
    is all that two processes agree on.
    """
    names: dict[str, str] = {}
    for key, value in _keras.state_of(layer).items():
        name = getattr(value, "name", "") if isinstance(value, keras.Variable) else ""
        name = "" if _AUTOMATIC.fullmatch(name) else name
        base = "/".join(part for part in (layer_path, name or key) if part)
        unique, count = base, 1
        while unique in names.values():
            unique, count = f"{base}_{count}", count + 1
        names[key] = unique
    return names


def _renaming(model: Any, names: Sequence[str]) -> Callable[[str], str]:
    """From names of tensors in a file to those that a model has for them.

    They differ where Keras has named the layers: it counts up within a process. Layers are
    then matched in their order, if there are as many, each under a name that is the same or
    differs by the number only.
    """
    layers = dict(_keras.walk(model))
    theirs = list(dict.fromkeys(_folder(name) for name in names))
    ours = list(
        dict.fromkeys(
            _folder(name) for path, layer in _places(model) for name in _names(path, layer).values()
        )
    )
    pairs = dict(zip(theirs, ours, strict=False))
    if len(theirs) != len(ours) or not all(_alike(a, b, layers) for a, b in pairs.items()):
        return str

    def renamed(name: str) -> str:
        folder, _, last = name.rpartition("/")
        return f"{pairs.get(folder, folder)}/{last}".lstrip("/")

    return renamed


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _alike(theirs: str, ours: str, layers: Mapping[str, Any]) -> bool:
    """True for paths whose parts are the same but for the numbers of automatic names."""
    parts, other = ours.split("/"), theirs.split("/")
    if len(parts) != len(other):
        return False
    for end, (part, given) in enumerate(zip(parts, other, strict=True), 1):
        layer = layers.get("/".join(parts[:end]))
        stem = None if layer is None else _keras.automatic_stem(layer)
        if part != given and (stem is None or not re.fullmatch(rf"{stem}(_\d+)?", given)):
            return False
    return True


def _tensors(model: Any) -> Iterator[tuple[str, np.ndarray]]:
    for layer_path, layer in _places(model):
        names = _names(layer_path, layer)
        for key, value in _keras.state_of(layer).items():
            yield names[key], _keras.host_value(value)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that the model gives to a file."""
    return {
        names[key]: tuple(int(size) for size in value.shape)
        for layer_path, layer in _places(model)
        for names in [_names(layer_path, layer)]
        for key, value in _keras.state_of(layer).items()
    }


def _expected(
    model: Any, plan: Plan, path: Path_, received: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor once the model has the ranks of the plan.

    Where only the file tells a length, it is that of the file.
    """
    shapes = _shapes(model)
    for layer_path, layer in _places(model):
        for name in _names(layer_path, layer).values() if _keras.has_free_lengths(layer) else ():
            given = received.get(name, ())
            shapes[name] = given if len(given) == 1 else (0,)
    kernels = {kernel.path: kernel for kernel in find_kernels(model)}
    for each in plan:
        if each not in kernels:
            raise FormatError(
                f"{path} does not fit model '{shortened(model.name)}': it has ranks for "
                f"{shortened(repr(each), 200)}, and the model's kernels are "
                f"{shortened(', '.join(kernels) or 'none', 500)}. Use the model it was saved from."
            )
    for each, kernel in kernels.items():
        for variable in kernel.variables:
            shapes.pop(f"{kernel.layer_path}/{variable.name}", None)
        if each not in plan:
            shapes[each] = kernel.variable_shape
            continue
        try:
            rank, split = checked(plan[each], kernel)
        except SurgeryError as error:
            raise FormatError(
                f"{path} does not fit model '{shortened(model.name)}': {error}"
            ) from error
        u, v = kernel.view(split).factor_shapes(kernel.variable_shape, rank)
        shapes[f"{each}_u"], shapes[f"{each}_v"] = u, v
    return shapes


# --- content of the header ----------------------------------------------------------------


def _content(header: Header) -> Mapping[str, Any]:
    """The content of a file that holds a model.

    `version` is told from the second version on; a file without it is of the first. A new
    key needs no new version: who does not know it refuses the file by itself.
    """
    content = header.content
    missing = [key for key in _KINDS if key not in content]
    if missing:
        raise FormatError(
            f"The file does not hold a model: its header must have {', '.join(_KINDS)}. "
            f"Received: no {', '.join(missing)}."
        )
    strange = [key for key, kind in _KINDS.items() if not isinstance(content[key], kind)]
    if strange:
        raise FormatError(
            f"The file does not hold a model: its header has no usable {', '.join(strange)}. The "
            "file was altered; get it again."
        )
    unknown = [key for key in content if key not in _KINDS and key != "version"]
    if unknown or content.get("version", _CONTENT_VERSION) != _CONTENT_VERSION:
        raise _newer(content, unknown)
    return content


def _newer(content: Mapping[str, Any], unknown: Sequence[str]) -> FormatError:
    by, here = shortened(str(content["versions"].get("reducible_train")), 40), _version()
    told = ", ".join(map(repr, unknown)) or f"content of version {content['version']!r}"
    return FormatError(
        f"The file was written by a newer version of reducible-train ({by}): it holds "
        f"{shortened(told, 200)}, which version {here} does not know. Upgrade with "
        "`pip install -U reducible-train`."
    )


def _version() -> str:
    return importlib.metadata.version("reducible-train")


def _no_configuration(path: Path_, content: Mapping[str, Any]) -> FormatError:
    kind = shortened(str(content["model"].get("class")))
    reason = content["model"].get("reason")
    why = f": {shortened(reason, 1000)}" if isinstance(reason, str) else "."
    return FormatError(
        f"{path} cannot rebuild its model of class {kind!r} from a configuration{why} "
        "Build the model by its class, call it once on data, and use "
        "load_weights_into(model, file)."
    )


__all__ = [
    "SavedFile",
    "check_savable",
    "load_model",
    "load_weights_into",
    "read_header",
    "save_model",
]
