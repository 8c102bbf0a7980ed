"""What `RankTensorBoard` measures as a fit ends, of models and data of every kind."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from reducible_train import PiecewiseConstant, RankScheduler, RankTensorBoard, save_model
from reducible_train.report.records import Report
from reducible_train.tensorboard import measured
from reducible_train.tensorboard.tags import from_json

L = keras.layers
COUNT = 20  # samples, fewer than are measured
RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(COUNT, 6)).astype("float32")
STEPS = RNG.normal(size=(COUNT, 5, 6)).astype("float32")
TOKENS = RNG.integers(0, 9, size=(COUNT, 7))
WORDS = np.array([f"a b {i % 3}" for i in range(COUNT)], object)


class OfOnesOwn(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.out = L.Dense(8), L.Dense(1)

    def call(self, x):
        return self.out(self.first(x))


class Packed(keras.Model):
    """Trained on pairs, which it cannot be called on."""

    def train_step(self, data):
        pair, _ = data
        return super().train_step(pair)

    def test_step(self, data):
        return {"seen": keras.ops.sum(data[0][1])}


class Unpredictable(keras.Sequential):
    def predict_step(self, *_):
        raise RuntimeError("there is\nno prediction")


def stack(*shape: int | None, kind: type[keras.Model] = keras.Sequential, **more: Any) -> Any:
    return kind([keras.Input(shape, **more), L.Dense(8), L.Dense(1)])


def named() -> keras.Model:
    """Its inputs are not in alphabetical order."""
    user, item = keras.Input((6,), name="user"), keras.Input((4,), name="item")
    hidden = L.Concatenate()([L.Dense(8)(user), L.Dense(8)(item)])
    return keras.Model({"user": user, "item": item}, L.Dense(1)(hidden))


def of_tokens(length: int | None = None) -> keras.Model:
    layers = [L.Embedding(9, 8), L.GlobalAveragePooling1D(), L.Dense(1)]
    return keras.Sequential([keras.Input((length,), dtype="int32"), *layers])


def of_words() -> keras.Model:
    vocabulary = L.TextVectorization(output_sequence_length=4, vocabulary=["a", "b"])
    texts = keras.Input((), dtype="string")
    return keras.Model(texts, of_tokens(4)(vocabulary(texts)))


def packed() -> keras.Model:
    inputs = keras.Input((6,))
    return Packed(inputs, L.Dense(1)(L.Dense(8)(inputs)))


def recurrent() -> keras.Model:
    inputs = keras.Input((5, 6), batch_size=4)
    return keras.Model(inputs, L.Dense(1)(L.LSTM(8, stateful=True)(inputs)))


def distiller() -> keras.Model:
    losses = keras.distillation.LogitsDistillation(temperature=2.0)
    return keras.distillation.Distiller(stack(6), stack(6), losses)


def stream(*batches: Any):
    for x in itertools.cycle(batches):
        yield x, np.zeros((COUNT, 1), "float32")


def fitted(
    folder: Path,
    model: keras.Model,
    x: Any,
    *more: Any,
    scheduler: RankScheduler | None = None,
    latency: bool = True,
    **how: Any,
) -> dict[str, Any]:
    """What the logs of a fit tell in the end."""
    model.compile("sgd", "mse", run_eagerly=True)
    scheduler = scheduler or RankScheduler(1.0)
    board = RankTensorBoard(scheduler, folder, latency=latency)
    if hasattr(x, "__next__"):
        how |= {"steps_per_epoch": 2, "shuffle": False}
    else:
        how |= {"y": np.zeros((COUNT, 1), "float32")}
    model.fit(x, callbacks=[scheduler, board, *more], verbose=0, **how)
    (file,) = (folder / "reducible").iterdir()
    values = [v for event in EventFileLoader(os.fspath(file)).Load() for v in event.summary.value]
    last = [value for value in values if value.tag == "reducible/outcome"][-1]
    found: dict[str, Any] = from_json(tensor_util.make_ndarray(last.tensor).item())
    return found


MEASURED = {
    "by name": (named, {"user": NUMBERS, "item": NUMBERS[:, :4]}),
    "open lengths": (of_tokens, TOKENS),
    "one's own": (OfOnesOwn, NUMBERS),
    "a student": (distiller, NUMBERS),
    "of another fit's inputs": (packed, (NUMBERS, NUMBERS[:, :1])),
    "known from the graph": (named, stream({"user": NUMBERS, "item": NUMBERS[:, :4]})),
    "known from its building": (OfOnesOwn, stream(NUMBERS)),
}
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    words = tf.constant(WORDS.tolist())
    MEASURED |= {"texts": (of_words, WORDS), "a stream of texts": (of_words, stream(words))}


@pytest.mark.parametrize(("make", "x"), MEASURED.values(), ids=list(MEASURED))
def test_the_latency_is_measured_in_the_structure_of_the_inputs(make, x, tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "_ROUNDS", 1)
    assert 0 < fitted(tmp_path, make(), x)["latency"] < 60


def test_the_only_batch_size_is_measured_and_states_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "_ROUNDS", 1)
    monkeypatch.setattr(measured, "_timed", lambda call: [call(), 3.0][1])
    model, states = recurrent(), []

    def state():
        return np.array(keras.ops.convert_to_numpy(model.layers[1].states[0]))

    kept = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: states.append(state()))
    told = fitted(tmp_path, model, STEPS, kept, batch_size=4, shuffle=False)
    assert told["latency"] == 3.0 * 32 / 4
    np.testing.assert_array_equal(state(), states[0])
    assert np.any(states[0] != 0)


@pytest.mark.parametrize(
    ("make", "x", "why"),
    [
        (of_tokens, stream(TOKENS, TOKENS[:, :3]), "not known in all their lengths"),
        (lambda: stack(6, kind=Unpredictable), NUMBERS, "RuntimeError: there is no prediction$"),
    ],
    ids=["not known", "no prediction"],
)
def test_what_cannot_be_measured_is_said_and_ends_no_fit(make, x, why, tmp_path):
    ended: list[Any] = []
    probe = keras.callbacks.LambdaCallback(on_train_end=ended.append)
    with pytest.warns(UserWarning, match=f"not measured the latency: .*{why}"):
        told = fitted(tmp_path, make(), x, probe)
    assert len(ended) == 1
    assert told["latency"] is None
    assert "has not measured the latency" in told["notes"][-1]
    assert told["done"]
    assert told["file_bytes"] > 0


def test_a_loop_without_a_model_says_that_nothing_is_measured(tmp_path):
    class Told:
        report = Report(8, 8, 4, 4, None, None, (), ())

    board = RankTensorBoard(Told(), tmp_path, latency=True)
    board.on_train_begin()
    board.on_epoch_end(0, {"loss": 1.0})
    with pytest.warns(UserWarning, match="not measured the latency: there is no keras.Model"):
        board.on_train_end()


def test_a_file_that_cannot_be_encoded_ends_no_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "codec_for", {}.__getitem__)
    with pytest.warns(UserWarning, match=r"not measured the size of the file: KeyError: "):
        assert fitted(tmp_path, stack(6), NUMBERS)["latency"] > 0


def test_the_file_of_a_distiller_is_that_of_its_student(tmp_path):
    model = distiller()
    told = fitted(tmp_path, model, NUMBERS)
    saved = save_model(model.student, tmp_path / "student.reducible")
    assert abs(told["file_bytes"] - saved.bytes) < 1500


def of_many_words() -> keras.Model:
    vocabulary = L.StringLookup(vocabulary=[f"word {i}" for i in range(900)])
    texts = keras.Input((4,), dtype="string")
    table = L.Embedding(901, 4)(vocabulary(texts))
    return keras.Model(texts, L.Dense(1)(L.Flatten()(table)))


def of_many_means() -> keras.Model:
    means = L.Normalization(mean=RNG.normal(size=300).tolist(), variance=[1.0] * 300)
    return keras.Sequential([keras.Input((300,)), means, L.Dense(8), L.Dense(1)])


def of_many_layers() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), *(L.Dense(12) for _ in range(6)), L.Dense(1)])


FILES = {
    "cuts": (of_many_layers, NUMBERS),
    "configuration": (of_many_means, np.zeros((COUNT, 300), "float32")),
}
if keras.backend.backend() == "tensorflow":
    FILES |= {"vocabulary": (of_many_words, tf.constant([["word 3"] * 4] * COUNT))}


@pytest.mark.parametrize("name", FILES)
def test_the_size_of_the_file_counts_all_that_is_in_it(name, tmp_path):
    make, x = FILES[name]
    falls = PiecewiseConstant((1.0, 0.9, 0.8, 0.7), (0, 1, 2, 3))
    scheduler = RankScheduler(falls if name == "cuts" else 1.0, criterion="frobenius")
    model = make()
    told = fitted(tmp_path, model, x, scheduler=scheduler, latency=False, epochs=4)
    saved = save_model(model, tmp_path / "model.reducible", scheduler.report)
    assert len(scheduler.report.cuts) == (3 if name == "cuts" else 0)
    assert told["file_bytes"] == pytest.approx(saved.bytes, rel=0.02, abs=60)
