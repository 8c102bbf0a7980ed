"""A trained model is kept, whatever comes between it and its file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from reducible_train.cli._errors import show_error
from reducible_train.cli._exit import RESCUED
from reducible_train.cli._interrupts import ENDINGS, deaf, noticed_interrupts
from reducible_train.container.files import replacing_by, start_of_name
from reducible_train.errors import first_sentence

_LONGEST = 200  # bytes of the name of the compact file in that of the rescued one


@contextmanager
def rescuing(model: Any, out: Path, has_begun: Any) -> Iterator[Callable[[], None]]:
    """Save the model beside its file if training is broken off, or its file cannot be written.

    Args:
        model: The model in training.
        out: The compact file it should have become.
        has_begun: Called to learn whether a step was trained; before that nothing can be lost.

    Yields:
        What to call now and then, as an interrupt may have been dropped.

    Raises:
        typer.Exit: With `RESCUED`, after the place was told.
    """
    with noticed_interrupts(ENDINGS) as check:
        try:
            yield check
        except (Exception, KeyboardInterrupt) as error:
            if not has_begun():
                raise
            what = "Broken off." if isinstance(error, KeyboardInterrupt) else first_sentence(error)
            with deaf():  # to a second Ctrl-C, which would leave half a file
                show_error("Rescued", f"{what} {_rescued(model, out)}")
            raise typer.Exit(RESCUED) from error


def _rescued(model: Any, out: Path) -> str:
    """Where the model is now, in a sentence."""
    faults, stem = [], start_of_name(out.stem, _LONGEST)
    for folder in (out.absolute().parent, Path.cwd(), Path(tempfile.gettempdir())):
        try:
            path = free_name(folder / f"{stem}.rescued.keras")
            with replacing_by(path) as beside:
                model.save(beside)
        except Exception as error:  # the disk, or a layer of somebody's own
            faults.append(first_sentence(error))
            continue
        return (
            f"The model as it was then is kept in {path}: import RankScheduler from "
            "reducible_train, by which Keras knows its layers, then keras.saving.load_model(path)."
        )
    return f"The model could not be kept: {faults[0]}"


def free_name(path: Path) -> Path:
    """A name that nothing has yet: the path itself, or with a number in it."""
    found, count = path, 1
    while found.exists():
        count += 1
        found = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return found
