"""What `calibration=` may be: all that `fit` takes, read as `fit` reads it."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo

from reducible_train import ArgumentError, RankScheduler, factorize
from reducible_train.selection.calibration import samples_of

L = keras.layers


def two_inputs():
    a, b = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    h = L.Dense(16, "tanh", name="h")(L.Concatenate()([a, b]))
    model = keras.Model([a, b], L.Dense(3)(h))
    model.compile("sgd", "mse")
    return model


def arrays(samples=20):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(samples, k)).astype("float32") for k in (6, 6, 3)]


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts, endless=False):
        super().__init__()
        self.parts, self.endless = parts, endless

    @property
    def num_batches(self):
        return None if self.endless else 2

    def __getitem__(self, index):
        start = index % 2 * 10
        return tuple(part[start : start + 10] for part in self.parts)


def given(name):
    """Inputs, targets and weights of all ways to give the same samples."""
    x1, x2, y = arrays()
    w = np.ones(20)
    return {
        "a list of inputs": ([x1, x2], ("x",)),
        "one in a tuple": (([x1, x2],), ("x",)),
        "by name": ({"right": x2, "left": x1}, ("x",)),
        "with targets": (([x1, x2], y), ("x", "y")),
        "with weights": (([x1, x2], y, w), ("x", "y", "weight")),
        "tensors": (([tf.constant(x1), tf.constant(x2)], tf.constant(y)), ("x", "y")),
        "dataset": (tf.data.Dataset.from_tensor_slices(((x1, x2), y, w)).batch(8), ("x", "y")),
        "generator": ((([x1[i:j], x2[i:j]], y[i:j]) for i, j in ((0, 8), (8, 20))), ()),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "a list of inputs",
        "one in a tuple",
        "by name",
        "with targets",
        "with weights",
        "tensors",
        "dataset",
        "generator",
    ],
)
def test_whatever_fit_takes_is_read_as_fit_reads_it(name):
    calibration, parts = given(name)
    expected, model = two_inputs(), two_inputs()
    model.set_weights(expected.get_weights())
    factorize(expected, rank=3, criterion="activation", calibration=arrays()[:2])
    samples = samples_of(calibration)
    assert len(samples) == 20
    assert all(getattr(samples, part) is not None for part in parts)
    calibration, _ = given(name)
    factorize(model, rank=3, criterion="activation", calibration=calibration)
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_batches_of_a_py_dataset_and_a_loader_are_samples():
    x, _, y = arrays()
    assert len(samples_of(Batches(x, y))) == 20
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    samples = samples_of(torch.utils.data.DataLoader(data, batch_size=8))
    np.testing.assert_array_equal(samples.x, x)
    np.testing.assert_array_equal(samples.y, y)


@pytest.mark.parametrize("source", ["dataset", "generator", "py_dataset"])
def test_what_does_not_end_is_taken_in_part_and_says_so(source):
    x, _, y = arrays()
    sources = {
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(10).repeat(),
        "generator": ((x, y) for _ in itertools.count()),
        "py_dataset": Batches(x, y, endless=True),
    }
    with pytest.warns(UserWarning, match="does not say how long it is: its first 20.. samples"):
        assert 2048 <= len(samples_of(sources[source])) < 2080


def test_a_generator_is_read_once_for_all_cuts_and_fits():
    x, _, y = arrays()
    model = keras.Sequential([keras.Input((6,)), L.Dense(16, "tanh"), L.Dense(3)])
    model.compile("sgd", "mse")
    scheduler = RankScheduler(rank=3, criterion="activation", calibration=iter([(x, y)]))
    for _ in range(2):
        model.fit(x, y, verbose=0, callbacks=[scheduler])
    assert scheduler.report.ranks
    with pytest.raises(ArgumentError, match=r"gave none\. A generator can be read once only"):
        samples_of(iter([]))


def test_words_are_inputs():
    words = np.array([["a b"], ["b a a"], ["a"]])
    vectors = L.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4)
    layers = [keras.Input((1,), dtype="string"), vectors, L.Embedding(5, 8), L.Dense(16)]
    model = keras.Sequential([*layers, L.Flatten(), L.Dense(3)])
    batches = tf.data.Dataset.from_tensor_slices(words).batch(2)
    for calibration in (words, words.astype(object), batches):
        copy = keras.models.clone_model(model)
        copy.layers[0].set_vocabulary(["a", "b"])
        report = factorize(copy, rank=2, criterion="activation", calibration=calibration)
        assert {k.criterion for k in report.cuts[0].kernels} == {"activation"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda x, y: [x, y], r"A list is inputs.*calibration=\(x, y\)"),
        (lambda x, y: (x, x, y, y), "a tuple of 4. Several inputs are a list"),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)), r"dataset\.batch\(32\)"),
        (lambda x, y: tf.data.Dataset.from_tensor_slices(x), r"dataset\.batch\(32\)"),
        (
            lambda x, y: tf.data.Dataset.from_tensor_slices((x, y.argmax(-1))),
            r"dataset\.batch\(32\)",
        ),
        (lambda x, y: (x, y[:3]), "equally many samples"),
        (lambda x, y: np.array([[1.0], [1.0, 2.0]], dtype=object), "padded to one length"),
        (lambda x, y: "train.csv", "equally many samples|arrays"),
        (lambda x, y: x[:0], "at least one"),
        (lambda x, y: (None, y), r"Received: no inputs, \(20, 3\)"),
        (lambda x, y: iter([(None, y)]), r"Received: no inputs, \(20, 3\)"),
        (lambda x, y: iter([None]), r"Received: no inputs\. Give it"),
        (lambda x, y: x.tolist(), r"Of lists of numbers make arrays, np\.asarray"),
    ],
)
def test_what_cannot_be_samples_is_refused_in_words(wrong, says):
    x, _, y = arrays()
    model = zoo.compiled(keras.Sequential([keras.Input((6,)), L.Dense(16), L.Dense(3)]))
    before = model.get_weights()
    with pytest.raises(ArgumentError, match=says):
        factorize(model, rank=2, criterion="activation", calibration=wrong(x, y))
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


@pytest.mark.parametrize("criterion", ["auto", "fisher", "activation"])
def test_samples_that_name_classes_the_model_does_not_have_are_refused(criterion):
    model = keras.Sequential([keras.Input((6,)), L.Dense(16), L.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, labels = arrays()[0], np.arange(len(arrays()[0])) % 4
    with pytest.raises(ArgumentError, match=r"from 0 to 2, the classes.*3 in `calibration`"):
        factorize(model, rank=2, criterion=criterion, calibration=(x, labels))
    scheduler = RankScheduler(rank=2, criterion=criterion, calibration=(x, labels))
    with pytest.raises(ArgumentError, match=r"3 in `calibration`"):
        model.fit(x, labels % 3, callbacks=[scheduler], verbose=0)
    factorize(model, rank=2, criterion=criterion, calibration=(x, labels % 3))


def test_batches_of_many_lengths_are_samples():
    """As bucketing gives them; also where a fit shows them."""
    parts = [(np.arange(4 * n).reshape(4, n) % 9, np.zeros(4, int)) for n in (3, 5, 3)]
    samples = samples_of(iter(parts))
    assert len(samples) == 12
    assert [x.shape for x, _, _ in samples.batches()] == [(8, 3), (4, 5)]
    given = keras.Input((None,), dtype="int32")
    pooled = L.GlobalAveragePooling1D()(L.Dense(16)(L.Embedding(9, 8)(given)))
    model = zoo.compiled(keras.Model(given, L.Dense(3)(pooled)))
    spec = (tf.TensorSpec((None, None), tf.int64), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=spec).repeat()
    scheduler = RankScheduler(rank=2, criterion="activation", calibration=12)
    model.fit(data, steps_per_epoch=4, epochs=2, verbose=0, shuffle=False, callbacks=[scheduler])
    assert {k.criterion for k in scheduler.report.cuts[0].kernels} == {"activation"}
