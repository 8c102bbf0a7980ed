"""Reports of files: no smaller than before, or not to be opened again.

Each docstring begins with the address of the report; the situation is told in our words.
"""

from __future__ import annotations

import json
import zipfile

import keras
import numpy as np
import pytest
from tiny import CLASSES, FEATURES, RNG, X, answer, compiled, dense, fit, plain, stack

from reducible_train import (
    ArgumentError,
    FormatError,
    LayerRule,
    RankModelCheckpoint,
    RankScheduler,
    factorize,
    load_model,
    load_weights_into,
    merge,
    read_report,
    save_model,
    to_stock_layers,
)
from reducible_train.container import read_container, write_container

L = keras.layers
WORDS = np.array([["to"], ["be"], ["or"], ["never"]], object)


def same(model, again, x=X):
    np.testing.assert_array_equal(answer(model, x), answer(again, x))


def wide():
    """Wide enough for the weights, and not the configuration, to make the file."""
    return stack(dense(128, "one"), dense(128, "two"), L.Dense(CLASSES, name="out"))


# --- size ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.reducible", "model.keras", "model.weights.h5"])
def test_the_file_is_smaller_without_any_archiver(name, tmp_path):
    """https://github.com/tensorflow/model-optimization/issues/760 (and 570, tensorflow#47838)

    The file of a pruned model is as large as before unless it is packed by hand afterwards, and
    then nothing can open it.
    """
    save = {"reducible": save_model, "keras": keras.saving.save_model}.get(
        name.rpartition(".")[2], lambda model, path: model.save_weights(path)
    )
    model, size = wide(), []
    for _ in range(2):
        save(model, tmp_path / name)
        size.append((tmp_path / name).stat().st_size)
        factorize(model, budget=0.25)
    assert size[1] < 0.6 * size[0]


def test_a_model_on_its_way_is_no_larger_than_the_dense_one(tmp_path):
    """https://github.com/tensorflow/model-optimization/issues/162

    The model is four times as large on disk while it is being pruned, until wrappers are
    stripped by a call one has to know of.
    """
    model = compiled(wide())
    dense_file = save_model(model, tmp_path / "dense.reducible").bytes
    scheduler = RankScheduler(budget=0.5)
    sizes = []
    each = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: sizes.append(
            save_model(model, tmp_path / f"{epoch}.reducible").bytes
        )
    )
    fit(model, scheduler, each, epochs=2)
    assert max(sizes) < 0.7 * dense_file


def test_the_compact_file_holds_no_optimizer(tmp_path):
    """https://github.com/tensorflow/tensorflow/issues/91498

    The file of "weights only" is larger than that of the model, since the moments are in it.
    """
    model = plain()
    factorize(model, rank=4)
    bare = save_model(model, tmp_path / "bare.reducible").bytes
    fit(model, epochs=1)
    trained = save_model(model, tmp_path / "trained.reducible").bytes
    assert trained < 1.1 * bare
    with read_container(tmp_path / "trained.reducible") as file:
        assert {name.partition("/")[0] for name, _ in file} == {"one", "two", "out"}


def test_a_rank_that_would_make_a_layer_larger_is_not_taken():
    """https://github.com/IntelLabs/distiller/issues/359 (and rbgirshick/py-faster-rcnn#911)

    512 x 1000 becomes 512 x 400 and 400 x 1000: more numbers than before, to one's surprise.
    """
    model = stack(L.Dense(32, name="layer"), L.Dense(CLASSES))
    before = model.count_params()
    report = factorize(model, rank=12)
    assert model.count_params() == before
    (record,) = [k for k in report.kernels if k.path == "layer/kernel"]
    assert record.rank is None
    assert record.break_even_rank == 10
    assert record.remark


def test_half_precision_is_half_the_file(tmp_path):
    """https://github.com/keras-team/keras/issues/17381

    A model in half precision is written at full size.
    """
    sizes = {}
    for dtype in ("float32", "float16"):
        model = stack(L.Dense(64, dtype=dtype), L.Dense(64, dtype=dtype))
        saved = save_model(model, tmp_path / f"{dtype}.reducible")
        sizes[dtype] = saved.weight_bytes
        again = load_model(saved.path)
        assert {v.dtype for v in again.weights} == {dtype}
    assert sizes["float16"] * 2 == sizes["float32"]


