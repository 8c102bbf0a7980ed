"""A corpus that every installation has: the docstrings of numpy, as characters to predict.

It is read from the sources of the package, not imported; 1.6 million characters of English prose
and of examples in Python. Another version of numpy has a slightly different corpus.
"""

from __future__ import annotations

import ast
import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np

from reducible_train.datasets import Dataset

CHARACTERS = 96  # the most frequent ones, and one in the place of all others
LENGTH = 64  # of a window
LEAST = 200  # characters of a docstring; shorter ones are mere headings


def docstrings(package: str = "numpy") -> list[str]:
    """Every docstring of a package once, its tests left out, in the order of its files."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    found: dict[str, None] = {}
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                told = ast.get_docstring(node)
                if told is not None and len(told) >= LEAST:
                    found[told] = None
    return list(found)


def load_text() -> Dataset:
    """Windows of characters, and the character that follows each: 80 % to train on, 10 % to choose
    by, 10 % for the test. A docstring is in one part only.
    """
    told = docstrings()
    order = np.random.default_rng(0).permutation(len(told))
    text = "\n\n".join(told[i] for i in order)
    assert len(text) >= 1_000_000
    frequent = [character for character, _ in Counter(text).most_common(CHARACTERS - 1)]
    codes = {character: code for code, character in enumerate(frequent)}
    tokens = np.array([codes.get(each, CHARACTERS - 1) for each in text], dtype="int32")
    count = (len(tokens) - 1) // LENGTH
    x = tokens[: count * LENGTH].reshape(count, LENGTH)
    y = tokens[1 : count * LENGTH + 1].reshape(count, LENGTH)
    first, second = 8 * count // 10, 9 * count // 10
    parts = (x[:first], y[:first], x[first:second], y[first:second], x[second:], y[second:])
    return Dataset("text", *parts, source=f"{len(text):,} characters of numpy {np.__version__}")
