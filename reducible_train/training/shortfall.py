"""What a training was asked for and did not bring, and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from reducible_train.compressor import Compression
from reducible_train.errors import either
from reducible_train.report.records import UNREACHED
from reducible_train.settings.judged import validated_always
from reducible_train.settings.targets import SharedTarget, SharedTargets, Target
from reducible_train.settings.timing import ANNOUNCE
from reducible_train.training.guard_run import GuardRun
from reducible_train.training.lost_weights import NAN_REMEDY
from reducible_train.training.target_controllers import TargetController
from reducible_train.training.unguarded import Unguarded


@dataclass(frozen=True)
class Shortfall:
    """A target that the end of a training found unmet.

    Its `str` is the sentence that `fit` warns with, and that the report holds.

    Args:
        asked: The target, in words, such as `"budget=0.25"`.
        reached: The value it was left at; `None` if nothing was cut, or it was never looked at.
        reason: Why, in a sentence.
        remedy: What to do, in a sentence.
        held_back: True if a guard or a search kept the ranks up, as it was asked to.

    Example:
        >>> print(Shortfall("budget=0.25", 1.0, "No step was trained.", "Train for longer."))
        RankScheduler did not reach budget=0.25 (it is 1 at the end). No step was trained. \
Train for longer.
    """

    asked: str
    reached: float | None
    reason: str
    remedy: str
    held_back: bool = False

    def __str__(self) -> str:
        left = "nothing was cut" if self.reached is None else f"it is {self.reached:.4g} at the end"
        return f"{UNREACHED}{self.asked} ({left}). {self.reason} {self.remedy}"


@dataclass(frozen=True)
class FitOutcome:
    """How a training went, as far as a shortfall asks.

    Args:
        epochs: The epochs it should have had, counted from 0; `None` if nobody said.
        trained: The epoch after the last that was trained.
        steps: Steps that were trained.
        looked: The last time, in epochs, at which ranks were looked at; `None` if never.
        schedule_end: When everything that falls should have fallen, in epochs.
        cadence: When ranks are looked at, in words.
        loss: The loss of the last epoch; `None` if it is not known.
        compression: The model on its way; `None` if it never had weights.
        guard: The guard on duty, or what stands in its place.
        controller: What has said how far each cut goes; `None` if there was nothing to cut.
        samples: Samples that were seen of the fit, and how many were wanted.
        criterion: Name of the criterion.
        searching: True if a search chooses the budget.
        waiting: True if a cut was only waiting for a step to be made before.
        untimed: True if the last look was within an epoch of which nobody knew how long it is.
        falls: True if anything falls by a schedule that ends after it begins.
        foreseen: What to do about what was foreseen before the training; `None` if nothing was.
    """

    epochs: int | None
    trained: int
    steps: int
    looked: float | None
    schedule_end: float
    cadence: str
    loss: float | None
    compression: Compression | None
    guard: GuardRun | Unguarded | None
    controller: TargetController | None
    samples: tuple[int, int]
    criterion: str
    searching: bool
    waiting: bool
    untimed: bool
    falls: bool = False
    foreseen: str | None = None

    @property
    def is_through(self) -> bool:
        """True if ranks were looked at after everything should have fallen."""
        return self._looked_after(self.schedule_end)

    @property
    def is_delayed(self) -> bool:
        """True if a schedule has not come to its end, as its clock stood still."""
        delay = 0.0 if self.controller is None else self.controller.delay
        return delay > 0 and not self._looked_after(self.schedule_end + delay)

    def _looked_after(self, epoch: float) -> bool:
        return self.looked is not None and self.looked >= epoch - 1e-9


Reason = tuple[str, str, bool]  # why, what to do, and whether a guard or a search wanted it so


def shortfall_of(outcome: FitOutcome, target: Target | SharedTargets) -> Shortfall | None:
    """What a training did not bring; `None` if it brought everything.

    Args:
        outcome: How it went.
        target: What the model should be brought to.
    """
    compression = outcome.compression
    if compression is None:
        return Shortfall(_words(target), None, *_first(outcome))
    if outcome.searching:
        (budget,) = target.parts
        present, lowest = compression.progress.present(budget), budget(math.inf)
        if compression.history.cuts or (lowest < 1 and present <= lowest):
            return None
        return Shortfall("a smaller budget by its search", present, *_first(outcome))
    unmet = compression.progress.unmet()
    if unmet is None:
        return None
    untouched = not compression.history.cuts and not isinstance(unmet, SharedTarget)
    reached = None if untouched else compression.progress.left_at(unmet)
    asked, rules = _words(unmet), compression.progress.rules_of(unmet)
    if rules:
        asked += f" of the rule{'s' * (len(rules) > 1)} for {' and '.join(map(repr, rules))}"
    return Shortfall(asked, reached, *_first(outcome))


def _words(target: Target | SharedTargets) -> str:
    return " and ".join(f"{part.name}={part(math.inf):g}" for part in target.parts)


def _first(outcome: FitOutcome) -> Reason:
    """The first reason that applies; what keeps others from showing comes first."""
    return next(found for reason in _REASONS if (found := reason(outcome)) is not None)


def _untrained(outcome: FitOutcome) -> Reason | None:
    if outcome.steps:
        return None
    why = "No step was trained, and a cut is made before one."
    return why, "Check that the data is not empty, and that initial_epoch is below epochs.", False


def _without_weights(outcome: FitOutcome) -> Reason | None:
    if outcome.compression is not None:
        return None
    why = f"The model had no weights after {outcome.steps} steps, so there was nothing to cut."
    return why, "Give fit the model whose layers are trained.", False


def _without_samples(outcome: FitOutcome) -> Reason | None:
    if outcome.compression is None or not outcome.compression.waits_for_samples:
        return None
    seen, wanted = outcome.samples
    why = f"criterion={outcome.criterion!r} waited for {wanted} samples of the fit, of a "
    why += f"weight above 0, and {seen} came before its end."
    return why, "Give it data (calibration=x_train[:2048]), or weights that count.", False


def _lost(outcome: FitOutcome) -> Reason | None:
    """The guard has stopped it, for its weights were NaN."""
    if outcome.guard is None or outcome.guard.end is None:
        return None
    return outcome.guard.end, NAN_REMEDY, False


def _stopped(outcome: FitOutcome) -> Reason | None:
    if outcome.epochs is None or outcome.trained >= outcome.epochs or outcome.is_through:
        return None
    loss, why = outcome.loss, f"Training ended after {outcome.trained} of {outcome.epochs} "
    if loss is not None and not math.isfinite(loss):
        why += f"epochs, with a loss of {loss}, before the ranks had fallen."
        return why, NAN_REMEDY, False
    why += "epochs, before the ranks had fallen"
    why += f" (at epoch {outcome.schedule_end:g})." if math.isfinite(outcome.schedule_end) else "."
    remedy = "Use RankEarlyStopping, which waits for the final ranks, or let them fall earlier."
    return why, remedy, False


def _guarded(outcome: FitOutcome) -> Reason | None:
    if outcome.guard is None or not outcome.guard.is_on_duty:
        return None
    held = outcome.guard.hindrance
    if held is None and outcome.is_delayed:
        held = outcome.guard.delay
    if held is None:
        return None
    if outcome.foreseen is not None and outcome.guard.is_unvalidated_only:
        return held.why, outcome.foreseen, True
    rarity = outcome.guard.rarity if held.takes_time else None
    ways = list(held.remedies)
    if held.takes_time and outcome.falls:
        ways.insert(0, "let the schedule end earlier")
    if held.takes_time and (rarity is None or rarity.recurs):
        ways.insert(0, "train for longer")
    return held.why, either(ways, None if rarity is None else validated_always(rarity)), True


def _unsettled(outcome: FitOutcome) -> Reason | None:
    if outcome.controller is None or outcome.controller.began is not None:
        return None
    if outcome.looked is None:  # it was never asked
        return None
    return str(outcome.controller.note), "Give Adaptive an earlier end_epoch.", False


def _hindered(outcome: FitOutcome) -> Reason | None:
    """No ranks were found that do what was asked."""
    if (
        outcome.compression is None
        or outcome.compression.hindrance is None
        or not outcome.is_through
    ):
        return None
    remedy = "Ask for what these kernels and rules allow: the report tells of each."
    return outcome.compression.hindrance, remedy, False


def _between_looks(outcome: FitOutcome) -> Reason | None:
    if outcome.is_through:
        return None
    looked = "never" if outcome.looked is None else f"last at epoch {outcome.looked:g}"
    why = f"Ranks were looked at {looked}, with {outcome.cadence}"
    if outcome.untimed:
        why += ", for its begin counts as the time of each look within an epoch whose number of "
        why += "steps nobody has announced"
    why += f", and should have fallen by epoch {outcome.schedule_end:g}."
    if outcome.looked is None and outcome.foreseen is not None:
        return why, outcome.foreseen, False
    if outcome.untimed:
        return why, f"{ANNOUNCE.capitalize()}, or train for longer.", False
    return why, "Look at them more often, train for longer, or let the schedule end earlier.", False


def _untried(outcome: FitOutcome) -> Reason | None:
    if not outcome.searching:
        return None
    why = "Ranks were not looked at while the search could try a cut."
    return why, "Let it begin earlier or end later, or give Cadence(epochs=1).", False


def _built_last(outcome: FitOutcome) -> Reason | None:
    if not outcome.waiting:
        return None
    why = "The model got its weights in the first step of the fit, and no step came after it."
    return why, "Call the model once on data before fit, or train for longer.", False


def _unknown(outcome: FitOutcome) -> Reason | None:
    remedy = "Ask for a little less, or let more layers be factorised."
    return "The cuts that were made leave the model larger than that.", remedy, False


_REASONS: tuple[Callable[[FitOutcome], Reason | None], ...] = (
    _untrained,
    _without_weights,
    _without_samples,
    _lost,
    _stopped,
    _guarded,
    _unsettled,
    _hindered,
    _between_looks,
    _built_last,
    _untried,
    _unknown,
)
