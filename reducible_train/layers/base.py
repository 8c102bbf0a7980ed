"""What every low-rank layer shares: factors in place of kernels.

A low-rank layer is a subclass of a Keras layer with this mixin in front. Each of its
kernels `W` is kept as factors `U`, `V` with `W ~ U V`, or stays dense. A live Keras
layer becomes one by a change of its class, so the graph that holds it is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import keras

from reducible_train import _keras
from reducible_train.errors import SurgeryError

_KINDS: dict[type, type[LowRank]] = {}


class LowRank:
    """Mixin in front of a Keras layer class; registers itself for that class.

    A subclass names the Keras class (`dense_class`) and its kernels, and multiplies
    factor by factor in `call`. The defaults see a kernel of shape `(..., n)` as the
    matrix of its last axis.
    """

    dense_class: ClassVar[type]
    name: str  # of the Keras layer
    kernel_attributes: ClassVar[Mapping[str, str]] = {"kernel": "_kernel"}

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "dense_class" in cls.__dict__:
            _KINDS[cls.dense_class] = cls

    # --- how a dense layer of this kind is seen ---------------------------------------

    @classmethod
    def refusal(cls, layer: Any) -> str | None:
        """Why the layer must stay dense, or `None`."""
        if getattr(layer, "quantization_mode", None):
            return f"quantized to {layer.quantization_mode}"
        if getattr(layer, "lora_enabled", False):
            return "LoRA is enabled"
        for kernel in cls.kernel_attributes:
            if getattr(layer, f"{kernel}_constraint", None) is not None:
                return f"has a {kernel}_constraint, which factors cannot keep"
        return None

    @classmethod
    def factor_shapes(
        cls, shape: tuple[int, ...], rank: int
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Variable shapes of `U` and `V` for a kernel variable of `shape`."""
        return (*shape[:-1], rank), (rank, shape[-1])

    @classmethod
    def kernel_shape(cls, u: tuple[int, ...], v: tuple[int, ...]) -> tuple[int, ...]:
        """Variable shape of the kernel whose factors have shapes `u` and `v`."""
        return (*u[:-1], v[-1])

    @classmethod
    def matrix_shape(cls, shape: tuple[int, ...]) -> tuple[int, int]:
        """`(m, n)` of the kernel matrix of a kernel variable of `shape`."""
        return math.prod(shape[:-1]), shape[-1]

    @classmethod
    def applications(cls, kernel: str, inputs: tuple[int | None, ...]) -> int | None:
        """How often a sample of input shape `inputs` is multiplied by the kernel."""
        positions = inputs[1:-1]
        if any(size is None for size in positions):
            return None
        return math.prod(int(size) for size in positions if size is not None)

    # --- factors ----------------------------------------------------------------------

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each factorised kernel."""
        return {
            kernel: int(self.factors(kernel)[0].shape[-1])
            for kernel in self.kernel_attributes
            if self.factors(kernel)[0] is not None
        }

    def factors(self, kernel: str) -> tuple[Any, Any]:
        """The variables `U` and `V` of a kernel; `(None, None)` while it is dense."""
        return getattr(self, f"{kernel}_u", None), getattr(self, f"{kernel}_v", None)

    def install_factors(
        self,
        kernel: str,
        rank: int,
        u_initializer: Callable[..., Any],
        v_initializer: Callable[..., Any],
    ) -> tuple[list[Any], list[Any]]:
        """Put factors of `rank` in place of a kernel, or of its present factors.

        Args:
            kernel: Name of the kernel, one of `kernel_attributes`.
            rank: Rank of the factors.
            u_initializer: Called with shape and dtype for the values of `U`.
            v_initializer: The same for `V`.

        Returns:
            The variables that left, and those that came.
        """
        old = self._present(kernel)
        u_shape, v_shape = self.factor_shapes(self._dense_shape(old), rank)
        wanted = {
            f"{kernel}_u": (u_shape, u_initializer),
            f"{kernel}_v": (v_shape, v_initializer),
        }
        new = self._replace(old, wanted)
        _keras.drop_attribute(self, self.kernel_attributes[kernel])
        for name, variable in zip(wanted, new, strict=True):
            _keras.set_unlocked(self, name, variable)
        _keras.order_variables(
            self, last=[v for name in self.kernel_attributes for v in self.factors(name)]
        )
        return old, new

    def install_kernel(
        self, kernel: str, initializer: Callable[..., Any]
    ) -> tuple[list[Any], list[Any]]:
        """Put a dense kernel in place of its factors.

        Returns:
            The variables that left, and those that came.
        """
        old = self._present(kernel)
        new = self._replace(old, {kernel: (self._dense_shape(old), initializer)})
        for suffix in "uv":
            _keras.drop_attribute(self, f"{kernel}_{suffix}")
        _keras.set_unlocked(self, self.kernel_attributes[kernel], new[0])
        kernels = [getattr(self, attribute) for attribute in self.kernel_attributes.values()]
        _keras.order_variables(self, first=kernels)
        return old, new

    def _present(self, kernel: str) -> list[Any]:
        factors = self.factors(kernel)
        return [getattr(self, self.kernel_attributes[kernel])] if factors[0] is None else [*factors]

    def _dense_shape(self, variables: list[Any]) -> tuple[int, ...]:
        shapes = [tuple(int(size) for size in variable.shape) for variable in variables]
        return shapes[0] if len(shapes) == 1 else self.kernel_shape(*shapes)

    def _replace(
        self, old: list[Any], wanted: Mapping[str, tuple[tuple[int, ...], Callable[..., Any]]]
    ) -> list[Any]:
        def make() -> list[Any]:
            return [
                self.add_weight(name=name, shape=shape, dtype=old[0].dtype, initializer=values)  # type: ignore[attr-defined]
                for name, (shape, values) in wanted.items()
            ]

        new = _keras.replace_variables(self, old, make)
        for variable in new:
            variable.trainable = old[0].trainable
        return new

    def product(self, kernel: str) -> Any:
        """`U V`, in the shape of the kernel: for reading, never for computing."""
        u, v = self.factors(kernel)
        if u is None:
            return getattr(self, self.kernel_attributes[kernel])
        shape = self.kernel_shape(tuple(u.shape), tuple(v.shape))
        rank = u.shape[-1]
        product = keras.ops.matmul(
            keras.ops.reshape(u, (-1, rank)), keras.ops.reshape(v, (rank, -1))
        )
        return keras.ops.reshape(product, shape)

    # --- hooks of Keras ---------------------------------------------------------------

    def _get_own_losses(self) -> list[Any]:
        """Regularize the product: each kernel's regularizer is given `U V`."""
        losses = super()._get_own_losses()  # type: ignore[misc]
        for kernel in self.kernel_attributes:
            regularizer = getattr(self, f"{kernel}_regularizer", None)
            u, v = self.factors(kernel)
            if regularizer is None or u is None or not u.trainable:
                continue
            losses.append(regularizer_of_product(regularizer, u, v, self, kernel))
        return losses

    def save_own_variables(self, store: Any) -> None:
        for variable in _keras.own_variables(self):
            store[variable.name] = variable

    def load_own_variables(self, store: Any) -> None:
        variables = _keras.own_variables(self)
        names = {variable.name for variable in variables}
        if set(store.keys()) != names:
            raise SurgeryError(
                f"The weights of layer '{self.name}' do not fit. Expected the variables "
                f"{sorted(names)}. Received: {sorted(store.keys())}. Bring the model to the ranks "
                "of the file first, as reducible_train.load_weights_into does."
            )
        for variable in variables:
            value = store[variable.name]
            if tuple(value.shape) != tuple(variable.shape):
                raise SurgeryError(
                    f"The weights of layer '{self.name}' do not fit: `{variable.name}` has shape "
                    f"{tuple(variable.shape)}. Received: shape {tuple(value.shape)}. Bring the "
                    "model to the ranks of the file first, as "
                    "reducible_train.load_weights_into does."
                )
        for variable in variables:
            variable.assign(store[variable.name])

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        raise SurgeryError(_unsupported(self, "LoRA", "enable_lora"))

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        raise SurgeryError(_unsupported(self, "quantization", "quantize"))


