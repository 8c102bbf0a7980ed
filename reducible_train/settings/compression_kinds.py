"""What the options of a compression may be, beside numbers and settings of one class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from reducible_train.errors import ArgumentError, ArgumentTypeError
from reducible_train.settings.aids import checked_aids
from reducible_train.settings.checks import checked_all, has_elements, is_count, plain
from reducible_train.settings.fields import Kind
from reducible_train.settings.measures import checked_measure
from reducible_train.settings.rules import LayerRule


@dataclass(frozen=True)
class TargetKind(Kind):
    """A target; in calls and files, each kind of target has a keyword of its own."""


@dataclass(frozen=True)
class MeasureKind(Kind):
    """A measure, or the name of one; beside several budgets, measures with options."""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        return tuple(value) if isinstance(value, list | tuple) else checked_measure(value)


@dataclass(frozen=True)
class NameKind(Kind):
    """The name of something that a higher room knows, and checks.

    Args:
        of: What it is the name of.
    """

    of: str

    def checked(self, name: str, value: Any, owner: str) -> Any:
        if has_elements(value) and not isinstance(value, str | bytes):
            raise ArgumentTypeError(
                f"`{name}` must be one name. Received: {name}={value!r}. Write for example "
                f"{name}='auto'."
            )
        return value  # of all else that is no name the higher room lists the names


@dataclass(frozen=True)
class CalibrationKind(Kind):
    """Data, or a number of samples; in a file, a number."""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        number = plain(value)
        if not isinstance(number, int | float):
            return value
        if not is_count(number):
            raise ArgumentError(
                f"`{name}` must be data, or a whole number of samples, at least 1. "
                f"Received: {name}={value!r}. Leave it out for 2048 samples of the fit."
            )
        return number


@dataclass(frozen=True)
class AnalysisKind(Kind):
    """An analysis, or the name of its file."""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        is_path = isinstance(value, str | os.PathLike) and os.fspath(value)
        if not is_path and not all(hasattr(value, each) for each in ("kernels", "baseline")):
            raise ArgumentTypeError(
                f"`{name}` must be an Analysis, or the path of its file. Received: "
                f"{name}={value!r}. Give what analyze(model, data, file='analysis.json') returns, "
                "or that file."
            )
        return value


@dataclass(frozen=True)
class RulesKind(Kind):
    """Rules for single layers, in order."""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        example = f"{name}=[LayerRule('encoder/*', min_rank=8)]"
        return checked_all(f"`{name}` must hold LayerRule objects", value, LayerRule, example)


@dataclass(frozen=True)
class AidsKind(Kind):
    """Aids, one of each kind at most."""

    def checked(self, name: str, value: Any, owner: str) -> Any:
        return checked_aids(value)
