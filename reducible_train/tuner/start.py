"""The model that every trial begins from: read once, copied for each of them, never changed."""

from __future__ import annotations

import os
import pickle
import random
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from reducible_train import _keras
from reducible_train.errors import (
    ArgumentError,
    ArgumentTypeError,
    FileAccessError,
    FormatError,
    first_sentence,
)
from reducible_train.saving.model_file import load_model
from reducible_train.selection import fingerprints
from reducible_train.selection.costs.file import file_bytes_while_dense
from reducible_train.settings.checks import takes
from reducible_train.surgery.merge import check_built


class Start:
    """Where trials begin: each gets a model of its own, with the weights of the start.

    Args:
        source: A model, which is copied now; a `.keras` or `.reducible` file, which is read now; or
            a function that builds a new model whenever it is called, with keras-tuner's
            `HyperParameters` if it takes an argument.
        custom_objects: Name -> class or function, for what is not Keras's own.

    Attributes:
        model: The dense start, to look at.
        builds: True if a function builds it anew for each trial.
        varies: True if that function gives other weights at each call.
        takes_settings: True if it is called with what was chosen, and may read what it likes.
        asked: What it has asked keras-tuner for when it was first called.

    Raises:
        ArgumentTypeError: It is something else.
        ArgumentError: A model that cannot be copied, or a function that gives the same twice.
        FileAccessError: There is no such file.
        FormatError: It is no model.
        SurgeryError: The model is not built.
    """

    def __init__(
        self,
        source: Any,
        custom_objects: Mapping[str, Any] | None = None,
    ):
        self.builds = self.varies = self.takes_settings = False
        self.asked: list[Any] = []
        self._file_bytes: dict[int, float] = {}  # by the number of dense parameters
        self._new: Callable[[Any], Any]
        if isinstance(source, keras.Model):
            self.model = source
        elif isinstance(source, str | os.PathLike):
            self.model = _read(Path(source), custom_objects)
        elif callable(source):
            _warn_of_fit(source)
            self.builds, builder = True, _Builder(source)
            first = keras_tuner.HyperParameters()
            self.model, self._new = builder(first), builder
            self.asked = first.space
            again = builder(keras_tuner.HyperParameters())  # the same again would be found now
            self.takes_settings = builder.takes_settings
            self.varies = len({*map(fingerprints.of_weights, (self.model, again))}) > 1
            return
        else:
            way = "Write RankHyperModel('trained.keras', space=...)."
            if isinstance(source, keras_tuner.HyperModel):
                way = "Give the `build` of it: RankHyperModel(hypermodel.build, space=...)."
            raise ArgumentTypeError(
                "A search begins from a model, a file or a function that builds one. Received: "
                f"{source!r}. {way}"
            )
        check_built(self.model)
        copier = _Copier(self.model, custom_objects)
        self.model = copier.first  # what becomes of the user's own is not ours to follow
        self._new = copier

    def new_model(self, hyperparameters: Any = None) -> Any:
        """A model for one trial."""
        return self._new(hyperparameters)

    def dense_file_bytes(self, model: Any, parameters: int, hyperparameters: Any = None) -> float:
        """What the compact file of a dense start takes: one number for all trials of a size.

        Args:
            model: That of a trial, which has been trained.
            parameters: How many it has while dense.
            hyperparameters: What a function builds it with; models of other sizes differ.
        """
        size = parameters if self.builds else 0
        if size not in self._file_bytes:
            dense = _keras.trained_model(self.model)
            if self.builds and not (dense.built and dense.count_params() == parameters):
                dense = _keras.trained_model(self.new_model(hyperparameters))
            whole = dense if dense.built else _keras.trained_model(model)
            self._file_bytes[size] = file_bytes_while_dense(whole)
        return self._file_bytes[size]


def _warn_of_fit(source: Callable[..., Any]) -> None:
    """Tell of a `fit` beside the `build` of a hypermodel, which no trial calls."""
    owner = getattr(getattr(source, "func", source), "__self__", None)  # also of a partial
    if isinstance(owner, keras_tuner.HyperModel):
        own = type(owner).fit
        if own is not keras_tuner.HyperModel.fit:
            name = own.__qualname__
            warnings.warn(
                f"{name} is not called: each trial lowers the ranks in a fit of its own. Give what "
                "it gives to fit, such as callbacks and batch_size, to the search of the tuner.",
                UserWarning,
                stacklevel=4,
            )


