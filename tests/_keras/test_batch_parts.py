"""Laws of what a batch is taken for, where a training step of one's own may take anything."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from reducible_train._keras import parts_of


def array(*shape, dtype="float32"):
    return np.ones(shape, dtype)


ROWS, TOKENS = array(8, 5), array(8, 6, dtype="int64")
WEIGHTS = {
    "one a sample": (ROWS, array(8, 2), array(8)),
    "in a column": (ROWS, array(8, 2), array(8, 1)),
    "of positions": (TOKENS, TOKENS, array(8, 6)),
    "of positions of one-hot targets": (TOKENS, array(8, 6, 30), array(8, 6, 1)),
    "of positions of a series": (array(8, 6), array(8, 6, 1), array(8, 6)),
    "of numbers": (array(8), array(8, 2), array(8)),
    "of columns": (array(8, 1), array(8), array(8, 1)),
    "of labels": (array(8), array(8, dtype="int32"), array(8)),
    "of several inputs": ({"a": array(8), "b": array(8)}, {"a": ROWS, "b": ROWS}, [array(8)] * 2),
    "of two outputs": (ROWS, {"a": array(8), "b": array(8, 2)}, {"a": array(8), "b": array(8)}),
    "without targets": (ROWS, None, array(8)),
    "of some outputs": (ROWS, {"a": array(8), "b": array(8)}, {"a": array(8), "b": None}),
}
OTHERS = {
    "vectors": (ROWS, ROWS, ROWS),
    "images": (array(8, 4, 4, 3),) * 3,
    "numbers of users and items": (array(8, dtype="int32"),) * 3,
    "tokens": (TOKENS, TOKENS, TOKENS),
    "texts": (np.array([["a"]] * 8),) * 3,
    "texts beside numbers": (ROWS, array(8), np.array(["a"] * 8)),
    "several inputs": ({"a": ROWS, "b": TOKENS},) * 3,
    "more than targets have": (ROWS, array(8, dtype="int32"), array(8, 7)),
    "four": (ROWS, ROWS, array(8), array(8)),
}


def spec(value):
    dtype = "string" if value.dtype.kind == "U" else value.dtype
    return tf.TensorSpec([None, *value.shape[1:]], dtype)


@pytest.mark.parametrize("kind", ["arrays", "specs"])
@pytest.mark.parametrize("name", [*WEIGHTS, *OTHERS])
def test_the_third_part_is_weights_where_it_looks_so(name, kind):
    batch = (WEIGHTS | OTHERS)[name]
    if kind == "specs":
        batch = keras.tree.map_structure(lambda each: None if each is None else spec(each), batch)
    x, y, weight = parts_of(batch, own=True)
    assert x is batch[0]
    assert y is batch[1]
    assert weight is (batch[2] if name in WEIGHTS else None)


@pytest.mark.parametrize("other", [array(5), 3, "a"])
def test_what_is_not_of_the_samples_is_no_target(other):
    x, y, weight = parts_of([ROWS, other, array(8)], own=True)
    assert x is ROWS
    assert (y, weight) == (None, None)


def test_a_step_of_keras_takes_what_keras_does():
    assert parts_of((ROWS, ROWS, ROWS), own=False)[2] is ROWS
    assert parts_of(ROWS, own=True)[0] is ROWS
    assert parts_of({"a": ROWS}, own=True)[0]["a"] is ROWS
    with pytest.raises(ValueError, match="Data is expected"):
        parts_of((ROWS,) * 4, own=False)
