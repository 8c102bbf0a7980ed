"""YAML text to plain values: nothing is run, every line known, no key twice, all of it bounded."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from reducible_train.config.scalars import BAD_VALUE, BadValueError, Loader
from reducible_train.errors import ArgumentTypeError, ConfigError, FileAccessError, Problem

Place = tuple[str | int, ...]
_WAIT = 5  # seconds, for who writes to a pipe
MOST_BYTES = 200_000  # of a file; the longest in use has some thousand
MOST_PLACES = 10_000  # in a document, every alias written out
_UNTAGGED = "Remove the tag: a configuration holds plain values only."
_MERGE = "<<"


@dataclass(frozen=True)
class Document:
    """What a file says, before anybody judges it.

    Args:
        values: Plain dicts, lists, numbers, text.
        lines: Line (from 1) of each place in the file.
        problems: Keys that are there twice.
        empty: Places of keys with nothing behind them, not even the word `null`.
        given: What has a place of which the file does not tell, such as an option of a command.
        words: The words of the file at the places of single values.
    """

    values: Any
    lines: Mapping[Place, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    empty: tuple[Place, ...] = ()
    given: Mapping[Place, str] = field(default_factory=dict)
    words: Mapping[Place, str] = field(default_factory=dict)


def place_text(place: Place) -> str:
    """YAML path of a place.

    >>> place_text(("compression", "rules", 0, "match"))
    '$.compression.rules[0].match'
    """
    text = "$"
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if re.fullmatch(r"[\w-]+", part) else f"[{part!r}]"
    return text


def read_document(path: str | Path) -> Document:
    """Read one YAML file.

    Raises:
        ArgumentTypeError: The path is none.
        FileAccessError: It cannot be read.
        ConfigError: It is not YAML; the problem names line and column.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentTypeError(
            f"`path` must be the name of a YAML file. Received: {path!r}. For values that are read "
            "already use reducible_train.config.parse_config."
        )
    try:
        with _opened(Path(path)) as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise FileAccessError(
            f"Expected a YAML file that can be read. Received: {str(path)!r}"
            f" ({getattr(error, 'strerror', None) or error}). Check the path and its permissions."
        ) from error
    if len(content) > MOST_BYTES:
        raise ConfigError(
            str(path),
            [
                Problem(
                    "$",
                    f"is longer than {MOST_BYTES:,} bytes: no configuration is. Received: "
                    "more. Give the YAML file, such as configs/fine_tune.yaml.",
                )
            ],
        )
    return parse_document(content, str(path))


def _opened(path: Path) -> BinaryIO:
    """The file; a pipe that has a name, only once somebody writes to it.

    What a shell puts in place of `<(...)` is a pipe whose writer is there; it may take its time.

    Raises:
        OSError: It cannot be opened, or nobody does.
    """
    if not path.is_fifo() or not os.path.exists(os.path.realpath(path)):
        return path.open("rb")
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    if not select.select([stream], [], [], _WAIT)[0]:
        stream.close()
        raise OSError(None, f"a pipe that nobody has written to for {_WAIT} seconds")
    os.set_blocking(stream.fileno(), True)
    return stream


def parse_document(content: bytes | str, source: str) -> Document:
    """Parse one YAML document.

    >>> parse_document("training: {epochs: 16, learning_rate: 1e-3}", "example").values
    {'training': {'epochs': 16, 'learning_rate': 0.001}}

    Raises:
        ConfigError: It is not YAML; the problem names line and column.
    """
    try:
        loader = Loader(content)
        try:
            root = loader.get_single_node()
            if root is None:
                return Document(None)
            lines: dict[Place, int] = {}
            empty: list[Place] = []
            words: dict[Place, str] = {}
            problems = tuple(_walk(root, (), lines, empty, words, ()))
            values = loader.construct_document(root)
            return Document(values, lines, problems, tuple(empty), words=words)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(source, [_syntax_problem(error)]) from error
    except yaml.reader.ReaderError as error:
        message = (
            f"is not readable as YAML, which is text in UTF-8. Received: another byte or sign at"
            f" position {error.position}."
            " Save it as UTF-8; a model or an archive is no configuration."
        )
        raise ConfigError(source, [Problem("$", message)]) from error
    except BadValueError as error:
        advice = _UNTAGGED if error.is_tagged else "Correct it, or write it in quotes as text."
        message = f"is not readable as YAML: {error}. {advice}"
        where = f"line {error.mark.line + 1}, column {error.mark.column + 1}"
        raise ConfigError(source, [Problem(where, message)]) from error
    except (yaml.YAMLError, *BAD_VALUE) as error:
        message = f"is not readable as YAML: {' '.join(str(error).split())}"
        raise ConfigError(source, [Problem("$", message)]) from error


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "$"
    what = ", ".join(part for part in (error.context, error.problem) if part)
    advice = (
        "Indent the keys of one mapping alike, quote text that holds ': ', '#', '*' or '%', and"
        " close every bracket."
    )
    if r"'\t' that cannot start any token" in what:
        advice = "Indent with spaces instead of tabs."
    elif r"'\t'" in what:
        advice = "Write a space in place of the tab."
    elif "single document" in what:
        advice = "Remove the '---' between the documents."
    elif "tag" in what:
        advice = _UNTAGGED
    return Problem(where, f"is not YAML: {what}. {advice}")


def _walk(
    node: yaml.Node,
    place: Place,
    lines: dict[Place, int],
    empty: list[Place],
    words: dict[Place, str],
    above: tuple[yaml.Node, ...],
) -> Iterator[Problem]:
    """Note line and words of each place, and those of nothing; yield the keys that come twice."""
    lines[place] = node.start_mark.line + 1
    if len(lines) > MOST_PLACES:
        raise ValueError(
            f"it has more than {MOST_PLACES:,} places once its aliases are written out. Remove them"
        )
    if any(node is parent for parent in above):
        raise ValueError(f"the alias at {place_text(place)} holds itself")
    above = (*above, node)
    if isinstance(node, yaml.ScalarNode):
        words[place] = node.value
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*place, index), lines, empty, words, above)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Hashable, int] = {}
        for key, value in node.value:
            inner = (*place, str(key.value) if isinstance(key, yaml.ScalarNode) else "?")
            line = key.start_mark.line + 1
            if (key.tag, inner) in seen:
                first = seen[key.tag, inner]
                message = f"is written twice, in lines {first} and {line}. Keep one of them."
                yield Problem(place_text(inner), message)
            seen[key.tag, inner] = line
            yield from _walk(value, inner, lines, empty, words, above)
            if isinstance(value, yaml.ScalarNode) and not value.value and value.style is None:
                empty.append(inner)
            lines[inner] = line
        if (*place, _MERGE) in lines:
            _bring(place, lines)
            _bring(place, words)


def _bring(place: Place, noted: dict[Place, Any]) -> None:
    """Note, of what a mapping merges, the same where it is brought: among the mapping's own keys.

    Args:
        place: The mapping, whose own keys are noted already.
        noted: What is known of each place, of the mapping last; it is added to.
    """
    depth = len(place)
    within = list(takewhile(lambda each: each[:depth] == place, reversed(noted)))
    for each in reversed(within):  # of what several say, the first counts
        merge, rest = each[depth : depth + 1], each[depth + 1 :]
        rest = rest[1:] if rest and isinstance(rest[0], int) else rest
        if merge == (_MERGE,) and rest and _MERGE not in rest:
            noted.setdefault((*place, *rest), noted[each])
