"""What a search asks of `fit`, looked at before the first trial, which would be spent on it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner

from reducible_train.settings.checks import is_count, is_number
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.reference import comes_in_batches

_STEPS = {"x": "steps_per_epoch", "validation_data": "validation_steps"}  # data -> how many batches


def check_fit(tuner: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse what no `fit` takes, and what a first trial would leave nothing of.

    Args:
        tuner: The tuner that searches.
        arguments: Those of `model.fit` that its `search` is given, by name.

    Raises:
        SearchError: It is refused.
    """
    rounds = isinstance(tuner, keras_tuner.Hyperband)
    if not rounds:
        check_epochs(arguments)
    _check_validation(arguments.get("validation_freq", 1), rounds=rounds)
    _check_callbacks(arguments.get("callbacks"))
    for name, steps in _STEPS.items() if tuner.oracle.max_trials != 1 else ():
        _check_lasting(name, arguments.get(name), arguments.get(steps))
    _check_lengths("Training data", [arguments.get(each) for each in ("x", "y", "sample_weight")])
    if isinstance(arguments.get("validation_data"), tuple | list):
        _check_lengths("`validation_data`", arguments["validation_data"])
    check_data(arguments)


def check_epochs(arguments: Mapping[str, Any]) -> None:
    """Refuse a fit without epochs.

    Args:
        arguments: Those of `model.fit`, by name.

    Raises:
        SearchError: It is refused.
    """
    epochs, begun = arguments.get("epochs", 1), arguments.get("initial_epoch") or 0
    if not is_count(epochs):
        raise SearchError(
            f"`epochs` of a trial must be a whole number, at least 1. Received: epochs={epochs!r}. "
            "Write for example epochs=3."
        )
    if begun >= epochs:
        raise SearchError(
            f"A trial must have an epoch to train. Received: initial_epoch={begun} of "
            f"epochs={epochs}. Leave initial_epoch out, for trials begin from the trained model."
        )


def check_data(arguments: Mapping[str, Any]) -> None:
    """Refuse data of which no fit can be made, such as targets beside a dataset that has its own.

    Args:
        arguments: Those of `model.fit`, by name.

    Raises:
        SearchError: It is refused.
    """
    given = arguments.get("validation_data")
    own = given if isinstance(given, tuple | list) else [given]
    names = ("x", "y", "sample_weight")
    _check_own_targets("x", dict(zip(names, map(arguments.get, names), strict=True)))
    _check_own_targets("validation_data", dict(zip(names, own, strict=False)))
    if given is None:
        _check_share(arguments.get("validation_split") or 0.0, arguments.get("x"))


def _check_share(share: Any, x: Any) -> None:
    """Refuse a part of the data that cannot be held out."""
    if not (is_number(share) and 0.0 <= share < 1.0):
        raise SearchError(
            f"`validation_split` must lie in [0, 1). Received: validation_split={share!r}. Write "
            "0.1 for a tenth of the samples."
        )
    if share and comes_in_batches(x):
        raise SearchError(
            "`validation_split` holds out samples of arrays. Received: "
            f"validation_split={share!r} beside a {type(x).__name__}. Give validation_data=... in "
            "its place."
        )
    samples = next((each.shape[0] for each in keras.tree.flatten(x) if _is_array(each)), 0)
    if share and samples and math.floor(samples * (1.0 - share)) in (0, samples):
        raise SearchError(
            "`validation_split` must leave samples to train on and to judge by. Received: "
            f"{share!r} of {samples} samples. Choose another, or give validation_data=..."
        )


def _is_array(value: Any) -> bool:
    return bool(getattr(value, "shape", None))


def _check_own_targets(whose: str, data: Mapping[str, Any]) -> None:
    """Refuse targets or weights beside data that have their own."""
    more = [name for name, each in data.items() if name != "x" and each is not None]
    if more and comes_in_batches(data["x"]):
        raise SearchError(
            f"`{whose}` must be arrays where `{more[0]}` is given. Received: a "
            f"{type(data['x']).__name__}, whose batches must hold it. Let each be (x, y), or "
            f"(x, y, sample_weight), and leave `{more[0]}` out."
        )


def has_stock_trials(tuner: Any) -> bool:
    """True for a tuner that gives `fit` what its `search` is given, and makes nothing of it."""
    return bool(type(tuner).run_trial.__module__.partition(".")[0] == "keras_tuner")


def _check_validation(often: Any, *, rounds: bool) -> None:
    """Refuse a rhythm of validation that is none, or that rounds of a few epochs cannot keep."""
    listed = isinstance(often, list | tuple | set)
    if not (all(map(is_count, often)) if listed else is_count(often)):
        raise SearchError(
            "`validation_freq` must be a whole number, at least 1, or a list of epochs. Received: "
            f"validation_freq={often!r}. Leave it out, and each epoch is validated."
        )
    if rounds and (listed or often != 1):
        raise SearchError(
            "The last epoch of a trial must be validated, for it is at the final ranks, and "
            f"Hyperband lets trials end after few epochs. Received: validation_freq={often!r}. "
            "Leave it out."
        )


def _check_callbacks(given: Any) -> None:
    """Refuse what keras-tuner could not add its own callbacks to."""
    listed = isinstance(given, list | tuple)
    wrong = [each for each in given if not hasattr(each, "set_model")] if listed else [given]
    if given is not None and wrong:
        raise SearchError(
            f"`callbacks` must be a list of callbacks of Keras. Received: {wrong[0]!r}"
            f"{' among them' if listed else ''}. Write for example "
            "callbacks=[keras.callbacks.TerminateOnNaN()]."
        )


def _check_lengths(whose: str, data: Sequence[Any]) -> None:
    """Refuse arrays of different lengths, and empty ones."""
    arrays = [each for each in keras.tree.flatten(data) if _is_array(each)]
    lengths = [each.shape[0] for each in arrays]
    if len(set(lengths)) > 1 or 0 in lengths:
        told = ", ".join(map(str, lengths))
        raise SearchError(
            f"{whose} must be arrays of equally many samples, at least one. Received: {told} "
            "samples. Give each sample its target."
        )


def _check_lasting(name: str, given: Any, steps: Any) -> None:
    """Refuse data of which a first trial leaves nothing."""
    if _is_read_once(given) and not steps:
        raise SearchError(
            f"`{name}` must be there for each trial. Received: a {type(given).__name__}, which can "
            "be read only once, and the first trial would. Give arrays, a PyDataset or a "
            "tf.data.Dataset."
        )


def warn_of_sharing(arguments: Mapping[str, Any]) -> None:
    """Tell of data that trials share so that each of them sees others.

    Args:
        arguments: Those of `model.fit`, by name.
    """
    for name in _STEPS:
        given = arguments.get(name)
        if _is_read_once(given):
            warnings.warn(
                f"`{name}` is a {type(given).__name__}, which can be read only once: each trial "
                "goes on where the one before has stopped, so they see different samples, and "
                "once it has ended, none. Give arrays, a PyDataset or a tf.data.Dataset, and "
                "trials can be compared.",
                UserWarning,
                stacklevel=2,
            )


def _is_read_once(data: Any) -> bool:
    return hasattr(data, "__next__") and not isinstance(data, keras.utils.PyDataset)
