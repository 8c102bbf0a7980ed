"""From a file to a checked `Config`, and from there to callbacks."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reducible_train.config.contradictions import contradictions
from reducible_train.config.models import (
    ConfigModel,
    TensorBoardSection,
    TrainingSection,
    config_model,
)
from reducible_train.config.problems import explain, nothing_in, shown
from reducible_train.config.reading import Document, Place, place_text, read_document
from reducible_train.config.sections import Section, built
from reducible_train.errors import ArgumentError, ConfigError, Problem
from reducible_train.settings.checks import plain
from reducible_train.settings.compression import CompressionSettings, compression_settings
from reducible_train.settings.rules import OWN
from reducible_train.settings.schedules import Schedule, schedule_from_config
from reducible_train.settings.search_space import SearchSpace
from reducible_train.settings.targets import target_kinds


@dataclass(frozen=True)
class Config:
    """A configuration without mistakes.

    Args:
        model: The sections of the file.
        source: Name of the file, and what stands in place of its values, for errors found later.
        lines: Line of each place in the file, for errors found later.
        values: What the sections were made from.
        given: By what else than the file a place was given, for errors found later.
    """

    model: ConfigModel
    source: str
    lines: Mapping[Place, int] = field(repr=False)
    values: Any = field(repr=False, compare=False)
    given: Mapping[Place, str] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or a pickle, is checked anew: its sections are those of what is known there."""
        return _checked, (self._document, self.source)

    @property
    def _document(self) -> Document:
        return Document(self.values, self.lines, given=self.given)

    @property
    def compression(self) -> Section:
        """What falls, how far, how often."""
        return self.model.compression

    @property
    def training(self) -> TrainingSection:
        """Epochs, batch size, optimizer and the rest of what `fit` and `compile` take."""
        return self.model.training

    @property
    def tensorboard(self) -> TensorBoardSection | None:
        """Where logs go; `None` if none are written."""
        return self.model.tensorboard

    @property
    def search_space(self) -> SearchSpace | None:
        """What a search over many trainings may choose from; `None` if the file does not say."""
        asked = self.model.search_space
        return None if asked is None else asked.build()

    def schedules(self) -> dict[str, Schedule]:
        """Every schedule by what falls, the whole model's first: `"budget"`, `"rank of d1"`."""
        named = {name: getattr(self.compression, name) for name in target_kinds()}
        for rule in self.compression.rules:
            named |= {f"{name} of {rule.match}": getattr(rule, name) for name in OWN}
        asked = {name: built(target) for name, target in named.items() if target is not None}
        return {
            name if measure is None else f"{name}.{measure}": schedule_from_config(value)
            for name, target in asked.items()
            for measure, value in (
                target if isinstance(target, Mapping) else {None: target}
            ).items()
        }

    def settings(self) -> CompressionSettings:
        """What falls, how far, how often, as the `RankScheduler` of `callbacks` is told it."""
        given = {name: built(value) for name, value in self.compression}
        return compression_settings(
            "RankScheduler", {name: value for name, value in given.items() if value is not None}
        )

    def callbacks(self) -> list[Any]:
        """New callbacks for `model.fit`, in the order in which they must stand.

        The `RankScheduler` first; then, as far as they are given, Keras's own `TensorBoard`
        with the `RankTensorBoard` beside it, `RankEarlyStopping`, `RankModelCheckpoint` and
        `RankBackupAndRestore`. Put callbacks of your own after them.
        """
        from reducible_train.config import build  # noqa: PLC0415 (the first need of Keras)

        return build.callbacks(self)

    def check(self, model: Any) -> None:
        """Look for the mistakes that show only beside a model: rules that match no layer.

        Raises:
            ConfigError: All of them together.
        """
        from reducible_train.config import build  # noqa: PLC0415 (the first need of Keras)

        self.refuse(build.model_problems(self, model))

    def compile(self, model: Any, samples: int) -> None:
        """Compile a model as the training section says; what it leaves out stays as it was.

        Args:
            model: A model, compiled or not.
            samples: Number of samples in an epoch, without those held out for validation.

        Raises:
            ArgumentTypeError: No model.
            ArgumentError: A cosine of no number of samples.
            ConfigError: Neither the section nor the model has a loss, or a name or argument that
                Keras does not know.
        """
        from reducible_train.config import training  # noqa: PLC0415 (the first need of Keras)

        training.compile_model(self, model, samples)

    def refuse(self, found: Iterable[tuple[Place, str]]) -> None:
        """Raise one `ConfigError` for mistakes given as place and sentence; nothing if none."""
        problems = _located(found, self._document)
        if problems:
            raise ConfigError(self.source, problems)


