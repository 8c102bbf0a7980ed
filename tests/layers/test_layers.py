"""Laws of every kind of low-rank layer: a layer in, the same layer out, only smaller."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import law
import numpy as np
import pytest
import zoo
from kinds import KINDS

from reducible_train import (
    ArgumentError,
    ArgumentTypeError,
    LayerRule,
    SurgeryError,
    factorize,
    load_model,
    merge,
    save_model,
    to_stock_layers,
)
from reducible_train import layers as public
from reducible_train.layers import base, conv, dense_classes, find_kernels
from reducible_train.layers.einsum_dense import Equation
from reducible_train.layers.embedding import LowRankReversibleEmbedding
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import change_kernels, cut

L = keras.layers
IMAGE, ROWS = (10, 9, 6), (8, 6)


def run(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return zoo.as_array(model(x, training=False))


def kernels_of(model: keras.Model) -> list[Any]:
    return [k for k in find_kernels(model) if not k.path.startswith("output")]


def changes(model: keras.Model, rank_of: Callable[[Any], int], split: str | None) -> list[Any]:
    return [
        cut(kernel, rank_of(kernel), decomposition(kernel, split), split)
        for kernel in kernels_of(model)
    ]


# A graph of every kind; those of its other forms, whose numbers are a law of `law.py`, are slow.
GRAPHS = [
    pytest.param(name, marks=pytest.mark.slow if kind.variant else ())
    for name, kind in KINDS.items()
]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph is TensorFlow's")
@pytest.mark.parametrize("name", GRAPHS)
def test_it_computes_and_learns_in_a_graph_as_outside_of_one(name):
    """For any number of samples; all else of each kind is in `law.py`, which traces nothing."""
    import tensorflow as tf

    model, x = law.sequential(name, "float32"), KINDS[name].inputs()
    change_kernels(model, changes(model, lambda k: 2, KINDS[name].split))
    factors = [variable for kernel in kernels_of(model) for variable in kernel.variables]

    def step(x):
        with tf.GradientTape() as tape:
            y = model(x, training=False)
            loss = tf.reduce_sum(tf.square(y - 1.0))
        slopes = tape.gradient(loss, [variable.value for variable in factors])
        return [y, *(tf.convert_to_tensor(each) for each in slopes)]

    any_number = tf.TensorSpec((None, *x.shape[1:]), x.dtype)
    graph = tf.function(step, input_signature=[any_number])
    for found, expected in zip(graph(x), step(tf.constant(x)), strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_uses_of_a_convolution_are_those_of_its_outputs(data_format):
    """FLOPs of the two convolutions, counted by their output shapes."""
    shape = (20, 18, 4) if data_format == "channels_last" else (4, 20, 18)
    layer = L.Conv2D(6, (3, 2), strides=(2, 3), data_format=data_format)
    layer.build((None, *shape))
    kind = dense_classes()[L.Conv2D].kernel_kind
    out = layer.compute_output_shape((1, *shape))
    h, w = out[1:3] if data_format == "channels_last" else out[2:]
    assert kind.uses(layer, "kernel", "channel", (1, *shape), {}).u == h * w
    spatial = kind.uses(layer, "kernel", "spatial", (1, *shape), {})
    assert (spatial.u, spatial.v) == (h * 18, h * w)


FIRST = {
    "conv1d": (L.Conv1D, 1, {"dilation_rate": 2}),
    "conv2d": (L.Conv2D, 2, {"strides": 2, "padding": "same"}),
    "conv2d groups": (L.Conv2D, 2, {"groups": 2, "padding": "same"}),
    "conv3d": (L.Conv3D, 3, {}),
    "transposed": (L.Conv2DTranspose, 2, {"strides": 2, "padding": "same"}),
    "separable1d": (L.SeparableConv1D, 1, {"padding": "same"}),
    "separable2d": (L.SeparableConv2D, 2, {}),
}


def first_or_last(name, data_format):
    make, axes, options = FIRST[name]
    space = (9, 8, 7)[:axes]
    shape = (12, *space) if data_format == "channels_first" else (*space, 12)
    layer = make(16, 3, data_format=data_format, name="conv", **options)
    return keras.Sequential([keras.Input(shape), layer])


@pytest.mark.parametrize("name", FIRST)
def test_channels_may_come_first(name, tmp_path):
    """Plan, costs and files as with channels last; outputs as well, where Keras has them."""
    first, last = first_or_last(name, "channels_first"), first_or_last(name, "channels_last")
    first.set_weights(last.get_weights())
    x = np.random.default_rng(0).normal(size=(2, *first.input_shape[1:])).astype("float32")
    runs = True
    try:
        run(first, x)
    except Exception as error:  # of TensorFlow, which lacks some of them on a CPU
        if "NHWC" not in str(error):
            raise
        runs = False
    rules = [LayerRule("conv", keep_dense=False)]
    reports = [factorize(model, budget=0.6, rules=rules) for model in (first, last)]
    assert str(reports[0]) == str(reports[1])
    assert reports[0].flops < reports[0].dense_flops
    for one, two in zip(first.weights, last.weights, strict=True):
        np.testing.assert_array_equal(zoo.as_array(one), zoo.as_array(two))
    save_model(first, tmp_path / "model.reducible")
    first.save(tmp_path / "model.keras")
    loaded = [load_model(tmp_path / "model.reducible")]
    loaded.append(keras.saving.load_model(tmp_path / "model.keras"))
    for model in (first, *loaded):
        assert model.get_layer("conv").data_format == "channels_first"
        if not runs:
            with pytest.raises(Exception, match="NHWC"):
                run(model, x)
            continue
        expected = np.moveaxis(run(last, np.moveaxis(x, 1, -1)), -1, 1)
        np.testing.assert_allclose(run(model, x), expected, atol=2e-6 * np.abs(expected).max())


def test_masks_pass_through_an_embedding():
    for make in (L.Embedding, L.ReversibleEmbedding):
        model = keras.Sequential(
            [keras.Input((7,), dtype="int32"), make(20, 8, mask_zero=True, name="e"), L.LSTM(4)]
        )
        x = np.array([[1, 2, 3, 0, 0, 0, 0]], "int32")
        dense = run(model, x)
        kernel = next(k for k in find_kernels(model) if k.path == "e/embeddings")
        change_kernels(model, [cut(kernel, 8, decomposition(kernel))])
        np.testing.assert_allclose(run(model, x), dense, atol=1e-5)
        longer = np.array([[1, 2, 3, 0, 0, 0, 5]], "int32")
        assert np.abs(run(model, longer) - dense).max() > 1e-4


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's tensors")
def test_ragged_rows_of_a_table_are_looked_up():
    import tensorflow as tf

    given = keras.Input((None,), dtype="int32", ragged=True)
    rows = L.GlobalAveragePooling1D()(L.Embedding(20, 8, name="e")(given))
    model = keras.Model(given, L.Dense(2, name="output")(rows))
    x = tf.ragged.constant([[1], [2, 3, 19], [4, 0]])
    dense = run(model, x)
    change_kernels(model, changes(model, lambda kernel: 8, None))
    np.testing.assert_allclose(run(model, x), dense, atol=1e-5)
    np.testing.assert_allclose(tf.function(model)(x), dense, atol=1e-5)
    with pytest.raises(SurgeryError, match="'e' is called on ragged tensors"):
        to_stock_layers(model)


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_run_in_reverse(tied):
    inputs = keras.Input((7,), dtype="int32")
    table = L.ReversibleEmbedding(30, 12, tie_weights=tied, logit_soft_cap=5.0, name="table")
    x = L.Dense(12, name="middle")(table(inputs))
    model = keras.Model(inputs, table(x, reverse=True))
    x = np.arange(14).reshape(2, 7)
    dense = run(model, x)
    kernel = next(k for k in find_kernels(model) if k.path == "table/embeddings")
    change_kernels(model, [cut(kernel, 12, decomposition(kernel))])
    np.testing.assert_allclose(run(model, x), dense, atol=1e-5)


def untied():
    inputs = keras.Input((7,), dtype="int32")
    table = L.ReversibleEmbedding(30, 12, tie_weights=False, logit_soft_cap=5.0, name="table")
    x = L.Dense(12, name="middle")(table(inputs))
    return keras.Model(inputs, table(x, reverse=True))


@pytest.mark.parametrize("chosen", [("embeddings",), ("reverse_embeddings",), None])
def test_the_way_back_of_an_untied_embedding_is_a_kernel_of_its_own(chosen, tmp_path):
    model = zoo.compiled(untied())
    x, y = np.arange(14).reshape(2, 7), np.ones((2, 7), "int32")
    model.fit(x, y, verbose=0)
    kernels = [k for k in find_kernels(model) if k.layer.name == "table"]
    assert [k.name for k in kernels] == ["embeddings", "reverse_embeddings"]
    kernels = [k for k in kernels if chosen is None or k.name in chosen]
    dense = run(model, x)
    change_kernels(model, [cut(k, 12, decomposition(k)) for k in kernels])
    np.testing.assert_allclose(run(model, x), dense, atol=1e-5)
    change_kernels(model, [cut(k, 3, decomposition(k)) for k in kernels])
    before = [zoo.as_array(v) for k in kernels for v in k.variables]
    model.fit(x, y, verbose=0)
    after = [zoo.as_array(v) for k in kernels for v in k.variables]
    assert all(np.abs(a - b).max() > 0 for a, b in zip(after, before, strict=True))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(run(again, x), run(model, x), atol=1e-6)
    save_model(model, tmp_path / "model.reducible")
    np.testing.assert_array_equal(run(load_model(tmp_path / "model.reducible"), x), run(model, x))
    lowered = run(model, x)
    merge(model)
    assert type(model.get_layer("table")) is L.ReversibleEmbedding
    np.testing.assert_allclose(run(model, x), lowered, atol=1e-5)


def test_an_untied_embedding_counts_each_way_for_its_own_kernel():
    model = untied()
    report = factorize(model, rank=3, rules=[LayerRule("table", keep_dense=False)])
    records = {record.path: record for record in report.kernels}
    assert records["table/embeddings"].rank == records["table/reverse_embeddings"].rank == 3
    dense = 7 * 2 * (12 * 12 + 12 * 30)
    assert report.dense_flops == dense, "looking up multiplies nothing"
    model = untied()
    report = factorize(model, rank=3)
    assert list(report.ranks) == ["table/embeddings", "middle/kernel"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_reversible_embedding_made_by_hand_has_the_kernels_it_needs(tied):
    layer = LowRankReversibleEmbedding(30, 12, tie_weights=tied, rank=4)
    rows = layer(np.arange(5))
    assert layer(rows, reverse=True).shape == (5, 30)
    kernels = ["embeddings"] if tied else ["embeddings", "reverse_embeddings"]
    assert layer.ranks == dict.fromkeys(kernels, 4)


class OfTheKernel(keras.initializers.Initializer):
    """One that knows a single shape."""

    def __call__(self, shape, dtype=None):
        assert tuple(shape) == (24, 16)
        return keras.ops.ones(shape, dtype)


TABLE = np.random.default_rng(0).normal(size=(24, 16)).astype("float32")


def the_table(shape, dtype=None):
    return TABLE


INITIALIZERS = {
    "an array": lambda: keras.initializers.Constant(TABLE),
    "one shape": OfTheKernel,
    "whatever shape": lambda: the_table,
    "an identity": keras.initializers.Identity,
    "orthogonal": keras.initializers.Orthogonal,
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_an_initializer_of_the_kernel_alone_keeps_no_layer_from_being_made_anew(name):
    own, inputs = INITIALIZERS[name](), keras.Input((4,), dtype="int32")
    table = L.Embedding(24, 16, embeddings_initializer=own, name="table")(inputs)
    x = L.Dense(16, kernel_initializer=own, name="dense")(L.Dense(24, name="output_in")(table))
    model = keras.Model(inputs, L.Dense(3, name="output")(x))
    x = np.random.default_rng(1).integers(0, 24, (5, 4))
    change_kernels(model, changes(model, lambda kernel: 5, None))
    with keras.saving.custom_object_scope(
        {each.__name__: each for each in (OfTheKernel, the_table)}
    ):
        again = keras.models.clone_model(model)
    assert [tuple(v.shape) for v in again.variables] == [tuple(v.shape) for v in model.variables]
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(run(again, x), run(model, x))
    np.testing.assert_allclose(run(to_stock_layers(again), x), run(model, x), atol=1e-5)
    merge(model)
    for layer, attribute in {"table": "embeddings", "dense": "kernel"}.items():
        merged = model.get_layer(layer)
        assert not isinstance(merged, base.LowRank)
        assert getattr(merged, f"{attribute}_initializer") is own


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("make", [L.SimpleRNN, L.LSTM, L.GRU])
@pytest.mark.parametrize("options", [{}, {"implementation": 1}])
def test_dropout_of_cells_is_that_of_keras(make, options, training):
    if make is L.SimpleRNN and options:
        pytest.skip("SimpleRNN has one implementation")
    results = []
    for rank in (None, "full"):
        keras.utils.set_random_seed(3)
        layer = make(6, dropout=0.4, recurrent_dropout=0.3, seed=7, **options)
        model = keras.Sequential([keras.Input(ROWS), layer, L.Dense(3, name="output")])
        if rank:
            change_kernels(model, changes(model, lambda k: min(k.shape), None))
        x = np.random.default_rng(0).normal(size=(4, *ROWS)).astype("float32")
        results.append(zoo.as_array(model(x, training=training)))
    np.testing.assert_allclose(results[1], results[0], atol=2e-5)


@pytest.mark.parametrize(
    ("equation", "fault"),
    [
        ("ab,bc->ac", None),
        ("...x,xy->...y", None),
        ("abc,cde->abde", None),
        ("ab,b->ab", "does not separate"),
        ("ab,bcd->ac", "sums the kernel"),
        ("abx,bc->ac", "sums the inputs"),
    ],
)
def test_equations_that_do_not_separate_are_refused(equation, fault):
    assert (Equation.of(equation).fault is None) == (fault is None)
    if fault:
        assert fault in Equation.of(equation).fault


def test_what_does_not_separate_is_left_dense_with_the_reason():
    model = keras.Sequential(
        [
            keras.Input((12,)),
            L.EinsumDense("ab,b->ab", 12, name="scale"),
            L.Dense(12, name="hidden"),
            L.Dense(3, name="output"),
        ]
    )
    report = factorize(model, rank=2)
    assert report.ranks == {"hidden/kernel": 2}
    records = {k.path: k.reason for k in report.kernels}
    assert "output layer" in records["output/kernel"]


def test_depthwise_kernels_are_left_with_the_reason():
    model = keras.Sequential(
        [
            keras.Input(IMAGE),
            L.DepthwiseConv2D(3, name="depth"),
            L.Conv2D(32, 3, name="conv"),
            L.Flatten(),
            L.Dense(3, name="output"),
        ]
    )
    reasons = {k.path: k.reason for k in factorize(model, rank=2).kernels}
    assert "depthwise" in reasons["depth/kernel"]


# --- a kind from outside of the package ------------------------------------------------------


@keras.saving.register_keras_serializable("outside")
class Sine(L.Layer):
    """A layer with a kernel in a plain attribute and no argument that Keras's own have."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))

    def call(self, inputs: Any) -> Any:
        return keras.ops.sin(keras.ops.matmul(inputs, self.kernel))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@pytest.fixture
