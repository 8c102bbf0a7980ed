"""Laws of the tab's server, on logs that RankTensorBoard has written."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from test_tensorboard import Scripted, fit, fit_undone, fit_within
from werkzeug.test import Client

from reducible_train import Guard, LayerRule, Ramp, Search
from reducible_train.settings.targets import Budget
from reducible_train.tensorboard import events, outcome
from reducible_train.tensorboard import tags as form
from reducible_train.tensorboard.callback import RankTensorBoard
from reducible_train.tensorboard.plugin.logs import Logs
from reducible_train.tensorboard.plugin.runs import run_answer, runs_answer, spectra_answer

GOLDEN = Path(__file__).parents[1] / "golden" / "event_files"


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


def test_a_cut_within_an_epoch_is_told_as_one(tmp_path):
    fit_within(tmp_path)
    found = run_answer(logs_of(tmp_path), "reducible")
    told = [(each["at"], each["when"], each["epoch_step"]) for each in found["cuts"]]
    assert told == [(1, "before", 0), (1, "in", 4), (2, "in", 5)]
    assert found["when"] == {1: "before or in", 2: "in"}


def test_several_cuts_of_an_epoch_that_are_undone_at_once_are_all_told_so(tmp_path):
    fit_within(tmp_path)
    found = run_answer(logs_of(tmp_path), "reducible")
    assert [bool(each["undone"]) for each in found["cuts"]] == [True, True, False]
    (undone,) = found["undone"]
    assert (undone["when"], undone["epoch_step"]) == ("before or in", None)
    assert any("before or in epoch 1, went to 500 parameters" in each for each in found["advice"])


def test_where_nobody_knows_a_cut_is_before_or_in_its_epoch(tmp_path):
    fit_within(tmp_path, known=False)
    found = run_answer(logs_of(tmp_path), "reducible")
    assert {each["when"] for each in found["cuts"]} == {"before or in"}
    assert set(found["when"].values()) == {"before or in"}


def asking(budget, **more):
    """A fit that cuts nothing, and what it was asked for."""
    scheduler = Scripted([None] * 3)
    scheduler.target = Budget(Ramp(1.0, budget)) if budget < 1 else Budget(1.0)
    for name, value in more.items():
        setattr(scheduler, name, value)
    return scheduler


RULED = [LayerRule("d1", rank=8)]
UNCUT = [
    (asking(1.0), True, "it is a dense one, to compare others with.", True),
    (asking(1.0), False, "once it has ended, it is a dense one.", False),
    (asking(0.3), True, "though that was asked for.", False),
    (asking(0.3), False, "Nothing is cut yet: the training goes on, or was", False),
    (asking(1.0, search=Search(0.2)), False, "Nothing is cut yet", False),
    (asking(1.0, rules=[LayerRule("d1", min_rank=8)]), True, "it is a dense one", True),
    (asking(1.0, rules=RULED), False, "Nothing is cut yet", False),  # not in logs of before
]


@pytest.mark.parametrize(
    ("scheduler", "ends", "said", "dense", "is_older"),
    [(*each, False) for each in UNCUT] + [(*each, True) for each in UNCUT[:-1]],
)
def test_a_run_without_a_cut_is_dense_if_it_has_ended_and_asked_for_none(
    tmp_path, monkeypatch, scheduler, ends, said, dense, is_older
):
    if is_older:
        of_now = outcome.outcome
        monkeypatch.setattr(outcome, "outcome", lambda *given: without_asks(of_now(*given)))
    if not ends:
        monkeypatch.setattr(RankTensorBoard, "on_train_end", RankTensorBoard._close)
    fit(RankTensorBoard(scheduler, tmp_path))
    read = logs_of(tmp_path)
    (sentence,) = run_answer(read, "reducible")["advice"]
    assert said in sentence
    assert runs_answer(read)["runs"][0]["dense"] is dense


def without_asks(told):
    return {name: value for name, value in told.items() if name != "asks"}


def test_one_cut_before_the_first_step_tells_how_much_is_gone(tmp_path):
    fit(RankTensorBoard(Scripted([40] * 3), tmp_path), logs={"val_accuracy": 0.75})
    (*_, last) = run_answer(logs_of(tmp_path), "reducible")["advice"]
    assert last == "val_accuracy is 75 % at the end, with 87 % fewer parameters."


def test_the_direction_is_the_guard_s_or_that_of_keras_else_of_the_name(tmp_path):
    scheduler = Scripted([100] * 3)
    scheduler.metric_directions = {"bad": "down", "gloss": None, "loss": "down", "swing": "down"}
    scheduler.guard = Guard("val_swing", max_drop=1, mode="max")
    names = ("val_bad", "val_gloss", "val_swing", "val_terrain_accuracy", "val_mse")
    fit(RankTensorBoard(scheduler, tmp_path), logs=dict.fromkeys(names, 0.5))
    (short,) = runs_answer(logs_of(tmp_path))["runs"]
    assert [short["directions"][name] for name in names] == [-1, 1, 1, 1, -1]
    assert short["fractions"] == ["val_terrain_accuracy"]


def test_a_cut_that_is_undone_at_the_end_adds_no_epoch(tmp_path):
    board, read = fit_undone(tmp_path), logs_of(tmp_path)
    (short,) = runs_answer(read)["runs"]
    found = run_answer(read, "reducible")
    assert short["steps"] == found["steps"] == [0, 1, 2]
    assert found["ranks"][0] == [600, 100, 40]
    assert found["layers"][0]["last_rank"] == 100
    final = short["final"]
    assert (final["step"], final["params"]) == (1, 100 * 1384 + 6000)
    assert final["metrics"]["val_accuracy"] == pytest.approx(0.8)
    fit(board, range(3, 5))
    (short,) = runs_answer(logs_of(tmp_path))["runs"]
    assert short["steps"] == [0, 1, 2, 4, 5], "five epochs"


@pytest.mark.parametrize(("kept", "step"), [(None, 2), (1, 1), (7, 2)])
def test_the_end_is_the_epoch_whose_weights_were_put_back(tmp_path, kept, step):
    scheduler = Scripted([40] * 3)
    scheduler.kept_epoch = kept
    fit(RankTensorBoard(scheduler, tmp_path))
    final = run_answer(logs_of(tmp_path), "reducible")["final"]
    assert (final["step"], final["put_back"]) == (step, kept == step)
    assert final["metrics"]["val_loss"] == pytest.approx(0.5 - step / 10)


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


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run of ours, and one whose numbers are none that a fit would give."""
    folder = tmp_path_factory.mktemp("written")
    fit(RankTensorBoard(Scripted([None, 100, 40]), folder))
    writer = events.RunWriter(folder / "odd")
    for step, number in enumerate([-5.0, float("inf"), float("-inf"), float("nan"), 0.0, 1e38]):
        tags = form.PARAMS, form.PARAMS_FRACTION, form.rank_tag("a"), "reducible/val_accuracy"
        writer.write(step, [events.scalar(tag, number) for tag in tags])
    odd = {"parameters": -3, "kernels": [{"path": "a", "shape": [-2, 0], "rank": -1, "energy": -9}]}
    odd |= {"asked": [3, None], "notes": "no list", "directions": {"val_accuracy": "up"}}
    told = events.json_text(form.OUTCOME, form.to_json(odd), form.PLUGIN_NAME)
    writer.write(6, [told, events.json_text(form.ANALYSIS, form.to_json({}), form.PLUGIN_NAME)])
    writer.close()
    return folder


