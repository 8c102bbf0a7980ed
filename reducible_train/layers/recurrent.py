"""Recurrent cells whose kernels are two thin factors each.

`SimpleRNN`, `LSTM` and `GRU` hold a cell; its input and its recurrent kernel are factorised
separately, and multiplied factor by factor at every step. On a GPU, Keras may hand the kernels
to cuDNN, which wants them whole: it is then given the products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from reducible_train.layers.base import LowRank, PlainKernel
from reducible_train.layers.keras_types import Biased, Tensor, Variable, ops
from reducible_train.layers.kind import Data, KernelKind, RowReader, own_bias

States = Tensor | list[Tensor] | tuple[Tensor, ...]
Step = tuple[Tensor, States]  # what a cell makes of its inputs and states
Parts = Tensor | list[Tensor]  # one tensor for all gates, or one for each of them


class Gated(Biased, Protocol):
    """What is read of a `GRUCell`."""

    reset_after: bool


# --- what is known of the dense cells -----------------------------------------------------


def _argument(kernel: str, arguments: Sequence[object]) -> object:
    """The sequence's step, or the state."""
    if kernel == "kernel":
        return arguments[0]
    states = arguments[1]
    return states[0] if isinstance(states, (list, tuple)) else states


def _input_rows(
    layer: Biased, kernel: str, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    return inputs[None]


def _gru_rows(
    layer: Gated, kernel: str, inputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """Without `reset_after`, a gate's state is not the state, but what is left of it."""
    if kernel == "recurrent_kernel" and not layer.reset_after:
        return None
    return _input_rows(layer, kernel, inputs, rng)


def _gru_bias(layer: Gated, kernel: str) -> Variable | None:
    """With `reset_after` there are two biases in one variable."""
    return None if layer.reset_after else layer.bias


def _projections(
    layer: Biased, kernel: str, outputs: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """What the kernels give, `(samples, 1, n)`; with `reset_after`, `(samples, 2, n)`, the
    recurrent kernel's last."""
    return outputs[None, :, 0 if kernel == "kernel" else -1]


_DATA = Data(RowReader(_input_rows), RowReader(_projections), bias=own_bias, argument=_argument)
_GRU_DATA = Data(RowReader(_gru_rows), RowReader(_projections), bias=_gru_bias, argument=_argument)


def _kind(dense_class: type, data: Data[Any] = _DATA) -> KernelKind:
    both = {"kernel": "kernel", "recurrent_kernel": "recurrent_kernel"}
    return KernelKind(dense_class, kernel_attributes=both, data=data)


# --- the low-rank cells -------------------------------------------------------------------


class LowRankCell(LowRank):
    """What the cells share."""

    kernel = PlainKernel()
    recurrent_kernel = PlainKernel()
    units: int
    implementation: int
    dropout: float
    recurrent_dropout: float
    get_dropout_mask: Callable[[Tensor], States | None]
    get_recurrent_dropout_mask: Callable[[Tensor], States | None]

    def gates(
        self, kernel: str, inputs: Parts, count: int, which: slice = slice(None)
    ) -> list[Tensor]:
        """What each gate gets of its inputs: `x W_k`, for gates side by side in `W`.

        Args:
            kernel: Name of the kernel.
            inputs: One tensor for all gates, or one for each of them.
            count: Gates in the kernel.
            which: The gates wanted.
        """
        units, factors = self.units, self.factors(kernel)
        u, right = (None, vars(self)[kernel]) if factors is None else factors
        chosen = range(count)[which]
        if isinstance(inputs, Sequence):
            columns = [right[:, k * units : (k + 1) * units] for k in chosen]
            left = [x if u is None else ops.matmul(x, u) for x in inputs]
            return [ops.matmul(x, c) for x, c in zip(left, columns, strict=True)]
        if len(chosen) < count:
            right = right[:, chosen.start * units : chosen.stop * units]
        x = ops.matmul(inputs if u is None else ops.matmul(inputs, u), right)
        return [x] if len(chosen) == 1 else ops.split(x, len(chosen), axis=-1)

    def _dropped(
        self, inputs: Tensor, state: Tensor, count: int, training: bool
    ) -> tuple[Parts, Parts]:
        """Inputs and state of the gates, with what dropout leaves of them in training."""
        x: Parts = inputs
        h: Parts = state
        if training and 0.0 < self.dropout < 1.0:
            x = _masked(inputs, self.get_dropout_mask(inputs), count)
        if training and self.implementation == 1 and 0.0 < self.recurrent_dropout < 1.0:
            h = _masked(state, self.get_recurrent_dropout_mask(state), count)
        return x, h


def _masked(x: Tensor, mask: States | None, count: int) -> Parts:
    """A tensor, or one for each gate where each gate has a mask of its own."""
    if mask is None:
        return x
    if isinstance(mask, (list, tuple)):
        return [x * mask[k] for k in range(count)]
    return x * mask


def _first(states: States) -> Tensor:
    return states[0] if isinstance(states, (list, tuple)) else states


def _added(left: Sequence[Tensor], right: Sequence[object]) -> list[Tensor]:
    return [ops.add(a, b) for a, b in zip(left, right, strict=True)]


@keras.saving.register_keras_serializable("reducible_train")
class LowRankSimpleRNNCell(LowRankCell, keras.layers.SimpleRNNCell):
    """A `SimpleRNNCell` with kernels `W ~ U V`.

    Args:
        units: As of `keras.layers.SimpleRNNCell`, whose other arguments follow.
        rank: Rank of the factors, or a mapping `{"kernel": r, "recurrent_kernel": s}`.
    """

    kernel_kind = _kind(keras.layers.SimpleRNNCell)

    def call(self, sequence: Tensor, states: States, training: bool = False) -> Step:
        before = _first(states)
        masks = self.get_dropout_mask(sequence), self.get_recurrent_dropout_mask(before)
        if training:
            sequence, before = (
                x if mask is None else x * mask
                for x, mask in zip((sequence, before), masks, strict=True)
            )
        output = self.multiply(sequence, "kernel")
        if self.bias is not None:
            output = ops.add(output, self.bias)
        output = output + self.multiply(before, "recurrent_kernel")
        if self.activation is not None:
            output = self.activation(output)
        return output, [output] if isinstance(states, (list, tuple)) else output


@keras.saving.register_keras_serializable("reducible_train")
class LowRankLSTMCell(LowRankCell, keras.layers.LSTMCell):
    """An `LSTMCell` with kernels `W ~ U V`; the gates share `U`.

    Args:
        units: As of `keras.layers.LSTMCell`, whose other arguments follow.
        rank: Rank of the factors, or a mapping `{"kernel": r, "recurrent_kernel": s}`.

    Example:
        >>> cell = LowRankLSTMCell(16, rank={"recurrent_kernel": 3})
        >>> cell.build((None, 8))
        >>> [tuple(v.shape) for v in cell.trainable_variables]
        [(8, 64), (64,), (16, 3), (3, 64)]
    """

    kernel_kind = _kind(keras.layers.LSTMCell)

    def call(
        self, inputs: Tensor, states: Sequence[Tensor], training: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        before, carry = states
        x, h = self._dropped(inputs, before, 4, training)
        z = _added(self.gates("kernel", x, 4), self.gates("recurrent_kernel", h, 4))
        if self.use_bias:
            z = _added(z, ops.split(self.bias, 4, axis=-1))
        i, f, o = (self.recurrent_activation(z[k]) for k in (0, 1, 3))
        carry = f * carry + i * self.activation(z[2])
        hidden = o * self.activation(carry)
        return hidden, [hidden, carry]


@keras.saving.register_keras_serializable("reducible_train")
class LowRankGRUCell(LowRankCell, keras.layers.GRUCell):
    """A `GRUCell` with kernels `W ~ U V`; the gates share `U`.

    Args:
        units: As of `keras.layers.GRUCell`, whose other arguments follow.
        rank: Rank of the factors, or a mapping `{"kernel": r, "recurrent_kernel": s}`.
    """

    kernel_kind = _kind(keras.layers.GRUCell, _GRU_DATA)

    def call(self, inputs: Tensor, states: States, training: bool = False) -> Step:
        before = _first(states)
        dropped, parts = self._dropped(inputs, before, 3, training)
        x = self.gates("kernel", dropped, 3)
        inner: Sequence[object] = [0.0, 0.0, 0.0]
        if self.use_bias:
            bias, inner_bias = self.bias, None
            if self.reset_after:
                bias, inner_bias = (ops.squeeze(b, 0) for b in ops.split(self.bias, 2, axis=0))
                inner = ops.split(inner_bias, 3, axis=-1)
            x = _added(x, ops.split(bias, 3, axis=-1))
        if self.reset_after:
            y = _added(self.gates("recurrent_kernel", parts, 3), inner)
        else:
            first = parts[:2] if isinstance(parts, list) else parts
            y = self.gates("recurrent_kernel", first, 3, slice(0, 2))
        update, reset = (self.recurrent_activation(ops.add(x[k], y[k])) for k in (0, 1))
        if self.reset_after:
            candidate = reset * y[2]
        else:
            last = reset * (parts[2] if isinstance(parts, list) else parts)
            (candidate,) = self.gates("recurrent_kernel", last, 3, slice(2, 3))
        hidden = update * before + (1 - update) * self.activation(ops.add(x[2], candidate))
        return hidden, [hidden] if isinstance(states, (list, tuple)) else hidden
