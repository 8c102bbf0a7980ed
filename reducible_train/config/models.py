"""The shape of a configuration: its sections, their keys, what each key means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from reducible_train.config.aids import AidsSection
from reducible_train.config.schedules import Section, Target
from reducible_train.selection.allocation import allocator_names
from reducible_train.selection.criteria import criterion_names
from reducible_train.settings.measures import measure_kinds
from reducible_train.settings.monitors import MODES
from reducible_train.settings.targets import target_kinds

ALLOCATORS = allocator_names()
CRITERIA = criterion_names()
MEASURES = tuple(measure_kinds())
BOUNDS = ("max_drop", "limit")  # of a guard
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


class RuleSection(Section):
    """What holds for the layers whose path or name matches; the first matching rule applies."""

    match: Pattern = Field(
        description="Pattern for the layer's path or name, such as 'encoder/*' or 'hidden_?'."
    )
    keep_dense: bool | None = Field(
        default=None,
        description="true: never factorise. false: factorise the output layer as well.",
    )
    min_rank: Count | None = Field(default=None, description="The rank never falls below this.")
    max_rank: Count | None = Field(
        default=None, description="The rank is never above this once cut."
    )
    rank: Target | None = Field(
        default=None, description="A rank of its own: a number or a schedule."
    )
    energy: Target | None = Field(
        default=None, description="An energy to keep of its own, in (0, 1]: a number or a schedule."
    )
    rtol: Target | None = Field(
        default=None,
        description="A relative error of its own, in [0, 1): a number or a schedule that rises.",
    )
    group: Pattern | None = Field(
        default=None,
        description="A name. Under a budget, layers of one group get equal ranks.",
    )
    min_gain: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Fraction of its cost that a layer must save; below it the layer stays dense.",
    )
    split: Literal["channel", "spatial"] | None = Field(
        default=None,
        description="How a Conv2D kernel is split. Left out: what loses less at equal cost.",
    )


class GuardSection(Section):
    """Undoes a cut that a metric does not recover from; exactly one of max_drop and limit."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name]} for name in BOUNDS]}
    )

    monitor: Pattern = Field(
        default="val_loss", description="The metric to watch, as it stands in Keras's logs."
    )
    max_drop: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description=(
            "How far the metric may fall below its best value on accepted ranks, in its own"
            " unit: 0.005 is half a point of accuracy."
        ),
    )
    limit: float | None = Field(
        default=None, description="The worst value of the metric that is accepted."
    )
    patience: Count = Field(default=2, description="Epochs that a cut has to recover.")
    tries: Count = Field(
        default=3, description="Undone cuts after which no more are made. Each halves the step."
    )
    mode: Literal[MODES] = Field(  # type: ignore[valid-type]
        default="auto",
        description="Whether the metric should be large or small. 'auto': Keras knows its own.",
    )
    folder: Pattern | None = Field(
        default=None,
        description="Where the state before a cut is kept. Left out: in memory.",
    )


class SearchSection(Section):
    """Steps the budget down as far as the guard allows."""

    factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.7, description="What a step multiplies the budget by."
    )
    start_epoch: Annotated[int, Field(ge=0)] = Field(
        default=2, description="First epoch before which a cut may be made; dense until then."
    )
    end_epoch: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Last one before which a cut may be made. Left out: after three quarters.",
    )
    lowest: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Budget to stop at. Left out: as low as ranks can go."
    )


Shape = list[Count]


