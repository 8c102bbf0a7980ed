"""What a criterion, or an aid, asks of the data: whether it can be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reducible_train import _keras
from reducible_train.selection.criteria import Criterion
from reducible_train.selection.sample_checks import check_asking, check_samples
from reducible_train.selection.samples import Samples


def check_data(
    model: Any,
    asking: Mapping[str, Sequence[str]],
    samples: Samples | None,
) -> None:
    """Refuse what cannot be learned, and samples that do not fit.

    Args:
        model: The model in training.
        asking: What must be known of the data, as criteria say it, by who asks.
        samples: The data, where it is there already.

    Raises:
        ArgumentError: It cannot be had with this model or backend, or not of these samples.
    """
    who = check_asking(model, asking, None)
    if samples is not None:
        check_samples(samples, model, who, run=any(asking.values()))


def listening_notes(model: Any, criterion: Criterion) -> tuple[str, ...]:
    """What a criterion does not hear of a model that trains in its own way, if it does so."""
    if not criterion.needs or not _keras.has_own_step(model):
        return ()
    return (
        f"criterion={criterion.name!r} listens to model '{model.name}' called on the inputs of "
        "a batch, its first part, as for predictions; not to what else its own train_step "
        "does. A third part is read as sample weights where it fits the targets and the three "
        "parts are not of one shape and dtype.",
    )
