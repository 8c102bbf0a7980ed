"""Configurations: what is good builds; what is bad is told at once, all of it, with a way out."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reducible_train.config import config_schema, load_config, parse_config
from reducible_train.config.models import OPTIMIZERS
from reducible_train.config.reading import parse_document
from reducible_train.errors import ArgumentError, ArgumentTypeError, ConfigError, FileAccessError
from reducible_train.settings.aids import Regrow, TailShrink
from reducible_train.settings.schedules import (
    Constant,
    Join,
    PiecewiseConstant,
    Ramp,
    schedule_kinds,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
RAMP = {"schedule": "ramp", "initial": 1.0, "final": 0.2, "start_epoch": 2, "end_epoch": 6}


def problems_of(values) -> dict[str, str]:
    """Message by YAML path."""
    with pytest.raises(ConfigError) as caught:
        parse_config(values)
    return {problem.path: problem.message for problem in caught.value.problems}


def written(tmp_path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- what is good ---------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_loads_and_points_editors_at_the_schema(path):
    config = load_config(path)
    assert config.schedules()
    first = path.read_text(encoding="utf-8").splitlines()[0]
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (path.parent / first.removeprefix(prefix)).resolve().is_file()


def test_the_examples_show_every_quantity_and_measure():
    names = {path.stem for path in CONFIGS}
    assert names >= {
        "ramp",
        "energy",
        "fixed_rank",
        "piecewise_constant",
        "flops_budget",
        "layer_rules",
    }
    loaded = [load_config(path) for path in CONFIGS]
    assert {next(iter(config.schedules())) for config in loaded} == {"budget", "energy", "rank"}
    assert {config.compression.measure for config in loaded} >= {"parameters", "flops"}


@pytest.mark.parametrize(
    ("target", "schedule"),
    [
        (0.5, Constant(0.5)),
        (1, Constant(1)),
        (RAMP, Ramp(1.0, 0.2, 2, 6)),
        (RAMP | {"shape": "cosine"}, Ramp(1.0, 0.2, 2, 6, "cosine")),
        (
            {"schedule": "piecewise_constant", "values": [1, 0.5], "start_epochs": [0, 3]},
            PiecewiseConstant([1, 0.5], [0, 3]),
        ),
        (
            {"schedule": "join", "schedules": [1.0, RAMP], "boundaries": [3]},
            Join([Constant(1.0), Ramp(1.0, 0.2, 2, 6)], [3]),
        ),
    ],
)
def test_a_target_builds_the_schedule_it_stands_for(target, schedule):
    config = parse_config({"compression": {"budget": target}})
    assert config.schedules() == {"budget": schedule}


def test_every_kind_of_schedule_can_be_written():
    defs = config_schema()["$defs"]
    kinds = {d["properties"]["schedule"]["const"] for n, d in defs.items() if "Schedule" in n}
    assert kinds == set(schedule_kinds())


def test_numbers_are_read_as_people_write_them():
    text = "training: {learning_rate: 1e-3}\ncompression: {rank: 20}"
    assert parse_document(text, "x").values["training"]["learning_rate"] == 1e-3


def test_anchors_and_merge_keys_are_read(tmp_path):
    path = written(
        tmp_path,
        """
        compression:
          rank: 20
          rules:
            - &wide {match: a, max_rank: 9}
            - {<<: *wide, match: b}
        """,
    )
    rules = load_config(path).compression.rules
    assert [(rule.match, rule.max_rank) for rule in rules] == [("a", 9), ("b", 9)]


def test_overrides_replace_and_are_checked(tmp_path):
    ramp = "compression: {budget: {schedule: ramp, initial: 1.0, final: 0.2}}"
    path = written(tmp_path, f"{ramp}\ntraining: {{epochs: 30, batch_size: 7}}")
    config = load_config(path, {"training.epochs": 9, "tensorboard.log_dir": "logs"})
    assert (config.training.epochs, config.training.batch_size) == (9, 7)
    assert config.tensorboard.log_dir == "logs"
    with pytest.raises(ConfigError, match="after the last cut of a training of 3 epochs"):
        load_config(path, {"training.epochs": 3})


def test_an_override_is_told_as_what_it_is_and_in_no_line_of_the_file(tmp_path):
    ramp = "compression: {budget: {schedule: ramp, initial: 1.0, final: 0.2, end_epoch: 6}}"
    path = written(tmp_path, f"{ramp}\ntraining: {{epochs: 30, batch_size: 7}}")
    named = {"training.epochs": "--epochs", "tensorboard.log_dir": "--log-dir"}
    for key, value, shown in (
        ("training.epochs", 10**20, 10**20),
        ("tensorboard.log_dir", "", "''"),
    ):
        for names, name in ((named, named[key]), (None, key)):
            with pytest.raises(ConfigError) as caught:
                load_config(path, {key: value}, names)
            error = caught.value
            assert error.source == f"{path} with {name} {shown}"
            assert [problem.path for problem in error.problems] == [f"$.{key}"]
            assert error.problems[0].message.endswith(f"(by {name})")
    with pytest.raises(ConfigError, match=r"with --epochs 5: 1 problem\n.*\(line 1\)"):
        load_config(path, {"training.epochs": 5}, named)
    path.write_text(f"{ramp}\ntraining: {{optimizer: {{name: adam}}}}")
    with pytest.raises(ConfigError, match=r"'adm'.* \(by training\.optimizer\)$"):
        load_config(path, {"training.optimizer": {"name": "adm"}})
    config = pickle.loads(pickle.dumps(load_config(path, {"training.epochs": 9}, named)))
    with pytest.raises(ConfigError, match=r"--epochs 9: 1 problem\n.*too many \(by --epochs\)"):
        config.refuse([(("training", "epochs"), "too many")])


# --- what is bad ----------------------------------------------------------------------


def test_five_mistakes_are_five_problems_each_with_line_and_way_out(tmp_path):
    path = written(
        tmp_path,
        """\
