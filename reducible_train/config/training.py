"""The training section turned into a compiled model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
from pydantic import ValidationError, create_model

from reducible_train import _keras
from reducible_train.config.config import Config
from reducible_train.config.models import OptimizerSection, TrainingSection
from reducible_train.config.problems import explain, nearest, shown
from reducible_train.config.reading import Place
from reducible_train.config.sections import Section
from reducible_train.errors import ArgumentError, NumberError
from reducible_train.settings.checks import is_number
from reducible_train.surgery.merge import check_model

_METRICS_BY_LOSS = ("accuracy", "acc", "crossentropy", "ce")  # `compile` picks their class itself


def training_problems(training: TrainingSection, model: Any) -> Iterator[tuple[Place, str]]:
    """Names and arguments that Keras does not know."""
    if training.loss is not None and not _known(keras.losses.get, training.loss):
        yield ("training", "loss"), _unknown("loss", training.loss, keras.losses)
    for index, name in enumerate(training.metrics or ()):
        if name.lower() not in _METRICS_BY_LOSS and not _known(keras.metrics.get, name):
            yield ("training", "metrics", index), _unknown("metric", name, keras.metrics)
    yield from _optimizer_problems(training.optimizer)


def _compile_problems(training: TrainingSection, model: Any) -> Iterator[tuple[Place, str]]:
    """Those that keep a model from being compiled as the section says.

    A class with a `compile` of its own may know other losses and metrics, and a learning rate
    among the arguments of the optimizer is taken where there is no other.
    """
    stock = type(model).compile is keras.Model.compile
    for place, problem in training_problems(training, model):
        is_name = place[1] in ("loss", "metrics")
        is_only_rate = place[2:] == ("learning_rate",) and training.learning_rate is None
        if not is_only_rate and (stock or not is_name):
            yield place, problem


def compile_model(config: Config, model: Any, samples: int) -> None:
    """Compile a model as the training section says; what it leaves out stays as it was.

    Args:
        config: The configuration.
        model: A model, compiled or not.
        samples: Number of samples in an epoch, without those held out for validation.

    Raises:
        ArgumentTypeError: No model.
        ArgumentError: A cosine of no number of samples.
        ConfigError: Neither the section nor the model has a loss, or a name or argument that Keras
            does not know.
    """
    check_model(model)
    training = config.training
    config.refuse(_compile_problems(training, model))
    if training.learning_rate_schedule == "cosine":
        _check_samples(samples)
    with _own_objects(model):
        options = _compiled_options(model)
    if training.loss is None and not options.get("loss"):
        message = (
            f"loss is needed, because model {model.name!r} was not compiled with one."
            " Received: nothing. Such as loss: sparse_categorical_crossentropy."
        )
        config.refuse([(("training", "loss"), message)])
    try:
        options["optimizer"] = _optimizer(training, model, samples)
    except (TypeError, ValueError) as error:
        message = f"Keras refuses these arguments: {error} Correct or remove them."
        config.refuse([(("training", "optimizer"), message)])
    if training.loss is not None:
        options["loss"] = training.loss
    if training.metrics is not None:
        options["metrics"] = list(training.metrics)
    model.compile(**options)


def _check_samples(samples: Any) -> None:
    if not is_number(samples) or samples < 1:
        error = ArgumentError if is_number(samples) else NumberError
        raise error(
            "`samples` must be the number of samples in an epoch, at least 1, for a cosine ends "
            f"with the training. Received: samples={samples!r}. Write samples=len(x)."
        )


def _compiled_options(model: Any) -> dict[str, Any]:
    """What a model is compiled with: the objects themselves, unless its class tells it its way."""
    if type(model).get_compile_config is keras.Model.get_compile_config:
        options = _keras.compiled_with(model)
        if options and type(model).compile is keras.Model.compile and _keeps_its_loss(model):
            options["auto_scale_loss"] = False
        return options
    before = model.get_compile_config() if model.compiled else None
    return keras.saving.deserialize_keras_object(before) if before else {}


def _keeps_its_loss(model: Any) -> bool:
    """True for a model whose loss Keras would have scaled, had it not been told to leave it."""
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    return model.dtype_policy.name == "mixed_float16" and not scaled


@contextmanager
def _own_objects(model: Any) -> Iterator[None]:
    """Within it, Keras finds what a model is made of by the names that it writes."""
    with _keras.own_objects(model) as own, keras.saving.custom_object_scope(own):
        yield


def _optimizer(training: TrainingSection, model: Any, samples: int) -> Any:
    """The optimizer asked for; the model's own, state included, where nothing is asked."""
    asked = training.optimizer is not None or training.learning_rate is not None
    own = model.optimizer if model.compiled else None
    kept = not asked and training.learning_rate_schedule == "constant"
    if own is not None and kept and _keras.knows_variables(own, model):
        return own
    arguments: dict[str, Any] = {}
    if isinstance(training.optimizer, OptimizerSection):
        template = keras.optimizers.get(training.optimizer.name)
        arguments |= training.optimizer.model_extra or {}
    else:
        template = keras.optimizers.get(training.optimizer or own or "adam")
    if training.learning_rate is not None:
        arguments["learning_rate"] = training.learning_rate
    with _own_objects(model):
        made = _remade(template, arguments, training, samples)
    told = _keras.decay_exclusions([own], model.weights)
    _keras.exclude_from_decay([made], told, model.weights)
    return made


