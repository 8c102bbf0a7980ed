"""The pages of the site: programs run, errors are those that come, and the site builds."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import reducible_train
from reducible_train.cli import app
from reducible_train.config import parse_config

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
QUICK_START = DOCS / "quickstart.md"
ERRORS = DOCS / "reference" / "errors.md"
RULE = re.MULTILINE | re.DOTALL
RULES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What makes a command short, and a program that would take long.
SHORT = {"finetune": ("--epochs", "1")}
LONG = {
    "max_trials=20": "max_trials=2",
    "max_trials=3": "max_trials=2",
    "epochs=9": "epochs=2",
    "validation, epochs=6": "validation, epochs=2",
}


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Every program, command and file of a page, in order: its language and its text."""
    return re.findall(r"^```(python|sh|yaml)\n(.*?)^```", page.read_text("utf-8"), RULE)


def python_of(page: Path) -> str:
    return "\n".join(text for language, text in blocks_of(page) if language == "python")


def follow(page: Path) -> dict[str, Any]:
    """Do what a page says from top to bottom, in the current folder; the names of its programs."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for language, text in blocks_of(page):
        if language == "python":
            for long, short in LONG.items():
                text = text.replace(long, short)
            exec(compile(text, page.name, "exec"), names)
        elif language == "yaml":
            parse_config(yaml.safe_load(text), page.name)
            if file := re.match(r"# (\w+\.yaml)\n", text):
                Path(file[1]).write_text(text)
        else:
            for line in text.splitlines():
                typed(line)
    return names


def typed(line: str) -> None:
    """Run one of our commands, as short as it goes; a search has tests of its own."""
    words = shlex.split(line, comments=True)
    if words[:1] != ["reducible-train"] or words[1] == "tune":
        return
    done = CliRunner().invoke(app, [*words[1:], *SHORT.get(words[1], ())])
    assert done.exit_code == 0, f"{line}\n{done.output}"


PAGES = [
    page
    for page in (TOP / "README.md", *sorted(DOCS.rglob("*.md")))
    if page not in (QUICK_START, ERRORS) and blocks_of(page)
]


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory):
    """What who follows the quick start sees, and the folder with what it left."""
    folder, told = tmp_path_factory.mktemp("quick"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told):
        patch.chdir(folder)
        patch.setitem(sys.modules, "sklearn", None)
        patch.setenv("REDUCIBLE_DATA", str(folder))
        follow(QUICK_START)
    return folder, told.getvalue()


OWN_DATA = ("own_train_step", "text_models")  # more of it than would be quick without a graph


@pytest.fixture(scope="module")
def few(quick_start, tmp_path_factory):
    """What the quick start left, with 64 samples of each part."""
    folder = tmp_path_factory.mktemp("few")
    shutil.copy(quick_start[0] / "model.keras", folder)
    with np.load(quick_start[0] / "data.npz") as data:
        np.savez(folder / "data.npz", **{name: part[:64] for name, part in data.items()})
    return folder


def check_page(page, given, folder, monkeypatch):
    for name in ("model.keras", "data.npz"):
        shutil.copy(given / name, folder)
    monkeypatch.chdir(folder)
    names = follow(page)
    if page.stem == "README":
        assert names["again"].count_params() < 0.26 * 85_002
        shown = re.search(r"^```text\n(.*?)\n", page.read_text("utf-8"), RULE)[1]
        assert shown.split() == str(names["scheduler"].report).splitlines()[0].split()


@pytest.mark.filterwarnings("default")  # a page says itself where a program warns
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.traced] * (page.stem in OWN_DATA))
        for page in PAGES
    ],
)
def test_what_a_page_says_can_be_done(page, few, tmp_path, monkeypatch, few_samples):
    check_page(page, few, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.traced
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_on_all_of_its_data(page, quick_start, tmp_path, monkeypatch):
    check_page(page, quick_start[0], tmp_path, monkeypatch)


@pytest.mark.traced
def test_the_quick_start_is_twelve_lines_that_need_nothing_else(quick_start):
    folder, printed = quick_start
    program = next(text for language, text in blocks_of(QUICK_START) if language == "python")
    assert len([line for line in program.splitlines() if line]) == 12
    shown = re.search(r"^```text\n(.*?)^```", QUICK_START.read_text("utf-8"), RULE)
    assert shown[1].split()[:7] == printed[printed.index("kernel ") :].split()[:7]
    fewer = re.search(r"parameters 85,002 -> [\d,]+ \(([\d.]+) % fewer\)", printed)
    assert float(fewer[1]) >= 75
    first, last = re.search(
        r"^accuracy ([\d.]+) before.* ([\d.]+) at the end", printed, re.MULTILINE
    ).groups()
    assert float(last) > float(first), "smaller, and no worse"
    assert (folder / "small.reducible").stat().st_size < 0.26 * 4 * 85_002


def test_the_options_of_the_commands_are_those_there_are():
    page = (DOCS / "configuration.md").read_text("utf-8")
    for table in runpy.run_path(str(DOCS / "options.py"))["tables"]().split("\n\n"):
        assert table in page, f"`python docs/options.py` prints what belongs there:\n{table}"


class Wandb:
    """As much of `wandb` as the page uses, as strict as it is."""

    def __init__(self):
        self.project, self.axes, self.logged = None, {}, []

    def init(self, project: str) -> Wandb:
        self.project = project
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        assert "*" not in name[:-1], "it takes a star at the end only"
        self.axes[name] = step_metric

    def log(self, data: dict, step: int | None = None, commit: bool | None = None) -> None:
        assert type(data) is dict
        assert all(type(value) in (int, float) for value in data.values())
        self.logged.append(data)


class MLflow:
    """As much of `mlflow` as the page uses, as strict as it is."""

    def __init__(self):
        self.is_open, self.logged = False, []

    @contextlib.contextmanager
    def start_run(self):
        self.is_open = True
        yield self
        self.is_open = False

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert self.is_open
        assert type(step) is int
        for name, value in metrics.items():
            assert re.fullmatch(r"[\w\-. :/]+", name), f"MLflow refuses the name {name!r}"
            assert type(value) in (int, float)
        self.logged.append(metrics)


def test_the_programs_for_trackers_tell_them_each_cut_and_each_epoch(monkeypatch):
    import keras
    import numpy as np

    from reducible_train import Ramp, RankScheduler

    text = (DOCS / "configuration.md").read_text("utf-8")
    to_wandb, to_mlflow = re.findall(r"^```py\n(.*?)^```", text, RULE)
    x = np.ones((8, 12), "float32") * np.linspace(0, 1, 12, dtype="float32")
    for program, tracker in ((to_wandb, Wandb()), (to_mlflow, MLflow())):
        assert len(program.splitlines()) <= 20
        model = keras.Sequential([keras.Input((12,)), *map(keras.layers.Dense, (12, 2))])
        model.compile("sgd", "mse", run_eagerly=True)
        for name in ("wandb", "mlflow"):
            monkeypatch.setitem(sys.modules, name, tracker)
        scheduler = RankScheduler(budget=Ramp(1.0, 0.6, start_epoch=1, end_epoch=2))
        exec(program, {"model": model, "scheduler": scheduler, "x": x, "y": x[:, :2]})
        epochs = [record["epoch"] for record in tracker.logged if "loss" in record]
        assert epochs == list(range(16))
        cuts = [record["params"] for record in tracker.logged if "params_before" in record]
        assert cuts == [cut.parameters for cut in scheduler.report.cuts] != []
        if isinstance(tracker, Wandb):
            assert (tracker.project, tracker.axes) == ("smaller", {"*": "epoch"})


def test_frequent_errors_are_those_that_come(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = python_of(ERRORS)
    examples = doctest.DocTestParser().get_doctest(text, {}, ERRORS.name, str(ERRORS), 0)
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


def test_each_public_name_has_a_place_among_those_of_python():
    page = (DOCS / "reference" / "python.md").read_text("utf-8")
    told = set(re.findall(r"^::: [\w.]+\.(\w+)$", page, re.MULTILINE))
    names = {name for name in reducible_train.__all__ if not name.endswith("Error")}
    assert names - told == {"LowRankDense", "layers", "tuner"}  # of these it tells in its words
    assert "`LowRankDense`" in page
    for path in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE):
        home, _, name = path.rpartition(".")
        assert name in {"errors"} or hasattr(importlib.import_module(home), name), path
