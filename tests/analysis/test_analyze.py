"""`analyze`: what its table says, that the model stays, and what it goes on with."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import keras
import numpy as np
import pytest

from reducible_train import Analysis, ArgumentError, FormatError, LayerRule, analyze, factorize
from reducible_train.container.locks import lock
from reducible_train.errors import ArgumentTypeError, FileAccessError, ReducibleError

X = np.random.default_rng(0).normal(size=(48, 24)).astype("float32")
Y = np.random.default_rng(1).integers(5, size=48)


def network(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(32, activation="relu", name="first"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(28, activation="relu", name="second"),
            keras.layers.Dense(5, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def everything(model: keras.Model) -> list[bytes]:
    variables = [*model.variables, *model.optimizer.variables]
    variables += [seed.state for layer in model.layers for seed in layer._seed_generators]
    return [np.asarray(v).tobytes() for v in variables]


def test_the_model_stays_as_it_is():
    model = network()
    model.fit(X, Y, epochs=1, verbose=0)
    before, ids, compiled = everything(model), [id(v) for v in model.variables], model.optimizer
    answers = model.predict(X, verbose=0)
    analyze(model, (X, Y))
    assert everything(model) == before
    assert [id(v) for v in model.variables] == ids
    assert model.optimizer is compiled
    np.testing.assert_array_equal(model.predict(X, verbose=0), answers)


def test_each_value_is_that_of_the_model_with_one_kernel_cut():
    model = network()
    table = analyze(model, (X, Y))
    assert table.baseline == pytest.approx(model.evaluate(X, Y, verbose=0)[0], rel=1e-5)
    first = table.kernels[0]
    cut = network()
    cut.set_weights(model.get_weights())
    others = [LayerRule(path.split("/")[0], keep_dense=True) for path in table.paths[1:]]
    factorize(cut, rank=first.ranks[3], rules=others)
    assert first.values[3] == pytest.approx(cut.evaluate(X, Y, verbose=0)[0], rel=1e-4)
    assert first.ranks == tuple(max(1, int(r * 24 * 32 / 56)) for r in table.ratios)
    assert first.parameters == pytest.approx(24 * 32 / model.count_params(), rel=1e-6)
    assert first.bytes == pytest.approx(first.parameters)


def test_a_ratio_is_kept_to_the_last_rank():
    """As products of floats, 0.7 of a kernel of 96 x 30 are just below 16 ranks."""
    model = keras.Sequential(
        [keras.Input((96,)), keras.layers.Dense(30), keras.layers.Dense(30), keras.layers.Dense(1)]
    )
    for kernel in analyze(model, metric=lambda model: 0.0).kernels:
        m, n = kernel.shape
        exact = (Fraction(tenth, 10) * m * n / (m + n) for tenth in range(1, 11))
        assert kernel.ranks == tuple(max(1, math.floor(each)) for each in exact)


HALF = np.arange(48) % 2 * 1.5


@pytest.mark.parametrize("metric", ["loss", "accuracy", "weighted"])
def test_samples_of_weight_zero_are_told_as_evaluate_tells_them(metric):
    model = network()
    weighted = keras.metrics.SparseCategoricalAccuracy(name="weighted")
    model.compile("adam", model.loss, metrics=["accuracy"], weighted_metrics=[weighted])
    table = analyze(model, (X, Y, HALF), metric=metric, ratios=(0.5,))
    expected = model.evaluate(X, Y, sample_weight=HALF, verbose=0, return_dict=True)
    assert table.baseline == pytest.approx(expected[metric], rel=1e-5)
    assert (table.samples, table.given) == (48, 48)


@pytest.mark.parametrize("spoilt", ["inputs", "first inputs", "targets", "all but a few"])
def test_samples_of_weight_zero_that_cannot_be_evaluated_are_left_out_and_counted(spoilt):
    model, x, y, weight, more = network(), X.copy(), Y.copy(), HALF, {}
    if spoilt == "targets":
        y[::2] = -7
    elif spoilt == "all but a few":
        weight, more = (np.arange(48) == 40) * 1.0, {"samples": 12}
    else:
        x[0 if spoilt == "first inputs" else 46] = np.nan
    before = everything(model)
    table = analyze(model, (x, y, weight), ratios=(0.5,), **more)
    counts = weight > 0
    told = model.evaluate(x[counts], y[counts], sample_weight=weight[counts], verbose=0)[0]
    assert table.baseline == pytest.approx(told, rel=1e-5)
    assert f"({counts.sum()} of 48 samples" in str(table)
    assert everything(model) == before


def test_samples_that_all_weigh_nothing_are_refused():
    with pytest.raises(ArgumentError, match="weight above 0"):
        analyze(network(), (X, Y, 0 * HALF))


class Penalized(keras.layers.Layer):
    """Its outputs shall be small."""

    def call(self, x):
        self.add_loss(keras.ops.mean(keras.ops.square(x)))
        return x


def test_a_model_whose_losses_come_from_its_layers_needs_no_targets():
    inputs = keras.Input((24,))
    x = Penalized()(keras.layers.Dense(20, name="first")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="output")(x))
    model.compile("adam")
    found = analyze(model, X)
    assert found.baseline == pytest.approx(model.evaluate(X, verbose=0), rel=1e-5)


def test_factors_are_cut_and_come_back():
    model = network()
    factorize(model, rank=9)
    before = everything(model)
    table = analyze(model, (X, Y))
    assert everything(model) == before
    assert max(table.kernels[0].ranks) == 9
    assert table.kernels[0].values[-1] == pytest.approx(table.baseline, rel=1e-4)
    assert table.kernels[0].values[0] != table.baseline


def test_a_function_of_the_model_is_a_metric_and_a_failure_leaves_the_kernel():
    model = network()
    before = everything(model)
    asked: list[int] = []

    def norm(judged: keras.Model) -> float:
        asked.append(1)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return float(np.linalg.norm(np.asarray(judged.layers[0].kernel)))

    with pytest.raises(KeyboardInterrupt):
        analyze(model, metric=norm)
    assert everything(model) == before
    asked[:] = [1] * 5
    table = analyze(model, metric=norm)
    assert table.metric == "norm"
    assert analyze(model, (X, Y), metric=norm).measured_on == ""
    for data in (None, (X, Y)):
        with pytest.raises(ArgumentError, match="a function, which brings its own"):
            analyze(model, data, metric=norm, samples=8)
    values = table.kernels[0].values
    assert list(values) == sorted(values)
    assert values[0] < table.baseline


def test_the_table_goes_through_its_file(tmp_path):
    table = analyze(network(), (X, Y), metric="accuracy", file=tmp_path / "a.json")
    again = Analysis.from_json((tmp_path / "a.json").read_text())
    assert again == table
    assert "second/kernel" in str(again)
    assert "accuracy as it is" in str(again)


def test_predictions_add_up_single_changes():
    table = analyze(network(), (X, Y))
    one, two = table.kernels[:2]
    changes = one.values[2] + two.values[4] - 2 * table.baseline
    ranks = {one.path: one.ranks[2], two.path: two.ranks[4]}
    assert table.predicted(ranks) == pytest.approx(table.baseline + changes)
    assert table.predicted({one.path: 24}) == pytest.approx(table.baseline)
    with pytest.raises(ArgumentError, match="nowhere"):
        table.predicted({"nowhere": 3})
    for rank in (-1, 0, 2.5, True):
        with pytest.raises(ArgumentError, match="whole numbers from 1 on"):
            table.predicted({one.path: rank})


@pytest.mark.parametrize(
    ("data", "arguments", "words"),
    [
        ((X[:, :7], Y), {}, "`data`"),
        (X, {}, "needs targets"),
        (None, {}, "needs data"),
        ((X, Y), {"metric": "recall"}, "'accuracy'"),
        ((X, Y), {"metric": keras.metrics.SparseCategoricalAccuracy()}, "model -> number.*compile"),
        ((X, Y), {"metric": lambda y_true, y_pred: 0.0}, "model -> number.*compile"),
        ((X, Y), {"ratios": (0.5, 0.2)}, "must rise"),
    ],
)
def test_what_cannot_be_measured_is_named(data, arguments, words, tmp_path):
    with pytest.raises(ReducibleError, match=words):
        analyze(network(), data, file=tmp_path / "a.json", **arguments)
    assert not (tmp_path / "a.json").exists()


def of_two(done, count):
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        *(("ratios", each, "must be a list") for each in (0.5, np.array(0.5), "abc", None)),
        *(("ratios", [0.1, each], "must be numbers") for each in ("a", None, [0.5], 10**400)),
        ("ratios", [], "at least one"),
        *(("ratios", each, "must rise, each in") for each in ([np.nan], [10, 20], [0.5, 0.5])),
        *(("rules", each, "must hold LayerRule") for each in ("output", ["output"], None, 3)),
        ("rules", LayerRule("output", keep_dense=False), "one alone"),
        *(("progress", each, "must be a function of kernels") for each in ("x", 3, of_two)),
    ],
)
def test_arguments_of_another_kind_are_named_before_anything_is_computed(name, value, words):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=f"`{name}`.*{words}"):
        analyze(network(), iter(()), **{name: value})  # an iterator that it would miss


@pytest.mark.parametrize(
    ("seed", "data", "metric", "words"),
    [
        (1, (X, Y), "loss", "same weights"),
        (0, (X[:30], Y[:30]), "loss", "same data"),
        (0, (X, Y), "accuracy", "same metric"),
    ],
)
def test_a_file_of_something_else_is_refused_before_anything_is_measured(
    seed, data, metric, words, tmp_path, monkeypatch
):
    file = tmp_path / "a.json"
    analyze(network(), (X, Y), file=file)
    before = file.read_bytes()
    model = network(seed)
    monkeypatch.setattr(model, "test_on_batch", None)
    with pytest.raises(ArgumentError, match=words):
        analyze(model, data, metric=metric, file=file)
    assert file.read_bytes() == before


def interrupted(done, count, path):
    raise KeyboardInterrupt


def brier(y_true, y_pred):
    wanted = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), 5)
    return keras.ops.mean((wanted - y_pred) ** 2, axis=-1)


@pytest.mark.parametrize("is_whole", [False, True])
@pytest.mark.parametrize("metric", ["loss", "accuracy", "function"])
def test_a_file_of_another_metric_of_the_same_name_is_refused(metric, is_whole, tmp_path):
    file, model = tmp_path / "a.json", network()
    metrics = [lambda model: float(np.sum(model.weights[0])), lambda model: 3.0]
    asked = [metric, metric] if metric != "function" else metrics
    with contextlib.nullcontext() if is_whole else pytest.raises(KeyboardInterrupt):
        progress = None if is_whole else interrupted
        analyze(model, (X, Y), metric=asked[0], file=file, progress=progress)
    before, weights = file.read_bytes(), model.get_weights()
    top = keras.metrics.SparseTopKCategoricalAccuracy(4, name="accuracy")
    model.compile("adam", brier, metrics=[top])
    with pytest.raises(ArgumentError, match=r"the same .* as it is was .*, and now it is"):
        analyze(model, (X, Y), metric=asked[1], file=file)
    assert file.read_bytes() == before
    for one, two in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("noise", [1e-5, 0.5])
def test_a_file_is_gone_on_with_where_rounding_or_chance_is_in_the_metric(noise, tmp_path):
    rng = np.random.default_rng(0)

    def about(model: keras.Model) -> float:
        return 1.0 + noise * float(rng.normal())

    with pytest.raises(KeyboardInterrupt):
        analyze(network(), metric=about, file=tmp_path / "a.json", progress=interrupted)
    for _ in range(3):
        assert analyze(network(), metric=about, file=tmp_path / "a.json").is_whole


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "reducible_train analysis 1"}'])
def test_a_file_that_is_no_analysis_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FormatError, match=r"a\.json"):
        analyze(network(), (X, Y), file=tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == text


def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(tmp_path):
    with pytest.raises(FileAccessError, match="nowhere"):
        analyze(network(), metric=pytest.fail, file=tmp_path / "nowhere" / "a.json")


def test_one_analysis_at_a_time_writes_to_a_file(tmp_path):
    file, asked, locks = tmp_path / "a.json", [], []
    (tmp_path / "link.json").symlink_to(file)

    def about(model: keras.Model) -> float:
        asked.append(model)
        return 1.0

    def again(done, count, path):
        other, before = network(), file.read_bytes()
        if done == count:
            assert analyze(other, metric=about, file=file).is_whole, "nothing is written"
            assert locks[0].exists(), "it is held"
            return
        with pytest.raises(ArgumentError, match=r"one analysis at a time.*while this process"):
            analyze(other, metric=about, file=tmp_path / "link.json")
        assert not any(model is other for model in asked)
        assert file.read_bytes() == before
        (held,) = tmp_path.glob(".*.lock")
        locks.append(held)
        with held.open("r+b") as opened:
            assert lock(opened.fileno()) is False, "other processes are refused, too"

    analyze(network(), metric=about, file=file, progress=again)
    assert sorted(os.listdir(tmp_path)) == ["a.json", "link.json"]


def test_a_lock_that_another_process_made_in_place_of_a_removed_one_stays(tmp_path):
    def moved(done, count, path):
        for held in tmp_path.glob(".*.lock"):
            held.unlink()
            held.write_text("another's")

    analyze(network(), (X, Y), file=tmp_path / "a.json", progress=moved)
    (theirs,) = tmp_path.glob(".*.lock")
    assert theirs.read_text() == "another's"


def check_it_goes_on(file):
    """An analysis of which one kernel was measured; the other is, and no other."""
    begun = Analysis.from_json(file.read_text())
    assert [kernel.path for kernel in begun.kernels] == ["first/kernel"]
    model, asked = network(), []
    measure = model.test_on_batch
    model.test_on_batch = lambda *a, **k: asked.append(1) or measure(*a, **k)
    table = analyze(model, (X, Y), file=file)
    assert table.kernels[0] == begun.kernels[0]
    assert len(table.kernels) == 2
    assert len(asked) == 4 * (1 + len(set(table.kernels[1].ranks)))  # four batches; as it is, first


def test_an_analysis_goes_on_from_what_a_kill_would_leave(tmp_path):
    left = tmp_path / "left" / "a.json"

    def copy(done, count, path):
        if done == 1:
            shutil.copytree(tmp_path / "at", left.parent)

    (tmp_path / "at").mkdir()
    whole = analyze(network(), (X, Y), file=tmp_path / "at" / "a.json", progress=copy)
    assert os.listdir(tmp_path / "at") == ["a.json"]
    (held,) = left.parent.glob(".a.json.*.lock")
    assert sorted(os.listdir(left.parent)) == [held.name, "a.json"]
    check_it_goes_on(left)
    assert os.listdir(left.parent) == ["a.json"]
    held.touch()  # as a kill after the last kernel would leave it
    assert analyze(network(), (X, Y), file=left) == whole
    assert os.listdir(left.parent) == ["a.json"]
    assert Analysis.from_json(left.read_text()) == whole


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_analyze import X, Y, analyze, network
def stop(done, count, path):
    os.kill(os.getpid(), signal.SIGKILL)
analyze(network(), (X, Y), file=sys.argv[1], progress=stop)
"""


@pytest.mark.slow
def test_a_killed_analysis_goes_on(tmp_path):
    file = tmp_path / "a.json"
    command = [sys.executable, "-c", KILLED, str(file), str(Path(__file__).parent)]
    done = subprocess.run(command, check=False, timeout=300, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    check_it_goes_on(file)


def test_a_plot_is_drawn_or_says_what_it_needs(tmp_path, monkeypatch):
    table = analyze(network(), (X, Y), ratios=(0.5, 1.0))
    pytest.importorskip("matplotlib")
    table.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ArgumentError, match="pip install matplotlib"):
        table.plot()


def test_the_page_names_every_field():
    page = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")
    table = analyze(network(), (X, Y), ratios=(0.5,))
    for name in [*vars(table), *vars(table.kernels[0])]:
        assert f"`{name}`" in page
