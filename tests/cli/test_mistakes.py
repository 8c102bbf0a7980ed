"""Mistakes on the command line: each is told before training, in a sentence that says the way out.

No traceback, no page of TensorFlow's, the right exit code; nothing is written, nothing lost.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from typer.testing import CliRunner

from reducible_train import load_model, read_report
from reducible_train.cli import app, main
from reducible_train.cli._rescue import free_name

RNG = np.random.default_rng(5)
X = RNG.normal(size=(48, 10)).astype("float32")
Y = RNG.integers(0, 3, 48)
STAIRS = "{schedule: piecewise_constant, values: [1.0, 0.6], start_epochs: [0, 1]}"
STEPS = f"compression: {{budget: {STAIRS}}}\n"
TRAIN = "training: {epochs: 2, batch_size: 24}\n"


def network(units=3, activation="softmax", loss="sparse_categorical_crossentropy", name="net"):
    model = keras.Sequential(
        [
            keras.Input((10,)),
            layers.Dense(20, "relu", name="one"),
            layers.Dense(20, "relu", name="two"),
            layers.Dense(units, activation, name="out"),
        ],
        name=name,
    )
    model.compile("sgd", loss, run_eagerly=True)  # of a few batches, faster than a trace
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with models, data and a configuration, as a user might have it."""
    home = tmp_path_factory.mktemp("home")
    network().save(home / "m.keras")
    network(loss="categorical_crossentropy").save(home / "onehot.keras")
    network(1, "sigmoid", "binary_crossentropy").save(home / "binary.keras")
    network(2, None, "mse").save(home / "regression.keras")
    bare = keras.Sequential([keras.Input((10,)), layers.Dense(20), layers.Dense(3)])
    bare.save(home / "bare.keras")
    reader = keras.Sequential([keras.Input((6,)), layers.Embedding(9, 4, name="table")])
    for each in (layers.Flatten(), layers.Dense(20), layers.Dense(20), layers.Dense(3, "softmax")):
        reader.add(each)
    reader.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    reader.save(home / "tokens.keras")
    lookup = layers.StringLookup(vocabulary=["red", "green", "blue"], output_mode="multi_hot")
    words = [keras.Input((1,), dtype="string"), lookup, layers.Dense(20), layers.Dense(20)]
    words = keras.Sequential([*words, layers.Dense(3, "softmax")])
    words.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    words.save(home / "words.keras")
    x = keras.Input((10,))
    h = layers.Dense(20)(x)
    two = keras.Model(x, [layers.Dense(3)(h), layers.Dense(1)(h)])
    two.compile("sgd", ["mse", "mse"])
    two.save(home / "two.keras")
    network().save_weights(home / "m.weights.h5")
    network(loss="mse").save(home / "named.h5")
    (home / "cut.keras").write_bytes((home / "m.keras").read_bytes()[:500])
    (home / "small.reducible").write_bytes(b"\x89RDC")
    (home / "table.csv").write_text("x,y\n1,2\n")
    (home / "empty.npz").write_bytes(b"")
    (home / "c.yaml").write_text(STEPS + TRAIN)
    (home / "made").mkdir()
    (home / "lost.reducible").symlink_to("none/o.reducible")
    (home / "lost").symlink_to("none")
    np.savez(home / "d.npz", x_train=X, y_train=Y)
    return home


@pytest.fixture(autouse=True)
def at_home(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("REDUCIBLE_DEBUG", raising=False)


def run(*arguments: object):
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "250"})


def finetune(model="m.keras", data="d.npz", config="c.yaml", out="o.reducible", *more: object):
    return run("finetune", model, data, "--config", config, "--out", out, *more)