class _Builder:
    """A user's function, whose models must share nothing that learns."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self.takes_settings = not takes(function)
        self._given: weakref.WeakSet[Any] = weakref.WeakSet()

    def __call__(self, hyperparameters: Any) -> Any:
        model = self._function(hyperparameters) if self.takes_settings else self._function()
        name = getattr(self._function, "__name__", repr(self._function))
        if not isinstance(model, keras.Model):
            raise ArgumentTypeError(
                f"{name} must return a Keras model. Received: {model!r}, a "
                f"{type(model).__name__}. Return the model that a trial shall begin from."
            )
        parts = {path: each for path, each in _keras.walk(model) if each.trainable_variables}
        shared = [path for path, each in parts.items() if each in self._given]
        if model in self._given or shared:
            again = f"model {model.name!r}" if model in self._given else f"layer {shared[0]!r}"
            raise ArgumentError(
                f"{name} must build a new model at each call, for a trial changes its model. "
                f"Received: {again} twice. Build all of it inside the function; or give the model "
                "itself in place of the function, and each trial gets a copy of it."
            )
        self._given.update((model, *parts.values()))
        return model


class _Copier:
    """The bytes of a model as Keras writes it, with its compilation and optimizer state.

    Attributes:
        first: The copy by which it was seen that copies are right.
    """

    def __init__(self, model: Any, custom_objects: Mapping[str, Any] | None):
        self._decay = _keras.decay_exclusions(_keras.held_optimizers(model), model.weights)
        try:
            with _keras.own_objects(model) as own, _quiet():
                self._objects = {**own, **(custom_objects or {})}
                self._bytes = pickle.dumps(model)
            self.first = self(None)
        except Exception as error:  # a layer's own code may fail in any way
            raise _no_copy(model, first_sentence(error)) from error
        different = _difference(model, self.first)
        if different:
            raise _no_copy(model, different)

    def __call__(self, _: Any) -> Any:
        with keras.saving.custom_object_scope(self._objects), _quiet(), _settled_numbers():
            model = pickle.loads(self._bytes)
        _keras.exclude_from_decay(_keras.held_optimizers(model), self._decay, model.weights)
        return model


@contextmanager
def _quiet() -> Iterator[None]:
    with _keras.without_lambda_warnings():
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        yield


@contextmanager
def _settled_numbers() -> Iterator[None]:
    """Layers draw their seeds from Python's generator: the same for each copy, nobody notices."""
    with _keras.random_numbers_kept():
        random.seed(0)
        yield


def _difference(model: Any, copied: Any) -> str:
    """What a copy lacks of its model; empty where it is the same."""
    if type(copied) is not type(model):
        return f"the copy is a {type(copied).__name__}"
    if bool(model.compiled) != bool(copied.compiled):
        return "its compilation does not come back: its loss, metrics or optimizer cannot be saved"
    layers = [[path for path, _ in _keras.walk(each)] for each in (model, copied)]
    ours, theirs = model.weights, copied.weights
    shapes = [[(each.name, tuple(each.shape)) for each in some] for some in (ours, theirs)]
    if layers[0] != layers[1] or shapes[0] != shapes[1]:
        return "the copy has other layers or variables"
    for one, other in zip(ours, theirs, strict=True):
        if not np.array_equal(_keras.host_value(one), _keras.host_value(other), equal_nan=True):
            return f"the copy has other values in {one.path!r}"
    return ""


def _no_copy(model: Any, why: str) -> ArgumentError:
    return ArgumentError(
        f"Model '{model.name}' must be one that can be copied, for each trial changes its own. "
        f"Received: a {type(model).__name__} of which Keras makes no copy: {why.rstrip('.')}. Give "
        "custom_objects={...} if a class is not known, or a function that builds the model and "
        "loads its weights: RankHyperModel(build, space=...)."
    )


def _read(path: Path, custom_objects: Mapping[str, Any] | None) -> Any:
    if not path.is_file():
        raise FileAccessError(
            f"A search begins from a model in a file. Received: {str(path)!r}, which is not a "
            "file. Check the path."
        )
    if path.suffix == ".reducible":
        return load_model(path, custom_objects)
    try:
        with _quiet():
            model = keras.saving.load_model(path, custom_objects=dict(custom_objects or {}))
    except Exception as error:  # Keras and h5py raise whatever they like for a damaged file
        raise FormatError(
            f"{path} must be a model that Keras can load. Received: {first_sentence(error)} Save "
            "it again with model.save('model.keras'), or give custom_objects={...}."
        ) from error
    if not isinstance(model, keras.Model):
        raise FormatError(
            f"{path} must be a model that Keras can load. Received: a {type(model).__name__}."
        )
    return model
