"""Runs the examples and keeps what they print, for the page that shows them; notebooks keep it
themselves.

python docs/outputs.py            # all of them
python docs/outputs.py lstm gan main
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOP = Path(__file__).resolve().parents[1]
FOLDER = TOP / "docs" / "outputs"


def printed(path: Path) -> str:
    """What a program prints, run in an empty folder without options."""
    told, home, arguments = io.StringIO(), Path.cwd(), sys.argv
    sys.argv = [path.name]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(told):
        os.chdir(folder)
        try:
            runpy.run_path(str(path), run_name="__main__")
        finally:
            os.chdir(home)
            sys.argv = arguments
    return told.getvalue().replace("\b", "")


def execute(path: Path) -> None:
    """Run a notebook in an empty folder, and keep its outputs in it; warnings are left out."""
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(book, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in book.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    nbformat.write(book, path)


def main() -> None:
    """Those that are named, or all but those that have to be told a file."""
    FOLDER.mkdir(exist_ok=True)
    for path in sorted((TOP / "examples").iterdir()):
        wanted = path.stem in sys.argv[1:] if sys.argv[1:] else path.stem != "from_yaml"
        if wanted and path.suffix == ".ipynb":
            execute(path)
        elif wanted and path.suffix == ".py":
            (FOLDER / f"{path.stem}.txt").write_text(printed(path), encoding="utf-8")


if __name__ == "__main__":
    main()
