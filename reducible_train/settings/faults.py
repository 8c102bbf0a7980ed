"""What is wrong with an argument, as data: a constructor raises the first, a file shows all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from reducible_train.errors import ArgumentError, ArgumentTypeError

Path = tuple[str | int, ...]  # to an argument, and into it: ("schedules", 1, "end_epoch")


@dataclass(frozen=True)
class Fault:
    """What is wrong with an argument, and where it is.

    Args:
        argument: The way to it; empty where it is none of them more than another.
        message: What came, what was expected, what to do.
        error: What a constructor raises for it.
        alone: False where it is what several arguments have against each other.

    >>> fault = Fault(("values", 2), "`values[2]` must not be negative. Received: -1.")
    >>> fault.within("schedules", 0).argument
    ('schedules', 0, 'values', 2)
    >>> fault.raised().argument
    'values[2]'
    """

    argument: Path
    message: str
    error: type[ArgumentError | ArgumentTypeError] = ArgumentError
    alone: bool = True

    def within(self, *outer: str | int) -> Fault:
        """The same, seen from outside of the argument that it was found in."""
        return replace(self, argument=(*outer, *self.argument))

    def raised(self) -> ArgumentError | ArgumentTypeError:
        """The error that a constructor raises."""
        error = self.error(self.message)
        error.argument = argument_text(self.argument) or None
        return error


def raise_first(faults: Iterable[Fault]) -> None:
    """Raise the first of some faults; nothing where there is none.

    Raises:
        ArgumentError: It is of a value.
        ArgumentTypeError: It is of a type.
    """
    for fault in faults:
        raise fault.raised()


def argument_text(path: Path) -> str:
    """The way to an argument as Python writes it.

    >>> argument_text(("schedules", 1, "end_epoch"))
    'schedules[1].end_epoch'
    """
    return "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path)[1:]
