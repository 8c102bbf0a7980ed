"""Has a grid of keras-tuner go on: which trial comes after which is in none of its files.

Its oracle walks from each trial to the next combination of values, and keeps the order of those it
has been to, and those it has yet to walk on from, in its memory alone. Both follow from the trials.
"""

from __future__ import annotations

from functools import cmp_to_key
from typing import Any

from keras_tuner.src.tuners.gridsearch import LinkedList


def put_in_order(oracle: Any) -> None:
    """Have a grid's oracle know the order of its trials, and walk on from all of them.

    Where the next combination after a trial was tried, the oracle sees it and walks on. Trials with
    values beside the grid, of another tuner, have no place in the order.

    Args:
        oracle: A `GridSearchOracle` whose trials were just read from their files.
    """

    def compare(one: str, other: str) -> int:
        values = (oracle.trials[each].hyperparameters.values for each in (one, other))
        found: int = oracle._compare(*values)
        return found

    grid = {each.name: {each.default, *each.values} for each in oracle.get_space().space}
    known = (
        name
        for name, trial in oracle.trials.items()
        if all(value in grid.get(key, ()) for key, value in trial.hyperparameters.values.items())
    )
    names = sorted(known, key=cmp_to_key(compare))
    oracle._ordered_ids = LinkedList()
    for name in names:
        oracle._ordered_ids.insert(name)
    oracle._populate_next = names