# --- coming back --------------------------------------------------------------------------


def test_no_layer_of_the_compressor_is_unknown_afterwards(tmp_path):
    """https://github.com/keras-team/keras/issues/16873 (and model-optimization#773)

    The file names a layer of the compressor: "Unknown layer", or an unknown object inside it.
    A `.keras` file loads where this package is imported; after `to_stock_layers` it names
    Keras only.
    """
    model = plain()
    factorize(model, rank=4)
    model.save(tmp_path / "small.keras")
    same(model, keras.models.load_model(tmp_path / "small.keras"))
    stock = to_stock_layers(model)
    stock.save(tmp_path / "stock.keras")
    with zipfile.ZipFile(tmp_path / "stock.keras") as file:
        assert "reducible" not in file.read("config.json").decode()
    np.testing.assert_allclose(
        answer(keras.models.load_model(tmp_path / "stock.keras")), answer(model), atol=1e-6
    )


def branches(first, second):
    """Two branches of one shape; the order of the names is the order in which they are made."""
    inputs = keras.Input((FEATURES,), name="in")
    made = {name: dense(24, name)(inputs) for name in (first, second)}
    joined = L.Concatenate(name="join")([made["left"], made["right"]])
    return keras.Model(inputs, L.Dense(CLASSES, name="out")(joined))


def test_weights_find_their_layers_by_path_not_by_place(tmp_path):
    """https://github.com/keras-team/keras-hub/issues/2701

    Low-rank weights are kept by the place of their layer in a list. Where the same model is made
    in another order they land in each other's layers, and nobody is told.
    """
    model = branches("left", "right")
    factorize(model, rank=4)
    saved = save_model(model, tmp_path / "m.reducible")
    other = branches("right", "left")
    load_weights_into(other, saved.path)
    same(model, other)


def nested_twice():
    """https://github.com/keras-team/keras/issues/10180 (and 13744, 12619)

    A model in a model in a model, with a normalisation, is saved and does not load.
    """
    inner = stack(dense(24, "deep"), L.BatchNormalization(name="norm"), dense(24, "deeper"))
    middle = keras.Sequential([keras.Input((FEATURES,)), inner, dense(20, "between")])
    return keras.Sequential([keras.Input((FEATURES,)), middle, L.Dense(CLASSES, name="out")])


def frozen_inside():
    """https://github.com/keras-team/keras/issues/13259 (and 9905)

    Nested models of which a part is frozen: the order of the weights in the file is another.
    """
    model = nested_twice()
    model.layers[0].layers[0].trainable = False
    return model


def backbone_in_a_row():
    """https://github.com/tensorflow/tensorflow/issues/63853 (and keras#20084)

    A functional backbone as the first layer of a Sequential: on loading, the next layer
    "expects one input and received two".
    """
    inputs = keras.Input((FEATURES,), name="given")
    backbone = keras.Model(inputs, dense(24, "b2")(dense(24, "b1")(inputs)), name="backbone")
    return stack(backbone, L.Dropout(0.2), L.Dense(CLASSES, name="out"))


@pytest.mark.parametrize(
    "make", [nested_twice, frozen_inside, backbone_in_a_row], ids=lambda make: make.__name__
)
def test_a_model_in_a_model_comes_back(make, tmp_path):
    """The report is named by the model: see its docstring. From both files, bit for bit."""
    model = make()
    assert factorize(model, budget=0.6).ranks
    save_model(model, tmp_path / "m.reducible")
    model.save(tmp_path / "m.keras")
    same(model, load_model(tmp_path / "m.reducible"))
    same(model, keras.models.load_model(tmp_path / "m.keras"))
    fresh = make()
    load_weights_into(fresh, tmp_path / "m.reducible")
    same(model, fresh)


@keras.saving.register_keras_serializable("reports")
class Late(keras.Model):
    """Makes its layers when it is built."""

    def build(self, shape):
        self.blocks = [dense(24), dense(24)]
        self.norms = [L.LayerNormalization() for _ in self.blocks]
        self.head = L.Dense(CLASSES)

    def call(self, x):
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x = norm(block(x))
        return self.head(x)