def low_rank_sine(monkeypatch):
    """A low-rank class for it, which other tests do not see."""
    monkeypatch.setattr(base, "_CLASSES", dict(base._CLASSES))

    @keras.saving.register_keras_serializable("outside")
    class LowRankSine(public.LowRank, Sine):
        kernel_kind = public.KernelKind(
            Sine,
            kernel_attributes={"kernel": "kernel"},
            data=public.Data(inputs=public.RowReader(last_axis)),
        )
        kernel = public.PlainKernel()

        def call(self, inputs: Any) -> Any:
            return keras.ops.sin(self.multiply(inputs, "kernel"))

    return LowRankSine


def last_axis(layer: Any, kernel: str, values: np.ndarray, rng: Any) -> np.ndarray:
    return values.reshape(1, -1, values.shape[-1])


def of_sines() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32,)), Sine(24, name="sine"), L.Dense(3, name="output")])
    x = np.random.default_rng(0).normal(size=(40, 32)).astype("float32")
    x[:, 8:] = 0  # of rank 8, which the data tells and the kernel does not
    return model, x


def test_a_kind_from_outside_is_one_like_ours(low_rank_sine, tmp_path):
    model, x = of_sines()
    before = run(model, x)
    report = factorize(model, rank=8, criterion="activation", calibration=x)
    layer = model.get_layer("sine")
    assert (type(layer), report.ranks) == (low_rank_sine, {"sine/kernel": 8})
    after = run(model, x)
    np.testing.assert_allclose(after, before, atol=0.02)  # blind to the data: 0.8
    model.save(tmp_path / "a.keras")
    save_model(model, tmp_path / "a.reducible")
    known = {"Sine": Sine}
    for again in (
        keras.models.load_model(tmp_path / "a.keras"),
        load_model(tmp_path / "a.reducible", custom_objects=known),
        keras.models.clone_model(model),
    ):
        again.set_weights(model.get_weights())
        assert again.get_layer("sine").ranks == {"kernel": 8}
        np.testing.assert_array_equal(run(again, x), after)
    with pytest.raises(SurgeryError, match="'sine' \\(Sine\\) has no such form"):
        to_stock_layers(model)
    merge(model)
    assert type(layer) is Sine
    np.testing.assert_allclose(run(model, x), after, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: public.KernelKind(Sine, kernel_attributes=["kernel"]), "must be a mapping"),
        (lambda: public.KernelKind(Sine, splits=()), "`splits` of the kind of Sine must be names"),
        (lambda: public.KernelKind(Sine, data=last_axis), "`data` of the kind of Sine must be a"),
        (lambda: public.KernelKind(Sine, fault="never"), "`fault` of KernelKind .* function"),
        (lambda: public.KernelKind(Sine, uses=None), "`uses` of KernelKind must be a function"),
        (lambda: public.Data(inputs=last_axis), "`inputs` of Data must be a RowReader"),
        (lambda: public.Data(bias="bias"), "`bias` of Data must be a function"),
        (lambda: public.RowReader(None), "`read` of RowReader must be a function"),
    ],
)
def test_a_kind_of_wrong_parts_is_refused_where_it_is_defined(make, words):
    with pytest.raises(ArgumentTypeError, match=words):
        make()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"fault": lambda *_: False}, "`fault` of the kind of Sine must return a reason or None"),
        ({"matricization": lambda *_: None}, "`matricization` of the kind of Sine must return"),
        ({"uses": lambda *_: 1}, "`uses` of the kind of Sine must return Uses or None"),
        ({"possible_splits": lambda *_: None}, "`possible_splits` .* names of.* Received: None"),
        ({"possible_splits": lambda *_: ()}, r"`possible_splits` of the kind of Sine .*: \(\)"),
        ({"possible_splits": lambda *_: "matrix"}, "`possible_splits` .*Received: 'matrix'"),
        ({"possible_splits": lambda *_: (None,)}, "`possible_splits` .*must return names of"),
        ({"bias": lambda *_: 3}, "`bias` of the kind of Sine must return a variable or None"),
        ({"possible_splits": lambda *_: np.array("")}, "`possible_splits` .*must return names"),
        ({"possible_splits": lambda *_: np.ones((1, 1))}, "`possible_splits` .*must return names"),
        ({"bias": lambda layer, _: keras.Variable(np.ones(7))}, "for each of 24 outputs.*Received"),
        ({"bias": lambda *_: np.ones(24)}, "`bias` of the kind of Sine must return a variable"),
        ({"read": lambda layer, kernel, x, rng: x}, r"\(1, rows, 32\). Received: shape \(40, 32\)"),
        ({"read": lambda *_: np.ones((2, 40, 32))}, r"sine/kernel must be of shape \(1, rows, 32"),
    ],
)
def test_what_a_kind_returns_is_looked_at_when_it_is_first_used(low_rank_sine, part, words):
    told = dict(part)
    parts = {"bias": told.pop("bias")} if "bias" in told else {}
    data = public.Data(inputs=public.RowReader(told.pop("read", last_axis)), **parts)
    attributes = {"kernel": "kernel"}
    low_rank_sine.kernel_kind = public.KernelKind(Sine, attributes, data=data, **told)
    model, x = of_sines()
    with pytest.raises((ArgumentError, ArgumentTypeError), match=words):
        factorize(model, rank=8, criterion="activation", calibration=x)


