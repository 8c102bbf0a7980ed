"""What is known of the dense layers of a class, as one frozen record of functions.

A `KernelKind` holds no state and changes nothing: it answers questions about a layer of Keras's
and its kernels, dense or factorised. What a kind cannot tell is `None`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from reducible_train import _keras
from reducible_train.errors import ArgumentTypeError
from reducible_train.layers.keras_types import Biased, Layer, Options, PartialShape, Variable
from reducible_train.layers.uses import Uses
from reducible_train.linalg.matricization import Matricization

if TYPE_CHECKING:
    from reducible_train.layers.stock import StockLayer


@runtime_checkable
class Assigned(Protocol):
    """A variable, of Keras's or of the backend."""

    def assign(self, value: Any, /) -> Any: ...


L = TypeVar("L", bound=Layer, contravariant=True)

# Of a layer, the name of a kernel, an array of a call, and what draws a sample of many rows.
ReadRows = Callable[[L, str, np.ndarray, np.random.Generator], np.ndarray | None]
# Of a layer, the name of a kernel, the array it meets, and all arguments of the call.
ReadChoices = Callable[[L, str, np.ndarray, Sequence[object]], np.ndarray | None]
# Of a layer, the name of a kernel, a split, the shape of the inputs, and switches of the call.
CountUses = Callable[[L, str, str, PartialShape, Options], Uses | None]


