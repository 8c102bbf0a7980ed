"""Laws of what is printed: it ends no command, and says what it can."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from reducible_train.cli import main
from reducible_train.cli._streams import lasting_output

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "layer_rules.yaml"
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither of them")


@contextmanager
def without_reader():
    """A stream whose reader has left, as `head` does."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8") as stream:
        yield stream


def code_of(monkeypatch, *arguments: str) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["reducible-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@posix
@pytest.mark.parametrize("arguments", [["schema"], ["preview", str(CONFIG)]], ids=lambda a: a[0])
def test_a_reader_that_leaves_is_no_fault(arguments, monkeypatch, capsys):
    with without_reader() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert code_of(monkeypatch, *arguments) == 0
        assert sys.stdout is stream
    assert capsys.readouterr().err == ""


@posix
def test_a_reader_that_is_slow_is_waited_for(monkeypatch):
    """Others at the same pipe or terminal may have told the system not to wait, for all of them."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.extend(iter(lambda: slowly(reading), b"")))
    with open(reading, "rb"), open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        reader.start()
        with lasting_output():
            print("x" * 400_000)  # more than a pipe holds
        stream.close()
        reader.join()
    assert b"".join(seen) == b"x" * 400_000 + b"\n"


def slowly(descriptor: int) -> bytes:
    time.sleep(0.01)
    return os.read(descriptor, 1 << 15)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_result_that_could_not_be_written_is_told(monkeypatch, capsys):
    with open("/dev/full", "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert code_of(monkeypatch, "schema") == 1
    assert "takes what is printed. Received: No space left on device" in capsys.readouterr().err


def test_a_stream_that_is_closed_is_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert code_of(monkeypatch, "schema") == 0


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize(("name", "told"), [("größe", r"gr\xf6\xdfe"), ("gr\udcf6", r"gr\udcf6")])
def test_names_that_an_encoding_lacks_are_told(name, told, errors, tmp_path, monkeypatch):
    config, shown = tmp_path / f"{name}.yaml", tmp_path / "shown"
    try:
        config.write_text("compression: {budget: 0.4}\ntraining: {epochs: 3}\n")
    except (OSError, UnicodeError):
        pytest.skip("no such names here")
    with open(shown, "w", encoding="ascii", errors=errors) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert code_of(monkeypatch, "preview", str(config)) == 0
    assert f"{told}.yaml: 3 epochs" in shown.read_text("ascii")


def test_what_somebody_has_chosen_for_them_is_kept(tmp_path, monkeypatch):
    config, shown = tmp_path / "größe.yaml", tmp_path / "shown"
    config.write_text("compression: {budget: 0.4}\ntraining: {epochs: 3}\n")
    with open(shown, "w", encoding="ascii", errors="replace") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert code_of(monkeypatch, "preview", str(config)) == 0
    assert "gr??e.yaml: 3 epochs" in shown.read_text("ascii")
