"""Names and layouts of what is written for TensorBoard, with neither Keras nor protobufs.

Scalars, one point an epoch, grouped by the stock dashboards at the first `/`. Where ranks change
after the last epoch, as when a cut is undone then, those of sizes, ranks, energies kept and quality
have a point more: of the model as it is left.

| tag | value |
|---|---|
| `reducible/params`, `reducible/params_fraction` | parameters of the model; over dense |
| `reducible/flops_fraction` | FLOPs of one sample, over dense |
| `reducible/val_<metric>` | the validation metric measured at these sizes |
| `reducible/train_<metric>` | the same of the training data, where nothing is validated |
| `reducible/quality` | the one metric that the HParams dashboard compares fits by |
| `reducible/undone_cuts` | cuts that the guard has undone so far |
| `reducible_rank/<layer path>` | rank in force; the full rank while dense |
| `reducible_energy_kept/<layer path>` | energy kept since the start; 1 while dense |
| `reducible_cut_energy/<layer path>` | energy kept by the last cut of this epoch alone |
| `reducible_cut_error/<layer path>` | share of the variance of the kernel's outputs that it lost |
| `reducible/output_error` | what the cut did to the outputs of the model, likewise |
| `reducible/before_cut_<metric>`, `reducible/after_cut_<metric>` | loss and metrics around it |

Texts: `reducible/configuration`, what was asked for; `reducible/cuts`, each cut and each that
was undone, in a sentence.

Tensors of the plugin `reducible`, for its tab:

| tag | value |
|---|---|
| `reducible/spectrum/<layer path>` | singular values before an epoch's last cut, thinned |
| `reducible/outcome` | JSON: the model as it is, what was asked and reached; the last counts |
| `reducible/decisions` | JSON: the cuts of an epoch, and those undone in it |
| `reducible/analysis` | JSON: an `Analysis` without its spectra, where one was given |

A spectrum, a `ThinnedSpectrum`, is float32 of shape `(points + 2, 2)`: row 0 is `(rank kept,
full length)`, row 1 `(-effective rank, noise edge)`, each other row `(position, singular
value)`, with positions counted from 1 and rising. The minus tells row 1 from a position; logs
of before do not have it. All is in one tensor because a server samples each tag separately.
Logs of before also have `reducible_energy/<layer path>` for `reducible_cut_energy`, and no
JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reducible_train.errors import FormatError

PLUGIN_NAME = "reducible"
RUN = "reducible"  # folder below the log folder: a run of its own, with one writer

PARAMS = "reducible/params"
PARAMS_FRACTION = "reducible/params_fraction"
FLOPS_FRACTION = "reducible/flops_fraction"
CONFIGURATION = "reducible/configuration"
QUALITY = "reducible/quality"
CUTS = "reducible/cuts"
UNDONE_CUTS = "reducible/undone_cuts"
RANK_GROUP = "reducible_rank"
ENERGY_KEPT_GROUP = "reducible_energy_kept"
CUT_ENERGY_GROUP = "reducible_cut_energy"
CUT_ERROR_GROUP = "reducible_cut_error"
OUTPUT_ERROR = "reducible/output_error"
OUTCOME = "reducible/outcome"
DECISIONS = "reducible/decisions"
ANALYSIS = "reducible/analysis"

FORMAT = 1  # of the JSON; a reader refuses a higher one

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


def energy_kept_tag(kernel_path: str) -> str:
    """Tag of the energy that a kernel has kept since the start."""
    return f"{ENERGY_KEPT_GROUP}/{layer_of(kernel_path)}"


def cut_energy_tag(kernel_path: str) -> str:
    """Tag of the energy kept by one cut of a kernel alone."""
    return f"{CUT_ENERGY_GROUP}/{layer_of(kernel_path)}"


def cut_error_tag(kernel_path: str) -> str:
    """Tag of what a kernel's cut did to its outputs."""
    return f"{CUT_ERROR_GROUP}/{layer_of(kernel_path)}"


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
        effective_rank: How many values count, of the whole spectrum; `None` where not known.
        noise_edge: Where the singular values of noise of the same energy would end; likewise.
    """

    rank: int
    length: int
    positions: np.ndarray
    values: np.ndarray
    effective_rank: float | None = None
    noise_edge: float | None = None

    def to_tensor(self) -> np.ndarray:
        """The tensor that is written, float32; of two columns, as the head of the module says."""
        header: list[list[float]] = [[self.rank, self.length]]
        if self.effective_rank and self.noise_edge is not None:
            header.append([-self.effective_rank, self.noise_edge])
        points = np.column_stack([self.positions, self.values])
        return np.vstack([header, points]).astype(np.float32)

    @classmethod
    def from_tensor(cls, tensor: np.ndarray) -> ThinnedSpectrum:
        """Read what `to_tensor` made.

        Raises:
            FormatError: If the array is not such a tensor.
        """
        array = np.asarray(tensor)
        if array.ndim != 2 or array.shape[1] != 2 or not len(array):
            raise FormatError(
                "A spectrum tensor has shape (rows, 2). "
                f"Received: shape {array.shape}. Read tensors of the plugin {PLUGIN_NAME!r} only."
            )
        header, rows = array[0], array[1:]
        told: tuple[float | None, float | None] = (None, None)
        if len(rows) and rows[0, 0] < 0 and np.isfinite(rows[0]).all():
            told, rows = (-float(rows[0, 0]), float(rows[0, 1])), rows[1:]
        positions = rows[:, 0]
        counts = np.append(header, positions)
        whole = np.isfinite(counts).all() and (counts == np.floor(counts)).all()
        ordered = whole and (np.diff(positions, prepend=0) > 0).all()
        if not ordered or not 0 <= header[0] <= header[1] or (positions > header[1]).any():
            raise FormatError(
                "A spectrum tensor begins with (rank, length), rank <= length, and its positions "
                f"rise from 1 to length at most. Received: header {header.tolist()}, positions "
                f"{positions[:4].tolist()}... . It was not written by this package; leave it out."
            )
        whole_positions = positions.astype(np.int64)
        return cls(int(header[0]), int(header[1]), whole_positions, np.asarray(rows[:, 1]), *told)


def to_json(values: Mapping[str, Any]) -> str:
    """Text of plain values, with the version of their form; `null` for NaN and infinity.

    Example:
        >>> to_json({"loss": float("nan"), "size": 0.12345678})
        '{"format":1,"loss":null,"size":0.123457}'
    """
    plain = {"format": FORMAT} | {name: _plain(value) for name, value in values.items()}
    return json.dumps(plain, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """As JSON has it: numbers to six figures, without those that are not finite."""
    if value is None or type(value) in (str, int, bool):  # most of them
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def from_json(text: str | bytes) -> dict[str, Any]:
    """The values that `to_json` made a text of.

    Raises:
        FormatError: It is none, or one of a newer version.

    Example:
        >>> from_json('{"format": 1, "loss": null}')["loss"] is None
        True
    """
    try:
        plain: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"A JSON tensor of this package was expected. Received: something else ({error}). "
            "It was not written by this package; leave it out."
        ) from error
    found = plain.get("format") if isinstance(plain, dict) else None
    if isinstance(found, bool) or not isinstance(found, int):
        raise FormatError(
            f'A JSON tensor with its "format" was expected. Received: format {found!r}. '
            "It was not written by this package; leave it out."
        )
    if found > FORMAT:
        raise FormatError(
            f"Format {FORMAT} or an older one was expected. Received: format {found}, which a "
            "newer reducible-train has written. Update the one beside this TensorBoard."
        )
    values: dict[str, Any] = plain
    return values


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
