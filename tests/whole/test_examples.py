"""Every example runs from its command line, on data that needs no network.

On few samples and eagerly, but for those that are about a model's own step; as they are, all of
them run under the mark `slow`.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

TOP = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (TOP / "examples").glob("*.py"))

# Options that make it short, and what it must say in the end.
RUNS = {
    "accuracy_first.py": (["--epochs", "4"], "a search: test accuracy"),
    "analyze_model.py": (["--epochs", "2"], "predicted loss"),
    "compress_trained_model.py": (["--epochs", "2"], "cut slowly while it trains on"),
    "convolutional.py": (["--epochs", "3"], "bytes in convolutional.reducible"),
    "distill.py": (["--epochs", "3"], "student: "),
    "export.py": (["--epochs", "2"], "model.onnx"),
    "from_yaml.py": ([str(TOP / "configs" / "layer_rules.yaml")], "% fewer"),
    "gan.py": (["--epochs", "4"], "losses at the end"),
    "in_numpy.py": (["--steps", "100"], "with 12 of 64 ranks"),
    "keras_hub_model.py": (["--epochs", "1"], "answers of shape (256, 2)"),
    "litert_int8.py": (["--epochs", "3"], "low rank, int8"),
    "lstm.py": (["--epochs", "3"], "half the size: test accuracy"),
    "optuna_search.py": (["--trials", "2", "--epochs", "1"], "trials on the front"),
    "resume.py": (["--epochs", "6"], "best epoch: test accuracy"),
    "subclassed_model.py": (["--epochs", "3"], "the same predictions"),
    "train_smaller.py": (["--epochs", "7"], "test accuracy of the file"),
    "tune.py": (["--trials", "2", "--epochs", "1"], "best: "),
    "transfer_learning.py": (["--epochs", "2"], "a fifth of it: test accuracy"),
    "transformer.py": (["--windows", "48", "--epochs", "1"], "half the size: 'The layer"),
}

# Examples that need more than the package itself.
NEEDS = {
    "export.py": ("ai_edge_litert", "onnxruntime", "tf2onnx"),
    "keras_hub_model.py": ("keras_hub",),
    "litert_int8.py": ("ai_edge_litert",),
    "optuna_search.py": ("optuna",),
}


def test_every_example_is_run():
    assert sorted(RUNS) == EXAMPLES


def run(name, *options, monkeypatch):
    """As `python examples/name options`, without loading TensorFlow once more."""
    monkeypatch.setattr(sys, "argv", [name, *options])
    runpy.run_path(str(TOP / "examples" / name), run_name="__main__")


OWN_STEPS = ("gan.py", "subclassed_model.py")
TOLD_ELSEWHERE = ("keras_hub_model.py",)  # by the tests of these models


def ran(name, monkeypatch, capfd, folder):
    """What an example says in the end."""
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(folder)
    run(name, *RUNS[name][0], monkeypatch=monkeypatch)
    return capfd.readouterr().out


@pytest.mark.filterwarnings("default")  # what a script is told it goes on after
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.traced] * (name in OWN_STEPS)
            + [pytest.mark.slow] * (name in TOLD_ELSEWHERE),
        )
        for name in RUNS
    ],
)
def test_example(name, tmp_path, monkeypatch, capfd, few_samples):
    assert RUNS[name][1] in ran(name, monkeypatch, capfd, tmp_path)


@pytest.mark.slow
@pytest.mark.traced
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", RUNS)
def test_example_on_all_of_its_data(name, tmp_path, monkeypatch, capfd):
    assert RUNS[name][1] in ran(name, monkeypatch, capfd, tmp_path)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", sorted((TOP / "examples").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook(path, tmp_path, monkeypatch, few_samples):
    """Its cells run in their order; what it shows was made by `docs/outputs.py`."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells if cell["cell_type"] == "code")
    names: dict = {}
    for number, text in enumerate(code):
        exec(compile(text.replace("epochs=12", "epochs=1"), f"{path.name}:{number}", "exec"), names)


def test_a_training_goes_on_where_it_was_broken_off(tmp_path, monkeypatch, capfd, few_samples):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="broken off before epoch 3"):
        run("resume.py", "--epochs", "5", "--stop", "3", monkeypatch=monkeypatch)
    run("resume.py", "--epochs", "5", monkeypatch=monkeypatch)
    assert "epochs trained by this process: [4, 5]" in capfd.readouterr().out


def test_the_package_does_what_numpy_does_step_for_step():
    """A dense hidden kernel is trained, cut and trained on; every loss is that of the oracle."""
    import keras

    from reducible_train import PiecewiseConstant, RankScheduler

    oracle = runpy.run_path(str(TOP / "examples" / "in_numpy.py"))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 24)).astype("float32"), rng.integers(0, 5, 60)
    model = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            keras.layers.Dense(5, name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.2), loss)
    expected = oracle["train"](x, y, model.get_weights(), rank=4, cut_at=6, steps=14)
    ranks = PiecewiseConstant(values=(24, 4), start_epochs=(0, 6))
    history = model.fit(
        x,
        y,
        epochs=14,
        batch_size=60,
        shuffle=False,
        callbacks=[RankScheduler(rank=ranks, criterion="frobenius")],
        verbose=0,
    )
    np.testing.assert_allclose(history.history["loss"], expected, rtol=1e-4)
    assert expected[6] > expected[5], "the cut is felt"


def test_a_bad_file_is_told_in_full(tmp_path, monkeypatch, capfd):
    bad = tmp_path / "bad.yaml"
    bad.write_text("compression: {budget: 25}\ntraining: {epoch: 3}\n")
    with pytest.raises(SystemExit) as ended:
        run("from_yaml.py", str(bad), monkeypatch=monkeypatch)
    assert ended.value.code == 2
    told = capfd.readouterr().err
    assert "compression.budget" in told
    assert "training.epoch" in told
