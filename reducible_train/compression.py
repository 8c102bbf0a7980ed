"""One model on its way to a target: what to cut now, and the story so far.

`RankScheduler` and `factorize` both drive this; it knows nothing of callbacks.
"""

from __future__ import annotations

import numbers
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.allocation import Allocation, Candidate, allocate, allocator_names
from reducible_train.calibration import Samples, check_backend, check_samples
from reducible_train.collection import LARGEST, collect, heard_split
from reducible_train.costs import MEASURES, break_even_rank
from reducible_train.criteria import Statistics, WeightedStack, criterion_named
from reducible_train.errors import ArgumentError, RankError, SpectrumError
from reducible_train.report import Cut, KernelCut, Report
from reducible_train.rules import LayerRule
from reducible_train.spectra import cumulative_energy, energy, relative_error
from reducible_train.surgery import (
    Decomposition,
    KernelChange,
    change_kernels,
    cut,
    decomposition,
    pull_kernels,
)
from reducible_train.survey import Form, Managed, Survey, survey
from reducible_train.targets import Target
from reducible_train.truncation import choose_rank


@dataclass(frozen=True, eq=False)
class Decision:
    """The rank one kernel shall get, and what decided it."""

    managed: Managed
    form: Form
    rank: int
    binding: str
    parts: Decomposition

    def saves(self, measure: str) -> int:
        """What the change takes off the cost."""
        return self.managed.cost(measure) - self.rank * self.form.rank_cost(measure)