def test_layers_that_are_made_late_come_back(tmp_path):
    """https://github.com/keras-team/keras/issues/18823 (and 18875, tensorflow#44240)

    Layers made in `build`: "was never built, but the weights file lists variables for it". The
    weights go into an object that was called once, and saving says so.
    """
    model = Late()
    answer(model)
    factorize(model, rank=4)
    with pytest.warns(UserWarning, match="load_weights_into"):
        saved = save_model(model, tmp_path / "m.reducible")
    assert "load_weights_into" in saved.loads_with
    fresh = Late()
    answer(fresh)
    load_weights_into(fresh, saved.path)
    same(model, fresh)


@pytest.mark.parametrize("ranks", [(2, 2), (2, 8), (8, 2)])
def test_ranks_of_the_file_need_not_be_those_of_the_model(ranks, tmp_path):
    """https://github.com/huggingface/peft/issues/276 (and 3737)

    "Size mismatch": factors of one rank for a model that has another, or several ranks in one
    file where one is expected.
    """
    one, two = ranks
    rules = [LayerRule("one", max_rank=one), LayerRule("two", max_rank=two)]
    model = plain()
    assert list(factorize(model, rank=8, rules=rules).ranks.values()) == [one, two]
    saved = save_model(model, tmp_path / "m.reducible")
    other = plain()
    factorize(other, rank=5)
    load_weights_into(other, saved.path)
    same(model, other)
    same(model, load_model(saved.path))


def test_no_rank_is_ever_zero(tmp_path):
    """https://github.com/huggingface/peft/issues/1539

    The allocator takes all directions of a layer; the file with rank 0 does not load.
    """
    for rank in (0, -1):
        with pytest.raises(ArgumentError, match=rf"Received: .*{rank}"):
            factorize(plain(), rank=rank)
    model = stack(
        L.Dense(24, kernel_initializer=keras.initializers.Constant(1e-9), name="nothing"),
        dense(24, "all"),
        L.Dense(CLASSES),
    )
    report = factorize(model, budget=0.5)
    assert min(report.ranks.values()) >= 1
    same(model, load_model(save_model(model, tmp_path / "m.reducible").path))


@pytest.mark.parametrize("how", ["list", "adapted"])
def test_vocabularies_come_back(how, tmp_path):
    """https://github.com/tensorflow/tensorflow/issues/61369 (and keras#18376, keras#15508)

    The vocabulary of a lookup layer is lost between saving and loading, or between the second
    saving and the second loading.
    """
    lookup = L.StringLookup(vocabulary=["to", "be"] if how == "list" else None, name="words")
    if how == "adapted":
        lookup.adapt(WORDS)
    words = keras.Input((1,), dtype="string")
    x = L.Flatten()(L.Embedding(8, 16, name="table")(lookup(words)))
    model = keras.Model(words, L.Dense(CLASSES)(dense(24, "hidden")(x)))
    factorize(model, rank=2)
    tensor = keras.ops.convert_to_tensor(WORDS)
    once = load_model(save_model(model, tmp_path / "m.reducible").path)
    twice = load_model(save_model(once, tmp_path / "m.reducible").path)
    same(model, once, tensor)
    same(model, twice, tensor)
    assert twice.get_layer("words").get_vocabulary() == lookup.get_vocabulary()


def test_a_lambda_is_told_of_when_it_is_saved(tmp_path):
    """https://github.com/keras-team/keras/issues/18284 (and tf-keras#44)

    That a Lambda is not loaded is found out after training, by whoever loads the file.
    """
    model = stack(L.Lambda(lambda x: x * 2, name="double"), dense(24, "d"), L.Dense(CLASSES))
    factorize(model, rank=4)
    with pytest.warns(UserWarning, match=r"double.*Lambda|Lambda.*double"):
        saved = save_model(model, tmp_path / "m.reducible")
    fresh = stack(L.Lambda(lambda x: x * 2, name="double"), dense(24, "d"), L.Dense(CLASSES))
    load_weights_into(fresh, saved.path)
    same(model, fresh)


