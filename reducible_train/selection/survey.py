"""Which kernels of a model may change, within which limits, at what cost, and why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, RankError
from reducible_train.layers import Kernel, find_kernels, unknown_kernels
from reducible_train.layers.uses import Uses
from reducible_train.report.records import KernelRecord
from reducible_train.selection.costs import (
    CostModel,
    CostTable,
    break_even_rank,
    dense_cost,
    rank_cost,
)
from reducible_train.selection.input_shapes import InputShapes
from reducible_train.settings.measures import (
    CountedMeasure,
    Flops,
    counted_measure,
    measure_kinds,
)
from reducible_train.settings.rules import LayerRule, rule_for, unmatched

_FROZEN = (
    "frozen, so it could not recover from a cut; a rule with keep_dense=False, or with a rank or "
    "an energy of its own, takes it in"
)


@dataclass(frozen=True, eq=False)
class Factorization:
    """One way in which a kernel can be split, with its limits and costs.

    Args:
        split: Name of the split.
        shape: `(m, n)` of its matrices.
        count: How many matrices.
        itemsize: Bytes of one number.
        uses: How often one sample uses each number; `None` where not known.
        min_rank: Smallest rank it may get.
        max_rank: Largest rank it may get: the limit, or less if its rule says so.
        limit: Largest rank that saves enough, of numbers and of work; of a kernel with factors,
            the rank it has. A rule's `max_rank` does not change it.
        growth: Largest rank it may grow to: one that saves enough, and that its rule allows, also
            where it has factors already.
        tables: What it costs by a measure that has no law.
    """

    split: str
    shape: tuple[int, int]
    count: int
    itemsize: int
    uses: Uses | None
    min_rank: int
    max_rank: int
    limit: int
    growth: int
    tables: Mapping[str, CostTable] = field(default_factory=dict)

    def cost(self, rank: int, measure: str) -> float:
        """Cost of factors of a rank."""
        if measure in self.tables:
            return float(self.tables[measure].ranks[rank])
        return rank * rank_cost(self.shape, measure, self.itemsize, self.uses, self.count)

    def costs(self, measure: str, most: int) -> float | np.ndarray:
        """Cost of one rank; of each rank 0 ... `most` where that is not the same for all."""
        if measure in self.tables:
            return self.tables[measure].ranks[: most + 1]
        return rank_cost(self.shape, measure, self.itemsize, self.uses, self.count)

    def dense_cost(self, measure: str) -> float:
        """Cost of the dense kernel."""
        if measure in self.tables:
            return self.tables[measure].dense
        return dense_cost(self.shape, measure, self.itemsize, self.uses, self.count)

    def largest_within(self, cost: float, measure: str) -> int:
        """The largest rank that costs no more; 0 if none does."""
        ranks = np.arange(min(self.shape) + 1)
        costs = np.array([self.cost(int(rank), measure) for rank in ranks])
        return int(np.searchsorted(costs[1:], cost, side="right"))

    @property
    def least(self) -> int:
        """Smallest rank it can have."""
        return min(self.min_rank, self.max_rank)


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


# Model, all its kernels, the forms of those that may change by path, and the traced calls.
MakeCostModel = Callable[
    [Any, Sequence[Kernel], Mapping[str, Sequence[Factorization]], Sequence[Any] | None], CostModel
]


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found in a model.

    Args:
        model: The model.
        compressible: The kernels that may change.
        skipped: Kernels and other large weights that stay as they are: path, class name,
            shape as a matrix and the reason.
        uses: How often one sample uses each number of each kernel, by path and split;
            `None` where the model cannot be traced.
        cost_models: What its kernels cost by a measure that has no law, by measure.
        counted: The shapes that uses are counted for, where the model leaves them open.
        notes: What a reader of a report should know of it.
        frozen: The kernels that stay as they are because no step trains them, and could change.
    """

    model: Any
    compressible: tuple[CompressibleKernel, ...]
    skipped: tuple[tuple[str, str, tuple[int, int], str], ...]
    kernels: tuple[Kernel, ...]
    uses: dict[tuple[str, str], Uses] | None
    cost_models: Mapping[str, CostModel] = field(default_factory=dict)
    counted: InputShapes | None = None
    notes: tuple[str, ...] = ()
    frozen: tuple[CompressibleKernel, ...] = ()

    def counted_anew(self, shapes: Sequence[InputShapes]) -> Survey:
        """The same, its uses counted for shapes that are known by now."""
        _, uses, counted = count_calls(self.model, self.kernels, shapes)
        return replace(self, uses=uses, counted=counted)

    @property
    def unknown(self) -> tuple[list[str], int]:
        """Paths of the large weights that are no kernels of a known kind, and what they hold."""
        known = {kernel.path for kernel in self.kernels}
        found = [(path, m * n) for path, _, (m, n), _ in self.skipped if path not in known]
        return [path for path, _ in found], sum(size for _, size in found)

    def total(self, measure: str) -> float:
        """Cost of the whole model as it is."""
        if measure in self.cost_models:
            return self._looked_up(self.cost_models[measure], dense=False)
        if counted_measure(measure).weighs_uses:
            return sum(self._worked(kernel, measure, dense=False) for kernel in self.kernels)
        return sum(_size(v, measure) for v in self.model.weights)

    def dense_total(self, measure: str) -> float:
        """Cost of the whole model if every kernel were dense."""
        if measure in self.cost_models:
            return self._looked_up(self.cost_models[measure], dense=True)
        if counted_measure(measure).weighs_uses:
            return sum(self._worked(kernel, measure, dense=True) for kernel in self.kernels)
        total = self.total(measure)
        for kernel in self.kernels:
            if kernel.rank is not None:
                total -= sum(_size(v, measure) for v in kernel.variables)
                total += dense_cost(kernel.shape, measure, kernel.itemsize, count=kernel.count)
        return total

    def _looked_up(self, costs: CostModel, *, dense: bool) -> float:
        total = costs.rest + (0.0 if dense else costs.record_cost)
        for kernel in self.kernels:
            table = costs.tables[kernel.path, kernel.splits[0]]
            total += table.dense if dense or kernel.rank is None else table.ranks[kernel.rank]
        return float(total)

    def _worked(self, kernel: Kernel, measure: str, *, dense: bool) -> int:
        uses = (self.uses or {}).get((kernel.path, kernel.splits[0]))
        if uses is None:
            return 0
        if dense or kernel.rank is None:
            return dense_cost(kernel.shape, measure, uses=uses, count=kernel.count)
        return kernel.rank * rank_cost(kernel.shape, measure, uses=uses, count=kernel.count)

    def records(
        self, kept: Mapping[str, float], remarks: Mapping[str, str]
    ) -> tuple[KernelRecord, ...]:
        """A record of every kernel, compressible ones first in the model's order.

        Args:
            kept: Energy kept since the start, by path.
            remarks: Why kernels that may change are dense, by path.
        """
        reasons = {path: reason for path, _, _, reason in self.skipped}
        left = set(reasons)
        rows = [
            KernelRecord(
                path=kernel.path,
                kind=kernel.kind.dense_class.__name__,
                shape=kernel.shape,
                rank=kernel.rank,
                break_even_rank=break_even_rank(kernel.shape),
                parameters=sum(_size(v, "parameters") for v in kernel.variables),
                energy=kept.get(kernel.path),
                reason=reasons.pop(kernel.path, None),
                count=kernel.count,
                split=kernel.splits[0] if kernel.rank is not None else "",
                remark=""
                if kernel.rank is not None or kernel.path in left
                else remarks.get(kernel.path, "no cut of it so far"),
            )
            for kernel in self.kernels
        ]
        rows += [
            KernelRecord(
                path, kind, shape, None, break_even_rank(shape), shape[0] * shape[1], None, reason
            )
            for path, kind, shape, reason in self.skipped
            if path in reasons
        ]
        return tuple(rows)