@pytest.fixture(scope="module")
def ask(written):
    """Asks a route, and gives the JSON that it answers."""
    from reducible_train.tensorboard.plugin import server

    context = SimpleNamespace(data_provider=logs_of(written).provider)
    apps = server.ReducibleTab(context).get_plugin_apps()

    def asked(route, **given):
        answer = Client(apps[route]).get(route, query_string=given)
        assert answer.status_code == 200
        assert answer.mimetype == "application/json"
        json.loads(answer.text, parse_constant=pytest.fail)  # no NaN, which browsers refuse
        return answer.get_json()

    return asked


def test_the_routes_answer_in_json(ask):
    assert {each["run"] for each in ask("/runs")["runs"]} == {"odd", "reducible"}
    assert ask("/run", run="reducible")["cut_steps"] == [1, 2]
    assert len(ask("/spectra", run="reducible", layer="net/d1")["spectra"]) == 2


def test_numbers_that_no_fit_gives_are_left_out_or_shown_as_they_are(ask):
    found = ask("/run", run="odd")
    assert found["params"][:4] == [-5, None, None, None]
    assert found["layers"][0]["energy"] == -9
    assert found["analysis"] is None
    assert all("nan" not in each and "inf" not in each for each in found["advice"])


@pytest.mark.parametrize(
    "name",
    ["", "nobody", "../../etc/passwd", "<img src=q>", "a\0b", "\ud7ff\u202e", "x" * 200_000],
    ids=["none", "unknown", "path", "markup", "zero", "direction", "long"],
)
def test_a_run_or_layer_that_is_not_there_is_told_in_words(ask, name):
    for answer in ask("/run", run=name), ask("/spectra", run=name, layer="net/d1"):
        assert "no longer there" in answer["problem"]
        assert len(answer["problem"]) < 1000
    found = ask("/spectra", run="reducible", layer=name)
    assert found["spectra"] == found["problems"] == []