def load_config(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
) -> Config:
    """Read a YAML configuration and check all of it.

    Args:
        path: The file.
        overrides: Values that replace those of the file, by section and key, such as
            `{"training.epochs": 3}`. They are checked like the file's own.
        names: What an error calls them where it is not by their keys, such as
            `{"training.epochs": "--epochs"}`.

    Example:

    ```python
    model.fit(x, y, epochs=16, callbacks=load_config("configs/ramp.yaml").callbacks())
    ```

    Raises:
        FileAccessError: The file cannot be read.
        ConfigError: It has mistakes; all of them are in `problems`.
        ArgumentError: `overrides` name no keys of sections.
    """
    document, source = read_document(path), str(path)
    if overrides:
        _check_overrides(overrides)
        called = {key: (names or {}).get(key, key) for key in overrides}
        source += " with " + ", ".join(
            f"{called[key]} {shown(overrides[key])}" for key in overrides
        )
        values = _overridden(document.values, overrides)
        given: dict[Place, str] = {tuple(key.split(".", 1)): name for key, name in called.items()}
        lines = {at: line for at, line in document.lines.items() if at[:2] not in given}
        words = {at: word for at, word in document.words.items() if at[:2] not in given}
        document = replace(document, values=values, lines=lines, given=given, words=words)
    return _checked(document, source)


def parse_config(values: Any, source: str = "configuration") -> Config:
    """Check a configuration given as plain values, as they would stand in a file.

    >>> config = parse_config({"compression": {"rank": 20}, "training": {"epochs": 16}})
    >>> config.training.epochs
    16

    Raises:
        ConfigError: It has mistakes; all of them are in `problems`.
    """
    return _checked(Document(values), source)


def _checked(document: Document, source: str) -> Config:
    values = _plain(document.values)
    if values is None:
        message = "the configuration is empty. Begin with 'compression:'; see configs/."
        raise ConfigError(source, [Problem("$", message)])
    model, found = None, list[tuple[Place, str]]()
    try:
        model = config_model().model_validate(values)
    except ValidationError as error:
        errors, words = error.errors(include_url=False), document.words
        found = [explain(each, config_model(), words) for each in errors]
    shapeless = {place for place, _ in found}
    found += [each for each in contradictions(values) if not _is_in(each[0], shapeless)]
    told = {place for place, _ in found}
    found += [each for each in _empty_sections(values, document.empty) if each[0] not in told]
    problems = [*document.problems, *_located(_once(found), document)]
    if problems or model is None:
        raise ConfigError(source, problems)
    config = Config(model, source, document.lines, values, document.given)
    try:
        config.schedules()
    except ArgumentError as error:  # a rule of its own that some kind of schedule has
        raise ConfigError(source, [Problem("$.compression", str(error))]) from error
    return config


def _empty_sections(values: Any, empty: Iterable[Place]) -> Iterator[tuple[Place, str]]:
    """Sections of which nothing but the name is there, and no override brings more."""
    for place in empty:
        wrong = nothing_in(config_model(), place)
        if wrong is not None and _is_empty(values, place):
            yield place, wrong


def _is_empty(values: Any, place: Place) -> bool:
    """True if nothing has taken the place of what a file leaves empty, or of what it is in."""
    for part in place:
        if isinstance(values, list):
            values = dict(enumerate(values))
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return values is None


def _check_overrides(overrides: Any) -> None:
    """Refuse what is no mapping of keys of sections, `training.epochs`, to values."""
    keys = list(overrides) if isinstance(overrides, Mapping) else None
    wrong = [] if keys is None else [each for each in keys if not _is_key(each)]
    if keys is None or wrong:
        raise ArgumentError(
            "`overrides` must be a value for each key of a section. Received: "
            f"{shown(wrong[0] if wrong else overrides)}. Write for example "
            "{'training.epochs': 3}; of what lies deeper replace the whole: "
            "{'compression.rules': [...]}."
        )


def _is_key(name: Any) -> bool:
    parts = name.split(".") if isinstance(name, str) else ()
    return len(parts) == 2 and all(parts)


def _overridden(values: Any, overrides: Mapping[str, Any]) -> Any:
    if not isinstance(values, dict):
        return values
    values = copy.deepcopy(values)
    for dotted, value in overrides.items():
        section, _, key = dotted.partition(".")
        inner = values.get(section)
        if inner is None:
            inner = values[section] = {}
        if isinstance(inner, dict):
            inner[key] = value
    return values


def _plain(values: Any) -> Any:
    """The same with every number as Python's own: values need not come from a file."""
    if isinstance(values, Mapping):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return plain(values)


def _is_in(place: Place, others: Collection[Place]) -> bool:
    """True for one of some places, and for what is in it."""
    return any(place[:length] in others for length in range(len(place) + 1))


def _once(found: Iterable[tuple[Place, str]]) -> list[tuple[Place, str]]:
    return list(dict.fromkeys(found))


def _located(found: Iterable[tuple[Place, str]], document: Document) -> list[Problem]:
    """Problems in the order of the file, each with its line where the place has one."""
    placed = [(*_where(place, document), place, message) for place, message in found]
    placed.sort(key=lambda item: item[0])
    return [Problem(place_text(place), f"{message}{told}") for _, told, place, message in placed]


def _where(place: Place, document: Document) -> tuple[int, str]:
    """Line of a place, or of the nearest one around it, and how it is told.

    It is 0 where there is no file, and for what was given by something else.
    """
    while place and place not in document.given and place not in document.lines:
        place = place[:-1]
    if place in document.given:
        return 0, f" (by {document.given[place]})"
    line = document.lines.get(place, 0)
    return line, f" (line {line})" if line else ""
