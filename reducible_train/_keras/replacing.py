"""Methods of Keras's classes, replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: type, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Within it, a method of a class is `method`, called with the old one."""
    old, own = getattr(owner, name), vars(owner).get(name)
    setattr(owner, name, lambda *given, **named: method(old, *given, **named))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
