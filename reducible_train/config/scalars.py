"""What a word of a file is: the core schema of YAML 1.2, no more.

PyYAML reads YAML 1.1, in which `no` is false, `010` is eight, `1:30` is ninety, `1_000` a thousand
and `2026-01-31` a date, while `1e-3` is text. Here they are what YAML 1.2 says: truth is `true`
or `false`; a number is decimal, or `0o17` or `0x1f`; anything else is text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from reducible_train.errors import shortened

MOST_DEPTH = 50  # of brackets in brackets; a schedule in a join in a rule has eight

_REST_IS_EMPTY = re.compile(r"[ \t]*(#|[\r\n\0]|$)")
_TAG = "tag:yaml.org,2002:"
_FORMS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),  # of YAML 1.1, for `<<: *defaults`: no other meaning is lost
)


class Loader(yaml.SafeLoader):
    """The safe loader of PyYAML with the words of YAML 1.2; it does not go deeper than it must."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own attribute)

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth = getattr(self, "_depth", 0) + 1
        if self._depth > MOST_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            told = f"more than {MOST_DEPTH} levels of brackets or indentation"
            raise yaml.composer.ComposerError(None, None, told, mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def scan_to_next_token(self) -> None:
        """Past tabs, too, where YAML allows them: all that do not indent a key or an item."""
        super().scan_to_next_token()
        while self.peek() == "\t" and not self._indents():
            while self.peek() in " \t":
                self.forward()
            super().scan_to_next_token()

    def _indents(self) -> bool:
        """True between the start of a line and something in it, outside of brackets."""
        before = self.buffer[self.pointer - self.column : self.pointer]
        is_first = not before.strip(" \t") and not _REST_IS_EMPTY.match(self.buffer, self.pointer)
        return is_first and not self.flow_level

    def scan_plain_spaces(self, indent: int, start_mark: yaml.Mark) -> list[str] | None:
        """What stands between two words of a text without quotes; tabs do as well as spaces."""
        length = 0
        while self.peek(length) in " \t":
            length += 1
        between: str = self.prefix(length)
        if "\t" in between:
            self.forward(length)
            if self.peek() not in "\r\n\0":
                return [between]
        return super().scan_plain_spaces(indent, start_mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except BAD_VALUE as error:
            plain = isinstance(node, yaml.ScalarNode) and node.style is None
            read: Any = self.resolve
            form = read(yaml.ScalarNode, node.value, (True, False)) if plain else None
            raise BadValueError(node, is_tagged=node.tag != form) from error


# What constructors raise for a value that its tag does not allow (`!!bool 3`).
BAD_VALUE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class BadValueError(ValueError):
    """A value is not what its tag, or its form, says.

    Args:
        node: The value.
        is_tagged: True where its tag is written in the file.
    """

    def __init__(self, node: yaml.Node, *, is_tagged: bool):
        text = node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"
        kind = node.tag.removeprefix(_TAG)
        super().__init__(f"{shortened(text, 40)!r} cannot be read as {kind}")
        self.mark = node.start_mark
        self.is_tagged = is_tagged


def _whole(loader: Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    base = {"0o": 8, "0x": 16}.get(text[:2])
    found = int(text) if base is None else int(text[2:], base)
    str(found)  # what has too many digits to be told is refused, whatever its base
    return found


def _real(loader: Loader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _name, _pattern, _first in _FORMS:
    Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)
Loader.add_constructor(_TAG + "int", _whole)
Loader.add_constructor(_TAG + "float", _real)
