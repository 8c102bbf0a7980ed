"""The whole idea in numpy: train, cut by a singular value decomposition, train the factors on.

A network of one hidden layer, softmax and gradient descent on all samples at once. The tests hold
the package against it, step for step.

    python examples/in_numpy.py
"""

from __future__ import annotations

import argparse

import numpy as np

from reducible_train.datasets import load


def cut(W: np.ndarray, rank: int) -> list[np.ndarray]:
    """The two factors of the nearest matrix of that rank, singular values split evenly."""
    left, values, right = np.linalg.svd(W, full_matrices=False)
    root = np.sqrt(values[:rank])
    return [left[:, :rank] * root, root[:, None] * right[:rank]]


def step(
    x: np.ndarray, y: np.ndarray, factors: list[np.ndarray], rest: list[np.ndarray], rate: float
) -> float:
    """One step downhill, in place, of a hidden kernel that is a product; the loss before it."""
    b, head, c = rest
    inputs = [x]
    for factor in factors:
        inputs.append(inputs[-1] @ factor)
    hidden = np.maximum(inputs.pop() + b, 0)
    logits = hidden @ head + c
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(x))
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    d_logits = p / len(x)
    d = d_logits @ head.T * (hidden > 0)
    gradients = [d.sum(axis=0), hidden.T @ d_logits, d_logits.sum(axis=0)]
    for factor, given in zip(reversed(factors), reversed(inputs), strict=True):
        gradients.append(given.T @ d)
        d = d @ factor.T
    for variable, gradient in zip([*rest, *reversed(factors)], gradients, strict=True):
        variable -= rate * gradient
    return float(loss)


def train(
    x: np.ndarray, y: np.ndarray, weights: list[np.ndarray], rank: int, cut_at: int, steps: int
) -> list[float]:
    """The loss before each step; the hidden kernel, the first of the weights, is cut on the way."""
    kernel, *rest = (np.array(w, dtype="float64") for w in weights)
    factors, losses = [kernel], []
    for at in range(steps):
        if at == cut_at:
            factors = cut(kernel, rank)
        losses.append(step(x, y, factors, rest, rate=0.2))
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    data, rng = load("digits"), np.random.default_rng(0)
    shapes = [(data.features, 128), (128,), (128, data.classes), (data.classes,)]
    weights = [rng.normal(size=shape) * 0.1 for shape in shapes]
    half = args.steps // 2
    losses = train(data.x_train, data.y_train, weights, args.rank, half, args.steps)
    print(f"loss {losses[half - 1]:.4f} before the cut, {losses[half]:.4f} right after it")
    print(f"loss {losses[-1]:.4f} at the end, with {args.rank} of {data.features} ranks")


if __name__ == "__main__":
    main()
