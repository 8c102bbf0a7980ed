"""A search from a loaded model to the compact file of its best trial."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import typer
from keras_tuner.src import config
from rich.console import Console
from rich.text import Text

from reducible_train import _keras
from reducible_train.cli._data import Arrays
from reducible_train.cli._exit import RESCUED, SHORT
from reducible_train.cli._interrupts import noticed_interrupts
from reducible_train.cli._look import inspect_line
from reducible_train.cli._training import UNLOGGED
from reducible_train.cli._trials import Ended, Progress, ended, line_of
from reducible_train.cli._workers import BROKEN_OFF, PROJECT, role
from reducible_train.config import Config
from reducible_train.config.build import layer_rules
from reducible_train.container.files import replacing_by
from reducible_train.errors import ArgumentError, ReducibleError, first_sentence
from reducible_train.preflight.data import check_data, check_sides
from reducible_train.saving.checks import check_savable
from reducible_train.saving.model_file import load_model, save_model
from reducible_train.settings.monitors import direction
from reducible_train.settings.objectives import QualityAtSize, SearchObjective, SizeAtQuality
from reducible_train.settings.search_space import SearchSpace
from reducible_train.tuner.errors import MendedWarning, SearchError
from reducible_train.tuner.front import pareto
from reducible_train.tuner.hypermodel import RankHyperModel
from reducible_train.tuner.proposals import propose
from reducible_train.tuner.trained_on import training_of

_TUNERS = {
    "bayesian": keras_tuner.BayesianOptimization,
    "random": keras_tuner.RandomSearch,
    "grid": keras_tuner.GridSearch,
}
_ANEW = "Give another project_name, or overwrite=True to begin anew"  # as Python is told
_UNDIRECTED = "Choose one of which Keras knows it, such as val_loss"
_HERE = "choose another place with --folder"
_SEED = 1  # where none is given, or 0, for which keras-tuner draws another each time


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
        asked: What is best.
        analysis: File of an analysis of the model, or `None`.

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
        asked: SizeAtQuality | QualityAtSize,
        analysis: Path | None = None,
    ):
        check_sides(network)
        if arrays.val is None and asked.monitor.startswith("val_"):
            raise ArgumentError(
                f"{asked.monitor!r} needs validation data. Received: none. Add x_val and y_val,"
                " or set training.validation_split: 0.1."
            )
        loaded.compile(network, len(arrays.train[0]))
        for name, pair in arrays.parts.items():
            check_data(network, *pair, name)
        known = _keras.metrics_to_watch(network, asked.monitor, asked.mode)
        way = asked.monitor, asked.mode, known
        direction(*way, "a search", remedy=UNLOGGED, undirected=_UNDIRECTED)
        check_savable(network)
        self._loaded, self._trials, self._folder = loaded, trials, folder
        self._arrays = arrays.with_words(keras.ops.convert_to_tensor)
        self._asked = asked
        self._hypermodel = RankHyperModel(
            network, space, objective=asked, rules=layer_rules(loaded), analysis=analysis
        )
        self._direction = self._hypermodel.objective.direction  # or a refusal, in no folder yet
        self._name, self._network = tuner, network
        self._tuner: Any = None
        self._mended: list[str] = []

    def open(self) -> None:
        """Take up what the folder holds; it belongs to this search from now on.

        Raises:
            ArgumentError: It is that of another search, or cannot be gone on with.
        """
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", MendedWarning)
            self._check_folder(self._name)
            self._tuner = self._made(self._name)
        mended = [each for each in told if issubclass(each.category, MendedWarning)]
        for each in told:
            if each not in mended:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        words = [str(each.message).replace(_ANEW[0].lower() + _ANEW[1:], _HERE) for each in mended]
        self._mended = list(dict.fromkeys(words))

    def _check_folder(self, tuner: str) -> None:
        """Refuse the folder of another search."""
        told = training_of(_TUNERS[tuner].__name__, self._network, self._fit)
        try:
            self._hypermodel.open_folder(self._project, {**told, "seed": self._seed})
        except SearchError as error:
            words = str(error).replace(f"{_ANEW}.", f"Here: {_HERE}.")
            raise ArgumentError(words) from error

    def _made(self, name: str) -> Any:
        """The tuner, with what its folder holds: that of one process, or of a chief."""
        with contextlib.redirect_stdout(io.StringIO()):  # it says where it goes on
            tuner = _TUNERS[name](
                self._hypermodel,
                self._hypermodel.objective,
                max_trials=self._trials,
                seed=self._seed,
                directory=str(self._folder),
                project_name=PROJECT,
                max_consecutive_failed_trials=self._trials + 1,  # what all fail of is told below
            )
            if self._is_steered(name):
                propose(tuner)
        return tuner

    def _is_steered(self, name: str) -> bool:
        """Whether a tuner goes by what trials show; a random one does so by an analysis alone."""
        foreseen = name == "bayesian" or self._hypermodel.plan.analysis is not None
        return foreseen and name != "grid" and self._hypermodel.foresight.goal is not None

    @property
    def _seed(self) -> int:
        seed = self._loaded.training.seed
        return seed or _SEED

    @property
    def _fit(self) -> dict[str, Any]:
        """How each trial is trained."""
        x, y = self._arrays.train
        return {
            "x": x,
            "y": y,
            "validation_data": self._arrays.val,
            "epochs": self._loaded.training.epochs,
            "batch_size": self._loaded.training.batch_size,
        }

    def run(self, console: Console) -> None:
        """Do what trials are left.

        Raises:
            typer.Exit: Broken off; what has finished is kept.
        """
        look = self.progress(console) if role() is None else None
        end = self._tuner.on_trial_end
        try:
            with noticed_interrupts() as check, warnings.catch_warnings(), _without_tracebacks():
                warnings.filterwarnings("ignore", "Trial .* failed")  # each has its line
                warnings.simplefilter("ignore", MendedWarning)  # the same

                def told(trial: Any) -> None:
                    end(trial)
                    if look is not None:
                        look()
                    check()

                self._tuner.on_trial_end = told
                self._tuner.search(**self._fit, verbose=0)
        except KeyboardInterrupt:
            console.print(Text(BROKEN_OFF))
            raise typer.Exit(RESCUED) from None

    def progress(self, console: Console) -> Progress:
        """Tells of each trial that has ended since it was called last."""
        foresight = self._hypermodel.foresight
        alone = self._name == "bayesian" and foresight.goal is None
        told = [f"{foresight}"] if foresight.analysed or alone else []
        for line in [*self._mended, *told]:
            console.print(Text(line), soft_wrap=True)
        return Progress(console, self._project, self._trials, self._direction, self._shown)

    @property
    def _project(self) -> Path:
        return self._folder / PROJECT

    @property
    def _shown(self) -> tuple[str, str]:
        return self._asked.monitor, self._asked.size_name

    def finish(self, console: Console, out: Path) -> None:
        """Say which trials none beats in everything, and save the best.

        Raises:
            ArgumentError: No trial has finished, or every one has failed.
            typer.Exit: Saved, but the best one does not keep to what was asked.
        """
        done = ended(self._project)
        self._check_some(done)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MendedWarning)  # they were told
            self._tuner.oracle.reload()
        front = pareto(self._tuner)
        best = self._tuner.oracle.get_best_trials(1)[0]
        point = next(each for each in front.trials if each.trial_id == best.trial_id)
        self._save(best, point.file, out)
        if len(done) < self._trials:
            told = f"{len(done)} of {self._trials} trials: the tuner finds nothing else to try"
            console.print(Text(told))
        console.print()
        console.print(Text(str(front)), soft_wrap=True)
        console.print()
        console.print(
            Text(f"best    {line_of(point.metrics, self._shown)} (trial {best.trial_id})")
        )
        console.print(Text(f"look    {inspect_line(out)}"), soft_wrap=True)
        console.print(Text(f"saved   {out}"), soft_wrap=True)
        if not _keeps(self._asked, point.metrics, best.score):
            words = "No trial kept to what was asked; saved is the one that comes nearest."
            Console(stderr=True).print(Text(words))
            raise typer.Exit(SHORT)

    def _save(self, trial: Any, file: Path | None, out: Path) -> None:
        """The compact file of a trial; where it is gone or damaged, made of its checkpoint.

        Raises:
            ArgumentError: Neither can be read.
            FileAccessError: The file cannot be written.
        """
        if file is not None and _is_whole(file):
            with replacing_by(out) as beside:
                shutil.copyfile(file, beside)
            return
        try:
            model = self._tuner.load_model(trial)
        except Exception as error:  # Keras and h5py raise whatever they like
            raise ArgumentError(
                f"Trial {trial.trial_id}, the best, must have its compact file or its checkpoint. "
                f"Received: neither that can be read in {self._tuner.get_trial_dir(trial.trial_id)}"
                f" ({first_sentence(error).rstrip('.')}). Put them back; or remove that folder, and"
                " the same command tries something else in its place."
            ) from error
        save_model(model, out)

    def _check_some(self, done: Mapping[str, Ended]) -> None:
        """Refuse to go on where every trial has failed."""
        failed = [each.reason for each in done.values() if each.reason]
        if failed and len(failed) == len(done):
            raise ArgumentError(
                f"A trial must train to its end. Received: {len(failed)} trials that all failed, "
                f"the first with: {failed[0].rstrip('.')}. Mend that, and begin anew with another "
                "--folder."
            )


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Have keras-tuner print none of a trial that fails, which has its line; a worker's log may."""
    before = config.DEBUG
    config.DEBUG = before and (role() is not None or bool(os.environ.get("REDUCIBLE_DEBUG")))
    try:
        yield
    finally:
        config.DEBUG = before


def _is_whole(file: Path) -> bool:
    """Whether a compact file can be read."""
    try:
        load_model(file)
    except ReducibleError:
        return False
    return True


def _keeps(asked: SearchObjective, metrics: Mapping[str, float], score: float | None) -> bool:
    """Whether a trial keeps to the bound of the search."""
    if isinstance(asked, QualityAtSize):
        return metrics[asked.size_name] <= asked.limit
    return score is not None and score <= 1.0  # above it is how far the quality is behind
