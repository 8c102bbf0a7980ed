"""What befalls the folder of a search, or a disk, within a trial, and would befall the next one.

It ends the search, and no trial has failed for it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.project import FILE

_MAKE_ROOM = "Make room there."
_CONNECT = "Check the disk and the connection to it."
_REMEDIES = {  # what a disk refuses every other trial as well
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EFBIG: "Let files be larger there (`ulimit -f` of a shell tells and sets how large).",
    errno.EROFS: _CONNECT,
    errno.EIO: _CONNECT,
    errno.ENXIO: _CONNECT,
    errno.ENODEV: _CONNECT,
    errno.ESTALE: _CONNECT,
}
_OF_A_NETWORK = (  # of the disk only where a file of the search is named: else of the trial's data
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
)
_WRITTEN = re.compile(r"\berrno = (\d+)")  # as HDF5 tells it, also where h5py raises another kind


@contextmanager
def ends_search(project: Path) -> Iterator[None]:
    """Within it a trial runs; what befalls its folder or a disk meanwhile ends the search.

    Nothing is written once the folder has gone: keras-tuner would make a new one.

    Args:
        project: The folder of the search.

    Raises:
        SearchError: In place of any error, the folder is not where it was; or in place of its own
            one, a disk takes or gives nothing more.
    """
    try:
        _check_in_place(project)
        yield
        _check_in_place(project)
    except SearchError:
        raise
    except Exception as error:
        refused = _refusal(error, project)
        if refused:
            raise SearchError(
                f"A trial of {project} must be able to write and read its files. Received: "
                f"{refused} Finished trials are kept; this one runs again when the search goes on."
            ) from error
        _check_in_place(project, error)
        raise


def _check_in_place(project: Path, found: Exception | None = None) -> None:
    """Refuse to go on where the folder was moved or removed."""
    try:
        os.stat(project / FILE)
    except OSError as error:
        raise SearchError(
            f"{project} must stay where it is while its search runs. Received: {FILE} in it cannot "
            f"be found ({error.strerror}): the folder was moved or removed, or its disk has gone. "
            "What had finished is where it went: search there, or remove what is here and move it "
            "back, to go on."
        ) from found or error


def _refusal(error: BaseException, project: Path) -> str:
    """What a disk has refused and what to do; empty for any other error."""
    chain = list(_with_causes(error))
    remedies = dict(_REMEDIES)
    if any(f"{project}{os.sep}" in str(each) for each in chain):
        remedies |= dict.fromkeys(_OF_A_NETWORK, _CONNECT)
    for each in chain:
        for number, remedy in remedies.items():
            if _tells(each, number):
                return f"{os.strerror(number)}. {remedy}"
    return ""


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _tells(error: BaseException, number: int) -> bool:
    """Whether an error is one of the system, as such or in the words of HDF5 or TensorFlow."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == number
    words = str(error)
    told = [int(each) for each in _WRITTEN.findall(words)]
    return number in told or f"; {os.strerror(number)}" in words