def told(result, code: int = 1) -> str:
    """What stderr says, after what holds of every refusal."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert "Unforeseen" not in result.stderr
    assert "epoch  " not in result.stdout, "told after training"
    assert not Path("o.reducible").exists()
    return result.stderr


ARRAYS = {
    "shape": ({"x_train": X[:, :4]}, r"shape \(10,\) that the model takes. Received: \(4,\)"),
    "axes": ({"x_train": X.reshape(48, 5, 2)}, r"x\.reshape\(-1, 10\)"),
    "labels from 1": ({"y_train": Y + 1}, "Number the classes from 0"),
    "words": ({"y_train": np.array(["cat", "dog", "owl"])[Y]}, "return_inverse"),
    "bytes": ({"y_train": np.array([b"a", b"b", b"c"])[Y]}, "return_inverse"),
    "one-hot": ({"y_train": np.eye(3)[Y]}, r"y\.argmax\(-1\)"),
    "two numbers": ({"y_train": np.stack([Y, Y], 1)}, "one number a sample"),
    "NaN": ({"x_train": np.where(X > 1, np.nan, X)}, "Remove those samples"),
    "infinity": ({"y_train": np.where(Y > 1, np.inf, Y)}, "y_train must hold finite"),
    "nothing": ({"x_train": X[:0], "y_train": Y[:0]}, "at least one"),
    "lengths": ({"y_train": Y[:7]}, "equally many"),
    "objects": ({"x_train": np.array([[1], [1, 2]] * 24, object)}, "Python objects"),
    "complex": ({"x_train": X.astype(complex)}, "must hold numbers"),
    "names": ({"x_train": None, "y_train": None, "X_train": X}, "Rename the arrays"),
    "no labels": ({"y_train": None}, "no y_train"),
    "validation": ({"x_val": X[:, :3], "y_val": Y}, r"\(val\)"),
    "test labels": ({"x_test": X, "y_test": Y + 1}, r"\(test\)"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_data_that_does_not_fit(name):
    change, words = ARRAYS[name]
    arrays = {k: v for k, v in ({"x_train": X, "y_train": Y} | change).items() if v is not None}
    np.savez("t.npz", **arrays)
    assert re.search(words, told(finetune(data="t.npz")))


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize <= 8, reason="no wider numbers here")
@pytest.mark.parametrize("name", ["x_train", "y_train"])
def test_numbers_that_are_too_wide_for_keras_are_told_with_a_way_out(name):
    arrays = {"x_train": X, "y_train": Y}
    np.savez("t.npz", **(arrays | {name: arrays[name].astype(np.longdouble)}))
    assert f"Save {name}.astype('float32')" in told(finetune(data="t.npz"))


OTHER_LOSSES = {
    "class numbers, one-hot loss": ("onehot.keras", Y, "sparse_categorical_crossentropy"),
    "three classes, binary loss": ("binary.keras", Y, "between 0 and 1"),
    "one-hot, binary loss": ("binary.keras", np.eye(3)[Y], "shape (1,)"),
    "one target of two": ("regression.keras", Y, "shape (2,)"),
    "several outputs": ("two.keras", Y, "one output"),
    "no loss": ("bare.keras", Y, "loss is needed"),
}


def test_the_kind_of_a_model_is_told_before_what_it_cannot_be_asked_for():
    Path("t.yaml").write_text(f"compression: {{budget: 0.001}}\n{TRAIN}")
    assert "one output" in told(finetune("two.keras", config="t.yaml"))
    Path("t.yaml").write_text(
        f"compression: {{budget: 0.5}}\nsearch_space: {{budget: [0.001, 0.002]}}\n{TRAIN}"
    )
    searched = run("tune", "two.keras", "d.npz", "-c", "t.yaml", "-o", "o.reducible")
    assert "one output" in told(searched)


TOKENS = RNG.integers(0, 9, (48, 6))
COLOURS = np.array(["red", "green", "black"])[Y][:, None]
OTHER_INPUTS = {
    "tokens from 1": ("tokens.keras", TOKENS + 1, "'table' must be whole numbers from 0 to 8"),
    "parts of tokens": ("tokens.keras", TOKENS / 2, "Received: 0.5"),
    "tokens below 0": ("tokens.keras", TOKENS - 2, "Received: -2, -1"),
    "words for numbers": ("m.keras", COLOURS, "TextVectorization"),
    "numbers for words": ("words.keras", X, "must be text"),
    "words in a row": ("words.keras", COLOURS[:, 0], "x.reshape(-1, 1)"),
}


@pytest.mark.parametrize("name", OTHER_INPUTS)
def test_inputs_that_the_model_has_no_row_or_no_layer_for(name):
    model, inputs, words = OTHER_INPUTS[name]
    np.savez("t.npz", x_train=inputs, y_train=Y)
    assert words in told(finetune(model, "t.npz"))


@pytest.mark.parametrize("name", OTHER_LOSSES)
def test_labels_that_do_not_fit_the_loss(name):
    model, labels, words = OTHER_LOSSES[name]
    np.savez("t.npz", x_train=X, y_train=labels)
    assert words in told(finetune(model, "t.npz"))


FILES = {
    "cut model": (["cut.keras"], "no zip archive"),
    "loss of an .h5": (["named.h5"], "load_model('named.h5', compile=False), compile it anew"),
    "weights alone": (["m.weights.h5"], "weights without their model"),
    "compact file": (["small.reducible"], "reducible_train.load_model(path)"),
    "SavedModel": (["made"], "a folder. A SavedModel"),
    "no model": (["none.keras"], "Check the path"),
    "data as model": (["d.npz"], "MODEL comes first, then DATA"),
    "no data": (["m.keras", "none.npz"], "Check the path"),
    "folder as data": (["m.keras", "made"], "a folder"),
    "device as data": (["m.keras", os.devnull], "not a regular file"),
    "table": (["m.keras", "table.csv"], "np.savez"),
    "empty data": (["m.keras", "empty.npz"], "an empty file"),
    "model as data": (["m.keras", "m.keras"], "Rename the arrays"),
    "no configuration": (["m.keras", "d.npz", "none.yaml"], "Check the path"),
    "folder as configuration": (["m.keras", "d.npz", "made"], "YAML file that can be read"),
    "data as configuration": (["m.keras", "d.npz", "d.npz"], "UTF-8"),
    "keras name": (["m.keras", "d.npz", "c.yaml", "o.keras"], "Name it o.reducible"),
    "h5 name": (["m.keras", "d.npz", "c.yaml", "o.H5"], "Name it o.reducible"),
    "npz name": (["m.keras", "d.npz", "c.yaml", "o.npz"], "Name it o.reducible"),
    "over the model": (["m.keras", "d.npz", "c.yaml", "made/../m.keras"], "another file"),
    "no folder": (["m.keras", "d.npz", "c.yaml", "none/o.reducible"], "that its folder exists"),
    "no folder and back": (
        ["m.keras", "d.npz", "c.yaml", "none/../o.reducible"],
        "its folder exists",
    ),
    "a folder": (["m.keras", "d.npz", "c.yaml", "made"], "write as --out. Received"),
    "a link to no folder": (["m.keras", "d.npz", "c.yaml", "lost.reducible"], "its folder exists"),
    "a device": (["m.keras", "d.npz", "c.yaml", os.devnull], "a device"),
    "a long name": (
        ["m.keras", "d.npz", "c.yaml", "o" * 300],
        "Choose a shorter name",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_cannot_be(name):
    arguments, words = FILES[name]
    before = Path("m.keras").read_bytes()
    assert words in told(finetune(*arguments))
    assert Path("m.keras").read_bytes() == before


def watching(monitor: str) -> str:
    return f"compression: {{budget: 0.6, guard: {{monitor: {monitor}, max_drop: 0.1}}}}\n{TRAIN}"


SAVED = "checkpoint: {{filepath: '{}', monitor: acc}}\n"
CONFIGURATIONS = {
    "validation for a guard": (watching("val_loss"), "set training.validation_split"),
    "unknown metric": (watching("accuracy"), "there will be loss"),
    "validation to stop": (STEPS + TRAIN + "early_stopping: {}\n", "without validation data"),
    "stop by what is not": (STEPS + TRAIN + "early_stopping: {monitor: acc}\n", "monitor='acc'"),
    "stop by what is nowhere": (
        STEPS + TRAIN + "early_stopping: {monitor: acc}\n",
        "Name it in training.metrics, or compile the model with it",
    ),
    "no batch": (STEPS + TRAIN.replace("24", "0"), "at least 1"),
    "no epoch": (STEPS + TRAIN.replace("epochs: 2", "epochs: 0"), "at least 1"),
    "loss": (STEPS + TRAIN.replace("24", "24, loss: mean_square_error"), "Did you mean"),
    "other loss": (STEPS + TRAIN.replace("24", "24, loss: mse"), "mean_squared_error must"),
    "metric": (STEPS + TRAIN.replace("24", "24, metrics: [auc]"), "shapes, labels and loss"),
    "split": (STEPS + TRAIN.replace("24", "24, validation_split: 0.999"), "must leave samples"),
    "best over model": (STEPS + TRAIN + "checkpoint: {filepath: m.keras}\n", "would be lost"),
    "best over out": (STEPS + TRAIN + "checkpoint: {filepath: o.reducible}\n", "would be lost"),
    "best of what is not": (
        STEPS + TRAIN + "checkpoint: {filepath: b.keras}\n",
        "`monitor` of a checkpoint must",
    ),
    "backup": (STEPS + TRAIN + "backup: {backup_dir: d.npz/x}\n", "The backup folder"),
    "backup by a link": (STEPS + TRAIN + "backup: {backup_dir: lost}\n", "The backup folder"),
    "logs": (STEPS + TRAIN + "tensorboard: {log_dir: d.npz/x}\n", "The log folder"),
    "checkpoint over the model": (STEPS + TRAIN + SAVED.format("./m.keras"), "another file"),
    "checkpoint over the file": (STEPS + TRAIN + SAVED.format("o.reducible"), "another file"),
    "checkpoint in a file": (STEPS + TRAIN + SAVED.format("d.npz/{epoch}.keras"), "folder"),
    "checkpoint by what is not": (STEPS + TRAIN + SAVED.format("b.keras"), "a checkpoint must"),
    "checkpoint of no metric": (
        STEPS + TRAIN + "checkpoint: {filepath: 'b-{epoc}.keras', monitor: loss}\n",
        "Received: {epoc}. With this model there will be epoch, loss, params",
    ),
    "logs where the file goes": (
        STEPS + TRAIN + "tensorboard: {log_dir: ./o.reducible}\n",
        "--out must be another file",
    ),
    "backup where the file goes": (
        STEPS + TRAIN + "backup: {backup_dir: o.reducible}\n",
        "--out must be another file",
    ),
    "states": (watching("loss, folder: c.yaml/x"), "The guard's folder"),
    "key": (STEPS + TRAIN.replace("batch_size", "batchsize"), "Did you mean 'batch_size'?"),
    "per cent": ("compression: {budget: 25%}\n" + TRAIN, "write 0.25"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_that_cannot_be(name):
    text, words = CONFIGURATIONS[name]
    Path("t.yaml").write_text(text)
    assert words in told(finetune(config="t.yaml"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["finetune", "m.keras", "d.npz", "--out", "o.reducible"],
        ["finetune", "m.keras", "d.npz", "--config", "c.yaml"],
        ["finetune", "m.keras", "d.npz", "-c", "c.yaml", "-o", "o.reducible", "--epochs", "0"],
        ["finetune", "m.keras", "d.npz", "-c", "c.yaml", "-o", "o.reducible", "--epoch", "3"],
        ["fintune"],
        ["inspect"],
        ["demo", "--epochs", "3"],
    ],
)
def test_a_wrong_command_line(arguments):
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["inspect", "preview"])
@pytest.mark.parametrize("name", ["none", "made", "m.keras", "d.npz", "empty.npz", os.devnull])
def test_what_the_other_commands_cannot_read(command, name):
    assert "Received" in told(run(command, name)) or "is empty" in run(command, name).stderr


# --- what is valid, and what happens after training ------------------------------------


@pytest.fixture
def out():
    path = Path("kept.reducible")
    yield path
    for each in Path.cwd().glob("kept*"):
        each.unlink()


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        ("binary.keras", Y > 1),
        ("regression.keras", np.stack([Y, -Y], 1) * 0.5),
        ("words.keras", Y),
    ],
)
def test_other_kinds_of_data_are_trained_on(model, labels, out):
    inputs = COLOURS if model == "words.keras" else X.astype("float64")
    np.savez("t.npz", x_train=inputs, y_train=labels, note=np.arange(3))
    result = finetune(model, "t.npz", "c.yaml", out)
    assert result.exit_code == 0, result.output
    assert "not used of t.npz: note" in result.stdout


def test_an_old_file_of_a_model_that_was_never_trained(out):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network().save("old.h5")
        result = finetune("old.h5", "d.npz", "c.yaml", out)
    assert result.exit_code == 0, result.output


def test_a_budget_that_a_guard_holds_back_has_its_own_exit_code(out):
    Path("t.yaml").write_text(
        "compression: {budget: 0.6, guard: {monitor: loss, limit: 0.0001}}\n" + TRAIN
    )
    result = finetune("m.keras", "d.npz", "t.yaml", out)
    assert result.exit_code == 4, result.output
    assert "did not reach budget=0.6" in result.stderr
    assert load_model(out).count_params() == network().count_params()


def test_a_budget_that_training_ended_before_has_another(out, monkeypatch):
    Path("t.yaml").write_text(STEPS + TRAIN)
    fit = keras.Model.fit

    def stopped(model, *arguments, callbacks, **options):
        stop = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: setattr(model, "stop_training", True)
        )
        return fit(model, *arguments, callbacks=[*callbacks, stop], **options)

    monkeypatch.setattr(keras.Model, "fit", stopped)
    result = finetune("m.keras", "d.npz", "t.yaml", out)
    assert result.exit_code == 3, result.output
    assert "Training ended after 1 of 2 epochs" in result.stderr
    assert out.exists()


def test_a_training_that_ends_in_nan_has_one_too(out):
    Path("t.yaml").write_text(
        "compression: {budget: 0.6}\n"
        "training: {epochs: 2, batch_size: 24, optimizer: sgd, learning_rate: 1.0e+30}\n"
    )
    result = finetune("m.keras", "d.npz", "t.yaml", out)
    assert result.exit_code == 6, result.output
    assert "The training diverged" in result.stderr
    assert "lower the learning rate" in " ".join(result.stderr.split())
    assert out.exists()


def test_a_model_that_cannot_be_saved_is_rescued(out, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    Path("kept.rescued.keras").write_bytes(b"of another day")
    monkeypatch.setattr("reducible_train.cli._training.save_model", refuse)
    result = finetune("m.keras", "d.npz", "c.yaml", out)
    assert result.exit_code == 5, result.output
    assert "kept.rescued-2.keras" in result.stderr
    assert "Traceback" not in result.output
    assert Path("kept.rescued.keras").read_bytes() == b"of another day"
    small = keras.saving.load_model("kept.rescued-2.keras")
    assert small.count_params() <= 0.6 * network().count_params()
    advice = (  # as it is told, before Keras
        "from reducible_train import RankScheduler\nimport keras\n"
        f"assert keras.saving.load_model('kept.rescued-2.keras').count_params() == "
        f"{small.count_params()}"
    )
    assert "import RankScheduler from reducible_train" in result.stderr
    subprocess.run([sys.executable, "-c", advice], check=True, capture_output=True)


def test_a_backup_goes_on_with_its_own_model_only(out, monkeypatch):
    Path("t.yaml").write_text(STEPS + TRAIN + "backup: {backup_dir: begun}\n")
    with monkeypatch.context() as broken:

        def break_off(*_):
            raise KeyboardInterrupt

        broken.setattr("reducible_train.cli._progress.EpochLines.on_epoch_end", break_off)
        assert finetune("m.keras", "d.npz", "t.yaml", out).exit_code == 5
    network().save("other.keras")  # of the same architecture
    other = finetune("other.keras", "d.npz", "t.yaml", out)
    assert other.exit_code == 1, other.output
    assert "begun is of another training: it began from another trained model" in other.stderr
    again = finetune("m.keras", "d.npz", "t.yaml", out)
    assert again.exit_code == 0, again.output
    epochs = re.findall(r"^ +(\d+) .*%", again.stdout, re.MULTILINE)
    assert epochs == ["2"], "it went on"
    assert not Path("begun").exists()


def test_flops_before_are_of_the_given_model_where_a_backup_is_gone_on_with(out, monkeypatch):
    Path("t.yaml").write_text(
        STEPS + "training: {epochs: 3, batch_size: 24}\nbackup: {backup_dir: begun}\n"
    )
    with monkeypatch.context() as broken:

        def break_off(self, epoch, logs=None):
            if epoch == 1:  # the ranks have fallen
                raise KeyboardInterrupt

        broken.setattr("reducible_train.cli._progress.EpochLines.on_epoch_end", break_off)
        assert finetune("m.keras", "d.npz", "t.yaml", out).exit_code == 5
    again = finetune("m.keras", "d.npz", "t.yaml", out)
    assert again.exit_code == 0, again.output
    report = read_report(out)
    told = rf"^FLOPs of one sample +{report.dense_flops:,} +{report.flops:,} "
    assert re.search(told, again.stdout, re.MULTILINE), again.stdout
    assert report.flops < report.dense_flops


class Falls:
    """Has a signal come where Python drops what it raises."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


