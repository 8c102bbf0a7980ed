"""The errors of the package: one root, and a kind for each sort of mistake.

Every kind is also the built-in error an ordinary handler expects, so
``except ValueError`` around a call keeps working.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


def shortened(text: str, most: int = 60) -> str:
    """Text for a message, of at most `most` characters: what a file says may be megabytes long."""
    return text if len(text) <= most else text[:most] + "..."


def either(ways: Sequence[str], first: str | None = None) -> str:
    """What to do, in a sentence.

    Args:
        ways: What helps, each alone.
        first: What helps as well, of more than one clause.

    Example:
        >>> either(["train for longer", "ask for less"])
        'Train for longer, or ask for less.'
        >>> either(["ask for less"], first="try it, and see")
        'Try it, and see; or ask for less.'
    """
    words = ", or ".join(filter(None, [", ".join(ways[:-1]), *ways[-1:]]))
    words = "; or ".join(filter(None, [first, words]))
    return f"{words[:1].upper()}{words[1:]}."


_GRAPH = re.compile(  # names of nodes, colours of a terminal
    r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:.*?\]|^\(\d+\)\s*|\x1b\[\d*m| name:\s*$"
)
_END = re.compile(r"\.\s+(?=[A-Z])")  # not that of "vs."
_WRAPPED = "Exception encountered when calling"  # Keras's words before what was found


def first_sentence(error: BaseException) -> str:
    """What an error of Keras or TensorFlow found; they go on for a page. Our own is told whole.

    Example:
        >>> first_sentence(ValueError("Shapes differ. See the guide.\\nFile ..."))
        'ValueError: Shapes differ.'
        >>> first_sentence(ValueError("Exception encountered when calling A.call().\\n\\nNo mask."))
        'ValueError: No mask.'
        >>> first_sentence(ValueError("Incompatible shapes: [32] vs. [32,3]"))
        'ValueError: Incompatible shapes: [32] vs. [32,3].'
    """
    if isinstance(error, ReducibleError):
        return f"{type(error).__name__}: {error}"
    lines = [_GRAPH.sub("", line.strip()).strip() for line in str(error).splitlines()]
    if lines and lines[0].startswith("Graph execution error"):  # of a graph, the reason comes last
        traced = ("File ", "Detected at", "Graph execution")
        lines = [each for each in lines if not each.startswith(traced) and "root error" not in each]
    lines = [each for each in lines if not each.startswith(_WRAPPED)] or lines
    told = _END.split(next((each for each in lines if each), ""))[0].rstrip(".")
    kind = type(error).__name__
    return f"{kind}: {told}." if told else f"{kind}."


class ReducibleError(Exception):
    """Root of all errors raised on purpose by this package."""


class ArgumentError(ReducibleError, ValueError):
    """An argument has a value that cannot be used.

    Attributes:
        argument: Its name, with the way into it (`"values[2]"`); `None` where it is not one alone.
    """

    argument: str | None = None


class ArgumentTypeError(ReducibleError, TypeError):
    """An argument has a type that cannot be used.

    Attributes:
        argument: As of an `ArgumentError`.
    """

    argument: str | None = None


class NumberError(ArgumentTypeError, ArgumentError):
    """A number is wanted, and what came is none: a text with a value as much as a wrong type."""


def missing_package(owner: str, package: str, extra: str, instead: str) -> ArgumentError:
    """The error of a call that needs a package which is not installed.

    Example:
        >>> print(missing_package("report.plot()", "matplotlib", "plot", "print(report)"))
        report.plot() needs matplotlib. Received: none is installed. Install it (pip install \
matplotlib, or this package with its extra 'plot'), or print(report).
    """
    return ArgumentError(
        f"{owner} needs {package}. Received: none is installed. Install it (pip install {package},"
        f" or this package with its extra {extra!r}), or {instead}."
    )


class RankError(ReducibleError, ValueError):
    """No choice of ranks meets what was asked for."""


class SpectrumError(ReducibleError, ValueError):
    """A matrix has no usable singular spectrum (NaN, infinity, no convergence)."""


class SurgeryError(ReducibleError, ValueError):
    """A model cannot be changed as asked; it was left as it was."""


class FactorisedError(SurgeryError, NotImplementedError):
    """A layer cannot do it while it has factors; what acts on all layers goes on with the others.

    Keras's `model.quantize` takes a NotImplementedError for such a layer, and tells of it in a
    warning.
    """


class FormatError(ReducibleError, ValueError):
    """A file is not what it should be, or cannot hold what it is given.

    Attributes:
        missing: The name that `custom_objects` lacks, where nothing else is wrong.
    """

    missing: str | None = None


class FileAccessError(ReducibleError, OSError):
    """A file cannot be read or written."""


class ShortfallWarning(UserWarning):
    """A training has ended without what it was asked for."""


class OutputErrorWarning(UserWarning):
    """Outputs are no better than their mean: the ranks are too low, or the training diverged."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration: where, what came, what to do."""

    path: str  # YAML path, such as "$.budget.final"
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ConfigError(ReducibleError, ValueError):
    """A configuration has mistakes; `problems` lists all of them.

    Args:
        source: Name of the file, or a word for where the configuration came from.
        problems: Every mistake that was found.
    """

    def __init__(self, source: str, problems: Sequence[Problem]):
        self.source = source
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{source}: {count}\n{lines}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, tuple[Problem, ...]]]:
        return type(self), (self.source, self.problems)
