"""The command line: what it prints, what it leaves behind, how it fails."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pytest
import yaml
from rich.console import Console
from setuptools import find_namespace_packages
from typer.testing import CliRunner

from reducible_train.cli import app
from reducible_train.cli._look import address, inspect_line, tensorboard_line
from reducible_train.cli._progress import rank_text
from reducible_train.cli.preview import plot
from reducible_train.config import config_schema, parse_config
from reducible_train.config.beginnings import schema_line
from reducible_train.container import read_header, write_container
from reducible_train.report.records import Answers, Cut, KernelRecord, Report
from reducible_train.settings.schedules import Constant, Ramp

TAB = "reducible_train.tensorboard.plugin.loader"
ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("analyze", "demo", "finetune", "init", "inspect", "preview", "report", "schema", "tune")
CONFIG = """\
compression:
  budget: {schedule: piecewise_constant, values: [1.0, 0.4], start_epochs: [0, 1]}
training: {epochs: 2, batch_size: 16, seed: 1, validation_split: 0.25}
"""


def run(*arguments: object):
    """The command's result, unwrapped, without colours."""
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


# --- all commands ---------------------------------------------------------------------


def test_help_lists_every_command():
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("arguments", [["no-such"], ["preview"], ["preview", "--epochs", "0", "x"]])
def test_a_wrong_command_line_exits_with_2(arguments):
    assert run(*arguments).exit_code == 2


def loaded_after(*arguments: str) -> set[str]:
    code = (
        "import sys\nfrom reducible_train.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('\\nloaded', *{name.split('.')[0] for name in sys.modules})"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded")[2].split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["finetune", "--help"], ["preview", "configs/ramp.yaml"], ["schema"]]
)
def test_what_needs_no_keras_loads_none(arguments):
    arguments = [str(ROOT / a) if a.startswith("configs") else a for a in arguments]
    assert not {"keras", "tensorflow", "tensorboard"} & loaded_after(*arguments)


def test_a_shell_completes_commands():
    env = {"_REDUCIBLE_TRAIN_COMPLETE": "complete_bash", "COMP_WORDS": "reducible-train fine"}
    answer = CliRunner().invoke(app, [], prog_name="reducible-train", env=env | {"COMP_CWORD": "1"})
    assert answer.output.split() == ["finetune"]


# --- init -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_init_writes_every_example_with_a_schema_line_that_leads_to_the_schema(path, tmp_path):
    file = tmp_path / "my settings.yaml"
    result = run("init", file, "--like", path.stem)
    assert result.exit_code == 0, result.output
    first, *rest = file.read_text("utf-8").splitlines()
    assert path.read_text("utf-8").splitlines()[1:] == rest
    place = first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(Path(url2pathname(urlparse(place).path)).read_text("utf-8"))["$defs"]
    assert yaml.safe_load("\n".join(rest)) == yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize(("like", "then"), [((), "finetune"), (("--like", "search"), "tune")])
def test_init_names_its_file_and_what_to_type_next(tmp_path, monkeypatch, like, then):
    monkeypatch.chdir(tmp_path)
    result = run("init", *like)
    first, *commands = result.output.splitlines()
    assert "reducible.yaml" in first
    for line, name in zip(commands, ("preview", then), strict=True):
        words = shlex.split(line)[2:]
        assert words[0] == name
        assert "reducible.yaml" in words
    assert run(*shlex.split(commands[0])[2:]).exit_code == 0


def test_init_writes_over_nothing(tmp_path):
    file = tmp_path / "reducible.yaml"
    file.write_text("mine")
    dangling = tmp_path / "link.yaml"
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (file, tmp_path, dangling):
        assert "new file" in refusal(run("init", path), "FileAccessError")
    assert file.read_text() == "mine"
    assert dangling.is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_init_tells_what_it_cannot_do(tmp_path):
    told = refusal(run("init", tmp_path / "a.yaml", "--like", "../ramp"), "ArgumentError")
    assert "fine_tune" in told
    refusal(run("init", tmp_path / "no" / "a.yaml"), "FileAccessError")
    assert "'model.yaml'" in refusal(run("init", tmp_path / "model.keras"), "ArgumentError")
    assert str(tmp_path / "reducible.yaml") in refusal(run("init", tmp_path), "FileAccessError")
    assert list(tmp_path.iterdir()) == []


