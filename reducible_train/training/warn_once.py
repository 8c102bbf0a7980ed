"""Warnings of a training, each given once."""

from __future__ import annotations

import warnings

_KIND = 20  # characters that tell one kind of sentence from another


class WarnOnce:
    """Warns with a sentence, once of each kind: those that begin alike are one."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, sentence: str) -> None:
        kind = sentence[:_KIND]
        if kind not in self._given:
            self._given.add(kind)
            warnings.warn(sentence, stacklevel=3)