compression:
  budget:
    schedule: ramp
    initial: "1.0"
    final: 25
    start_epoch: 6
    end_epoch: 2
  cadense: {epochs: 1}
training:
  epochs: true
""",
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    error = caught.value
    assert error.source == str(path)
    assert [problem.path for problem in error.problems] == [
        "$.compression.budget.initial",
        "$.compression.budget.final",
        "$.compression.budget.end_epoch",
        "$.compression.cadense",
        "$.training.epochs",
    ]
    messages = [problem.message for problem in error.problems]
    assert messages[0] == "initial must be a number. Received: '1.0'. Remove the quotes. (line 4)"
    assert messages[1] == (
        "budget.final must be a fraction in (0, 1]. Received: 25. For 25 % write 0.25. (line 5)"
    )
    assert "start_epoch=6, end_epoch=2" in messages[2]
    assert "Did you mean 'cadence'?" in messages[3]
    assert "true and false are not numbers" in messages[4]


RANKS = {"schedule": "ramp", "initial": 24, "final": 12, "start_epoch": 0, "end_epoch": 2}
MEASURED = {"criterion": "measured", "analysis": "a.json"}


@pytest.mark.parametrize(
    ("compression", "path", "message"),
    [
        (
            {},
            "$.compression",
            "Exactly one of budget, cost, effective_rank, energy, rank, rtol or search must be "
            "given. Received: no",
        ),
        ({"budget": 0.5, "rank": 3}, "$.compression", "Received: budget and rank"),
        ({"budget": 25}, "$.compression.budget", "For 25 % write 0.25."),
        ({"budget": 0}, "$.compression.budget", "must be a fraction in (0, 1]. Received: 0"),
        ({"budget": -0.5}, "$.compression.budget", "Received: -0.5"),
        ({"budget": True}, "$.compression.budget", "Received: true"),
        ({"budget": "25 %"}, "$.compression.budget", "For 25 % write 0.25."),
        ({"budget": float("nan")}, "$.compression.budget", "must be a finite number"),
        ({"budget": float("inf")}, "$.compression.budget", "must be a finite number"),
        ({"budget": [1, 0.5]}, "$.compression.budget", "a number or a schedule"),
        ({"energy": 95}, "$.compression.energy", "write 0.95"),
        ({"rank": 0.2}, "$.compression.rank", "use a budget of 0.2"),
        ({"rank": 20.5}, "$.compression.rank", "whole number"),
        ({"rank": 0}, "$.compression.rank", "at least 1"),
        ({"budget": {"final": 1}}, "$.compression.budget", "without the key 'schedule'"),
        ({"budget": {"shedule": "ramp"}}, "$.compression.budget", "'schedule' by 'shedule'"),
        ({"budget": {"schedule": "rmap"}}, "$.compression.budget.schedule", "mean 'ramp'"),
        ({"budget": {"schedule": ["ramp"]}}, "$.compression.budget.schedule", "Received: ['ramp']"),
        ({"budget": {"schedule": "ramp"}}, "$.compression.budget.final", "is missing"),
        ({"budget": RAMP | {"shape": "cubical"}}, "$.compression.budget.shape", "mean 'cubic'"),
        ({"budget": RAMP | {"start_epoch": -1}}, "$.compression.budget.start_epoch", "negative"),
        (
            {
                "budget": {
                    "schedule": "piecewise_constant",
                    "values": [1, 0.5],
                    "start_epochs": [1, 3],
                }
            },
            "$.compression.budget.start_epochs[0]",
            "must be 0",
        ),
        (
            {
                "budget": {
                    "schedule": "piecewise_constant",
                    "values": [1, 50],
                    "start_epochs": [0, 3],
                }
            },
            "$.compression.budget.values[1]",
            "For 50 % write 0.5",
        ),
        (
            {"budget": {"schedule": "join", "schedules": [1, 50], "boundaries": [3]}},
            "$.compression.budget.schedules[1]",
            "For 50 % write 0.5",
        ),
        ({"rank": 3, "measure": "flops"}, "$.compression.measure", "only for a budget"),
        (
            {"search": {"lowest": 1}, "guard": {"max_drop": 0.1}},
            "$.compression.search.lowest",
            "Received: 1. For a tenth of it write 0.1; 1 is the dense model",
        ),
        ({"budget": 0.5, "measure": "flop"}, "$.compression.measure", "Did you mean 'flops'?"),
        (
            {"budget": 0.5, "measure": {"name": "byte"}},
            "$.compression.measure.name",
            "bytes, file, flops, latency or parameters. Received: 'byte'. Did you mean 'bytes'?",
        ),
        (
            {"budget": 0.5, "measure": {"batch_size": 1}},
            "$.compression.measure",
            "without the key 'name', which must be bytes, file, flops, latency or parameters."
            " Received the keys: batch_size.",
        ),
        (
            {"budget": 0.5, "measure": {"name": "bytes", "batch_size": 1}},
            "$.compression.measure.batch_size",
            "unknown key 'batch_size'. Remove it or correct it. Known here: name.",
        ),
        ({"budget": 0.5, "criterion": "fischer"}, "$.compression.criterion", "mean 'fisher'?"),
        ({"budget": 0.5, "allocation": "knapsak"}, "$.compression.allocation", "mean 'knapsack'?"),
        ({"rank": 3, "cadence": {}}, "$.compression.cadence", "exactly one of epochs or steps"),
        (
            {"rank": 3, "cadence": {"epochs": 1, "steps": 2}},
            "$.compression.cadence",
            "Received: epochs and steps",
        ),
        ({"rank": 3, "cadence": {"steps": 0}}, "$.compression.cadence.steps", "at least 1"),
        ({"rank": 3, "rules": {"match": "a"}}, "$.compression.rules", "must be a list"),
        ({"rank": 3, "rules": ["a"]}, "$.compression.rules[0]", "must be a mapping"),
        (
            {"rank": 3, "rules": [{"match": ["a", "b"], "min_rank": 2}]},
            "$.compression.rules[0].match",
            "must be text. Received: ['a', 'b']. Write one alone, without brackets",
        ),
        ({"rank": {}}, "$.compression.rank", "Received the keys: none."),
        ({"rank": 3, "rules": [{"match": "a"}]}, "$.compression.rules[0]", "says nothing"),
        ({"rank": 3, "rules": [{"min_rank": 3}]}, "$.compression.rules[0].match", "is missing"),
        (
            {"rank": 3, "rules": [{"match": "a", "keep_dense": True, "rank": 3}]},
            "$.compression.rules[0].keep_dense",
            "stays dense",
        ),
        (
            {"rank": 3, "rules": [{"match": "a", "energy": 0.5, "rank": 3}]},
            "$.compression.rules[0]",
            "at most one of effective_rank, energy, rank or rtol",
        ),
        (
            {"rank": 3, "rules": [{"match": "a", "min_rank": 9, "max_rank": 3}]},
            "$.compression.rules[0].min_rank",
            "min_rank=9, max_rank=3",
        ),
        (
            {"rank": 3, "rules": [{"match": "*", "min_rank": 2}, {"match": "a", "rank": 3}]},
            "$.compression.rules[1].match",
            "never reached: rules[0]",
        ),
        (
            {"rank": 3, "rules": [{"match": m, "min_rank": 2} for m in ("a", "b", "b")]},
            "$.compression.rules[2].match",
            "never reached: rules[1]",
        ),
        ({"rank": 12, "multiple": 8}, "$.compression.multiple", "Write 8 or 16."),
        ({"rank": RANKS, "multiple": 8}, "$.compression.multiple", "Received: rank=12"),
        (
            {"budget": 0.5, "multiple": 8, "rules": [{"match": "a", "rank": 12}]},
            "$.compression.rules[0]",
            "rank=12 with multiple=8 in the rule for 'a'",
        ),
        (
            {"budget": 0.5, "rules": [{"match": "a", "max_rank": 5, "multiple": 8}]},
            "$.compression.rules[0]",
            "in multiples of 8",
        ),
        (
            {"rtol": 0.1, **MEASURED},
            "$.compression.criterion",
            "Received: rtol, which shares none",
        ),
        (
            {"budget": 0.5, **MEASURED, "allocation": "uniform"},
            "$.compression.allocation",
            "looks at no losses",
        ),
        (
            {"budget": 0.5, "guard": {"max_drop": 0.1, "folder": "a\0b"}},
            "$.compression.guard.folder",
            "no null character",
        ),
    ],
)
def test_a_mistake_in_compression_is_one_problem(compression, path, message):
    found = problems_of({"compression": compression})
    assert message in found[path]
    if "is missing" not in message:
        assert len(found) == 1


def test_what_several_keys_have_against_each_other_is_told_beside_all_else():
    rules = [{"match": "a", "rank": 9}, {"match": "b", "rank": 6, "multiple": 4}]
    wrong = {"rank": 12, "multiple": 8, "rules": rules, "criterion": "measured"}
    found = problems_of({"compression": wrong, "training": {"epochs": 0}})
    places = ("multiple", "rules[0]", "rules[1]", "criterion", "analysis")
    assert set(found) == {*(f"$.compression.{each}" for each in places), "$.training.epochs"}


@pytest.mark.parametrize(
    ("training", "path", "message"),
    [
        ({"epochs": 0}, "$.training.epochs", "at least 1. Received: 0"),
        ({"epochs": 2.5}, "$.training.epochs", "whole number. Received: 2.5"),
        ({"epochs": 10**400}, "$.training.epochs", "at most 9223372036854775807. Received: 1000"),
        ({"epochs": "16"}, "$.training.epochs", "Remove the quotes"),
        ({"batch_size": None}, "$.training.batch_size", "Received: nothing"),
        ({"loss": {"name": "mse"}}, "$.training.loss", "Write a name alone"),
        ({"metrics": [["mse"]]}, "$.training.metrics[0]", "Write a name alone: what takes arg"),
        ({"optimizer": "adm"}, "$.training.optimizer", "Did you mean 'adam'?"),
        ({"optimizer": {"name": "sdg"}}, "$.training.optimizer.name", "Did you mean 'sgd'?"),
        ({"optimizer": "AdmW"}, "$.training.optimizer", "Did you mean 'adamw'?"),
        (
            {"learning_rate_schedule": "COSINE"},
            "$.training.learning_rate_schedule",
            "mean 'cosine'",
        ),
        ({"optimizer": {"momentum": 0.9}}, "$.training.optimizer.name", "is missing"),
        ({"learning_rate": 0}, "$.training.learning_rate", "greater than 0"),
        ({"learning_rate_schedule": "cos"}, "$.training.learning_rate_schedule", "'cosine'"),
        ({"loss": ""}, "$.training.loss", "not empty"),
        ({"metrics": "accuracy"}, "$.training.metrics", "must be a list"),
        ({"metrics": [3]}, "$.training.metrics[0]", "this item must be text"),
        ({"validation_split": 1.0}, "$.training.validation_split", "less than 1"),
        ({"validation_split": "20%"}, "$.training.validation_split", "write 0.2"),
        ({"seed": -1}, "$.training.seed", "at least 0"),
        ([], "$.training", "must be a mapping"),
    ],
)
def test_a_mistake_in_training_is_one_problem(training, path, message):
    found = problems_of({"compression": {"rank": 20}, "training": training})
    assert message in found[path]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("cadence", "end", "epochs", "good"),
    [
        ({"epochs": 1}, 5, 6, True),
        ({"epochs": 1}, 6, 6, False),
        ({"epochs": 4}, 4, 6, True),
        ({"epochs": 4}, 5, 6, False),
        ({"steps": 9}, 5.5, 6, True),
        ({"steps": 9}, 6, 6, False),
    ],
)
def test_a_schedule_must_end_at_a_cut_of_the_training(cadence, end, epochs, good):
    values = {
        "compression": {"budget": RAMP | {"end_epoch": end}, "cadence": cadence},
        "training": {"epochs": epochs},
    }
    if good:
        parse_config(values)
    else:
        assert "never be reached" in problems_of(values)["$.compression.budget.end_epoch"]


def test_the_times_of_a_join_add_up():
    join = {"schedule": "join", "schedules": [1.0, RAMP], "boundaries": [8]}
    values = {"compression": {"budget": join}, "training": {"epochs": 14}}
    found = problems_of(values)
    assert "ends at epoch 14" in found["$.compression.budget.schedules[1].end_epoch"]
    parse_config(values | {"training": {"epochs": 15}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("compression: [1", r"line \d+, column \d+: is not YAML"),
        ("a:\n\tb: 1", "Indent with spaces"),
        ("rank: 1\n---\nrank: 2", "Remove the '---'"),
        ("x: !!python/object/apply:os.system [ls]", "Remove the tag"),
        ("a: *nobody", "is not YAML"),
        ("a: &a [*a]", "holds itself"),
        ("x: !!bool 3", "not readable as YAML"),
        ("? [1, 2]\n: 3", "is not YAML"),
        ("x: " + "9" * 5000, "not readable as YAML"),
        ("x: \x00", "not readable as YAML"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("just text", "must be a mapping"),
        ("- compression", "must be a mapping"),
        ("1: 2\ncompression: {rank: 3}", "unknown key '1'"),
        ("compression: {rank: 3, rank: 4}", r"\$\.compression\.rank: is written twice, in lines 1"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_config(path)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path, name):
    with pytest.raises(FileAccessError, match="Expected a YAML file"):
        load_config(tmp_path / name)
    with pytest.raises(OSError, match="Check the path"):
        load_config(tmp_path / name)


KEYS = st.sampled_from(
    [
        *("budget", "cost", "rtol", "measure", "calibration", "criterion"),
        *("energy", "rank", "schedule", "initial", "final", "values", "schedules"),
        *("start_epoch", "end_epoch", "start_epochs", "boundaries", "rules", "match", "cadence"),
        *("epochs", "steps", "min_rank", "max_rank", "keep_dense", "optimizer", "name"),
    ]
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            KEYS,
            inner | st.sampled_from(["ramp", "steps", "join", "constant"]),
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(deadline=None)  # the first look may have to wait for imports
@example(compression={"budget": None, "rules": [{"rtol": {}}]}, training=None)
@example(compression={"budget": {0: 1.0, None: 0.5}, "measure": "flops"}, training=None)
@example(compression={"budget": RAMP, "cadence": {"epochs": 10**400}}, training=None)
@example(compression={"budget": RAMP}, training={"epochs": 10**400})
@example(
    compression={"budget": 0.5, "guard": {"max_drop": 0.1, "folder": "x" * 300}}, training=None
)
@given(plain, plain)
def test_no_values_at_all_raise_anything_but_config_errors(compression, training):
    values = {"compression": compression, "training": training}
    problems, schedules = (), {}
    try:
        schedules = parse_config(values).schedules()
    except ConfigError as error:
        problems = error.problems
    assert bool(problems) != bool(schedules)
    assert all(problem.path.startswith("$") for problem in problems)


def test_an_error_survives_pickling():
    with pytest.raises(ConfigError) as caught:
        parse_config({})
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_survives_pickling_and_copies(path):
    config = load_config(path, {"training.epochs": 64})
    for again in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config), copy.copy(config)):
        assert again == config
        assert repr(again) == repr(config)
        assert again.schedules() == config.schedules()
        assert again.lines == config.lines


# --- schema ---------------------------------------------------------------------------


def test_the_published_schema_is_current():
    published = json.loads((ROOT / "reducible_train" / "config" / "schema.json").read_text("utf-8"))
    assert published == config_schema(), (
        "run: reducible-train schema --out reducible_train/config/schema.json"
    )


def test_every_key_of_the_schema_is_described():
    schema = config_schema()
    for section in [schema, *(d for d in schema["$defs"].values() if "properties" in d)]:
        for name, key in section["properties"].items():
            assert key.get("description"), name


def test_reading_a_configuration_loads_no_keras():
    code = (
        "import sys, reducible_train.config as c; c.load_config(sys.argv[1]);"
        "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(CONFIGS[0])], check=False)
    assert done.returncode == 0


# --- beside Keras ---------------------------------------------------------------------


@pytest.fixture
def network():
    import keras

    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, name="hidden_1"),
            keras.layers.Dense(10, name="output"),
        ],
        name="network",
    )


@pytest.mark.keras
def test_keras_knows_every_optimizer_of_the_schema():
    import keras

    for name in OPTIMIZERS:
        assert keras.optimizers.get(name).name
        for named in (type(keras.optimizers.get(name)).__name__, name.upper()):
            for asked in (named, {"name": named}):
                values = {"compression": {"rank": 2}, "training": {"optimizer": asked}}
                told = parse_config(values).training.optimizer
                assert getattr(told, "name", told) == name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.keras
def test_every_example_builds_its_callbacks(path):
    scheduler, *listeners = load_config(path).callbacks()
    assert type(scheduler).__name__ == "RankScheduler"
    names = [type(listener).__name__ for listener in listeners]
    logs = ["TensorBoard", "RankTensorBoard"]
    others = ["RankEarlyStopping", "RankModelCheckpoint", "RankBackupAndRestore"]
    assert names in ([], logs, logs + others)


@pytest.mark.keras
def test_a_model_shows_all_that_does_not_fit_it(network, tmp_path):
    path = written(
        tmp_path,
        """\