ENDINGS = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.fixture
def plain_signals():
    """Signals as a terminal gives them; in the background, or under nohup, some are ignored."""
    plain = {signal.SIGINT: signal.default_int_handler}
    plain |= {signal.Signals[name]: signal.SIG_DFL for name in ENDINGS}
    before = {each: signal.signal(each, handler) for each, handler in plain.items()}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("plain_signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, ValueError("in the middle"), *ENDINGS, "dropped"]
)
def test_a_training_that_is_broken_off_leaves_the_model(out, monkeypatch, error):
    def raise_it(*_):
        if error == "dropped":
            Falls()
        elif error in ENDINGS:  # as `docker stop` and batch systems do, and a terminal that goes
            signal.raise_signal(signal.Signals[error])
        else:
            raise error

    monkeypatch.setattr("reducible_train.cli._progress.EpochLines.on_epoch_end", raise_it)
    result = finetune("m.keras", "d.npz", "c.yaml", out)
    assert result.exit_code == 5, result.output
    assert keras.saving.load_model("kept.rescued.keras").built
    assert not out.exists()
    assert all(signal.getsignal(signal.Signals[name]) is signal.SIG_DFL for name in ENDINGS)


def test_a_command_that_is_broken_off_before_it_trains_says_so(monkeypatch):
    def break_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("reducible_train.cli.finetune.load_network", break_off)
    assert "Broken off; run the same command again." in told(finetune(), 130)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("no memory")])
