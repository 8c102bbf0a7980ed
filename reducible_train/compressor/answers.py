"""What cuts do to the answers of one model, measured on the same samples throughout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reducible_train import _keras
from reducible_train.errors import first_sentence
from reducible_train.layers import unpenalized
from reducible_train.report.records import AT_THE_END, Cut
from reducible_train.report.records import Answers as Record
from reducible_train.selection.answers import (
    MOST,
    Answers,
    are_alike,
    is_finite,
    not_finite,
    outputs_of,
    relative_output_errors,
    some_of,
    worst,
)
from reducible_train.selection.judge import NO_DATA as UNJUDGED
from reducible_train.selection.samples import HARDLY, Samples, may_sum
from reducible_train.settings.monitors import ONE_NUMBER

NO_DATA = (
    "What the cut did to the outputs was not measured, for there is no data: calibration=(x, y), "
    "some samples of the training or validation set, tells, and lets a criterion judge by it."
)
NO_START = (
    "How far the outputs are by now from those before the first cut is not told: these are not at "
    "hand, as in a fit that goes on from a backup, which holds none."
)
NEITHER = f"{UNJUDGED} Without it, nothing could be measured of what the cut did to the outputs."


def told_together(judged: Sequence[str], answered: Sequence[str]) -> tuple[str, ...]:
    """Notes of the ranks and of the answers; that both lack data is said once."""
    if UNJUDGED not in judged or NO_DATA not in answered:
        return (*judged, *answered)
    apart = (NEITHER if note == UNJUDGED else note for note in judged)
    return (*apart, *(note for note in answered if note != NO_DATA))


@dataclass(frozen=True, eq=False)
class CutAnswers:
    """What one cut did to the answers, as `Cut` records it."""

    output_error: float | None = None
    output_error_since_start: float | None = None
    metrics_before: Mapping[str, float] = field(default_factory=dict)
    metrics_after: Mapping[str, float] = field(default_factory=dict)


def _no_others() -> None:
    """No other samples."""


class AnswerWatch:
    """Compares the outputs of a model right before each cut with those right after it.

    Outputs are kept, never a model: those right before the first cut, to compare later ones with.
    Nothing of it can make a cut fail: where outputs cannot be had, `notes` say why.

    Args:
        model: A model; of a `Distiller`, its student answers.
        samples: Samples to take some of; `None` if there are none.
        source: Where they come from, in words; without samples, why there are none, a sentence.
        waits: False if samples that come later shall not be taken.
        evaluated: Samples of a batch as the loss shall be told of, if it is another on larger ones.
        otherwise: Gives other samples, after where they come from, for when there are none at the
            first cut, or the model cannot be run on them; `None` if there are no others.

    Attributes:
        notes: Sentences for the reader of a report.
        complaint: That outputs are no better than their mean, right after the last cut or, once
            all is over, at the end of a training that has made nothing better; `None` if they are.
        is_of_training: True if more of that came between the cuts, and after them, than by them.
        unknown: That an output held nothing finite already before a cut, so that nobody knows what
            that did to it; `None` if all did.
        lost: That outputs which were finite before the first cut are so no more once all is over;
            `None` if they are.
    """

    def __init__(
        self,
        model: Any,
        samples: Samples | None,
        source: str,
        *,
        waits: bool = True,
        evaluated: int = _keras.EVALUATED,
        otherwise: Callable[[], tuple[str, Samples] | None] = _no_others,
    ):
        self.notes: tuple[str, ...] = () if samples is not None else (source,)
        self.complaint: str | None = None
        self.is_of_training = False
        self.unknown: str | None = None
        self.lost: str | None = None
        self._model = model
        self._samples = samples
        self._source = source
        self._waits = waits and samples is None
        self._evaluated: int | None = evaluated
        self._otherwise = otherwise
        self._is_judged = True  # by its loss and metrics
        self._is_chosen = False  # some of the samples, for all that follows
        self._start: Answers | None = None  # right before the first cut
        self._before: Answers | None = None  # right before the cut that is being made
        self._is_measured = False
        self._end: Record | None = None

    def learn_from(self, samples: Samples) -> None:
        """Take samples of the training that somebody else has asked for, if there are no others."""
        if self._waits:
            self._waits, self.notes = False, ()
            self._samples, self._source = samples, "the training data"

    def before_cut(self, *, first: bool) -> None:
        """A cut will be made.

        Args:
            first: True if there is none so far.
        """
        self._before = self._now()
        if first:
            self._start = self._before

    def after_cut(self, which: str) -> CutAnswers:
        """It was made; `which` it is, in words."""
        before, self._before = self._before, None
        after = None if before is None else self._now()
        if before is None or after is None:
            return CutAnswers()
        errors = self._errors(before, after)
        self._look_for_unknown(before, errors)
        self._is_measured = True
        self._look_for_start()
        self.complaint = useless(errors)
        if self.complaint is not None:
            self.notes = (*self.notes, f"Right after {which}, {self.complaint}.")
        return CutAnswers(
            output_error=_known(errors),
            output_error_since_start=self._since_start(after),
            metrics_before=before.metrics,
            metrics_after=after.metrics,
        )

    def close(self, cuts: Sequence[Cut]) -> None:
        """Training is over: compare what there is now with what was before the first cut."""
        spoilt, self.complaint = self.complaint, None
        if cuts:  # of this fit, or of one that it goes on with
            _keras.sync_state(self._model)
            now = self._now()
            if now is not None and self._samples is not None:
                self._look_for_start()
                errors = {} if self._start is None else self._errors(self._start, now)
                self._end = self._recorded(_known(errors), now.metrics)
                bad, count = not_finite(now)
                if any(map(math.isinf, errors.values())):
                    self.lost = f"{bad:,} of {count:,} numbers of the outputs were NaN or infinite"
                elif self._is_worse(cuts[0].metrics_before, now.metrics, spoilt is not None):
                    self.complaint = useless(errors)
                    by_cuts = sum(_rise(cut.metrics_before, cut.metrics_after) for cut in cuts)
                    self.is_of_training = by_cuts < _rise(cuts[0].metrics_before, now.metrics) / 2
        if self.complaint is not None:
            self.notes = (*self.notes, f"{AT_THE_END}{self.complaint}.")
        self._start = self._samples = None

    def record(self) -> Record | None:
        """For the report."""
        if self._end is None and self._is_measured and self._samples is not None:
            return self._recorded(None, {})
        return self._end

    def _recorded(self, error: float | None, metrics: Mapping[str, float]) -> Record:
        count = 0 if self._samples is None else len(self._samples)
        return Record(count, self._source, error, dict(metrics))

    def _some(self, samples: Samples) -> Samples:
        """Those that are asked for: of weight 0 too, for Keras divides by the number of all.

        Those alone that weigh something where nobody judges, where the others, such as inputs of
        NaN or targets of no class, cannot be judged, or where they are nearly all.
        """
        found = some_of(self._model, samples, MOST)
        if samples.counting is samples:
            return found
        alone = some_of(self._model, samples.counting, MOST)
        few = len(found.counting) < HARDLY * len(alone)
        return alone if few or not self._can_be_told(found) else found

    def _can_judge(self, samples: Samples) -> bool:
        """True if loss and metrics of samples can be had, as far as anybody knows."""
        has_targets = samples.y is not None or not _keras.compares_with_targets(self._model)
        return self._is_judged and has_targets and _keras.can_be_judged(self._model)

    def _can_be_told(self, samples: Samples) -> bool:
        """True if their loss is a number."""
        if not self._can_judge(samples):
            return False
        try:
            told = self._outputs(samples, judged=True).metrics
        except Exception:  # whatever a loss does with targets of no class
            return False
        return math.isfinite(told.get("loss", math.nan))

    def _asked(self, samples: Samples) -> Answers:
        """The answers, with metrics where these can be had."""
        if self._can_judge(samples):
            try:
                found = self._outputs(samples, judged=True)
                self._tell_of_several()
                return found
            except Exception as error:  # targets of another loss, or what no eager call can have
                self._is_judged = False
                found = self._outputs(samples)
                self.notes = (
                    *self.notes,
                    f"Loss and metrics were not measured on {self._source}, for they cannot be "
                    f"computed there: {first_sentence(error)}",
                )
                return found
        return self._outputs(samples)

    def _outputs(self, samples: Samples, *, judged: bool = False) -> Answers:
        return outputs_of(self._model, samples, judged=judged, evaluated=self._evaluated)

    def _tell_of_several(self) -> None:
        """Say which metrics are no single number, as none is kept of them."""
        notes = (
            f"{name} is {count:,} numbers, so what cuts did to it is not told. {ONE_NUMBER}"
            for name, count in _keras.several_numbers(self._model).items()
        )
        self.notes = tuple(dict.fromkeys((*self.notes, *notes)))

    def _look_for_unknown(self, before: Answers, errors: Mapping[str, float]) -> None:
        """Say which outputs before a cut were no numbers to compare with."""
        bad, count = not_finite(before)
        if not bad:
            return
        numbers = f"{bad:,} of {count:,} numbers of the outputs were NaN or infinite before it"
        note = f"What a cut did to the outputs was measured without some: {numbers}."
        if any(math.isnan(e) and not is_finite(before, name) for name, e in errors.items()):
            self.unknown = numbers
            note = f"What a cut did to the outputs was not measured: {numbers}."
        self.notes = tuple(dict.fromkeys((*self.notes, note)))

    def _look_for_start(self) -> None:
        """Say that there is nothing to compare outputs with since the first cut, if so."""
        if self._start is None:
            self.notes = tuple(dict.fromkeys((*self.notes, NO_START)))

    def _is_worse(
        self, before: Mapping[str, float], now: Mapping[str, float], spoilt: bool
    ) -> bool:
        """True if the loss is known to have risen by more than a tenth: else training has made
        other answers of those of a network that was not trained before. So it has, unless a cut
        had spoilt them, where other metrics are better and none worse: it is only too sure of them.
        """
        risen = _rise(before, now) > 0.1 * abs(before.get("loss", 0.0))
        return risen and (spoilt or not self._has_learnt(before, now))

    def _has_learnt(self, before: Mapping[str, float], now: Mapping[str, float]) -> bool:
        """True if some metric beside losses has become better, and none worse."""
        signs = {"up": 1, "down": -1}
        gains = [
            signs[way] * (now[name] - before[name])
            for name, way in _keras.logged_metrics(self._model).items()
            if way and name in before and name in now and not name.endswith("loss")
        ]
        return bool(gains) and min(gains) >= 0 < max(gains)

    def _since_start(self, now: Answers) -> float | None:
        return None if self._start is None else _known(self._errors(self._start, now))

    def _errors(self, before: Answers, now: Answers) -> dict[str, float]:
        """By name of the output; NaN, with a note, where there was no variance."""
        errors = relative_output_errors(before, now)
        alike = [
            name
            for name, e in errors.items()
            if not math.isnan(e) and are_alike(before, name) and is_finite(now, name)
        ]
        if alike:
            which = "".join(f" '{name}'" for name in alike if name)
            note = (
                f"What cuts do to the outputs{which} cannot be told as a share of their variance: "
                f"they were the same on all samples of {self._source}. Give it several that differ."
            )
            self.notes = tuple(dict.fromkeys((*self.notes, note)))
        return errors | dict.fromkeys(alike, math.nan)

    def _now(self) -> Answers | None:
        """The answers of the model as it is; `None`, with a note, where it gives none."""
        if self._samples is None:
            self._take_others()
        if self._samples is None:
            return None
        try:
            with unpenalized(_keras.trained_model(self._model)):
                if not self._is_chosen:
                    if not may_sum(self._model, self._samples):
                        self._evaluated = None
                    self._samples = self._some(self._samples)
                    self._is_chosen = True
                found = self._asked(self._samples)
                self._otherwise = _no_others  # which could not be compared with these
                return found
        except Exception as error:  # whatever a model or its metrics do with these samples
            if self._take_others():
                return self._now()
            self._samples = self._start = None
            self.notes = (
                *self.notes,
                "What cuts do to the outputs was not measured, for the model cannot be run on "
                f"{self._source}: {first_sentence(error)}",
            )
            return None

    def _take_others(self) -> bool:
        """Take other samples, once; False if there are none."""
        otherwise, self._otherwise = self._otherwise, _no_others
        found = otherwise()
        if found is None:
            return False
        self._source, self._samples = found
        self._is_chosen = self._waits = False
        self._is_judged = True
        self.notes = ()
        return True


class NoAnswers(AnswerWatch):
    """In the place of an `AnswerWatch` where nobody wants to know."""

    def __init__(self) -> None:
        super().__init__(None, None, "", waits=False)
        self.notes = ()


def spoilt_outputs(model: Any, answers: AnswerWatch, remedy: str) -> str:
    """The warning of a training that ends with outputs which are no better than their mean.

    Args:
        model: The model.
        answers: What has watched it; it has a complaint.
        remedy: How to ask for less, in words.
    """
    training = f"The training of model '{model.name}' has"
    if answers.is_of_training:
        return (
            f"{training} spoilt its answers, more than the cuts of its ranks have: at its end, "
            f"{answers.complaint}, and the loss is higher than before them. Lower the learning "
            "rate, or train for fewer epochs."
        )
    return (
        f"{training} not made up for the cuts of its ranks: at its end, {answers.complaint}, and "
        f"the loss is higher than before them. Ask for less{remedy}, or train for longer."
    )


def unknown_outputs(model: Any, unknown: str) -> str:
    """The warning of a cut of which nobody knows what it did to the outputs.

    Args:
        model: The model.
        unknown: As `AnswerWatch` says it.
    """
    return (
        f"Nobody knows what the cut of the ranks of model '{model.name}' did to its answers: "
        f"{unknown}. Look for what makes them so in the samples and the layers, then cut anew."
    )


def useless(errors: Mapping[str, float]) -> str | None:
    """Which outputs are no better than their mean, in words; `None` if all are."""
    lost = {name: error for name, error in errors.items() if error >= 1}
    if not lost:
        return None
    which = ", ".join(f"'{name}'" for name in lost if name)
    error = worst(lost)
    told = "not finite any more" if math.isinf(error) else f"{error:.3g} of their variance"
    return (
        f"the outputs {which} were" if which else "the outputs were"
    ) + f" no better than their mean: their error is {told}"


def _known(errors: Mapping[str, float]) -> float | None:
    found = worst(errors)
    return found if math.isfinite(found) else None


def _rise(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """By how much the loss has risen; minus infinity where that is not known."""
    return now.get("loss", -math.inf) - before.get("loss", math.inf)
