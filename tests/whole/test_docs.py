"""The pages of the site: programs run, errors are those that come, and the site builds."""

from __future__ import annotations

import contextlib
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
RULE = re.MULTILINE | re.DOTALL
RULES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def python_of(page: Path) -> str:
    found = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), RULE)
    return "\n".join(found)


PAGES = [page.stem for page in HOW_TO if python_of(page)]
OWN_DATA = ("own_train_step", "text_models")  # more of it than would be quick without a graph


def run_how_to(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    page = DOCS / "howto" / f"{name}.md"
    exec(compile(python_of(page), str(page), "exec"), {"__name__": "__main__"})


@pytest.mark.filterwarnings("default")  # a page says itself where a program warns
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.traced] * (name in OWN_DATA)) for name in PAGES],
)
def test_how_to(name, tmp_path, monkeypatch, few_samples):
    run_how_to(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.traced
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", PAGES)
def test_how_to_on_all_of_its_data(name, tmp_path, monkeypatch):
    run_how_to(name, tmp_path, monkeypatch)


@pytest.mark.traced
def test_the_quick_start_is_twelve_lines_that_need_nothing_else(tmp_path, monkeypatch, capsys):
    program = python_of(DOCS / "quickstart.md")
    assert len([line for line in program.splitlines() if line]) == 12
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setenv("REDUCIBLE_DATA", str(tmp_path))
    exec(compile(program, "quickstart.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    shown = re.search(r"^```text\n(.*?)^```", (DOCS / "quickstart.md").read_text("utf-8"), RULE)
    assert shown[1].split()[:7] == printed[printed.index("kernel ") :].split()[:7]
    fewer = re.search(r"parameters 85,002 -> [\d,]+ \(([\d.]+) % fewer\)", printed)
    assert float(fewer[1]) >= 75
    first, last = re.search(
        r"^accuracy ([\d.]+) before.* ([\d.]+) at the end", printed, re.MULTILINE
    ).groups()
    assert float(last) > float(first), "smaller, and no worse"
    assert (tmp_path / "small.reducible").stat().st_size < 0.25 * 4 * 85_002


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


def test_the_programs_for_trackers_tell_them_each_cut_and_each_epoch():
    import keras
    import numpy as np

    from reducible_train import Ramp, RankRecords, RankScheduler

    text = (DOCS / "configuration.md").read_text("utf-8")
    to_wandb, to_mlflow = re.findall(r"^```py\n(.*?)^```", text, RULE)
    x = np.ones((8, 12), "float32") * np.arange(12)
    for program, tracker in ((to_wandb, Wandb()), (to_mlflow, MLflow())):
        assert len(program.splitlines()) <= 20
        model = keras.Sequential([keras.Input((12,)), *map(keras.layers.Dense, (12, 2))])
        model.compile("sgd", "mse", run_eagerly=True)
        names = {"wandb": tracker, "mlflow": tracker, "RankRecords": RankRecords, "model": model}
        scheduler = RankScheduler(budget=Ramp(1.0, 0.6, start_epoch=1, end_epoch=2))
        exec(program, names | {"scheduler": scheduler, "x": x, "y": x[:, :2]})
        epochs = [record["epoch"] for record in tracker.logged if "loss" in record]
        assert epochs == list(range(16))
        cuts = [record["params"] for record in tracker.logged if "params_before" in record]
        assert cuts == [cut.parameters for cut in scheduler.report.cuts] != []
        if isinstance(tracker, Wandb):
            assert (tracker.project, tracker.axes) == ("smaller", {"*": "epoch"})


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
