"""Every example runs from its command line, on data that needs no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
EXAMPLES = sorted(path.name for path in (TOP / "examples").glob("*.py"))

# Options that make it short, and what it must say in the end.
RUNS = {
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


@pytest.mark.parametrize("name", RUNS)
def test_example(name, tmp_path):
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    options, last_words = RUNS[name]
    done = subprocess.run(
        [sys.executable, str(TOP / "examples" / name), *options],
        cwd=tmp_path,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert last_words in done.stdout


def test_a_bad_file_is_told_in_full(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("compression: {budget: 25}\ntraining: {epoch: 3}\n")
    done = subprocess.run(
        [sys.executable, str(TOP / "examples" / "from_yaml.py"), str(bad)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert "compression.budget" in done.stderr
    assert "training.epoch" in done.stderr
