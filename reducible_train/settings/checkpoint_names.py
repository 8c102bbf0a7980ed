"""Names of checkpoints: which file they ask for, and what is filled into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from string import Formatter

from reducible_train.errors import ArgumentError

ENDINGS = (".reducible", ".keras", ".weights.h5")


def ending_of(name: str) -> str | None:
    """The ending that says which kind of file is meant; `None` for any other."""
    return next((ending for ending in ENDINGS if name.endswith(ending)), None)


def fields_of(name: str) -> list[str]:
    """What stands in the braces of a name.

    Raises:
        ValueError: A brace is not closed.

    >>> fields_of("{epoch:02d}-{val_loss:.2f}.reducible")
    ['epoch', 'val_loss']
    """
    return [field for _, field, _, _ in Formatter().parse(name) if field is not None]


def folder_of(name: str) -> Path:
    """The folder of a name, as far as nothing is filled into it.

    >>> folder_of("runs/{epoch}/best.reducible").as_posix()
    'runs'
    """
    return Path(*takewhile(lambda part: "{" not in part, Path(name).parts[:-1]))


def name_fault(name: str, weights_only: bool = False) -> str | None:
    """What is wrong with the name of a checkpoint, or `None`.

    Args:
        name: The path of the file, with `{epoch}` or metrics in it.
        weights_only: Whether it must be a file of weights.

    >>> name_fault("best.h5")
    'must end in .reducible, .keras or .weights.h5, which says what is written'
    >>> name_fault("{epoch:02d}-{val_loss:.2f}.reducible")
    """
    if ending_of(name) is None:
        *ends, last = ENDINGS
        return f"must end in {', '.join(ends)} or {last}, which says what is written"
    if weights_only and ending_of(name) != ".weights.h5":
        return "must end in .weights.h5 with save_weights_only"
    try:
        fields = fields_of(name)
    except ValueError as error:
        return f"must be a name in which {{epoch}} and metrics stand in braces ({error})"
    if not all(field and not field[0].isdigit() for field in fields):
        return "must say what stands in its braces, such as {epoch}"
    return None


def check_filled(
    owner: str, fields: Iterable[str], known: Mapping[str, str | None], validated: bool
) -> None:
    """Refuse a name of a file with a metric in braces that no epoch will bring.

    Args:
        owner: What is named so, such as `"checkpoint.filepath"`.
        fields: What stands in its braces.
        known: The metrics that a model will log; empty where they cannot be known.
        validated: True if there are validation data.

    Raises:
        ArgumentError: There is no such metric.
    """
    logged = [*known, *(f"val_{each}" for each in known if validated)]
    logged = ["epoch", *logged, "params", "params_fraction"]
    wrong = [field for field in fields if field not in logged]
    if known and wrong:
        raise ArgumentError(
            f"{owner} must be a name that the logs can fill. Received: {{{wrong[0]}}}. With this"
            f" model there will be {', '.join(logged)}. Name one of them in braces."
        )
