"""Whether a model can be listened to on samples: asked before training, so that no cut fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, SpectrumError, first_sentence
from reducible_train.selection.answers import MOST, not_finite, outputs_of
from reducible_train.selection.samples import Samples, part_of, shapes_fit

_OWN = (
    "Its own train_step may take other data than its call: give what that takes, several inputs as "
    "a list, such as calibration=[anchors, positives, negatives]."
)


def check_samples(samples: Samples, model: Any, who: str | None, *, run: bool) -> None:
    """Refuse samples that a model, or what asks for them, cannot use.

    Args:
        samples: The samples.
        model: The model in training.
        who: What asks for gradients of the loss, for messages; `None` if nothing does.
        run: True if anything listens to the data at all.

    Raises:
        ArgumentError: Inputs of the wrong shape; where gradients are asked for, no targets, or
            a loss that cannot be computed of the samples.
    """
    if who is not None and samples.y is None and _keras.compares_with_targets(model):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, so `calibration` must be (x, y). Received: "
            "inputs only. Give the targets, or do without."
        )
    for part in (samples, *samples.more):
        _check_shapes(part, model)
    size = _keras.fixed_batch(model)
    if size is not None and len(samples) < size:
        raise ArgumentError(
            f"Model '{model.name}' takes batches of {size}, so `calibration` must be so many "
            f"samples at least. Received: {len(samples)}. Give more."
        )
    if run:
        try_out(samples, model, who)


def try_out(samples: Samples, model: Any, who: str | None) -> None:
    """Run one sample through a model, as it will be listened to; one says what is wrong.

    Args:
        samples: The samples.
        model: The model in training; it stays as it is.
        who: What asks for gradients of the loss; `None` if nothing does.

    Raises:
        ArgumentError: The model cannot be run on them.
    """
    for batch in islice(samples.batches(_keras.fixed_batch(model) or 1), 1):
        if who is not None:
            loss_gradients(model, [], batch)
            return
        try:
            _keras.layer_calls(model, [], batch[0], None)
        except Exception as error:
            raise cannot_be_run(model, error) from error


def check_inputs(samples: Samples, model: Any) -> None:
    """Refuse inputs of NaN or infinity, unless the model makes finite outputs of them.

    Args:
        samples: The samples.
        model: The model; it stays as it is.

    Raises:
        ArgumentError: The model cannot be run on them.
        SpectrumError: There are some, and the model does not, or cannot be asked.
    """
    for part in (samples, *samples.more):
        floats = [each for each in _keras.arrays_in(part.x) if each.dtype.kind == "f"]
        bad = sum(each.size - int(np.isfinite(each).sum()) for each in floats)
        if bad and not _takes_them(model, part, floats):
            raise SpectrumError(
                f"`calibration` must be finite. Received: {bad} of "
                f"{sum(each.size for each in floats)} numbers NaN or infinite. Clean the data, or "
                "leave these samples out."
            )


def _takes_them(model: Any, samples: Samples, floats: Sequence[np.ndarray]) -> bool:
    """True if a model makes finite outputs of those samples that are not finite."""
    part = _keras.trained_model(model)
    can_run = _keras.has_call(part) and not _keras.unbuilt_parts(model)
    if not can_run or _keras.is_distributed(model):
        return False
    rows = [np.isfinite(each.reshape(len(each), -1)).all(axis=1) for each in floats]
    places = np.flatnonzero(~np.logical_and.reduce(rows))[:MOST]
    size = max(len(places), _keras.fixed_batch(model) or 1)
    asked = Samples(*part_of(np.resize(places, size), samples.x, None, None))
    try:
        bad, _ = not_finite(outputs_of(model, asked))
    except Exception as error:
        raise cannot_be_run(model, error) from error
    return not bad


def check_asking(model: Any, asking: Mapping[str, Sequence[str]], data: Any) -> str | None:
    """Refuse what cannot be learned of a fit, before it begins.

    Args:
        model: The model in training.
        asking: What must be known of the data, some of `"inputs"` and `"gradients"`, by who asks.
        data: Inputs, targets and weights of the fit, as `_keras.data_of_fit` tells them, where its
            samples are those to learn from; `None` for others, or if it does not tell.

    Returns:
        Who asks for gradients; `None` if nobody does.

    Raises:
        ArgumentError: It cannot be had with this model, backend or data.
    """
    asker = next((name for name, needs in asking.items() if needs), None)
    if asker is not None and not _keras.has_call(_keras.trained_model(model)):
        raise ArgumentError(
            f"{asker} listens to the data as it passes through the model, and model "
            f"'{model.name}' cannot be called: it has no `call`. Received: {asker}. Give it one, "
            "or use criterion='frobenius'."
        )
    who = next((name for name, needs in asking.items() if "gradients" in needs), None)
    if who is None:
        return None
    check_gradients(model, who)
    if data is not None and data[1] is None and _keras.compares_with_targets(model):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, which compares with targets. Received: a fit "
            "whose data has none. Give it samples that have, calibration=(x, y), or do without."
        )
    return who


def _check_shapes(samples: Samples, model: Any) -> None:
    known = _keras.known_inputs(model)
    given = _keras.in_order(samples.x, model)
    found = [None if each is None else each.shape for each in given]
    if known is None or shapes_fit(found, known):
        return
    advice = "Give it as you give model.fit its inputs."
    if _keras.has_own_step(model):
        advice = _OWN
    if [len(shape or ()) + 1 for shape in found] == [len(shape) for shape in known]:
        advice = "Give a dataset in batches, dataset.batch(32), and one sample as x[None]."
    elif isinstance(samples.x, list):
        advice = "A list is inputs; inputs and targets are a tuple: calibration=(x, y)."
    raise ArgumentError(
        f"`calibration` must be inputs of model '{model.name}': "
        f"{', '.join(map(str, known))}. Received: {', '.join(map(str, found))}. {advice}"
    )


def loss_gradients(model: Any, variables: Sequence[Any], batch: Any) -> list[np.ndarray | None]:
    """The gradient of the loss of one batch by variables, summed over the samples.

    Raises:
        ArgumentError: The model cannot be run on the samples, or its loss not be computed of them.
    """
    try:
        return _keras.loss_gradients(model, variables, batch)
    except Exception as error:
        raise no_gradients(model, batch, error) from error


def no_gradients(model: Any, batch: Any, error: Exception) -> ArgumentError:
    """The error to raise where gradients of the loss failed: by the targets, or by the model."""
    outputs = _keras.outputs_without_loss(model, batch)
    if outputs is None:
        return cannot_be_run(model, error)
    targets = [np.shape(each) for each in _keras.arrays_in(batch[1])]
    return ArgumentError(
        f"The loss of model '{model.name}' cannot be computed with the targets of the calibration "
        f"samples. Received: targets of shape {_of_any_number(targets)} for outputs of shape "
        f"{_of_any_number(outputs)}: {first_sentence(error)} Give the targets that model.fit "
        "takes, whole numbers or one-hot as the loss has them."
    )


def _of_any_number(shapes: Sequence[Sequence[int | None]]) -> str:
    """Shapes of batches, of however many samples."""
    return ", ".join(str((None, *shape[1:])) for shape in shapes) or "()"


def cannot_be_run(model: Any, error: Exception) -> ArgumentError:
    """The error to raise where a model fails on samples."""
    advice = "Give them as you give model.fit its data."
    if _keras.has_own_step(model):
        advice = _OWN
    return ArgumentError(
        f"Model '{model.name}' cannot be run on the calibration samples. "
        f"Received: {first_sentence(error)} {advice}"
    )


def check_gradients(model: Any, who: str) -> None:
    """Refuse to take gradients where that cannot be done.

    Args:
        model: The model in training.
        who: What asks for them, for messages.

    Raises:
        ArgumentError: The model is not compiled, or not on one device, or its backend knows no
            gradients.
    """
    if keras.backend.backend() not in _keras.DIFFERENTIABLE:
        raise ArgumentError(
            f"{who} takes gradients by TensorFlow, JAX or torch. Received: backend "
            f"{keras.backend.backend()!r}. Do without, or use criterion='activation'."
        )
    if _keras.is_distributed(model):
        raise ArgumentError(
            f"{who} takes gradients on one device. Received: a model under a distribution "
            "strategy. Do without, or use criterion='activation' with calibration=x."
        )
    if not getattr(model, "compiled", False):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, and model '{model.name}' has none. Received: "
            "a model that is not compiled. Call model.compile first, or do without."
        )
    if _keras.has_own_loss(model):
        raise ArgumentError(
            f"{who} asks for gradients of the loss, and only its own train_step knows that of "
            f"model '{model.name}'. Received: a model with a `train_step`, no compiled loss and no "
            "`compute_loss` of its own. Move the loss into compute_loss(x, y, y_pred, ...), or use "
            "criterion='activation'."
        )