class Compression:
    """Brings one built model to a target, step by step.

    Args:
        model: A built Keras model; of a `Distiller`, the student is compressed.
        target: What shall be reached.
        measure: What a budget counts: `"parameters"`, `"bytes"` or `"flops"`.
        allocation: How a budget is shared among the kernels.
        rules: Rules for single layers.
        min_gain: Fraction of a kernel's cost that factors must save at least, in [0, 1);
            below it the kernel stays dense.
        criterion: What a lost direction costs.
        samples: Data for a criterion that asks for it; may be given later.

    Raises:
        ArgumentError: An unknown measure, allocation or criterion, samples that do not fit the
            model, a rule that matches nothing, a budget of FLOPs for a model whose input shapes
            are not known.
        RankError: Nothing to compress, or a budget that no ranks meet.
        SpectrumError: A kernel holds NaN or infinity.
    """

    def __init__(
        self,
        model: Any,
        target: Target,
        *,
        measure: str = "parameters",
        allocation: str = "energy",
        rules: Sequence[LayerRule] = (),
        min_gain: float = 0.0,
        criterion: str = "energy",
        samples: Samples | None = None,
    ):
        check_choices(measure, allocation, min_gain, criterion)
        self.model = model
        self.target = target
        self.measure = measure
        self.allocation = allocation
        self.rules = tuple(rules)
        self.min_gain = min_gain
        self.cuts: list[Cut] = []
        self.notes: list[str] = []
        self.criterion = criterion_named(criterion)
        self.aim: Callable[[Target, float], float] = Target.__call__  # the value of a target
        self._kept: dict[str, float] = {}
        self._kept_by_criterion: dict[str, float] = {}
        self._statistics: dict[str, tuple[Statistics, ...]] = {}
        self._done: tuple[float, ...] | None = None
        part = _keras.part_in_training(model)
        self.survey = survey(part, self.rules, measure=measure, min_gain=min_gain)
        self._check_budget()
        self._check_finite()
        check_backend(model, self.criterion.needs)
        self.samples = samples
        if samples is not None:
            check_samples(samples, part, self.criterion.needs)

    @property
    def waits_for_samples(self) -> bool:
        """True while the criterion asks for data and has none."""
        return bool(self.criterion.needs) and self.samples is None

    # --- before anything is cut -------------------------------------------------------

    def _check_budget(self) -> None:
        if self.target.quantity != "budget":
            for rule in self.rules:
                if rule.group is not None:
                    raise ArgumentError(
                        "A group shares what a budget gives it. Received: "
                        f"group={rule.group!r} in the rule for {rule.match!r}, with the target "
                        f"{self.target}. Give a budget, or remove the group."
                    )
            return
        found = self.survey
        if self.measure == "flops" and not found.uses:
            raise ArgumentError(
                f"A budget of FLOPs needs the input shapes of every layer, and model "
                f"'{found.model.name}' cannot be traced without data. Received: "
                "measure='flops'. Use measure='parameters', or give the model fixed input "
                "shapes."
            )
        smallest = self.smallest_fraction
        if self.target.lowest < smallest:
            raise RankError(
                f"`budget` cannot be met: the smallest possible fraction of {self.measure} of "
                f"model '{found.model.name}' is {_ceil(smallest)} under its rules (the rest is in "
                f"layers that stay dense). Received: a budget of {self.target.lowest:g}. Raise "
                f"the budget, or let more layers be factorised.\n{self.report}"
            )

    @property
    def smallest_fraction(self) -> float:
        """The least of the dense model's cost that its kernels and rules allow."""
        found = self.survey
        fixed = found.total(self.measure) - sum(m.cost(self.measure) for m in found.managed)
        least = fixed + sum(self._least(managed) for managed in found.managed)
        return least / found.dense_total(self.measure)

    def _least(self, managed: Managed) -> float:
        """The least a kernel can cost, its own target considered."""
        own = managed.rule.target if managed.rule else None
        if own is None or own.quantity != "rank":
            return managed.smallest_cost(self.measure)
        costs = [
            rank * form.rank_cost(self.measure)
            for form in managed.options
            if (rank := _as_rank(own.lowest, managed, form)) is not None
        ]
        return min(costs, default=managed.cost(self.measure))

    def _check_finite(self) -> None:
        for managed in self.survey.managed:
            for matrix in managed.kernel.matrices():
                bad = int(matrix.size - np.isfinite(matrix).sum())
                if bad:
                    raise SpectrumError(
                        f"{managed.kernel.path}: {bad} of {matrix.size} numbers are NaN or "
                        "infinite, so it has no singular values. Load good weights, or find out "
                        "where training diverged."
                    )

    # --- cutting ----------------------------------------------------------------------

    def due(self, time: float) -> bool:
        """True if there is something to do at `time`, though it may come to nothing."""
        return self._values(time) != self._done

    def present(self, goal: Target) -> float:
        """The value of a target that the model meets as it is."""
        if goal.quantity == "energy":
            return 1.0
        if goal.quantity == "budget":
            return self.survey.total(self.measure) / self.survey.dense_total(self.measure)
        managed = self.survey.managed
        return float(max(m.kernel.rank or max(f.max_rank for f in m.options) for m in managed))

    def bookmark(self) -> Callable[[], None]:
        """Remember the story so far; the answer puts it back, for a model that was put back."""
        cuts, done = len(self.cuts), self._done
        kept, by_criterion = dict(self._kept), dict(self._kept_by_criterion)

        def back() -> None:
            del self.cuts[cuts:]
            self._done, self._kept, self._kept_by_criterion = done, kept, by_criterion

        return back

    def cut(self, time: float, *, step: int = 0, training: bool = False) -> Cut | None:
        """Bring the model to the target at `time`, if it is not there.

        Args:
            time: Epochs since the start, fractions allowed.
            step: Training steps done so far, for the record.
            training: True inside `fit`.

        Returns:
            The record, or `None` if nothing changed.
        """
        wanted = self._values(time)
        if wanted == self._done:
            return None
        started = clock.perf_counter()
        _keras.settle(self.model)
        decisions, allocation, spectra_seconds = self._decide(time)
        decided = clock.perf_counter()
        before = self.survey.total("parameters")
        record = None
        if decisions:
            kernels = tuple(self._kernel_cut(decision) for decision in decisions)
            change_kernels(self.model, self._changes(decisions), training=training)
            for each in kernels:
                self._kept[each.path] = self._kept.get(each.path, 1.0) * each.energy
                weighed = energy(each.spectrum, each.rank)
                before_it = self._kept_by_criterion.get(each.path, 1.0)
                self._kept_by_criterion[each.path] = before_it * weighed
            record = Cut(
                epoch=int(time),
                step=step,
                quantity=self.target.quantity,
                target=self.aim(self.target, time),
                kernels=kernels,
                parameters_before=before,
                parameters=self.survey.total("parameters"),
                seconds={
                    "spectra": spectra_seconds,
                    "allocation": decided - started - spectra_seconds,
                    "surgery": clock.perf_counter() - decided,
                },
                certificate=_certificate(allocation),
            )
            self.cuts.append(record)
        self._done = wanted
        return record

    def pull(self, time: float, fraction: float) -> None:
        """Bring kernels a fraction of the way to what a cut at a later `time` makes of them."""
        if self.waits_for_samples or not self.due(time):
            return
        _keras.settle(self.model)
        decisions, _, _ = self._decide(time)
        pull_kernels(self.model, self._changes(decisions), fraction)

    def _changes(self, decisions: Sequence[Decision]) -> list[KernelChange]:
        return [
            cut(d.managed.kernel, d.rank, d.parts, d.form.split, self._means(d)) for d in decisions
        ]

    @property
    def targets(self) -> tuple[Target, ...]:
        """The target of the model, and those of rules for single layers."""
        own = (m.rule.target for m in self.survey.managed if m.rule)
        return (self.target, *(target for target in own if target is not None))

    def _values(self, time: float) -> tuple[float, ...]:
        return tuple(self.aim(goal, time) for goal in self.targets)

    def _decide(self, time: float) -> tuple[list[Decision], Allocation | None, float]:
        seconds = 0.0
        listened = False

        def parts_of(managed: Managed, form: Form) -> Decomposition:
            nonlocal seconds, listened
            started = clock.perf_counter()
            if not listened:
                self._listen()
                listened = True
            known, metrics = self._statistics.get(managed.kernel.path), None
            if known is not None and form.split == heard_split(managed.kernel):
                metrics = [self.criterion.metric(each) for each in known]
            parts = decomposition(managed.kernel, form.split, metrics)
            seconds += clock.perf_counter() - started
            return parts

        decisions, shared = [], []
        for managed in self.survey.managed:
            own = managed.rule.target if managed.rule else None
            goal = own or self.target
            if goal.quantity == "budget":
                shared.append(managed)
                continue
            decision = self._decide_alone(managed, goal, time, parts_of)
            if decision is not None:
                decisions.append(decision)
        if not shared:
            return decisions, None, seconds
        more, allocation = self._share(shared, decisions, time, parts_of)
        return [*decisions, *more], allocation, seconds

    def _decide_alone(
        self, managed: Managed, goal: Target, time: float, parts_of: Any
    ) -> Decision | None:
        """What a rank or an energy asks of one kernel; `None` for no change."""
        decide = self._by_rank if goal.quantity == "rank" else self._by_energy
        found = [
            decide(managed, form, self.aim(goal, time), parts_of) for form in self._options(managed)
        ]
        possible = [decision for decision in found if decision is not None]
        return max(possible, key=lambda d: d.saves(self.measure), default=None)

    def _by_rank(
        self, managed: Managed, form: Form, value: float, parts_of: Any
    ) -> Decision | None:
        """The decision for a rank; of several forms only the usual one."""
        current = managed.kernel.rank
        rank = _as_rank(value, managed, form)
        if form is not managed.form or rank is None or (current is not None and rank >= current):
            return None
        return Decision(managed, form, rank, _rank_binding(value, rank), parts_of(managed, form))

    def _by_energy(
        self, managed: Managed, form: Form, value: float, parts_of: Any
    ) -> Decision | None:
        needed = value / self._kept_by_criterion.get(managed.kernel.path, 1.0)
        if needed >= 1.0:
            return None
        parts = parts_of(managed, form)
        least = min(form.min_rank, *form.shape)
        choice = choose_rank(parts.values, energy=needed, min_rank=least)
        current = managed.kernel.rank
        if choice.rank > (current - 1 if current is not None else self._dense_limit(form)):
            return None
        if choice.rank > form.max_rank:
            choice = choose_rank(parts.values, max_rank=form.max_rank, energy=needed)
        return Decision(managed, form, choice.rank, choice.binding, parts)

    def _dense_limit(self, form: Form) -> int:
        """Above this rank a kernel stays dense; its rule's `max_rank` is no such limit."""
        return break_even_rank(form.shape, min_gain=self.min_gain)

    def _form(self, managed: Managed, fraction: float, parts_of: Any) -> tuple[Form, Decomposition]:
        """The form that loses least at the cost of a fraction of the dense kernel."""

        def lost(found: tuple[Form, Decomposition]) -> float:
            form, parts = found
            rank = int(fraction * form.dense_cost(self.measure) / form.rank_cost(self.measure))
            kept = cumulative_energy(parts.values)
            return 1.0 - float(kept[min(max(rank, form.least), form.max_rank, len(kept) - 1)])

        options = [(form, parts_of(managed, form)) for form in self._options(managed)]
        return options[0] if len(options) == 1 else min(options, key=lost)

    def _share(
        self, shared: Sequence[Managed], decided: Sequence[Decision], time: float, parts_of: Any
    ) -> tuple[list[Decision], Allocation | None]:
        """What a budget asks of the kernels that share it."""
        measure = self.measure
        total = self.survey.total(measure)
        total -= sum(decision.saves(measure) for decision in decided)
        budget = self.aim(self.target, time) * self.survey.dense_total(measure)
        if total <= budget:
            return [], None
        present = sum(m.cost(measure) for m in shared)
        capacity = present - (total - budget)
        smallest = sum(m.smallest_cost(measure) for m in shared)
        if capacity < smallest:
            note = (
                f"At epoch {time:g} the rules for single layers left less than the others need; "
                f"the budget {self.aim(self.target, time):g} was exceeded."
            )
            self.notes += [] if note in self.notes else [note]
            capacity = smallest
        fraction = min(1.0, capacity / sum(m.dense_cost(measure) for m in shared))
        forms = {m.kernel.path: self._form(m, fraction, parts_of) for m in shared}
        least = sum(m.smallest_cost(measure, forms[m.kernel.path][0]) for m in shared)
        capacity = max(capacity, least)
        allocation = allocate(
            [self._candidate(m, *forms[m.kernel.path]) for m in shared], capacity, self.allocation
        )
        decisions = []
        for managed in shared:
            path = managed.kernel.path
            rank = allocation.ranks[path]
            if rank is not None and rank != managed.kernel.rank:
                form, parts = forms[path]
                decisions.append(Decision(managed, form, rank, "budget", parts))
        return decisions, allocation

    def _candidate(self, managed: Managed, form: Form, parts: Decomposition) -> Candidate:
        kernel, measure = managed.kernel, self.measure
        return Candidate(
            path=kernel.path,
            spectrum=parts.values,
            rank_cost=form.rank_cost(measure),
            dense_cost=form.dense_cost(measure) if kernel.rank is None else None,
            min_rank=form.least if kernel.rank is None else min(form.least, kernel.rank),
            max_rank=form.max_rank if kernel.rank is None else kernel.rank,
            group=managed.group,
        )

    # --- the data ---------------------------------------------------------------------

    def _listen(self) -> None:
        """Learn what passes through the kernels as they are now."""
        if not self.criterion.needs or self.samples is None:
            return
        managed = self.survey.managed
        kernels = [
            m.kernel for m in managed if heard_split(m.kernel) in {f.split for f in m.options}
        ]
        self._statistics = collect(self.model, kernels, self.samples, self.criterion.needs)
        deaf = [m.kernel.path for m in managed if m.kernel.path not in self._statistics]
        note = (
            f"By plain energy, not {self.criterion.name!r}, because nothing can be told of their "
            f"data (kind, split, more than {LARGEST} inputs, or never called): {', '.join(deaf)}."
        )
        if deaf and note not in self.notes:
            self.notes.append(note)

    def _options(self, managed: Managed) -> tuple[Form, ...]:
        """The forms to choose from: those whose losses can be told in the criterion's units."""
        options = managed.options
        if not self.criterion.needs:
            return options
        return tuple(f for f in options if f.split == heard_split(managed.kernel)) or options

    def _means(self, decision: Decision) -> list[np.ndarray] | None:
        """The means of a kernel's inputs that its bias shall make up for."""
        if not isinstance(decision.parts, WeightedStack):
            return None
        known = self._statistics[decision.managed.kernel.path]
        means = [each.inputs.mean for each in known if each.inputs is not None and each.folds]
        return means if len(means) == len(known) else None

    def _kernel_cut(self, decision: Decision) -> KernelCut:
        kernel, parts, rank = decision.managed.kernel, decision.parts, decision.rank
        if isinstance(parts, WeightedStack):
            name, kept, lost = self.criterion.name, parts.energy(rank), parts.relative_error(rank)
        else:
            name = "energy"
            kept, lost = energy(parts.values, rank), relative_error(parts.values, rank)
        return KernelCut(
            path=kernel.path,
            shape=decision.form.shape,
            rank_before=kernel.rank,
            rank=rank,
            energy=kept,
            relative_error=lost,
            binding=decision.binding,
            spectrum=np.asarray(parts.values),
            criterion=name,
        )

    # --- the story --------------------------------------------------------------------

    @property
    def report(self) -> Report:
        """The model as it is now, and every cut so far."""
        found: Survey = self.survey
        traced = bool(found.uses)
        return Report(
            dense_parameters=found.dense_total("parameters"),
            parameters=found.total("parameters"),
            dense_bytes=found.dense_total("bytes"),
            bytes=found.total("bytes"),
            dense_flops=found.dense_total("flops") if traced else None,
            flops=found.total("flops") if traced else None,
            kernels=found.records(self._kept),
            cuts=tuple(self.cuts),
            notes=tuple(self.notes),
        )


