"""Moments of few samples, as they are and shrunk: the error of a kernel's outputs on other samples.

784-128-128-128-10 is trained; its kernels are cut by the covariances of their inputs, taken from
512 or from 4096 samples, and the lost share of the variance of their outputs is that on samples of
the validation split. Covariances are inverted with hardly a floor, with the package's (a hundredth
of the mean eigenvalue), or after oracle approximating shrinkage.

Reference: Ledoit and Wolf, *A well-conditioned estimator for large-dimensional covariance
matrices*, Journal of Multivariate Analysis 2004; Chen, Wiesel, Eldar and Hero, *Shrinkage
algorithms for MMSE covariance estimation*, IEEE Transactions on Signal Processing 2010.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from common import command, console, finish, load, network, parser, show, spread, train

from reducible_train.linalg.metric import Metric, ridged
from reducible_train.linalg.moments import Moments
from reducible_train.linalg.weighted_svd import weigh
from reducible_train.selection.samples import Samples
from reducible_train.selection.statistics import collect
from reducible_train.selection.survey import survey

TINY = 1e-9  # of the mean eigenvalue: so that it can be inverted
COUNTS = (512, 4096)


def shrunk(moments: Moments) -> np.ndarray:
    """The covariance drawn to its mean eigenvalue, by oracle approximating shrinkage."""
    covariance, count = moments.covariance, moments.count
    size, trace = len(covariance), float(np.trace(covariance))
    squares = float((covariance**2).sum())
    above = (1 - 2 / size) * squares + trace**2
    below = (count + 1 - 2 / size) * (squares - trace**2 / size)
    weight = min(1.0, above / below) if below > 0 else 1.0
    return (1 - weight) * covariance + weight * trace / size * np.eye(size)


WAYS: dict[str, Callable[[Moments], np.ndarray | None]] = {
    "as they are": lambda moments: ridged(moments.covariance, TINY),
    "with the package's floor": lambda moments: ridged(moments.covariance),
    "shrunk": lambda moments: ridged(shrunk(moments), TINY),
    "shrunk, with the floor": lambda moments: ridged(shrunk(moments)),
}


def lost(matrix: np.ndarray, weight: np.ndarray | None, held: np.ndarray, rank: int) -> float:
    """Share of the outputs' variance, by covariance `held`, that a cut by a weight loses."""
    u, v = weigh([matrix], Metric(inputs=weight)).factors(rank)
    judge = Metric(inputs=ridged(held, TINY))
    return judge.squared(matrix - u @ v) / judge.squared(matrix)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--fractions", type=float, nargs="+", default=[0.5, 0.2, 0.1])
    options.set_defaults(seeds=3)
    args = options.parse_args()
    console.print(f"$ {command()}")
    data = load(args.data)
    found: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        model = train(
            lambda features: network(features, (128, 128, 128)),
            data,
            seed=seed,
            epochs=4,
            batch_size=128,
            learning_rate=1e-3,
        )
        kernels = [each.kernel for each in survey(model).compressible]
        held = collect(model, kernels, Samples(data.x_val), ("inputs",))
        for count in COUNTS:
            some = np.random.default_rng(seed).permutation(len(data.x_train))[:count]
            seen = collect(model, kernels, Samples(data.x_train[some]), ("inputs",))
            for (name, way), fraction in itertools.product(WAYS.items(), args.fractions):
                errors = []
                for kernel in kernels:
                    ((matrix,),) = kernel.matrices()
                    m, n = matrix.shape
                    rank = int(fraction * m * n / (m + n))
                    moments = seen[kernel.path][0].inputs
                    errors.append(
                        lost(matrix, way(moments), held[kernel.path][0].inputs.covariance, rank)
                    )
                key = f"{name}, {count} samples, {100 * fraction:g} % of the parameters"
                found.setdefault(key, []).append(100 * float(np.mean(errors)))
    rows = [[key, spread(values, 3)] for key, values in found.items()]
    show("lost share of the outputs' variance, %, on samples of validation", ["", "lost"], rows)
    finish({"seeds": args.seeds, "figures": found})


if __name__ == "__main__":
    main()
