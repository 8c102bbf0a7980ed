"""What was done to a model so far: a value, of which each cut makes a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reducible_train.linalg.svd import energy
from reducible_train.report.records import Cut, cut_from_dict, cut_to_dict


@dataclass(frozen=True, eq=False)
class History:
    """The cuts of one model, and where they have left it.

    Who keeps one has a bookmark: `Compression.go_on_from` takes it up again.

    Args:
        cuts: Every cut, in order.
        kept: Energy that each kernel has kept since the start, by path.
        kept_by_criterion: The same, as the criterion weighs it.
        reached: The values of all targets at the last look; `None` before one, and after growth.
        remarks: Why kernels that may change are dense, as the last look found, by path.
        growths: When kernels grew, in epochs, and by how many directions.
        is_grown: True from then until the next look.
    """

    cuts: tuple[Cut, ...] = ()
    kept: Mapping[str, float] = field(default_factory=dict)
    kept_by_criterion: Mapping[str, float] = field(default_factory=dict)
    reached: tuple[float, ...] | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)
    growths: tuple[tuple[float, int], ...] = ()
    is_grown: bool = False

    @property
    def output_errors(self) -> dict[str, float]:
        """Share of the variance of its outputs that each kernel has lost, by path, where known."""
        left: dict[str, float] = {}
        for each in (kernel for cut in self.cuts for kernel in cut.kernels):
            if each.output_error is not None:
                left[each.path] = left.get(each.path, 1.0) * max(1 - each.output_error, 0.0)
        return {path: 1 - share for path, share in left.items()}

    @property
    def effective_ranks(self) -> dict[str, float]:
        """What each kernel had before its first cut, by path, where it was asked."""
        records = [kernel for cut in self.cuts for kernel in cut.kernels]
        return {
            each.path: each.effective_rank for each in records if each.effective_rank is not None
        }

    def after(self, cut: Cut) -> History:
        """With one more cut; what its kernels have kept multiplies."""
        kept, by_criterion = dict(self.kept), dict(self.kept_by_criterion)
        for each in cut.kernels:
            kept[each.path] = kept.get(each.path, 1.0) * each.energy
            weighed = energy(each.spectrum, each.rank)
            by_criterion[each.path] = by_criterion.get(each.path, 1.0) * weighed
        cuts = (*self.cuts, cut)
        return replace(self, cuts=cuts, kept=kept, kept_by_criterion=by_criterion)

    def looked(self, reached: Sequence[float], remarks: Mapping[str, str]) -> History:
        """With targets at these values, whether that took a cut or not."""
        return replace(self, reached=tuple(reached), remarks=remarks, is_grown=False)

    def grown(self, time: float, directions: int) -> History:
        """With kernels beyond what the targets ask for."""
        growths = (*self.growths, (time, directions))
        return replace(self, growths=growths, is_grown=True, reached=None)

    def get_state(self) -> dict[str, Any]:
        """The cuts and what is left of the kernels, in plain JSON values."""
        return {
            "cuts": [cut_to_dict(each, spectra=True) for each in self.cuts],
            "kept": dict(self.kept),
            "kept_by_criterion": dict(self.kept_by_criterion),
            "done": None if self.reached is None else list(self.reached),
            "remarks": dict(self.remarks),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> History:
        """The history that `get_state` made these values of."""
        return cls(
            cuts=tuple(cut_from_dict(each) for each in state["cuts"]),
            kept=dict(state["kept"]),
            kept_by_criterion=dict(state["kept_by_criterion"]),
            reached=None if state["done"] is None else tuple(state["done"]),
            remarks=dict(state.get("remarks", {})),  # not in backups of before
        )
