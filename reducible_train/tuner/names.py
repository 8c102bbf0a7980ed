"""What keras-tuner is told of a search space, and what else may not be called by the same names.

Of one name keras-tuner knows one value: a function that asks for `start` gets that of the space,
whatever domain it asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras_tuner

from reducible_train.errors import ArgumentError
from reducible_train.settings.search_space import SearchSpace
from reducible_train.tuner.errors import SearchError

_TUNERS = "tuner/"  # names with this are what Hyperband notes for itself


def declare(space: SearchSpace, hp: keras_tuner.HyperParameters) -> None:
    """Tell keras-tuner what is searched."""
    for each in space.domains:
        if not each.is_searched:
            continue
        if not each.is_range:
            numbers = each.whole or isinstance(each.values[0], str)
            hp.Choice(each.name, list(each.values) if numbers else [*map(float, each.values)])
            continue
        scale = "log" if each.log else "linear"
        if each.whole:
            hp.Int(each.name, int(each.values[0]), int(each.values[1]), sampling=scale)
        else:
            hp.Float(each.name, float(each.values[0]), float(each.values[1]), sampling=scale)


def check_names(space: SearchSpace, asked: Iterable[Any]) -> None:
    """Refuse what is called like something of the space and is something else.

    Args:
        space: What is searched.
        asked: What a user's function has asked keras-tuner for.

    Raises:
        ArgumentError: It would get a value that it has not asked for.
    """
    ours = keras_tuner.HyperParameters()
    declare(space, ours)
    known = {each.name: each for each in ours.space}
    for each in asked:
        other = known.get(each.name)
        if other is not None and _domain(other) != _domain(each):
            whose = f"which the search space has too, as {_told(other)}"
        elif each.name.startswith(_TUNERS):
            whose = "a name of keras-tuner's own"
        else:
            continue
        raise ArgumentError(
            "What a function that builds the model asks keras-tuner for must have a name of its "
            f"own, for of one name there is one value. Received: {each.name!r} as {_told(each)}, "
            f"{whose}. Rename it, as 'my_{each.name.rpartition('/')[2]}'."
        )


@contextmanager
def names_apart(space: SearchSpace, hp: keras_tuner.HyperParameters) -> Iterator[None]:
    """Within it, whoever asks for what is called like something of the space is refused.

    Raises:
        SearchError: It would get a value that it has not asked for.
    """
    retrieve = hp._retrieve

    def checked(asked: Any) -> Any:
        try:
            check_names(space, [asked])
        except ArgumentError as error:
            raise SearchError(str(error)) from error
        return retrieve(asked)

    hp._retrieve = checked
    try:
        yield
    finally:
        del hp._retrieve


def _domain(asked: Any) -> tuple[type, dict[str, Any]]:
    """What may be chosen; where it begins, and when it is asked for, is no matter."""
    config = asked.get_config()
    return type(asked), {
        name: value for name, value in config.items() if name not in ("default", "conditions")
    }


def _told(asked: Any) -> str:
    """What may be chosen, as one writes it."""
    kind, config = _domain(asked)
    shown = {name: value for name, value in config.items() if name != "name" and value is not None}
    return f"{kind.__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
