"""Change the ranks of a model once, outside `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError, ArgumentTypeError, SurgeryError
from reducible_train.layers import Kernel, find_kernels
from reducible_train.settings.checks import has_elements
from reducible_train.settings.rules import LayerRule, rule_for, unmatched
from reducible_train.surgery.change import change_kernels, merge_all


def merge(model: Any, layers: str | Sequence[str] | None = None) -> Any:
    """Multiply factors out, in place: the model, or some of it, has plain Keras layers again.

    What it computes stays the same to round-off. Merged as a whole, it loads where this package
    is not installed, and is as large as before; merged in part, it has one dense kernel where
    LoRA, quantization or code of your own needs one.

    Args:
        model: A built Keras model.
        layers: Patterns for the paths or names of the layers to merge, as `LayerRule` takes
            them; all layers if not given.

    Returns:
        The same model.

    Raises:
        ArgumentError: A pattern matches no layer that is factorised; nothing is merged.
        ArgumentTypeError: No patterns, or no model.
        SurgeryError: The model is not built.

    Example:
        >>> import keras
        >>> from reducible_train import factorize
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="hidden"),
        ...                           keras.layers.Dense(10, name="output")])
        >>> from reducible_train import factorize
        >>> _ = factorize(model, rank=8)
        >>> type(merge(model).layers[0]).__name__
        'Dense'
    """
    check_built(model)
    kernels = find_kernels(model)
    chosen = kernels if layers is None else _chosen(model, kernels, layers)
    change_kernels(model, merge_all(chosen))
    return model


def _chosen(model: Any, kernels: Sequence[Kernel], layers: str | Sequence[str]) -> list[Kernel]:
    """The factorised kernels of layers that patterns match."""
    patterns = [layers] if isinstance(layers, str) else layers
    if not has_elements(patterns):
        raise ArgumentTypeError(
            f"`layers` must be a pattern, or several. Received: layers={layers!r}. Write for "
            "example layers='encoder/*'."
        )
    rules = [LayerRule(pattern) for pattern in patterns]
    factorized = [kernel for kernel in kernels if kernel.rank is not None]
    places = [(kernel.layer_path, kernel.layer.name) for kernel in factorized]
    idle = unmatched(rules, places)
    if idle:
        raise ArgumentError(
            f"`layers` must match factorised layers of model '{model.name}'. Received: "
            f"{idle[0].match!r}, which matches none of {', '.join(p for p, _ in places) or 'none'}."
            " Correct the pattern, or leave it out."
        )
    return [
        kernel
        for kernel, place in zip(factorized, places, strict=True)
        if rule_for(rules, *place) is not None
    ]


def check_built(model: Any) -> None:
    """Refuse what is no model, or has no weights yet."""
    check_model(model)
    if not _keras.has_weights(model):
        raise SurgeryError(
            f"Model '{model.name}' has no weights yet. Call it once on data, or "
            "model.build(input_shape), first."
        )


def check_model(model: Any) -> None:
    """Refuse what is no model."""
    if not isinstance(model, keras.Model):
        raise ArgumentTypeError(
            f"`model` must be a Keras model. Received: {type(model).__name__}. One in a file is "
            "loaded first: keras.saving.load_model(path)."
        )
