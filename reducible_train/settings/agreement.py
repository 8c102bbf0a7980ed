"""What settings have against each other when they are put together, in Python and in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reducible_train.errors import ArgumentTypeError
from reducible_train.settings.aids import Aid
from reducible_train.settings.faults import Fault
from reducible_train.settings.measures import Measure, measure_kinds, needed_options
from reducible_train.settings.targets import Target

ONE_MEASURE = (
    "`measure` must be one measure, where one budget is asked for. Received: {}. Give one of them, "
    "or a budget for each: budget={{'parameters': 0.25, 'flops': 0.5}}."
)


def disagreements(
    targets: Sequence[type[Target]],
    aids: Sequence[type[Aid]],
    *,
    guard: Any = None,
    search: Any = None,
    start: Any = None,
) -> Iterator[Fault]:
    """What does not go together.

    Args:
        targets: All that falls, those of rules too.
        aids: What helps.
        guard: What undoes cuts, if something does.
        search: What chooses the budget, if something does.
        start: What lets cuts begin, if something does.

    >>> [fault.argument for fault in disagreements([], [], search="a search", start="a start")]
    [('search',), ('cadence', 'start')]
    """
    if search is not None and guard is None:
        yield Fault(
            ("search",),
            "A search needs a guard to tell what is good enough. Received: search without "
            "guard. Give for example guard=Guard('val_accuracy', max_drop=0.005).",
        )
    if search is not None and start is not None:
        yield Fault(
            ("cadence", "start"),
            f"A search chooses its own times. Received: search beside start={start!r}. "
            "Remove `start` from the cadence.",
        )
    hidden = [name for name, given in (("guard", guard), ("search", search)) if given is not None]
    hidden += dict.fromkeys(
        each.quantity if each.public else "cadence.start alone"
        for each in targets
        if not each.foreseeable
    )
    for aid in aids:
        if aid.looks_ahead and hidden:
            yield Fault(
                ("aids", aid.kind),
                f"{aid.__name__} must know what the schedule will ask for, so it takes a budget, a "
                f"cost or a rank, without guard or search. Received: {' and '.join(hidden)}. "
                f"Remove {aid.__name__}, or change the rest.",
            )


def penalty_faults(aids: Sequence[Aid], guard: Any) -> Iterator[Fault]:
    """What aids that add to the loss have against a guard which watches it.

    Args:
        aids: What helps.
        guard: What undoes cuts, if something does.

    >>> list(penalty_faults([], None))
    []
    """
    watched = None if guard is None else guard.monitor
    for aid in aids:
        if aid.adds_to_loss and watched in ("loss", "val_loss"):
            name = type(aid).__name__
            yield Fault(
                ("aids", aid.kind),
                f"{name} adds its penalty to the loss of a model that is cut, so a guard beside it "
                f"must watch a metric: by {watched!r} it would undo cuts for the penalty alone. "
                f"Received: {aid} and a guard with monitor={watched!r}. Let the guard watch "
                f"'val_accuracy' or another metric of compile, or remove {name}.",
            )


def analysis_fault(criterion: str, analysis: Any) -> Fault | None:
    """What a criterion has against an analysis, or against none.

    >>> analysis_fault("measured", "a.json"), analysis_fault("auto", "a.json").argument
    (None, ('analysis',))
    """
    if criterion == "measured" and analysis is None:
        return Fault(
            ("analysis",),
            "criterion='measured' shares a budget by an analysis. Received: none. Give it, or "
            "its file: analysis='analysis.json', as analyze(model, data, file=...) writes it.",
        )
    if criterion != "measured" and analysis is not None:
        return Fault(
            ("analysis",),
            "`analysis` is read by criterion='measured' alone. Received: "
            f"criterion={criterion!r} beside it. Write criterion='measured', or leave "
            "`analysis` out.",
        )
    return None


def sharing_faults(criterion: str, quantity: str, *, shares: bool, allocation: str) -> list[Fault]:
    """What the criterion of an analysis has against what is not shared by losses.

    Args:
        criterion: The criterion.
        quantity: What falls.
        shares: True if that is a budget, which kernels share.
        allocation: How.

    >>> [f.argument for f in sharing_faults("measured", "rtol", shares=False, allocation="uniform")]
    [('criterion',), ('allocation',)]
    """
    if criterion != "measured":
        return []
    found = list[Fault]()
    if not shares:
        found.append(
            Fault(
                ("criterion",),
                "criterion='measured' says how a budget is shared. Received: "
                f"{quantity}, which shares none. Give a budget, or leave it out.",
            )
        )
    if allocation == "uniform":
        found.append(
            Fault(
                ("allocation",),
                "allocation='uniform' looks at no losses, so criterion='measured' says nothing to "
                "it. Received: both. Leave `allocation` out.",
            )
        )
    return found


def measure_faults(
    quantity: str, measures: Sequence[str], given: Sequence[Any] | Any
) -> Iterator[Fault]:
    """What a `measure` has against several budgets, whose keys say what they count.

    Args:
        quantity: What there are several of.
        measures: What they count.
        given: What `measure` says how to count: measures with options.

    >>> (fault,) = measure_faults("budget", ["parameters", "flops"], ["flops"])
    >>> fault.message[:73]
    '`measure` is said by the keys of `budget` (parameters, flops). Received: '
    """
    rows = given if isinstance(given, Sequence) else [given]
    seen: list[Measure] = []
    for each in rows:
        if not isinstance(each, Measure):
            yield Fault(
                ("measure",),
                f"`measure` is said by the keys of `{quantity}` ({', '.join(measures)}). Received: "
                f"measure={each!r} beside them. Leave it out; only options are said by a measure, "
                "as in measure=[Latency(batch_size=1)].",
            )
        elif each.name not in measures:
            yield Fault(
                ("measure",),
                f"`measure` must be of one of the keys of `{quantity}` ({', '.join(measures)}). "
                f"Received: {each!r}. Remove it, or add {quantity}={{{each.name!r}: ...}}.",
            )
        elif each.name in [other.name for other in seen]:
            words = f"`measure` must say one thing of {each.name}. Received: {each!r} beside "
            yield Fault(("measure",), f"{words}another. Remove one of them.")
        else:
            seen.append(each)
    told, kinds = {each.name for each in seen}, measure_kinds()
    for name in measures:
        needed = needed_options(kinds[name]) if name in kinds and name not in told else None
        if needed is not None:
            yield Fault(("measure",), needed, ArgumentTypeError)
    shapes = [each.input_shape for each in seen if each.input_shape is not None]
    if any(shape != shapes[0] for shape in shapes):
        yield Fault(
            ("measure",),
            "`measure` must tell one input_shape, that of the model. Received: "
            f"{' and '.join(map(repr, shapes))}. Give it to one of them, or the same to all.",
        )


def multiple_faults(target: Any, rules: Sequence[Any], multiple: int) -> Iterator[Fault]:
    """What ranks that were asked for have against multiples of a number.

    Args:
        target: What the model is brought to.
        rules: The rules for single layers, which may have a multiple of their own.
        multiple: The number.
    """
    for part in target.parts:
        words = part.multiple_fault(multiple)
        if words is not None:
            yield Fault(("multiple",), words)
    for place, rule in enumerate(rules):
        words = rule.multiple_fault(multiple if rule.multiple is None else rule.multiple)
        if words is not None:
            yield Fault(("rules", place), words)


def resume_faults(
    aids: Sequence[type[Aid]], *, guard: Any = None, start: Any = None
) -> list[Fault]:
    """What a training that is taken up again could not go on with.

    Args:
        aids: What helps.
        guard: What undoes cuts, if something does.
        start: What lets cuts begin, if something does.

    >>> resume_faults([], guard="a guard")[0].message[:74]
    'A training with guard cannot be backed up: the state before the cut on tri'
    """
    lost: Mapping[str, str | None] = {
        "guard": None if guard is None else "the state before the cut on trial",
        "cadence.start": None if start is None else "the stable ranks it has seen",
        **{aid.__name__: "the state it is in" for aid in aids if not aid.resumes},
    }
    return [
        Fault(
            (),
            f"A training with {name} cannot be backed up: {what} would be lost. Received: both. "
            f"Remove the backup, or {name}.",
        )
        for name, what in lost.items()
        if what is not None
    ]