def _shape_form(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<by name>"
    several = isinstance(value, list) and any(isinstance(each, list) for each in value)
    return "<shapes>" if several else "<shape>"


InputShape = Annotated[
    Annotated[Shape, Tag("<shape>")]
    | Annotated[list[Shape], Tag("<shapes>")]
    | Annotated[dict[str, Shape], Tag("<by name>")],
    Discriminator(_shape_form),
]


_SHAPE = (
    "Shape of one sample, for a model that leaves lengths open: [128], or a list or mapping of"
    " shapes. Left out: that of the data."
)


class FlopsSection(Section):
    """How FLOPs are counted."""

    tag: ClassVar[str] = "<flops>"

    name: Literal["flops"] = Field(description="What is counted.")
    input_shape: InputShape | None = Field(default=None, description=_SHAPE)


class LatencySection(Section):
    """How latency is measured."""

    tag: ClassVar[str] = "<latency>"

    name: Literal["latency"] = Field(description="What is measured.")
    batch_size: Count = Field(default=32, description="Samples in a batch.")
    rounds: Count = Field(default=15, description="Times each is measured; the fastest counts.")
    input_shape: InputShape | None = Field(default=None, description=_SHAPE)


def _measure_form(value: Any) -> str:
    if isinstance(value, Mapping | FlopsSection | LatencySection):
        name = value.get("name") if isinstance(value, Mapping) else value.name
        return "<flops>" if name == "flops" else "<latency>"
    return "<name>"


Measure = Annotated[
    Annotated[Literal[MEASURES], Tag("<name>")]  # type: ignore[valid-type]
    | Annotated[FlopsSection, Tag("<flops>")]
    | Annotated[LatencySection, Tag("<latency>")],
    Discriminator(_measure_form),
]


class AdaptiveSection(Section):
    """Lets cuts begin once the stable ranks have settled; schedules count from there."""

    slope: Annotated[float, Field(gt=0)] = Field(
        default=0.1,
        description="Change of a stable rank in one epoch, as a fraction of it, that is flat.",
    )
    window: Count = Field(default=3, description="Epochs over which the slope is taken.")
    start_epoch: Annotated[int, Field(ge=0)] = Field(
        default=0, description="First epoch before which cuts may begin."
    )
    end_epoch: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Epoch before which they begin in any case. Left out: half of the training.",
    )


class CadenceSection(Section):
    """When the ranks may change: every so many epochs or training steps, and from when on."""

    epochs: Count | None = Field(
        default=None, description="Cut at the start of every this many epochs."
    )
    steps: Count | None = Field(
        default=None, description="Cut before every this many training steps."
    )
    start: AdaptiveSection | None = Field(
        default=None,
        description=(
            "Lets cuts begin once the stable ranks have settled. Without a target, it cuts each"
            " kernel to its stable rank."
        ),
    )


TARGETS = (*target_kinds(), "search")
ONE: list[Any] = [{"required": [name]} for name in TARGETS]
ALONE: Any = {
    "required": ["cadence"],
    "properties": {"cadence": {"required": ["start"]}},
    "not": {"anyOf": ONE},
}


class CompressionSection(Section):
    """What falls, how far, how often: one of budget, cost, energy, rtol, rank and search.

    With a start of its cadence none of them is needed.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [*ONE, ALONE]})

    budget: Target | None = Field(
        default=None,
        description=(
            "Fraction of the whole dense model's cost to reach, in (0, 1]:"
            " a number or a schedule. 0.25 means a quarter of the size."
        ),
    )
    cost: Target | None = Field(
        default=None,
        description=(
            "The same, not as a fraction: parameters, bytes or whatever 'measure' counts."
            " 200000 with measure: file is a file of at most 200 KB."
        ),
    )
    energy: Target | None = Field(
        default=None,
        description=(
            "Fraction of each kernel's squared singular values to keep, in (0, 1]:"
            " a number or a schedule."
        ),
    )
    rtol: Target | None = Field(
        default=None,
        description=(
            "Relative error that each kernel may have, in [0, 1), the square root of the energy"
            " it loses: a number, or a schedule that rises."
        ),
    )
    rank: Target | None = Field(
        default=None,
        description="Rank of every compressible kernel, at least 1: a number or a schedule.",
    )
    search: SearchSection | None = Field(
        default=None,
        description="In place of a schedule, a search for the smallest budget that is good enough.",
    )
    guard: GuardSection | None = Field(
        default=None,
        description="Undoes cuts that a metric does not recover from. Left out: every cut stays.",
    )
    aids: AidsSection | None = Field(
        default=None, description="What helps the training while ranks fall, by kind of aid."
    )
    measure: Measure = Field(
        default="parameters",
        description=(
            "What a budget counts: parameters, bytes of the variables, flops, bytes of the compact"
            " file, or latency; {name: latency, batch_size: 1} or {name: flops, input_shape: [128]}"
            " says more."
        ),
    )
    allocation: Literal[ALLOCATORS] = Field(  # type: ignore[valid-type]
        default="equal_energy", description="How one budget becomes a rank for each layer."
    )
    criterion: Literal[CRITERIA] = Field(  # type: ignore[valid-type]
        default="frobenius",
        description=(
            "What a lost direction costs: the kernel's energy, its output on data (activation),"
            " or the loss (fisher). The last two judge by the first samples of the training."
        ),
    )
    calibration: Count | None = Field(
        default=None,
        description=(
            "Samples of the training that activation and fisher judge by, its first. Left out:"
            " 2048."
        ),
    )
    cadence: CadenceSection = Field(
        default=CadenceSection(epochs=1), description="When the ranks may change."
    )
    rules: list[RuleSection] = Field(
        default=[], description="Exceptions for some layers; the first rule that matches applies."
    )


class OptimizerSection(Section):
    """An optimizer with arguments: its name, and what Keras's class of that name takes."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)
    tag: ClassVar[str] = "<options>"

    name: OptimizerName = Field(description="Name of the Keras optimizer.")


