"""Laws of surgery: what may change, and what must stay, when ranks change."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    Ramp,
    SpectrumError,
    SurgeryError,
    _keras,
    factorize,
    merge,
)
from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import apply_plan, change_kernels, cut
from reducible_train.surgery.plans import plan_of

ROUND_OFF = 2e-5
BACKEND = keras.backend.backend()


def hidden(model):
    """The kernels of a zoo model but those of 5 units, its outputs."""
    return [kernel for kernel in find_kernels(model) if kernel.shape[1] != 5]


def to_rank(model, rank=None, **options):
    kernels = hidden(model)
    changes = [cut(k, min(rank or 99, *k.shape), decomposition(k)) for k in kernels]
    change_kernels(model, changes, **options)
    return kernels


@pytest.fixture(params=zoo.MODELS)
def model(request):
    return zoo.compiled(zoo.MODELS[request.param]())


def test_full_rank_changes_no_output_and_a_cut_reaches_everything(model):
    a_cut_reaches_everything(model)


@pytest.mark.traced
@pytest.mark.parametrize("name", zoo.traced_or_slow())
def test_so_it_does_in_a_graph(name):
    a_cut_reaches_everything(zoo.compiled(zoo.MODELS[name]()))


def a_cut_reaches_everything(model):
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    before = zoo.predicted(model, x)
    to_rank(model)
    np.testing.assert_allclose(zoo.outputs(model, x), before, atol=ROUND_OFF)
    np.testing.assert_allclose(zoo.predicted(model, x), before, atol=ROUND_OFF)
    to_rank(model, 3)
    after = zoo.predicted(model, x)
    assert np.abs(after - before).max() > 1e-2
    np.testing.assert_allclose(zoo.outputs(model, x), after, atol=ROUND_OFF)
    values = [np.array(v) for v in model.trainable_variables]
    model.fit(x, y, verbose=0)
    pairs = zip(model.trainable_variables, values, strict=True)
    moved = [np.abs(np.array(v) - b).max() for v, b in pairs]
    assert min(moved) > 0, "every variable is trained, the factors too"
    np.testing.assert_allclose(zoo.predicted(model, x), zoo.outputs(model, x), atol=ROUND_OFF)


def test_variables_really_shrink_and_keep_their_paths(model):
    model.optimizer.build(model.trainable_variables)
    before = {v.path for v in model.variables}
    kernels = to_rank(model, 3)
    after = {v.path: tuple(v.shape) for v in model.variables}
    for kernel in kernels:
        u, v = kernel.variables
        assert after[u.path] == (kernel.shape[0], 3)
        assert after[v.path] == (3, kernel.shape[1])
        dense = u.path.removesuffix("_u")
        assert dense in before
        assert dense not in after
    assert len(model.optimizer.variables) == 2 + 2 * len(model.trainable_variables)


def test_cutting_twice_is_cutting_once(model):
    x, _ = zoo.data(model)
    twin = type(model).from_config(model.get_config()) if model.name != "own" else zoo.subclassed()
    twin.set_weights(model.get_weights())
    to_rank(model, 9)
    to_rank(model, 4)
    to_rank(twin, 4)
    np.testing.assert_allclose(zoo.outputs(model, x), zoo.outputs(twin, x), atol=ROUND_OFF)


def test_merge_gives_plain_keras_back(model):
    x, _ = zoo.data(model)
    fresh = [v.path for v in model.variables]
    to_rank(model, 4)
    before = zoo.predicted(model, x)
    assert merge(model) is model
    np.testing.assert_allclose(zoo.predicted(model, x), before, atol=ROUND_OFF)
    assert [v.path for v in model.variables] == fresh
    assert all(
        type(layer).__module__.startswith("keras") or type(layer).__module__ == "zoo"
        for _, layer in _keras.walk(model)
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a SavedModel is TensorFlow's")
def test_savedmodel_export_works_after_cuts(tmp_path):
    import tensorflow as tf

    model = zoo.compiled(zoo.nested())
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    to_rank(model, 8)
    to_rank(model, 4)
    model.export(tmp_path / "export", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "export"))
    served = loaded.serve(x)
    np.testing.assert_allclose(served, zoo.outputs(model, x), atol=ROUND_OFF)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float64"])
def test_dtype_policies_are_respected(policy):
    if policy == "float64" and BACKEND == "jax":
        pytest.skip("JAX computes in float64 only when told so before it starts")
    model = zoo.of_policy(policy)
    zoo.compiled(model)
    x, y = zoo.data(model)
    zoo.step(model, x, y)
    dense = model.layers[0]._kernel
    before = zoo.outputs(model, x)
    kernels = find_kernels(model)[:1]
    change_kernels(model, [cut(k, 24, decomposition(k)) for k in kernels])
    u, v = kernels[0].variables
    assert u.dtype == v.dtype == dense.dtype
    half = 0.1 if policy == "bfloat16" else 3e-2 if "mixed" in policy else ROUND_OFF
    np.testing.assert_allclose(zoo.outputs(model, x), before, atol=half)
    dtype = keras.backend.standardize_dtype(model.layers[0](x).dtype)
    assert dtype == model.layers[0].compute_dtype
    assert np.isfinite(zoo.step(model, x, y)).all()


def test_frozen_layers_stay_frozen():
    model = zoo.sequential()
    model.get_layer("first").trainable = False
    zoo.compiled(model)
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    to_rank(model, 4)
    layer = model.get_layer("first")
    assert layer.trainable_variables == []
    before = np.array(layer.kernel_u)
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(layer.kernel_u, before)
    layer.trainable = True
    assert len(layer.trainable_variables) == 3


@pytest.mark.parametrize("regularizer", ["l2", "l1", keras.regularizers.L1L2(0.1, 0.2)])
def test_a_regularizer_acts_on_the_product(regularizer):
    model = keras.Sequential(
        [keras.Input((24,)), keras.layers.Dense(32, kernel_regularizer=regularizer, name="first")]
    )
    loss = zoo.as_array(sum(model.losses))
    change_kernels(model, [cut(k, 24, decomposition(k)) for k in find_kernels(model)])
    np.testing.assert_allclose(zoo.as_array(sum(model.losses)), loss, rtol=1e-5)
    change_kernels(model, [cut(k, 3, decomposition(k)) for k in find_kernels(model)])
    layer = model.layers[0]
    expected = zoo.as_array(keras.regularizers.get(regularizer)(layer.kernel_u @ layer.kernel_v))
    np.testing.assert_allclose(zoo.as_array(sum(model.losses)), expected, rtol=1e-5)
    merge(model)
    np.testing.assert_allclose(zoo.as_array(sum(model.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize("trouble", ["quantized", "lora", "constraint", "subclass"])
def test_what_factors_cannot_keep_stays_dense_with_the_reason(trouble):
    class Odd(keras.layers.Dense):
        pass

    kind = Odd if trouble == "subclass" else keras.layers.Dense
    constraint = "max_norm" if trouble == "constraint" else None
    model = keras.Sequential(
        [
            keras.Input((24,)),
            kind(30, name="odd", kernel_constraint=constraint),
            keras.layers.Dense(30, name="plain"),
            keras.layers.Dense(5, name="output"),
        ]
    )
    if trouble == "quantized":
        model.get_layer("odd").quantize("int8")
    if trouble == "lora":
        model.get_layer("odd").enable_lora(2)
    report = factorize(model, rank=4)
    assert report.ranks == {"plain/kernel": 4}
    record = next(k for k in report.kernels if k.path.startswith("odd/"))
    words = {"quantized": "int8", "lora": "LoRA", "constraint": "constraint", "subclass": "Odd"}
    assert words[trouble] in record.reason


def test_lora_and_quantization_of_a_factorised_layer_say_what_to_do():
    model = zoo.sequential()
    factorize(model, rank=4)
    for act in (lambda la: la.enable_lora(2), lambda la: la.quantize("int8")):
        with pytest.raises(SurgeryError, match=r"layer 'first'.*merge"):
            act(model.get_layer("first"))


def test_nan_is_refused_by_name_and_nothing_is_touched():
    model = zoo.compiled(zoo.sequential())
    weights = model.get_weights()
    weights[2][3, 3] = np.nan
    model.set_weights(weights)
    before = [id(v) for v in model.variables]
    with pytest.raises(SpectrumError, match="second/kernel"):
        factorize(model, rank=4)
    assert [id(v) for v in model.variables] == before


@pytest.mark.traced
def test_all_or_nothing_when_keras_fails_half_way(monkeypatch):
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    model.fit(x, y, verbose=0)
    before, ids = zoo.predicted(model, x), [id(v) for v in model.variables]
    state = [np.array(v) for v in model.optimizer.variables]
    calls = []
    build = type(model.optimizer).build

    def breaks(self, variables):
        calls.append(1)
        build(self, variables[:2])
        raise RuntimeError("out of memory")

    kernels = hidden(model)
    changes = [cut(k, 3, decomposition(k)) for k in kernels]
    monkeypatch.setattr(type(model.optimizer), "build", breaks)
    with pytest.raises(SurgeryError, match=r"as it was.*out of memory"):
        change_kernels(model, changes)
    monkeypatch.undo()
    assert calls
    assert [id(v) for v in model.variables] == ids
    assert all(type(layer).__module__.startswith("keras") for layer in model.layers)
    for a, b in zip(model.optimizer.variables, state, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(zoo.predicted(model, x), before)
    model.fit(x, y, verbose=0)
    to_rank(model, 3)
    model.fit(x, y, verbose=0)


def test_apply_plan_brings_any_model_to_a_plan():
    model = zoo.sequential()
    apply_plan(model, {"first/kernel": 7})
    assert [k.rank for k in find_kernels(model)] == [7, None, None]
    apply_plan(model, {"first/kernel": 9, "second/kernel": 2})
    assert [k.rank for k in find_kernels(model)] == [9, 2, None]
    apply_plan(model, {})
    assert [k.rank for k in find_kernels(model)] == [None, None, None]
    with pytest.raises(SurgeryError, match=r"no kernel 'third/kernel'.*first/kernel"):
        apply_plan(model, {"third/kernel": 2})
    with pytest.raises(SurgeryError, match=r"in \[1, 24\]\. Received: 25"):
        apply_plan(model, {"first/kernel": 25})


@pytest.mark.traced
def test_ten_cuts_do_not_pile_up_memory():
    """TensorFlow keeps dead graphs, JAX what it compiled: what stays must be small."""
    model = keras.Sequential(
        [
            keras.Input((784,)),
            *(keras.layers.Dense(512, activation="relu") for _ in range(2)),
            keras.layers.Dense(10),
        ]
    )
    zoo.compiled(model)
    x = np.random.default_rng(0).normal(size=(64, 784)).astype("float32")
    y = np.zeros(64, "int64")
    model.fit(x, y, verbose=0)
    start = None
    for rank in range(140, 129, -1):
        change_kernels(model, [cut(k, rank, decomposition(k)) for k in find_kernels(model)[:2]])
        model.fit(x, y, verbose=0)
        gc.collect()
        start = start or resident_megabytes()
    assert (resident_megabytes() - start) / 10 < (6 if BACKEND == "jax" else 2)


def resident_megabytes() -> float:
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    import resource

    return pages * resource.getpagesize() / 2**20


def test_another_process_sees_a_plain_layer_class(tmp_path):
    """The class is registered under the package's name, so Keras finds it by itself."""
    model = zoo.sequential()
    factorize(model, rank=4)
    config = keras.saving.serialize_keras_object(model.get_layer("first"))
    assert config["registered_name"] == "reducible_train>LowRankDense"
    assert config["config"]["ranks"] == 4


