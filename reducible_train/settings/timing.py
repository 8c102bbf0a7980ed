"""When all that changes ranks has ended, and what ends too late for a training to bring it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from reducible_train.errors import ArgumentTypeError
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.aids import Aid
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.checks import as_float
from reducible_train.settings.faults import Fault, Path
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.search import Search

ANNOUNCE = "announce it, by steps_per_epoch of fit or `steps` in the params of a loop of your own"


class Falls(Protocol):
    """What falls by a schedule."""

    @property
    def name(self) -> str: ...

    @property
    def schedule(self) -> Schedule: ...


class HasTarget(Protocol):
    """A rule for single layers, as far as time goes."""

    @property
    def match(self) -> str: ...

    @property
    def target(self) -> Falls | None: ...


class Falling(Protocol):
    """What falls by one schedule, or by several."""

    @property
    def parts(self) -> Sequence[Falls]: ...


class Timed(Protocol):
    """What a user has asked for, as far as time goes."""

    @property
    def target(self) -> Falling | None: ...

    @property
    def rules(self) -> Sequence[HasTarget]: ...

    @property
    def cadence(self) -> Cadence: ...

    @property
    def aids(self) -> Sequence[Aid]: ...

    @property
    def adaptive(self) -> Adaptive | None: ...

    @property
    def search(self) -> Search | None: ...

    @property
    def guard(self) -> object | None: ...


@dataclass(frozen=True)
class End:
    """Something that changes ranks, and the epoch at which it has ended, at the latest.

    Args:
        name: What it is, for messages.
        shown: What came.
        epoch: When it ends.
        argument: Where that is said.
        lost: What a training that is over before would not bring.
    """

    name: str
    shown: str
    epoch: float
    argument: Path
    lost: str = ""


def timing_faults(
    settings: Timed,
    epochs: int | None,
    steps: int | None = None,
    first_epoch: int = 0,
    begin: float | None = None,
) -> list[Fault]:
    """All that a training of so many epochs is over too early for.

    Args:
        settings: What is asked for.
        epochs: Epochs of the training; `None` where nobody knows.
        steps: Steps of an epoch, once they are known: a cadence in steps is judged by them then.
        first_epoch: The epoch that the training begins with.
        begin: When cuts began, if an `Adaptive` has let them.
    """
    if epochs is not None and epochs < 1:
        words = f"`epochs` of the fit must be at least 1. Received: epochs={epochs}."
        return [Fault(("epochs",), words)]
    if steps is not None and epochs is not None:
        return list(_after_the_last_look(settings, epochs, steps, first_epoch, begin))
    return list(_faults(settings, epochs, begin))


def guard_faults(settings: Timed, epochs: int | None, first_epoch: int = 0) -> list[Fault]:
    """What keeps a guard, or its search, from letting any cut be made in a training.

    It must have seen its metric at the end of an epoch before the first cut, and another epoch
    must follow, to judge it.

    Args:
        settings: What is asked for.
        epochs: Epochs of the training; `None` where nobody knows.
        first_epoch: The epoch that the training begins with.
    """
    if settings.guard is None or epochs is None:
        return []
    search = settings.search
    turn = first_turn(settings, epochs, first_epoch)
    if turn <= (epochs - 1 if search is None else search.last_epoch(epochs)):
        return []
    owner = "A guard" if search is None else "A search"
    words = (
        f"{owner} lets no cut be made before an epoch has shown its metric, and another must "
        f"follow to judge it: with {settings.cadence} the first can be made before epoch {turn}, "
        f"counted from 0{f', where initial_epoch={first_epoch}' * bool(first_epoch)}. Received: "
    )
    if search is not None and search.end_epoch is not None:
        words += f"{search}. Let it end at epoch {turn} or later."
        return [Fault(("search", "end_epoch"), words)]
    enough = turn + 1 if search is None else search.least_epochs(turn)
    return [Fault(("guard",), f"{words}epochs={epochs}. Train for epochs={enough} or more.")]


def first_turn(settings: Timed, epochs: int | None, first_epoch: int = 0) -> int:
    """The first epoch, from 0, before which ranks may change, where no `Adaptive` holds them.

    A guard must have seen its metric at the end of another before, and a search begins late.

    Args:
        settings: What is asked for.
        epochs: Epochs of the training; `None` where nobody knows.
        first_epoch: The epoch that the training begins with.
    """
    first = first_epoch if settings.guard is None else first_epoch + 1
    if settings.search is not None:
        first = max(first, settings.search.first_epoch(epochs))
    return first_look(settings, first)


def never_looks(
    settings: Timed, epochs: int | None, first_epoch: int = 0
) -> tuple[str, str] | None:
    """That a training begins between two looks and is over before the next, and what to do.

    Args:
        settings: What is asked for.
        epochs: Epochs of the training; `None` where nobody knows.
        first_epoch: The epoch that the training begins with.
    """
    turn = first_look(settings, first_epoch)
    if epochs is None or settings.cadence.steps or not first_epoch < epochs <= turn:
        return None
    return (
        f"Ranks must be looked at before some epoch of the training: with {settings.cadence} that "
        f"is before epoch {turn} first, counted from 0, where initial_epoch={first_epoch}. "
        f"Received: epochs={epochs}, so that nothing will be cut.",
        f"Train for epochs={turn + 1} or more, or look at them more often, as by "
        "Cadence(epochs=1).",
    )


def first_look(settings: Timed, first_epoch: int) -> int:
    """The first epoch from there on before which ranks are looked at."""
    every = settings.cadence.epochs or 1
    return -(-first_epoch // every) * every


def _faults(settings: Timed, epochs: int | None, begin: float | None) -> Iterator[Fault]:
    if epochs is not None:
        waiting = ((("search",), settings.search), (("cadence", "start"), settings.adaptive))
        for place, waits in waiting:
            fault = None if waits is None else waits.time_fault(epochs)
            if fault is not None:
                yield fault.within(*place)
    last = schedule_end(settings, epochs, begin)
    for aid in settings.aids:
        fault = aid.idle_fault(last, partial(_falls_within, settings, epochs))
        if fault is not None:
            told = fault if isinstance(fault, Fault) else _no_fault(aid, fault)
            yield told.within("aids", aid.kind)
    if epochs is not None:
        yield from _too_late(settings, epochs, ends_of(settings, epochs, begin), last)


def _no_fault(aid: Aid, came: object) -> Fault:
    words = f"`idle_fault` of {type(aid).__name__} must return a Fault, or None for none"
    return Fault((), f"{words}. Received: {came!r}. Return Fault((), {came!r}).", ArgumentTypeError)


def _rests_from(aid: Aid, schedule_end: float) -> float:
    """When an aid has ended."""
    epoch = aid.rests_from(schedule_end)
    if math.isnan(as_float(epoch)):
        raise ArgumentTypeError(
            f"`rests_from` of {type(aid).__name__} must return the epoch from which it leaves "
            f"ranks alone, a number. Received: {epoch!r}. Return 0 if it always does."
        )
    return epoch


def _falls_within(settings: Timed, epochs: int | None, ahead: float) -> bool:
    """True if at the begin of an epoch anything is to fall that will be asked for so much later.

    Also where nobody knows, as a schedule is of values that cannot be.
    """
    every = settings.cadence.epochs or 1
    schedules = [target.schedule for target, *_ in _targets(settings)]
    return any(each.faults() for each in schedules) or any(
        _is_seen_to_fall(each, epochs, ahead, every) for each in schedules
    )


def _is_seen_to_fall(schedule: Schedule, epochs: int | None, ahead: float, every: int) -> bool:
    """The same of one schedule, of ranks that are looked at before every so many epochs.

    By halves, not epoch by epoch: a schedule never turns back, so what has one value at both ends
    of some epochs has it throughout.
    """
    end = schedule.end_epoch
    count = -(-math.ceil(end) // every) * every  # epochs before the look that sees it ended
    count = count if epochs is None else min(count, epochs)
    todo = [(0, -(-count // every))]  # looks, and those after them
    while todo:
        first, last = todo.pop()
        latest = min(last * every, count) - 1  # epoch
        if first == last or schedule(first * every) == schedule(min(latest + ahead, end)):
            continue
        if last - first == 1:
            return True
        middle = (first + last) // 2
        todo += [(middle, last), (first, middle)]
    return False


def _too_late(
    settings: Timed, epochs: int, ends: Sequence[End], schedule_end: float
) -> Iterator[Fault]:
    """What ends after the last cut; not an aid that only ends with a schedule that does."""
    cadence, every = settings.cadence, settings.cadence.epochs or 1
    last = epochs if cadence.steps else (epochs - 1) // every * every
    latest, often = f"at epoch {last:g} at the latest", ""
    if cadence.steps:
        latest = f"before epoch {epochs}"
        often = f" A cut is made every {cadence.steps:,} steps, and one must follow its end."
    for each in ends:
        own = each.argument[0] != "aids" or each.epoch > schedule_end
        enough = math.floor(each.epoch) + every if math.isfinite(each.epoch) else None
        longer = "" if enough is None else f"Train for epochs={enough} or more, or "
        if own and (each.epoch > last or (cadence.steps and each.epoch == last)):
            yield Fault(
                each.argument,
                f"{each.name} must end before training does: {latest}, "
                f"counted from 0, for epochs={epochs} and {cadence}. Received: one that ends at "
                f"epoch {each.epoch:g}, after the last cut of a training of {epochs} "
                f"epoch{'s' * (epochs != 1)}"
                f"{each.lost}: {each.shown}. {longer}let it end earlier.{often}",
            )


def _after_the_last_look(
    settings: Timed, epochs: int, steps: int, first: int, begin: float | None
) -> Iterator[Fault]:
    """The same where turns are counted in steps."""
    every = settings.cadence.steps
    if every is None:
        return
    total = (epochs - first) * steps
    last = first + (total - 1) // every * every / steps
    for each in ends_of(settings, epochs, begin):
        if each.epoch > last + 1e-9:
            yield Fault(
                each.argument,
                f"{each.name} must end when ranks are last looked at: at epoch {last:g} at the "
                f"latest, counted from 0, for epochs={epochs} of {steps} steps and "
                f"{settings.cadence}{_hardly_looks(every, total)}. Received: one that ends at "
                f"epoch {each.epoch:g}, {each.shown}. {_more_looks(each, epochs, steps, every)}",
            )


def unannounced_faults(
    settings: Timed, epochs: int | None, first: int, begin: float | None = None
) -> list[Fault]:
    """All that ends too late for a training of one epoch whose number of steps nobody announces.

    With a cadence in steps: how much of such an epoch is over is known only at its end.

    Args:
        settings: What is asked for.
        epochs: Epochs of the training; `None` where nobody knows.
        first: The epoch that the training begins with.
        begin: When cuts began, if an `Adaptive` has let them.
    """
    if not settings.cadence.steps or epochs is None or first + 1 < epochs:
        return []
    return [
        Fault(
            each.argument,
            f"{each.name} must end at epoch {first} at the latest, counted from 0, for a training "
            f"of one epoch that does not announce its number of steps: with {settings.cadence}, "
            f"ranks are looked at within it as at its begin, for nobody knows how much of it is "
            f"over. Received: one that ends at epoch {each.epoch:g}, {each.shown}. "
            f"{ANNOUNCE.capitalize()}, or train for epochs={math.ceil(each.epoch) + 1} or more.",
        )
        for each in ends_of(settings, epochs, begin)
        if each.epoch > first + 1e-9
    ]


def unannounced_note(settings: Timed, first: int, begin: float | None = None) -> str | None:
    """That what falls within the first epoch falls after it, if its number of steps is not known.

    Not with a guard, which lets no cut be made in the first epoch anyway.

    Args:
        settings: What is asked for, of a cadence in steps.
        first: The epoch that the training begins with.
        begin: When cuts began; `None` while an `Adaptive` holds them.
    """
    held = begin is None and settings.adaptive is not None
    if not settings.cadence.steps or settings.guard is not None or held:
        return None
    start = first - (begin or 0.0)
    end = math.nextafter(start + 1, 0.0)
    late = [name for target, name, _ in _targets(settings) if _moves(target.schedule, start, end)]
    if not late:
        return None
    return (
        f"Nobody has announced how many steps epoch {first} has, so that its begin counts as the "
        f"time of each look within it, with {settings.cadence}: what the schedule of "
        f"{' and '.join(late)} asks for within it is cut at the first look after it. To have it "
        f"cut in time, {ANNOUNCE}."
    )


def _moves(schedule: Schedule, start: float, end: float) -> bool:
    """True for one, which never turns back, that has another value at the end."""
    return schedule(max(start, 0.0)) != schedule(max(end, 0.0))


def _hardly_looks(every: int, total: int) -> str:
    """That a training is over before a second look, if so."""
    if every < total:
        return ""
    return f", which looks once, for all the training has {total:,} steps"


def _more_looks(end: End, epochs: int, steps: int, every: int) -> str:
    """What to do about a last look that comes too early."""
    if every <= steps:
        return "Look at it more often, train for more epochs, or let it end earlier."
    advice = f"Look at it more often, as by Cadence(steps={steps}), once an epoch"
    if end.epoch <= epochs - 1:
        return f"{advice}."
    return f"{advice}, and train for epochs={math.ceil(end.epoch) + 1} or let it end earlier."


def ends_of(settings: Timed, epochs: int | None, begin: float | None = None) -> list[End]:
    """All that changes ranks, with when each has ended, at the latest."""
    last = schedule_end(settings, epochs, begin)
    return [
        *_falls(settings, _begin(settings, epochs, begin)),
        *(
            End(type(aid).__name__, str(aid), _rests_from(aid, last), ("aids", aid.kind))
            for aid in settings.aids
        ),
    ]


def schedule_end(settings: Timed, epochs: int | None, begin: float | None = None) -> float:
    """The epoch at which everything has fallen, at the latest."""
    began = _begin(settings, epochs, begin)
    return max((each.epoch for each in _falls(settings, began)), default=began)


def final_epoch(settings: Timed, epochs: int | None, begin: float | None = None) -> float:
    """First epoch, from 0, that runs at the final ranks if no cut is undone."""
    if settings.search is not None:
        return settings.search.last_epoch(epochs)
    end = max(each.epoch for each in ends_of(settings, epochs, begin))
    every = settings.cadence.epochs or 1
    return math.ceil(end / every) * every if math.isfinite(end) else end


def _targets(settings: Timed) -> list[tuple[Falls, str, Path]]:
    """All that falls, the model's first, with its name and where it is said."""
    found: list[tuple[Falls, str, Path]] = []
    for target in () if settings.target is None else settings.target.parts:
        found.append((target, f"`{target.name}`", tuple(target.name.split("."))))
    for index, rule in enumerate(settings.rules):
        if rule.target is not None:
            place = ("rules", index, rule.target.name)
            found.append((rule.target, f"the rule for {rule.match!r}", place))
    return found


def _falls(settings: Timed, begin: float) -> list[End]:
    """When every schedule has fallen, the model's first."""
    return [
        End(
            f"The schedule of {name}",
            str(target.schedule),
            begin + target.schedule.end_epoch,
            (*place, *target.schedule.end_at),
            ", so that its final value would never be reached",
        )
        for target, name, place in _targets(settings)
    ]


def _begin(settings: Timed, epochs: int | None, begin: float | None) -> float:
    """The epoch from which schedules count, at the latest."""
    if begin is not None or settings.adaptive is None:
        return begin or 0.0
    last = settings.adaptive.last_epoch(epochs)
    return last if epochs is None else min(last, epochs - 1)
