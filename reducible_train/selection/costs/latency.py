"""What a kernel costs in time: its layer, called by itself on this machine, dense and factorised.

FLOPs say little of time: two thin products have overhead, and thin matrices use a processor badly.
So for each kernel the layer itself is built anew, once dense and once at each of a few ranks, and
timed on inputs of the shapes that the model gives it. All calls of one kernel take turns, and
the fastest of several rounds counts: whatever else a machine does can only add to a time, and on
a busy one most rounds are disturbed, so that their median is as well. Between the ranks that were
timed the cost is interpolated; it is made never to fall by pooling neighbours that are out of
order (Ayer et al., *An empirical distribution function for sampling with incomplete information*,
1955).
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError
from reducible_train.layers import Kernel, low_rank_class
from reducible_train.selection.costs.tables import CostModel, CostTable
from reducible_train.selection.input_shapes import no_shapes
from reducible_train.settings.measures import Latency

if TYPE_CHECKING:
    from reducible_train.selection.factorizations import Factorization

_TIMED = 5  # ranks of each kernel
_LONG = 1e-3  # seconds that one round of a call takes at least, by repeating it
_MOST = 100  # repetitions
_NOTHING = 1e-9  # seconds; a cost must be greater than 0


def stopwatch(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Seconds of one call of each: the fastest of several rounds, in which they take turns.

    Example:
        >>> short, long = stopwatch([lambda: sum(range(10)), lambda: sum(range(100_000))], 3)
        >>> 0 < short < long
        True
    """
    counts = []
    for call in calls:
        call()  # compiles it
        started = clock.perf_counter()
        call()
        once = max(clock.perf_counter() - started, _NOTHING)
        counts.append(min(max(math.ceil(_LONG / once), 1), _MOST))
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, count, found in zip(calls, counts, seconds, strict=True):
            started = clock.perf_counter()
            for _ in range(count):
                call()
            found.append((clock.perf_counter() - started) / count)
    return [min(found) for found in seconds]


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer on one batch.

    Args:
        layer: The layer.
        run: Makes the call.
    """

    layer: Any
    run: Callable[[], Any]

    def __call__(self) -> Any:
        return self.run()


@dataclass(frozen=True, eq=False)
class LatencyCosts(CostModel):
    """Seconds of every kernel of a model, measured on this machine."""

    measure: ClassVar[str] = "latency"

    @classmethod
    def of(
        cls,
        measure: Latency,
        model: Any,
        kernels: Sequence[Kernel],
        wanted: Mapping[str, Sequence[Factorization]],
        calls: Sequence[Any] | None,
    ) -> Self:
        """Time every kernel but quantized ones: those that may change at several ranks."""
        _check_shapes(model, kernels, calls)
        known: dict[Any, dict[str, CostTable]] = {}  # layers that are alike are timed once
        tables = {}
        for kernel in kernels:
            forms = {form.split: form for form in wanted.get(kernel.path, ())}
            ranks = {split: _some_ranks(kernel, forms.get(split)) for split in kernel.splits}
            for split in kernel.splits:
                sizes = min(kernel.shape_in(split)) + 1
                tables[kernel.path, split] = CostTable(0.0, np.zeros(sizes))
            for call in calls or ():
                if call.layer is not kernel.layer or kernel.is_quantized:
                    continue  # from its configuration alone a quantized layer may not run
                key = _key(kernel, ranks, call)
                if key not in known:
                    known[key] = _timed(measure, kernel, ranks, call)
                for split, table in known[key].items():
                    total = tables[kernel.path, split]
                    tables[kernel.path, split] = _added(total, table, call.repeats)
        told = _keras.broadcaster([v for kernel in kernels for v in kernel.variables])
        return cls(told(tables), rest=0.0)


def _check_shapes(model: Any, kernels: Sequence[Kernel], calls: Sequence[Any] | None) -> None:
    """Refuse a model of layers that would have to be timed on inputs of unknown size."""
    if calls is None:
        raise no_shapes("latency", model)
    paths = {id(kernel.layer): kernel.layer_path for kernel in kernels}
    for call in calls:
        if None in call.shape[1:] or call.repeats is None:
            raise no_shapes("latency", model, f"{call.shape} for '{paths[id(call.layer)]}'")


def _timed(
    measure: Latency, kernel: Kernel, ranks: Mapping[str, Sequence[int]], call: Any
) -> dict[str, CostTable]:
    """Seconds of one call by split, the share of this kernel where a layer holds several."""
    timer = measure.timer or stopwatch
    try:
        with _keras.random_numbers_kept(), _keras.undistributed():
            asked = [(split, rank) for split, some in ranks.items() for rank in some]
            variants = [(kernel.splits[0], None), *asked]
            calls = [_call(kernel, *each, measure.batch_size, call) for each in variants]
            seconds = dict(zip(variants, timer(calls, measure.rounds), strict=True))
    except Exception as error:
        raise ArgumentError(
            f"Layer '{kernel.layer_path}' ({type(kernel.layer).__name__}) cannot be timed by "
            f"itself. Received: {type(error).__name__}: {error} Use measure='flops'."
        ) from error
    dense = seconds[variants[0]]
    others = dense * (1 - 1 / len(kernel.kind.kernel_attributes))
    found = {}
    for split, some in ranks.items():
        own = [max(seconds[split, rank] - others, _NOTHING) for rank in some]
        every = np.arange(min(kernel.shape_in(split)) + 1)
        costs = np.interp(every, some, never_falling(own)) if some else np.zeros(len(every))
        found[split] = CostTable(max(dense - others, _NOTHING), costs)
    return found


def never_falling(values: Sequence[float]) -> np.ndarray:
    """The nearest sequence that never falls, by least squares.

    Example:
        >>> never_falling([1.0, 3.0, 2.0, 4.0])
        array([1. , 2.5, 2.5, 4. ])
    """
    pools: list[tuple[float, int]] = []  # mean, length
    for value in values:
        mean, length = float(value), 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean = (before * count + mean * length) / (count + length)
            length += count
        pools.append((mean, length))
    return np.concatenate([np.full(length, mean) for mean, length in pools])


def _some_ranks(kernel: Kernel, form: Factorization | None) -> tuple[int, ...]:
    """The ranks to time: the present one of a kernel that stays, a few of one that may change."""
    if form is None:
        return () if kernel.rank is None else (kernel.rank,)
    few = np.geomspace(max(form.least, 1), max(form.max_rank, 1), _TIMED)
    return tuple(sorted({round(rank) for rank in few}))


def _added(total: CostTable, more: CostTable, repeats: int | None) -> CostTable:
    times = 1 if repeats is None else repeats
    return CostTable(total.dense + times * more.dense, total.ranks + times * more.ranks)


def _key(kernel: Kernel, ranks: Mapping[str, tuple[int, ...]], call: Any) -> Any:
    config = {name: value for name, value in _dense_config(kernel).items() if name != "name"}
    switches = tuple(sorted(call.options.items()))
    shape = tuple(call.shape)
    return kernel.kind, kernel.name, tuple(ranks.items()), shape, switches, repr(config)


def _dense_config(kernel: Kernel) -> dict[str, Any]:
    dense: Any = kernel.kind.dense_class
    config: dict[str, Any] = dense.get_config(kernel.layer)
    return config


def _call(kernel: Kernel, split: str, rank: int | None, batch: int, call: Any) -> LayerCall:
    """A call of a new layer like that of the kernel, at a rank, on one batch."""
    kind, config = kernel.kind, _dense_config(kernel)
    made: Any = kind.dense_class if rank is None else low_rank_class(kernel.layer)
    if rank is None:
        layer = made.from_config(config)
    else:
        config |= {"ranks": {kernel.name: rank}}
        layer = made.from_config(config | ({"split": split} if len(kind.splits) > 1 else {}))
    shape = (batch, *call.shape[1:])
    uses = kernel.uses(split, shape, call.options)
    if isinstance(layer, keras.layers.Embedding) and not (uses and uses.dense):
        layer.build(shape)
        return LayerCall(layer, _keras.compiled(layer, keras.ops.zeros(shape, "int32")))
    x = keras.ops.ones(shape, layer.compute_dtype)
    if isinstance(layer, keras.layers.Embedding):
        layer.build((batch, 1))
        return LayerCall(layer, _keras.compiled(layer, x, reverse=True))
    layer.build(shape)
    states = [layer.get_initial_state(batch_size=batch)] if hasattr(layer, "state_size") else []
    return LayerCall(layer, _keras.compiled(layer, x, *states))
