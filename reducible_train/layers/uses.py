"""How often one sample uses each number of a kernel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Uses:
    """How often one sample multiplies by each number of a kernel, or of its factors.

    Args:
        dense: Uses of a number of the dense kernel.
        u: Uses of a number of `U`.
        v: Uses of a number of `V`.

    Example:
        >>> Uses.alike(28 * 28)
        Uses(dense=784, u=784, v=784)
    """

    dense: int = 1
    u: int = 1
    v: int = 1

    @classmethod
    def alike(cls, count: int) -> Uses:
        """The same for all."""
        return cls(count, count, count)

    def __add__(self, other: Uses) -> Uses:
        return Uses(self.dense + other.dense, self.u + other.u, self.v + other.v)

    def __mul__(self, times: int) -> Uses:
        return Uses(self.dense * times, self.u * times, self.v * times)
