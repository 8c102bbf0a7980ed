"""Laws of the tab's server, on logs that RankTensorBoard has written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from test_tensorboard import Scripted, fit
from werkzeug.test import Client

from reducible_train.tensorboard import events
from reducible_train.tensorboard import tags as form
from reducible_train.tensorboard.callback import RankTensorBoard
from reducible_train.tensorboard.plugin.logs import Logs
from reducible_train.tensorboard.plugin.runs import run_answer, runs_answer, spectra_answer


def logs_of(folder: Path) -> Logs:
    sizes = {"reducible": 1000, "scalars": 1000}
    multiplexer = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance=sizes)
    multiplexer.AddRunsFromDirectory(str(folder)).Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    return Logs(provider, context.RequestContext(), "")


def test_a_run_is_told_as_it_was_written(tmp_path):
    logs = {"val_accuracy": 0.75}
    fit(RankTensorBoard(Scripted([None, 100, 40]), tmp_path / "<b>"), logs=logs)
    read = logs_of(tmp_path)
    (short,) = runs_answer(read)["runs"]
    assert (short["run"], short["main"], short["dense"]) == ("<b>/reducible", "val_accuracy", False)
    found = run_answer(read, "<b>/reducible")
    assert found["problems"] == []
    assert found["cut_steps"] == [1, 2]
    assert found["ranks"][0] == [600, 100, 40]
    assert found["layers"][1]["reason"] == "output layer"
    (first, second) = spectra_answer(read, "<b>/reducible", "net/d1")["spectra"]
    assert (first["rank"], second["rank"], first["length"]) == (100, 40, 600)
    assert 0 < first["effective_rank"] < 600
    json.dumps(found, allow_nan=False)


def test_what_a_stranger_wrote_under_our_name_is_left_out_with_a_word(tmp_path):
    writer = events.RunWriter(tmp_path / "run")
    strange = [
        events.scalar(form.PARAMS, float("nan")),
        events.json_text(form.OUTCOME, '{"format": 99}', form.PLUGIN_NAME),
        events.json_text(form.DECISIONS, "[1]", form.PLUGIN_NAME),
        events.tensor(form.spectrum_tag("x"), np.zeros(3), form.PLUGIN_NAME),
    ]
    writer.write(0, strange)
    writer.close()
    found = run_answer(logs_of(tmp_path), "run")
    assert "newer reducible-train" in found["problems"][0]
    assert "not written by this package" in found["problems"][1]
    answer = spectra_answer(logs_of(tmp_path), "run", "x")
    assert answer["spectra"] == []
    assert "shape" in answer["problems"][0]


def test_a_run_that_is_gone_and_no_run_at_all_are_told_in_words(tmp_path):
    assert "no longer there" in run_answer(logs_of(tmp_path), "gone")["problem"]
    assert "RankTensorBoard" in runs_answer(logs_of(tmp_path))["problem"]


@pytest.mark.parametrize("package", ["keras", "tensorflow"])
def test_the_loader_and_the_server_load_neither(package):
    code = (
        "import sys\nimport reducible_train.tensorboard.plugin.loader\n"
        "import reducible_train.tensorboard.plugin.runs\n"
        f"sys.exit({package!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_broken_package_leaves_the_tab_out(monkeypatch):
    from reducible_train.tensorboard.plugin.loader import ReducibleLoader

    monkeypatch.setitem(sys.modules, "reducible_train.tensorboard.plugin.server", None)
    assert ReducibleLoader().load(SimpleNamespace(data_provider=None)) is None


def test_the_routes_answer_in_json(tmp_path):
    from reducible_train.tensorboard.plugin import server

    fit(RankTensorBoard(Scripted([None, 100, 40]), tmp_path))
    provider = logs_of(tmp_path).provider
    apps = server.ReducibleTab(SimpleNamespace(data_provider=provider)).get_plugin_apps()
    answer = Client(apps["/run"]).get("/run?run=reducible")
    assert answer.status_code == 200
    assert answer.get_json()["cut_steps"] == [1, 2]
