r"""Carry an optimizer's state across a change of variables.

When a kernel `W` becomes `U V`, or `U V` becomes `(U R) (L V)`, the optimizer keeps
what it has learned. Slots that behave like a gradient follow the chain rule, exactly:

    split      m_U = m V^T       m_V = U^T m
    truncate   m_U' = m_U L^T    m_V' = R^T m_V

Slots that hold mean squares follow the squared maps, the usual approximation, in which
the cross terms are lost:

    split      v_U = v (V^2)^T   v_V = (U^2)^T v
    truncate   v_U' = v_U (L^2)^T    v_V' = (R^2)^T v_V

At a split the lost cross terms make `v` 5 to 20 times too small, and steps too large.
`correction="signal"` scales each `v` so that the ratio `sum(m^2) / sum(v)`, the strength
of the signal among the noise, is what it was; `benchmarks/transport.py` compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np

from reducible_train import _keras

Arrays = list[np.ndarray]
Correction = Literal["project", "signal", "reset"]


def flip(matrices: np.ndarray) -> np.ndarray:
    """Each matrix of a stack, transposed."""
    return np.swapaxes(matrices, -1, -2)


class ChangeOfVariables(Protocol):
    """How arrays that belong to the old variables become arrays for the new ones."""

    def gradient(self, old: Arrays) -> Arrays:
        """Map arrays that transform like a gradient."""

    def squares(self, old: Arrays) -> Arrays:
        """Map arrays of mean squared gradients."""

    def weights_step(self, old: Arrays) -> Arrays:
        """Map mean squares of weight updates."""


@dataclass(frozen=True, eq=False)
class Split:
    """`W (g, m, n)` became `U (g, m, r)`, `V (g, r, n)`."""

    u: np.ndarray
    v: np.ndarray

    def gradient(self, old: Arrays) -> Arrays:
        (g,) = old
        return [g @ flip(self.v), flip(self.u) @ g]

    def squares(self, old: Arrays) -> Arrays:
        (g,) = old
        # Rows of V that are 0 will grow: until it is known how far, as if they were as long as U's
        # columns, since mean squares of 0 would make the first steps many times too large.
        growing = g.mean(axis=-1, keepdims=True) * (self.u**2).sum(axis=-2, keepdims=True)
        zero = ~np.any(self.v, axis=-1, keepdims=True).swapaxes(-1, -2)
        return [np.where(zero, growing, g @ flip(self.v**2)), flip(self.u**2) @ g]

    def weights_step(self, old: Arrays) -> Arrays:
        (d,) = old
        # A step D of W is one of U by D V^+, or of V by U^+ D; squared as mean squares are.
        return [d @ np.linalg.pinv(self.v) ** 2, np.linalg.pinv(self.u) ** 2 @ d]


@dataclass(frozen=True, eq=False)
class Truncation:
    """`U (g, m, r)`, `V (g, r, n)` became `U R`, `L V`."""

    right: np.ndarray  # R (g, r, s)
    left: np.ndarray  # L (g, s, r)

    def gradient(self, old: Arrays) -> Arrays:
        g_u, g_v = old
        return [g_u @ flip(self.left), flip(self.right) @ g_v]

    def squares(self, old: Arrays) -> Arrays:
        g_u, g_v = old
        new = ~np.any(self.right, axis=-2, keepdims=True)  # (g, 1, s), directions without a past
        u, v = g_u @ flip(self.left**2), flip(self.right**2) @ g_v
        return [
            np.where(new, g_u.mean(axis=-1, keepdims=True), u),
            np.where(flip(new), g_v.mean(axis=-2, keepdims=True), v),
        ]

    def weights_step(self, old: Arrays) -> Arrays:
        d_u, d_v = old
        return [d_u @ self.right**2, self.left**2 @ d_v]


@dataclass(frozen=True, eq=False)
class Extension:
    """`U (g, m, r)`, `V (g, r, n)` got `count` columns and rows more, which know no past.

    What is not known of their mean squares is taken to be as elsewhere in the factor.
    """

    count: int

    def gradient(self, old: Arrays) -> Arrays:
        return self._with(old, [0.0, 0.0])

    def squares(self, old: Arrays) -> Arrays:
        return self._with(old, [float(each.mean()) for each in old])

    def weights_step(self, old: Arrays) -> Arrays:
        return self.squares(old)

    def averages(self, old: Arrays, now: Arrays) -> Arrays:
        """Map averages of weights: the new numbers have been what they are `now` for all time."""
        u, v = now
        return [
            np.concatenate([old[0], u[..., -self.count :]], axis=-1),
            np.concatenate([old[1], v[..., -self.count :, :]], axis=-2),
        ]

    def _with(self, old: Arrays, fill: Sequence[float]) -> Arrays:
        pads = [(0, 0), (0, 0), (0, self.count)], [(0, 0), (0, self.count), (0, 0)]
        return [
            np.pad(each, pad, constant_values=value)
            for each, pad, value in zip(old, pads, fill, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Replacement:
    """The variables of one kernel, before and after.

    Args:
        old: `[W]` or `[U, V]`.
        new: `[U, V]` (`[W]` after a merge).
        change: Gives how state follows; `None` if it must start anew.
        as_matrices: Arrays shaped as the old variables, as stacks of matrices.
        as_variables: Stacks of matrices, in the shapes of the new variables.
    """

    old: Sequence[Any]
    new: Sequence[Any]
    change: Callable[[], ChangeOfVariables | None]
    as_matrices: Callable[[Arrays], Arrays]
    as_variables: Callable[[Arrays], Arrays]

    @property
    def heirs(self) -> list[tuple[Any, Sequence[Any]]]:
        """Each new variable, with the old ones whose place it takes."""
        paired = len(self.old) == len(self.new)
        return [(v, [self.old[i]] if paired else self.old) for i, v in enumerate(self.new)]


@dataclass
class _Slots:
    """What one optimizer knew: its variables, its slots, what wraps what."""

    optimizer: Any
    variables: list[Any]
    slots: dict[str, list[Any]]
    inner: list[_Slots] = field(default_factory=list)


def transfer(
    optimizer: Any,
    layers: Sequence[Sequence[Any]],
    replacements: Sequence[Replacement],
    *,
    at_split: Correction = "signal",
    at_truncation: Correction = "signal",
) -> list[Any]:
    """Rebuild an optimizer in place for new variables, with its state carried over.

    The object, its `iterations`, learning rate and scalars stay; slots of variables that
    did not change are copied exactly. One that is not built has settings only, which follow.

    Args:
        optimizer: A Keras optimizer.
        layers: The variables of each layer that was changed, after the change, in their order.
        replacements: What was replaced by what.
        at_split: What to do with second moments where a kernel becomes factors:
            `"project"` them, project and correct by the `"signal"`, or `"reset"` all slots.
        at_truncation: The same where factors become thinner.

    Returns:
        The slot variables that are dead now.
    """
    heirs = [heir for replacement in replacements for heir in replacement.heirs]
    _keras.inherit_settings(optimizer, heirs)
    if not optimizer.built:
        return []
    memory = _remember(optimizer)
    remap = {id(r.old[0]): r for r in replacements}
    wanted = _wanted(memory.variables, layers, replacements)
    scope = _keras.build_scope(optimizer)
    with _keras.same_inner_optimizers(optimizer, heirs):
        restore = _unbuild_all(memory)
        with scope:
            optimizer.build(wanted)
        restore()
    _refill(memory, remap, _policy(at_split, at_truncation))
    return [slot for slot in _all_slots(memory) if slot is not None]


def transfer_torch(
    optimizer: Any,
    replacements: Sequence[Replacement],
    *,
    at_split: Correction = "signal",
    at_truncation: Correction = "signal",
) -> None:
    """Let one of torch's own optimizers step new variables, with its state carried over.

    What it keeps of other variables stays. Of one whose state is not known in all its parts, that
    of new variables begins anew.

    Args:
        optimizer: An optimizer of torch.
        replacements: What was replaced by what.
        at_split: As for `transfer`.
        at_truncation: Likewise.
    """
    policy = _policy(at_split, at_truncation)
    follow = [_torch_follower(optimizer, replacement, policy) for replacement in replacements]
    _keras.move_parameters(optimizer, [heir for r in replacements for heir in r.heirs])
    for put in follow:
        put()


def _torch_follower(
    optimizer: Any, replacement: Replacement, policy: Mapping[type, str]
) -> Callable[[], None]:
    """What puts the state of one kernel's new variables, computed of that of the old ones."""
    new = replacement.new
    slots = _keras.torch_slots(optimizer, replacement.old, new)
    change = None if slots is None else replacement.change()
    how = policy.get(type(change), "reset")
    if slots is None or how == "reset":
        return _none
    refill = _Refill(slots.before, slots.after, replacement)
    meanings = {name: _keras.TORCH_SLOTS[name] for name in slots.after}
    _follow(optimizer, refill, meanings, change, how)
    return partial(slots.put, optimizer, new)


