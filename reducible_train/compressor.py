"""One model on its way to a target: how it is cut, and the story so far.

`RankScheduler` and `factorize` both drive this; it knows nothing of callbacks. What shall be
cut is decided in `decisions`.
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from reducible_train import _keras
from reducible_train.linalg.svd import energy, relative_error
from reducible_train.linalg.weighted_svd import WeightedStack
from reducible_train.report.records import Cut, KernelCut, Report, cut_from_dict, cut_to_dict
from reducible_train.selection.allocation import Allocation
from reducible_train.selection.costs import cost_model_kind
from reducible_train.selection.criteria import criterion_named
from reducible_train.selection.distribution import check_distribution
from reducible_train.selection.feasibility import (
    check_choices,
    check_finite,
    check_rank,
    check_target,
    smallest_fraction,
)
from reducible_train.selection.input_shapes import InputShapes
from reducible_train.selection.rank_selection import RankChoice, RankSelector, as_rank
from reducible_train.selection.samples import Samples, check_asking, check_samples
from reducible_train.selection.scoring import DirectionScorer
from reducible_train.selection.survey import CompressibleKernel, MakeCostModel, Survey, survey
from reducible_train.selection.survey_numbers import SurveyNumbers
from reducible_train.settings.measures import Measure, TabulatedMeasure, checked_measure
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.targets import SharedTarget, Target
from reducible_train.surgery.change import KernelChange, change_kernels, cut, pull_kernels
from reducible_train.surgery.growth import grow, whole_gradients

_UNKNOWN = 0.05  # of the parameters, in kinds that are not known: a reader should hear of it


class Compression:
    """Brings one built model to a target, step by step.

    Args:
        model: A built Keras model; of a `Distiller`, the student is compressed.
        target: What shall be reached.
        measure: What a budget counts, by name, or a `Measure` with options.
        allocation: How a budget is shared among the kernels.
        rules: Rules for single layers.
        criterion: What a lost direction costs.
        samples: Data for a criterion that asks for it; may be given later.
        asking: What else must be known of the data, as criteria say it, by who asks.
        trains: True if training goes on after the cuts. Then kernels that it does not reach are
            left, and those that hold only zeros are not judged by them.
        shapes: What may tell lengths that the model leaves open, the best first.
        story: Of another fit that will be taken up: what it counted with is not measured anew.

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
        measure: str | Measure = "parameters",
        allocation: str = "equal_energy",
        rules: Sequence[LayerRule] = (),
        criterion: str = "frobenius",
        samples: Samples | None = None,
        asking: Mapping[str, Sequence[str]] | None = None,
        trains: bool = True,
        shapes: Sequence[InputShapes] = (),
        story: Mapping[str, Any] | None = None,
    ):
        check_choices(allocation, criterion)
        self.model = model
        self.target = target
        self._measure = checked_measure(measure)
        measure = self.measure = self._measure.name
        self.cuts: list[Cut] = []
        self.notes: list[str] = []
        self._remarks: dict[str, str] = {}
        self.aim: Callable[[Target, float], float] = Target.__call__  # the value of a target
        self._kept: dict[str, float] = {}
        self._kept_by_criterion: dict[str, float] = {}
        self._done: tuple[float, ...] | None = None
        self.is_grown = False  # beyond what the target asks for, until the next cut
        self._growths: list[tuple[float, int]] = []  # epoch, directions
        part = _keras.trained_model(model)
        self.told = _keras.teller(part.variables)  # by the first of several processes
        self.survey = survey(
            part,
            rules,
            measure=measure,
            cost_model=self._cost_model(story),
            trains=trains,
            shapes=shapes,
        )
        check_distribution(model, self.survey)
        apart = check_target(self.survey, target, rules, measure, self.report)
        if trains:
            check_rank(self.survey, target)
        check_finite(self.survey)
        known = criterion_named(criterion)
        asking = {f"criterion={criterion!r}": known.needs, **(asking or {})}
        who = check_asking(model, asking, None)
        if samples is not None:
            check_samples(samples, model, who, run=any(asking.values()))
        if known.needs and _keras.has_own_step(model):
            self.notes.append(
                f"criterion={criterion!r} listens to model '{model.name}' called on the inputs of "
                "a batch, its first part, as for predictions; not to what else its own train_step "
                "does."
            )
        self._scorer = DirectionScorer(model, self.survey, known, samples, self.notes)
        self._selector = RankSelector(
            self.survey,
            target,
            self._scorer,
            measure=measure,
            allocation=allocation,
            notes=self.notes,
            remarks=self._remarks,
            trains=trains,
            apart=apart,
        )

    def _cost_model(self, story: Mapping[str, Any] | None) -> MakeCostModel | None:
        """What makes the tables of costs, where the measure has no law."""
        kind = cost_model_kind(self.measure)
        if kind is None:
            return None
        known = (story or {}).get("cost_models", {}).get(self.measure)
        if known is not None:
            return lambda *_: kind.from_plain(known)
        return partial(kind.of, self._measure)

    @property
    def has_samples(self) -> bool:
        """True once there is data."""
        return self._scorer.samples is not None

    @property
    def waits_for_samples(self) -> bool:
        """True while the criterion asks for data and has none."""
        return bool(self._scorer.criterion.needs) and not self.has_samples

    def learn_from(self, samples: Samples) -> None:
        """Give the data that the criterion, or who else is `asking`, waits for."""
        self._scorer.samples = samples

    @property
    def counts_uses(self) -> bool:
        """True if FLOPs are known, whatever a budget counts."""
        return self.survey.uses is not None

    @property
    def counted_shape(self) -> Any:
        """The input shape that uses are counted for, as `input_shape` takes it, and its source;
        `None` where the model itself tells it, or nothing does.
        """
        counted = self.survey.counted
        return None if counted is None else [counted.plain, counted.source]

    def count_uses(self, shapes: InputShapes) -> None:
        """Learn lengths that the model leaves open, for the FLOPs of the report."""
        self.survey = self.survey.counted_anew([shapes])

    @property
    def smallest_fraction(self) -> float:
        """The least of the dense model's cost that its kernels and rules allow."""
        return smallest_fraction(self.survey, self.measure)

    # --- cutting ----------------------------------------------------------------------

    def due(self, time: float) -> bool:
        """True if there is something to do at `time`, though it may come to nothing."""
        return self._values(time) != self._done

    def present(self, goal: Target) -> float:
        """The value of a target that the model meets as it is."""
        return goal.present(SurveyNumbers(self.survey, self.measure, self._selector.own_ranks))

    def adapt(self, ranks: Mapping[str, float]) -> None:
        """Learn the ranks of single kernels, by path, that the target `StableRank` means."""
        self._selector.own_ranks = ranks

    def bookmark(self) -> Callable[[], None]:
        """Remember the story so far; the answer puts it back, for a model that was put back."""
        cuts, done = len(self.cuts), self._done
        kept, by_criterion = dict(self._kept), dict(self._kept_by_criterion)

        def back() -> None:
            del self.cuts[cuts:]
            self._count_cuts()
            self._done, self._kept, self._kept_by_criterion = done, kept, by_criterion

        return back

    def get_state(self) -> dict[str, Any]:
        """The story so far in plain JSON values, for `set_state`."""
        return {
            "cuts": [cut_to_dict(each, spectra=True) for each in self.cuts],
            "notes": list(self.notes),
            "kept": dict(self._kept),
            "kept_by_criterion": dict(self._kept_by_criterion),
            "done": None if self._done is None else list(self._done),
            "cost_models": {name: m.to_plain() for name, m in self.survey.cost_models.items()},
        }

    def set_state(self, story: Mapping[str, Any]) -> None:
        """Go on from a story, for a model that has the ranks and weights of its end."""
        self.cuts = [cut_from_dict(each) for each in story["cuts"]]
        self._count_cuts()
        self.notes[:] = story["notes"]  # others write into the same list
        self._kept = dict(story["kept"])
        self._kept_by_criterion = dict(story["kept_by_criterion"])
        self._done = None if story["done"] is None else tuple(story["done"])

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
        _keras.sync_state(self.model)
        decisions, allocation = self._decide(time)
        decided = clock.perf_counter()
        before = int(self.survey.total("parameters"))
        record = None
        kernels = self.told(tuple(self._kernel_cut(decision) for decision in decisions))
        if kernels:
            change_kernels(self.model, self._agreed(self._changes(decisions)), training=training)
            self._keep_dense_sizes(decisions)
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
                parameters=int(self.survey.total("parameters")),
                seconds={
                    "spectra": self._scorer.seconds,
                    "allocation": decided - started - self._scorer.seconds,
                    "surgery": clock.perf_counter() - decided,
                },
                certificate=_certificate(allocation),
            )
            self.cuts.append(record)
            self._count_cuts()
        self._done, self.is_grown = wanted, False
        return record

    def pull(self, time: float, fraction: float) -> None:
        """Bring kernels a fraction of the way to what a cut at a later `time` makes of them."""
        if self.waits_for_samples or not self.due(time):
            return
        _keras.sync_state(self.model)
        remarks = dict(self._remarks)  # of what is, not of what will be
        decisions, _ = self._decide(time)
        self._remarks.update(remarks)
        pull_kernels(self.model, self._agreed(self._changes(decisions)), fraction)

    def regrow(self, time: float, fraction: float) -> None:
        """Let factorised kernels grow by a fraction of their rank, until the next cut.

        Once only before each cut, and not while there are no samples.
        """
        samples = self._scorer.samples
        if self.is_grown or samples is None:
            return
        counts = {
            m.kernel: count for m in self.survey.compressible if (count := _more(m, fraction))
        }
        if not counts:
            return
        _keras.sync_state(self.model)
        gradients = whole_gradients(self.model, list(counts), samples)
        found = [grow(k, gradients[k.path], n) for k, n in counts.items() if k.path in gradients]
        changes = self._agreed([change for change in found if change is not None])
        if changes:
            change_kernels(self.model, changes, training=True)
            self.is_grown, self._done = True, None
            self._growths.append((time, sum(counts[change.kernel] for change in changes)))

    @property
    def targets(self) -> tuple[Target, ...]:
        """The target of the model, and those of rules for single layers."""
        own = (m.rule.target for m in self.survey.compressible if m.rule)
        return (self.target, *(target for target in own if target is not None))

    def _values(self, time: float) -> tuple[float, ...]:
        return tuple(self.aim(goal, time) for goal in self.targets)

    def _decide(self, time: float) -> tuple[list[RankChoice], Allocation | None]:
        self._count_cuts([each.kernel.path for each in self.survey.compressible])
        try:
            return self._selector.decide(
                lambda goal: self.aim(goal, time), time, self._kept_by_criterion
            )
        finally:
            self._count_cuts()

    def _changes(self, decisions: Sequence[RankChoice]) -> list[KernelChange]:
        return [
            cut(
                d.compressible.kernel,
                d.rank,
                d.parts,
                d.factorization.split,
                self._scorer.means(d.compressible, d.factorization),
            )
            for d in decisions
        ]

    def _agreed(self, changes: Sequence[KernelChange]) -> list[KernelChange]:
        """The changes of the first process, one after the other, for they may be large."""
        kernels = {m.kernel.path: m.kernel for m in self.survey.compressible}
        own = {change.kernel.path: change for change in changes}
        agreed = []
        for path in self.told(list(own)):
            told: Any = self.told(own[path].alone() if path in own else None)
            agreed.append(replace(told, kernel=kernels[path]))
        return agreed

    def _kernel_cut(self, decision: RankChoice) -> KernelCut:
        kernel, parts, rank = decision.compressible.kernel, decision.parts, decision.rank
        if isinstance(parts, WeightedStack):
            name = self._scorer.criterion.name
            kept, lost = parts.energy(rank), parts.relative_error(rank)
        else:
            name = "frobenius"
            kept, lost = energy(parts.values, rank), relative_error(parts.values, rank)
        return KernelCut(
            path=kernel.path,
            shape=decision.factorization.shape,
            rank_before=kernel.rank,
            rank=rank,
            energy=kept,
            relative_error=lost,
            binding=decision.binding,
            spectrum=np.asarray(parts.values),
            criterion=name,
        )

    # --- what was reached -------------------------------------------------------------

    def unmet(self) -> Target | None:
        """The first of its targets that the model has not been brought to, if there is one."""
        return next((goal for goal in self.targets if not self._is_met(goal)), None)

    def left_at(self, goal: Target) -> float:
        """The value of a target that the last cut, or look, has left the model at."""
        last = self._looked_at(goal)
        if goal.foreseeable or last is None:
            return self.present(goal)
        return last

    @property
    def hindrance(self) -> str | None:
        """Why the last look found no ranks that do what was asked; `None` if it did."""
        return self._selector.hindrance

    def _is_met(self, goal: Target) -> bool:
        wanted = goal(math.inf)
        if wanted == goal.idle:
            return True
        if isinstance(goal, SharedTarget):
            return self.present(goal) <= wanted * (1 + 1e-9)
        mine = [
            m
            for m in self.survey.compressible
            if (self.target if m.rule is None else m.rule.target or self.target) == goal
        ]
        if goal == self.target and mine and all(m.kernel.rank is None for m in mine):
            return False
        if goal.foreseeable:
            return all(as_rank(wanted, m, m.factorization) in (None, m.kernel.rank) for m in mine)
        return self._looked_at(goal) == wanted

    def _looked_at(self, goal: Target) -> float | None:
        """The value of a target at the last look."""
        if self._done is None:
            return None
        return next(v for t, v in zip(self.targets, self._done, strict=True) if t == goal)

    # --- the story --------------------------------------------------------------------

    @property
    def report(self) -> Report:
        """The model as it is now, and every cut so far."""
        found: Survey = self.survey
        traced = bool(found.uses)
        return Report(
            dense_parameters=int(found.dense_total("parameters")),
            parameters=int(found.total("parameters")),
            dense_bytes=int(found.dense_total("bytes")),
            bytes=int(found.total("bytes")),
            dense_flops=int(found.dense_total("flops")) if traced else None,
            flops=int(found.total("flops")) if traced else None,
            kernels=found.records(self._kept, self._remarks),
            cuts=tuple(self.cuts),
            notes=(*self.notes, *found.notes, *self._unknown(), *self._growth(), *self._costs()),
            flops_at=None if found.counted is None else str(found.counted),
        )

    def _unknown(self) -> Iterator[str]:
        """What share of the model is in layers of no known kind, where it is a large one."""
        total = self.survey.dense_total("parameters")
        paths, held = self.survey.unknown
        if held >= _UNKNOWN * total:
            yield (
                f"Layers of kinds that have no low-rank form hold {100 * held / total:.0f} % of "
                f"the parameters, and stay as they are: {', '.join(paths)}."
            )

    def _growth(self) -> Iterator[str]:
        """When kernels grew, and by how much."""
        if self._growths:
            epochs = ", ".join(f"{epoch:g}" for epoch, _ in self._growths)
            added = sum(count for _, count in self._growths)
            yield (
                f"Kernels grew along the gradient of the loss before epoch {epochs}, each time "
                f"until the next cut, by {added} directions in all."
            )

    def _keep_dense_sizes(self, decisions: Sequence[RankChoice]) -> None:
        """Let what has factors now remember what only the dense kernel tells, for later fits."""
        for name, costs in self.survey.cost_models.items():
            for each in decisions:
                dense = each.factorization.dense_cost(name)
                costs.keep_dense_cost(each.compressible.kernel, dense)

    def _count_cuts(self, coming: Sequence[str] = ()) -> None:
        """Let the model pay for the records of its cuts, and of a coming one of some kernels."""
        for costs in self.survey.cost_models.values():
            costs.count_cuts(self.cuts, coming)

    def _costs(self) -> Iterator[str]:
        """What the model costs by a measure that the report has no figures of."""
        measure = self._measure
        if not isinstance(measure, TabulatedMeasure):
            return
        words = measure.words(
            self.survey.dense_total(measure.name), self.survey.total(measure.name)
        )
        counted = self.survey.counted if measure.needs_shapes else None
        at = "" if counted is None else f"It is that at {counted}."
        remark = self.survey.cost_models[measure.name].remark
        yield " ".join(filter(None, (words, at, remark)))


def _more(compressible: CompressibleKernel, fraction: float) -> int:
    """By how many directions a kernel may grow; 0 while it is dense, or if it is not trained."""
    kernel = compressible.kernel
    rank = kernel.rank
    if rank is None or not all(variable.trainable for variable in kernel.variables):
        return 0
    return max(0, min(max(1, round(fraction * rank)), compressible.factorization.growth - rank))


def _certificate(allocation: Allocation | None) -> dict[str, float] | None:
    if allocation is None:
        return None
    return {"objective": allocation.objective, "bound": allocation.bound, "gap": allocation.gap}
