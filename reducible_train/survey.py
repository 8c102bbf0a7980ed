"""Which kernels of a model may change, within which limits, at what cost, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reducible_train import _keras
from reducible_train.costs import break_even_rank, dense_cost, rank_cost
from reducible_train.errors import ArgumentError, RankError
from reducible_train.layers import Kernel, find_kernels, unknown_kernels
from reducible_train.report import KernelRecord
from reducible_train.rules import LayerRule, rule_for, unmatched


@dataclass(frozen=True, eq=False)
class Managed:
    """A kernel that may change.

    Args:
        kernel: The kernel.
        min_rank: Smallest rank it may get.
        max_rank: Largest rank it may get: below break-even, and as its rule says.
        applications: Times it is applied to one sample; `None` where not known.
        rule: The rule for its layer, if any.
    """

    kernel: Kernel
    min_rank: int
    max_rank: int
    applications: int | None
    rule: LayerRule | None

    def rank_cost(self, measure: str) -> int:
        """Cost of one rank."""
        kernel = self.kernel
        return rank_cost(kernel.shape, measure, kernel.itemsize, self.applications or 1)

    def dense_cost(self, measure: str) -> int:
        """Cost of the dense kernel."""
        kernel = self.kernel
        return dense_cost(kernel.shape, measure, kernel.itemsize, self.applications or 1)

    def cost(self, measure: str) -> int:
        """Cost of the kernel as it is."""
        rank = self.kernel.rank
        return self.dense_cost(measure) if rank is None else rank * self.rank_cost(measure)

    def smallest_cost(self, measure: str) -> int:
        """The least it can cost."""
        rank = self.kernel.rank
        least = min(self.min_rank, self.max_rank if rank is None else rank)
        smallest = least * self.rank_cost(measure)
        return min(smallest, self.dense_cost(measure)) if rank is None else smallest


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found in a model.

    Args:
        model: The model.
        managed: The kernels that may change.
        left: Kernels and other large weights that stay as they are: path, class name,
            shape as a matrix and the reason.
        applications: Times each kernel of a known kind is applied to one sample; `None`
            where the model cannot be traced.
    """

    model: Any
    managed: tuple[Managed, ...]
    left: tuple[tuple[str, str, tuple[int, int], str], ...]
    kernels: tuple[Kernel, ...]
    applications: dict[str, int] | None

    def total(self, measure: str) -> int:
        """Cost of the whole model as it is."""
        if measure == "flops":
            return sum(self._flops(kernel, dense=False) for kernel in self.kernels)
        return sum(_size(v, measure) for v in self.model.weights)

    def dense_total(self, measure: str) -> int:
        """Cost of the whole model if every kernel were dense."""
        if measure == "flops":
            return sum(self._flops(kernel, dense=True) for kernel in self.kernels)
        total = self.total(measure)
        for kernel in self.kernels:
            if kernel.rank is not None:
                total -= sum(_size(v, measure) for v in kernel.variables)
                total += dense_cost(kernel.shape, measure, kernel.itemsize)
        return total

    def smallest_total(self, measure: str) -> int:
        """The least the whole model can cost under its rules."""
        saved = sum(m.cost(measure) - m.smallest_cost(measure) for m in self.managed)
        return self.total(measure) - saved

    def _flops(self, kernel: Kernel, *, dense: bool) -> int:
        applications = (self.applications or {}).get(kernel.path, 0)
        if not applications:
            return 0
        if dense or kernel.rank is None:
            return dense_cost(kernel.shape, "flops", applications=applications)
        return kernel.rank * rank_cost(kernel.shape, "flops", applications=applications)

    def records(self, kept: dict[str, float]) -> tuple[KernelRecord, ...]:
        """A record of every kernel, managed ones first in the model's order."""
        reasons = {path: reason for path, _, _, reason in self.left}
        rows = [
            KernelRecord(
                path=kernel.path,
                kind=kernel.kind.dense_class.__name__,
                shape=kernel.shape,
                rank=kernel.rank,
                break_even_rank=break_even_rank(*kernel.shape),
                parameters=sum(_size(v, "parameters") for v in kernel.variables),
                energy=kept.get(kernel.path),
                reason=reasons.pop(kernel.path, None),
            )
            for kernel in self.kernels
        ]
        rows += [
            KernelRecord(
                path, kind, shape, None, break_even_rank(*shape), shape[0] * shape[1], None, reason
            )
            for path, kind, shape, reason in self.left
            if path in reasons
        ]
        return tuple(rows)


