"""What settings have against each other when they are put together, in Python and in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reducible_train.settings.aids import Aid
from reducible_train.settings.faults import Fault
from reducible_train.settings.targets import Target


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
