"""Several processes that train one model: what one of them decides is told to all.

On JAX each process runs the same program and holds its part of the same variables. What each
works out for itself (a time it measures, the last bits of a decomposition, the sign of a singular
vector) may differ, and then so do ranks or replicas, the first of which aborts all of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import keras
import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Broadcast:
    """Gives, for a value of one's own, the value that counts in all processes.

    Args:
        is_shared: True if there are several. All of them must come by, in the same order.
    """

    is_shared: bool

    def __call__(self, value: T) -> T:
        return _of_first(value) if self.is_shared else value


def broadcaster(variables: Iterable[Any]) -> Broadcast:
    """What gives all processes that hold these variables together the first one's values.

    A process that holds them alone keeps its own.

    Args:
        variables: Those of the model, which must be up to date.
    """
    return Broadcast(is_shared_by_processes(variables))


def is_shared_by_processes(variables: Iterable[Any]) -> bool:
    """True if several processes hold any of these variables together."""
    return any(_is_shared(variable) for variable in variables)


def is_split_among_processes(variable: Any) -> bool:
    """True if no process has all of a variable."""
    return _is_shared(variable) and not variable.value.is_fully_replicated


def workers(model: Any) -> int:
    """How many programs of TensorFlow train a model together; 1 without a strategy."""
    strategy: Any = getattr(model, "_distribute_strategy", None)
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not strategy.extended._in_multi_worker_mode():
        return 1
    cluster = resolver.cluster_spec().as_dict()
    return sum(len(cluster.get(job, ())) for job in ("chief", "worker"))


def _is_shared(variable: Any) -> bool:
    if keras.backend.backend() != "jax":
        return False
    return not getattr(variable.value, "is_fully_addressable", True)


def _of_first(value: T) -> T:
    """Its bytes, in numbers that the processes can add up, all others being zero."""
    from jax.experimental import multihost_utils  # noqa: PLC0415

    data = np.frombuffer(pickle.dumps(value), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    told = multihost_utils.broadcast_one_to_all(np.resize(data, length))
    found: T = pickle.loads(np.asarray(told).tobytes())
    return found