def survey(model: Any, rules: Sequence[LayerRule] = ()) -> Survey:
    """Look through a built model.

    Raises:
        ArgumentError: A rule matches no layer.
        RankError: There is nothing to compress.
    """
    everything = [(path, layer.name) for path, layer in _keras.walk(model)]
    idle = unmatched(rules, everything)
    if idle:
        raise ArgumentError(
            f"The layer rule match={idle[0].match!r} matches no layer of model '{model.name}'. "
            f"Its layers are: {', '.join(path for path, _ in everything)}. Correct the pattern, "
            "or remove the rule."
        )
    kernels = find_kernels(model)
    calls = _keras.trace_calls(model, list({id(k.layer): k.layer for k in kernels}.values()))
    applications = _applications(kernels, calls)
    outputs = {id(layer) for layer in _keras.output_layers(model, calls)}
    managed, left = [], []
    for kernel in kernels:
        rule = rule_for(rules, kernel.layer_path, kernel.layer.name)
        reason = _reason(kernel, rule, is_output=id(kernel.layer) in outputs)
        if reason is not None:
            left.append((kernel.path, type(kernel.layer).__name__, kernel.shape, reason))
            continue
        times = None if applications is None else applications[kernel.path]
        limit = break_even_rank(*kernel.shape) if kernel.rank is None else kernel.rank
        wish = rule.max_rank if rule and rule.max_rank else limit
        least = rule.min_rank if rule and rule.min_rank else 1
        managed.append(Managed(kernel, least, min(wish, limit), times, rule))
    left += list(unknown_kernels(model))
    if not managed:
        reasons = "; ".join(f"{path}: {reason}" for path, _, _, reason in left)
        raise RankError(
            f"Model '{model.name}' has nothing to compress. {reasons or 'It has no kernels'}. "
            "To take in an output layer, give a rule: LayerRule(match=..., keep_dense=False)."
        )
    return Survey(model, tuple(managed), tuple(left), tuple(kernels), applications)


def _reason(kernel: Kernel, rule: LayerRule | None, *, is_output: bool) -> str | None:
    """Why a kernel is left as it is."""
    if kernel.refusal is not None:
        return kernel.refusal
    if rule is not None and rule.keep_dense:
        return f"kept as it is by the rule for {rule.match!r}"
    if kernel.rank is not None:
        return None
    if is_output and (rule is None or rule.keep_dense is None):
        return "output layer; a rule with keep_dense=False takes it in"
    m, n = kernel.shape
    limit = break_even_rank(m, n)
    if limit < 1:
        return f"too small: no rank of a {m} x {n} kernel saves anything"
    if rule is not None and rule.min_rank is not None and rule.min_rank > limit:
        return f"min_rank={rule.min_rank} is above its break-even rank {limit}"
    return None


def _applications(
    kernels: Sequence[Kernel], calls: list[tuple[Any, tuple[Any, ...]]] | None
) -> dict[str, int] | None:
    if calls is None:
        return None
    counts = {}
    for kernel in kernels:
        shapes = [shape for layer, shape in calls if layer is kernel.layer]
        times = [kernel.kind.applications(kernel.name, shape) for shape in shapes]
        if any(each is None for each in times):
            return None
        counts[kernel.path] = sum(each for each in times if each is not None)
    return counts


def _size(variable: Any, measure: str) -> int:
    count = 1
    for size in variable.shape:
        count *= int(size)
    return count * (_keras.itemsize(variable) if measure == "bytes" else 1)
