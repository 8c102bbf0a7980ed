"""Which kernels of a model may change, what the model costs, and what is left as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from reducible_train import _keras
from reducible_train.errors import ArgumentError, RankError
from reducible_train.layers import Kernel, find_fixed, find_kernels, uncounted, unknown_kernels
from reducible_train.layers.uses import Uses
from reducible_train.report.records import Cut
from reducible_train.selection.call_counts import count_calls
from reducible_train.selection.compressible import CompressibleKernel, grouped
from reducible_train.selection.costs import CostModel, dense_cost, rank_cost
from reducible_train.selection.factorizations import Factorization, forms_of, tabulated
from reducible_train.selection.input_shapes import InputShapes
from reducible_train.selection.lattice import Lattice
from reducible_train.selection.reasons import FROZEN, Reasons, saved_by_none
from reducible_train.settings.measures import (
    CountedMeasure,
    Measure,
    Parameters,
    counted_measure,
)
from reducible_train.settings.rules import LayerRule, rule_for, shadowed, unmatched

# Model, all its kernels, the forms of those that may change by path, and the traced calls.
MakeCostModel = Callable[
    [Any, Sequence[Kernel], Mapping[str, Sequence[Factorization]], Sequence[Any] | None], CostModel
]

ANY_RANK = Lattice()

Skipped = tuple[str, str, tuple[int, int], str]  # path, class name, shape as a matrix, reason


@dataclass(frozen=True, eq=False)
class Survey:
    """What was found in a model.

    Args:
        model: The model.
        compressible: The kernels that may change.
        skipped: Kernels and other large weights that stay as they are.
        kernels: All kernels of known kinds.
        uses: How often one sample uses each number of each kernel, by path and split;
            `None` where the model cannot be traced.
        cost_models: What its kernels cost by a measure that has no law, by measure.
        laws: What budgets count by a law, each with its options; other measures have none.
        counted: The shapes that uses are counted for, where the model leaves them open.
        notes: What a reader of a report should know of it.
        frozen: The kernels that stay as they are because no step trains them, and could change.
        outputs: Those that do because they make outputs of the model, likewise.
        taken_in: Those that make outputs and may change though no rule says so, by path, with a
            sentence for the reader of a report.
        lattice: Which ranks there are, for kernels whose rules do not say so.
        fixed: Kernels that have no low-rank form, and do work all the same.
        hindered: By measure, the paths of kernels of which factors would save nothing of it, and
            which could change if it were not counted.
        beside: Paths of the kernels that something reads beside the calls of their layers, as the
            table of tied weights is multiplied with: of that no work is counted.
    """

    model: Any
    compressible: tuple[CompressibleKernel, ...]
    skipped: tuple[Skipped, ...]
    kernels: tuple[Kernel, ...]
    uses: dict[tuple[str, str], Uses] | None
    cost_models: Mapping[str, CostModel] = field(default_factory=dict)
    laws: Mapping[str, CountedMeasure] = field(default_factory=dict)
    counted: InputShapes | None = None
    notes: tuple[str, ...] = ()
    frozen: tuple[CompressibleKernel, ...] = ()
    outputs: tuple[CompressibleKernel, ...] = ()
    taken_in: Mapping[str, str] = field(default_factory=dict)
    lattice: Lattice = ANY_RANK
    fixed: tuple[Kernel, ...] = ()
    hindered: Mapping[str, list[str]] = field(default_factory=dict)
    beside: frozenset[str] = frozenset()

    def counted_anew(self, shapes: Sequence[InputShapes]) -> Survey:
        """The same, its uses counted for shapes that are known by now."""
        _, uses, counted = count_calls(self.model, self.kernels, shapes, fixed=self.fixed)
        return replace(self, uses=uses, counted=counted)

    def with_cuts(self, cuts: Sequence[Cut], coming: Sequence[str] = ()) -> Survey:
        """The same, where the model pays for the records of its cuts.

        Args:
            cuts: All so far.
            coming: Paths of the kernels that one more may change; none if there will be no more.
        """
        models = {name: costs.with_cuts(cuts, coming) for name, costs in self.cost_models.items()}
        return replace(self, cost_models=models)

    @property
    def counted_shape(self) -> Any:
        """The input shape that uses are counted for, as `input_shape` takes it, and its source;
        `None` where the model itself tells it, or nothing does.
        """
        return None if self.counted is None else [self.counted.plain, self.counted.source]

    @property
    def unknown(self) -> tuple[list[str], int]:
        """Paths of the large weights that are no kernels of a known kind, and what they hold."""
        known = {kernel.path for kernel in self.kernels}
        found = [(path, m * n) for path, _, (m, n), _ in self.skipped if path not in known]
        return [path for path, _ in found], sum(size for _, size in found)

    @property
    def uncounted(self) -> list[str]:
        """Paths of the weights whose FLOPs are not known, where those of others are."""
        return uncounted(self.model, self._counted)

    @property
    def partly_counted(self) -> list[str]:
        """Paths of the kernels whose FLOPs are known of the calls of their layers alone."""
        return [kernel.path for kernel in self._counted if kernel.path in self.beside]

    @property
    def _counted(self) -> list[Kernel]:
        known = {path for path, _ in self.uses or {}}
        return [kernel for kernel in (*self.kernels, *self.fixed) if kernel.path in known]

    def total(self, measure: str) -> float:
        """Cost of the whole model as it is."""
        if measure in self.cost_models:
            return self._looked_up(self.cost_models[measure], dense=False)
        law = self._law(measure)
        if law.weighs_uses:
            return self._worked(law, dense=False)
        return sum(_size(v, law) for v in self.model.weights)

    def dense_total(self, measure: str) -> float:
        """Cost of the whole model if every kernel were dense."""
        if measure in self.cost_models:
            return self._looked_up(self.cost_models[measure], dense=True)
        law = self._law(measure)
        if law.weighs_uses:
            return self._worked(law, dense=True)
        total = self.total(measure)
        for kernel in self.kernels:
            if kernel.rank is not None:
                total -= sum(_size(v, law) for v in kernel.variables)
                total += dense_cost(kernel.shape, law, kernel.itemsize, count=kernel.count)
        return total

    def _law(self, measure: str) -> CountedMeasure:
        return self.laws.get(measure) or counted_measure(measure)

    def _looked_up(self, costs: CostModel, *, dense: bool) -> float:
        total = costs.rest + (0.0 if dense else costs.record_cost)
        for kernel in self.kernels:
            table = costs.tables[kernel.path, kernel.splits[0]]
            total += table.dense if dense or kernel.rank is None else table.ranks[kernel.rank]
        return float(total)

    def _worked(self, law: CountedMeasure, *, dense: bool) -> int:
        kernels = (*self.kernels, *self.fixed)
        return sum(self._work_of(kernel, law, dense=dense) for kernel in kernels)

    def _work_of(self, kernel: Kernel, law: CountedMeasure, *, dense: bool) -> int:
        uses = (self.uses or {}).get((kernel.path, kernel.splits[0]))
        if uses is None:
            return 0
        if dense or kernel.rank is None:
            return dense_cost(kernel.shape, law, kernel.itemsize, uses, kernel.count)
        return kernel.rank * rank_cost(kernel.shape, law, kernel.itemsize, uses, kernel.count)


def survey(
    model: Any,
    rules: Sequence[LayerRule] = (),
    *,
    measures: Sequence[Measure] = (Parameters(),),
    cost_models: Mapping[str, MakeCostModel] | None = None,
    trains: bool = False,
    shapes: Sequence[InputShapes] = (),
    lattice: Lattice = ANY_RANK,
    taken_in: Mapping[str, str] | None = None,
) -> Survey:
    """Look through a built model.

    Args:
        model: The model.
        rules: Rules for single layers.
        measures: What budgets count; factors that save nothing of one are not considered.
        cost_models: Make the tables of their costs, by measures that have no law.
        trains: True if training goes on after a cut, so that kernels it does not reach could not
            recover, and are left.
        shapes: What may tell lengths that the model leaves open, the best first.
        lattice: Which ranks there are, for kernels whose rules do not say so.
        taken_in: Kernels that may change though they make outputs and no rule says so, by path,
            with a sentence for the reader of a report.

    Raises:
        ArgumentError: A rule matches no layer, or none that rules before it leave, or asks for a
            share above its `max_rank`, or a group has kernels of unequal shapes or no rank in
            common.
        RankError: There is nothing to compress.
    """
    names = [each.name for each in measures]
    laws = {each.name: each for each in measures if isinstance(each, CountedMeasure)}
    kernels = find_kernels(model)
    _check_rules(model, rules, kernels)
    fed = [each for known in shapes for each in _keras.arrays_in(known.inputs)]
    seen = _keras.Outputs(model, [tuple(each.shape[1:]) for each in fed])
    fixed = find_fixed(model, kernels)
    read, taken = set[int](), set[int]()
    calls, uses, counted = count_calls(
        model, kernels, shapes, seen.look, fixed, read.add, taken.add
    )
    beside = frozenset(k.path for k in (*kernels, *fixed) if read & {id(v) for v in k.held})
    reasons = Reasons.in_model(model, kernels, seen.layers(calls), beside, taken, trains=trains)
    looks = []
    for kernel in kernels:
        rule = rule_for(rules, kernel.layer_path, kernel.layer.name)
        forms = forms_of(kernel, rule, uses, laws, lattice)
        against = reasons.but_outputs if kernel.path in (taken_in or {}) else reasons
        looks.append(_Look(kernel, rule, forms, against))
    made: dict[str, CostModel] = {}
    for measure, cost_model in (cost_models or {}).items():
        wanted = {look.kernel.path: look.forms for look in looks if look.reason is None}
        costs = made[measure] = cost_model(model, kernels, wanted, calls)
        looks = [look.tabulated(measure, costs) for look in looks]
    compressible = [look.compressible for look in looks if look.reason is None]
    skipped = _skipped(model, looks)
    hindered = {
        name: paths
        for name in names
        if (paths := [look.kernel.path for look in looks if name in look.hindrances])
    }
    if not compressible:
        raise _nothing(model, skipped, hindered)
    return Survey(
        model,
        grouped(compressible),
        skipped,
        tuple(kernels),
        uses,
        made,
        laws,
        counted,
        seen.notes,
        frozen=tuple(look.compressible for look in looks if look.is_frozen),
        outputs=tuple(look.compressible for look in looks if look.is_output),
        taken_in=taken_in or {},
        lattice=lattice,
        fixed=tuple(fixed),
        hindered=hindered,
        beside=beside,
    )


@dataclass(frozen=True, eq=False)
class _Look:
    """One kernel, the ways to split it, and what speaks against that."""

    kernel: Kernel
    rule: LayerRule | None
    forms: Sequence[Factorization]
    reasons: Reasons

    @cached_property
    def reason(self) -> str | None:
        """Why it is left as it is; `None` if it may change."""
        return self.reasons.against(self.kernel, self.rule, self.forms)

    @property
    def compressible(self) -> CompressibleKernel:
        """The kernel in the forms that save something."""
        possible = tuple(form for form in self.forms if form.max_rank >= 1)
        return CompressibleKernel(self.kernel, possible, self.rule)

    @property
    def is_frozen(self) -> bool:
        """True for one that could change, and only is not trained."""
        return self.reason == FROZEN and bool(self.compressible.forms)

    @property
    def is_output(self) -> bool:
        """True for one that could change, and only makes outputs."""
        free = replace(self, reasons=self.reasons.but_outputs)
        return self.reason is not None and free.reason is None and bool(self.compressible.forms)

    @cached_property
    def hindrances(self) -> list[str]:
        """The measures but for which it could change, since factors would save nothing of them."""
        if self.reason is None or self.kernel.rank is not None:
            return []
        fewer = [replace(f, max_rank=f.saves_by[Parameters.name]) for f in self.forms]
        free = self.reasons.against(self.kernel, self.rule, fewer) is None
        return saved_by_none(self.forms) if free else []

    def tabulated(self, measure: str, costs: CostModel) -> _Look:
        """The same, its forms limited by what they cost in a table."""
        forms = [tabulated(form, self.kernel, self.rule, measure, costs) for form in self.forms]
        return replace(self, forms=forms)


def _check_rules(model: Any, rules: Sequence[LayerRule], kernels: Sequence[Kernel]) -> None:
    """Refuse a rule that matches no layer, and one that never applies."""
    everything = [(path, layer.name) for path, layer in _keras.walk(model)]
    idle = unmatched(rules, everything)
    if idle:
        raise ArgumentError(
            f"The layer rule match={idle[0].match!r} matches no layer of model '{model.name}'. "
            f"Its layers are: {', '.join(path for path, _ in everything)}. Correct the pattern, "
            "or remove the rule."
        )
    for index, other in shadowed(rules, [(k.layer_path, k.layer.name) for k in kernels]):
        raise ArgumentError(
            f"The layer rule match={rules[index].match!r} applies to no layer of model "
            f"'{model.name}', since the first rule that matches does. Received: "
            f"match={other.match!r} before it, which matches the same layers. Put the rule for "
            f"{rules[index].match!r} before the other, or remove one of them."
        )


def _skipped(model: Any, looks: Sequence[_Look]) -> tuple[Skipped, ...]:
    """What stays as it is: kernels with a reason, then large weights of no known kind."""
    known = {look.kernel.path for look in looks}
    skipped = [
        (look.kernel.path, type(look.kernel.layer).__name__, look.kernel.shape, look.reason)
        for look in looks
        if look.reason is not None
    ]
    return (*skipped, *(each for each in unknown_kernels(model) if each[0] not in known))


def _nothing(
    model: Any, skipped: Sequence[Skipped], hindered: Mapping[str, Sequence[str]]
) -> RankError:
    """The error to raise where no kernel may change."""
    reasons = "; ".join(f"{path}: {reason}" for path, _, _, reason in skipped)
    by = f" where {' and '.join(hindered)} must fall" if hindered else ""
    todo = (
        f"To have kernels cut, {instead(hindered)}."
        if hindered
        else "To take in an output layer, or a frozen one, give a rule: "
        "LayerRule(match=..., keep_dense=False)."
    )
    return RankError(
        f"Model '{model.name}' has nothing to compress{by}. {reasons or 'It has no kernels'}. "
        f"{todo}"
    )


def instead(hindered: Mapping[str, Sequence[str]]) -> str:
    """What to ask for in place of measures that keep kernels dense."""
    return f"ask for {Parameters.name} in place of {' and '.join(hindered)}"


def _size(variable: Any, law: CountedMeasure) -> int:
    return _keras.size(variable) * law.weight(_keras.itemsize(variable), 1)