def _none() -> None:
    """What puts nothing."""


def _policy(at_split: Correction, at_truncation: Correction) -> Mapping[type, str]:
    """What becomes of mean squares, by the kind of change."""
    return {Split: at_split, Truncation: at_truncation, Extension: "project"}


def _remember(optimizer: Any) -> _Slots:
    return _Slots(
        optimizer,
        _keras.trainable_of(optimizer),
        _keras.slots(optimizer),
        [_remember(inner) for inner in _keras.inner_optimizers(optimizer) if inner.built],
    )


def _wanted(
    known: Sequence[Any], layers: Sequence[Sequence[Any]], replacements: Sequence[Replacement]
) -> list[Any]:
    """The variables to build on: those it knew, in its own order, with new ones in their place.

    What it never knew stays so, whatever is trainable now. Within a layer the order is the
    layer's, which a fresh model has, too.
    """
    heirs: dict[int, Sequence[Any]] = {}
    ids = {id(v) for v in known}
    for replacement in replacements:
        places = [id(v) for v in replacement.old if id(v) in ids]
        heirs.update(dict.fromkeys(places, ()))
        heirs.update(dict.fromkeys(places[:1], replacement.new))
    wanted = [new for v in known for new in heirs.get(id(v), (v,))]
    for ordered in layers:
        place = {id(v): i for i, v in enumerate(ordered)}
        here = [i for i, v in enumerate(wanted) if id(v) in place]
        for i, v in zip(
            here, sorted((wanted[i] for i in here), key=lambda v: place[id(v)]), strict=True
        ):
            wanted[i] = v
    return wanted