def test_names_of_splits_may_come_as_an_array(low_rank_sine):
    low_rank_sine.kernel_kind = public.KernelKind(
        Sine, {"kernel": "kernel"}, possible_splits=lambda *_: np.array([""])
    )
    model, _ = of_sines()
    assert factorize(model, rank=8).ranks == {"sine/kernel": 8}
    assert model.get_layer("sine").split_of("kernel") == ""


def test_a_layer_of_no_known_kind_is_told_apart():
    model, _ = of_sines()
    assert find_kernels(model)[0].path == "output/kernel"


def test_a_kind_of_another_class_is_refused(low_rank_sine):
    with pytest.raises(ArgumentTypeError, match="which is none of Dense"):

        class Wrong(public.LowRank, Sine):
            kernel_kind = public.KernelKind(L.Dense)

    assert dense_classes()[L.Dense] is public.LowRankDense


def test_a_low_rank_class_needs_a_call_of_its_own(low_rank_sine):
    class Cosine(L.Dense):
        def call(self, inputs):
            return keras.ops.cos(keras.ops.matmul(inputs, self.kernel))

    with pytest.raises(ArgumentTypeError, match="Without, which has that of Cosine"):

        class Without(public.LowRank, Cosine):
            kernel_kind = public.KernelKind(Cosine)

            @property
            def rank(self):
                return self.ranks["kernel"]

    assert Cosine not in dense_classes()

    class ByProduct(public.LowRank, Cosine):  # slow, but what the call reads is there
        kernel_kind = public.KernelKind(Cosine)

        @property
        def kernel(self):
            return self.product("kernel")

    assert dense_classes()[Cosine] is ByProduct


