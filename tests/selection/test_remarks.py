"""What a survey says of kernels: why each is dense, and what they cost, whatever is odd in them."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from kinds import KINDS

from reducible_train import (
    Adaptive,
    Cadence,
    LayerRule,
    Ramp,
    RankError,
    RankScheduler,
    factorize,
    to_stock_layers,
)
from reducible_train.compressor import Compression
from reducible_train.layers import find_kernels, low_rank_class
from reducible_train.selection.call_counts import count_calls
from reducible_train.settings.targets import target

pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

L = keras.layers


def chain(*layers: Any, units: int = 24) -> keras.Model:
    inputs = keras.Input((units,))
    x = inputs
    for layer in layers or (L.Dense(units, name="a"), L.Dense(units, name="b")):
        x = layer(x)
    return keras.Model(inputs, L.Dense(4, name="output")(x))


TARGETS: dict[str, tuple[dict[str, Any], str]] = {
    "energy": ({"energy": 0.999}, r"energy 0\.999 takes rank \d+: only up to 11 would save"),
    "rtol": ({"rtol": 0.01}, "rtol 0.01 takes rank"),
    "everything": ({"energy": 1.0}, "nothing may be lost at energy 1"),
    "rank": ({"rank": 20}, "rank 20 saves nothing: only up to 11 would"),
    "budget": ({"budget": 1.0}, "budget 1 is met without it"),
    "cost": ({"cost": 5000}, "cost 5000 is met without it"),
    "own": (
        {"budget": 1.0, "rules": [LayerRule("a", rank=30), LayerRule("b", energy=0.9999)]},
        "rank 30 saves nothing|energy 0.9999 takes rank",
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_every_kernel_that_stays_dense_has_a_remark(name):
    arguments, words = TARGETS[name]
    keras.utils.set_random_seed(0)
    report = factorize(chain(), **arguments)
    for kernel in report.kernels:
        assert kernel.rank is None
        assert bool(kernel.remark) != bool(kernel.reason)
    told = re.compile(words)
    assert all(told.match(kernel.remark) for kernel in report.kernels if kernel.remark)
    assert str(report).count(report.kernels[0].remark) >= 1


def test_a_budget_that_others_meet_says_what_a_cut_would_have_kept():
    model = chain()
    flat = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0]
    model.get_layer("b").kernel.assign(flat)
    model.get_layer("a").kernel.assign(np.outer(np.ones(24), np.ones(24)))
    report = factorize(model, budget=0.8, allocation="knapsack")
    (remark,) = [k.remark for k in report.kernels if k.path == "b/kernel"]
    assert remark.startswith("the others meet the budget; at rank 11")
    assert "0.458" in remark


def test_the_largest_rank_that_a_rule_allows_is_not_called_the_largest_that_saves():
    model = chain()
    model.get_layer("b").kernel.assign(np.eye(24))
    model.get_layer("a").kernel.assign(np.outer(np.ones(24), np.ones(24)))
    rules = [LayerRule("b", max_rank=3)]
    report = factorize(model, budget=0.8, allocation="knapsack", rules=rules)
    (remark,) = [k.remark for k in report.kernels if k.path == "b/kernel"]
    assert "at rank 3, the largest its rule allows, it would keep 0.125" in remark


def test_before_anything_is_due_the_report_says_so():
    model = chain()
    model.compile("sgd", "mse")
    x = np.ones((8, 24))
    waiting = [
        (
            RankScheduler(cadence=Cadence(start=Adaptive(window=1, end_epoch=1, start_epoch=1))),
            "not settled",
        ),
        (RankScheduler(energy=Ramp(1.0, 0.5, start_epoch=1, end_epoch=1.5)), "nothing may be lost"),
    ]
    for scheduler, words in waiting:
        seen: list[str] = []
        look = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, s=scheduler, seen=seen: seen.append(str(s.report))
        )
        model.fit(x, x[:, :4], epochs=3, verbose=0, callbacks=[scheduler, look])
        assert words in seen[0]


# --- odd weights, odd layers ------------------------------------------------------------------


class Odd(L.Layer):
    """Holds a weight of some shape, beside what it computes."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = shape

    def build(self, _: Any) -> None:
        self.odd = self.add_weight(shape=self.shape, name="odd")

    def call(self, x: Any) -> Any:
        return x + keras.ops.sum(self.odd)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (3, 0, 2), (1, 1), (1, 5), (5, 1)])
