"""The inputs of a convolution as the rows that its kernel matrices multiply."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

_ROWS = 1024  # of one call


def patches(
    images: np.ndarray,
    size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: str,
    groups: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """What a convolution sees at each position, at some of them where there are many.

    Args:
        images: `(samples, ..., channels)`, one or more axes of space.
        size: Size of the kernel along each axis of space.
        strides: Strides.
        dilation: Dilation rates.
        padding: `"valid"`, `"same"`, or `"causal"` along a single axis.
        groups: Groups of channels.
        rng: Draws the positions.

    Returns:
        `(groups, rows, positions of the kernel x channels of a group)`.

    Example:
        >>> line = np.arange(4.0).reshape(1, 4, 1)
        >>> patches(line, [2], [1], [1], "valid", 1, np.random.default_rng(0))[0]
        array([[0., 1.],
               [1., 2.],
               [2., 3.]])
    """
    axes = range(len(size))
    reach = [(size[a] - 1) * dilation[a] + 1 for a in axes]
    images = _padded(images, reach, strides, padding)
    counts = [(images.shape[1 + a] - reach[a]) // strides[a] + 1 for a in axes]
    whole = (len(images), *counts)
    places = np.arange(math.prod(whole))
    if len(places) > _ROWS:
        places = rng.choice(len(places), _ROWS, replace=False, shuffle=False)
    sample, *position = np.unravel_index(places, whole)
    # One look at all drawn positions for each place in the kernel: memory for what was drawn only.
    seen = []
    for place in itertools.product(*(range(s) for s in size)):
        at = [position[a] * strides[a] + place[a] * dilation[a] for a in axes]
        seen.append(images[(sample, *at)])
    channels = images.shape[-1] // groups
    rows = np.stack(seen, axis=-2).reshape(-1, len(seen), groups, channels)
    return rows.transpose(2, 0, 1, 3).reshape(groups, len(rows), -1)


def _padded(
    images: np.ndarray, reach: Sequence[int], strides: Sequence[int], padding: str
) -> np.ndarray:
    if padding == "valid":
        return images
    sides = []
    for length, wide, stride in zip(images.shape[1:-1], reach, strides, strict=True):
        if padding == "causal":
            sides.append((wide - 1, 0))
            continue
        # "same" pads both sides, and the odd one goes to the end, as in TensorFlow.
        total = max((math.ceil(length / stride) - 1) * stride + wide - length, 0)
        sides.append((total // 2, total - total // 2))
    return np.pad(images, [(0, 0), *sides, (0, 0)])
