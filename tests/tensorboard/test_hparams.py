"""The HParams dashboard, asked as its page asks it, about runs of real fits."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from hparams_page import asked_of_the_server
from tensorboard.plugins.hparams import api_pb2
from tensorboard.util import tensor_util
from test_tensorboard import fit_undone

from reducible_train import (
    Adaptive,
    Cadence,
    Guard,
    Join,
    LayerRule,
    PiecewiseConstant,
    Ramp,
    RankScheduler,
    RankTensorBoard,
    Search,
)
from reducible_train.tensorboard import hparams

RAMP = Ramp(1.0, 0.4, start_epoch=1, end_epoch=2)
ASKED: dict[str, dict[str, Any]] = {
    "dense": {"budget": 1.0},
    "ramp": {"budget": {"parameters": RAMP, "flops": 0.6}},
    "rank": {"rank": 4, "guard": Guard("val_mse", max_drop=0.1)},
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the server tells the page, and the models that were trained."""
    logs = tmp_path_factory.mktemp("logs")
    x = np.random.default_rng(0).normal(size=(32, 16)).astype("float32")
    fit = {"x": x, "y": x[:, :2], "epochs": 3, "batch_size": 16, "verbose": 0}
    histories = {}
    for name, asked in ASKED.items():
        layers = [keras.layers.Dense(16, name="d1"), keras.layers.Dense(2, name="out")]
        model = keras.Sequential([keras.Input((16,)), *layers])
        model.compile(keras.optimizers.SGD(0.125), "mse", metrics=["mae", "mse"])
        scheduler = RankScheduler(**asked)
        board = RankTensorBoard(scheduler, logs / name)
        held_out = {} if name == "ramp" else {"validation_data": (x, x[:, :2])}
        histories[name] = model.fit(**fit, **held_out, callbacks=[scheduler, board]).history
    return asked_of_the_server(logs), histories


def plain(value) -> str | float | None:
    return getattr(value, value.WhichOneof("kind"), None)


def rows(page) -> dict[str, dict[str, Any]]:
    found = {}
    for group in page["groups"]:
        (session,) = group.sessions
        settings = {name: plain(value) for name, value in group.hparams.items()}
        metrics = {each.name.tag: each.value for each in session.metric_values}
        assert session.status == api_pb2.STATUS_SUCCESS
        found[session.name.partition("/")[0]] = settings | metrics
    return found


def test_each_run_is_a_row_with_settings_and_three_metrics(page):
    told, histories = page
    found = rows(told)
    assert found.keys() == ASKED.keys()
    assert [each.display_name for each in told["experiment"].metric_infos] == [
        *("quality", "parameters", "FLOPs")
    ]
    for name, row in found.items():
        assert row["optimizer"] == "SGD"
        assert (row["epochs"], row["steps"], row["learning_rate"]) == (3, 2, 0.125)
        assert row["reducible/params"] == histories[name]["params"][-1]
    assert found["dense"]["reducible/flops_fraction"] == 1
    assert found["ramp"]["reducible/flops_fraction"] < 1


def test_settings_are_those_that_were_asked_for(page):
    found = rows(page[0])
    expected = {"target": "budget", "final": 1.0, "schedule": "Constant", "start_epoch": 0}
    assert expected.items() <= found["dense"].items()
    ramp = {"final": 0.4, "schedule": "Constant, Ramp", "measure": "flops, parameters"}
    assert (ramp | {"target": "budget", "end_epoch": 2}).items() <= found["ramp"].items()
    assert {"target": "rank", "final": 4, "guard": "val_mse"}.items() <= found["rank"].items()


def test_quality_is_the_metric_that_counts(page):
    """What the guard watches; the first that is no loss; of the training where none is held out."""
    told, histories = page
    for name, metric in (("dense", "val_mae"), ("ramp", "train_mae"), ("rank", "val_mse")):
        row = rows(told)[name]
        assert row["quality_is"] == metric
        last = histories[name][metric.removeprefix("train_")][-1]
        assert row["reducible/quality"] == np.float32(last)


