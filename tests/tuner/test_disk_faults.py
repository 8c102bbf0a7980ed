"""What would befall every trial ends a search, whoever tells of it in whatever words."""

from __future__ import annotations

import errno
import os

import pytest

from reducible_train.container.files import accessing
from reducible_train.tuner.disk_faults import ends_search
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.project import FILE


@pytest.fixture
def project(tmp_path):
    (tmp_path / FILE).write_text("{}")
    return tmp_path


def refused(number, path):
    return OSError(number, os.strerror(number), str(path))


def of_ours(number, path):
    try:
        with accessing(path, "write"):
            raise OSError(number, os.strerror(number))
    except OSError as error:
        return error


def of_hdf5(number, path="checkpoint.weights.h5"):
    return RuntimeError(
        "Can't decrement id ref count (file write failed: time = Tue Dec  1 03:57:37 2026\n, "
        f"filename = '{path}', file descriptor = 5, errno = {number}, error "
        f"message = '{os.strerror(number)}', buf = 0x5615a8, total write size = 96)"
    )


def of_tensorflow(number, path="tb/train/events.out.v2"):
    return ValueError(
        f"{{{{function_node __wrapped__FlushSummaryWriter}}}} {path}; "
        f"{os.strerror(number)}\n\tCould not flush events file. [Op:FlushSummaryWriter] name: "
    )


@pytest.mark.parametrize("told", [refused, of_ours, of_hdf5, of_tensorflow])
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Make room there"),
        (errno.EFBIG, "ulimit -f"),
        (errno.ESTALE, "the connection to it"),
        (errno.ENOTCONN, "the connection to it"),
        (errno.ETIMEDOUT, "the connection to it"),
        (errno.EHOSTDOWN, "the connection to it"),
    ],
)
def test_what_a_disk_refuses_each_trial_ends_the_search(told, number, remedy, project):
    words = f"Received: {os.strerror(number)}.*{remedy}.*runs again when the search goes on"
    with pytest.raises(SearchError, match=words), ends_search(project):
        raise told(number, project / "trial_0" / "trial.json")


@pytest.mark.parametrize("told", [refused, of_ours, of_hdf5, of_tensorflow])
def test_a_full_disk_is_one_wherever_a_trial_writes(told, project):
    with pytest.raises(SearchError, match="Make room there"), ends_search(project):
        raise told(errno.ENOSPC, "trial.json")


@pytest.mark.parametrize(
    "error",
    [
        of_ours(errno.ENOENT, "trial.json"),
        of_hdf5(errno.ENOENT),
        of_tensorflow(errno.EACCES),
        OSError("lost"),
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
        refused(errno.EHOSTUNREACH, "/data/images/17.png"),
        of_tensorflow(errno.ENETDOWN, "/data/train.tfrecord"),
    ],
)
def test_any_other_error_is_of_its_trial_alone(error, project):
    with pytest.raises(type(error)) as found, ends_search(project):
        raise error
    assert found.value is error


def gone(project, error):
    with ends_search(project):
        (project / FILE).unlink()
        raise error


@pytest.mark.parametrize("error", [of_hdf5(errno.ENOENT), ValueError("of something else")])
def test_a_folder_that_has_gone_is_told_in_place_of_what_came_of_it(error, project):
    with pytest.raises(SearchError, match="must stay where it is") as found:
        gone(project, error)
    assert found.value.__cause__ is error
    with pytest.raises(SearchError, match="must stay where it is"), ends_search(project):
        pytest.fail("it does not begin")


def test_an_interrupt_is_told_as_it_is(project):
    with pytest.raises(KeyboardInterrupt):
        gone(project, KeyboardInterrupt())