def test_weights_of_any_shape_pass(shape):
    report = factorize(chain(Odd(shape), L.Dense(24, name="a")), rank=3)
    assert report.ranks == {"a/kernel": 3}
    assert ("odd/odd" in {k.path for k in report.kernels}) == (0 not in shape)


WIDTH_0 = {
    "dense": (lambda: L.Dense(5, name="none"), (0,)),
    "convolution": (lambda: L.Conv1D(8, 3, name="none"), (9, 0)),
    "recurrent": (lambda: L.GRU(3, name="none"), (9, 0)),
}


@pytest.mark.parametrize("kind", WIDTH_0)
def test_a_layer_on_an_input_of_width_0_has_no_kernel_there(kind):
    make, shape = WIDTH_0[kind]
    nothing, inputs = keras.Input(shape), keras.Input((24,))
    x = L.Concatenate()([L.Flatten()(make()(nothing)), L.Dense(24, name="a")(inputs)])
    model = keras.Model([nothing, inputs], L.Dense(4, name="output")(x))
    report = factorize(model, rank=3)
    assert report.ranks == {"a/kernel": 3}
    assert not any(k.path in ("none/kernel", "none/cell/kernel") for k in report.kernels)
    assert report.dense_parameters == report.parameters + 24 * 24 - 3 * 48


class Experts(L.Layer):
    """A stack of experts, all of which are asked."""

    def build(self, shape: Any) -> None:
        self.experts = self.add_weight(shape=(4, shape[-1], shape[-1]), name="experts")

    def call(self, x: Any) -> Any:
        return keras.ops.mean(keras.ops.einsum("bi,eio->beo", x, self.experts), axis=1)


def test_the_share_of_layers_without_a_low_rank_form_is_told():
    report = factorize(chain(Experts(name="moe"), L.Dense(24, name="a")), rank=3)
    (note,) = [note for note in report.notes if "no low-rank form" in note]
    share = 100 * 4 * 24 * 24 / report.dense_parameters
    assert f"{share:.0f} % of the parameters" in note
    assert "moe/experts" in note
    assert not any("no low-rank form" in note for note in factorize(chain(), rank=3).notes)


class Helped(keras.Model):
    """A layer that training alone calls."""

    def __init__(self):
        super().__init__()
        self.a, self.aid, self.out = L.Dense(24), L.Dense(24), L.Dense(4)
        self.aid.build((None, 24))

    def call(self, x: Any, training: bool = False) -> Any:
        x = self.a(x)
        if training:
            self.add_loss(keras.ops.mean(self.aid(x) ** 2))
        return self.out(x)


def test_what_no_forward_pass_calls_costs_no_flops():
    model = Helped()
    model(np.zeros((1, 24)))
    report = factorize(model, budget=0.6, measure="flops")
    assert set(report.ranks) == {"a/kernel"}
    (aid,) = [kernel for kernel in report.kernels if kernel.path == "aid/kernel"]
    assert "no forward pass calls it" in aid.reason


@pytest.mark.parametrize(
    "asked",
    [{"budget": 0.5, "measure": "flops"}, {"budget": {"parameters": 0.65, "flops": 0.65}}],
    ids=["one", "several"],
)
def test_factors_that_no_forward_pass_calls_stay_at_their_rank(asked):
    model = Helped()
    model(np.zeros((1, 24)))
    factorize(model, rank=8)
    a, aid, _ = factorize(model, **asked).kernels
    assert a.rank < 8
    assert (aid.path, aid.rank) == ("aid/kernel", 8)
    assert "no forward pass calls it" in aid.reason
    rule = LayerRule("aid", rank=3)
    assert factorize(model, budget=0.45, measure="flops", rules=[rule]).ranks["aid/kernel"] == 3