compression:
  budget: 0.05
  rules:
    - {match: hiden_1, min_rank: 2}
    - {match: "hidden_*", min_rank: 2}
    - {match: conv, keep_dense: true}
    - {match: hidden_1, rank: 3}
training:
  loss: crossentropee
  metrics: [accuracy, acuracy]
  optimizer: {name: sgd, momentun: 0.9, learning_rate: 0.1}
""",
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path).check(network)
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert "Did you mean 'hidden_1'?" in found.pop("$.compression.rules[0].match")
    assert "Its layers: hidden_1, output" in found.pop("$.compression.rules[2].match")
    hidden = found.pop("$.compression.rules[3].match")
    assert "Received: 'hidden_1' after 'hidden_*'. Put it before" in hidden
    assert "smallest possible" in found.pop("$.compression.budget")
    assert "Keras knows no loss" in found.pop("$.training.loss")
    assert "'accuracy'" in found.pop("$.training.metrics[1]")
    assert "Did you mean 'momentum'?" in found.pop("$.training.optimizer.momentun")
    assert "training.learning_rate" in found.pop("$.training.optimizer.learning_rate")
    assert not found
    assert "(line 4)" in str(caught.value)


@pytest.mark.keras
@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("nesterov: no", "true or false. Received: 'no'. Write false"),
        ("use_ema: off", "true or false. Received: 'off'. Write false"),
        ("momentum: 90%", "a number. Received: '90%'. For 90 % write 0.9"),
        ("weight_decay: '0.1'", "a number. Received: '0.1'. Remove the quotes"),
        ("momentum: null", "a number. Received: nothing"),
        ("clipnorm: true", "a number. Received: true"),
        ("ema_momentum: [0.9]", "a number"),
        ("gradient_accumulation_steps: 2.5", "a whole number"),
    ],
)
def test_arguments_of_an_optimizer_are_of_the_kind_of_their_defaults(network, option, told):
    name = option.split(":")[0]
    text = f"compression: {{rank: 2}}\ntraining:\n  optimizer: {{name: sgd, {option}}}\n"
    config = parse_config(parse_document(text, "x").values)
    with pytest.raises(ConfigError) as caught:
        config.check(network)
    (problem,) = caught.value.problems
    assert problem.path == f"$.training.optimizer.{name}"
    assert told in problem.message


@pytest.mark.keras
def test_what_an_optimizer_has_no_default_for_may_be_left_empty(network):
    options = {"weight_decay": None, "clipnorm": 1, "gradient_accumulation_steps": 2}
    parse_config(
        {"compression": {"rank": 2}, "training": {"optimizer": {"name": "sgd", **options}}}
    ).check(network)
    muon = {"name": "muon", "exclude_layers": ["output"], "adam_lr_ratio": 0.5}
    parse_config({"compression": {"rank": 2}, "training": {"optimizer": muon}}).check(network)


@pytest.mark.keras
def test_a_model_that_fits_passes_and_is_untouched(network):
    before = network.count_params()
    parse_config({"compression": {"budget": 0.5, "rules": [{"match": "h*", "rank": 4}]}}).check(
        network
    )
    assert network.count_params() == before
    assert type(network.layers[0]).__name__ == "Dense"


@pytest.mark.keras
def test_nothing_to_compress_is_told(network):
    values = {"compression": {"rank": 4, "rules": [{"match": "*", "keep_dense": True}]}}
    with pytest.raises(ConfigError, match=r"\$\.compression: .*nothing to compress"):
        parse_config(values).check(network)


@pytest.mark.keras
def test_what_is_no_model_is_neither_compiled_nor_checked():
    config = parse_config({"compression": {"rank": 4}})
    for act in (config.check, lambda model: config.compile(model, 100)):
        with pytest.raises(TypeError, match="`model` must be a Keras model"):
            act(None)


@pytest.mark.keras
def test_compile_takes_what_is_given_and_keeps_the_rest(network):
    network.compile("sgd", "mse", metrics=["mae"])
    config = {"compression": {"rank": 4}, "training": {"learning_rate": 0.5}}
    parse_config(config).compile(network, 100)
    assert type(network.optimizer).__name__ == "SGD"
    assert float(network.optimizer.learning_rate) == 0.5
    assert network.loss == "mse"


@pytest.mark.keras
def test_compile_keeps_the_optimizer_itself_where_nothing_is_asked(network):
    network.compile("adam", "mse")
    optimizer = network.optimizer
    config = {"compression": {"rank": 4}, "training": {"metrics": ["mae"]}}
    parse_config(config).compile(network, 100)
    assert network.optimizer is optimizer


def compiled_by(training, model):
    parse_config({"compression": {"rank": 4}, "training": training}).compile(model, 100)
    return model


@pytest.mark.keras
def test_compile_refuses_with_its_line_what_a_check_does(network, tmp_path):
    text = (
        "compression: {rank: 4}\ntraining:\n  loss: mean_squarred_error\n"
        "  metrics: [mae, acuracy]\n  learning_rate: 0.0005\n"
        "  optimizer: {name: AdamW, learning_rate: 0.01, clipnorm: big}\n"
    )
    config = load_config(written(tmp_path, text))
    with pytest.raises(ConfigError) as caught:
        config.compile(network, 100)
    told = {each.path.removeprefix("$.training."): each.message for each in caught.value.problems}
    assert set(told) == {"loss", "metrics[1]", "optimizer.learning_rate", "optimizer.clipnorm"}
    assert "Move it to training.learning_rate. (line 6)" in told["optimizer.learning_rate"]
    assert "Did you mean 'accuracy'? (line 4)" in told["metrics[1]"]
    assert not network.compiled


@pytest.mark.keras
def test_compile_takes_a_rate_given_once_and_what_a_class_of_ones_own_knows(network):
    import keras

    training = {"optimizer": {"name": "sgd", "learning_rate": 0.25}, "loss": "mse"}
    assert float(compiled_by(training, network).optimizer.learning_rate) == 0.25
    assert compiled_by(training | {"metrics": ["ACC", "CE"]}, network).compiled

    class Knows(keras.Sequential):
        def compile(self, *args, loss=None, **options):
            super().compile(*args, loss="mse" if loss == "mine" else loss, **options)

    own = compiled_by({"loss": "mine"}, Knows([keras.Input((3,)), keras.layers.Dense(1)]))
    assert own.loss == "mse"


@pytest.mark.keras
def test_compile_keeps_objects_that_keras_finds_under_no_name(network):
    import keras

    class Loss(keras.losses.Loss):
        def __init__(self, power):  # which no configuration tells
            super().__init__()
            self.power = power

        def call(self, y_true, y_pred):
            return keras.ops.abs(y_true - y_pred) ** self.power

    class Mean(keras.metrics.MeanMetricWrapper):
        pass

    class Slow(keras.optimizers.SGD):
        pass

    def own(y_true, y_pred):
        return keras.ops.mean(y_true - y_pred)

    metrics = [own, Mean(own), lambda y, p: own(y, p)]
    for loss in (Loss(3), own, lambda y, p: own(y, p)):
        network.compile(Slow(0.1, momentum=0.5), loss, metrics=metrics)
        compiled_by({"learning_rate": 0.5}, network)
        assert network.loss is loss
        assert network._compile_metrics._user_metrics == metrics
        assert type(network.optimizer) is Slow
        assert network.optimizer.momentum == 0.5
        assert float(network.optimizer.learning_rate) == 0.5


@pytest.mark.keras
def test_compile_finds_what_a_class_tells_of_its_compilation():
    import keras

    class Weighted(keras.Model):
        def compile(self, *args, factor=1.0, **more):
            super().compile(*args, **more)
            self.factor = factor

        def get_compile_config(self):
            return super().get_compile_config() | {"factor": self.factor}

    inputs = keras.Input((8,))
    model = Weighted(inputs, keras.layers.Dense(4)(inputs))
    model.compile("sgd", loss := lambda y, p: keras.ops.mean(y - p), factor=3.0)
    compiled_by({"learning_rate": 0.5}, model)
    assert model.loss is loss
    assert model.factor == 3.0


@pytest.mark.keras
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_compile_changes_the_learning_rate_inside_what_scales_the_loss(schedule):
    import keras

    layers = [keras.Input((8,)), keras.layers.Dense(4, dtype="mixed_float16")]
    model = keras.Sequential(layers)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, 0.5), initial_scale=8.0)
    model.compile(scaled, "mse")
    compiled_by({"learning_rate": 0.5, "learning_rate_schedule": schedule}, model)
    assert model.optimizer.initial_scale == 8.0
    assert model.optimizer.inner_optimizer.momentum == 0.5
    assert float(model.optimizer.learning_rate) == 0.5


@pytest.mark.keras
def test_compile_leaves_a_loss_that_was_not_to_be_scaled():
    import keras

    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    model.dtype_policy = keras.DTypePolicy("mixed_float16")
    model.compile("sgd", "mse", auto_scale_loss=False)
    assert type(compiled_by({"learning_rate": 0.5}, model).optimizer) is keras.optimizers.SGD
    model.compile("sgd", "mse")
    assert hasattr(compiled_by({"learning_rate": 0.5}, model).optimizer, "inner_optimizer")


@pytest.mark.keras
@pytest.mark.parametrize("training", [{"learning_rate": 0.5}, {"optimizer": "lion"}], ids=str)
@pytest.mark.parametrize("scaled", [False, True])
def test_compile_keeps_exclusions_from_weight_decay(network, training, scaled):
    import keras

    first, last = network.layers
    own = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    own.exclude_from_weight_decay(var_list=[first.kernel], var_names=["bias"])
    network.compile(keras.optimizers.LossScaleOptimizer(own) if scaled else own, "mse")
    made = compiled_by(training, network).optimizer
    made = getattr(made, "inner_optimizer", made)
    assert made is not own
    assert [v.path for v in network.weights if made._use_weight_decay(v)] == [last.kernel.path]


@pytest.mark.keras
@pytest.mark.parametrize("samples", [None, "a", 0, -1, True, float("nan"), float("inf")])
def test_a_cosine_of_no_samples_is_told(network, samples):
    network.compile("sgd", "mse")
    cosine = {"compression": {"rank": 4}, "training": {"learning_rate_schedule": "cosine"}}
    with pytest.raises(ArgumentError, match="`samples` must be the number of samples"):
        parse_config(cosine).compile(network, samples)


@pytest.mark.keras
def test_what_cannot_be_compiled_is_told(network):
    import keras

    with pytest.raises(ArgumentTypeError, match=r"`model` must be a Keras model\. Received: None"):
        compiled_by({"learning_rate": 0.5}, None)
    each = keras.optimizers.OptimizerMap(keras.optimizers.SGD(), {})
    several = keras.optimizers.MultiOptimizer(each)
    network.compile(several, "mse")
    for training in ({"learning_rate": 0.5}, {"learning_rate_schedule": "cosine"}):
        with pytest.raises(ConfigError, match=r"\$\.training\.optimizer: Keras refuses"):
            compiled_by(training, network)


@pytest.mark.keras
def test_cosine_reaches_zero_at_the_last_step(network):
    training = {
        "epochs": 3,
        "batch_size": 10,
        "optimizer": {"name": "sgd", "momentum": 0.75},
        "learning_rate": 0.5,
        "learning_rate_schedule": "cosine",
        "loss": "mse",
    }
    parse_config({"compression": {"rank": 4}, "training": training}).compile(network, 95)
    assert network.optimizer.momentum == 0.75
    rate = network.optimizer.get_config()["learning_rate"]["config"]
    assert rate["decay_steps"] == 30
    assert rate["initial_learning_rate"] == 0.5


@pytest.mark.keras
def test_a_model_without_loss_is_told(network):
    with pytest.raises(ConfigError, match=r"\$\.training\.loss: loss is needed"):
        parse_config({"compression": {"rank": 4}}).compile(network, 100)


@pytest.mark.keras
def test_arguments_that_keras_refuses_are_told(network):
    training = {"loss": "mse", "optimizer": {"name": "sgd", "momentum": 3.0}}
    with pytest.raises(ConfigError, match=r"\$\.training\.optimizer: Keras refuses"):
        parse_config({"compression": {"rank": 4}, "training": training}).compile(network, 100)


def test_the_examples_are_plain_yaml():
    for path in CONFIGS:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_schedules_that_rise_are_told_with_their_place():
    ramp = {"schedule": "ramp", "initial": 0.2, "final": 1.0, "start_epoch": 1, "end_epoch": 3}
    rule = {
        "match": "a",
        "rank": {"schedule": "piecewise_constant", "values": [2, 4], "start_epochs": [0, 2]},
    }
    with pytest.raises(ConfigError) as caught:
        parse_config({"compression": {"budget": ramp, "rules": [rule]}}, "c.yaml")
    assert (
        "$.compression.budget: budget must not rise, for ranks never rise; it rises from 0.2"
        in str(caught.value)
    )
    assert "never rise; it rises from 2 to 4" in str(caught.value)


@pytest.mark.keras
def test_early_stopping_and_a_backup_follow_the_scheduler():
    values = {
        "compression": {"rank": 4},
        "early_stopping": {
            "monitor": "loss",
            "patience": 2,
            "baseline": 0.5,
            "restore_best_weights": True,
        },
        "backup": {"backup_dir": "kept", "delete_checkpoint": False},
    }
    scheduler, stop, backup = parse_config(values).callbacks()
    assert (stop.scheduler, stop.monitor, stop.patience) == (scheduler, "loss", 2)
    assert stop.restore_best_weights
    assert stop.baseline == 0.5
    assert (backup.scheduler, str(backup.backup_dir)) == (scheduler, "kept")
    assert not backup.delete_checkpoint
    for name, found in (
        ("guard", {"guard": {"max_drop": 0.01}}),
        ("cadence.start", {"cadence": {"start": {}}}),
        ("Rewarm", {"aids": {"rewarm": {"steps": 3}, "product_decay": {}}}),
    ):
        told = problems_of(values | {"compression": {"rank": 4} | found})
        assert list(told) == ["$.backup"]
        assert f"A training with {name} cannot be backed up" in told["$.backup"]
    parse_config(values | {"compression": {"rank": 4, "aids": {"product_decay": {}}}})


@pytest.mark.keras
def test_a_checkpoint_follows_the_scheduler_and_its_name_is_checked():
    values = {
        "compression": {"rank": 4},
        "checkpoint": {"filepath": "runs/{epoch}.reducible", "monitor": "loss", "mode": "min"},
        "backup": {"backup_dir": "kept"},
    }
    scheduler, best, backup = parse_config(values).callbacks()
    assert (best.scheduler, best.filepath) == (scheduler, "runs/{epoch}.reducible")
    assert (best.monitor, best.mode, best.save_best_only) == ("loss", "min", True)
    assert backup.scheduler is scheduler, "last, for it keeps what the others remember"
    for section, words in (
        ({"filepath": "best.h5"}, "must end in .reducible, .keras or .weights.h5"),
        ({"filepath": "best.keras", "save_weights_only": True}, "must end in .weights.h5"),
        ({"filepath": "{}.keras"}, "must say what stands in its braces"),
    ):
        told = problems_of(values | {"checkpoint": section})
        assert list(told) == ["$.checkpoint.filepath"]
        assert words in told["$.checkpoint.filepath"]


def test_the_home_of_the_user_stands_for_its_sign_in_every_path(monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, "/home/ada")
    for *outer, name, beside in (
        ("compression", "analysis", {"budget": 0.5, "criterion": "measured"}),
        ("compression", "guard", "folder", {"monitor": "loss", "max_drop": 0.1}),
        ("tensorboard", "log_dir", {}),
        ("checkpoint", "filepath", {}),
        ("backup", "backup_dir", {}),
    ):
        values = {**beside, name: "~/a.keras"}
        for key in reversed(outer):
            values = {key: values}
        values["compression"] = {"budget": 0.5, **values.get("compression", {})}
        model = parse_config(values).model
        assert reduce(getattr, (*outer, name), model) == "/home/ada/a.keras"


@pytest.mark.keras
def test_an_aid_that_looks_ahead_takes_only_what_can_be_foreseen():
    def compression(**keys):
        return {"compression": keys | {"aids": {"tail_shrink": {}}}}

    guard = {"max_drop": 0.01}
    for keys, came in (
        ({"rank": 4, "guard": guard}, "Received: guard."),
        ({"search": {}, "guard": guard}, "Received: guard and search."),
        ({"energy": 0.5}, "Received: energy."),
        ({"rtol": 0.5}, "Received: rtol."),
        ({"rank": 4, "rules": [{"match": "a", "rtol": 0.5}]}, "Received: rtol."),
        ({"cadence": {"start": {}}}, "Received: cadence.start alone."),
    ):
        told = problems_of(compression(**keys))
        assert list(told) == ["$.compression.aids.tail_shrink"]
        assert came in told["$.compression.aids.tail_shrink"]
    late = {"schedule": "piecewise_constant", "start_epochs": [0, 2]}
    for keys in (
        {"budget": late | {"values": [1.0, 0.5]}, "cadence": {"start": {}}},
        {"cost": late | {"values": [900, 500]}},
        {"rank": late | {"values": [9, 4]}},
    ):
        (scheduler,) = parse_config(compression(**keys)).callbacks()
        assert [type(aid) for aid in scheduler.aids] == [TailShrink]


@pytest.mark.keras
def test_an_aid_that_changes_ranks_rests_before_training_ends():
    def values(end, epochs=8, **keys):
        aids = {"regrow": {"end_epoch": end}}
        return {
            "compression": {"rank": 4, "calibration": 640, "aids": aids} | keys,
            "training": {"epochs": epochs},
        }

    (scheduler,) = parse_config(values(7)).callbacks()
    assert scheduler.aids == (Regrow(end_epoch=7),)
    for late in (values(8), values(7, cadence={"epochs": 4}), values(8, cadence={"steps": 9})):
        told = problems_of(late)
        assert list(told) == ["$.compression.aids.regrow"]
        assert "after the last cut of a training of 8 epochs" in told["$.compression.aids.regrow"]
    assert list(problems_of(values(0))) == ["$.compression.aids.regrow.end_epoch"]
    told = problems_of(values(7, guard={"max_drop": 0.01}))
    assert "Received: guard." in told["$.compression.aids.regrow"]


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("adaptive", {}, "cadence: {start: {...}}"),
        ("min_gain", 0.2, "rules: [{match: '*', min_gain: ...}]"),
        ("input_shape", [3], "measure: {name: flops, input_shape: ...}"),
    ],
)
def test_a_key_that_has_another_place_is_told_it(key, value, place):
    told = problems_of({"compression": {"budget": 0.5, key: value}})
    assert list(told) == [f"$.compression.{key}"]
    assert place in told[f"$.compression.{key}"]
