"""Names of checkpoints: which file they ask for, and what is filled into them."""

from __future__ import annotations

from string import Formatter

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