class Doubled(L.Dense):
    def call(self, inputs, training=None):
        return super().call(inputs, training) * 2 + 1


def test_a_call_of_ones_own_is_not_lost_to_that_of_another_low_rank_class(monkeypatch):
    monkeypatch.setattr(base, "_CLASSES", dict(base._CLASSES))
    kind = dataclasses.replace(public.LowRankDense.kernel_kind, dense_class=Doubled)
    with pytest.raises(ArgumentTypeError, match="`call` of LowRankDense in place of that of Doub"):

        class Without(public.LowRankDense, Doubled):
            kernel_kind = kind

    class OwnConv(L.Conv1D):
        def call(self, inputs):
            return 2 * super().call(inputs)

    with pytest.raises(ArgumentTypeError, match="in place of that of OwnConv"):

        class WithoutToo(conv.LowRankConv, OwnConv):
            kernel_kind = dataclasses.replace(conv.LowRankConv1D.kernel_kind, dense_class=OwnConv)

    assert not {Doubled, OwnConv} & set(dense_classes())

    class Twice:
        """A mixin, for several of them."""

        def call(self, inputs, training=None):
            return super().call(inputs, training) * 2 + 1

    class LowRankDoubled(Twice, public.LowRankDense, Doubled):
        kernel_kind = kind

    class Named(L.Dense):
        """Computes as `Dense` does."""

    class LowRankNamed(public.LowRankDense, Named):
        kernel_kind = dataclasses.replace(public.LowRankDense.kernel_kind, dense_class=Named)

    assert dense_classes()[Doubled] is LowRankDoubled
    assert dense_classes()[Named] is LowRankNamed


