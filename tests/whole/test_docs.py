"""The pages of the site: programs run, errors are those that come, and the site builds."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
HOW_TO = sorted((DOCS / "howto").glob("*.md"))
RULES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def python_of(page: Path) -> str:
    found = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return "\n".join(found)


@pytest.mark.filterwarnings("default")  # a page says itself where a program warns
@pytest.mark.parametrize("page", [page for page in HOW_TO if python_of(page)], ids=lambda p: p.stem)
def test_how_to(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = compile(python_of(page), str(page), "exec")
    exec(program, {"__name__": "__main__"})


def test_frequent_errors_are_those_that_come(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = DOCS / "reference" / "errors.md"
    examples = doctest.DocTestParser().get_doctest(python_of(page), {}, page.name, str(page), 0)
    assert len(examples.examples) > 12
    assert doctest.DocTestRunner(optionflags=RULES).run(examples).failed == 0


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=TOP,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    keys = (tmp_path / "reference" / "configuration.html").read_text("utf-8")
    assert "learning_rate_schedule" in keys
    assert "Lowers the ranks" in (tmp_path / "reference" / "python.html").read_text("utf-8")
    shown = (tmp_path / "index.html").read_text("utf-8")
    assert not re.search(r'(src|href)="https?://(?!www\.mkdocs|squidfunk)', shown), (
        "nothing foreign"
    )


def test_every_page_is_found():
    nav = (TOP / "mkdocs.yml").read_text("utf-8")
    for page in DOCS.rglob("*.md"):
        assert str(page.relative_to(DOCS)) in nav
