"""Everything a compression is asked for, as one frozen value that knows what goes together."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypedDict

from reducible_train.errors import ArgumentTypeError
from reducible_train.settings.adaptive import Adaptive
from reducible_train.settings.agreement import (
    ONE_MEASURE,
    analysis_fault,
    disagreements,
    measure_faults,
    multiple_faults,
    penalty_faults,
    sharing_faults,
)
from reducible_train.settings.aids import Aid
from reducible_train.settings.base import Nested, Settings, together
from reducible_train.settings.cadence import Cadence
from reducible_train.settings.checks import SHARE
from reducible_train.settings.compression_kinds import (
    AidsKind,
    AnalysisKind,
    CalibrationKind,
    MeasureKind,
    NameKind,
    RulesKind,
    TargetKind,
)
from reducible_train.settings.configuration import plain_value
from reducible_train.settings.faults import Fault, raise_first
from reducible_train.settings.fields import Count, Number, fields_of, kind_of, option
from reducible_train.settings.guard import Guard
from reducible_train.settings.measures import InputShape, Measure, Parameters, checked_measure
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.search import Search
from reducible_train.settings.targets import (
    SharedTarget,
    SharedTargets,
    Target,
    choice_faults,
    one_target,
    target_kinds,
)

AUTO = "auto"  # for a criterion or an allocation: the best there can be
MEASURED = "measured"  # the criterion of an analysis

_MOVED = {
    "adaptive": "`cadence`: write cadence=Cadence(start=Adaptive(...))",
    "min_gain": "the rules: write rules=[LayerRule('*', min_gain=...)], after all other rules",
    "input_shape": "the measure: write measure=Flops(input_shape=...), or a Latency of it",
}


class CompressionKeywords(TypedDict, total=False):
    """For editors: targets beside `budget`, exactly one of all; and options that few need."""

    cost: float | Schedule | Mapping[str, float | Schedule]
    energy: float | Schedule
    rtol: float | Schedule
    rank: float | Schedule
    effective_rank: float | Schedule
    search: Search
    multiple: int
    min_share: float
    analysis: Any


@dataclass(frozen=True, eq=False)
class CompressionSettings(
    Settings,
    help="What falls, how far, how often: one of budget, cost, energy, rtol, rank, "
    "effective_rank and search."
    "\n\nWith a start of its cadence none of them is needed.",
):
    """What shall fall, by which measure and criterion, when, and what watches and helps.

    Two are equal if all that was asked for is; calibration data are, if they are the same object.

    Raises:
        ArgumentTypeError: One of them is of the wrong type.
        ArgumentError: Two do not go together.
    """

    target: Target | SharedTargets = option(
        TargetKind(),
        help="What the model is brought to, several budgets too; of a search, the budget that "
        "must be possible for it.",
    )
    search: Search | None = option(
        Nested(Search, "Search(factor=0.7, start_epoch=2)"),
        None,
        help="In place of a schedule, a search for the smallest budget that is good enough.",
    )
    measure: Measure | tuple[Measure, ...] = option(
        MeasureKind(),
        Parameters(),
        help="What a budget counts: parameters, bytes of the variables, flops, bytes of the "
        "compact file, or latency; {name: latency, batch_size: 1} or {name: flops, input_shape: "
        "[128]} says more. Beside several budgets only such mappings, one or a list.",
    )
    criterion: str = option(
        NameKind("criterion"),
        AUTO,
        help="What a lost direction costs: the loss (fisher), the kernel's output on data "
        "(activation), or its energy (frobenius). The first two judge by samples of the training; "
        "auto: the best of them that the model allows; measured: auto within a kernel, and between "
        "kernels what `analysis` has measured.",
    )
    analysis: Any = option(
        AnalysisKind(),
        None,
        help="File of an analysis of the weights at the start, as `reducible-train analyze --file` "
        "writes it, for criterion: measured.",
    )
    allocation: str = option(
        NameKind("allocation"),
        AUTO,
        help="How one budget becomes a rank for each layer; auto: as goes best with the criterion.",
    )
    calibration: Any = option(
        CalibrationKind(),
        None,
        help="Samples of the training that activation and fisher judge by. Left out: 2048.",
    )
    rules: tuple[LayerRule, ...] = option(
        RulesKind(), (), help="Exceptions for some layers; the first rule that matches applies."
    )
    cadence: Cadence = option(
        Nested(Cadence, "Cadence(epochs=2), or Cadence(steps=500)"),
        Cadence(epochs=1),
        help="When the ranks may change.",
    )
    guard: Guard | None = option(
        Nested(Guard, "Guard('val_accuracy', max_drop=0.005)"),
        None,
        help="Undoes cuts that a metric does not recover from. Left out: every cut stays.",
    )
    aids: tuple[Aid, ...] = option(
        AidsKind(), (), help="What helps the training while ranks fall, by kind of aid."
    )
    multiple: int = option(
        Count(),
        1,
        help="What ranks are multiples of, such as 8, which hardware multiplies fastest. A kernel "
        "of which no multiple saves anything stays dense.",
    )
    min_share: float = option(
        Number(SHARE),
        0.0,
        help="The least that a factorised kernel keeps, as a share of its full rank, in [0, 1). "
        "Rules with a min_rank or a min_share go before it.",
    )

    @classmethod
    def completed(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of several budgets, the measures that were given with options."""
        if not isinstance(values.get("target"), SharedTargets):
            return values
        given = values.get("measure", ())
        if isinstance(given, Measure | str):
            given = () if given in ("parameters", Parameters()) else (given,)
        return {**values, "measure": tuple(given)}

    @together("target", "measure")
    def _measures_agree(self) -> Fault | None:
        if isinstance(self.target, SharedTargets):
            quantity, measures = self.target.quantity, self.target.measures
            return next(measure_faults(quantity, measures, self.measure), None)
        if isinstance(self.measure, tuple):
            return Fault(("measure",), ONE_MEASURE.format(f"measure={list(self.measure)!r}"))
        return None

    @together("target", "search", "rules", "cadence", "guard", "aids")
    def _agree(self) -> Fault | None:
        found = disagreements(
            [type(each) for each in self.targets],
            [type(aid) for aid in self.aids],
            guard=self.guard,
            search=self.search,
            start=self.adaptive,
        )
        return next(found, None)

    @together("guard", "aids")
    def _penalties_are_not_watched(self) -> Fault | None:
        return next(penalty_faults(self.aids, self.guard), None)

    @together("target", "criterion", "allocation", "analysis")
    def _analysis_is_used(self) -> Fault | None:
        fault = analysis_fault(self.criterion, self.analysis)
        if fault is not None:
            return fault
        quantity, allocation = self.target.quantity, self.allocation
        shares = any(isinstance(part, SharedTarget) for part in self.target.parts)
        found = sharing_faults(self.criterion, quantity, shares=shares, allocation=allocation)
        return next(iter(found), None)

    @together("target", "rules", "multiple")
    def _ranks_are_multiples(self) -> Fault | None:
        found = multiple_faults(self.target, self.rules, self.multiple)
        return next(found, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self._compared() == other._compared()

    def __hash__(self) -> int:
        # Only of what can always be hashed: an input shape may be a dictionary.
        names = tuple(each.name for each in self.measures)
        return hash((self.target.quantity, names, self.criterion, self.allocation))

    def _compared(self) -> dict[str, Any]:
        """What two are compared by; arrays have no single truth value, so data go by identity."""
        values = {name: getattr(self, name) for name in fields_of(type(self))}
        if not _of_the_fit(self.calibration):
            values["calibration"] = ("data", id(self.calibration))
        return values

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is counted, each with its options: one measure, or that of each budget."""
        if isinstance(self.measure, Measure):
            return (self.measure,)
        told = {each.name: each for each in self.measure}
        names = self.target.measures if isinstance(self.target, SharedTargets) else ()
        return tuple(told.get(name) or checked_measure(name) for name in names)

    @property
    def adaptive(self) -> Adaptive | None:
        """What lets cuts begin, if they wait for the stable ranks."""
        return self.cadence.start

    @property
    def input_shape(self) -> InputShape | None:
        """The shape of one sample, where a measure was told."""
        told = (each.input_shape for each in self.measures)
        return next((shape for shape in told if shape is not None), None)

    @property
    def targets(self) -> tuple[Target, ...]:
        """All that falls: the targets of the model, and those of rules for single layers."""
        return (
            *self.target.parts,
            *(rule.target for rule in self.rules if rule.target is not None),
        )

    def arguments(self) -> dict[str, Any]:
        """The arguments of a `RankScheduler` that ask for this."""
        goal: dict[str, Any] = {}
        if self.search is not None:
            goal["search"] = self.search
        elif self.target.public:
            goal[self.target.quantity] = self.target.argument
        said = ("target", "search") + (("measure",) if self.measure == () else ())
        others = (each.name for each in fields(self) if each.name not in said)
        return goal | {name: getattr(self, name) for name in others}

    def get_config(self) -> dict[str, Any]:
        """The same in plain values for JSON or YAML, for `arguments_from_config`.

        Raises:
            ArgumentError: There are calibration data, an analysis or a function, which no such
                value can hold.

        Example:
            >>> config = compression_settings("", {"rank": 8}, guard=Guard(limit=0.9)).get_config()
            >>> config["rank"], config["guard"]["limit"], config["cadence"]
            (8, 0.9, {'epochs': 1, 'compare': True})
        """
        return {name: plain_value(name, value) for name, value in self.arguments().items()}

    def described(self, caller: str) -> str:
        """The call that asks for this: what differs from the defaults, data left out."""
        defaults = {each.name: each.default for each in fields(self)}
        given = {
            name: value
            for name, value in self.arguments().items()
            if _differs(value, defaults.get(name, MISSING))
        }
        if not _of_the_fit(self.calibration):
            given["calibration"] = _Elided()
        if not isinstance(self.analysis, str | os.PathLike | None):
            given["analysis"] = _Elided()
        if isinstance(self.measure, Measure) and "measure" in given and self.measure.is_default:
            given["measure"] = self.measure.name
        return f"{caller}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def compression_settings(
    caller: str,
    targets: Mapping[str, Any],
    *,
    known: Iterable[str] | None = None,
    **others: Any,
) -> CompressionSettings:
    """The settings that the arguments of a call ask for.

    Args:
        caller: Its name, for messages.
        targets: What was given for a target, by name: one, or none beside an `Adaptive`; and for
            options that the call does not name itself.
        known: All that `targets` may have; every target and every option, if not given.
        **others: The other arguments: options of the settings, a cadence of `None` for every epoch.

    Raises:
        ArgumentTypeError: A keyword that nobody knows, or a value of the wrong type.
        ArgumentError: Unusable arguments, or some that do not go together.

    Example:
        >>> compression_settings("RankScheduler", {"budget": 0.25}).described("RankScheduler")
        'RankScheduler(budget=0.25)'
    """
    options = [each for each in fields_of(CompressionSettings) if each not in ("target", "search")]
    choices = (*target_kinds(), "search") if known is None else tuple(known)
    known = (*choices, *options) if known is None else choices
    _refuse_unknown(caller, targets, known, others)
    given = {name: value for name, value in targets.items() if value is not None}
    others |= {name: given.pop(name) for name in options if name in given}
    cadence = others.pop("cadence", None)
    others["cadence"] = Cadence(epochs=1) if cadence is None else cadence
    if not given and isinstance(cadence, Cadence) and cadence.start is not None:
        return CompressionSettings(cadence.start.target, **others)
    raise_first(choice_faults(given, choices))
    if "search" not in given:
        return CompressionSettings(one_target(**given), **others)
    found = list[Fault]()
    kind = kind_of(fields_of(CompressionSettings)["search"])
    search: Search = kind.read(("search",), given["search"], "", found)
    raise_first(found)
    return CompressionSettings(search.target, search, **others)


def _refuse_unknown(
    caller: str, given: Mapping[str, Any], known: tuple[str, ...], others: Iterable[str]
) -> None:
    """Refuse keywords as Python does, with the name or the place that was meant."""
    for name, value in given.items():
        if name in known:
            continue
        if name in _MOVED:
            raise ArgumentTypeError(
                f"{caller}() takes no `{name}`. Received: {name}={value!r}. It belongs to "
                f"{_MOVED[name]}."
            )
        names = list(dict.fromkeys((*known, *others)))
        close = difflib.get_close_matches(name, names, n=1)
        meant = f"Did you mean {close[0]!r}?" if close else f"It takes {', '.join(names)}."
        raise ArgumentTypeError(
            f"{caller}() got an unexpected keyword argument {name!r}. "
            f"Received: {name}={value!r}. {meant}"
        )


def _of_the_fit(calibration: Any) -> bool:
    """True where the samples are those of the fit itself."""
    return calibration is None or isinstance(calibration, int)


def _differs(value: Any, default: Any) -> bool:
    """True for what is not the default; data are never compared."""
    if type(value) is not type(default):
        return True
    return bool(value != default)


class _Elided:
    """Stands for data in a `repr`."""

    def __repr__(self) -> str:
        return "..."
