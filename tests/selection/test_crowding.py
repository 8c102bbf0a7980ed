"""An output layer is cut without a rule where it would be much of what a budget leaves."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from reducible_train import LayerRule, Ramp, RankScheduler, analyze, factorize
from reducible_train.compressor.compression import Compression
from reducible_train.errors import ArgumentError, RankError
from reducible_train.layers import find_kernels
from reducible_train.settings.targets import target

OUTPUT = "output/kernel"
WIDTH = 30
LARGE = 128 * WIDTH
WHOLE = 64 * 128 + 128 * 128 + LARGE + 128 + 128 + WIDTH
KEPT = [LayerRule("output", keep_dense=True)]


def network(**options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, "relu", name="first"),
            keras.layers.Dense(128, "relu", name="second"),
            keras.layers.Dense(WIDTH, name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], **options)
    return model


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(96, 64)).astype("float32"), rng.integers(0, WIDTH, 96)


def told(report):
    return [note for note in report.notes if " is cut as well" in note]


@pytest.mark.parametrize(
    ("asked", "share"),
    [
        ({"budget": 0.2}, 67),
        ({"budget": 0.38}, 35),
        ({"budget": 0.2, "measure": "bytes"}, 67),
        ({"budget": 0.2, "measure": "flops"}, 68),
        ({"cost": 6_000}, 64),
        ({"budget": {"parameters": 0.9, "flops": 0.2}}, 68),
        ({"budget": 0.2, "rules": [LayerRule("*", min_rank=2)]}, 67),
    ],
    ids=["parameters", "a larger one", "bytes", "flops", "cost", "one of two", "a floor"],
)
def test_a_budget_of_which_it_would_be_much(asked, share):
    report = factorize(network(), **asked)
    assert report.ranks[OUTPUT]
    (note,) = told(report)
    assert note.startswith(OUTPUT)
    assert f"{share} % of the" in note


@pytest.mark.parametrize(
    "asked",
    [
        {"budget": 0.42},
        {"budget": 0.2, "rules": KEPT},
        {"budget": 0.2, "rules": [LayerRule("output", energy=0.99)]},
        {"budget": 0.2, "rules": [LayerRule("output", group="alone")]},
        {"rank": 8},
        {"budget": 0.25, "measure": "file"},
        {"budget": {"parameters": 0.2, "file": 0.9}},
    ],
    ids=["a larger one", "kept", "a rule of its own", "a group", "no budget", "a file", "a table"],
)
def test_elsewhere_it_stays_dense(asked):
    report = factorize(network(), **asked)
    assert report.ranks
    assert OUTPUT not in report.ranks
    assert not told(report)


def test_it_is_a_third_that_counts():
    for part, among in ((2.99, True), (3.01, False)):
        model = keras.Sequential(
            [
                keras.Input((400,)),
                keras.layers.Dense(128, name="hidden"),
                keras.layers.Dense(20, name="output"),
            ]
        )
        report = factorize(model, cost=part * 128 * 20)
        assert (OUTPUT in report.ranks) is among, part


def test_a_budget_that_cannot_be_met_beside_it_is_refused_with_the_rule():
    with pytest.raises(RankError, match="keep_dense=False takes it in") as caught:
        factorize(network(), budget=0.14)
    assert f"{OUTPUT}  128 x {WIDTH}" in str(caught.value)


def test_a_model_that_has_nothing_else_is_refused_as_ever():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(40, name="output")])
    with pytest.raises(RankError, match="nothing to compress"):
        factorize(model, budget=0.25)


def test_a_schedule_is_taken_for_where_it_ends_and_only_what_was_cut_is_told():
    model, seen = network(run_eagerly=True), []
    scheduler = RankScheduler(Ramp(1.0, 0.2, start_epoch=1, end_epoch=2))
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(told(scheduler.report))
    )
    model.fit(*data(), epochs=3, callbacks=[scheduler, look], verbose=0)
    assert seen[0] == []
    assert len(seen[-1]) == 1
    assert scheduler.report.ranks[OUTPUT]
    assert model.count_params() <= 0.2 * WHOLE


def test_who_goes_on_from_a_state_does_what_it_would_have():
    """Though what was cut so far may leave no room beside the output, or it is cut already."""
    for values in ((0.6, 0.2), (0.2, 0.19)):
        model = network()
        budget = target("budget", Ramp(*values, start_epoch=0, end_epoch=1))
        first = Compression(model, budget, trains=True)
        first.cut(0)
        state = first.get_state()
        assert list(state["taken_in"]) == [OUTPUT]
        again = Compression(model, budget, trains=True, state=state)
        again.set_state(state)
        again.cut(1)
        assert told(again.report) == [state["taken_in"][OUTPUT]]
        known = {kernel.path: kernel.rank for kernel in find_kernels(model)}
        assert known[OUTPUT]


@pytest.mark.parametrize(
    ("widths", "cut"),
    [((4, 4, 4, 4, 4, 4), 1), ((30, 8, 8), 1), ((12, 10, 10), 1), ((24, 23, 1), 2), ((4, 4, 4), 0)],
    ids=str,
)
def test_heads_count_together_and_the_largest_go_first(widths, cut):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((400,))
    x = keras.layers.Dense(128, "relu", name="hidden")(inputs)
    outputs = [keras.layers.Dense(n, name=f"head_{i}")(x) for i, n in enumerate(widths)]
    report = factorize(keras.Model(inputs, outputs), cost=8_000)
    taken = [f"head_{i}/kernel" for i in range(cut)]
    assert [note.split()[0] for note in told(report)] == taken
    assert set(report.ranks) == {"hidden/kernel", *taken}


def test_a_table_that_is_read_both_ways_is_no_mere_output():
    table = keras.layers.ReversibleEmbedding(300, 64, name="table")
    inputs = keras.Input((5,), dtype="int32")
    x = table(inputs)
    for i in range(6):
        x = keras.layers.Dense(256 if i % 2 == 0 else 64, name=f"hidden_{i}")(x)
    model = keras.Model(inputs, table(x, reverse=True))
    report = factorize(model, budget=0.25)
    assert model.count_params() / 3 < 300 * 64
    assert not [path for path in report.ranks if path.startswith("table")]


@pytest.mark.parametrize(("tokens", "is_cut"), [(700, False), (1000, True)])
def test_a_table_that_is_read_both_ways_gives_way_above_two_thirds(tokens, is_cut):
    table = keras.layers.ReversibleEmbedding(tokens, 64, name="table")
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Dense(64, name="hidden_1")(
        keras.layers.Dense(768, name="hidden_0")(table(inputs))
    )
    model = keras.Model(inputs, table(x, reverse=True))
    limit = 0.5 * model.count_params()
    assert (tokens * 64 > limit * 2 / 3) == is_cut
    report = factorize(model, budget=0.5)
    assert ("table/embeddings" in report.ranks) == is_cut
    assert [note.split()[0] for note in told(report)] == ["table/embeddings"] * is_cut


def test_a_kernel_of_its_own_for_the_way_back_is_an_output():
    table = keras.layers.ReversibleEmbedding(300, 64, name="table", tie_weights=False)
    inputs = keras.Input((5,), dtype="int32")
    x = table(inputs)
    for i in range(6):
        x = keras.layers.Dense(256 if i % 2 == 0 else 64, name=f"hidden_{i}")(x)
    report = factorize(keras.Model(inputs, table(x, reverse=True)), budget=0.25)
    assert [note.split()[0] for note in told(report)] == ["table/reverse_embeddings"]


def test_unknown_flops_are_refused_as_ever():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.last = keras.layers.Dense(128), keras.layers.Dense(60)

        def call(self, x):
            if float(keras.ops.sum(x)) > 1e9:  # no trace gets past this
                return x
            return self.last(self.hidden(x))

    model = Own()
    model(np.ones((2, 64), "float32"))
    with pytest.raises(ArgumentError):
        factorize(model, budget=0.2, measure="flops")
    with pytest.raises(ArgumentError):
        factorize(model, budget={"flops": 0.2, "parameters": 0.9})


def test_an_analysis_that_leaves_outputs_out_shares_without_them():
    model = network()
    table = analyze(model, data(), metric="loss")
    report = factorize(model, budget=0.2, criterion="measured", analysis=table, calibration=data())
    assert report.ranks
    assert OUTPUT not in report.ranks