def test_a_schedule_is_refused_where_there_is_one_cut():
    ramp = Ramp(1.0, 0.25, start_epoch=0, end_epoch=2)
    with pytest.raises(ArgumentTypeError, match=r"cuts once.*Write budget=0\.25"):
        factorize(zoo.sequential(), budget=ramp)


def test_a_part_of_a_model_can_be_merged():
    model = zoo.compiled(zoo.sequential())
    x, y = zoo.data(model)
    factorize(model, rank=4)
    before = zoo.outputs(model, x)
    for wrong in ("none_such", ["first", "output"]):
        with pytest.raises(ArgumentError, match=r"matches none of first, second"):
            merge(model, wrong)
    for wrong in (3, np.array("first")):
        with pytest.raises(ArgumentTypeError, match="must be a pattern"):
            merge(model, wrong)
    assert set(plan_of(model)) == {"first/kernel", "second/kernel"}
    merge(model, "fir*")
    assert plan_of(model) == {"second/kernel": 4}
    np.testing.assert_allclose(zoo.outputs(model, x), before, atol=ROUND_OFF)
    model.get_layer("first").enable_lora(2)
    model.fit(x, y, verbose=0)
    merge(model, layers=["second"])
    assert plan_of(model) == {}


def test_an_interruption_leaves_the_model_as_it_was(monkeypatch):
    import zoo

    from reducible_train import factorize
    from reducible_train.surgery import change

    model = zoo.compiled(zoo.sequential(), "adam")
    x, y = zoo.data(model)
    model.train_on_batch(x, y)
    before = [np.array(each) for each in (*model.variables, *model.optimizer.variables)]

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(change, "transfer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        factorize(model, 0.6)
    after = [np.array(each) for each in (*model.variables, *model.optimizer.variables)]
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model.train_on_batch(x, y)
