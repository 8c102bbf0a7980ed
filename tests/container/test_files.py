"""Laws of how the package writes and reads files, whatever is at their place already."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reducible_train import ArgumentError, FileAccessError, FormatError
from reducible_train.container import read_container, read_header, write_container
from reducible_train.container.files import (
    TEXT_CAP,
    place_of,
    read_whole,
    replacing,
    replacing_by,
    write_text,
)
from reducible_train.container.locks import let_go, lock
from reducible_train.container.temporary import hold_file
from reducible_train.preflight.paths import check_folder, check_writable, takes_files

TENSORS = [("x", np.arange(12.0))]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these files nor signals")


def write(path):
    write_container(path, {}, TENSORS)


def text(path):
    write_text(path, "new")


def open_container(path):
    with read_container(path):
        pass


# --- what killed processes leave ----------------------------------------------------------

STOPPED = """
import sys, time
from reducible_train.container.files import replacing
with replacing(sys.argv[1]) as stream:
    stream.write(b"half of it")
    print("writing", flush=True)
    time.sleep(60)
"""


def stopped_writer(path):
    """A process that has begun to write a file, and sleeps."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


@posix
@pytest.mark.parametrize(
    "name", ["model.reducible", "\u6a21\u578b" * 40], ids=["short", "long, of wide characters"]
)
def test_the_next_save_removes_what_killed_saves_left(name, tmp_path):
    path, other = tmp_path / name, tmp_path / "other.reducible"
    killed = [stopped_writer(path), stopped_writer(path), stopped_writer(other)]
    running = stopped_writer(path)
    others = [f".{name[:10]}.tmp", f".{name[:10]}.0123456789abcdef.tmp.txt", "model.tmp"]
    for each in others:
        (tmp_path / each).write_text("somebody's own")
    for process in killed:
        kill(process)
    assert len(list(tmp_path.iterdir())) == 4 + len(others)
    write(path)
    left = {each.name for each in tmp_path.iterdir()}
    assert {name, *others} < left
    assert len(left) == 1 + len(others) + 2, "the running save, and the killed one of other name"
    assert read_header(path)
    kill(running)
    text(path)
    write(other)
    assert {each.name for each in tmp_path.iterdir()} == {name, other.name, *others}


