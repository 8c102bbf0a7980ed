"""What a trial of keras-tuner is, seen from its hypermodel: by the callbacks it is given.

`HyperModel.fit` is told neither the trial nor the tuner. keras-tuner's own callbacks know both.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import keras
import keras_tuner
import numpy as np

from reducible_train.container.files import write_text
from reducible_train.errors import ArgumentError
from reducible_train.training.comparisons import is_tuner_saver
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.folder_lock import searching

SETTINGS = "_reducible_settings"  # attribute of a tuner: what its oracle was asked for
_OF_ORACLES = {
    keras_tuner.oracles.HyperbandOracle: ("max_epochs", "factor", "hyperband_iterations"),
    keras_tuner.oracles.BayesianOptimizationOracle: ("num_initial_points", "alpha", "beta"),
}
REASON = "failed.txt"  # why it failed; a chief is not told by its workers


def unwrapped(hypermodel: Any) -> Any:
    """The hypermodel of a tuner as the user gave it, also where keras-tuner has wrapped it."""
    return getattr(hypermodel, "hypermodel", hypermodel)


def setting_names() -> frozenset[str]:
    """What `settings_of` tells of any oracle."""
    return frozenset(name for names in _OF_ORACLES.values() for name in names)


def settings_of(oracle: Any) -> dict[str, Any]:
    """What an oracle was asked for that it takes from its folder, without a word, once it is there.

    Not `max_trials`, by which a search goes on for longer.
    """
    for kind, names in _OF_ORACLES.items():
        if isinstance(oracle, kind):
            return {name: np.asarray(getattr(oracle, name)).tolist() for name in names}
    return {}


def goal_of(objective: Any) -> dict[str, str]:
    """What a tuner makes best, in plain values."""
    several = getattr(objective, "name_to_direction", None)
    return dict(several or {objective.name: objective.direction})


def compiled_by(tuner: Any, model: Any) -> Any:
    """What has the optimizer and the loss with which a tuner trains a model.

    Args:
        tuner: The tuner, which compiles each model anew where it was given anything for that.
        model: The model as it came; `None` where it is another one in each trial.

    Returns:
        The model where it is trained as it came, or something with these two; what nobody knows
        before a trial is `None`.
    """
    given = {name: getattr(tuner, name, None) for name in ("optimizer", "loss", "metrics")}
    if not any(given.values()):  # as keras-tuner asks
        return model
    optimizer = given["optimizer"] or getattr(model, "optimizer", None)
    return SimpleNamespace(
        optimizer=optimizer and keras.optimizers.get(optimizer),
        loss=given["loss"] or getattr(model, "loss", None),
    )


@dataclass
class Saved:
    """What keras-tuner's saver has saved, which all executions of a trial share.

    Args:
        executions: How many have begun.
        best: The quality of what is saved.
        shown: The metrics of each that has ended, the very objects that keras-tuner averages.
    """

    executions: int = 0
    best: float | None = None
    shown: list[dict[str, float]] = field(default_factory=list)

    def mean(self) -> dict[str, float]:
        """The metrics of the trial so far, which keras-tuner makes of those of its executions."""
        names = dict.fromkeys(name for each in self.shown for name in each)
        return {name: fmean([each[name] for each in self.shown if name in each]) for name in names}


@dataclass(frozen=True)
class TunerTrial:
    """The trial that a fit belongs to.

    Args:
        tuner: The tuner.
        trial: The trial.
        saver: Its saver; `None` where a tuner of another kind has none.
        others: The callbacks of the fit without the saver.
    """

    tuner: Any
    trial: Any
    saver: Any
    others: list[Any] = field(repr=False)

    @classmethod
    def of(cls, callbacks: Sequence[Any]) -> TunerTrial | None:
        """The trial whose callbacks these are; `None` for a fit without a tuner."""
        told = [each for each in callbacks if hasattr(each, "tuner") and hasattr(each, "trial")]
        if not told:
            return None
        savers = [each for each in callbacks if is_tuner_saver(each)]
        others = [each for each in callbacks if not any(each is saver for saver in savers)]
        return cls(told[-1].tuner, told[-1].trial, savers[-1] if savers else None, others)

    @property
    def folder(self) -> Path:
        """Its folder."""
        return Path(self.tuner.get_trial_dir(self.trial.trial_id))

    @property
    def project(self) -> Path:
        """The folder of the search."""
        return Path(self.tuner.project_dir)

    @property
    def seed(self) -> int:
        """The seed of the search, which a worker knows by the oracle that it was made with."""
        oracle = getattr(self.tuner.oracle, "_oracle", self.tuner.oracle)
        return int(oracle.seed)

    @property
    def executions(self) -> int:
        """How often a trial is trained, to report the mean."""
        return int(getattr(self.tuner, "executions_per_trial", 1))

    @property
    def objective(self) -> Any:
        """What the tuner makes best."""
        return self.tuner.oracle.objective

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else searches in this folder while the trial runs, also one that is run by hand.

        Raises:
            SearchError: Another process does.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(searching(self.project))
            except ArgumentError as error:
                raise SearchError(str(error)) from error
            yield

    def keep_begun(self) -> None:
        """Have keras-tuner go on with this folder also if its first trial is broken off."""
        if not (Path(self.tuner.project_dir) / f"{self.tuner.tuner_id}.json").exists():
            self.tuner.save()

    def keep_reason(self, words: str) -> None:
        """Keep in the folder of the trial why it failed."""
        write_reason(self.folder, words)

    def save(self, model: Any) -> None:
        """Save a model as keras-tuner does, where `load_model` of the tuner finds it."""
        if self.saver is not None:
            self.saver.set_model(model)
            self.saver.on_epoch_end(0, {})  # without a value it saves the model as it is


class Savers:
    """What is known of the savers of the trials that run."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Any, Saved] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[Savers], tuple[()]]:
        return Savers, ()  # of another process no trial runs

    def of(self, callback: Any) -> Saved:
        """What is known of one."""
        return Saved() if callback is None else self._known.setdefault(callback, Saved())


def write_reason(folder: Path, words: str) -> None:
    """Keep in the folder of a trial why it failed."""
    write_text(folder / REASON, words)


def seed_of(search: int, told: dict[str, Any], execution: int) -> int:
    """A seed by what a trial is, not by when it runs: the same with one worker and with many."""
    text = json.dumps([search, told, execution], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def users_own(callbacks: Sequence[Any]) -> list[Any]:
    """The callbacks that may put anything into the logs: of neither Keras nor keras-tuner."""
    known = ("keras", "keras_tuner", "tensorboard", "reducible_train")
    return [
        each
        for each in callbacks
        if type(each).__module__.partition(".")[0] not in known
        or isinstance(each, keras.callbacks.LambdaCallback)
    ]