def test_a_query_of_another_kind_is_told_in_words(ask):
    assert "no longer there" in ask("/run")["problem"]
    assert "no longer there" in ask("/run", runs="reducible", run=["a", "reducible"])["problem"]
    assert "no longer there" in ask("/spectra")["problem"]


def test_a_provider_that_fails_is_told_in_words(caplog):
    from reducible_train.tensorboard.plugin import server

    apps = server.ReducibleTab(SimpleNamespace(data_provider=None)).get_plugin_apps()
    answer = Client(apps["/runs"]).get("/runs")
    assert answer.status_code == 200
    assert "cannot be read" in answer.get_json()["problem"]


@pytest.mark.parametrize("left", [0, 100, 4000, -1])
def test_a_file_that_was_cut_off_is_shown_as_far_as_it_goes(tmp_path, left):
    (whole,) = (GOLDEN / "before_json" / "reducible").iterdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / whole.name).write_bytes(whole.read_bytes()[:left])
    found = run_answer(logs_of(tmp_path), "run")
    if left < 1000 and left >= 0:
        assert "no longer there" in found["problem"]
    else:
        assert 0 < len(found["steps"]) <= 5
        assert found["params"] == sorted(found["params"], reverse=True)


@pytest.mark.parametrize("version", ["before_errors", "before_json"])
def test_logs_of_an_older_version_are_shown_and_what_they_lack_is_said(version):
    read = logs_of(GOLDEN / version)
    (short,) = runs_answer(read)["runs"]
    assert (short["run"], short["main"], len(short["steps"])) == ("reducible", "val_accuracy", 5)
    found = run_answer(read, "reducible")
    assert any("older version" in each for each in found["problems"])
    first = found["layers"][0]
    assert first["name"] == "first"
    assert 0 < first["energy"] < 1
    assert found["cut_steps"] == [2, 3]
    assert found["when"] == {2: "before or in", 3: "before or in"}
    assert found["outcome"]["dense_parameters"] == 1699
    assert not found["outcome"]["known"]
    assert found["advice"]
    assert spectra_answer(read, "reducible", "first")["spectra"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_broken_package_leaves_tensorboard_as_it_was(written, monkeypatch, caplog, broken):
    from tensorboard.backend import application
    from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin

    from reducible_train.tensorboard.plugin.loader import ReducibleLoader

    if broken:
        monkeypatch.setitem(sys.modules, "reducible_train.tensorboard.plugin.server", None)
    flags = argparse.Namespace(logdir="", window_title="", path_prefix="/behind")
    flags.samples_per_plugin = {"scalars": 0}
    ReducibleLoader().fix_flags(flags)
    assert flags.samples_per_plugin == {"scalars": 0, "reducible": 1000}
    provider = logs_of(written).provider
    client = Client(
        application.TensorBoardWSGIApp(flags, [ReducibleLoader, ScalarsPlugin], provider)
    )
    listed = client.get("/behind/data/plugins_listing").get_json()
    assert ("reducible" in listed) == (not broken)
    assert listed["scalars"]["enabled"]
    assert ("cannot be loaded" in caplog.text) == broken
    route = "/behind/data/plugin/reducible/"
    assert client.get(f"{route}runs").status_code == (404 if broken else 200)
    assert client.get(f"{route}static/index.js").status_code == (404 if broken else 200)
    assert client.get(f"{route}static/../server.py").status_code == 404


def test_how_text_looks_is_said_in_the_style_sheet_alone():
    """Its rules overrule attributes of a picture, such as the font of many rows: in silence."""
    pages = sorted(Path(events.__file__).parent.joinpath("plugin", "static").glob("*.js"))
    assert len(pages) > 5
    for each in pages:
        assert "'font-" not in each.read_text("utf-8"), each.name
