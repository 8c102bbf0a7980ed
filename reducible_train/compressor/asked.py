"""What a `Compression` takes from the settings of a user."""

from __future__ import annotations

from typing import Any

from reducible_train.settings.compression import CompressionSettings


def asked_of(settings: CompressionSettings, **other: Any) -> dict[str, Any]:
    """The arguments of a `Compression` that settings ask for.

    When to cut, what undoes cuts and what helps the training is for whoever drives it.

    Args:
        settings: What a user asked for.
        **other: Arguments that are otherwise.
    """
    return {
        "target": settings.target,
        "measure": settings.measures,
        "allocation": settings.allocation,
        "rules": settings.rules,
        "criterion": settings.criterion,
        "analysis": settings.analysis,
        "multiple": settings.multiple,
        "min_share": settings.min_share,
    } | other
