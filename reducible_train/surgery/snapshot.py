"""Remember a live model, and put it back, ranks and optimizer state included.

The law: after `restore(model, snapshot)`, weights and optimizer variables equal, bit for bit,
those at `take_snapshot(model)`, whatever cuts came between, and training goes on. Every optimizer
that trains the model counts, wherever it is kept; one that was not built then is not built again.
Time is not undone: the optimizers' `iterations` and learning rates stay as they are. What one of
torch's own knows of a variable comes back with the steps that it has counted for it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.container.files import write_all
from reducible_train.container.temporary import HeldFile, hold_file
from reducible_train.errors import FileAccessError, SurgeryError
from reducible_train.surgery.change import apply_plan
from reducible_train.surgery.plans import Plan, plan_of

Key = tuple[str, int]  # name of a variable, and which one of that name


@dataclass(frozen=True, eq=False)
class TorchState:
    """What one of torch's own optimizers knew of a model's variables.

    Args:
        optimizer: The optimizer.
        known: What it knew, as `torch_state` tells it.
        keys: Of the arrays that go with it.
    """

    optimizer: Any
    known: Mapping[str, Any]
    keys: Sequence[Key]


@dataclass(frozen=True, eq=False)
class ModelSnapshot:
    """What a model was: its ranks and the values of its variables.

    Args:
        plan: Ranks of its kernels, as `plan_of` gives them.
        forms: Shape and dtype of every variable, and of what torch's optimizers knew.
        values: Their values on the host, in the order of `forms`; none if they are in a file.
        file: The file they are in.
        others: The built optimizers that train the model beside its own.
        torch: What those of torch's own knew.
    """

    plan: Plan
    forms: Mapping[Key, tuple[tuple[int, ...], np.dtype[Any]]]
    values: Sequence[np.ndarray] = ()
    file: Path | None = None
    others: Sequence[Any] = ()
    torch: Sequence[TorchState] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all the values."""
        return sum(
            int(np.prod(shape, dtype=object)) * dtype.itemsize
            for shape, dtype in self.forms.values()
        )

    def read(self) -> dict[Key, np.ndarray]:
        """The values of all variables.

        Raises:
            FileAccessError: The file is gone, or not what was written.
        """
        values = self.values if self.file is None else self._from_file(self.file)
        return dict(zip(self.forms, values, strict=True))

    def forget(self) -> None:
        """Remove the file, if there is one."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)

    def _from_file(self, file: Path) -> list[np.ndarray]:
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise FileAccessError(f"{file}: cannot be read. {error}") from error
        if len(raw) != self.nbytes:
            raise FileAccessError(
                f"{file}: must hold the {self.nbytes} bytes that were written before the cut. "
                f"Received: {len(raw)} bytes. Leave the guard's folder alone while it trains."
            )
        values, start = [], 0
        for shape, dtype in self.forms.values():
            count = int(np.prod(shape, dtype=object))
            values.append(np.frombuffer(raw, dtype, count, start).reshape(shape))
            start += count * dtype.itemsize
        return values


def take_snapshot(model: Any, folder: str | os.PathLike[str] | None = None) -> ModelSnapshot:
    """What a built model is now, optimizer state included.

    Args:
        model: A built Keras model. Its optimizer is built, if it is not.
        folder: Where to keep the values; in snapshot if not given.

    Raises:
        FileAccessError: The folder cannot be written to.
    """
    _keras.sync_state(model)
    _keras.built_optimizer(model)
    others, torch_optimizers = _optimizers(model)
    found = _variables(model, others)
    read = {key: np.array(_keras.host_value(variable)) for key, variable in found.items()}
    torch = []
    for number, each in enumerate(torch_optimizers):
        known, arrays = _keras.torch_state(each, model.weights)
        named = {(f"torch optimizer {number}", i): array for i, array in enumerate(arrays)}
        torch.append(TorchState(each, known, list(named)))
        read |= named
    forms = {key: (value.shape, value.dtype) for key, value in read.items()}
    values = list(read.values())
    if folder is None:
        return ModelSnapshot(plan_of(model), forms, values, others=others, torch=torch)
    held = _written(values, folder)
    snapshot = ModelSnapshot(plan_of(model), forms, file=held.path, others=others, torch=torch)
    weakref.finalize(snapshot, _drop, held)  # of a fit that was broken off
    return snapshot


def restore(model: Any, snapshot: ModelSnapshot, *, training: bool = False) -> None:
    """Bring a model back to what it was.

    Args:
        model: The model that was remembered.
        snapshot: What `take_snapshot` gave; it can be used again.
        training: True inside `fit`, whose train function must be made anew at once.

    Raises:
        FileAccessError: The values cannot be read; the model is as it was.
        SurgeryError: The model has other variables now (layers added, another optimizer);
            likewise.
    """
    values = snapshot.read()
    _keras.sync_state(model)
    before = _variables(model, snapshot.others)

    def fill() -> None:
        found = _variables(model, snapshot.others)
        _check_forms(model, found, snapshot)
        with _keras.strategy_scope(model):
            states = [_as_state(each, values, model.weights) for each in snapshot.torch]
            _assign(found, values, list(before.values()))
        others, torch_optimizers = _optimizers(model)
        for optimizer in _not_in(snapshot.others, others):
            _keras.unbuild_all(optimizer)
        for optimizer in _not_in([each.optimizer for each in snapshot.torch], torch_optimizers):
            _keras.put_torch_state(optimizer, model.weights, {})
        for each, state in zip(snapshot.torch, states, strict=True):
            _keras.put_torch_state(each.optimizer, model.weights, state)

    apply_plan(model, snapshot.plan, training=training, last=fill)


def _check_forms(model: Any, found: Mapping[Key, Any], snapshot: ModelSnapshot) -> None:
    forms = {key: tuple(int(size) for size in v.shape) for key, v in found.items()}
    of_torch = {key for each in snapshot.torch for key in each.keys}
    wanted = {key: shape for key, (shape, _) in snapshot.forms.items() if key not in of_torch}
    if forms != wanted:
        strange = sorted({name for name, _ in forms.keys() ^ wanted.keys()})
        raise SurgeryError(
            f"Model '{model.name}' has other variables than when it was remembered, so its state "
            f"cannot be put back. Received: changes in {', '.join(strange[:5]) or 'their shapes'}. "
            "Leave layers and optimizer alone while it trains."
        )


def _assign(
    found: Mapping[Key, Any], values: Mapping[Key, np.ndarray], before: Sequence[Any]
) -> None:
    """Give variables their values; if that fails, those that were there `before` keep theirs."""
    known, kept = {id(variable) for variable in before}, list[tuple[Any, np.ndarray]]()
    try:
        for key, variable in found.items():
            if id(variable) in known:
                kept.append((variable, np.array(_keras.host_value(variable))))
            variable.assign(values[key])
    except BaseException:  # an interruption, too
        for variable, value in kept:
            variable.assign(value)
        raise


def _as_state(
    kept: TorchState, values: Mapping[Key, np.ndarray], weights: Sequence[Any]
) -> dict[Any, Any]:
    return _keras.as_torch_state(kept.known, [values[key] for key in kept.keys], weights)


def _not_in(known: Sequence[Any], found: Sequence[Any]) -> list[Any]:
    """Those of some objects that are new."""
    ids = {id(each) for each in known}
    return [each for each in found if id(each) not in ids]


def _optimizers(model: Any) -> tuple[list[Any], Sequence[Any]]:
    """The built optimizers that train a model beside the one it was compiled with; torch's own."""
    own, found = _keras.compiled_optimizer(model), _keras.find_holders([], model.weights)
    others = [each for each in found.optimizers if each.built and each is not own]
    return others, found.torch_optimizers


