"""What the README and the documents tell people to type works."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reducible_train.cli import app

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
# The documents go on where the README ends, with its names.
NAMES = ("guide", "layers", "configuration", "files", "measured", "limits")
PAGES = (TOP / "README.md", *(DOCS / f"{name}.md" for name in NAMES))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line.partition("#")[0].split() for line in lines]


def test_make_has_the_targets():
    targets = re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), flags=re.MULTILINE)
    named = set(re.findall(r"`?make ([a-z]+)", TEXT))
    assert {"demo", "test"} <= named <= set(targets)


@pytest.mark.parametrize("words", [c for c in commands() if c[0] == "reducible-train"])
def test_the_commands_and_their_options_exist(words):
    answer = CliRunner().invoke(app, [words[1], "--help"], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    for option in (word for word in words if word.startswith("--")):
        assert option in answer.output


def test_links_lead_somewhere():
    for page in (*TOP.glob("*.md"), *DOCS.rglob("*.md"), TOP / "benchmarks" / "README.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), (page.name, target)


def test_the_readme_is_short():
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 200


def test_the_figures_are_those_that_were_measured():
    expected = runpy.run_path(str(TOP / "benchmarks" / "summary.py"))["text"]()
    assert expected in TEXT, (
        f"`python benchmarks/summary.py` prints what belongs there:\n{expected}"
    )


def scripts() -> list[str]:
    found = (TOP / "benchmarks").glob("*.py")
    return [path.stem for path in found if "\ndef main(" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", scripts())
def test_every_benchmark_is_described_and_keeps_its_figures(name):
    assert f"`python benchmarks/{name}.py`" in (TOP / "benchmarks" / "README.md").read_text()
    kept = (TOP / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8")
    figures = json.loads(kept)
    if isinstance(figures, list):  # of records
        commands = [record["command"] for record in figures]
    else:
        command = figures["command"]
        commands = command if isinstance(command, list) else [command]  # of several runs
    assert all(each.startswith(f"python benchmarks/{name}.py") for each in commands)
    assert '"/' not in kept, "no path of somebody's machine"


def test_pictures_are_small():
    for path in (TOP / "benchmarks" / "results").glob("*.png"):
        assert path.stat().st_size < 150_000, path