@dataclass(frozen=True)
class RowReader(Generic[L]):
    """How an array of a call is seen as the rows that the matrices of a kernel meet.

    Args:
        read: Gives the rows `(g, rows, k)`, where they are many a sample of them; `None` where
            they are not known.
        weights: Gives how much each of the rows counts, `(g, rows)`, of weights shaped as the
            array; if not given, as much as any number in it does.
    """

    read: ReadRows[L]
    weights: ReadRows[L] | None = None

    def __post_init__(self) -> None:
        _check_functions(self, "read", "weights")

    def weigh(
        self, layer: L, kernel: str, weights: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        """How much each of the rows counts, `(g, rows)`."""
        if self.weights is not None:
            return self.weights(layer, kernel, weights, rng)
        rows = self.read(layer, kernel, weights, rng)
        return None if rows is None else rows.max(axis=-1)


def first_argument(kernel: str, arguments: Sequence[object]) -> object:
    """The first argument of the layer's call."""
    return arguments[0]


def no_bias(layer: Layer, kernel: str) -> Variable | None:
    """None."""
    return None


def own_bias(layer: Biased, kernel: str) -> Variable | None:
    """The bias of the layer, if it has one."""
    return layer.bias


@dataclass(frozen=True)
class Data(Generic[L]):
    """How the data that passes through a layer meets its kernels.

    Args:
        inputs: The inputs as rows that the matrices multiply, `(g, rows, m)`.
        outputs: The outputs before the activation, or their gradients, as rows `(g, rows, n)`.
        choices: In place of rows, which rows of the kernel the inputs of a call choose.
        bias: The variable with a number for every output, `(g, n)` in order, if there is one.
        argument: Which argument of the layer's call a kernel meets; `None` where it meets none.
        axis: The axis of the layer's outputs along which those of the kernel lie, `(g, n)` in
            order; not given where they lie otherwise, or something comes between.
    """

    inputs: RowReader[L] | None = None
    outputs: RowReader[L] | None = None
    choices: ReadChoices[L] | None = None
    bias: Callable[[L, str], Variable | None] = no_bias
    argument: Callable[[str, Sequence[object]], object] = first_argument
    axis: Callable[[L], int] | None = None

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs"):
            reader = getattr(self, name)
            if not isinstance(reader, RowReader | None):
                raise ArgumentTypeError(
                    f"`{name}` of Data must be a RowReader. Received: {reader!r}. Write "
                    f"{name}=RowReader(...), of a function that gives rows."
                )
        _check_functions(self, "choices", "bias", "argument", "axis")


def as_it_is(layer: Layer, kernel: str, split: str) -> Matricization:
    """A kernel of two axes, inputs and outputs."""
    return Matricization("io", "ir", "ro")


def last_axis(layer: Layer) -> int:
    """The last one."""
    return -1


def along_the_last_axis(
    layer: Layer, kernel: str, split: str, inputs: PartialShape, options: Options
) -> Uses | None:
    """Uses by a kernel that multiplies the last axis of its inputs."""
    return alike(inputs[1:-1])


@dataclass(frozen=True, eq=False)
class KernelKind:
    """What is asked of the dense layers of one class, and of their kernels.

    Args:
        dense_class: The class of the layers.
        kernel_attributes: Name of each kernel, and the attribute that holds its variable.
        leading_variables: Attributes of variables that the class has before its kernels.
        splits: Ways to split a kernel in two, the usual one first.
        matricization: How a kernel and its factors are seen as matrices in a split.
        possible_splits: Those of the splits that one very kernel can have; all if not given.
        fault: Why a kernel must stay dense, beside what is asked of every kind; or `None`.
        gives_output: Whether a kernel makes outputs of its layer; all do if not given.
        uses: How often a sample uses each number of a kernel; `None` where that is not known.
        data: How the data that passes through the layer meets the kernels.
        stock: Stock layers of Keras's that do the same as a factorised layer when called one
            after the other; without it, `to_stock_layers` refuses the layer.
    """

    dense_class: type
    kernel_attributes: Mapping[str, str] = field(default_factory=lambda: {"kernel": "_kernel"})
    leading_variables: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("",)
    matricization: Callable[[Any, str, str], Matricization] = as_it_is
    possible_splits: Callable[[Any, str], tuple[str, ...]] | None = None
    fault: Callable[[Any, str], str | None] | None = None
    gives_output: Callable[[Any, str], bool] | None = None
    uses: CountUses[Any] = along_the_last_axis
    data: Data[Any] = field(default_factory=Data)
    stock: Callable[[Any], list[StockLayer]] | None = None

    def __post_init__(self) -> None:
        owner = f"the kind of {self.dense_class.__name__}"
        if not isinstance(self.kernel_attributes, Mapping) or not self.kernel_attributes:
            raise ArgumentTypeError(
                f"`kernel_attributes` of {owner} must be a mapping. Received: "
                f"{self.kernel_attributes!r}. Write for example {{'kernel': '_kernel'}}."
            )
        if not isinstance(self.splits, tuple | list) or not self.splits:
            raise ArgumentTypeError(
                f"`splits` of {owner} must be names, at least one. Received: "
                f"{self.splits!r}. Leave it out for a kernel of two axes."
            )
        if not isinstance(self.data, Data):
            raise ArgumentTypeError(
                f"`data` of {owner} must be a Data. Received: {self.data!r}. Write "
                "data=Data(inputs=RowReader(...))."
            )
        functions = ("matricization", "uses", "possible_splits", "fault", "gives_output", "stock")
        _check_functions(self, *functions)

    def splits_of(self, layer: Layer, kernel: str) -> tuple[str, ...]:
        """The splits that this very kernel can have, the usual one first."""
        if self.possible_splits is None:
            return self.splits
        told = self.possible_splits(layer, kernel)
        words = "names of splits, in a tuple, at least one"
        listed = told.tolist() if isinstance(told, np.ndarray) else told
        self.returned("possible_splits", listed, Sequence, words)
        named = all(isinstance(each, str) or each in self.splits for each in listed)
        if isinstance(listed, str) or not listed or not named:
            raise self.misfit("possible_splits", told, words)
        return tuple(listed)

    def refusal(self, layer: Layer, kernel: str) -> str | None:
        """Why the kernel must stay dense, or `None`."""
        told = _refusal(layer, kernel, vars(layer)[self.kernel_attributes[kernel]])
        if told is None and self.fault is not None:
            told = self.returned("fault", self.fault(layer, kernel), str | None, "a reason or None")
        return told

    def returned(self, name: str, value: Any, kind: Any, words: str) -> Any:
        """What one of its functions has returned.

        Raises:
            ArgumentTypeError: It is of another kind.
        """
        if not isinstance(value, kind):
            raise self.misfit(name, value, words)
        return value

    def misfit(self, name: str, value: Any, words: str) -> ArgumentTypeError:
        """That one of its functions has returned what it must not; `words` say what it must."""
        return ArgumentTypeError(
            f"`{name}` of the kind of {self.dense_class.__name__} must return {words}. "
            f"Received: {value!r}. Correct its function."
        )


def _check_functions(made: Any, *names: str) -> None:
    """Refuse what is no function where one is needed; `None` may be what is so by default."""
    optional = {each.name for each in fields(made) if each.default is None}
    for name in names:
        value, needed = getattr(made, name), name not in optional
        if not callable(value) and (value is not None or needed):
            raise ArgumentTypeError(
                f"`{name}` of {type(made).__name__} must be a function. Received: {value!r}. "
                f"Give one{'' if needed else ', or leave it out'}."
            )


def _refusal(layer: Layer, kernel: str, variable: Variable) -> str | None:
    """Why the kernel of a layer of any kind must stay dense, or `None`."""
    if "call" in vars(layer):
        return "its `call` was replaced by another function"
    mode = getattr(layer, "quantization_mode", None)
    if mode:
        return f"quantized to {mode}"
    if getattr(layer, "lora_enabled", False):
        return "LoRA is enabled"
    bound = (partner(layer, kernel, "constraint"), getattr(variable, "constraint", None))
    if any(each is not None for each in bound):
        return f"has a {stem(kernel)}_constraint, which factors cannot keep"
    if getattr(variable, "overwrite_with_gradient", False):
        return f"its {kernel} is overwritten with its gradient, which factors cannot be"
    built = [each for each in _keras.own_variables(layer) if each.name == kernel]
    if len(built) != 1 or built[0] is not variable:
        return f"its {kernel} is not the variable it was built with"
    if _keras.has_gradient_hooks(variable):
        return f"hooks of torch are on the gradient of its {kernel}, which factors would be without"
    return None


def partner(layer: object, kernel: str, what: str) -> Any:
    """The regularizer, constraint or initializer that a layer has for one of its kernels."""
    return getattr(layer, f"{stem(kernel)}_{what}", None)


def stem(kernel: str) -> str:
    """Keras's short name of a kernel in its arguments: `recurrent` of `recurrent_kernel`."""
    return kernel.removesuffix("_kernel")


def product_of(sizes: Sequence[int | None]) -> int | None:
    """The product of lengths; `None` where one of them is not known."""
    known = [int(size) for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def alike(positions: Sequence[int | None]) -> Uses | None:
    """Uses of numbers that meet every position once; `None` where a length is not known."""
    count = product_of(positions)
    return None if count is None else Uses.alike(count)