def test_what_is_looked_up_says_so_of_flops_alone():
    inputs = keras.Input((1,), dtype="int32")
    tables = [L.Embedding(60, size, name=f"of{size}")(inputs) for size in (1, 24)]
    joined = L.Flatten()(L.Concatenate()(tables))
    model = keras.Model(inputs, L.Dense(1, name="output")(L.Dense(20, name="a")(joined)))
    for measure, words in {"parameters": "too small: no rank of a ", "flops": "no FLOPs"}.items():
        report = factorize(keras.models.clone_model(model), budget=0.7, measure=measure)
        reasons = {each.path: each.reason for each in report.kernels if each.rank is None}
        assert words in reasons["of1/embeddings"]


# --- what stays as it is, and works -------------------------------------------------------------


class Own(L.Dense):
    """A subclass."""


class OwnConv(L.Conv1D):
    """A subclass."""


class OwnCell(L.GRUCell):
    """A subclass."""


class OwnTable(L.Embedding):
    """A subclass."""


def of_images() -> keras.Model:
    layers = (OwnConv(6, 3), L.DepthwiseConv1D(3), L.SeparableConv1D(8, 3), L.Flatten(), Own(5))
    return keras.Sequential([keras.Input((9, 4)), *layers, L.Dense(20), L.Dense(20)])


def of_text() -> keras.Model:
    layers = (OwnTable(20, 8), L.TimeDistributed(Own(8)), L.RNN(OwnCell(7)))
    return keras.Sequential([keras.Input((6,), dtype="int32"), *layers, L.Dense(20), L.Dense(20)])


WORK = {
    "images": (
        of_images,
        7 * 3 * 4 * 6 + 5 * 3 * 6 + 3 * (3 * 6 + 6 * 8) + 24 * 5 + 5 * 20 + 20 * 20,
    ),
    "text": (of_text, 6 * (8 * 8 + 8 * 21 + 7 * 21) + 7 * 20 + 20 * 20),
}


@pytest.mark.parametrize("name", WORK)
def test_flops_count_kernels_that_have_no_low_rank_form(name):
    make, products = WORK[name]
    report = factorize(make(), rank=2)
    assert report.dense_flops == 2 * products
    assert report.flops < report.dense_flops
    assert not any(note.startswith("FLOPs") for note in report.notes)


def thrice() -> keras.Model:
    """A model that calls its only layer three times."""
    x, same = keras.Input((8,)), L.Dense(8)
    return keras.Model(x, same(same(same(x))))


class TwiceCell(L.Layer):
    """A cell that calls one of its layers twice in a step."""

    state_size = output_size = 6

    def build(self, shape: Any) -> None:
        self.again, self.once = L.Dense(6), L.Dense(6)
        self.again.build((None, 6))
        self.once.build(shape)

    def call(self, x: Any, states: Any) -> Any:
        out = self.again(self.again(states[0])) + self.once(x)
        return out, [out]


class Projected(L.GRU):
    """A recurrent layer with a projection of all its inputs, and one of what it gives."""

    def build(self, shape: Any) -> None:
        self.before, self.after = L.Dense(7), L.Dense(6)
        self.before.build(shape)
        self.after.build((None, 6))
        super().build((*shape[:-1], 7))

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        return self.after(super().call(self.before(sequences), training=training))


