"""How the factors of a kernel are spread over devices."""

from __future__ import annotations

from reducible_train import _keras
from reducible_train.linalg.matricization import Matricization


def layouts_at_rank(
    view: Matricization, path: str, shape: tuple[int, ...], rank: int
) -> dict[str, object]:
    """Layouts of the factors of a kernel, by path; none where nothing is distributed.

    Args:
        view: How kernel and factors are seen as matrices.
        path: Keras's path of the dense kernel variable.
        shape: Its shape.
        rank: Rank of the factors.

    Raises:
        ValueError: A map of layouts has several entries for a factor, or one with other axes.
    """
    u_shape, v_shape = view.factor_shapes(shape, rank)
    factors = {f"{path}_u": u_shape, f"{path}_v": v_shape}
    return _keras.factor_layouts((path, shape), factors, view.inherited)
