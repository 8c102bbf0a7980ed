"""The ways in which a kernel can be split in two: their limits, and what each rank costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from reducible_train.layers import Kernel
from reducible_train.layers.uses import Uses
from reducible_train.linalg.multiples import rounded_down, rounded_up
from reducible_train.selection.costs import (
    CostModel,
    CostTable,
    break_even_rank,
    dense_cost,
    rank_cost,
)
from reducible_train.selection.lattice import Lattice
from reducible_train.settings.measures import CountedMeasure, Flops, Parameters
from reducible_train.settings.rules import LayerRule


@dataclass(frozen=True, eq=False)
class Factorization:
    """One way in which a kernel can be split, with its limits and costs.

    Args:
        split: Name of the split.
        shape: `(m, n)` of its matrices.
        count: How many matrices.
        itemsize: Bytes of one number.
        uses: How often one sample uses each number; `None` where not known.
        min_rank: Smallest rank it may get.
        max_rank: Largest rank it may get: the limit, or less if its rule says so.
        limit: Largest rank that saves enough, of numbers and of work; of a kernel with factors,
            the rank it has. A rule's `max_rank` does not change it.
        growth: Largest rank it may grow to: one that saves enough, and that its rule allows, also
            where it has factors already.
        tables: What it costs by a measure that has no law.
        laws: What budgets count by a law, each with its options; other measures have none.
        multiple: What ranks are multiples of; limits are, but for the rank that a kernel has.
        saves: Largest rank that saves enough, whatever it is a multiple of.
        saves_by: The same by each measure alone.
    """

    split: str
    shape: tuple[int, int]
    count: int
    itemsize: int
    uses: Uses | None
    min_rank: int
    max_rank: int
    limit: int
    growth: int
    tables: Mapping[str, CostTable] = field(default_factory=dict)
    laws: Mapping[str, CountedMeasure] = field(default_factory=dict)
    multiple: int = 1
    saves: int = 0
    saves_by: Mapping[str, int] = field(default_factory=dict)

    def cost(self, rank: int, measure: str) -> float:
        """Cost of factors of a rank."""
        if measure in self.tables:
            return float(self.tables[measure].ranks[rank])
        return rank * self._rank_cost(measure)

    def costs(self, measure: str, most: int) -> float | np.ndarray:
        """Cost of one rank; of each rank 0 ... `most` where that is not the same for all."""
        if measure in self.tables:
            return self.tables[measure].ranks[: most + 1]
        return self._rank_cost(measure)

    def dense_cost(self, measure: str) -> float:
        """Cost of the dense kernel."""
        if measure in self.tables:
            return self.tables[measure].dense
        law = self.laws.get(measure, measure)
        return dense_cost(self.shape, law, self.itemsize, self.uses, self.count)

    def largest_within(self, cost: float, measure: str) -> int:
        """The largest rank that costs no more; 0 if none does."""
        ranks = np.arange(min(self.shape) + 1)
        costs = np.array([self.cost(int(rank), measure) for rank in ranks])
        return int(np.searchsorted(costs[1:], cost, side="right"))

    def costs_nothing(self, rank: int) -> bool:
        """True where budgets have nothing to take from factors of a rank, by one of the measures
        that they count.
        """
        return any(self.cost(rank, measure) == 0 for measure in (*self.laws, *self.tables))

    @property
    def least(self) -> int:
        """Smallest rank it can have."""
        return min(self.min_rank, self.max_rank)

    def _rank_cost(self, measure: str) -> float:
        law = self.laws.get(measure, measure)
        return rank_cost(self.shape, law, self.itemsize, self.uses, self.count)


def forms_of(
    kernel: Kernel,
    rule: LayerRule | None,
    uses: Mapping[tuple[str, str], Uses] | None,
    laws: Mapping[str, CountedMeasure],
    lattice: Lattice,
) -> list[Factorization]:
    """The ways to split a kernel that its rule allows; no rank may make it larger or slower.

    Args:
        kernel: The kernel.
        rule: The rule for its layer, if any.
        uses: How often one sample uses each number, by path and split, where known.
        laws: What budgets count by a law, by name.
        lattice: Which ranks there are, where its rule does not say so.

    Raises:
        ArgumentError: Its rule's share of full rank is above the rule's largest rank.
    """
    forms = []
    min_gain, multiple = least_gain(rule), lattice.multiple_for(rule)
    weighs_uses = any(law.weighs_uses for law in laws.values())
    wish = rule.split if rule else None
    splits = kernel.splits
    for split in [wish] if wish in splits else splits:
        shape = kernel.shape_in(split)
        used = None if uses is None else uses[kernel.path, split]
        saves_by = {Parameters.name: break_even_rank(shape, min_gain=min_gain)}
        looked_up = used is not None and used.dense == 0  # embeddings: nothing to save
        if used is not None and (weighs_uses or not looked_up):
            saves_by[Flops.name] = break_even_rank(shape, Flops.name, used, min_gain)
        saves = min(saves_by.values())
        limit = rounded_down(saves, multiple) if kernel.rank is None else kernel.rank
        own = rounded_down(rule.max_rank, multiple) if rule and rule.max_rank else None
        most, growth = (
            rank if own is None else min(own, rank)
            for rank in (limit, rounded_down(saves, multiple))
        )
        least = rounded_up(lattice.least_rank(rule, min(shape)), multiple)
        forms.append(
            Factorization(
                split,
                shape,
                kernel.count,
                kernel.itemsize,
                used,
                min_rank=least,
                max_rank=most,
                limit=limit,
                growth=growth,
                multiple=multiple,
                saves=saves,
                saves_by=saves_by,
                laws=laws,
            )
        )
    return forms


def tabulated(
    form: Factorization, kernel: Kernel, rule: LayerRule | None, name: str, costs: CostModel
) -> Factorization:
    """A form with its table, its largest rank one that saves enough by it."""
    table = costs.tables[kernel.path, form.split]
    alone = table.break_even_rank(least_gain(rule))
    saves = min(form.saves, alone)
    allowed = rounded_down(saves, form.multiple)
    limit = form.limit if kernel.rank is not None else min(form.limit, allowed)
    return replace(
        form,
        max_rank=min(form.max_rank, limit),
        limit=limit,
        growth=min(form.growth, allowed),
        saves=saves,
        saves_by={**form.saves_by, name: alone},
        tables={**form.tables, name: table},
    )


def least_gain(rule: LayerRule | None) -> float:
    """The fraction of its cost that a kernel must save."""
    return 0.0 if rule is None or rule.min_gain is None else rule.min_gain
