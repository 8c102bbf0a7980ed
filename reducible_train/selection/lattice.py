"""Which ranks a kernel may get at all: multiples of a number, and not too small a share."""

from __future__ import annotations

from dataclasses import dataclass

from reducible_train.errors import ArgumentError
from reducible_train.linalg.multiples import rounded_down, whole_rank_above
from reducible_train.settings.rules import LayerRule


@dataclass(frozen=True)
class Lattice:
    """Which ranks there are for kernels whose rules do not say so.

    Args:
        multiple: What every rank is a multiple of.
        min_share: The least that a kernel keeps, as a share of its full rank.

    Example:
        >>> Lattice(min_share=0.1).least_rank(None, full=64)
        7
        >>> Lattice(min_share=0.1).least_rank(LayerRule("*", min_rank=4), full=64)
        4
    """

    multiple: int = 1
    min_share: float = 0.0

    def multiple_for(self, rule: LayerRule | None) -> int:
        """What the ranks of a kernel are multiples of."""
        return self.multiple if rule is None or rule.multiple is None else rule.multiple

    def least_rank(self, rule: LayerRule | None, full: int) -> int:
        """The smallest rank of a kernel of a full rank, before it is rounded to a multiple.

        What a rule says is exact for its layers: the share of all kernels is none of theirs, and
        gives way to a rule's `max_rank`.

        Raises:
            ArgumentError: A rule's own share is above its largest rank.
        """
        if rule is None:
            return share_of(self.min_share, full)
        if not rule.has_floor:
            most = (
                full
                if rule.max_rank is None
                else rounded_down(rule.max_rank, self.multiple_for(rule))
            )
            return max(1, min(share_of(self.min_share, full), most))
        least = max(rule.min_rank or 1, share_of(rule.min_share or 0.0, full))
        if rule.max_rank is not None and least > rule.max_rank:
            raise ArgumentError(
                f"`min_share` must not ask for more than `max_rank` allows. Received: min_share="
                f"{rule.min_share:g} of full rank {full}, which is rank {least}, and max_rank="
                f"{rule.max_rank}, in {rule.whose(vars(rule))}. Lower the one, or raise the other."
            )
        return least


def share_of(share: float, full: int) -> int:
    """A share of full rank, rounded up to a whole rank; at least 1.

    >>> share_of(0.1, 128), share_of(0.25, 64), share_of(0.0, 64)
    (13, 16, 1)
    """
    return max(1, whole_rank_above(share * full))
