"""Keras's weights files: how one is written, and what it holds of each layer."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras.src.saving import saving_lib as _saving_lib
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils.naming import to_snake_case

from reducible_train.container.files import write_all

_MAP_CAP = 16 << 20  # bytes of a `.json` file
_PLACE = "place_among_siblings"


class _Lasting(io.BytesIO):
    """A file of which no write fails, for HDF5 in the place of its name.

    Keras takes a path, or a file that is kept in memory; this one only says that it is.

    Attributes:
        fault: What the system said of the first write that failed; nothing is written after it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fault: OSError | None = None
        self._path = path
        self._raw = path.open("w+b", buffering=0)

    def __str__(self) -> str:
        return str(self._path)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        end = self._raw.tell() + len(view)
        if self.fault is None:
            try:
                write_all(self._raw, view)
            except OSError as error:
                self.fault = error
        self._raw.seek(end)
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self.fault = self.fault or error
            return self._raw.tell() if size is None else size

    def readinto(self, buffer: Any, /) -> int:
        return self._raw.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()
        super().close()


def save_weights(model: Any, path: Path) -> None:
    """As `model.save_weights`; of a `*.weights.h5` no part stays where writing fails.

    A process in which HDF5 could not write a file is ended by a signal when it exits, whatever was
    done about it. So HDF5 is told of no failure, and the caller is, once it has closed the file.

    Raises:
        OSError: The file cannot be written.
    """
    is_own = type(model).save_weights is not keras.Model.save_weights  # it may want a path
    if is_own or not path.name.endswith(".weights.h5"):  # another kind of file, or a refusal
        type(model).save_weights(model, path)
        return
    file = _Lasting(path)
    try:
        with file:
            keras.Model.save_weights(model, file)
        if file.fault is not None:
            raise file.fault
    except BaseException:
        if path.is_file():  # of a link, what it leads to
            path.resolve().unlink()
        raise


def note_place(store: Any, layer: Any, dense_class: type) -> None:
    """Note in a weights file how many layers of its kind come before a low-rank layer.

    Keras keys the layers of a list by class name and a count for each class, which does not
    tell where among dense layers a low-rank one stands. Layers of its kind are those of
    its class and of `dense_class`; Keras has written those before it in the list already.
    They can be counted in files of HDF5, one or several.
    """
    if not isinstance(store, _saving_lib.H5IOStore):
        return
    folder, _, own = store._h5_entry_path.rpartition("/")
    kinds = "|".join(to_snake_case(kind.__name__) for kind in (type(layer), dense_class))
    if isinstance(store, _saving_lib.ShardedH5IOStore):
        prefix = f"/{folder}/" if folder else "/"
        paths = store.sharding_config["weight_map"]
        siblings = {p.removeprefix(prefix).split("/")[0] for p in paths if p.startswith(prefix)}
    else:
        siblings = set(store.h5_file[folder or "/"])
    before = siblings - {own}
    count = sum(re.fullmatch(rf"({kinds})(_\d+)?", name) is not None for name in before)
    store._h5_entry_group.attrs[_PLACE] = count


@dataclass(frozen=True)
class StoredVariables:
    """What a weights file holds of one layer.

    Args:
        shapes: Key -> shape.
        place: What `note_place` has noted; `None` for layers that are not low-rank.
    """

    shapes: dict[str, tuple[int, ...]]
    place: int | None


def stored_variables(path: Any) -> dict[str, StoredVariables]:
    """What a weights file holds, by the path of each layer in it.

    Args:
        path: An HDF5 file; or, by its name, the `.json` file that tells of several.

    Raises:
        OSError: It is no HDF5 file, or cannot be read.
        ValueError: The file refers to others, or holds what is no array of numbers.
    """
    found: dict[str, StoredVariables] = {}
    for file in _files(path):
        for name, more in _stored_in_one(file).items():
            known = found.get(name, StoredVariables({}, None))
            place = more.place if known.place is None else known.place
            found[name] = StoredVariables(known.shapes | more.shapes, place)
    return found