def test_a_model_whose_last_evaluation_is_broken_off_is_kept(out, monkeypatch, error):
    def evaluate(model, *arrays, **options):
        if int(model.optimizer.iterations):
            raise error
        return usual(model, *arrays, **options)

    usual = keras.Model.evaluate
    monkeypatch.setattr(keras.Model, "evaluate", evaluate)
    result = finetune("m.keras", "d.npz", "c.yaml", out)
    assert result.exit_code == 5, result.output
    assert keras.saving.load_model("kept.rescued.keras").built


def test_a_backup_of_all_epochs_is_not_lost_where_the_model_cannot_be_saved(out, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    Path("t.yaml").write_text(
        "compression: {budget: 0.5}\ntraining: {epochs: 1}\nbackup: {backup_dir: begun}\n"
    )
    with monkeypatch.context() as broken:  # after the last epoch, and before the end
        broken.setattr("reducible_train.cli._progress.EpochLines.on_epoch_end", fail)
        assert finetune("m.keras", "d.npz", "t.yaml", out).exit_code == 5
    first = keras.saving.load_model("kept.rescued.keras")
    with monkeypatch.context() as broken:
        broken.setattr("reducible_train.cli._training.save_model", fail)
        again = finetune("m.keras", "d.npz", "t.yaml", out)
    assert again.exit_code == 5, again.output
    kept = keras.saving.load_model("kept.rescued-2.keras")
    np.testing.assert_array_equal(kept.get_weights()[0], first.get_weights()[0])
    assert not Path("begun").exists()


@pytest.mark.usefixtures("plain_signals")
def test_the_rescue_is_not_broken_off(out, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    def interrupted(model, path):
        Path(path).write_bytes(b"half of it")
        signal.raise_signal(signal.SIGINT)
        save(model, path)

    save = keras.Model.save
    monkeypatch.setattr("reducible_train.cli._progress.EpochLines.on_epoch_end", fail)
    monkeypatch.setattr("reducible_train.cli._training.dense_file_bytes", lambda _: None)
    monkeypatch.setattr(keras.Model, "save", interrupted)
    result = finetune("m.keras", "d.npz", "c.yaml", out)
    assert result.exit_code == 5, result.output
    assert "kept.rescued.keras: import RankScheduler" in result.stderr
    assert keras.saving.load_model("kept.rescued.keras").built
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_model_of_the_longest_name_is_rescued(out, monkeypatch):
    def fail(*_):
        raise ValueError("in the middle")

    monkeypatch.setattr("reducible_train.cli._progress.EpochLines.on_epoch_end", fail)
    result = finetune("m.keras", "d.npz", "c.yaml", f"{out.stem * 61}.reducible")
    assert result.exit_code == 5, result.output
    (rescued,) = Path.cwd().glob("kept*.rescued.keras")
    assert keras.saving.load_model(rescued).built


def test_a_rescue_that_fails_leaves_no_half_of_a_file(out, monkeypatch, folder):
    def fail(*_):
        raise ValueError("in the middle")

    def half(_, path):
        Path(path).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reducible_train.cli._progress.EpochLines.on_epoch_end", fail)
    monkeypatch.setattr("reducible_train.cli._training.dense_file_bytes", lambda _: None)
    monkeypatch.setattr(keras.Model, "save", half)
    result = finetune("m.keras", "d.npz", "c.yaml", out)
    assert result.exit_code == 5, result.output
    assert "could not be kept: FileAccessError" in result.stderr
    assert not list(folder.glob("*rescued*"))
    assert not list(folder.glob(".*.keras"))


@pytest.mark.skipif(os.name == "nt", reason="Windows tells of it otherwise")
def test_a_reader_that_leaves_ends_no_training(out, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    line = ["finetune", "m.keras", "d.npz", "--config", "c.yaml", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["reducible-train", *line])
    with open(writing, "w", encoding="utf-8") as stream, monkeypatch.context() as here:
        here.setattr(sys, "stdout", stream)
        here.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    assert load_model(out).built


def test_metrics_of_several_numbers_are_told_by_their_mean(out):
    model = network(loss="categorical_crossentropy")
    model.compile("sgd", model.loss, metrics=[keras.metrics.F1Score()], run_eagerly=True)
    model.save("f1.keras")
    np.savez("f1.npz", x_train=X, y_train=np.eye(3, dtype="float32")[Y])
    result = finetune("f1.keras", "f1.npz", "c.yaml", out)
    assert result.exit_code == 0, result.output
    assert re.search(r"^epoch     loss  mean f1_score  par", result.stdout, re.MULTILINE)
    assert re.search(r"^    1  +\d\.\d{4}  +0\.\d{4} ", result.stdout, re.MULTILINE)
    assert re.search(r"training mean f1_score +0\.\d{4} +0\.\d{4}", result.stdout)


def test_a_figure_of_the_end_that_has_no_room_ends_no_training(out, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reducible_train.cli._results.tempfile.TemporaryDirectory", full)
    result = finetune("m.keras", "d.npz", "c.yaml", out)
    assert result.exit_code == 0, result.output
    assert "without optimizer state" not in result.stdout
    assert load_model(out).built


def test_what_nobody_has_foreseen_is_a_sentence_too(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("first. second\nthird")

    monkeypatch.setattr("reducible_train.cli.finetune.read_arrays", fail)
    result = finetune()
    assert result.exit_code == 1
    assert "Unforeseen: ZeroDivisionError: first." in result.stderr
    assert "third" not in result.output


def test_a_free_name_overwrites_nothing(tmp_path):
    path = tmp_path / "m.rescued.keras"
    for expected in ("m.rescued.keras", "m.rescued-2.keras", "m.rescued-3.keras"):
        assert free_name(path).name == expected
        free_name(path).touch()


def test_the_exit_codes_are_in_the_help():
    words = run("finetune", "--help").output
    assert all(f"{code} " in words for code in range(6))
    assert "rescued" in words
