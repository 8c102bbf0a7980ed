"""A search from a loaded model to the compact file of its best trial."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import typer
from rich.console import Console
from rich.text import Text

from reducible_train.cli._data import Arrays
from reducible_train.cli._exit import RESCUED, SHORT
from reducible_train.cli._look import inspect_line
from reducible_train.cli._workers import BROKEN_OFF, CHIEF, role
from reducible_train.config import Config
from reducible_train.container.files import accessing, replacing_by
from reducible_train.errors import ArgumentError
from reducible_train.preflight.data import check_data
from reducible_train.saving.model_file import check_savable
from reducible_train.settings.objectives import QualityAtSize, SearchObjective, SizeAtQuality
from reducible_train.settings.search_space import SearchSpace
from reducible_train.tuner.errors import SearchError
from reducible_train.tuner.front import pareto
from reducible_train.tuner.hypermodel import RankHyperModel

_TUNERS = {
    "bayesian": keras_tuner.BayesianOptimization,
    "random": keras_tuner.RandomSearch,
    "grid": keras_tuner.GridSearch,
}
_PROJECT = "trials"
_SEED = 0  # of a search whose configuration says none: the same command finds the same


class Tuning:
    """One search of the command line.

    Args:
        loaded: The configuration.
        space: What is searched.
        network: The trained model.
        arrays: The data.
        folder: Where trials are kept.
        tuner: Name of the tuner.
        trials: How many.
        asked: `monitor`, `max_drop`, and `max_size` or `None`.

    Raises:
        ArgumentError: No validation data, a metric that will not be there, an impossible space.
    """

    def __init__(
        self,
        loaded: Config,
        space: SearchSpace,
        network: Any,
        arrays: Arrays,
        folder: Path,
        tuner: str,
        trials: int,
        asked: Mapping[str, Any],
    ):
        if arrays.val is None and asked["monitor"].startswith("val_"):
            raise ArgumentError(
                f"{asked['monitor']!r} needs validation data. Received: none. Add x_val and y_val,"
                " or set training.validation_split: 0.1."
            )
        loaded.compile(network, len(arrays.train[0]))
        for name, pair in arrays.parts.items():
            check_data(network, *pair, name)
        check_savable(network)
        self._loaded, self._trials, self._folder = loaded, trials, folder
        self._arrays = arrays.with_words(keras.ops.convert_to_tensor)
        self._asked = _objective(asked)
        self._hypermodel = RankHyperModel(
            network, space, objective=self._asked, rules=loaded.callbacks()[0].rules
        )
        self._check_folder(tuner)
        self._tuner = self._made(tuner)

    def _check_folder(self, tuner: str) -> None:
        """Refuse the folder of another search, and one that this tuner cannot go on in."""
        try:
            self._hypermodel.check_folder(self._project)
        except SearchError as error:
            raise ArgumentError(f"{error} Here: choose another place with --folder.") from error
        if tuner == "grid" and role() is None and self._project.exists():
            raise ArgumentError(
                "keras-tuner's grid cannot go on with a search. Received: --tuner grid, and "
                f"{self._folder}, which holds one. Choose another place with --folder."
            )

    def _made(self, name: str) -> Any:
        """The tuner, with what its folder holds: that of one process, or of a chief."""
        kind, seed = _TUNERS[name], self._loaded.training.seed
        with contextlib.redirect_stdout(io.StringIO()):  # it says where it goes on
            tuner = kind(
                self._hypermodel,
                self._hypermodel.objective,
                max_trials=self._trials,
                seed=_SEED if seed is None else seed,
                directory=str(self._folder),
                project_name=_PROJECT,
                max_consecutive_failed_trials=max(3, self._trials),
            )
            # keras-tuner goes on only with a search of the same name of a process
            if role() in (None, CHIEF) and (self._project / "oracle.json").exists():
                tuner.oracle.reload()
        return tuner

    def run(self, console: Console) -> None:
        """Do what trials are left.

        Raises:
            typer.Exit: Broken off; what has finished is kept.
        """
        look = self.progress(console) if role() is None else None
        end = self._tuner.on_trial_end

        def told(trial: Any) -> None:
            end(trial)
            if look is not None:
                look()

        self._tuner.on_trial_end = told
        training = self._loaded.training
        try:
            self._tuner.search(
                *self._arrays.train,
                validation_data=self._arrays.val,
                epochs=training.epochs,
                batch_size=training.batch_size,
                verbose=0,
            )
        except KeyboardInterrupt:
            console.print(Text(BROKEN_OFF))
            raise typer.Exit(RESCUED) from None

    def progress(self, console: Console) -> Callable[[], None]:
        """Gives a line for each trial that has ended since it was called last."""
        began, before = time.monotonic(), set(_finished(self._project))
        told = set(before)
        if before:
            console.print(Text(f"done before: {len(before)} of {self._trials} trials"))

        def look() -> None:
            done = _finished(self._project)
            for name in sorted(done.keys() - told):
                told.add(name)
                best = _best(done.values(), self._hypermodel.objective.direction)
                since = len(told) - len(before)
                left = (time.monotonic() - began) / since * (self._trials - len(told))
                line = f"trial {len(told)} of {self._trials}  {_line(done[name], self._shown)}"
                console.print(Text(f"{line}  best {best}  {_duration(left)} left"))

        return look

    @property
    def _project(self) -> Path:
        return self._folder / _PROJECT

    @property
    def _shown(self) -> tuple[str, str]:
        return self._asked.monitor, self._asked.size_name

    def finish(self, console: Console, out: Path) -> None:
        """Say which trials none beats in everything, and save the best.

        Raises:
            ArgumentError: No trial has finished.
            typer.Exit: Saved, but the best one does not keep to what was asked.
        """
        self._tuner.oracle.reload()
        front = pareto(self._tuner)
        best = self._tuner.oracle.get_best_trials(1)[0]
        point = next(each for each in front.trials if each.trial_id == best.trial_id)
        if point.file is None:
            raise ArgumentError(
                f"Trial {best.trial_id} must have a compact file. Received: none in its folder. "
                "Run the command again with another --folder."
            )
        with accessing(out, "write"), replacing_by(out) as beside:
            shutil.copyfile(point.file, beside)
        console.print()
        console.print(Text(str(front)), soft_wrap=True)
        console.print()
        console.print(Text(f"best    {_line(point.metrics, self._shown)} (trial {best.trial_id})"))
        console.print(Text(f"look    {inspect_line(out)}"), soft_wrap=True)
        console.print(Text(f"saved   {out}"), soft_wrap=True)
        if not _keeps(self._asked, point.metrics, best.score):
            words = "No trial kept to what was asked; saved is the one that comes nearest."
            Console(stderr=True).print(Text(words))
            raise typer.Exit(SHORT)


def _objective(asked: Mapping[str, Any]) -> SizeAtQuality | QualityAtSize:
    if asked["max_size"] is not None:
        return QualityAtSize(asked["monitor"], limit=asked["max_size"])
    return SizeAtQuality(asked["monitor"], max_drop=asked["max_drop"])


def _keeps(asked: SearchObjective, metrics: Mapping[str, float], score: float | None) -> bool:
    """Whether a trial keeps to the bound of the search."""
    if isinstance(asked, QualityAtSize):
        return metrics[asked.size_name] <= asked.limit
    return score is not None and score <= 1.0  # above it is how far the quality is behind


def _finished(project: Path) -> dict[str, dict[str, float]]:
    """Metrics of the trials that are done, by name; a file half written waits for the next look."""
    found = {}
    for path in sorted(project.glob("trial_*/trial.json")):
        try:
            trial = keras_tuner.engine.trial.Trial.load(str(path))
        except (ValueError, OSError):
            continue
        if trial.status == "COMPLETED":
            metrics = {n: float(trial.metrics.get_best_value(n)) for n in trial.metrics.metrics}
            found[trial.trial_id] = {**metrics, "score": float(trial.score)}
    return found


def _best(done: Any, direction: str) -> str:
    scores = [each["score"] for each in done]
    return f"{(min if direction == 'min' else max)(scores):.4g}"


def _line(metrics: Mapping[str, float], names: tuple[str, str]) -> str:
    monitor, size = names
    return f"{monitor} {metrics[monitor]:.4f}  {size.replace('_', ' ')} {metrics[size]:.1%}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