def read_variables(path: Any, places: Collection[str]) -> None:
    """Read the variables of some places from a weights file, one at a time, and drop them.

    Raises:
        OSError: One of them cannot be read.
    """
    for file in _files(path):
        with _opened(file) as content:
            for place in places:
                group = content.get(f"{place}/vars".lstrip("/"))
                for key in group or ():
                    _saving_lib.safe_get_h5_dataset(group, key)[()]


def _files(path: Any) -> list[Any]:
    """The files of HDF5: the one, or those beside a `.json` file that tells of them."""
    if not str(path).endswith(".json"):
        return [path]
    size = Path(path).stat().st_size
    if size > _MAP_CAP:
        raise ValueError(f"its map of weights has {size} bytes, and may have {_MAP_CAP}")
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("weight_map"), dict):
        raise ValueError("it has no map of weights")
    names: dict[str, None] = {}
    for each in content["weight_map"].values():
        for name in each if isinstance(each, list) else [each]:
            if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
                raise ValueError(f"it refers to {str(name)[:60]!r}, which is not beside it")
            names[name] = None
    return [Path(path).with_name(name) for name in names]


@contextmanager
def _opened(path: Any) -> Iterator[Any]:
    store = _saving_lib.H5IOStore(str(path))
    try:
        yield store.h5_file
    finally:
        store.close()


def _stored_in_one(path: Any) -> dict[str, StoredVariables]:
    found: dict[str, StoredVariables] = {}

    def visit(name: str, item: Any) -> None:
        folder, _, last = name.rpartition("/")
        if last != "vars" or hasattr(item, "shape"):
            return
        datasets = {key: _saving_lib.safe_get_h5_dataset(item, key) for key in item}
        for key, dataset in datasets.items():
            if dataset.dtype.kind in "OSUcmM" or dataset.dtype.names is not None:
                raise ValueError(f"{name}/{key} holds {dataset.dtype}, not numbers")
        place = item.attrs.get(_PLACE)
        shapes = {key: tuple(dataset.shape) for key, dataset in datasets.items()}
        found[folder] = StoredVariables(shapes, None if place is None else int(place))

    with _opened(path) as content:
        content.visititems(visit)
    return found


def snake_case(class_name: str) -> str:
    """A class name as Keras writes it in weights files and automatic layer names."""
    return str(to_snake_case(class_name))


def walk_state(
    model: Any, class_name: Callable[[Any, str, str | None], str]
) -> Iterator[tuple[str, Any]]:
    """Whatever of a model Keras saves variables of, in its order, with its path in the file.

    Keras walks through a model only to save or to load it, and only under the paths that
    the present classes of its layers give.

    Args:
        model: A built model.
        class_name: Called for each member of a list with the member, the path of the list, and
            the path where it was met before, if it was: the name of its class in the file.
    """
    met: dict[int, str] = {}

    def visit(saveable: Any, path: str) -> Iterator[tuple[str, Any]]:
        if id(saveable) in met:
            return
        met[id(saveable)] = path
        if hasattr(saveable, "save_own_variables"):
            yield path, saveable
        for name, child in _saving_lib._walk_saveable(saveable):
            below = f"{path}/{name}" if path else name
            if isinstance(child, KerasSaveable):
                yield from visit(child, below)
            elif isinstance(child, (list, dict, tuple)):
                yield from members(child, below, set())

    def members(container: Any, path: str, entered: set[int]) -> Iterator[tuple[str, Any]]:
        if id(container) in entered:
            return
        entered.add(id(container))
        used: dict[str, int] = {}
        for child in container.values() if isinstance(container, dict) else container:
            if isinstance(child, KerasSaveable):
                name = to_snake_case(class_name(child, path, met.get(id(child))))
                name = _saving_lib._get_unique_name(name, used)
                yield from visit(child, f"{path}/{name}")
            elif isinstance(child, (list, dict, tuple)):
                name = _saving_lib._get_unique_name("container", used)
                yield from members(child, f"{path}/{name}", entered)

    return visit(model, "")