def test_a_dense_class_has_one_low_rank_class(monkeypatch):
    monkeypatch.setattr(base, "_CLASSES", dict(base._CLASSES))

    class Plain(L.Dense):
        """Has none yet."""

    def cell(dense):
        class LowRankPlain(public.LowRank, dense):
            kernel_kind = public.KernelKind(dense)

            def call(self, inputs, training=None):
                return self.multiply(inputs, "kernel")

        return LowRankPlain

    with pytest.raises(ArgumentError, match="LowRankPlain for Dense, which has LowRankDense"):
        cell(L.Dense)
    assert dense_classes()[L.Dense] is public.LowRankDense
    for _ in range(2):  # as a cell of a notebook that is run again
        made = cell(Plain)
        assert dense_classes()[Plain] is made


def _by_dunder() -> type:
    class Twice(L.Dense):
        pass

    class LowRankTwice(public.LowRank, Twice):
        kernel_kind = public.KernelKind(Twice, kernel_attributes={"kernel": "_kernel"})

        def __call__(self, inputs, **kwargs):
            return 2 * self.multiply(inputs, "kernel")

    return Twice


def _by_the_dense_call() -> type:
    class Twice(L.Dense):
        def multiply(self, inputs, kernel):
            return keras.ops.matmul(inputs, self.kernel)

        def call(self, inputs):
            return 2 * self.multiply(inputs, "kernel")

    class LowRankTwice(public.LowRank, Twice):
        kernel_kind = public.KernelKind(Twice, kernel_attributes={"kernel": "_kernel"})

    return Twice


@pytest.mark.parametrize("made", [_by_dunder, _by_the_dense_call])
def test_a_call_with_factors_may_stand_elsewhere_too(made, monkeypatch):
    monkeypatch.setattr(base, "_CLASSES", dict(base._CLASSES))
    kind = made()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((12,)), kind(9, use_bias=False, name="twice")])
    x = np.random.default_rng(0).normal(size=(5, 12)).astype("float32")
    kernel = keras.ops.convert_to_numpy(model.get_layer("twice").kernel)
    factorize(model, rank=2, rules=[LayerRule("twice", keep_dense=False)])
    u, s, v = np.linalg.svd(kernel, full_matrices=False)
    np.testing.assert_allclose(run(model, x), 2 * x @ (u[:, :2] * s[:2]) @ v[:2], atol=1e-4)
