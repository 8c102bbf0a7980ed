"""What a search over many trainings may choose from, as one frozen value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.base import Settings, together
from reducible_train.settings.checks import (
    FRACTION,
    POSITIVE,
    SHARE,
    Range,
    is_number,
    plain,
)
from reducible_train.settings.faults import Fault, Path, argument_text
from reducible_train.settings.fields import (
    Choice,
    Count,
    Kind,
    Number,
    Text,
    fields_of,
    kind_of,
    option,
)
from reducible_train.settings.measures import measure_kinds
from reducible_train.settings.schedules.ramp import SHAPES

Values = tuple[float, ...] | tuple[str, ...]
_ROUNDING = 1e-7  # of an end of a range that came in single precision
_LEAST = 1e-9  # of a range on a logarithmic scale, beside which 0 has no place


@dataclass(frozen=True)
class Domain:
    """One thing that a search chooses, whatever engine it is that chooses.

    Args:
        name: What it is called in every engine, in tables and in logs.
        values: The two ends of a range, or all that may be chosen; of one that is settled, itself.
        is_range: True if all between the two ends may be chosen.
        log: True if equal steps are equal ratios.
        whole: True if only whole numbers are meant.
    """

    name: str
    values: Values
    is_range: bool = False
    log: bool = False
    whole: bool = False

    @property
    def is_searched(self) -> bool:
        """False for what is settled beforehand."""
        return len(self.values) > 1


class _OneOrSeveral(Kind, ABC):
    """One value, or a list of them to choose from; each is read by itself, then all together."""

    @property
    @abstractmethod
    def _single(self) -> Kind:
        """Of what kind each is."""

    def read(self, path: Path, value: Any, owner: str, found: list[Fault]) -> Any:
        if not isinstance(value, list | tuple):
            return self._single.read(path, value, owner, found)
        before = len(found)
        kept = tuple(
            self._single.read((*path, i), each, owner, found) for i, each in enumerate(value)
        )
        return kept if len(found) > before else super().read(path, kept, owner, found)


@dataclass(frozen=True)
class Sweep(_OneOrSeveral):
    """A number, the two ends of a range, or three and more numbers to choose from.

    Args:
        within: The range that each must lie in.
        log: True if equal steps are equal ratios.
        whole: True for whole numbers, at least 1.
    """

    within: Range = POSITIVE
    log: bool = False
    whole: bool = False

    def checked(self, name: str, value: Any, owner: str) -> Any:
        """Several numbers, each of them good by itself."""
        found: tuple[float, ...] = value
        if not found:
            raise ArgumentError(
                f"`{name}` of {owner} must leave something to choose. Received: {name}=[]. "
                "Give a number, the two ends of a range, or three and more numbers."
            )
        if len(found) == 2 and found[0] >= found[1]:
            raise ArgumentError(
                f"`{name}` of {owner} must be a range from a smaller to a larger number. Received: "
                f"{name}={found!r}, which is empty. Exchange its ends, or give one number alone."
            )
        if len(set(found)) < len(found):
            raise ArgumentError(
                f"`{name}` of {owner} must not name a value twice. Received: {name}={found!r}. "
                "Remove one."
            )
        return found[0] if len(found) == 1 else found

    @property
    def _single(self) -> Kind:
        return Count() if self.whole else Number(self.within)

    def domain(self, name: str, kept: Any) -> Domain:
        """What is chosen, of a value as it is kept."""
        values = kept if isinstance(kept, tuple) else (kept,)
        is_range = len(values) == 2
        log = self.log and is_range and min(values) > _LEAST
        return Domain(name, values, is_range=is_range, log=log, whole=self.whole)


@dataclass(frozen=True)
class Words(_OneOrSeveral):
    """A word, or some to choose from.

    Args:
        options: All there are; left out, a higher room knows and checks them.
        of: What they are names of, where a higher room knows.
    """

    options: tuple[str, ...] = ()
    of: str = ""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        """Several words, each of them good by itself."""
        if not value or len(set(value)) < len(value):
            raise ArgumentError(
                f"`{name}` of {owner} must name what to choose from, each once. Received: "
                f"{name}={list(value)!r}. Write one word, or several in a list."
            )
        return value[0] if len(value) == 1 else value

    @property
    def _single(self) -> Kind:
        return Choice(self.options) if self.options else Text("a word", "'auto'")

    def domain(self, name: str, kept: Any) -> Domain:
        """What is chosen, of a value as it is kept."""
        return Domain(name, kept if isinstance(kept, tuple) else (kept,))


@dataclass(frozen=True)
class Each(Kind):
    """The same for several things, by the name of each.

    Args:
        of: What each is.
        what: What the names are of.
        alone: True if one for the whole model will do as well.
        names: Tells all there are; left out, any text.
    """

    of: Sweep
    what: str
    alone: bool = False
    names: Callable[[], Collection[str]] = tuple

    def read(self, path: Path, value: Any, owner: str, found: list[Fault]) -> Any:
        if not isinstance(value, Mapping):
            if self.alone:
                return self.of.read(path, value, owner, found)
            return super().read(path, value, owner, found)
        if not value:
            return super().read(path, value, owner, found)
        name, kept, known = argument_text(path), {}, tuple(self.names())
        for key, each in value.items():
            if isinstance(key, str) and key and (not known or key in known):
                kept[key] = self.of.read((*path, key), each, owner, found)
                continue
            one_of = f", one of {', '.join(map(repr, known))}" if known else ""
            message = f"A key of `{name}` of {owner} must be a {self.what}{one_of}. Received: "
            found.append(Fault((*path, str(key)), f"{message}{key!r}. Correct it or remove it."))
        if known:  # the same space, in whatever order they were written
            return {each: kept[each] for each in known if each in kept}
        return kept

    def checked(self, name: str, value: Any, owner: str) -> Any:
        """What is no mapping, or an empty one."""
        if isinstance(value, Mapping):
            raise ArgumentError(
                f"`{name}` of {owner} must leave something to choose. Received: {name}={{}}. Name "
                f"a {self.what}, or leave it out."
            )
        raise ArgumentTypeError(
            f"`{name}` of {owner} must be a mapping by {self.what}. Received: "
            f"{name}={value!r}. Write for example {name}={{'hidden_*': (4, 32)}}."
        )

    def domains(self, name: str, kept: Any) -> Iterator[Domain]:
        """What is chosen, of a value as it is kept."""
        if not isinstance(kept, Mapping):
            yield self.of.domain(name, kept)
            return
        for key, each in kept.items():
            yield self.of.domain(f"{name}/{key}", each)


_BUDGET = Each(Sweep(FRACTION, log=True), "measure", alone=True, names=measure_kinds)
_SEARCHED = (
    "budget",
    "start",
    "ramp",
    "shape",
    "allocation",
    "criterion",
    "learning_rate",
    "multiple",
    "min_rank",
)
_FLOORS = Each(Sweep(whole=True, log=True), "pattern on layer names")


@dataclass(frozen=True)
class SearchSpace(
    Settings,
    owner="a search space",
    help="What a search over many trainings may choose from; what is one value is settled.",
):
    """What a search over many trainings may choose from.

    Of a number: one value settles it, two are the ends of a range, three and more are what is
    chosen from. Times are fractions of the length of a trial, so that they mean the same in the
    short trials of `Hyperband` as in long ones.

    Raises:
        ArgumentError: A range is empty, a value out of its range, or nothing is left to choose.
        ArgumentTypeError: A value of the wrong type.

    Example:
        >>> space = SearchSpace(budget=(0.05, 0.5), allocation=("knapsack", "equal_energy"))
        >>> [each.name for each in space.domains if each.is_searched]
        ['budget', 'allocation']
    """

    budget: Any = option(
        _BUDGET,
        (0.05, 0.5),
        help="Fraction of the whole dense model that it may cost in the end, in (0, 1]. A mapping "
        "by measure asks for several at once: {'parameters': [0.05, 0.5], 'flops': 0.6}.",
    )
    start: Any = option(
        Sweep(SHARE),
        0.0,
        help="When ranks begin to fall, as a fraction of the trial's epochs, in [0, 1).",
    )
    ramp: Any = option(
        Sweep(SHARE),
        0.0,
        help="How long they fall, as a fraction of the trial's epochs, in [0, 1); 0 is one cut. "
        "Each trial has at least its last epoch at the final ranks.",
    )
    shape: Any = option(Words(SHAPES), "cubic", help="How a ramp falls.")
    allocation: Any = option(
        Words(of="allocation"), "auto", help="How a budget is shared among the kernels."
    )
    criterion: Any = option(Words(of="criterion"), "auto", help="What a lost direction costs.")
    learning_rate: Any = option(
        Sweep(log=True),
        None,
        help="Learning rate of the fine-tuning. Left out: as the model was compiled.",
    )
    multiple: Any = option(
        Sweep(whole=True),
        None,
        help="What every rank is a multiple of. Left out: any rank.",
    )
    min_rank: Any = option(
        _FLOORS, None, help="Smallest rank, by glob on layer paths or names: {'hidden_*': [4, 32]}."
    )

    @together("start", "ramp")
    def _leaves_time(self) -> Fault | None:
        last = max(_ends(self.start)) + max(_ends(self.ramp))
        if last < 1:
            return None
        return Fault(
            ("ramp",),
            "`start` and `ramp` of a search space must leave time at the final ranks: their sum "
            f"below 1, where both are largest. Received: start={self.start!r}, ramp={self.ramp!r}, "
            f"{last:g} in all. Let ranks fall earlier.",
        )

    @together(*_SEARCHED)
    def _leaves_a_choice(self) -> Fault | None:
        if any(each.is_searched for each in self.domains):
            return None
        return Fault(
            (),
            "A search space must leave something to choose. Received: one value for each option. "
            "Give a range for one, such as budget=(0.05, 0.5).",
        )

    @property
    def domains(self) -> tuple[Domain, ...]:
        """All that a trial is told, in order, also what is settled."""
        return tuple(self._domains())

    def _domains(self) -> Iterator[Domain]:
        for name, item in fields_of(type(self)).items():
            kept, kind = getattr(self, name), kind_of(item)
            if kept is None:
                continue
            if isinstance(kind, Each):
                yield from kind.domains(name, kept)
            elif isinstance(kind, Sweep | Words):
                yield kind.domain(name, kept)

    def completed_choice(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """All that a trial is told, by the names of `domains`, from what an engine has chosen.

        Args:
            chosen: A value for each domain that is searched; of others, and of names that are
                no domain's (an engine has some of its own), nothing is taken.

        Raises:
            ArgumentError: A value is missing, or lies outside of its domain.

        Example:
            >>> space = SearchSpace(budget=(0.05, 0.5), criterion="fisher")
            >>> space.completed_choice({"budget": 0.2, "tuner/epochs": 3})["criterion"]
            'fisher'
        """
        told: dict[str, Any] = {}
        for each in self.domains:
            value = chosen.get(each.name) if each.is_searched else each.values[0]
            taken = None if value is None else _taken(value, each)
            if taken is None:
                raise ArgumentError(
                    f"`{each.name}` must be chosen {_told(each)}. Received: {value!r}. Give a "
                    f"value for each of {self._searched}."
                )
            told[each.name] = int(taken) if each.whole else taken
        return told

    def check_heeded(
        self, chosen: Mapping[str, Any], read: Collection[str] = (), *, others: bool = False
    ) -> None:
        """Refuse a choice of which `completed_choice` would leave something unheeded.

        Args:
            chosen: What was chosen; names of keras-tuner's own, `tuner/...`, are no choice.
            read: Names that something else has read.
            others: True if something else may read more that is no option of a space.

        Raises:
            ArgumentError: A name that nothing reads, or another value than the settled one.

        Example:
            >>> space = SearchSpace(budget=(0.05, 0.5), criterion="fisher")
            >>> space.check_heeded({"budget": 0.2, "criterion": "fisher", "tuner/epochs": 3})
        """
        domains = {each.name: each for each in self.domains}
        for name, value in chosen.items():
            option = str(name).partition("/")[0]
            if name in read or option == "tuner":
                continue
            if name in domains:
                settled = domains[name]
                if settled.is_searched or _taken(value, settled) is not None:
                    continue
                raise ArgumentError(
                    f"`{name}` must be {settled.values[0]!r}, as the space has settled it. "
                    f"Received: {name}={value!r}. Leave it out, or give the space several values "
                    "to choose from."
                )
            is_option = option in fields_of(type(self))
            if is_option and value is getattr(self, option):
                continue
            if is_option or not others:
                raise ArgumentError(
                    f"{name!r} must be something that the space has to choose: {self._searched}. "
                    f"Received: {name}={value!r}. Correct the name, remove it, or give the space "
                    "values to choose from."
                )

    @property
    def _searched(self) -> str:
        """What has to be chosen, in words."""
        return ", ".join(each.name for each in self.domains if each.is_searched)


def _ends(kept: Any) -> tuple[float, ...]:
    return kept if isinstance(kept, tuple) else (kept,)


def _taken(value: Any, domain: Domain) -> Any:
    """What was chosen, as Python's own and in the domain; `None` where it lies outside."""
    if isinstance(plain(value), bool):
        return None
    if not domain.is_range:
        return next((each for each in domain.values if each == value), None)
    low, high = (float(each) for each in domain.values)
    slack = _ROUNDING * max(abs(low), abs(high))
    if not is_number(value) or not low - slack <= plain(value) <= high + slack:
        return None
    return min(max(plain(value), low), high)


def _told(domain: Domain) -> str:
    if domain.is_range:
        return "in [{}, {}]".format(*domain.values)
    return f"from {', '.join(map(repr, domain.values))}"
