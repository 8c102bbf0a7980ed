"""Words, sizes and shapes of YAML: what each is read as, and what is refused in time."""

from __future__ import annotations

import math
import os
import threading
import time

import pytest

from reducible_train import ConfigError, FileAccessError, load_config
from reducible_train.config.reading import MOST_BYTES, MOST_PLACES, parse_document
from reducible_train.errors import ArgumentError

CORE = {
    "no": "no",
    "On": "On",
    "y": "y",
    "YES": "YES",
    "true": True,
    "FALSE": False,
    "010": 10,
    "-007": -7,
    "0o17": 15,
    "0x1f": 31,
    "0b11": "0b11",
    "1_000": "1_000",
    "1:30": "1:30",
    "12:30:45": "12:30:45",
    ".5": 0.5,
    "-.5e1": -5.0,
    "1e-3": 0.001,
    "+2E4": 20000.0,
    "3.": 3.0,
    "1.5_0": "1.5_0",
    "-.inf": -math.inf,
    "2026-01-31": "2026-01-31",
    "2026-01-31 10:00:00": "2026-01-31 10:00:00",
    "~": None,
    "Null": None,
    "": None,
    "=": "=",
    "'010'": "010",
    "!!str 5": "5",
}


@pytest.mark.parametrize("word", CORE)
def test_a_word_is_what_yaml_1_2_says_as_value_and_as_key(word):
    value = parse_document(f"a: {word}\n", "x").values["a"]
    assert (value, type(value)) == (CORE[word], type(CORE[word]))
    if word and not word.startswith("!"):
        assert list(parse_document(f"? {word}\n: 1\n", "x").values) == [CORE[word]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("compression: {budget: 0.5}\ntraining: {epochs: 1:30}\n", "counted in epochs.*line 2"),
        ("compression: {budget: 0.5}\ntraining: {epochs: 1_000}\n", "Write 1000, without.*line 2"),
        ("compression: {budget: 0.5}\ntraining: {epochs: 1e2}\n", "Write 100.*line 2"),
        ("compression:\n  rules: [{match: a, keep_dense: no}]\n", "Write false.*line 2"),
        ("compression: {budget: 0.5}\nbackup: {backup_dir: b, delete_checkpoint: On}", "true"),
        ("compression: {budget: 0.5, on: 3}\n", "unknown key 'on'"),
        ("compression: {budget: 25%}\n", r"write 0\.25.*line 1"),
        ("compression:\n  rank: 3\n   guard: x\n", "line 3.*Indent the keys of one mapping alike"),
        ("training: {epochs: 3}\n", r"Add for example compression: \{budget: 0\.25\}"),
        ("budget: 0.5\n", "'budget'. It belongs to 'compression', indented"),
        ("compression: {budget: 0.5, epochs: 2}\n", "'epochs'. It belongs to 'training'"),
        ("compression: {budget: 0.5, backup: {}}\n", "'backup'. It belongs to the top of the file"),
        ("compression: {budget: 0.5}\ntraining: {lr: 1}\n", "'lr'. Did you mean 'learning_rate'"),
    ],
)
def test_what_another_yaml_would_have_read_otherwise_is_named_with_its_line(tmp_path, text, told):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_config(tmp_path / "c.yaml")


def test_a_pattern_may_be_a_word_that_was_false_once(tmp_path):
    (tmp_path / "c.yaml").write_text("compression: {budget: 1, rules: [{match: no, rank: 0o10}]}")
    (rule,) = load_config(tmp_path / "c.yaml").compression.rules
    assert (rule.match, rule.rank) == ("no", 8)