def test_the_home_of_the_user_stands_for_its_sign_behind_an_option_too(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for command in (["init", "~/a.yaml"], ["schema", "--out=~/s.json"], ["preview", "~/a.yaml"]):
        result = run(*command)
        assert result.exit_code == 0, result.output
    assert {each.name for each in tmp_path.rglob("*")} == {"here", "a.yaml", "s.json"}


def test_the_schema_is_named_from_where_the_file_lies(tmp_path, monkeypatch):
    home = tmp_path / ".venv" / "schema.json"
    monkeypatch.setattr("reducible_train.config.beginnings.SCHEMA", home)
    near, far = schema_line(tmp_path), schema_line(tmp_path / "elsewhere")
    assert near.endswith("$schema=.venv/schema.json")
    assert far.endswith(f"$schema={home.as_uri()}")
    spaced = tmp_path / "a b" / "schema.json"
    monkeypatch.setattr("reducible_train.config.beginnings.SCHEMA", spaced)
    assert schema_line(tmp_path).endswith("/a%20b/schema.json"), "the comment ends at a space"


def test_a_wheel_holds_the_examples_and_the_schema():
    """What setuptools is told to take; `configs/` is linked into the package."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    packages = find_namespace_packages(str(ROOT), include=asked["packages"]["find"]["include"])
    home = ROOT / "reducible_train" / "config"
    for folder, name in (("config", "schema.json"), ("config.examples", "ramp.yaml")):
        assert f"reducible_train.{folder}" in packages
        assert (home.parent / folder.replace(".", "/") / name).is_file()
        assert any(fnmatch(name, each) for each in asked["package-data"]["*"])


def test_what_the_first_file_has_commented_out_is_good_too():
    text = (ROOT / "configs" / "fine_tune.yaml").read_text("utf-8")
    body = text.split("compression:\n", 1)[1]
    whole = "compression:\n" + re.sub(r"^( *)# ", r"\1", body, flags=re.MULTILINE)
    parsed = parse_config(yaml.safe_load(whole))
    assert parsed.compression.guard.max_drop == 0.005
    assert parsed.training.loss == "sparse_categorical_crossentropy"


# --- preview and schema ---------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_preview_shows_every_example(path):
    result = run("preview", path)
    assert result.exit_code == 0, result.output
    assert "epoch" in result.output


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ("{}", "From epoch 6 on the budget is stepped down by the loss foreseen"),
        (
            "{factor: 0.5, start_epoch: 3}",
            "From epoch 3 on the budget is multiplied by 0.5",
        ),
        ("{start_epoch: 0}", "From epoch 1 on the budget is stepped down"),
    ],
)
def test_preview_tells_when_a_search_begins(tmp_path, search, told):
    path = tmp_path / "search.yaml"
    path.write_text(
        f"compression: {{search: {search}, guard: {{max_drop: 0.1}}}}\ntraining: {{epochs: 12}}"
    )
    result = run("preview", path)
    assert result.exit_code == 0, result.output
    assert told in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("cadence", "budget", "told"),
    [
        ("{epochs: 1}", "0.25", "c.yaml: 9 epochs, one cut, before the first step"),
        ("{epochs: 1}", "{schedule: ramp, initial: 1.0, final: 0.25}", "change every epoch\n"),
        ("{steps: 50}", "{schedule: ramp, initial: 1.0, final: 0.25}", "change every 50 steps\n"),
        ("{start: {}}", "0.25", "change every epoch\n"),
    ],
)
def test_preview_tells_how_often_ranks_change(cadence, budget, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"compression: {{cadence: {cadence}, budget: {budget}}}\ntraining: {{epochs: 9}}\n"
    (tmp_path / "c.yaml").write_text(text)
    assert told in run("preview", "c.yaml").output


@pytest.mark.parametrize(
    ("end", "guard", "told"),
    [
        (5, "", "have settled, at epoch 5 at the latest"),
        (5, "guard: {max_drop: 0.1}", "and the guard has seen val_loss, at epoch 5 at the latest"),
        (0, "guard: {max_drop: 0.1}", "and the guard has seen val_loss, at epoch 1 at the latest"),
    ],
)
def test_preview_tells_what_stable_ranks_wait_for(end, guard, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(
        f"compression:\n  budget: 0.25\n  cadence: {{start: {{end_epoch: {end}}}}}\n"
        f"  {guard.replace('{', '{monitor: val_loss, ')}\ntraining: {{epochs: 9}}\n"
    )
    result = run("preview", "c.yaml")
    assert told in " ".join(result.output.split())


STEPS = "{schedule: piecewise_constant, values: [0.8, 0.5], start_epochs: [0, 3]}"


@pytest.mark.parametrize(
    ("budget", "more", "told", "values"),
    [
        ("0.25", "", "change every epoch, but not before epoch 1, when", "- .25 .25 .25 .25"),
        (STEPS, "", "change every epoch, but not before epoch 1, when", "- .8 .8 .5 .5"),
        (STEPS, "cadence: {epochs: 2}", "but not before epoch 2, when", "- - .8 .8 .5"),
        ("0.25", "cadence: {steps: 9}", "9 steps, but not before epoch 1", "- .25 .25 .25 .25"),
        ("0.25", "cadence: {start: {}}", "change every epoch\n", ".25 .25 .25 .25 .25"),
    ],
)
def test_preview_tells_from_when_a_guard_lets_ranks_change(
    budget, more, told, values, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(
        f"compression:\n  budget: {budget}\n  guard: {{max_drop: 0.1, monitor: val_loss}}\n"
        f"  {more}\ntraining: {{epochs: 5}}\n"
    )
    result = run("preview", "c.yaml")
    assert told in result.output
    assert ("when the guard has seen val_loss\n" in result.output) == ("but not" in told)
    rows = re.findall(r"^ +\d+ +([\d.]+|-)$", result.output, re.MULTILINE)
    assert rows == [each.replace(".", "0.") for each in values.split()]


@pytest.mark.parametrize(
    "asked",
    [
        "budget: 1.0",
        "energy: 1.0",
        "budget: {flops: 1.0, parameters: {schedule: piecewise_constant, values: [1.0, 1.0], "
        "start_epochs: [0, 2]}}",
        "budget: 1.0\n  guard: {max_drop: 0.1}",
        "budget: 1.0\n  rules: [{match: a, energy: 1.0}]",
    ],
)
def test_preview_tells_that_nothing_is_asked_for(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(f"compression:\n  {asked}\ntraining: {{epochs: 4}}\n")
    assert run("preview", "c.yaml").output == (
        "c.yaml: 4 epochs, no cut, for nothing is asked for\n"
    )
    Path("c.yaml").write_text(f"compression:\n  {asked.replace('1.0', '0.9', 1)}\n")
    assert "no cut" not in run("preview", "c.yaml").output


def test_preview_draws_each_of_several_budgets(tmp_path):
    path = tmp_path / "both.yaml"
    path.write_text(
        "compression:\n  budget: {flops: 0.5, parameters: {schedule: ramp, initial: 1.0, "
        "final: 0.25}}\ntraining: {epochs: 9}\n"
    )
    result = run("preview", path)
    assert "epoch  budget.flops  budget.parameters" in result.output
    assert "epoch (budget.flops)" in result.output
    assert "epoch (budget.parameters)" in result.output


def test_preview_tells_the_schedule_values():
    rows = run("preview", ROOT / "configs" / "ramp.yaml").output.splitlines()
    values = {
        int(row.split()[0]): float(row.split()[1])
        for row in rows
        if row.strip()[:1].isdigit() and len(row.split()) == 2 and "|" not in row
    }
    ramp = Ramp(1.0, 0.2, 2, 6)
    assert values == {epoch: pytest.approx(ramp(epoch), rel=1e-3) for epoch in range(16)}


LONG = "{schedule: ramp, initial: 1.0, final: 0.2, start_epoch: 2, end_epoch: 6000000}"


@pytest.mark.parametrize("epochs", [8_000_000, 10**9])
def test_preview_ends_however_long_a_training_is(epochs, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"compression: {{budget: {LONG}}}\ntraining: {{epochs: {epochs}}}\n")
    result = run("preview", path)
    assert result.exit_code == 0, result.output
    rows = [
        row.split() for row in result.stdout.splitlines() if re.fullmatch(r" *\d+ +[\d.]+", row)
    ]
    assert rows[0] == ["0", "1"]
    assert float(rows[-1][1]) < 0.3
    assert 10 < len(rows) <= 41 or epochs == 10**9


def test_preview_of_another_length_is_checked():
    assert run("preview", ROOT / "configs" / "ramp.yaml", "--epochs", 7).exit_code == 0
    result = run("preview", ROOT / "configs" / "ramp.yaml", "--epochs", 3)
    assert result.exit_code == 1
    assert "after the last cut of a training of 3 epochs" in result.stderr


def test_preview_tells_all_mistakes_without_a_traceback(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("compression: {budget: 25, mesure: flops}\ntraining: {epochs: yes}\n")
    result = run("preview", path)
    assert result.exit_code == 1
    assert result.stdout == ""
    for text in ("3 problems", "$.compression.budget", "write 0.25", "'measure'", "$.training"):
        assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_a_plot_falls_as_its_schedule_does():
    rows = plot(Ramp(1.0, 0.2, 2, 6, "linear"), 8, "budget", ascii_only=True).splitlines()[:-1]
    filled = [row.count("#") for row in rows]
    assert filled == sorted(filled)
    assert filled[0] < filled[-1]
    assert len({len(row) for row in plot(Constant(0.5), 3, "x").splitlines()[:-1]}) == 1


def test_schema_prints_and_writes_the_schema(tmp_path):
    assert json.loads(run("schema").stdout) == config_schema()
    assert run("schema", "--out", tmp_path / "s.json").exit_code == 0
    assert json.loads((tmp_path / "s.json").read_text("utf-8")) == config_schema()
    result = run("schema", "--out", tmp_path / "no" / "s.json")
    assert result.exit_code == 1
    assert "FileAccessError" in result.stderr


# --- inspect --------------------------------------------------------------------------


@pytest.fixture
def compact(tmp_path, rng):
    kernels = (
        KernelRecord("d1/kernel", "Dense", (30, 20), 4, 11, 200, energy=0.875),
        KernelRecord("out/kernel", "Dense", (20, 5), None, 3, 100, reason="output [bold]layer"),
    )
    report = Report(700, 300, 2800, 1200, 1400, 600, kernels)
    tensors = [
        ("d1/kernel_u", rng.normal(size=(30, 4)).astype("float32")),
        ("d1/kernel_v", rng.normal(size=(4, 20)).astype("float32")),
        ("out/kernel", rng.normal(size=(20, 5)).astype("float32")),
    ]
    path = tmp_path / "m.reducible"
    write_container(
        path, {"versions": {"keras": "3.15\x1b[31m"}, "report": report.to_dict()}, tensors
    )
    return path


def test_inspect_tells_ranks_sizes_and_energies(compact):
    result = run("inspect", compact, "--tensors")
    assert result.exit_code == 0, result.output
    for text in ("4/20", "0.875", "output [bold]layer", "57.1% fewer", "d1/kernel_u", "30 x 4"):
        assert text in result.output
    stored = {t.name: t.stored_bytes for t in read_header(compact).tensors}
    assert f"{stored['d1/kernel_u'] + stored['d1/kernel_v']:,}" in result.output
    assert f"{compact.stat().st_size:,} bytes" in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize("place", ["", "student/"])
def test_inspect_counts_the_bytes_of_a_layer_whose_name_another_has_elsewhere(place, tmp_path, rng):
    paths = ("encoder/hidden/kernel", "hidden/kernel", "hidden_kernel")
    kernels = tuple(KernelRecord(path, "Dense", (30, 20), 4, 11, 200) for path in paths)
    names = [f"{path}{end}" for path in paths[:2] for end in ("_u", "_v")] + [paths[2]]
    tensors = [(f"{place}{name}", rng.normal(size=(30, 4)).astype("float32")) for name in names]
    if place:
        tensors.append(("teacher/hidden/kernel", np.zeros((30, 20), "float32")))
    path = tmp_path / "m.reducible"
    report = Report(700, 300, 2800, 1200, 1400, 600, kernels)
    write_container(path, {"report": report.to_dict()}, tensors)
    stored = {t.name: t.stored_bytes for t in read_header(path).tensors}
    told = [line.split() for line in run("inspect", path).output.splitlines()]
    for name in paths:
        (row,) = [cells for cells in told if cells[:1] == [name]]
        own = [f"{place}{name}{end}" for end in ("", "_u", "_v")]
        assert int(row[-1].replace(",", "")) == sum(stored.get(each, 0) for each in own)


def test_inspect_tells_what_cuts_did_to_the_answers(tmp_path):
    kernel = KernelRecord("d1/kernel", "Dense", (30, 20), 4, 11, 200, 0.875, output_error=0.375)
    cut = Cut(2, 40, "budget", 0.5, (), 700, 300, {}, None, 0.25, 0.25, {"loss": 0.5}, {"loss": 1})
    answers = Answers(64, "the validation data", 0.125, {"loss": 0.625})
    report = Report(700, 300, 2800, 1200, 1400, 600, (kernel,), (cut,), answers=answers)
    path = tmp_path / "m.reducible"
    write_container(path, {"report": report.to_dict()}, [("a", np.zeros(2, "float32"))])
    told = run("inspect", path).output
    assert "output error" in told.split("shape")[1].splitlines()[0]
    assert "0.375" in told
    assert "output error 0.25 right after the cut, 0.125 at the end" in told
    assert "loss 0.5 before the cut, 1 right after it, 0.625 at the end" in told


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([(1, 0), (2, 0)], "before epochs 1, 2"),
        ([(1, 0), (1, 4), (2, 7)], "before epoch 1, in epochs 1, 2"),
        ([(1, None)], "before or in epoch 1"),  # in files of before
    ],
)
def test_inspect_tells_whether_cuts_were_before_epochs_or_within_them(steps, told, tmp_path):
    cuts = tuple(
        Cut(epoch, 9, "budget", 0.5, (), 700, 300, {}, epoch_step=step) for epoch, step in steps
    )
    plain = Report(700, 300, 2800, 1200, 1400, 600, (), cuts).to_dict()
    for cut in plain["cuts"]:
        if cut["epoch_step"] is None:
            del cut["epoch_step"]
    path = tmp_path / "m.reducible"
    write_container(path, {"report": plain}, [("a", np.zeros(2, "float32"))])
    expected = f"cuts: {len(cuts)}, {told} (counted from 0)\n"
    assert expected in run("inspect", path).output
    assert Report.from_dict(plain).cuts == cuts


def test_inspect_prints_json_for_programs(compact):
    told = json.loads(run("inspect", compact, "--json").stdout)
    assert told["bytes"] == compact.stat().st_size
    assert told["report"]["kernels"][0]["rank"] == 4
    assert [t["raw_bytes"] for t in told["tensors"]] == [480, 320, 400]


def test_inspect_loads_no_keras(compact):
    assert not {"keras", "tensorflow"} & loaded_after("inspect", str(compact))


@pytest.mark.parametrize(
    "report",
    [
        None,
        3,
        {"kernels": 3, "cuts": {}},
        {"kernels": [3, {"path": 3, "shape": "x", "rank": "x"}], "cuts": [3, {"epoch": "x"}]},
        {"kernels": [{"path": "\x1b[2J", "shape": [], "energy": "high", "parameters": 0.5}]},
    ],
)
def test_inspect_trusts_no_report(tmp_path, report):
    path = tmp_path / "m.reducible"
    write_container(path, {"report": report}, [("a", np.zeros(0, "float32"))])
    result = run("inspect", path)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output


def test_report_shows_what_a_file_keeps_and_writes_it_as_a_page(compact, tmp_path):
    told = run("report", compact)
    assert told.exit_code == 0, told.output
    assert "output [bold]layer" in told.output
    plain = tmp_path / "report.json"
    plain.write_text(json.dumps(json.loads(run("inspect", compact, "--json").stdout)["report"]))
    for file in (compact, plain):
        assert run("report", file, "--html", tmp_path / "r.html").exit_code == 0
        assert "output [bold]layer" in (tmp_path / "r.html").read_text("utf-8")
    other = tmp_path / "m.keras"
    other.write_bytes(b"PK")
    assert "keeps no report" in run("report", other).stderr


@pytest.mark.parametrize("begin", ["\ufeff", "\t", "\r\n", "\n  \n"], ids=ascii)
def test_report_knows_json_by_its_brace(compact, tmp_path, begin):
    path = tmp_path / "report.json"
    path.write_bytes((begin + run("inspect", compact, "--json").stdout).encode())
    told = run("report", path)
    assert told.exit_code == 0, told.output
    assert "output [bold]layer" in told.output


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_report_reads_files_of_a_bounded_length(tmp_path):
    (tmp_path / "long.json").write_bytes(b"{")
    os.truncate(tmp_path / "long.json", 1 << 40)  # takes no space
    os.mkfifo(tmp_path / "pipe")
    for name, words in {"long.json": "must have at most", "pipe": "not a regular file"}.items():
        told = run("report", tmp_path / name)
        assert told.exit_code == 1
        assert words in told.stderr


def test_report_advises_a_name_that_is_taken(compact):
    told = run("report", compact, "--html", compact)
    assert "Choose another name, such as report.html." in told.stderr
    assert run("report", compact, "--html", compact.with_name("report.html")).exit_code == 0


def test_inspect_has_whole_lines_where_nobody_sees_them(compact):
    told = CliRunner().invoke(app, ["inspect", str(compact), "--tensors"], env={"COLUMNS": "20"})
    assert told.exit_code == 0, told.output
    assert "…" not in told.output
    assert re.search(r"^kernel +shape +rank +energy", told.output, re.MULTILINE)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_inspect_refuses_other_files(tmp_path, content):
    path = tmp_path / "m.reducible"
    path.write_bytes(content)
    result = run("inspect", path)
    assert result.exit_code == 1
    assert "FormatError" in result.stderr


def test_inspect_names_the_file_it_refuses(tmp_path):
    (tmp_path / "short.reducible").write_bytes(b"\x89")
    assert "short.reducible" in run("inspect", tmp_path / "short.reducible").stderr


def test_inspect_of_nothing_is_told(tmp_path):
    result = run("inspect", tmp_path / "none.reducible")
    assert result.exit_code == 1
    assert "FileAccessError" in result.stderr


# --- finetune -------------------------------------------------------------------------


@pytest.fixture
def network_file(tmp_path):
    import keras

    model = keras.Sequential(
        [
            keras.Input((24,)),
            keras.layers.Dense(24, activation="relu", name="hidden"),
            keras.layers.Dense(3, activation="softmax", name="output"),
        ],
        name="tiny",
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    path = tmp_path / "tiny.keras"
    model.save(path)
    return path


@pytest.fixture
def arrays(rng):
    y = rng.integers(0, 3, 80)
    x = rng.normal(size=(80, 24)).astype("float32")
    x[np.arange(80), y] += 3
    return {"x_train": x[:64], "y_train": y[:64], "x_test": x[64:], "y_test": y[64:]}


@pytest.fixture
def data_file(tmp_path, arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def finetune(network_file, data_file, config, *more):
    out = config.parent / "small.reducible"
    return out, run("finetune", network_file, data_file, "--config", config, "--out", out, *more)


@pytest.mark.traced
def test_finetune_goes_the_whole_way(network_file, data_file, config, tmp_path, arrays):
    from reducible_train import load_model

    logs = tmp_path / "logs"
    out, result = finetune(network_file, data_file, config, "--log-dir", logs)
    assert result.exit_code == 0, result.output
    assert "Traceback" not in result.output
    before, after = map(int, re.search(r"parameters +(\d+) +(\d+)", result.output).groups())
    assert after <= 0.4 * before
    assert before == 24 * 24 + 24 + 24 * 3 + 3
    again = load_model(out)
    assert again.count_params() == after
    assert again.predict(arrays["x_test"], verbose=0).shape == (16, 3)
    accuracy = re.search(r"test accuracy +[\d.]+ +([\d.]+)", result.output)[1]
    predicted = again.predict(arrays["x_test"], verbose=0).argmax(1)
    assert float(accuracy) == pytest.approx((predicted == arrays["y_test"]).mean(), abs=1e-4)
    assert list(logs.rglob("events.out.tfevents.*"))
    assert f"tensorboard --logdir {logs}" in result.output
    assert result.output.splitlines()[-1] == f"saved   {out}"
    shown = run("inspect", out)
    assert shown.exit_code == 0
    assert "hidden/kernel" in shown.output


def test_finetune_prints_a_line_for_each_epoch(network_file, data_file, config):
    _, result = finetune(network_file, data_file, config)
    lines = [line.split() for line in result.output.splitlines()]
    head = next(line for line in lines if line[:1] == ["epoch"])
    assert head[1:6] == ["loss", "accuracy", "val_loss", "val_accuracy", "parameters"]
    assert [line[0] for line in lines if line and line[0] in ("1", "2")] == ["1", "2"]


def test_finetune_compares_with_the_model_that_was_given(network_file, data_file, config):
    import keras

    from reducible_train import factorize

    model = keras.models.load_model(network_file)
    given = factorize(model, rank=8)
    model.save(network_file)
    _, result = finetune(network_file, data_file, config)
    flops = re.search(r"FLOPs of one sample +([\d,]+) +([\d,]+)", result.output)
    before, after = (int(each.replace(",", "")) for each in flops.groups())
    assert after < before == given.flops < given.dense_flops


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ({}, "dense"),
        ({"a/kernel": 3, "kernel": 2}, "a 3, kernel 2"),
        (
            {"lstm/cell/kernel": 7, "lstm/cell/recurrent_kernel": 4, "out/kernel": 2},
            "lstm/cell/kernel 7, lstm/cell/recurrent_kernel 4, out 2",
        ),
        (
            {f"{name}/{kernel}": 9 for name in "abc" for kernel in ("kernel", "recurrent_kernel")},
            "9 to 9 in 6 kernels",
        ),
    ],
)
def test_the_ranks_of_an_epoch_are_those_of_every_kernel(ranks, told):
    assert rank_text(SimpleNamespace(ranks=ranks)) == told


def test_epochs_on_the_command_line_win(network_file, data_file, config):
    _, result = finetune(network_file, data_file, config, "--epochs", 3)
    assert result.exit_code == 0, result.output
    assert re.search(r"^ +3 ", result.output, flags=re.MULTILINE)
    _, result = finetune(network_file, data_file, config, "--epochs", 1)
    assert result.exit_code == 1
    assert "$.compression.budget.start_epochs" in result.stderr


def refusal(result, kind: str) -> str:
    """What stderr says, after the checks that hold for every refusal."""
    assert result.exit_code == 1, result.output
    assert kind in result.stderr
    assert "Traceback" not in result.output
    return result.stderr


def test_finetune_tells_all_that_does_not_fit_the_model(network_file, data_file, config):
    config.write_text(CONFIG + "  # end\ntensorboard: {log_dir: never}\n")
    text = config.read_text().replace(
        "training:", "  rules: [{match: hiden, min_rank: 2}]\ntraining:"
    )
    config.write_text(text.replace("0.4]", "0.01]"))
    out, result = finetune(network_file, data_file, config)
    told = refusal(result, "ConfigError")
    assert "Did you mean 'hidden'?" in told
    assert "smallest possible" in told
    assert not out.exists()
    assert not Path("never").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": None, "y_train": None}, "x_train and y_train (or x and y)"),
        ({"y_train": None}, "no y_train"),
        ({"y_train": np.zeros(3, int)}, "equally many samples"),
        ({"x_train": np.zeros((64, 25), "float32")}, "shape (24,)"),
        ({"x_train": np.full((64, 24), np.nan, "float32")}, "NaN"),
        ({"x_test": np.array(["a"] * 16)}, "must be numbers"),
        ({"y_train": np.array([{}] * 64, dtype=object)}, "(dtype=object) in y_train"),
        ({"y_test": np.full(16, 3)}, "Received: 3 in"),
        ({"y_train": np.full(64, 0.5)}, "Received: 0.5 in"),
    ],
)
def test_finetune_refuses_data_that_does_not_fit(
    network_file, data_file, config, arrays, change, message
):
    np.savez(data_file, **{k: v for k, v in (arrays | change).items() if v is not None})
    out, result = finetune(network_file, data_file, config)
    assert message in refusal(result, "Error")
    assert not out.exists()


def test_finetune_refuses_a_single_array(network_file, tmp_path, config, arrays):
    np.save(tmp_path / "x.npy", arrays["x_train"])
    _, result = finetune(network_file, tmp_path / "x.npy", config)
    assert "a single array" in refusal(result, "FormatError")


def test_finetune_never_writes_over_what_it_reads(network_file, data_file, config):
    for path in (network_file, data_file, config):
        before = path.read_bytes()
        told = run("finetune", network_file, data_file, "-c", config, "-o", path)
        assert "another file" in refusal(told, "ArgumentError")
        assert path.read_bytes() == before


def test_finetune_tells_missing_files(network_file, data_file, config, tmp_path):
    missing = tmp_path / "missing"
    refusal(finetune(missing, data_file, config)[1], "FileAccessError")
    refusal(finetune(network_file, missing, config)[1], "FileAccessError")
    refusal(run("finetune", network_file, data_file, "-c", missing, "-o", "x"), "FileAccessError")
    out = tmp_path / "no" / "folder"
    told = run("finetune", network_file, data_file, "-c", config, "-o", out)
    assert "its folder exists" in refusal(told, "FileAccessError")


def test_finetune_tells_before_training_that_the_log_folder_is_none(
    network_file, data_file, config, tmp_path
):
    file = tmp_path / "file"
    file.write_text("")
    out, result = finetune(network_file, data_file, config, "--log-dir", file / "logs")
    assert str(file) in refusal(result, "FileAccessError")
    assert "epoch" not in result.output
    assert not out.exists()


def test_finetune_tells_before_training_that_the_folder_refuses(
    network_file, data_file, config, monkeypatch
):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("reducible_train.preflight.paths.tempfile.TemporaryFile", refuse)
    _, result = finetune(network_file, data_file, config)
    assert "Permission denied" in refusal(result, "FileAccessError")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x.keras", "no zip archive"),
        ("x.reducible", "load_model(path)"),
        ("x.h5", "Keras can load"),
    ],
)
def test_finetune_tells_a_damaged_model(name, told, data_file, config, tmp_path):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    assert told in refusal(finetune(tmp_path / name, data_file, config)[1], "FormatError")


def test_finetune_keeps_warnings_about_state_that_is_made_anew_to_itself(
    data_file, config, tmp_path
):
    import keras

    model = keras.Sequential(
        [keras.Input((24,)), keras.layers.Dense(24, name="hidden"), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])  # and never trained
    model.save(tmp_path / "m.keras")
    _, result = finetune(tmp_path / "m.keras", data_file, config)  # a warning is an error here
    assert result.exit_code == 0, result.output


def test_finetune_needs_epochs(network_file, data_file, config):
    config.write_text("compression: {rank: 2}\n")
    told = refusal(finetune(network_file, data_file, config)[1], "ConfigError")
    assert "$.training.epochs: epochs is needed" in told


# --- demo -----------------------------------------------------------------------------


def test_the_demo_leaves_logs_and_files_and_says_how_to_go_on(tmp_path, monkeypatch, few_samples):
    check_the_demo(tmp_path / "out", monkeypatch)


@pytest.mark.slow
@pytest.mark.traced
def test_the_demo_on_all_of_its_data(tmp_path, monkeypatch):
    check_the_demo(tmp_path / "out", monkeypatch)


def check_the_demo(out, monkeypatch):
    result = run("demo", "--epochs", 7, "--out-dir", out)
    assert result.exit_code == 0, result.output
    name = "digits-budget-0.25-epochs-7"
    assert result.output.rstrip().endswith(f"tensorboard --logdir {out / 'logs'}")
    assert f"reducible-train inspect {out / name}.reducible" in result.output
    assert run("inspect", out / f"{name}.reducible").exit_code == 0
    change = re.search(r"^parameters .* (-[\d.]+) %$", result.output, flags=re.MULTILINE)
    assert float(change[1]) <= -74
    file = re.search(r"^file.* (-[\d.]+) %$", result.output, flags=re.MULTILINE)
    assert float(file[1]) <= float(change[1])
    assert "predicts the same, bit for bit" in result.output

    dense, compressed = (tags_of(out / "logs" / name / each) for each in ("dense", "compressed"))
    assert {"reducible/params", "reducible/quality", "reducible_rank/hidden_1"} <= dense
    apart = {
        tag
        for tag in compressed - dense
        if not re.match(r".*(cut|decisions|spectrum|output_err)", tag)
    }
    assert not apart, "the dense control is comparable in all but its cuts"
    assert not dense - compressed

    typed = result.output.partition("finetune ")[2].splitlines()[0]
    model, arrays, *_ = shlex.split(typed)
    assert model == str(out / f"{name}-dense.keras")
    assert set(np.load(arrays)) == {f"{a}_{p}" for a in "xy" for p in ("train", "val", "test")}
    small = [
        *typed.replace("small.reducible", str(out.parent / "s.reducible")).split(),
        "--epochs",
        1,
    ]
    assert run("init", out.parent / "reducible.yaml").exit_code == 0
    monkeypatch.chdir(out.parent)
    assert run("finetune", *small).exit_code == 0, "the line that it gives can be typed"

    from reducible_train.cli._demo import _new_run

    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert _new_run(out, name) == (out / "logs" / f"{name}-2", out / f"{name}-2.reducible")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == kept


def tags_of(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (file,) = (folder / "reducible").iterdir()
    return {
        value.tag for event in EventFileLoader(str(file)).Load() for value in event.summary.value
    }


def test_the_address_is_the_tab_of_the_package_where_tensorboard_knows_it(monkeypatch):
    for module, place in (("strange.plugin", "#custom_scalars&"), (TAB, "#reducible")):
        point = importlib.metadata.EntryPoint("x", f"{module}:Loader", "tensorboard_plugins")
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group, found=point: [found])
        assert place in address()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_report_is_a_rich_table_on_terminals_and_whole_lines_elsewhere(terminal):
    from reducible_train.cli._results import show_report

    kernels = (KernelRecord("net/hidden[b]/kernel", "Dense", (64, 256), 37, 51, 11_840, 0.6),)
    note = " ".join(["a word more"] * 20)
    report = Report(85_002, 21_066, 4, 4, None, None, kernels, notes=(note,))
    told = io.StringIO()
    console = Console(file=told, force_terminal=terminal, width=100, color_system="truecolor")
    show_report(console, report)
    assert ("\x1b[1m" in told.getvalue()) is terminal, "its head is bold"
    assert "net/hidden[b]/kernel" in told.getvalue()
    if not terminal:
        assert told.getvalue() == f"{report}\n"


@pytest.mark.parametrize("activated", [True, False])
def test_what_it_says_can_be_typed_whether_the_environment_is_activated_or_not(
    activated, tmp_path, monkeypatch
):
    home = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(home if activated else tmp_path))
    monkeypatch.chdir(home.parent)
    line = tensorboard_line(Path("my logs"))
    expected = "tensorboard" if activated else f"{home.name}/tensorboard"
    assert shlex.split(line) == [expected, "--logdir", "my logs"]
    assert shutil.which(shlex.split(line)[0])
    monkeypatch.chdir(tmp_path)
    assert shutil.which(shlex.split(inspect_line(Path("x")))[0]), "elsewhere the path is absolute"


def test_the_demo_refuses_an_unknown_data_set():
    assert run("demo", "--data", "cifar").exit_code == 2


def test_the_demo_tells_a_folder_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    told = run("demo", "--out-dir", tmp_path / "file")
    refusal(told, "FileAccessError")


# --- analyze --------------------------------------------------------------------------


def test_a_picture_that_cannot_be_written_is_refused_before_the_model_is_read(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("model.keras", "data.npz"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    command = ["analyze", tmp_path / "model.keras", tmp_path / "data.npz"]
    refused = run(*command, "--plot", tmp_path / "x.foo")
    assert refused.exit_code == 1
    assert "--plot must be a picture" in refused.stderr
    assert "x.foo" in refused.stderr


def test_analyze_shows_keeps_and_goes_on(tmp_path):
    keras = pytest.importorskip("keras")
    pytest.importorskip("matplotlib")
    hidden, output = keras.layers.Dense(16, name="hidden"), keras.layers.Dense(3, name="output")
    model = keras.Sequential([keras.Input((12,)), hidden, output])
    model.compile("sgd", "mse", metrics=["mae"])
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(40, 12)).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :3], weights=np.array([{}], object))
    command = ["analyze", tmp_path / "model.keras", tmp_path / "data.npz", "--samples", 20]
    command += ["--file", tmp_path / "a.json"]
    result = run(*command, "--plot", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    assert "hidden/kernel" in result.stdout
    assert "1/1 hidden/kernel" in result.stderr
    assert "data.npz: weights" in result.stderr
    assert (tmp_path / "a.png").is_file()
    kept = (tmp_path / "a.json").read_text()
    again = run(*command, "--json")
    assert json.loads(again.stdout) == json.loads(kept)
    refused = run(*command, "--metric", "mae")
    assert refused.exit_code == 1
    assert "same metric" in refused.stderr
    keras.Sequential([keras.Input((12,)), hidden, output]).save(tmp_path / "model.keras")
    refused = run(*command)
    assert refused.exit_code == 1
    assert "Call model.compile(loss=..., metrics=[...]) in Python" in refused.stderr


def test_analyze_that_is_broken_off_says_what_is_kept_and_goes_on(tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")
    measuring = pytest.importorskip("reducible_train.analysis.measuring")
    dense = [keras.layers.Dense(12, name=name) for name in ("one", "two", "out")]
    model = keras.Sequential([keras.Input((12,)), *dense])
    model.compile("sgd", "mse", run_eagerly=True)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(20, 12)).astype("float32")
    np.savez(tmp_path / "data.npz", x=x, y=x)
    command = ["analyze", tmp_path / "model.keras", tmp_path / "data.npz"]
    kept = tmp_path / "a.json"
    row = measuring._row

    def broken_off(kernel, *others):
        if "two" in kernel.kernel.path:
            raise KeyboardInterrupt
        return row(kernel, *others)

    with monkeypatch.context() as patched:
        patched.setattr(measuring, "_row", broken_off)
        lost, found = run(*command), run(*command, "--file", kept)
    assert (lost.exit_code, found.exit_code) == (5, 5)
    assert "Broken off. Nothing is kept; give --file" in lost.stderr
    assert f"is kept in {kept}; run the same command again to go on." in found.stderr
    assert [each["path"] for each in json.loads(kept.read_text())["kernels"]] == ["one/kernel"]
    assert run(*command, "--file", kept).exit_code == 0
