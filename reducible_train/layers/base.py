"""What every low-rank layer shares: factors in place of kernels.

A low-rank layer is a subclass of a Keras layer with this mixin in front. Each of its
kernels `W` is kept as factors `U`, `V` with `W ~ U V`, or stays dense. A live Keras
layer becomes one by a change of its class, so the graph that holds it is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentError, FactorisedError, SurgeryError
from reducible_train.layers.layouts import layouts_at_rank
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization
from reducible_train.settings.checks import is_count, plain

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class StockLayer:
    """A layer of Keras's own, not built yet, and what its weights shall be.

    Args:
        layer: The layer.
        weights: A variable for each of its weights, in their order.
    """

    layer: Any
    weights: Sequence[Any]


_KINDS: dict[type, type[LowRank]] = {}


class LowRank:
    """Mixin in front of a Keras layer class; registers itself for that class.

    A subclass names the Keras class (`dense_class`) and its kernels, says how each is seen
    as matrices, and multiplies factor by factor in `call`. By hand it is made like the
    Keras layer, with one argument more: `ranks`, a number for every kernel, or a mapping
    from kernel name to number that leaves the others dense; `rank` says the same. What they
    are is in `ranks`, of every kind: `rank` of a convolution is Keras's number of spatial axes.
    """

    dense_class: ClassVar[type]
    name: str  # of the Keras layer
    # Kernel name -> the attribute that holds its variable.
    kernel_attributes: ClassVar[Mapping[str, str]] = {"kernel": "_kernel"}
    # Attributes of variables that the Keras class has before its kernels.
    leading_variables: ClassVar[tuple[str, ...]] = ()
    # Ways to split a kernel in two, the usual one first.
    splits: ClassVar[tuple[str, ...]] = ("",)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "dense_class" in cls.__dict__:
            _KINDS[cls.dense_class] = cls

    def __init__(
        self,
        *args: Any,
        ranks: Any = None,
        rank: Any = None,
        split: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if (ranks is None) == (rank is None):
            raise ArgumentError(
                f"Layer '{self.name}' takes its ranks as `ranks`, or as `rank`. Received: "
                f"ranks={ranks!r}, rank={rank!r}. Give one of the two."
            )
        rank = ranks if rank is None else rank
        names = tuple(self.kernel_attributes)
        wanted = rank if isinstance(rank, Mapping) else dict.fromkeys(names, rank)
        for name, value in wanted.items():
            if name not in names or not is_count(value):
                raise ArgumentError(_bad_rank(self, rank))
        if split is not None and split not in self.splits:
            raise ArgumentError(
                f"`split` of layer '{self.name}' must be one of "
                f"{', '.join(map(repr, self.splits))}. Received: split={split!r}."
            )
        self._keep("_wanted_ranks", {name: plain(value) for name, value in wanted.items()})
        self._keep("_wanted_split", split)

    def _keep(self, name: str, value: Any) -> None:
        """Remember a plain value where Keras does not look."""
        self.__dict__[name] = value

    # --- how a dense layer of this kind is seen ---------------------------------------

    @classmethod
    def refusal(cls, layer: Any, kernel: str) -> str | None:
        """Why the kernel must stay dense, or `None`."""
        if "call" in vars(layer):
            return "its `call` was replaced by another function"
        if getattr(layer, "quantization_mode", None):
            return f"quantized to {layer.quantization_mode}"
        if getattr(layer, "lora_enabled", False):
            return "LoRA is enabled"
        variable = vars(layer)[cls.kernel_attributes[kernel]]
        bound = (partner(layer, kernel, "constraint"), getattr(variable, "constraint", None))
        if any(each is not None for each in bound):
            return f"has a {_stem(kernel)}_constraint, which factors cannot keep"
        if getattr(variable, "overwrite_with_gradient", False):
            return f"its {kernel} is overwritten with its gradient, which factors cannot be"
        built = [each for each in _keras.own_variables(layer) if each.name == kernel]
        if len(built) != 1 or built[0] is not variable:
            return f"its {kernel} is not the variable it was built with"
        return None

    @classmethod
    def splits_of(cls, layer: Any, kernel: str) -> tuple[str, ...]:
        """The splits that this very kernel can have, the usual one first."""
        return cls.splits

    @classmethod
    def matricization(cls, layer: Any, kernel: str, split: str) -> Matricization:
        """How kernel and factors are seen as matrices: if not told, as they are."""
        return Matricization("io", "ir", "ro")

    @classmethod
    def gives_output(cls, layer: Any, kernel: str) -> bool:
        """True if a kernel may make outputs of the model where its layer does."""
        return True

    @classmethod
    def uses(cls, layer: Any, kernel: str, split: str, inputs: Shape) -> Uses | None:
        """How often a sample of input shape `inputs` (batch first) uses each number.

        `None` where the shape does not tell. The default is a kernel that multiplies the
        last axis.
        """
        return alike(inputs[1:-1])

    @classmethod
    def uses_of_call(
        cls, layer: Any, kernel: str, inputs: Shape, options: Mapping[str, Any]
    ) -> Uses | None:
        """The same where a switch of the call decides; `None` where the shape alone does."""
        return None

    # --- the data that passes through a kernel ----------------------------------------

    @classmethod
    def input_of(cls, kernel: str, arguments: Sequence[Any]) -> Any:
        """Which argument of the layer's call the kernel meets."""
        return arguments[0]

    @classmethod
    def input_rows(
        cls, layer: Any, kernel: str, inputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        """The inputs of a call as the rows that the matrices multiply, `(g, rows, m)`.

        Where they are many, a sample of them, drawn by `rng`. `None` where they are not known.
        """
        return None

    @classmethod
    def input_weights(
        cls, layer: Any, kernel: str, weights: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        """How much each of the rows counts, `(g, rows)`, of weights shaped as the inputs.

        As much as any number in it does: a row counts if one of its positions does.
        """
        rows = cls.input_rows(layer, kernel, weights, rng)
        return None if rows is None else rows.max(axis=-1)

    @classmethod
    def input_choices(
        cls, layer: Any, kernel: str, inputs: np.ndarray, arguments: Sequence[Any]
    ) -> np.ndarray | None:
        """In place of rows, which rows of the kernel the inputs of a call choose.

        `arguments` are all those that the call was given, the inputs among them.
        """
        return None

    @classmethod
    def output_rows(
        cls, layer: Any, kernel: str, outputs: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Outputs before the activation, or their gradients, as rows `(g, rows, n)`."""
        return None

    @classmethod
    def output_weights(
        cls, layer: Any, kernel: str, weights: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        """The same as `input_weights`, of weights shaped as the outputs."""
        rows = cls.output_rows(layer, kernel, weights, rng)
        return None if rows is None else rows.max(axis=-1)

    @classmethod
    def output_bias(cls, layer: Any, kernel: str) -> Any | None:
        """The variable with a number for every output, `(g, n)` in order; `None` without one."""
        return None

    # --- factors ----------------------------------------------------------------------

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each factorised kernel."""
        return {
            kernel: self.view(kernel).rank_of(tuple(self.factors(kernel)[0].shape))
            for kernel in self.kernel_attributes
            if self.factors(kernel)[0] is not None
        }

    def factors(self, kernel: str) -> tuple[Any, Any]:
        """The variables `U` and `V` of a kernel; `(None, None)` while it is dense."""
        return vars(self).get(f"{kernel}_u"), vars(self).get(f"{kernel}_v")

    def split_of(self, kernel: str) -> str:
        """The split of a factorised kernel."""
        return vars(self).get(f"_split_of_{kernel}", self.splits[0])

    def dense_file_bytes(self, kernel: str) -> float | None:
        """What a factorised kernel took in the compact file while dense; `None` if not known."""
        return vars(self).get(f"_dense_file_bytes_of_{kernel}")

    def keep_dense_file_bytes(self, kernel: str, count: float) -> None:
        """Remember that: factors do not tell it."""
        self._keep(f"_dense_file_bytes_of_{kernel}", count)

    def view(self, kernel: str) -> Matricization:
        """How the kernel and its factors are seen as matrices."""
        return self.matricization(self, kernel, self.split_of(kernel))

    def install_factors(
        self,
        kernel: str,
        rank: int,
        u_initializer: Callable[..., Any],
        v_initializer: Callable[..., Any],
        split: str | None = None,
    ) -> tuple[list[Any], list[Any]]:
        """Put factors of `rank` in place of a kernel, or of its present factors.

        Args:
            kernel: Name of the kernel, one of `kernel_attributes`.
            rank: Rank of the factors.
            u_initializer: Called with shape and dtype for the values of `U`.
            v_initializer: The same for `V`.
            split: How the kernel is split; as it is, or the usual way, if not given.

        Returns:
            The variables that left, and those that came.
        """
        old = self._present(kernel)
        dense_shape = self._dense_shape(kernel, old)
        self._keep(f"_split_of_{kernel}", self.split_of(kernel) if split is None else split)
        if len(old) == 1 and old[0].regularizer is not partner(self, kernel, "regularizer"):
            self._keep(f"_regularizer_of_{kernel}", old[0].regularizer)  # set after `build`
        u_shape, v_shape = self.view(kernel).factor_shapes(dense_shape, rank)
        wanted = {
            f"{kernel}_u": (u_shape, u_initializer),
            f"{kernel}_v": (v_shape, v_initializer),
        }
        path = f"{old[0].path.rpartition('/')[0]}/{kernel}"
        with _keras.laid_out(layouts_at_rank(self.view(kernel), path, dense_shape, rank)):
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
        new = self._replace(old, {kernel: (self._dense_shape(kernel, old), initializer)})
        new[0].regularizer = self._regularizer_of(kernel)
        vars(self).pop(f"_regularizer_of_{kernel}", None)
        for suffix in "uv":
            _keras.drop_attribute(self, f"{kernel}_{suffix}")
        for kept in ("_split_of_", "_dense_file_bytes_of_"):
            vars(self).pop(f"{kept}{kernel}", None)
        if not self.ranks:
            vars(self).pop("_product_weight", None)
        _keras.set_unlocked(self, self.kernel_attributes[kernel], new[0])
        attributes = (*self.leading_variables, *self.kernel_attributes.values())
        first = [vars(self).get(attribute) for attribute in attributes]
        factors = [v for name in self.kernel_attributes for v in self.factors(name)]
        _keras.order_variables(self, first=first, last=factors)
        return old, new

    def _regularizer_of(self, kernel: str) -> Any | None:
        """What regularizes the product: what the kernel itself had, where that was changed."""
        own = partner(self, kernel, "regularizer")
        return vars(self).get(f"_regularizer_of_{kernel}", own)

    def _present(self, kernel: str) -> list[Any]:
        factors = self.factors(kernel)
        return [vars(self)[self.kernel_attributes[kernel]]] if factors[0] is None else [*factors]

    def _dense_shape(self, kernel: str, variables: list[Any]) -> Shape:
        shapes = [tuple(int(size) for size in variable.shape) for variable in variables]
        return shapes[0] if len(shapes) == 1 else self.view(kernel).kernel_shape(*shapes)

    def _replace(
        self, old: list[Any], wanted: Mapping[str, tuple[Shape, Callable[..., Any]]]
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
            return vars(self).get(self.kernel_attributes[kernel])
        left, right = _value(u), _value(v)
        product = self.view(kernel).product(left, right, keras.ops)
        return keras.ops.cast(product, left.dtype)  # torch: `matmul` of float64 gives float32

    def multiply(self, inputs: Any, kernel: str) -> Any:
        """`(x U) V`, or `x W` while the kernel is dense; for kernels of two axes."""
        u, v = self.factors(kernel)
        if u is None:
            return keras.ops.matmul(inputs, vars(self)[self.kernel_attributes[kernel]])
        return keras.ops.matmul(keras.ops.matmul(inputs, u), v)

    def add_bias(self, outputs: Any) -> Any:
        """Add a bias of one axis along the last axis, if there is one; then activate."""
        if self.bias is not None:  # type: ignore[attr-defined]
            outputs = keras.ops.add(outputs, self.bias)  # type: ignore[attr-defined]
        if self.activation is not None:  # type: ignore[attr-defined]
            outputs = self.activation(outputs)  # type: ignore[attr-defined]
        return outputs

    # --- a layer made by hand, or from its configuration ------------------------------

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)  # type: ignore[misc]
        split = vars(self).get("_wanted_split")
        for kernel, rank in vars(self).get("_wanted_ranks", {}).items():
            if vars(self).get(self.kernel_attributes[kernel]) is None:
                continue  # the layer does without it
            chosen = self.splits_of(self, kernel)[0] if split is None else split
            shape = self._dense_shape(kernel, self._present(kernel))
            _, m, n = self.matricization(self, kernel, chosen).stack_shape(shape)
            if rank > min(m, n):
                raise ArgumentError(
                    f"`rank` of layer '{self.name}' must be at most full rank, min(m, n) = "
                    f"{min(m, n)} for a kernel matrix of shape ({m}, {n}). "
                    f"Received: rank={rank} for its {kernel}."
                )
            self.install_factors(
                kernel,
                rank,
                partner(self, kernel, "initializer"),
                keras.initializers.RandomNormal(stddev=math.sqrt(1 / rank)),
                chosen,
            )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()  # type: ignore[misc]
        ranks = self.ranks or dict(vars(self).get("_wanted_ranks", {}))
        alone = len(self.kernel_attributes) == 1
        config["ranks"] = next(iter(ranks.values()), None) if alone else ranks
        if len(self.splits) > 1:
            kernel = next(iter(self.kernel_attributes))
            config["split"] = (
                self.split_of(kernel) if self.ranks else vars(self).get("_wanted_split")
            )
        return config

    # --- leaving ----------------------------------------------------------------------

    def stock_layers(self) -> list[StockLayer]:
        """Stock layers that do the same when called one after the other.

        Empty for a kind that has no such form; then `to_stock_layers` refuses the layer.
        """
        return []

    def dense_config(self) -> dict[str, Any]:
        """The configuration of the dense layer, but for what regularizes the product."""
        config = self.dense_class.get_config(self)  # type: ignore[attr-defined]
        return config | {f"{_stem(kernel)}_regularizer": None for kernel in self.ranks}

    def stock_arguments(self) -> dict[str, Any]:
        """Arguments of the stock layer that holds `U` in front of the one that holds `V`."""
        return {
            "name": f"{self.name}_u",
            "dtype": self.dtype_policy,  # type: ignore[attr-defined]
            "trainable": self.trainable,  # type: ignore[attr-defined]
        }

    def in_two(self, first: Any, second: Any, kernel: str = "kernel") -> list[StockLayer]:
        """Two stock layers that hold `U`, and `V` with the bias."""
        u, v = self.factors(kernel)
        bias = getattr(self, "bias", None)
        return [StockLayer(first, [u]), StockLayer(second, [v] if bias is None else [v, bias])]

    # --- hooks of Keras ---------------------------------------------------------------

    def penalize_product(self, weight: float) -> bool:
        """Add `weight * ||U V||_F^2` of each factorised kernel to the losses; 0 takes it away.

        Returns:
            True if that changes anything.
        """
        changed = weight != vars(self).get("_product_weight", 0.0)
        self._keep("_product_weight", weight)
        return changed

    def _get_own_losses(self) -> list[Any]:
        """Regularize the product: each kernel's regularizer is given `U V`."""
        losses = super()._get_own_losses()  # type: ignore[misc]
        weight = vars(self).get("_product_weight", 0.0)
        extra = keras.regularizers.L2(weight) if weight else None
        for kernel in self.kernel_attributes:
            u, v = self.factors(kernel)
            if u is None or not u.trainable:
                continue
            for regularizer in (self._regularizer_of(kernel), extra):
                if regularizer is not None:
                    losses.append(regularizer_of_product(regularizer, u, v, self, kernel))
        return losses

    def save_own_variables(self, store: Any) -> None:
        for variable in _keras.own_variables(self):
            store[variable.name] = variable
        _keras.note_place(store, self, self.dense_class)

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
        raise FactorisedError(_unsupported(self, "quantization", "quantize"))


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
        left, right = layer.view(kernel).grams(_value(u), _value(v), keras.ops)
        return keras.ops.cast(regularizer.l2, left.dtype) * keras.ops.sum(left * right)
    return regularizer(layer.product(kernel))


def partner(layer: Any, kernel: str, what: str) -> Any:
    """The regularizer, constraint or initializer that a layer has for one of its kernels."""
    return getattr(layer, f"{_stem(kernel)}_{what}", None)


def _stem(kernel: str) -> str:
    """Keras's short name of a kernel in its arguments: `recurrent` of `recurrent_kernel`."""
    return kernel.removesuffix("_kernel")


def _bad_rank(layer: Any, rank: Any) -> str:
    names = ", ".join(map(repr, layer.kernel_attributes))
    return (
        f"`rank` of layer '{layer.name}' must be a positive integer, or a mapping from kernels "
        f"({names}) to positive integers. Received: rank={rank!r}."
    )


def _value(variable: Any) -> Any:
    return keras.ops.convert_to_tensor(variable)


def product_of(sizes: Sequence[int | None]) -> int | None:
    """The product of lengths; `None` where one of them is not known."""
    if any(size is None for size in sizes):
        return None
    return math.prod(int(size) for size in sizes if size is not None)


def alike(positions: Sequence[int | None]) -> Uses | None:
    """Uses of numbers that meet every position once; `None` where a length is not known."""
    count = product_of(positions)
    return None if count is None else Uses.alike(count)


class PlainKernel:
    """A kernel that Keras keeps in a plain attribute; read, it is `U V` once factorised."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        return self if layer is None else layer.product(self.name)

    def __set__(self, layer: Any, value: Any) -> None:
        vars(layer)[self.name] = value


def low_rank_class(layer: Any) -> type[LowRank] | None:
    """The low-rank class for a layer: of exactly the classes that are known."""
    if isinstance(layer, LowRank):
        return type(layer)
    return _KINDS.get(type(layer))


def dense_classes() -> dict[type, type[LowRank]]:
    """Every Keras class that can be factorised, with its low-rank class."""
    return dict(_KINDS)
