"""A kernel that may change: the forms it can have, alone or in a group of equal ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm

import numpy as np

from reducible_train.errors import ArgumentError
from reducible_train.layers import Kernel
from reducible_train.linalg.multiples import rounded_down, rounded_up
from reducible_train.selection.factorizations import Factorization
from reducible_train.settings.rules import LayerRule


@dataclass(frozen=True, eq=False)
class CompressibleKernel:
    """A kernel that may change.

    Args:
        kernel: The kernel.
        forms: The ways to split it, one at least; the first is the usual one.
        rule: The rule for its layer, if any.
        group: Kernels of one group get equal ranks under a budget; `None` for no group.
    """

    kernel: Kernel
    forms: tuple[Factorization, ...]
    rule: LayerRule | None
    group: str | None = None

    @property
    def factorization(self) -> Factorization:
        """The form it has; while it is dense, the first."""
        split = self.kernel.splits[0] if self.kernel.rank is not None else None
        return next((f for f in self.forms if f.split == split), self.forms[0])

    @property
    def options(self) -> tuple[Factorization, ...]:
        """The forms it can still have."""
        return self.forms if self.kernel.rank is None else (self.factorization,)

    def dense_cost(self, measure: str) -> float:
        """Cost of the dense kernel."""
        return self.factorization.dense_cost(measure)

    def cost(self, measure: str) -> float:
        """Cost of the kernel as it is."""
        rank = self.kernel.rank
        return self.dense_cost(measure) if rank is None else self.factorization.cost(rank, measure)

    def smallest_cost(self, measure: str, form: Factorization | None = None) -> float:
        """The least it can cost, in a form or in any."""
        rank = self.kernel.rank
        forms = self.options if form is None else (form,)
        if rank is not None:
            return min(f.cost(min(f.least, rank), measure) for f in forms)
        factors = min(f.cost(f.least, measure) for f in forms)
        return min(factors, self.dense_cost(measure))


def smallest_costs(compressible: CompressibleKernel, measures: Sequence[str]) -> np.ndarray:
    """`(forms, measures)`, the least a kernel can cost in each form it can still have."""
    return np.array(
        [
            [compressible.smallest_cost(measure, form) for measure in measures]
            for form in compressible.options
        ]
    )


def grouped(compressible: Sequence[CompressibleKernel]) -> tuple[CompressibleKernel, ...]:
    """The same kernels, those of a group with the limits they have in common.

    A layer of several kernels puts each into a group of its own name.

    Raises:
        ArgumentError: A group has kernels of unequal shapes, or no rank in common.
    """
    groups: dict[tuple[str, str], list[CompressibleKernel]] = {}
    for each in compressible:
        if each.rule is not None and each.rule.group is not None:
            groups.setdefault((each.rule.group, each.kernel.name), []).append(each)
    changed: dict[str, CompressibleKernel] = {}
    for (group, name), members in groups.items():
        low, high = _common_ranks(group, members)
        forms = [member.factorization for member in members]
        multiple = lcm(*(form.multiple for form in forms))
        limit, growth = (min(getattr(f, n) for f in forms) for n in ("limit", "growth"))
        growth = rounded_down(growth, multiple)
        if all(member.kernel.rank is None for member in members):
            limit = rounded_down(limit, multiple)
        for member, form in zip(members, forms, strict=True):
            shared = replace(
                form, min_rank=low, max_rank=high, limit=limit, growth=growth, multiple=multiple
            )
            together = replace(member, forms=(shared,), group=f"{group}/{name}")
            changed[member.kernel.path] = together
    return tuple(changed.get(each.kernel.path, each) for each in compressible)


def _common_ranks(group: str, members: Sequence[CompressibleKernel]) -> tuple[int, int]:
    """The smallest and the largest rank that all kernels of a group can have."""
    forms = {member.kernel.path: member.factorization for member in members}
    if len({(form.shape, form.count, form.split) for form in forms.values()}) > 1:
        shapes = ", ".join(f"{path} of shape {form.shape}" for path, form in forms.items())
        raise ArgumentError(
            f"The kernels of group {group!r} must have one shape. Received: {shapes}. Give those "
            "of another shape another group."
        )
    multiple = lcm(*(form.multiple for form in forms.values()))
    low = rounded_up(max(form.least for form in forms.values()), multiple)
    high = min(form.max_rank for form in forms.values())
    if all(member.kernel.rank is None for member in members):
        high = rounded_down(high, multiple)
    else:  # what has factors may stay at the rank it has
        low = min(low, max(high, max(form.least for form in forms.values())))
    if low > high:
        ranges = ", ".join(
            f"{path} in [{form.least}, {form.max_rank}]"
            + (f" in multiples of {form.multiple}" if form.multiple > 1 else "")
            for path, form in forms.items()
        )
        raise ArgumentError(
            f"The kernels of group {group!r} must have a rank in common. Received: {ranges}. "
            f"Lower `min_rank` to {high}, or take a layer out of the group."
        )
    return low, high