@posix
def test_a_running_save_is_not_disturbed_by_others(tmp_path):
    path = tmp_path / "a.json"
    with replacing(path) as outer:
        outer.write(b"outer")
        text(path)
        with replacing(path) as inner:
            inner.write(b"inner")
        assert path.read_bytes() == b"inner"
    assert path.read_bytes() == b"outer"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_a_link_by_the_name_of_a_temporary_file_is_left_alone(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    link = tmp_path / ".a.json.0123456789abcdef.tmp"
    link.symlink_to(precious)
    text(tmp_path / "a.json")
    assert link.is_symlink()
    assert precious.read_text() == "kept"


def test_held_files_of_one_kind_live_together(tmp_path):
    held = [hold_file(tmp_path, "state_", ".bin") for _ in range(3)]
    for each in held:
        each.stream.close()
    assert len(list(tmp_path.iterdir())) == 3
    for each in held[:2]:
        each.release()
    again = hold_file(tmp_path, "state_", ".bin")
    assert {each.name for each in tmp_path.iterdir()} == {held[2].path.name, again.path.name}
    for each in (held[2], again):
        each.stream.close()
        each.release()


def test_a_lock_is_had_by_one_at_a_time(tmp_path):
    first, second = (os.open(tmp_path / "a.lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert lock(first) is True
    assert lock(second) is False
    let_go(first)
    assert lock(second) is True
    let_go(second)


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP])
def test_a_disk_without_locks_keeps_nobody_out(tmp_path, monkeypatch, number):
    def refuses(descriptor, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuses)
    for _ in range(2):
        text(tmp_path / "a.json")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    held = hold_file(tmp_path, "state_", ".bin")
    held.stream.close()
    assert held.lock is not None
    assert lock(held.lock) is None
    held.release()


def test_a_disk_that_numbers_files_anew_each_time_has_held_files(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    held = hold_file(tmp_path, "state_", ".bin")
    held.stream.close()
    assert [each.name for each in tmp_path.iterdir()] == [held.path.name]
    held.release()


@posix
def test_a_held_file_that_another_process_removes_at_once_is_made_anew(tmp_path, monkeypatch):
    first = []

    def removes(descriptor):
        if not first:
            first.extend(tmp_path.iterdir())
            first[0].unlink()
        return lock(descriptor)

    monkeypatch.setattr("reducible_train.container.temporary.lock", removes)
    held = hold_file(tmp_path, "state_", ".bin")
    held.stream.close()
    assert [held.path] == list(tmp_path.iterdir()) != first
    held.release()


# --- what may be replaced and read --------------------------------------------------------


def pipe(path):
    os.mkfifo(path)


def device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        path.symlink_to("/dev/null")


def socket_file(path):
    server = socket.socket(socket.AF_UNIX)
    os.chdir(path.parent)  # names of sockets are short
    server.bind(path.name)
    server.close()


def linked_pipe(path):
    os.mkfifo(path.with_name("real"))
    path.symlink_to("real")


def looped(path):
    path.symlink_to(path.name)


PLACES = {
    "pipe": pipe,
    "device": device,
    "socket": socket_file,
    "link to a pipe": linked_pipe,
    "folder": Path.mkdir,
    "loop of links": looped,
}


@posix
@pytest.mark.parametrize("use", [write, text, open_container, read_header, read_whole])
@pytest.mark.parametrize("place", PLACES)
def test_only_regular_files_are_replaced_and_read(place, use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "there"
    PLACES[place](path)
    before = os.lstat(path)
    there = sorted(each.name for each in tmp_path.iterdir())
    with pytest.raises(FileAccessError, match=r"Received: .*there"):
        use(path)
    assert os.path.samestat(before, os.lstat(path))
    assert sorted(each.name for each in tmp_path.iterdir()) == there


@posix
def test_no_text_is_read_that_is_longer_than_any(tmp_path):
    """Of a file that takes no space and is as long as one wishes."""
    path = tmp_path / "there"
    path.write_text("{")
    os.truncate(path, TEXT_CAP)
    assert len(read_whole(path)) == TEXT_CAP
    os.truncate(path, 1 << 40)
    with pytest.raises(FormatError, match=rf"there: .*at most {TEXT_CAP:,} bytes"):
        read_whole(path)
    path.write_text("ab")
    assert read_whole(path, most=None) == b"ab"


@pytest.mark.parametrize("use", [write, text])
def test_a_link_stays_a_link_and_permissions_stay(use, tmp_path):
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far" / "real", tmp_path / "link"
    link.symlink_to(real)  # to nothing yet
    use(link)
    real.chmod(0o640)
    use(link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in real.parent.iterdir()] == ["real"]


def by_name(path):
    with replacing_by(path) as beside:
        beside.write_text("new")


def checked(path):
    check_writable(path, "file")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that only looks writable")
def test_a_folder_is_judged_by_whether_a_file_can_be_made_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: True)  # as for root, whom no permission stops
    with pytest.raises(FileAccessError, match=r"'/proc' cannot be written into\. Choose another"):
        check_folder("/proc/logs", "The log folder", "Choose another.")
    check_folder(tmp_path / "new" / "logs", "The log folder", "Choose another.")
    assert takes_files(tmp_path)
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("use", [write, text, by_name, checked])
def test_a_folder_that_is_not_there_is_refused_though_the_path_leaves_it_again(use, tmp_path):
    (tmp_path / "link").symlink_to("none/../new")
    for path in (tmp_path / "none" / ".." / "new", tmp_path / "link"):
        with pytest.raises(FileAccessError, match=r"none/\.\./new.* No such file or directory"):
            use(path)
    assert [each.name for each in tmp_path.iterdir()] == ["link"]


@posix
@pytest.mark.parametrize("use", [write, text, by_name, checked, read_header])
def test_links_that_lead_back_to_themselves_are_told(use, tmp_path):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    for path in (tmp_path / "one", tmp_path / "one" / "new"):
        with pytest.raises(FileAccessError, match=r"links in it lead back to themselves\.$"):
            use(path)


@pytest.mark.parametrize("use", [write, text, by_name])
def test_no_name_is_refused_as_one_that_is_not_there(use, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileAccessError, match=r"Received: ''.*Check the path"):
        use("")
    assert [each.name for each in tmp_path.rglob("*")] == ["here"]


@posix
@pytest.mark.parametrize("use", [write, text, by_name])
def test_a_path_by_a_linked_folder_leads_where_the_system_says(use, tmp_path):
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "near").symlink_to("far/deep")
    path = tmp_path / "near" / ".." / "new"
    checked(path)
    use(path)
    assert place_of(path) == (tmp_path / "far" / "new").resolve()
    assert path.is_file()
    assert {each.name for each in (tmp_path / "far").iterdir()} == {"deep", "new"}


@pytest.mark.parametrize(("stem", "ending"), [("x" * 244, ".weights.h5"), ("ß" * 124, ".keras")])
def test_a_file_may_have_the_longest_name(stem, ending, tmp_path):
    with replacing_by(tmp_path / f"{stem}{ending}") as beside:
        beside.write_text("new")
        assert beside.name.endswith(ending)
    assert [each.name for each in tmp_path.iterdir()] == [f"{stem}{ending}"]


@posix
def test_a_file_that_is_mounted_alone_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    path, mounts = tmp_path / "a b.reducible", tmp_path / "mounts"
    path.write_text("old")
    line = (
        f"36 35 0:33 /host.reducible {tmp_path}/a\\040b.reducible rw,relatime - ext4 /dev/sda rw\n"
    )
    mounts.write_text("22 1 0:21 / / rw - overlay overlay rw\n" + line)
    monkeypatch.setattr("reducible_train.container.files._MOUNTS", str(mounts))
    with (
        pytest.raises(FileAccessError, match=r"mounted by itself.*Mount the folder it is in"),
        replacing(path),
    ):
        pytest.fail("it was begun")
    text(tmp_path / "other.reducible")
    assert path.read_text() == "old"


def test_what_is_no_text_in_a_name_is_written_as_an_escape(tmp_path):
    write_text(tmp_path / "page.html", "gr\udcf6ße")
    assert (tmp_path / "page.html").read_text("utf-8") == "gr\\udcf6ße"


@posix
def test_a_protected_file_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything
    for use in (write, text):
        with pytest.raises(FileAccessError, match=r"protected against writing.*permissions"):
            use(path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("use", [write, text, open_container, read_header])
def test_a_name_with_a_null_character_is_refused(use, tmp_path):
    with pytest.raises(ArgumentError, match="null character"):
        use(f"{tmp_path}/a\0b")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04rest of it, and much more of it", r"zip file.*load_weights_into"),
        (b"\x89HDF\r\n\x1a\nrest of it, and much more", r"HDF5.*weights\.h5.*load_model"),
        (b"compression:\n  budget: 0.4\n", "another kind of file"),
        (b"\x89RDC\r\n\x1a\n", "cut short"),
    ],
)
def test_another_file_is_told_what_it_seems_to_be(data, message, tmp_path):
    path = tmp_path / "file.reducible"
    path.write_bytes(data)
    for use in (open_container, read_header):
        with pytest.raises(FormatError, match=rf"file\.reducible.*{message}"):
            use(path)
