"""Every example runs from its command line, on data that needs no network."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (TOP / "examples").glob("*.py"))

# Options that make it short, and what it must say in the end.
RUNS = {
    "analyze_model.py": (["--epochs", "2"], "predicted loss"),
    "compress_trained_model.py": (["--epochs", "2"], "cut slowly while it trains on"),
    "distill.py": (["--epochs", "3"], "student: "),
    "export.py": (["--epochs", "2"], "model.onnx"),
    "from_yaml.py": ([str(TOP / "configs" / "layer_rules.yaml")], "% fewer"),
    "subclassed_model.py": (["--epochs", "3"], "the same predictions"),
    "train_smaller.py": (["--epochs", "7"], "test accuracy of the file"),
}

# Examples that need more than the package itself.
NEEDS = {"export.py": ("ai_edge_litert", "onnxruntime", "tf2onnx")}


def test_every_example_is_run():
    assert sorted(RUNS) == EXAMPLES


def run(name, *options, monkeypatch):
    """As `python examples/name options`, without loading TensorFlow once more."""
    monkeypatch.setattr(sys, "argv", [name, *options])
    runpy.run_path(str(TOP / "examples" / name), run_name="__main__")


@pytest.mark.filterwarnings("default")  # what a script is told it goes on after
@pytest.mark.parametrize("name", RUNS)
def test_example(name, tmp_path, monkeypatch, capfd):
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    options, last_words = RUNS[name]
    monkeypatch.chdir(tmp_path)
    run(name, *options, monkeypatch=monkeypatch)
    assert last_words in capfd.readouterr().out


def test_a_bad_file_is_told_in_full(tmp_path, monkeypatch, capfd):
    bad = tmp_path / "bad.yaml"
    bad.write_text("compression: {budget: 25}\ntraining: {epoch: 3}\n")
    with pytest.raises(SystemExit) as ended:
        run("from_yaml.py", str(bad), monkeypatch=monkeypatch)
    assert ended.value.code == 2
    told = capfd.readouterr().err
    assert "compression.budget" in told
    assert "training.epoch" in told