def test_a_cut_that_is_undone_at_the_end_has_the_row_of_before_it(tmp_path):
    fit_undone(tmp_path / "undone")
    (row,) = rows(asked_of_the_server(tmp_path)).values()
    assert row["reducible/params"] == 100 * 1384 + 6000
    assert row["reducible/quality"] == np.float32(0.8)


def test_all_runs_have_the_same_columns(page):
    """TensorBoard takes those of the run that it happens to find first."""
    told, _ = page
    columns = [each.name for each in told["experiment"].hparam_infos]
    assert sorted(columns) == sorted(hparams.SETTINGS)
    assert set(columns[:5]) == {"target", "final", "schedule", "guard", "quality_is"}, "shown first"
    for row in rows(told).values():
        assert row.keys() <= {*columns, *hparams.METRICS}


STAIRS = PiecewiseConstant((1.0, 0.5), (0, 4))
HELD = Join([1.0, Ramp(1.0, 0.5, start_epoch=1, end_epoch=2, shape="cosine")], [4])
LATE = Cadence(start=Adaptive(start_epoch=3, end_epoch=5))


@pytest.mark.parametrize(
    ("asked", "times"),
    [
        ({"budget": STAIRS}, (4, 4)),
        ({"budget": HELD}, (5, 6)),
        ({"budget": PiecewiseConstant((1.0, 0.5), (0, 10**8))}, (10**8, 10**8)),
        ({"budget": HELD, "cadence": Cadence(epochs=4)}, (5, 8)),
        ({"budget": {"parameters": STAIRS, "bytes": 0.6}}, (0, 4)),
        ({"budget": STAIRS, "rules": [LayerRule("d1", energy=0.9)]}, (0, 4)),
        ({"budget": STAIRS, "rules": [LayerRule("d1", rtol=Ramp(0.0, 0.5, 2, 7))]}, (2, 7)),
        ({"energy": Ramp(1.0, 0.5, 1.5, 2)}, (1.5, 2)),
        ({"energy": 1.0}, (0, 0)),
        ({"energy": Ramp(0.9, 0.5, 1, 2)}, (0, 2)),
        ({"rank": PiecewiseConstant((8, 4), (0, 3))}, (0, 3)),
        ({"budget": Ramp(1.0, 0.5, 1, 2), "cadence": LATE}, (4, 7)),
        ({"cadence": LATE}, (3, 5)),
    ],
)
def test_dense_until_then_and_at_the_final_ranks_from_then_on(asked, times):
    told = hparams.settings_of(RankScheduler(**asked))
    assert (told["start_epoch"], told["end_epoch"]) == times


def test_a_search_and_what_is_not_finite():
    scheduler = RankScheduler(search=Search(start_epoch=1), guard=Guard("val_mae", max_drop=0.1))
    asked = hparams.settings_of(scheduler)
    assert asked["target"] == "search"
    assert "final" not in asked
    row = hparams.session_start(asked | {"learning_rate": float("nan")})
    assert b"learning_rate" not in row.metadata.plugin_data.content


def test_what_the_guard_watches_is_the_quality_where_not_every_epoch_is_validated():
    session = hparams.Session({"final": 0.5}, watched="val_mse")
    _, start = session.values(["train_mae"], {"mae": 0.75, "loss": 0.5})
    assert b"val_mse" in start.metadata.plugin_data.content
    (value,) = session.values(["train_mae", "val_mse"], {"mae": 0.75, "val_mse": 0.25})
    assert (value.tag, tensor_util.make_ndarray(value.tensor)) == ("reducible/quality", 0.25)


def test_the_messages_do_without_tensorflow():
    program = (
        "import sys; from reducible_train.tensorboard import hparams;"
        "hparams.experiment(); hparams.session_start({'final': 0.5}); hparams.session_end();"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