def _optimizer_form(value: Any) -> str:
    return "<options>" if isinstance(value, Mapping | OptimizerSection) else "<name>"


Optimizer = Annotated[
    Annotated[OptimizerName, Tag("<name>")] | Annotated[OptimizerSection, Tag("<options>")],
    Discriminator(_optimizer_form),
]


class TrainingSection(Section):
    """How `reducible-train finetune` trains; what is left out is as the model was compiled."""

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


class TensorBoardSection(Section):
    """Where the logs for TensorBoard go."""

    log_dir: Pattern = Field(description="Folder for the logs; made if it does not exist.")


class EarlyStoppingSection(Section):
    """Ends the training when it no longer improves, once the ranks have fallen."""

    monitor: Pattern = Field(
        default="val_loss", description="The metric to watch, as it stands in Keras's logs."
    )
    min_delta: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Least change that counts as an improvement."
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Epochs without an improvement after which training stops."
    )
    mode: Literal[MODES] = Field(  # type: ignore[valid-type]
        default="auto",
        description="Whether the metric should be large or small. 'auto': Keras knows its own.",
    )
    baseline: float | None = Field(
        default=None, description="A value that must be passed to count as an improvement."
    )
    restore_best_weights: bool = Field(
        default=False, description="Whether to end with the weights of the best epoch."
    )
    start_from_epoch: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="First epoch that counts; the first at the final ranks, if that is later.",
    )


class CheckpointSection(Section):
    """Saves the best epoch in a file, once the ranks have fallen."""

    filepath: Pattern = Field(
        description=(
            "The file: .reducible, .keras or .weights.h5. {epoch} and metrics in braces become"
            " their values."
        )
    )
    monitor: Pattern = Field(
        default="val_loss", description="The metric to watch, as it stands in Keras's logs."
    )
    mode: Literal[MODES] = Field(  # type: ignore[valid-type]
        default="auto",
        description="Whether the metric should be large or small. 'auto': Keras knows its own.",
    )
    save_best_only: bool = Field(
        default=True, description="Whether only epochs better than those before are saved."
    )
    save_weights_only: bool = Field(
        default=False, description="Whether only weights are saved; needs .weights.h5."
    )
    initial_value_threshold: float | None = Field(
        default=None, description="A value that must be passed for an epoch to be saved."
    )


class BackupSection(Section):
    """Saves the training after every epoch; the same command goes on from there."""

    backup_dir: Pattern = Field(description="Folder for the backup of this training alone.")
    delete_checkpoint: bool = Field(
        default=True, description="Whether the backup is removed when training has ended."
    )


class ConfigModel(Section):
    """Everything in one file: how far to compress, how to train, where to log."""

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