def _unbuild_all(memory: _Slots) -> Callable[[], None]:
    restores = [_keras.unbuild(memory.optimizer)]
    restores += [_unbuild_all(inner) for inner in memory.inner]

    def restore() -> None:
        for one in restores:
            one()

    return restore


def _all_slots(memory: _Slots) -> list[Any]:
    own = [slot for slots in memory.slots.values() for slot in slots]
    return own + [slot for inner in memory.inner for slot in _all_slots(inner)]


def _refill(memory: _Slots, remap: dict[int, Replacement], policy: Mapping[type, str]) -> None:
    """Fill the slots of a rebuilt optimizer: copies where nothing changed, the rest one by one.

    Places are looked up by the identity of variables, for those before and after the build differ.
    """
    for inner in memory.inner:
        _refill(inner, remap, policy)
    optimizer = memory.optimizer
    slots = _keras.slots(optimizer)
    position = {id(v): i for i, v in enumerate(memory.variables)}
    index = {id(v): i for i, v in enumerate(_keras.trainable_of(optimizer))}
    for name, old in memory.slots.items():
        new = slots.get(name)
        if new is None:
            continue
        for key, i in index.items():
            if key in position and new[i] is not None and old[position[key]] is not None:
                new[i].assign(old[position[key]])
    for replacement in remap.values():
        if any(id(v) not in index for v in replacement.new):
            continue
        _refill_one(memory, slots, position, index, replacement, policy)


@dataclass(frozen=True, eq=False)
class _Refill:
    """The slots of one kernel's variables: read before a change, written after it.

    Args:
        before: Name -> the slots of the old variables, `None` where one has none.
        after: Name -> the slots of the new variables, to be filled.
        replacement: What was replaced by what.
    """

    before: Mapping[str, Sequence[Any]]
    after: Mapping[str, Sequence[Any]]
    replacement: Replacement

    def read(self, name: str) -> Arrays | None:
        """An old slot as matrices, in double precision; `None` where there is none."""
        old = self.before.get(name, [None])
        if any(value is None for value in old):
            return None
        matrices = self.replacement.as_matrices([_keras.host_float(value) for value in old])
        return [each.astype(np.float64) for each in matrices]

    def write(self, name: str, matrices: Arrays) -> None:
        """Fill a new slot with matrices."""
        self.put(name, self.replacement.as_variables(matrices))

    def put(self, name: str, arrays: Arrays) -> None:
        """Fill a new slot with arrays of the variables' shapes."""
        for slot, array in zip(self.after[name], arrays, strict=True):
            if slot is not None:
                slot.assign(array)


def _refill_one(
    memory: _Slots,
    slots: dict[str, list[Any]],
    position: dict[int, int],
    index: dict[int, int],
    replacement: Replacement,
    policy: Mapping[type, str],
) -> None:
    """Fill the slots of new variables with what the old ones held, as the change maps it."""
    change = replacement.change()
    how = policy.get(type(change), "reset")
    old_at = [position.get(id(v)) for v in replacement.old]
    new_at = [index[id(v)] for v in replacement.new]
    refill = _Refill(
        {
            name: [None if i is None else values[i] for i in old_at]
            for name, values in memory.slots.items()
        },
        {name: [values[i] for i in new_at] for name, values in slots.items()},
        replacement,
    )
    meanings = {name: _keras.meaning_of(memory.optimizer, name) for name in slots}
    _follow(memory.optimizer, refill, meanings, change, how)