def survey(
    model: Any,
    rules: Sequence[LayerRule] = (),
    *,
    measure: str = "parameters",
    cost_model: MakeCostModel | None = None,
    trains: bool = False,
    shapes: Sequence[InputShapes] = (),
) -> Survey:
    """Look through a built model.

    Args:
        model: The model.
        rules: Rules for single layers.
        measure: What a budget counts; factors that save nothing of it are not considered.
        cost_model: Makes the tables of their costs, where the measure has no law.
        trains: True if training goes on after a cut, so that kernels it does not reach could not
            recover, and are left.
        shapes: What may tell lengths that the model leaves open, the best first.

    Raises:
        ArgumentError: A rule matches no layer, or a group has kernels of unequal shapes or no
            rank in common.
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
    fed = [each for known in shapes for each in keras.tree.flatten(known.inputs)]
    seen = _keras.Outputs(model, [tuple(each.shape[1:]) for each in fed])
    calls, uses, counted = count_calls(model, kernels, shapes, seen.look)
    outputs = seen.layers(calls)
    in_use = _in_use(model, kernels)
    trained = {id(variable) for variable in model.trainable_variables}
    rule_of = {k.path: rule_for(rules, k.layer_path, k.layer.name) for k in kernels}

    def found(kernel: Kernel) -> tuple[list[Factorization], str | None]:
        """Its forms by what is known, and the reason if it stays as it is."""
        rule = rule_of[kernel.path]
        forms = _forms(kernel, rule, uses, measure)
        for name, each in cost_models.items():
            forms = [_tabulated(form, kernel, name, each, _min_gain(rule)) for form in forms]
        reason = in_use.get(kernel.path)
        output = outputs.get(id(kernel.layer)) if kernel.gives_output else None
        reason = reason or _reason(kernel, rule, forms, output)
        still = trains and not any(id(variable) in trained for variable in kernel.variables)
        return forms, reason or (_FROZEN if still and not _asks(rule) else None)

    cost_models: dict[str, CostModel] = {}
    if cost_model is not None:
        wanted = {k.path: forms for k in kernels for forms, why in [found(k)] if why is None}
        cost_models[measure] = cost_model(model, kernels, wanted, calls)
    compressible, frozen, left = [], [], []
    for kernel in kernels:
        forms, reason = found(kernel)
        possible = tuple(f for f in forms if f.max_rank >= 1)
        if reason == _FROZEN and possible:
            frozen.append(CompressibleKernel(kernel, possible, rule_of[kernel.path]))
        if reason is not None:
            left.append((kernel.path, type(kernel.layer).__name__, kernel.shape, reason))
            continue
        compressible.append(CompressibleKernel(kernel, possible, rule_of[kernel.path]))
    known = {kernel.path for kernel in kernels}
    left += [each for each in unknown_kernels(model) if each[0] not in known]
    if not compressible:
        reasons = "; ".join(f"{path}: {reason}" for path, _, _, reason in left)
        raise RankError(
            f"Model '{model.name}' has nothing to compress. {reasons or 'It has no kernels'}. "
            "To take in an output layer, or a frozen one, give a rule: "
            "LayerRule(match=..., keep_dense=False)."
        )
    found_in = tuple(left), tuple(kernels), uses, cost_models, counted
    return Survey(model, _grouped(compressible), *found_in, seen.notes, tuple(frozen))


def _tabulated(
    form: Factorization, kernel: Kernel, name: str, costs: CostModel, min_gain: float
) -> Factorization:
    """A form with its table, its largest rank one that saves enough by it."""
    table = costs.tables[kernel.path, form.split]
    saves = table.break_even_rank(min_gain)
    limit = form.limit if kernel.rank is not None else min(form.limit, saves)
    most, growth = min(form.max_rank, limit), min(form.growth, saves)
    return replace(form, max_rank=most, limit=limit, tables={name: table}, growth=growth)


def _grouped(compressible: Sequence[CompressibleKernel]) -> tuple[CompressibleKernel, ...]:
    """The same kernels, those of a group with the limits they have in common.

    A layer of several kernels puts each into a group of its own name.
    """
    groups: dict[str, list[CompressibleKernel]] = {}
    for each in compressible:
        if each.rule is not None and each.rule.group is not None:
            groups.setdefault(f"{each.rule.group}/{each.kernel.name}", []).append(each)
    changed: dict[str, CompressibleKernel] = {}
    for name, members in groups.items():
        forms = [member.factorization for member in members]
        if len({(form.shape, form.count, form.split) for form in forms}) > 1:
            raise ArgumentError(
                f"The kernels of group {members[0].rule.group!r} must have one shape. Received: "  # type: ignore[union-attr]
                + ", ".join(
                    f"{m.kernel.path} of shape {form.shape}"
                    for m, form in zip(members, forms, strict=True)
                )
                + ". Give those of another shape another group."
            )
        low, high = max(form.least for form in forms), min(form.max_rank for form in forms)
        if low > high:
            raise ArgumentError(
                f"The kernels of group {members[0].rule.group!r} must have a rank in common. "  # type: ignore[union-attr]
                "Received: "
                + ", ".join(
                    f"{m.kernel.path} in [{form.least}, {form.max_rank}]"
                    for m, form in zip(members, forms, strict=True)
                )
                + f". Lower `min_rank` to {high}, or take a layer out of the group."
            )
        for member, form in zip(members, forms, strict=True):
            limit, growth = (min(getattr(f, n) for f in forms) for n in ("limit", "growth"))
            shared = replace(form, min_rank=low, max_rank=high, limit=limit, growth=growth)
            changed[member.kernel.path] = replace(member, forms=(shared,), group=name)
    return tuple(changed.get(each.kernel.path, each) for each in compressible)


def _in_use(model: Any, kernels: Sequence[Kernel]) -> dict[str, str]:
    """Path -> the reason for kernels that more than their own layer uses.

    A second holder would keep the old variable; who assigns values would find none.
    """
    owners: dict[int, list[Kernel]] = {}
    for kernel in kernels:
        for variable in kernel.variables if kernel.rank is None else ():
            owners.setdefault(id(variable), []).append(kernel)
    found = {
        kernel.path: "the model's own code assigns values to it in a training step"
        for variable in owners.keys() & _keras.assigned_in_calls(model)
        for kernel in owners[variable]
    }
    for path, layer in [(model.name, model), *_keras.walk(model)]:
        for variable in _keras.held_variables(layer):
            for kernel in owners.get(id(variable), ()):
                if kernel.layer is not layer:
                    found[kernel.path] = (
                        f"'{path}' ({type(layer).__name__}) uses this very variable"
                    )
    return found


def _forms(
    kernel: Kernel,
    rule: LayerRule | None,
    uses: dict[tuple[str, str], Uses] | None,
    measure: str,
) -> list[Factorization]:
    """The ways to split a kernel that its rule allows; no rank may make it larger or slower."""
    forms = []
    min_gain = _min_gain(rule)
    kind = measure_kinds()[measure]
    weighs_uses = issubclass(kind, CountedMeasure) and kind.weighs_uses
    wish = rule.split if rule else None
    splits = kernel.splits
    for split in [wish] if wish in splits else splits:
        shape = kernel.shape_in(split)
        used = None if uses is None else uses[kernel.path, split]
        saves = break_even_rank(shape, min_gain=min_gain)
        looked_up = used is not None and used.dense == 0  # embeddings: nothing to save
        if used is not None and (weighs_uses or not looked_up):
            saves = min(saves, break_even_rank(shape, Flops.name, used, min_gain))
        limit = saves if kernel.rank is None else kernel.rank
        most, growth = (
            min(rule.max_rank, rank) if rule and rule.max_rank else rank for rank in (limit, saves)
        )
        least = rule.min_rank if rule and rule.min_rank else 1
        size = kernel.count, kernel.itemsize
        forms.append(Factorization(split, shape, *size, used, least, most, limit, growth))
    return forms


def _min_gain(rule: LayerRule | None) -> float:
    """The fraction of its cost that a kernel must save."""
    return 0.0 if rule is None or rule.min_gain is None else rule.min_gain


def _reason(
    kernel: Kernel, rule: LayerRule | None, forms: Sequence[Factorization], output: str | None
) -> str | None:
    """Why a kernel is left as it is."""
    if kernel.refusal is not None:
        return kernel.refusal
    if rule is not None and rule.keep_dense:
        return f"kept as it is by the rule for {rule.match!r}"
    if kernel.rank is not None:
        return None
    if output is not None and (rule is None or rule.keep_dense is None):
        return f"{output}; a rule with keep_dense=False takes it in"
    if rule is not None and rule.split is not None and rule.split not in kernel.splits:
        return f"cannot be split as {rule.split!r} (by the rule for {rule.match!r})"
    limit = max(form.max_rank for form in forms)
    if limit < 1 and all(form.uses == Uses.alike(0) for form in forms):
        return "no forward pass calls it, so it costs no FLOPs"
    if limit < 1:
        m, n = kernel.shape
        return f"too small: no rank of a {m} x {n} kernel saves enough"
    if rule is not None and rule.min_rank is not None and rule.min_rank > limit:
        return f"min_rank={rule.min_rank} is above its break-even rank {limit}"
    return None


def _asks(rule: LayerRule | None) -> bool:
    """True for a rule that wants a layer cut, whatever speaks against it."""
    return rule is not None and (rule.keep_dense is False or rule.target is not None)


def count_calls(
    model: Any,
    kernels: Sequence[Kernel],
    shapes: Sequence[InputShapes],
    look: Callable[[Any], None] | None = None,
) -> tuple[list[_keras.Call] | None, dict[tuple[str, str], Uses] | None, InputShapes | None]:
    """The calls of layers that hold kernels, and how often a sample uses each number of them.

    Args:
        model: The model.
        kernels: Its kernels.
        shapes: What may tell lengths that the model leaves open, the best first.
        look: Is given the outputs of the calls while they are symbolic.

    Returns:
        The calls, the uses by path and split, and the shapes that both are of; `None` for what is
        not known, and for shapes that say no more than the model does.
    """
    layers = list({id(k.layer): k.layer for k in kernels}.values())
    calls = _keras.trace_calls(model, layers, look=look)
    uses = _uses(kernels, calls)
    # What another model was built with says nothing of what it is called on later.
    loose = not _keras.is_graph_model(model)
    for each in shapes:
        if uses is not None and not (loose or each.binding):
            continue
        tries = [(each.inputs, False), *([(each.data, True)] if each.data is not None else [])]
        for inputs, values in tries:
            found = _keras.trace_calls(model, layers, inputs, values=values, look=look)
            used = _uses(kernels, found)
            if used is not None:
                return found, used, None if used == uses else each
    return calls, uses, None


def _uses(
    kernels: Sequence[Kernel], calls: list[_keras.Call] | None
) -> dict[tuple[str, str], Uses] | None:
    """Uses by path and split, summed over the calls of the layer."""
    if calls is None:
        return None
    found = {}
    for kernel in kernels:
        for split in kernel.splits:
            total = Uses.alike(0)
            for call in calls:
                if call.layer is not kernel.layer:
                    continue
                used = kernel.uses(split, call.shape, call.options)
                if used is None or call.repeats is None:
                    return None
                total += used * call.repeats
            found[kernel.path, split] = total
    return found


def _size(variable: Any, measure: str) -> int:
    return _keras.size(variable) * counted_measure(measure).weight(_keras.itemsize(variable), 1)
