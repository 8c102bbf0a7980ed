"""One model on its way to a target, cut by cut.

`RankScheduler` and `factorize` both drive this; it knows nothing of callbacks. What shall be
cut is decided in `selection`; what was done is kept in a `History`.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from reducible_train import _keras
from reducible_train.compressor.answers import AnswerWatch, NoAnswers, told_together
from reducible_train.compressor.changes import (
    agreed,
    certificate,
    changes_to,
    kernel_cut,
    seconds_of,
)
from reducible_train.compressor.costs import cost_models_of, cost_notes, keep_dense_costs
from reducible_train.compressor.data import check_data, listening_notes
from reducible_train.compressor.growth import grown, room_to_grow
from reducible_train.compressor.history import History
from reducible_train.compressor.outlook import Outlook
from reducible_train.compressor.progress import Progress
from reducible_train.compressor.reporting import report_of, shared_by
from reducible_train.compressor.target_values import (
    TargetValue,
    budgets_at_their_ends,
    on_schedule,
    targets_of,
    values_at,
    values_by_measure,
)
from reducible_train.report.records import Cut, Report
from reducible_train.selection.crowding import crowding_outputs
from reducible_train.selection.decomposition_cache import DecompositionCache
from reducible_train.selection.distribution import check_distribution
from reducible_train.selection.feasibility import (
    check_choices,
    check_finite,
    check_rank,
    check_target,
    check_together,
)
from reducible_train.selection.input_shapes import InputShapes
from reducible_train.selection.judge import NO_DATA, asking_of, judge_for
from reducible_train.selection.lattice import Lattice
from reducible_train.selection.measured import check_kernels, losses_of
from reducible_train.selection.rank_choice import RankSelection
from reducible_train.selection.rank_selection import RankSelector
from reducible_train.selection.samples import Samples
from reducible_train.selection.scoring import DirectionScorer
from reducible_train.selection.survey import Survey, survey
from reducible_train.settings.compression import AUTO
from reducible_train.settings.measures import Measure, checked_measure
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.targets import SharedTargets, Target
from reducible_train.surgery.change import change_kernels, pull_kernels


class Compression:
    """Brings one built model to a target, step by step.

    How far each step goes is told by who takes it: `due`, `cut` and `pull` are given
    `target_value`, which says what a target's value shall be at a time. Left out, it is that of
    the target's schedule; a guard, a search or `Adaptive` gives another.

    Args:
        model: A built Keras model; of a `Distiller`, the student is compressed.
        target: What shall be reached.
        measure: What a budget counts, by name, or a `Measure` with options; of several budgets
            those of all.
        allocation: How a budget is shared among the kernels.
        rules: Rules for single layers.
        criterion: What a lost direction costs; by `"auto"`, the best that samples allow; by
            `"measured"`, that within a kernel, and between kernels what an analysis says.
        analysis: The analysis for that, or its file.
        samples: Data for a criterion that asks for it; may be given later.
        asking: What else must be known of the data, as criteria say it, by who asks.
        trains: True if training goes on after the cuts. Then kernels that it does not reach are
            left, and those that hold only zeros are not judged by them.
        shapes: What may tell lengths that the model leaves open, the best first.
        comes: True if samples will be given later, where they are not there yet.
        without: What to tell where a judge has none, and why there are none.
        state: Of another fit that will be taken up: what it counted with is not measured anew, and
            the kernels that may change are the same.
        answers: What compares the outputs before and after each cut; left out, nothing does.
        cache: Keeps decompositions beyond this compression; left out, its own keeps them until
            training goes on.
        multiple: What ranks are multiples of, where no rule says so.
        min_share: The least that a kernel keeps, as a share of its full rank, likewise.

    Attributes:
        survey: The kernels of the model, and what it costs.
        history: The cuts so far. Kept, it is a bookmark for `go_on_from`.
        samples: The data to learn from; `None` while there is none.
        notes: What the looks at the model have told, for the reader of a report.
        hindrance: Why the last look found no ranks that do what was asked; `None` if it did.
        judge: What says what a lost direction costs.
        own_ranks: The ranks of single kernels, by path, that the target `StableRank` means.
        told: Gives, for a value of one's own, that of the first of several processes.

    Raises:
        ArgumentError: An unknown measure, allocation or criterion, samples that do not fit the
            model, a rule that matches nothing, a budget of FLOPs for a model whose input shapes
            are not known.
        RankError: Nothing to compress, or a budget that no ranks meet.
        SpectrumError: A weight holds NaN or infinity.
    """

    def __init__(
        self,
        model: Any,
        target: Target | SharedTargets,
        *,
        measure: str | Measure | Sequence[Measure] = "parameters",
        allocation: str = AUTO,
        rules: Sequence[LayerRule] = (),
        criterion: str = AUTO,
        analysis: Any = None,
        samples: Samples | None = None,
        asking: Mapping[str, Sequence[str]] | None = None,
        trains: bool = True,
        shapes: Sequence[InputShapes] = (),
        comes: bool = False,
        without: str = NO_DATA,
        state: Mapping[str, Any] | None = None,
        answers: AnswerWatch | None = None,
        cache: DecompositionCache | None = None,
        multiple: int = 1,
        min_share: float = 0.0,
    ):
        check_choices(allocation, criterion)
        measured = losses_of(analysis)
        self.model, self.target, self.samples = model, target, samples
        self.answers = answers or NoAnswers()
        self.notes: tuple[str, ...] = ()
        self.history = History()
        self.hindrance: str | None = None
        self._cache = DecompositionCache() if cache is None else cache
        self._keeps_cache = cache is not None
        self.own_ranks: dict[str, float] = {}
        rows = [measure] if isinstance(measure, str | Measure) else list(measure)
        self._measures = tuple(checked_measure(each) for each in rows)
        self.measure = self._measures[0].name
        self._outlook: Outlook | None = None
        part = _keras.trained_model(model)
        self.told = _keras.broadcaster(part.variables)
        look = partial(
            survey,
            part,
            rules,
            measures=self._measures,
            cost_models=cost_models_of(self._measures, state),
            trains=trains,
            shapes=shapes,
            lattice=Lattice(multiple, min_share),
        )
        taken_in = {} if measured is not None else (state or {}).get("taken_in")
        with _keras.flags_of_fit(model):
            self.survey = _looked_through(look, taken_in, target, self.measure)
        self._judged_by = partial(
            judge_for,
            criterion,
            allocation,
            model=model,
            target=target,
            measured=measured,
            without=without,
        )
        self._comes, self.judge = comes, self._judged_by(kernels=(), samples=None)
        if measured is not None:
            check_kernels(measured, part, {each.path: each for each in self.survey.kernels})
        self._targets = targets_of(self.survey, target)
        apart = _checked(self, rules, trains)
        check_data(model, asking_of(criterion) | dict(asking or {}), samples)
        self._selector_for = partial(
            RankSelector, target=target, measure=self.measure, trains=trains, apart=apart
        )
        if samples is not None or not comes:
            self.learn_from(samples)

    def due(self, time: float, target_value: TargetValue = on_schedule) -> bool:
        """True if there is something to do at `time`, though it may come to nothing.

        Args:
            time: Epochs since the start, fractions allowed.
            target_value: The value that a target shall have at a time.
        """
        values = values_at(self._targets, time, target_value)
        if tuple(values.values()) != self.history.reached:
            return True
        self._outlook = None  # what was foreseen led to nothing
        return False

    def cut(
        self,
        time: float,
        target_value: TargetValue = on_schedule,
        *,
        step: int = 0,
        epoch_step: int = 0,
        training: bool = False,
    ) -> Cut | None:
        """Bring the model to the target at `time`, if it is not there.

        Args:
            time: Epochs since the start, fractions allowed.
            target_value: The value that a target shall have at a time.
            step: Training steps done so far, for the record.
            epoch_step: Those of them that are of the epoch, likewise.
            training: True inside `fit`.

        Returns:
            The record, or `None` if nothing changed.
        """
        values = values_at(self._targets, time, target_value)
        reached = tuple(values.values())
        if reached == self.history.reached:
            return None
        started = clock.perf_counter()
        _keras.sync_state(self.model)
        selection = self._select(values, time, target_value)
        decided = clock.perf_counter()
        before = int(self.survey.total("parameters"))
        record, name = None, self.judge.criterion.name
        kernels = self.told(tuple(kernel_cut(choice, name) for choice in selection.choices))
        if kernels:
            changes = agreed(self.told, changes_to(selection.choices), self.survey.compressible)
            self.answers.before_cut(first=not self.history.cuts)
            change_kernels(self.model, changes, training=training)
            answers = self.answers.after_cut(
                f"the cut of epoch {int(time)}" if training else "the cut"
            )
            keep_dense_costs(self.survey, selection.choices)
            record = Cut(
                epoch=int(time),
                step=step,
                epoch_step=epoch_step,
                quantity=self.target.quantity,
                target=values[self.target.parts[0]],
                budgets=values_by_measure(self.target, values),
                kernels=kernels,
                parameters_before=before,
                parameters=int(self.survey.total("parameters")),
                seconds=seconds_of(started, decided, selection.seconds),
                certificate=certificate(selection.allocation),
                **vars(answers),
            )
        if training and not self._keeps_cache:
            self._cache.clear()  # the next step makes other numbers of them
        history = self.history if record is None else self.history.after(record)
        self.go_on_from(history.looked(reached, selection.remarks))
        return record

    def pull(self, time: float, fraction: float, target_value: TargetValue = on_schedule) -> None:
        """Bring kernels a fraction of the way to what a cut at a later `time` makes of them."""
        if self.waits_for_samples or not self.due(time, target_value):
            return
        _keras.sync_state(self.model)
        values = values_at(self._targets, time, target_value)
        selection = self._select(values, time, target_value)
        changes = agreed(self.told, changes_to(selection.choices), self.survey.compressible)
        pull_kernels(self.model, changes, fraction)
        if not self._keeps_cache:
            self._cache.clear()

    def regrow(self, time: float, fraction: float) -> None:
        """Let factorised kernels grow by a fraction of their rank, until the next cut.

        Once only before each cut, and not while there are no samples.
        """
        if self.history.is_grown or self.samples is None:
            return
        with _keras.flags_of_fit(self.model):
            counts = room_to_grow(self.survey.compressible, fraction)
        if not counts:
            return
        _keras.sync_state(self.model)
        growths = grown(self.model, counts, self.samples)
        changes = agreed(self.told, growths, self.survey.compressible)
        if changes:
            change_kernels(self.model, changes, training=True)
            directions = sum(counts[change.kernel] for change in changes)
            self.history = self.history.grown(time, directions)

    def foreseen_loss(
        self, time: float, value: float, target_value: TargetValue = on_schedule
    ) -> float:
        """What a cut to a budget would lose, as its allocation sees it: its objective.

        Nothing is cut. The look at the data and the decompositions are done once for all budgets
        of a time, and serve the cut that is then made.

        Args:
            time: Epochs since the start, fractions allowed.
            value: The budget.
            target_value: The value that another target, of a rule, shall have at a time.

        Returns:
            The loss on top of what the model has lost; 0 where it meets the budget.
        """
        if self._outlook is None or not self._outlook.holds(time, self.history):
            _keras.sync_state(self.model)
            self._outlook = Outlook(time, self.history, _scorer(self))
        (budget,) = self.target.parts  # a search has one
        values = values_at(self._targets, time, target_value) | {budget: value}
        selector = _selector(self, self._outlook.scorer)
        ends = budgets_at_their_ends(self.target.parts, lambda *_: value)
        found = selector.select(values, ends, time, self.history.kept_by_criterion)
        return 0.0 if found.allocation is None else found.allocation.objective

    def _select(
        self, values: Mapping[Target, float], time: float, target_value: TargetValue
    ) -> RankSelection:
        """What a look at the model as it is decides; what it tells is kept for the report."""
        outlook, self._outlook = self._outlook, None
        if outlook is None or not outlook.holds(time, self.history):
            outlook = Outlook(time, self.history, _scorer(self))
        selector = _selector(self, outlook.scorer)
        ends = budgets_at_their_ends(self._targets, target_value)
        selection = selector.select(values, ends, time, self.history.kept_by_criterion)
        self.hindrance = selection.hindrance
        told = (*self.notes, *selection.notes, *selection.hindrances)
        self.notes = tuple(dict.fromkeys(told))  # each sentence once
        return selection

    # --- what is learned on the way ---------------------------------------------------

    @property
    def waits_for_samples(self) -> bool:
        """True while the criterion asks for data and has none."""
        if self.samples is not None:
            return False
        return self._comes or bool(self.judge.criterion.needs)

    def learn_from(self, samples: Samples | None) -> None:
        """Give the data that the criterion, or who else is `asking`, waits for.

        `None` if there will be none: then it is judged by what there is. Samples of weight 0, or
        with targets that the loss ignores, say nothing of the loss that is trained, so only the
        answers hear of them.
        """
        if samples is not None:
            self.answers.learn_from(samples)
            samples = samples.counting
        self.samples = None if samples is None else samples.heard(self.model)
        self._comes = False
        self.judge = self._judged_by(kernels=self.survey.compressible, samples=samples)
        told = (*listening_notes(self.model, self.judge.criterion), *self.judge.notes)
        self.notes = tuple(dict.fromkeys((*self.notes, *told)))

    def count_uses(self, shapes: InputShapes) -> None:
        """Learn lengths that the model leaves open, for the FLOPs of the report."""
        self.survey = self.survey.counted_anew([shapes])

    # --- what was done ----------------------------------------------------------------

    def go_on_from(self, history: History) -> None:
        """Take up a history, for a model that has the ranks and weights of its end."""
        self.history = history
        self.survey = self.survey.with_cuts(history.cuts)

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs to go on, in plain JSON values."""
        return self.history.get_state() | {
            "notes": list(self.notes),
            "cost_models": {name: m.to_plain() for name, m in self.survey.cost_models.items()},
            "taken_in": dict(self.survey.taken_in),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, for a model that has the ranks and weights of its end."""
        self.notes = tuple(state["notes"])
        self.go_on_from(History.from_state(state))

    @property
    def progress(self) -> Progress:
        """How far the model has come."""
        return Progress(
            self.survey,
            self.target,
            self.measure,
            self.history.reached,
            self.own_ranks,
        )

    @property
    def report(self) -> Report:
        """The model as it is now, and every cut so far."""
        return report_of(
            self.survey,
            self.history,
            notes=told_together(self.notes, self.answers.notes),
            costs=(
                *shared_by(self.judge, self.history.cuts),
                *cost_notes(self.survey, self._measures),
            ),
            answers=self.answers.record(),
        )


def _looked_through(
    look: Callable[..., Survey],
    taken_in: Mapping[str, str] | None,
    target: Target | SharedTargets,
    measure: str,
) -> Survey:
    """A look at a model, with outputs that may change though no rule says so.

    Args:
        look: Takes it, given those.
        taken_in: They, where it is known; else the target decides.
        target: What shall be reached.
        measure: What a budget counts that does not say so itself.
    """
    found = look(taken_in=taken_in)
    if taken_in is None and (crowding := crowding_outputs(found, target, measure)):
        return look(taken_in=crowding)
    return found


def _checked(compression: Compression, rules: Sequence[LayerRule], trains: bool) -> list[Target]:
    """Refuse a model that cannot be brought to the target.

    Returns:
        The budgets that can be asked only of the kernels that may change.
    """
    target, seen = compression.target, compression.survey
    check_distribution(compression.model, seen)
    apart = [
        part
        for part in target.parts
        if check_target(seen, part, rules, compression.measure, compression.report)
    ]
    check_together(seen, target, apart)
    if trains:
        check_rank(seen, target)
    check_finite(seen)
    return apart


def _scorer(compression: Compression) -> DirectionScorer:
    """A look at the model as it is."""
    known = compression
    return DirectionScorer(
        known.model,
        known.survey,
        known.judge.criterion,
        known.samples,
        known._cache,
        once=not known._keeps_cache,
    )


def _selector(compression: Compression, scorer: DirectionScorer) -> RankSelector:
    """What chooses ranks by a look at the model."""
    coming = [each.kernel.path for each in compression.survey.compressible]
    return compression._selector_for(
        survey=compression.survey.with_cuts(compression.history.cuts, coming),
        scorer=scorer,
        allocation=compression.judge.allocation,
        measured=compression.judge.measured,
        least=compression.judge.least,
        own_ranks=compression.own_ranks,
        effective_ranks=compression.history.effective_ranks,
    )
