"""The shape of a configuration: its sections, their keys, what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import ConfigDict, Discriminator, Field, Tag

from reducible_train.config.aids import AidsSection
from reducible_train.config.schedules import SharedTarget, Target
from reducible_train.config.sections import Section, section_of, words
from reducible_train.selection.allocation import allocator_names
from reducible_train.selection.criteria import criterion_names
from reducible_train.settings import targets
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
from reducible_train.settings.measures import measure_kinds
from reducible_train.settings.rules import LayerRule
from reducible_train.settings.search_space import SearchSpace, Words
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
OptimizerName = Literal[OPTIMIZERS]  # type: ignore[valid-type]
Count = Annotated[int, Field(ge=1)]
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


def _measure_section(kind: str) -> Any:
    made = MEASURES[kind]
    name = (Literal[kind], Field(description=made.help))
    section = section_of(made, f"{made.__name__}Section", name=name)
    section.tag = f"<{kind}>"
    return section


def _measure_form(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "<list>"
    if not isinstance(value, Mapping | Section):
        return "<name>"
    kind = value.get("name") if isinstance(value, Mapping) else value.name
    return f"<{kind}>" if kind in tuple(MEASURES) else "<unknown>"


MEASURES = measure_kinds()
if TYPE_CHECKING:
    Measure = str | Section
else:
    _OPTIONS = [Annotated[_measure_section(kind), Tag(f"<{kind}>")] for kind in MEASURES]
    _ONE = Annotated[Union[tuple(_OPTIONS)], Discriminator(_measure_form)]  # noqa: UP007
    _FORMS = [Annotated[Literal[tuple(MEASURES)], Tag("<name>")], *_OPTIONS]
    _FORMS += [Annotated[list[_ONE], Tag("<list>")]]
    Measure = Annotated[Union[tuple(_FORMS)], Discriminator(_measure_form)]  # noqa: UP007


NAMES = {
    "criterion": lambda: (*criterion_names(), MEASURED),
    "allocation": allocator_names,
}
TARGETS = (*target_kinds(), "search")
ONE: list[Any] = [{"required": [name]} for name in TARGETS]
ALONE: Any = {
    "required": ["cadence"],
    "properties": {"cadence": {"required": ["start"]}},
    "not": {"anyOf": ONE},
}


def _form_of(kind: type[targets.Target]) -> Any:
    """What a target may be: one that all kernels share, also by several measures."""
    return SharedTarget if issubclass(kind, targets.SharedTarget) else Target


if TYPE_CHECKING:
    SearchSpaceSection = Section
else:
    SearchSpaceSection = section_of(
        SearchSpace,
        forms={Words: lambda kind: words(kind.options or (AUTO, *NAMES[kind.of]()))},
    )

if TYPE_CHECKING:
    CompressionSection = Section
else:
    CompressionSection = section_of(
        CompressionSettings,
        forms={
            MeasureKind: lambda kind: Measure,
            NameKind: lambda kind: Literal[(AUTO, *NAMES[kind.of]())],
            CalibrationKind: lambda kind: Annotated[int, Field(ge=1)],
            AnalysisKind: lambda kind: Annotated[str, Field(min_length=1)],
            RulesKind: lambda kind: list[section_of(LayerRule, "RuleSection")],
            AidsKind: lambda kind: AidsSection,
        },
        without=("target",),
        **{
            quantity: (_form_of(kind) | None, Field(None, description=kind.help))
            for quantity, kind in target_kinds().items()
        },
    )
    # Its targets and its aids are told apart by their keys here, by their classes in Python: it is
    # not made whole, but read key by key (`settings_faults`), each as its option says.
    CompressionSection.made, CompressionSection.one_of = None, (*ONE, ALONE)
    CompressionSection.options = {
        name: kind_of(item) for name, item in fields_of(CompressionSettings).items()
    }
    CompressionSection.model_rebuild(force=True, _types_namespace={"Target": Target})


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
    compression: CompressionSection = Field(description="What falls, how far, how often.")
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
    search_space: SearchSpaceSection | None = Field(
        default=None,
        description="What `reducible-train tune` may choose from, with the rules of `compression`;"
        " it must be given there. One training does not look at it.",
    )
