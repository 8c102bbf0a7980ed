"""The shape of a configuration: its sections, their keys, what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Union, cast

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, create_model

from reducible_train.config.aids import aids_section
from reducible_train.config.kinds import known_aids, known_measures, known_schedules
from reducible_train.config.schedules import TargetForms, target_forms
from reducible_train.config.sections import FORMS, PATH, TARGET, Section, section_of, words
from reducible_train.selection.allocation import allocator_names
from reducible_train.selection.criteria import criterion_names
from reducible_train.settings import targets
from reducible_train.settings.aids import Aid
from reducible_train.settings.callbacks import (
    BackupSettings,
    CheckpointSettings,
    EarlyStoppingSettings,
    TensorBoardSettings,
)
from reducible_train.settings.compression import AUTO, MEASURED, CompressionSettings
from reducible_train.settings.compression_kinds import (
    AidsKind,
    AnalysisKind,
    CalibrationKind,
    MeasureKind,
    NameKind,
    RulesKind,
)
from reducible_train.settings.fields import fields_of, kind_of
from reducible_train.settings.measures import Measure, measure_kinds
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.search_space import Each, SearchSpace, Words
from reducible_train.settings.targets import target_kinds

OPTIMIZERS = (
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ftrl",
    "lion",
    "muon",
    "nadam",
    "rmsprop",
    "schedulefreeadamw",
    "sgd",
)


def _as_known(name: Any) -> Any:
    """The name of an optimizer as it is written here; Keras takes those of its classes as well."""
    lower = name.lower() if isinstance(name, str) else name
    return lower if lower in OPTIMIZERS else name


OptimizerName = Annotated[Literal[OPTIMIZERS], BeforeValidator(_as_known)]  # type: ignore[valid-type]
Count = Annotated[int, Field(ge=1, le=2**63 - 1)]
Pattern = Annotated[str, Field(min_length=1)]


if TYPE_CHECKING:
    BackupSection = Section
    CheckpointSection = Section
    EarlyStoppingSection = Section
    TensorBoardSection = Section
else:
    BackupSection = section_of(BackupSettings)
    CheckpointSection = section_of(CheckpointSettings)
    EarlyStoppingSection = section_of(EarlyStoppingSettings)
    TensorBoardSection = section_of(TensorBoardSettings)


class OptimizerSection(
    Section,
    help="An optimizer with arguments: its name, and what Keras's class of that name takes.",
):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)
    tag: ClassVar[str] = "<options>"

    name: OptimizerName = Field(description="Name of the Keras optimizer.")


def _optimizer_form(value: Any) -> str:
    return "<options>" if isinstance(value, Mapping | OptimizerSection) else "<name>"


Optimizer = Annotated[
    Annotated[OptimizerName, Tag("<name>")] | Annotated[OptimizerSection, Tag("<options>")],
    Discriminator(_optimizer_form),
]


class TrainingSection(
    Section,
    help="How `reducible-train finetune` trains; what is left out is as the model was compiled.",
):
    epochs: Count | None = Field(default=None, description="Epochs of the whole training.")
    batch_size: Count = Field(default=32, description="Samples in one training step.")
    optimizer: Optimizer | None = Field(
        default=None,
        description=(
            "Name of a Keras optimizer, or a mapping such as {name: sgd, momentum: 0.9}."
            " Left out: the model's own."
        ),
    )
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Learning rate at the start. Left out: the optimizer's own."
    )
    learning_rate_schedule: Literal["constant", "cosine"] = Field(
        default="constant",
        description="'cosine' lowers the learning rate to zero along one cosine over all epochs.",
    )
    loss: Pattern | None = Field(
        default=None, description="Name of a Keras loss. Left out: the model's own."
    )
    metrics: list[Pattern] | None = Field(
        default=None, description="Names of Keras metrics. Left out: the model's own."
    )
    validation_split: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Fraction of the training data, its last part, held out for validation.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = Field(
        default=None,
        description="Seed for everything that is random. Left out: different each time.",
    )


class ConfigModel(
    Section, help="Everything in one file: how far to compress, how to train, where to log."
):
    """The keys of a file; those of `compression` and `search_space`, `config_model` knows."""

    compression: Section = Field(description="What falls, how far, how often.")
    training: TrainingSection = Field(
        default=TrainingSection(), description="How `reducible-train finetune` trains."
    )
    tensorboard: TensorBoardSection | None = Field(
        default=None, description="Logs for TensorBoard. Left out: none are written."
    )
    early_stopping: EarlyStoppingSection | None = Field(
        default=None, description="When to stop early. Left out: all epochs are trained."
    )
    checkpoint: CheckpointSection | None = Field(
        default=None, description="Where the best epoch is kept. Left out: nowhere."
    )
    backup: BackupSection | None = Field(
        default=None, description="Where to go on from if broken off. Left out: from the start."
    )
    search_space: Section | None = Field(
        default=None,
        description="What `reducible-train tune` may choose from, with the rules of `compression`;"
        " it must be given there. One training does not look at it.",
    )


class _Known(NamedTuple):
    """All that is registered and whole, by name: what keys and names a file may have."""

    schedules: tuple[tuple[str, type[Schedule]], ...]
    measures: tuple[tuple[str, type[Measure]], ...]
    targets: tuple[tuple[str, type[targets.Target]], ...]
    aids: tuple[tuple[str, type[Aid]], ...]
    criterion: tuple[str, ...]
    allocation: tuple[str, ...]

    def names_of(self, what: str) -> tuple[str, ...]:
        """What an option may name, of a criterion or an allocation."""
        names: tuple[str, ...] = getattr(self, what)
        return (AUTO, *names)


def config_model() -> type[ConfigModel]:
    """The shape of a configuration by all that is registered now, such as a schedule of yours."""
    return _config_model(
        _Known(
            tuple(known_schedules().items()),
            tuple(known_measures().items()),
            tuple(target_kinds().items()),
            tuple(known_aids().items()),
            (*criterion_names(), MEASURED),
            tuple(allocator_names()),
        )
    )


@lru_cache(maxsize=1)
def _config_model(known: _Known) -> type[ConfigModel]:
    search_space = section_of(
        SearchSpace,
        forms={
            Words: lambda kind: words(kind.options or known.names_of(kind.of)),
            Each: lambda kind: FORMS[Each](_of_known(kind)),
        },
    )
    held = {"compression": _compression_section(known), "search_space": search_space | None}
    fields = {name: (form, ConfigModel.model_fields[name]) for name, form in held.items()}
    model: type[ConfigModel] = cast(Any, create_model)(
        "ConfigModel", __base__=ConfigModel, **fields
    )
    return model


def _of_known(kind: Each) -> Each:
    """One for each name, of measures for those alone that a file may name."""
    return replace(kind, names=known_measures) if kind.names is measure_kinds else kind


def _compression_section(known: _Known) -> Any:
    forms = target_forms(known.schedules, known.measures)
    keys: Any = {
        quantity: (_form_of(kind, forms) | None, Field(None, description=kind.help))
        for quantity, kind in known.targets
    }
    section = section_of(
        CompressionSettings,
        forms={
            MeasureKind: lambda kind: _measure(dict(known.measures)),
            NameKind: lambda kind: Literal[known.names_of(kind.of)],
            CalibrationKind: lambda kind: Annotated[int, Field(ge=1)],
            AnalysisKind: lambda kind: PATH,
            RulesKind: lambda kind: list[section_of(LayerRule, "RuleSection")],  # type: ignore[misc]
            AidsKind: lambda kind: aids_section(known.aids),
        },
        without=("target",),
        **keys,
    )
    # Its targets and its aids are told apart by their keys here, by their classes in Python: it is
    # not made whole, but read key by key (`settings_faults`), each as its option says.
    quantities = (*dict(known.targets), "search")
    one: list[Any] = [{"required": [name]} for name in quantities]
    alone: Any = {
        "required": ["cadence"],
        "properties": {"cadence": {"required": ["start"]}},
        "not": {"anyOf": one},
    }
    section.made, section.one_of = None, (*one, alone)
    section.options = {name: kind_of(item) for name, item in fields_of(CompressionSettings).items()}
    section.model_rebuild(force=True, _types_namespace={TARGET: forms.alone})
    return section


def _form_of(kind: type[targets.Target], forms: TargetForms) -> Any:
    """What a target may be: one that all kernels share, also by several measures."""
    return forms.shared if issubclass(kind, targets.SharedTarget) else forms.alone


def _measure(kinds: Mapping[str, type[Measure]]) -> Any:
    """The form of a measure: its name, a mapping with its options, or a list of these."""

    def form(value: Any) -> str:
        if isinstance(value, list | tuple):
            return "<list>"
        if not isinstance(value, Mapping | Section):
            return "<name>"
        kind = value.get("name") if isinstance(value, Mapping) else value.name
        return f"<{kind}>" if kind in tuple(kinds) else "<unknown>"

    options = [Annotated[_measure_section(*each), Tag(f"<{each[0]}>")] for each in kinds.items()]
    one: Any = Annotated[Union[tuple(options)], Discriminator(form)]  # noqa: UP007
    forms: list[Any] = [Annotated[Literal[tuple(kinds)], Tag("<name>")], *options]
    forms += [Annotated[list[one], Tag("<list>")]]
    return Annotated[Union[tuple(forms)], Discriminator(form)]  # noqa: UP007


def _measure_section(kind: str, made: type[Measure]) -> Any:
    name = (Literal[kind], Field(description=made.help))
    section = section_of(made, f"{made.__name__}Section", name=name)
    section.tag = f"<{kind}>"
    return section