def _unsupported(layer: Any, what: str, method: str) -> str:
    return (
        f"`{method}` cannot be used on layer '{layer.name}', which is factorised at rank(s) "
        f"{layer.ranks}: {what} expects one dense kernel. Call reducible_train.merge(model) "
        "first to get plain Keras layers."
    )


def regularizer_of_product(regularizer: Any, u: Any, v: Any, layer: LowRank, kernel: str) -> Any:
    """`regularizer(U V)`; for plain L2 without forming the product.

    `||U V||_F^2 = tr((U^T U) (V V^T))`, which costs `r^2 (m + n)` and not `r m n`.
    """
    if type(regularizer) is keras.regularizers.L2:
        rank = u.shape[-1]
        left = keras.ops.reshape(u, (-1, rank))
        right = keras.ops.reshape(v, (rank, -1))
        gram = keras.ops.matmul(keras.ops.transpose(left), left)
        return regularizer.l2 * keras.ops.sum(
            gram * keras.ops.matmul(right, keras.ops.transpose(right))
        )
    return regularizer(layer.product(kernel))


def low_rank_class(layer: Any) -> type[LowRank] | None:
    """The low-rank class for a layer: of exactly the classes that are known."""
    if isinstance(layer, LowRank):
        return type(layer)
    return _KINDS.get(type(layer))


def dense_classes() -> dict[type, type[LowRank]]:
    """Every Keras class that can be factorised, with its low-rank class."""
    return dict(_KINDS)