class Scaled(L.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_a_layer_without_configuration_costs_no_training(tmp_path):
    """https://github.com/tensorflow/tensorflow/issues/33947 (and 39793)

    A layer of one's own without `get_config`: the first save, after the first epoch, fails, and
    so does the training. Here it is said before the training, once, how the file comes back.
    """

    model = stack(Scaled(2.0, name="scaled"), dense(24, "d"), L.Dense(CLASSES))
    scheduler = RankScheduler(rank=4)
    path = tmp_path / "best.reducible"
    best = RankModelCheckpoint(scheduler, path, "loss", save_best_only=False)
    with pytest.warns(UserWarning, match="To bring the model back") as told:
        fit(model, scheduler, best, epochs=2)
    (sentence,) = [str(each.message) for each in told if each.category is UserWarning]
    assert sentence.startswith(f"{path} ")
    assert "custom_objects={'Scaled': Scaled}" in sentence
    same(model, load_model(path, {"Scaled": Scaled}))


@pytest.mark.parametrize("module", ["os", "builtins", "subprocess"])
def test_a_file_finds_no_function_of_another_module(module, tmp_path):
    """https://github.com/io-no/CVE-Reports/issues/2 (CVE-2025-1550; and 5, CVE-2025-9906)

    A configuration names any function of any module, and loading the file runs it, although
    "safe mode" is on.
    """
    path = tmp_path / "m.reducible"
    save_model(plain(), path)
    with read_container(path) as file:
        content, tensors = file.header.content, list(file)
    text = json.dumps(content)
    call = {"module": module, "class_name": "function", "config": "system"}
    forged = json.loads(text.replace('"activation": "relu"', f'"activation": {json.dumps(call)}'))
    assert forged != content
    write_container(path, forged, tensors)
    with pytest.raises(FormatError):
        load_model(path)


def test_arrays_in_another_order_are_written(tmp_path):
    """https://github.com/safetensors/safetensors/issues/469 (and huggingface/diffusers#10761)

    Saving fails for arrays that do not lie in one piece, as transposed ones do.
    """
    array = np.asfortranarray(RNG.normal(size=(6, 4)).astype("float32"))
    tensors = {"transposed": array, "every other": array[::2], "backwards": array[::-1]}
    write_container(tmp_path / "m.reducible", {}, tensors.items())
    with read_container(tmp_path / "m.reducible") as file:
        for name, found in file:
            np.testing.assert_array_equal(found, tensors[name])


def test_the_report_of_every_rank_stays_with_the_file(tmp_path):
    """https://github.com/huggingface/peft/issues/1327

    The pattern of the ranks is empty in what was saved, and nobody knows which layer got which.
    """
    model, scheduler = plain(), RankScheduler(budget=0.5)
    fit(model, scheduler, epochs=1)
    save_model(model, tmp_path / "m.reducible", scheduler.report)
    told = read_report(tmp_path / "m.reducible")
    assert told.ranks == scheduler.report.ranks != {}
    assert told.ranks == {f"{n}/kernel": model.get_layer(n).rank for n in ("one", "two")}


def test_a_layer_of_a_given_size():
    """https://github.com/AIoT-MLSys-Lab/SVD-LLM/issues/4

    Not one ratio for all, but a size for each layer. Its inputs and outputs stay as they are.
    """
    model = plain()
    rules = [LayerRule("one", rank=3), LayerRule("two", rank=7)]
    assert factorize(model, rank=5, rules=rules).ranks == {"one/kernel": 3, "two/kernel": 7}
    assert answer(model).shape == (len(X), CLASSES)


def test_cutting_again_leaves_a_model_that_works(tmp_path):
    """https://github.com/kohya-ss/sd-scripts/issues/904

    A low-rank file is brought to a lower rank, and what comes out has the wrong shape.
    """
    model = plain()
    factorize(model, rank=8)
    again = load_model(save_model(model, tmp_path / "8.reducible").path)
    factorize(again, rank=3)
    small = load_model(save_model(again, tmp_path / "3.reducible").path)
    same(again, small)
    merge(small)
    np.testing.assert_allclose(answer(small), answer(again), atol=1e-5)