def test_anchors_and_merged_defaults_are_read(tmp_path):
    text = """\
compression:
  budget: &fall {schedule: ramp, initial: 1.0, final: 0.5, start_epoch: 1, end_epoch: 3}
  rules:
  - &rule {match: a, min_rank: 4}
  - {<<: *rule, match: b}
"""
    (tmp_path / "c.yaml").write_text(text)
    assert [r.min_rank for r in load_config(tmp_path / "c.yaml").compression.rules] == [4, 4]


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("compression: {budget: 0.5, guard: }", "compression.guard", "or remove it."),
        ("compression: {budget: 0.5}\nearly_stopping:\n", "early_stopping", "early_stopping: {}"),
        ("compression: {budget: 0.5}\nbackup: # folder: here\n", "backup", "or remove it."),
        ("compression: {budget: 0.5}\ntensorboard:\ntraining:\n", "tensorboard", "or remove it."),
        ("compression: {cadence: {start: }}", "compression.cadence.start", "start: {}"),
        ("compression: {budget: 0.5}\nsearch_space:\n", "search_space", "search_space: {}"),
    ],
)
def test_a_section_with_nothing_in_it_is_not_passed_over(tmp_path, text, place, remedy):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml")
    told = {problem.path: problem.message for problem in caught.value.problems}[f"$.{place}"]
    assert "is empty" in told
    assert remedy in told


def test_nothing_may_be_said_by_its_word_and_be_filled_by_an_override(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "compression: {budget: 0.5, guard: null}\nearly_stopping: ~\ntraining: {loss: }\n"
    )
    assert load_config(tmp_path / "c.yaml").compression.guard is None
    (tmp_path / "c.yaml").write_text("compression: {budget: 0.5}\ntraining:\n")
    assert load_config(tmp_path / "c.yaml", {"training.epochs": 3}).training.epochs == 3
    (tmp_path / "c.yaml").write_text("compression: {budget: 0.5, cadence: {start: }}\n")
    with pytest.raises(ConfigError, match="cadence must be a mapping"):
        load_config(tmp_path / "c.yaml", {"compression.cadence": 3})


def bomb(kind: str) -> str:
    items = {
        "list": lambda i: "[" + ",".join([f"*a{i - 1}"] * 9) + "]",
        "mapping": lambda i: "{" + ",".join(f"k{j}: *a{i - 1}" for j in range(9)) + "}",
        "merge": lambda i: "{<<: [" + ",".join([f"*a{i - 1}"] * 9) + f"], k{i}: 1}}",
    }[kind]
    return "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {items(i)}\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (bomb("list"), f"more than {MOST_PLACES:,} places"),
        (bomb("mapping"), f"more than {MOST_PLACES:,} places"),
        (bomb("merge"), f"more than {MOST_PLACES:,} places"),
        ("[" * 100_000, "levels of brackets"),
        ("{a: " * 10_000, "levels of brackets"),
        ("- " * 10_000, "levels of brackets"),
        ("a: &a {b: *a}", "holds itself"),
        ("a: &a {<<: *a}", "holds itself"),
        ("x" * (MOST_BYTES + 1), "longer than"),
        ("a: 1" + "0" * 5_000, "not readable"),
        ("a: !!python/object/apply:os.system [echo]", "Remove the tag"),
        ("!!python/name:os.system x: 1", "Remove the tag"),
        ("a\n---\nb\n", "Remove the '---'"),
        ("a:\n\tb: 1\n", "spaces instead of tabs"),
        ("a: 1\nb: 2\na: 3\n", "written twice, in lines 1 and 3"),
        ("{? [1, 2] : 3}", "key"),
        ("a: *nobody\n", "undefined alias"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"caf\xe9: 1\n", "UTF-8"),
        (b"\x93NUMPY\x01\x00", "UTF-8"),
        (b"", "empty"),
        ("# nothing but a remark\n", "empty"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else repr(value[:20]),
)
def test_what_is_no_configuration_is_told_at_once(tmp_path, text, told):
    (tmp_path / "c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    started = time.process_time()
    with pytest.raises(ConfigError, match=told):
        load_config(tmp_path / "c.yaml")
    assert time.process_time() - started < 5


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_pipe_is_read_if_somebody_writes_to_it(tmp_path, monkeypatch):
    text, pipe = b"compression: {budget: 0.5}\ntraining: {epochs: 3}\n", tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[text])
    writer.start()
    assert load_config(pipe).training.epochs == 3
    writer.join()
    monkeypatch.setattr("reducible_train.config.reading._WAIT", 0.2)
    with pytest.raises(FileAccessError, match=r"pipe\.yaml.*a pipe that nobody has written to"):
        load_config(pipe)


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="the system names no open files")
def test_the_pipe_that_a_shell_makes_may_take_its_time(monkeypatch):
    monkeypatch.setattr("reducible_train.config.reading._WAIT", 0)
    out, end = os.pipe()

    def late():
        time.sleep(0.2)
        os.write(end, b"compression: {budget: 0.5}\ntraining: {epochs: 3}\n")
        os.close(end)

    writer = threading.Thread(target=late)
    writer.start()
    assert load_config(f"/dev/fd/{out}").training.epochs == 3
    writer.join()
    os.close(out)