def _follow(
    optimizer: Any,
    refill: _Refill,
    meanings: Mapping[str, _keras.Meaning | None],
    change: ChangeOfVariables | None,
    how: str,
) -> None:
    """Let slots of new variables follow a change.

    Slots that hold weights take the new ones, for averages of the old are of matrices that are
    gone, unless these only grew. Then come slots that are linear in the gradient, mapped like one:
    old and new, they give the signal by which squares are corrected afterwards. What only follows
    from other slots is computed last.
    """
    weights = [_keras.host_float(v) for v in refill.replacement.new]
    averages = [name for name, meaning in meanings.items() if meaning == "weight"]
    _refill_weights(refill, averages, change, weights)
    if how != "reset" and change is not None:
        _map_slots(refill, meanings, change, corrected=how == "signal")
    _keras.align_derived(optimizer, refill.after, weights)


def _refill_weights(
    refill: _Refill, names: Sequence[str], change: ChangeOfVariables | None, weights: Arrays
) -> None:
    """Averages of weights begin anew at what these are; where a kernel only grew, they go on."""
    for name in names:
        old = refill.read(name)
        if isinstance(change, Extension) and old is not None:
            now = refill.replacement.as_matrices(weights)
            refill.write(name, change.averages(old, now))
        else:
            refill.put(name, weights)


def _map_slots(
    refill: _Refill,
    meanings: Mapping[str, _keras.Meaning | None],
    change: ChangeOfVariables,
    *,
    corrected: bool,
) -> None:
    """Let every slot of a known meaning follow a change; gradients first, which tell the signal."""
    signal: tuple[Arrays, Arrays] | None = None
    for name, meaning in meanings.items():
        old = refill.read(name) if meaning in ("momentum", "gradient") else None
        if old is not None:
            new = change.gradient(old)
            refill.write(name, new)
            if corrected and meaning == "momentum":
                signal = old, new
    for name, meaning in meanings.items():
        old = refill.read(name) if meaning in ("square", "root", "step square") else None
        if old is None:
            continue
        if meaning == "square":
            refill.write(name, _corrected(change.squares(old), old, signal))
        elif meaning == "root":
            squares = [a**2 for a in old]
            mapped = _corrected(change.squares(squares), squares, signal)
            refill.write(name, [np.sqrt(a) for a in mapped])
        else:
            refill.write(name, change.weights_step(old))


def shift_weights(optimizers: Iterable[Any], variable: Any, shift: np.ndarray) -> None:
    """Add to a variable, and to every copy of it that optimizers keep.

    Args:
        optimizers: The optimizers that may train it.
        variable: The variable.
        shift: What to add, as many numbers as the variable has.
    """
    for copy in _copies(optimizers, variable):
        moved = _keras.host_float(copy).astype(np.float64) + shift.reshape(tuple(copy.shape))
        copy.assign(moved)


def remember(optimizers: Iterable[Any], variables: Iterable[Any]) -> Callable[[], None]:
    """Remember the values of variables and of their copies; the answer gives them back."""
    copies = [copy for variable in variables for copy in _copies(optimizers, variable)]
    kept = [(copy, np.array(_keras.host_value(copy))) for copy in copies]

    def restore() -> None:
        for copy, value in kept:
            if _keras.host_value(copy).tobytes() != value.tobytes():
                copy.assign(value)

    return restore


def _copies(optimizers: Iterable[Any], variable: Any) -> list[Any]:
    """A variable, and every copy of it that optimizers keep."""
    copies = [variable]
    for each in [one for outer in optimizers for one in _keras.all_optimizers(outer)]:
        known = [i for i, v in enumerate(_keras.trainable_of(each)) if v is variable]
        for name, values in _keras.slots(each).items():
            if _keras.meaning_of(each, name) == "weight":
                copies += [values[i] for i in known if values[i] is not None]
    return copies


def _corrected(mapped: Arrays, old: Arrays, signal: tuple[Arrays, Arrays] | None) -> Arrays:
    """Scale mean squares so that signal over noise, `sum(m^2)/sum(v)`, stays."""
    if signal is None:
        return mapped
    old_first, new_first = signal
    noise = sum(float(a.sum()) for a in old)
    strength = sum(float((a**2).sum()) for a in old_first)
    if noise <= 0 or strength <= 0:
        return mapped
    corrected = []
    for first, second in zip(new_first, mapped, strict=True):
        total = float(second.sum())
        scale = float((first**2).sum()) * noise / (strength * total) if total > 0 else 1.0
        corrected.append(second * max(1.0, scale))
    return corrected