def check_choices(
    measure: str, allocation: str, min_gain: float = 0.0, criterion: str = "energy"
) -> None:
    """Refuse names that nobody knows, and a gain that is no fraction.

    Raises:
        ArgumentError: An unknown measure, allocation or criterion, a `min_gain` out of [0, 1).
    """
    criterion_named(criterion)
    number = isinstance(min_gain, numbers.Real) and not isinstance(min_gain, bool)
    if not number or not 0 <= min_gain < 1:
        raise ArgumentError(
            "`min_gain` must be in [0, 1), the fraction of its cost that a layer must save. "
            f"Received: min_gain={min_gain!r}. For 20 % write 0.2."
        )
    for name, value, known in (
        ("measure", measure, tuple(MEASURES)),
        ("allocation", allocation, tuple(allocator_names())),
    ):
        if value not in known:
            raise ArgumentError(
                f"`{name}` must be one of {', '.join(map(repr, known))}. "
                f"Received: {name}={value!r}. If unsure, leave it out."
            )


def _as_rank(value: float, managed: Managed, form: Form) -> int | None:
    """The rank a target value means for a kernel; `None` if it stays as it is."""
    rank = max(round(value), form.min_rank)
    current = managed.kernel.rank
    limit = current if current is not None else form.max_rank
    own_limit = managed.rule.max_rank if managed.rule else None
    if own_limit is not None:
        rank = min(rank, own_limit)
    return None if rank > limit else rank


def _rank_binding(value: float, rank: int) -> str:
    if rank == round(value):
        return "rank"
    return "min_rank" if rank > round(value) else "max_rank"


def _certificate(allocation: Allocation | None) -> dict[str, float] | None:
    if allocation is None:
        return None
    return {"objective": allocation.objective, "bound": allocation.bound, "gap": allocation.gap}


def _ceil(fraction: float) -> str:
    """A fraction rounded up to four digits, so that what is said can be asked for."""
    return f"{np.ceil(fraction * 1e4) / 1e4:.4f}"