def _remade(
    template: Any, arguments: Mapping[str, Any], training: TrainingSection, samples: int
) -> Any:
    """A new optimizer like another one, with other arguments; inside what scales its loss."""
    if isinstance(template, keras.optimizers.LossScaleOptimizer):
        inner = _remade(template.inner_optimizer, arguments, training, samples)
        wrapping = template.get_config() | {"inner_optimizer": inner}
        return type(template)(**wrapping)
    settings = template.get_config() | arguments
    if training.learning_rate_schedule == "cosine":
        rate = settings.get("learning_rate")
        if rate is None:
            raise ValueError(f"{type(template).__name__} has no learning rate; name an optimizer.")
        if not isinstance(rate, int | float):
            raise ValueError("its learning rate is a schedule already; give learning_rate.")
        settings["learning_rate"] = keras.optimizers.schedules.CosineDecay(
            rate, steps_in_training(training, samples)
        )
    return type(template).from_config(settings)


def steps_in_training(training: TrainingSection, samples: int) -> int:
    """Optimizer steps of the whole training."""
    return max(1, math.ceil(samples / training.batch_size) * (training.epochs or 1))


def _optimizer_problems(optimizer: Any) -> Iterator[tuple[Place, str]]:
    if not isinstance(optimizer, OptimizerSection):
        return
    known, given = keras.optimizers.get(optimizer.name).get_config(), optimizer.model_extra or {}
    for key in given:
        place: Place = ("training", "optimizer", key)
        if key == "learning_rate":
            yield place, "learning_rate stands one level higher. Move it to training.learning_rate."
        elif key not in known or key == "name":
            advice = nearest(key, known) or " Remove it."
            takes = ", ".join(sorted(set(known) - {"name", "learning_rate"}))
            yield place, f"{optimizer.name} has no argument {key!r}.{advice} It takes: {takes}."
    options = _options_of(known)
    try:
        options(**{key: value for key, value in given.items() if key in options.model_fields})
    except ValidationError as error:
        for each in error.errors(include_url=False):
            inner, words = explain(each, options)
            yield ("training", "optimizer", *inner), words


def _options_of(known: Mapping[str, Any]) -> type[Section]:
    """What Keras takes for the arguments of an optimizer, by their defaults; nothing else tells."""
    forms: dict[str, Any] = {}
    for key, default in known.items():
        form = next((of for kind, of in _FORMS.items() if isinstance(default, kind)), None)
        form = int if form is float and key.endswith(_COUNTS) else form
        optional = _BASE.get(key, ...) is None
        if form is not None and key not in ("name", "learning_rate"):
            forms[key] = (form | None if optional else form, default)
    options: type[Section] = create_model("OptimizerOptions", __base__=Section, **forms)
    return options


# Types by those of defaults; where there is none, numbers are taken, as for `clipnorm`.
_FORMS: Mapping[Any, Any] = {bool: bool, int | float | None: float, list | tuple: list[str]}
_COUNTS = ("steps", "frequency")
_BASE = keras.optimizers.SGD().get_config()


def _known(get: Any, name: str) -> bool:
    try:
        return get(name) is not None
    except (TypeError, ValueError):
        return False


def _unknown(what: str, name: str, module: Any) -> str:
    known = [key for key in dir(module) if key.islower() and not key.startswith("_")]
    known += _METRICS_BY_LOSS[:1] if what == "metric" else ()
    advice = nearest(name, known) or f" Choose one of {module.__name__}."
    return f"Keras knows no {what} of this name. Received: {shown(name)}.{advice}"
