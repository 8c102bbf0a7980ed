"""What an aid is: something that helps a training while ranks fall, as a plain value.

A kind of aid is one new file in this package: a frozen dataclass, subclass of `Aid`, with its
name in `kind`. It is found, and can be used in configurations, without further ado.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol

from reducible_train.errors import ArgumentError
from reducible_train.settings.base import Settings
from reducible_train.settings.checks import checked_all, register
from reducible_train.settings.faults import Fault

_KINDS: dict[str, type[Aid]] = {}
_NEEDS = ("inputs", "gradients")


class AidContext(Protocol):
    """All that an aid can have done to a training; it ends with the training."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Training steps of an epoch; `None` while that is not known."""

    @property
    def time(self) -> float:
        """Epochs since the start."""

    @property
    def schedule_end(self) -> float:
        """The epoch at which all schedules have fallen, at the latest."""

    def warm_up(self, steps: int, initial: float) -> None:
        """From now on the learning rate climbs from a fraction of itself, within so many steps."""

    def penalize_products(self, weight: float) -> None:
        """Add `weight * ||U V||_F^2` of every factorised kernel to the loss."""

    def pull(self, fraction: float, ahead: float) -> None:
        """Bring kernels part of the way to what cuts within `ahead` epochs will make of them."""

    def regrow(self, fraction: float) -> None:
        """Give factorised kernels a fraction of their rank more, until the next cut."""


class Aid(Settings):
    """Something that helps a training while ranks fall.

    Subclasses are frozen dataclasses, which say by the hooks below when they want something
    done; the `AidContext` they are given does it.

    Attributes:
        kind: Name in configurations.
        looks_ahead: True if it must be known what coming cuts will ask for: not with a guard or
            a search, nor where that hangs on what the kernels will have become.
        resumes: False if the state it is in at the end of an epoch is in no backup.
        needs: What it must know of the data: `"inputs"`, `"gradients"`, or nothing.
    """

    kind: ClassVar[str]
    looks_ahead: ClassVar[bool] = False
    resumes: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if isinstance(cls.needs, str | tuple | list | set | frozenset):
            checked_needs(cls.needs, cls)
        register(_KINDS, cls, "aid")
        for name, hook in cls._misspelt():
            words = f"No training calls `{name}` of the aid {cls.__name__}. Did you mean `{hook}`?"
            warnings.warn(words, UserWarning, stacklevel=2)

    @classmethod
    def _misspelt(cls) -> Iterator[tuple[str, str]]:
        """Functions of its own that are called like a hook which it leaves as it is, and that hook.

        Where it has that hook too, the other is a part of it.
        """
        hooks = {name: each for name, each in vars(Aid).items() if inspect.isfunction(each)}
        free = [name for name, each in hooks.items() if getattr(cls, name) is each]
        for name, value in vars(cls).items():
            if callable(value) and name not in hooks and not name.startswith("_"):
                yield from ((name, hook) for hook in get_close_matches(name, free, 1, 0.9))

    def rests_from(self, schedule_end: float) -> float:
        """The epoch from which on it leaves ranks alone; 0 for one that always does.

        Args:
            schedule_end: The epoch at which all schedules have fallen.
        """
        return 0.0

    def idle_fault(
        self, schedule_end: float, falls_within: Callable[[float], bool]
    ) -> Fault | None:
        """What is wrong with it where it would do nothing at all.

        Args:
            schedule_end: The epoch at which all schedules have fallen.
            falls_within: Whether at the begin of any epoch something is still to fall that is
                asked for by so many epochs later.
        """
        return None

    @property
    def adds_to_loss(self) -> bool:
        """True if the loss of a model is another once it is cut, however good that is."""
        return False

    def begin(self, training: AidContext) -> None:
        """The training begins; the model may have been factorised before."""

    def before_epoch(self, training: AidContext) -> None:
        """An epoch begins; the cuts before it have been made."""

    def after_cut(self, training: AidContext) -> None:
        """Ranks have fallen, and the next step has not been made yet."""


def aid_kinds() -> dict[str, type[Aid]]:
    """The known kinds of aid, by name.

    >>> list(aid_kinds())
    ['product_decay', 'regrow', 'rewarm', 'tail_shrink']
    """
    return dict(sorted(_KINDS.items()))


def checked_needs(needs: Any, owner: type[Aid]) -> tuple[str, ...]:
    """What an aid must know of the data, as it says in `needs`.

    Raises:
        ArgumentError: There is no such thing.
    """
    is_one = isinstance(needs, str) or not isinstance(needs, Iterable)
    given = () if needs is None else (needs,) if is_one else tuple(needs)
    for need in given:
        if need not in _NEEDS:
            raise ArgumentError(
                f"`needs` of an aid must be some of {', '.join(map(repr, _NEEDS))}. Received: "
                f"{need!r} in {owner.__name__}. Correct it, or leave `needs` out."
            )
    return given


def checked_aids(aids: Any) -> tuple[Aid, ...]:
    """The aids of a list, each of another kind.

    Raises:
        ArgumentTypeError: Something in it is no aid.
        ArgumentError: Two are of one kind.
    """
    wanted, example = "`aids` must be a list of aids", "aids=[ProductDecay(1e-4)]"
    given = checked_all(wanted, aids, Aid, example, in_order=False)
    kinds = [aid.kind for aid in given]
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice is not None:
        raise ArgumentError(
            f"`aids` may hold one aid of each kind. Received: two of kind {twice!r}. Remove one."
        )
    return given