@pytest.mark.parametrize(
    "text",
    [
        '{\n\t"compression": {\n\t\t"budget": 0.5, "rules": [{\t"match": "a*", "rank": 3}]}\n}\n',
        "compression:\t\n  budget:\t0.5\t# half\n  rules:\n  -\tmatch: a*\n    rank: 3\t\n",
        "compression:\n  budget: 0.5\n\t\n \t# rules\n  rules: [{match: a*, rank: 3}]\n\t",
    ],
)
@pytest.mark.parametrize("form", [str, str.encode])
def test_tabs_that_indent_nothing_are_read(text, form):
    wanted = {"compression": {"budget": 0.5, "rules": [{"match": "a*", "rank": 3}]}}
    assert parse_document(form(text), "x").values == wanted


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a:\n \tb: 1\n", "a:\n\t- 1\n", "\ta: 1\n"])
def test_tabs_that_indent_are_refused(text):
    with pytest.raises(ConfigError, match="spaces instead of tabs"):
        parse_document(text, "x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n  b: !!timestamp abc", "line 2, column 6: .*'abc' cannot be read as timestamp"),
        ("a: !!bool x", "line 1, column 4: .*'x' cannot be read as bool. Remove the tag"),
        ('a: !!int "x"', "line 1, column 4: .*'x' cannot be read as int. Remove the tag"),
        (f"a: {'9' * 5000}", r"line 1, column 4: .*'9{40}\.\.\.' cannot be read as int. Correct"),
        (f"a: 0x{'f' * 5000}", "line 1, column 4: .*'0xf*...' cannot be read as int. Correct"),
        ("a: |\t\n  b", "line 1, column 5: .*Write a space in place of the tab"),
    ],
)
def test_a_value_that_is_not_what_it_says_is_named_with_its_line(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_document(text, "x")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a: b\tc\t # d", "b\tc"),
        ("a: b \tc", "b \tc"),
        ("a: [b\tc,\td]", ["b\tc", "d"]),
        ("a: b\t\n  c", "b c"),
        ("a: b\t# c\nd: 1", "b"),
    ],
)
def test_tabs_within_text_belong_to_it(text, read):
    assert parse_document(text, "x").values["a"] == read


@pytest.mark.parametrize(
    "merge", ["{<<: *d}", "{<<: [{min_rank: 1}, *d]}", "{<<: *e}", "{<<: {match: 007}, rank: 2}"]
)
def test_what_is_merged_is_quoted_as_it_stands(merge, tmp_path):
    defined = "[&d {match: 007, rank: 3}, &e {<<: *d, rank: 4}, "
    file = tmp_path / "c.yaml"
    file.write_text(f"compression: {{budget: 0.5, rules: {defined}{merge}]}}\n")
    with pytest.raises(ConfigError) as found:
        load_config(file)
    assert str(found.value).count("Write '007' in quotes") == 3


@pytest.mark.parametrize("written", ["007", "1e3", "0x10", "2.50", "true"])
def test_text_that_looks_like_a_number_is_quoted_as_it_stands(written, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(f"compression: {{budget: 0.5, rules: [{{match: {written}, rank: 3}}]}}\n")
    with pytest.raises(ConfigError, match=f"Write '{written}' in quotes"):
        load_config(file)


@pytest.mark.parametrize(
    "given", [[1], {"training": 3}, {"compression.rules.0.match": "a"}, {1: 2}]
)
def test_overrides_are_of_keys_in_sections(given, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("compression: {budget: 0.5}\n")
    with pytest.raises(ArgumentError, match="a value for each key of a section"):
        load_config(file, overrides=given)
    assert load_config(file, overrides={"training.epochs": 3}).training.epochs == 3