STEPS = {  # of layers on sequences of five: what they multiply
    "distributed": (lambda: L.TimeDistributed(thrice()), 5 * 3 * 64),
    "own": (lambda: L.RNN(TwiceCell()), 5 * (2 * 36 + 48)),
    "unrolled": (lambda: L.RNN(TwiceCell(), unroll=True), 5 * (2 * 36 + 48)),
    "stacked": (lambda: L.RNN([TwiceCell(), TwiceCell()]), 5 * (4 * 36 + 48 + 36)),
    "one by the backend": (lambda: L.LSTM(6), 5 * (8 + 6) * 24),
    "projected": (lambda: Projected(6), 5 * 8 * 7 + 5 * (7 + 6) * 18 + 6 * 6),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("length", [None, 3])
def test_flops_count_each_call_of_a_step_and_each_step(name, length):
    make, products = STEPS[name]
    outer = () if length is None else (length,)
    layer = make() if length is None else L.TimeDistributed(make())
    model = keras.Sequential([keras.Input((*outer, 5, 8)), layer, L.Flatten(), L.Dense(20)])
    report = factorize(model, rank=1, rules=[LayerRule("*", keep_dense=False)])
    head = model.layers[-1].input.shape[-1] * 20
    assert report.dense_flops == 2 * ((length or 1) * products + head)


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_flops_of_quantized_layers_are_those_of_dense_ones(mode):
    def make() -> keras.Model:
        x = inputs = keras.Input((6, 24))
        x = L.EinsumDense("abc,cde->abde", (6, 4, 6), name="heads")(x)
        x = L.Dense(23, name="odd")(L.Reshape((6, 24))(x))
        return keras.Model(inputs, L.Dense(4)(L.Dense(24, name="a")(x)))

    model = make()
    for name in ("heads", "odd"):
        model.get_layer(name).quantize(mode)
    report = factorize(model, rank=2)
    assert list(report.ranks) == ["a/kernel"]
    assert report.dense_flops == factorize(make(), rank=2).dense_flops
    reasons = {kernel.path: kernel.reason for kernel in report.kernels}
    assert reasons["heads/kernel"] == reasons["odd/kernel"] == f"quantized to {mode}"
    assert not any(note.startswith("FLOPs") for note in report.notes)


def test_a_budget_of_flops_is_refused_where_a_subclass_takes_more():
    with pytest.raises(RankError, match=r"smallest possible fraction of FLOPs .* is 0\.5"):
        factorize(chain(Own(24, name="own"), L.Dense(24, name="a")), 0.3, measure="flops")


def test_what_flops_do_not_count_is_named():
    inputs = keras.Input((None, 24))
    x = L.GlobalAveragePooling1D()(Own(24, name="own")(inputs))
    model = keras.Model(inputs, L.Dense(4)(L.Dense(24)(Experts(name="moe")(x))))
    (note,) = [note for note in factorize(model, rank=2).notes if note.startswith("FLOPs")]
    assert note.endswith("but not what is done with own/kernel, moe/experts.")
    model.compile("sgd", "mse")
    told = factorize(model, rank=2, calibration=np.ones((4, 5, 24), "float32"))
    assert told.dense_flops == 2 * (5 * 24 * 24 + 24 * 24 + 24 * 4)
    (note,) = [note for note in told.notes if note.startswith("FLOPs")]
    assert note.endswith("but not what is done with moe/experts.")


class Tied(keras.Model):
    """Asks its table for the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.b = L.Embedding(200, 24, name="table"), L.Dense(24), L.Dense(24)

    def call(self, tokens: Any) -> Any:
        h = self.b(self.a(self.table(tokens)))
        return keras.ops.matmul(h, keras.ops.transpose(self.table.embeddings))


class Head(L.Layer):
    """Asks the table of another layer for the way back."""

    def __init__(self, table: Any):
        super().__init__()
        self.table = table

    def call(self, h: Any) -> Any:
        return keras.ops.matmul(h, keras.ops.transpose(self.table.embeddings))


def tied(back: Any, first: Any = None) -> keras.Model:
    """Two layers between a layer, else a table, and what multiplies with its weights."""
    table = first or L.Embedding(200, 24, name="table")
    inputs = keras.Input((5,) if first is None else (200,))
    h = L.Dense(24, name="b")(L.Dense(24, name="a")(table(inputs)))
    return keras.Model(inputs, back(h, table))


def own_model() -> keras.Model:
    model = Tied()
    model(np.zeros((2, 5), "int32"))
    return model


BESIDE = {
    "operation": lambda: tied(lambda h, t: keras.ops.einsum("btd,vd->btv", h, t.embeddings)),
    "lambda": lambda: tied(
        lambda h, t: L.Lambda(
            lambda h: keras.ops.matmul(h, keras.ops.transpose(t.embeddings)), (None, 200)
        )(h)
    ),
    "activation": lambda: tied(
        lambda h, t: L.Dense(
            24, activation=lambda h: keras.ops.matmul(h, keras.ops.transpose(t.embeddings))
        )(h)
    ),
    "layer": lambda: tied(lambda h, t: Head(t)(h)),
    "model": own_model,
    "dense": lambda: tied(
        lambda h, d: keras.ops.einsum("bd,vd->bv", h, d.kernel), L.Dense(24, name="first")
    ),
}


@pytest.mark.parametrize("measure", ["flops", "both"])
@pytest.mark.parametrize("name", BESIDE)
def test_work_with_a_kernel_beside_its_layer_is_named(name, measure):
    told = {"budget": 0.95, "measure": "flops"}
    told = told if measure == "flops" else {"budget": {"flops": 0.95, "parameters": 0.98}}
    report = factorize(BESIDE[name](), **told)
    (note,) = [note for note in report.notes if note.startswith("FLOPs")]
    of = "first/kernel" if name == "dense" else "table/embeddings"
    assert note.endswith(f"is done beside them, as where weights are tied, with {of}.")
    reasons = {kernel.path: kernel.reason for kernel in report.kernels}
    assert reasons[of] is None or "takes no FLOPs" not in reasons[of]


def test_a_table_that_is_multiplied_with_too_is_not_said_to_take_no_work():
    takes_all = [LayerRule("*", keep_dense=False)]
    report = factorize(own_model(), 0.9, measure="flops", rules=takes_all)
    (reason,) = [each.reason for each in report.kernels if each.path == "table/embeddings"]
    assert reason == "multiplied with beside its layer alone, of which no FLOPs are counted"


def test_work_beside_a_layer_stays_named_when_it_has_factors():
    model = own_model()
    takes_all = [LayerRule("*", keep_dense=False)]
    report = factorize(model, rank=2, rules=takes_all)
    assert report.ranks["table/embeddings"] == 2
    again = factorize(model, rank=1, rules=takes_all)
    for each in (report, again):
        assert sum(note.endswith("tied, with table/embeddings.") for note in each.notes) == 1


@pytest.mark.parametrize("name", KINDS)
def test_the_calls_of_a_layer_alone_are_nothing_beside_it(name):
    kind = KINDS[name]
    model = keras.Sequential([keras.Input(kind.shape, dtype=kind.inputs().dtype.name), kind.make()])
    rules = [LayerRule("*", keep_dense=False)]
    for _ in range(2):
        kernels, read = find_kernels(model), set[int]()
        calls, *_ = count_calls(model, kernels, [], beside=read.add)
        assert calls
        assert not [kernel.path for kernel in kernels if read & {id(v) for v in kernel.held}]
        if all(kernel.refusal is None for kernel in kernels):
            factorize(model, rank=1, rules=rules)


# --- bytes ---------------------------------------------------------------------------------------


class Kept(L.Layer):
    """A layer that keeps numbers of some dtype, and does nothing with them."""

    def build(self, shape: Any) -> None:
        self.add_weight(shape=(48,), dtype=self.name, initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize(("dtype", "size"), [("bool", 1), ("int8", 1), ("complex64", 8)])
def test_bytes_are_those_that_numbers_take_in_memory(dtype, size):
    report = factorize(chain(L.Dense(24, name="a"), Kept(name=dtype)), rank=2)
    plain = factorize(chain(L.Dense(24, name="a")), rank=2)
    assert report.dense_bytes - plain.dense_bytes == report.bytes - plain.bytes == 48 * size


# --- which way a table is read ------------------------------------------------------------------


@pytest.mark.parametrize("length", [5, 8])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_a_table_is_counted_by_the_way_it_is_read(length, pooled, dtype):
    table = L.ReversibleEmbedding(20, 8, name="table")
    inputs = keras.Input((length,), dtype=dtype)
    x = table(inputs)
    x = L.GlobalAveragePooling1D()(x) if pooled else x
    model = keras.Model(inputs, L.Dense(24, name="a")(table(x, reverse=True)))
    model = keras.Model(inputs, L.Dense(3, name="output")(model.output))
    found = Compression(model, target("rank", 2))
    assert found.survey.uses is not None
    assert found.survey.uses["table/embeddings", ""].dense == (1 if pooled else length)


# --- names and leaving -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.variant])
def test_no_name_of_keras_is_taken(name):
    kind = KINDS[name]
    model = keras.Sequential([keras.Input(kind.shape, dtype=kind.inputs().dtype.name), kind.make()])
    for kernel in find_kernels(model):
        if kernel.refusal is not None:
            continue
        layer, low = kernel.layer, low_rank_class(kernel.layer)
        dense_names = {*dir(layer), *vars(layer), *layer.get_config()}
        factorize(model, rank=2, rules=[LayerRule("*", keep_dense=False)])
        mine = set(layer.get_config()) - set(low.kernel_kind.dense_class.get_config(layer))
        assert mine <= {"ranks", "split"}
        assert not mine & dense_names
        assert set(layer.ranks.values()) == {2}
        break


def test_a_configuration_that_says_rank_still_loads():
    kind = low_rank_class(L.Conv2D(4, 3))
    layer = kind(8, 3, ranks=2)
    config = layer.get_config()
    assert kind.from_config(config).get_config() == config
    config["rank"] = config.pop("ranks")
    assert kind.from_config(config).get_config()["ranks"] == 2
    assert layer.rank == 2, "Keras's number of spatial axes"


@pytest.mark.parametrize(
    ("equation", "output", "shape"),
    [
        ("...x,xy->...y", 24, (24,)),
        ("...x,xy->...y", (24,), (3, 4, 24)),
        ("...bx,xy->...by", 24, (24,)),
        ("...hx,xy->...hy", (5, 24), (4, 5, 24)),
        ("...bcd,bde->...bce", (3, 5, 24), (3, 5, 24)),
        ("ab...,bc->ac...", (24,), (24, 3)),
        ("abc...,bd->adc...", (24, 6), (24, 6, 3)),
        ("abc,cd->adb", (24, 4), (4, 24)),
    ],
)
def test_every_equation_comes_back_in_stock_layers(equation, output, shape):
    model = keras.Sequential(
        [keras.Input(shape), L.EinsumDense(equation, output), L.Flatten(), L.Dense(3)]
    )
    report = factorize(model, rank=2)
    assert report.ranks
    x = np.random.default_rng(0).normal(size=(2, *shape))
    stock = to_stock_layers(model)
    np.testing.assert_allclose(stock(x), model(x), atol=1e-5)


def test_a_large_output_layer_is_told_with_its_share_of_what_is_left():
    model = keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(200, name="hidden"),
            keras.layers.Dense(200, name="more"),
            keras.layers.Dense(40, name="output"),
        ]
    )
    words = " % of what is left: output layer; a rule with keep_dense=False takes it in"
    assert words not in str(factorize(model, rank=60))
    report = factorize(model, rank=6)  # by a budget it would be cut as well
    share = 100 * 200 * 40 / model.count_params()
    assert share > 50
    assert f" {share:.0f}{words}" in str(report)
