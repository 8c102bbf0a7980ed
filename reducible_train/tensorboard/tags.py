"""Names and layouts of what is written for TensorBoard, with neither Keras nor protobufs.

Scalars, one point an epoch, grouped by the stock dashboards at the first `/`:

| tag | value |
|---|---|
| `reducible/params`, `reducible/params_fraction` | parameters of the model; over dense |
| `reducible/flops_fraction` | FLOPs of one sample, over dense |
| `reducible/val_<metric>` | the validation metric measured at these sizes |
| `reducible_rank/<layer path>` | rank in force; the full rank while dense |
| `reducible_energy/<layer path>` | energy kept by the cut made in this epoch |
| `reducible_error/<layer path>` | share of the variance of the kernel's outputs that it lost |
| `reducible/output_error` | what the cut did to the outputs of the model, likewise |
| `reducible/before_cut_<metric>`, `reducible/after_cut_<metric>` | loss and metrics around it |

Tensors of the plugin `reducible`: `reducible/spectrum/<layer path>`, one where a cut was
made, float32 of shape `(points + 1, 2)`. Row 0 is `(rank kept, full length)`, each other
row `(position, singular value)`, with positions counted from 1 and rising. Rank and length
are inside because a server samples scalars and tensors separately.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reducible_train.errors import FormatError

PLUGIN_NAME = "reducible"
RUN = "reducible"  # folder below the log folder: a run of its own, with one writer

PARAMS = "reducible/params"
PARAMS_FRACTION = "reducible/params_fraction"
FLOPS_FRACTION = "reducible/flops_fraction"
CONFIGURATION = "reducible/configuration"
RANK_GROUP = "reducible_rank"
ENERGY_GROUP = "reducible_energy"
ERROR_GROUP = "reducible_error"
OUTPUT_ERROR = "reducible/output_error"

MAX_POINTS = 512
LEADING_POINTS = 64


def layer_of(kernel_path: str) -> str:
    """The layer's path; a kernel that is not the layer's only one keeps its own name.

    Example:
        >>> layer_of("encoder/d1/kernel"), layer_of("lstm/recurrent_kernel")
        ('encoder/d1', 'lstm/recurrent_kernel')
    """
    return kernel_path.removesuffix("/kernel")


def metric_tag(name: str) -> str:
    """Tag of a validation metric, such as `reducible/val_accuracy`."""
    return f"reducible/{name}"


def rank_tag(kernel_path: str) -> str:
    """Tag of a kernel's rank."""
    return f"{RANK_GROUP}/{layer_of(kernel_path)}"


def energy_tag(kernel_path: str) -> str:
    """Tag of the energy kept by a kernel's cut."""
    return f"{ENERGY_GROUP}/{layer_of(kernel_path)}"


def error_tag(kernel_path: str) -> str:
    """Tag of what a kernel's cut did to its outputs."""
    return f"{ERROR_GROUP}/{layer_of(kernel_path)}"


def around_cut_tag(side: str, name: str) -> str:
    """Tag of a metric right `"before"` or `"after"` a cut, such as `reducible/after_cut_loss`."""
    return f"reducible/{side}_cut_{name}"


def spectrum_tag(kernel_path: str) -> str:
    """Tag of a kernel's singular spectrum."""
    return f"reducible/spectrum/{layer_of(kernel_path)}"


@dataclass(frozen=True, eq=False)
class ThinnedSpectrum:
    """Some points of a singular spectrum before a cut, and where it was cut.

    Args:
        rank: Singular values kept.
        length: Singular values there were.
        positions: `(points,)` integers from 1 to `length`, rising.
        values: `(points,)` float32 singular values at these positions.
    """

    rank: int
    length: int
    positions: np.ndarray
    values: np.ndarray

    def to_tensor(self) -> np.ndarray:
        """The tensor that is written, float32 of shape `(points + 1, 2)`."""
        points = np.column_stack([self.positions, self.values])
        return np.vstack([[self.rank, self.length], points]).astype(np.float32)

    @classmethod
    def from_tensor(cls, tensor: np.ndarray) -> ThinnedSpectrum:
        """Read what `to_tensor` made.

        Raises:
            FormatError: If the array is not such a tensor.
        """
        array = np.asarray(tensor)
        if array.ndim != 2 or array.shape[1] != 2 or not len(array):
            raise FormatError(
                "A spectrum tensor has shape (points + 1, 2). "
                f"Received: shape {array.shape}. Read tensors of the plugin {PLUGIN_NAME!r} only."
            )
        header = array[0]
        positions = array[1:, 0]
        counts = np.append(header, positions)
        whole = np.isfinite(counts).all() and (counts == np.floor(counts)).all()
        ordered = whole and (np.diff(positions, prepend=0) > 0).all()
        if not ordered or not 0 <= header[0] <= header[1] or (positions > header[1]).any():
            raise FormatError(
                "A spectrum tensor begins with (rank, length), rank <= length, and its positions "
                f"rise from 1 to length at most. Received: header {header.tolist()}, positions "
                f"{positions[:4].tolist()}... . It was not written by this package; leave it out."
            )
        return cls(
            int(header[0]), int(header[1]), positions.astype(np.int64), np.asarray(array[1:, 1])
        )


def thin_spectrum(spectrum: np.ndarray, rank: int, max_points: int = MAX_POINTS) -> ThinnedSpectrum:
    """Choose the points of a spectrum worth drawing.

    Kept are the first `LEADING_POINTS`, the last value kept and the first one cut away, the
    smallest, and an even spacing between them; everything, if it is short.

    Args:
        spectrum: `(k,)` singular values, non-increasing.
        rank: How many of them the cut keeps.
        max_points: Most points to choose.

    Example:
        >>> import numpy as np
        >>> thinned = thin_spectrum(np.linspace(1, 0, 4096), rank=300)
        >>> len(thinned.positions), thinned.positions[:3], bool(300 in thinned.positions)
        (512, array([1, 2, 3]), True)
    """
    values = np.asarray(spectrum, dtype=np.float32)
    length = len(values)
    if length <= max_points:
        positions = np.arange(1, length + 1)
    else:
        around_cut = np.clip([rank, rank + 1, length], 1, length)
        leading = np.arange(1, min(LEADING_POINTS, max_points - 3) + 1)
        needed = np.union1d(leading, around_cut)
        others = np.setdiff1d(np.arange(1, length + 1), needed)
        free = max_points - len(needed)
        spaced = others[np.linspace(0, len(others) - 1, free).round().astype(int)]
        positions = np.union1d(needed, spaced)
    return ThinnedSpectrum(int(rank), length, positions, values[positions - 1])