def _variables(model: Any, others: Sequence[Any]) -> dict[Key, Any]:
    """Every variable of a model and its optimizers, but those that tell the time."""
    named = [(f"model/{variable.path}", variable) for variable in model.weights]
    optimizer = _keras.compiled_optimizer(model)
    if optimizer is not None and optimizer.built:
        state = _keras.timeless_state(optimizer)
        named += [(f"optimizer/{name}", variable) for name, variable in state]
    for number, each in enumerate(others):
        state = _keras.timeless_state(each, model.weights)
        named += [(f"other optimizer {number}/{name}", variable) for name, variable in state]
    counts: dict[str, int] = {}
    keyed = {}
    for name, variable in named:
        count = counts[name] = counts.get(name, 0) + 1
        keyed[name, count] = variable
    return keyed


def _written(values: Iterable[np.ndarray], folder: str | os.PathLike[str]) -> HeldFile:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        held = hold_file(Path(folder), "before_cut_", ".state")
        try:
            for value in values:
                write_all(held.stream, value.tobytes())
        except OSError:
            _drop(held)
            raise
        finally:
            held.stream.close()
    except OSError as error:
        raise FileAccessError(
            f"The state before a cut cannot be kept in {os.fspath(folder)!r}. {error}. Give the "
            "guard another folder, or none to keep it in snapshot."
        ) from error
    return held


def _drop(held: HeldFile) -> None:
    held.path.unlink(missing_ok=True)
    held.release()
