"""Files that an earlier state of the package wrote: they load, and predict what they did.

`golden/` holds one factorised model of many kinds of layers as a compact file and as a file of
Keras, with inputs and the outputs of that time. These files are never written anew: a change
after which they do not load breaks the files of every user.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from reducible_train import load_model, load_weights_into
from reducible_train.surgery.plans import plan_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
INPUTS = [np.array(EXPECTED["image"], "float32"), np.array(EXPECTED["words"], "int32")]


def predicts_what_it_did(model):
    outputs = model.predict(INPUTS, verbose=0)
    np.testing.assert_allclose(outputs, EXPECTED["outputs"], atol=2e-5)
    assert len(plan_of(model)) == 14


@pytest.fixture(scope="module")
def model():
    return load_model(GOLDEN / "model.reducible")


def test_an_old_compact_file_loads(model):
    predicts_what_it_did(model)


def test_an_old_file_of_keras_loads():
    predicts_what_it_did(keras.saving.load_model(GOLDEN / "model.keras"))


@pytest.mark.parametrize("name", ["model.reducible", "model.keras"])
def test_old_weights_go_into_a_model(model, name):
    other = keras.models.clone_model(model)
    predicts_what_it_did(load_weights_into(other, GOLDEN / name))
