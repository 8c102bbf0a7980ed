"""Runs the examples and keeps what they print, for the page that shows them.

python docs/outputs.py            # all of them
python docs/outputs.py lstm gan
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
FOLDER = TOP / "docs" / "outputs"


def printed(path: Path) -> str:
    """What a program prints, run in an empty folder without options."""
    told, home = io.StringIO(), Path.cwd()
    sys.argv = [path.name]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(told):
        os.chdir(folder)
        try:
            runpy.run_path(str(path), run_name="__main__")
        finally:
            os.chdir(home)
    return told.getvalue().replace("\b", "")


def main() -> None:
    """Those that are named, or all but those that have to be told a file."""
    names = sys.argv[1:] or [path.stem for path in sorted((TOP / "examples").glob("*.py"))]
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        if name != "from_yaml":
            text = printed(TOP / "examples" / f"{name}.py")
            (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
