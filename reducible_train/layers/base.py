"""What every low-rank layer shares: factors in place of kernels.

A low-rank layer is a subclass of a Keras layer with this mixin in front. Each of its
kernels `W` is kept as factors `U`, `V` with `W ~ U V`, or stays dense. A live Keras
layer becomes one by a change of its class, so the graph that holds it is not touched.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import keras

from reducible_train import _keras
from reducible_train.errors import ArgumentError, ArgumentTypeError, FactorisedError, SurgeryError
from reducible_train.layers.factor_initializer import FactorInitializer
from reducible_train.layers.install import dense_shape, install_factors
from reducible_train.layers.keras_types import Biased, Tensor, Variable, ops
from reducible_train.layers.kind import KernelKind, partner
from reducible_train.layers.named_variables import NamedVariables
from reducible_train.layers.product_losses import product_losses
from reducible_train.linalg.matricization import Matricization
from reducible_train.settings.checks import is_count, is_version, plain

_CLASSES: dict[type, type[LowRank]] = {}  # by the dense class


class LowRank(NamedVariables):
    """Mixin in front of a Keras layer class; registers itself for that class.

    A subclass says in `kernel_kind` what is known of the Keras class, and multiplies factor by
    factor in `call`. By hand it is made like the Keras layer, with one argument more: `ranks`,
    a number for every kernel, or a mapping from kernel name to number that leaves the others
    dense; `rank` says the same. What they are is in `ranks`, of every kind: `rank` of a
    convolution is Keras's number of spatial axes.
    """

    kernel_kind: ClassVar[KernelKind]

    def __init_subclass__(cls, **kwargs: object):
        super().__init_subclass__(**kwargs)
        if "kernel_kind" in vars(cls):
            dense = cls.kernel_kind.dense_class
            if not issubclass(cls, dense):
                raise ArgumentTypeError(
                    f"A low-rank class must be a subclass of LowRank and of the class that its "
                    f"kernel_kind is of, in this order. Received: {cls.__name__}, which is none of "
                    f"{dense.__name__}. Write class {cls.__name__}(LowRank, {dense.__name__})."
                )
            if _computes_as(dense, cls):
                raise ArgumentTypeError(
                    f"A low-rank class must compute with the factors in a `call` of its own. "
                    f"Received: {cls.__name__}, which has that of {dense.__name__}, with a kernel "
                    "that is not there any more. Write one, with self.multiply(inputs, 'kernel') "
                    "in place of the product with the kernel."
                )
            owner = _call_in_place_of_its_own(dense, cls)
            if owner is not None:
                raise ArgumentTypeError(
                    f"A low-rank class must compute what its dense class does. Received: "
                    f"{cls.__name__}, which has the `call` of {owner.__name__} in place of that "
                    f"of {dense.__name__}. Write one in {cls.__name__}: what {dense.__name__} "
                    "does, with self.multiply(inputs, 'kernel') as the product with the kernel."
                )
            taken = _CLASSES.get(dense, cls)
            if not is_version(cls, taken):
                raise ArgumentError(
                    "A dense class must have one low-rank class. Received: "
                    f"{cls.__name__} for {dense.__name__}, which has {taken.__name__}. Write it "
                    f"for a subclass of {dense.__name__}, and build models with that."
                )
            _CLASSES[dense] = cls

    def __init__(
        self,
        *args: object,
        ranks: object = None,
        rank: object = None,
        split: str | None = None,
        **kwargs: object,
    ):
        super().__init__(*args, **kwargs)
        if (ranks is None) == (rank is None):
            raise ArgumentError(
                f"Layer '{self.name}' takes its ranks as `ranks`, or as `rank`. Received: "
                f"ranks={ranks!r}, rank={rank!r}. Give one of the two."
            )
        rank = ranks if rank is None else rank
        names, splits = tuple(self.kernel_kind.kernel_attributes), self.kernel_kind.splits
        wanted = rank if isinstance(rank, Mapping) else dict.fromkeys(names, rank)
        for name, value in wanted.items():
            if name not in names or not is_count(value):
                raise ArgumentError(
                    f"`rank` of layer '{self.name}' must be a positive integer, or a mapping from "
                    f"kernels ({', '.join(map(repr, names))}) to positive integers. "
                    f"Received: rank={rank!r}."
                )
        if split is not None and split not in splits:
            raise ArgumentError(
                f"`split` of layer '{self.name}' must be one of "
                f"{', '.join(map(repr, splits))}. Received: split={split!r}."
            )
        # Plain values go where Keras does not look.
        vars(self)["_wanted_ranks"] = {name: plain(value) for name, value in wanted.items()}
        vars(self)["_wanted_split"] = split

    # --- factors ----------------------------------------------------------------------

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each factorised kernel."""
        return {
            kernel: self.view(kernel).rank_of(tuple(factors[0].shape))
            for kernel in self.kernel_kind.kernel_attributes
            if (factors := self.factors(kernel)) is not None
        }

    def factors(self, kernel: str) -> tuple[Variable, Variable] | None:
        """The variables `U` and `V` of a kernel; `None` while it is dense."""
        u, v = (vars(self).get(f"{kernel}_{side}") for side in "uv")
        return None if u is None or v is None else (u, v)

    def split_of(self, kernel: str) -> str:
        """The split of a factorised kernel."""
        return cast("str", vars(self).get(f"_split_of_{kernel}", self.kernel_kind.splits[0]))

    def view(self, kernel: str) -> Matricization:
        """How the kernel and its factors are seen as matrices."""
        return self.kernel_kind.matricization(self, kernel, self.split_of(kernel))

    # --- what a call is made of -------------------------------------------------------

    def product(self, kernel: str) -> Tensor:
        """`U V`, in the shape of the kernel: for reading, never for computing."""
        factors = self.factors(kernel)
        if factors is None:
            return cast("Tensor", vars(self).get(self.kernel_kind.kernel_attributes[kernel]))
        left, right = (ops.convert_to_tensor(factor) for factor in factors)
        product = self.view(kernel).product(left, right, ops)
        return ops.cast(product, left.dtype)  # torch: `matmul` of float64 gives float32

    def multiply(self, inputs: Tensor, kernel: str) -> Tensor:
        """`(x U) V`, or `x W` while the kernel is dense; for kernels of two axes."""
        factors = self.factors(kernel)
        if factors is None:
            return ops.matmul(inputs, vars(self)[self.kernel_kind.kernel_attributes[kernel]])
        u, v = factors
        return ops.matmul(ops.matmul(inputs, u), v)

    # --- a layer made by hand, or from its configuration ------------------------------

    def build(self, input_shape: object = None) -> None:
        super().build(input_shape)
        kind, split = self.kernel_kind, vars(self).get("_wanted_split")
        for kernel, rank in vars(self).get("_wanted_ranks", {}).items():
            if vars(self).get(kind.kernel_attributes[kernel]) is None:
                continue  # the layer does without it
            chosen = kind.splits_of(self, kernel)[0] if split is None else split
            shape = dense_shape(self, kernel)
            _, m, n = kind.matricization(self, kernel, chosen).stack_shape(shape)
            if rank > min(m, n):
                raise ArgumentError(
                    f"`rank` of layer '{self.name}' must be at most full rank, min(m, n) = "
                    f"{min(m, n)} for a kernel matrix of shape ({m}, {n}). "
                    f"Received: rank={rank} for its {kernel}."
                )
            install_factors(
                self,
                kernel,
                rank,
                FactorInitializer(partner(self, kernel, "initializer")),
                keras.initializers.RandomNormal(stddev=math.sqrt(1 / rank)),
                chosen,
            )

    def get_config(self) -> dict[str, Any]:
        config, kind = super().get_config(), self.kernel_kind
        ranks = self.ranks or dict(vars(self).get("_wanted_ranks", {}))
        alone = len(kind.kernel_attributes) == 1
        config["ranks"] = next(iter(ranks.values()), None) if alone else ranks
        if len(kind.splits) > 1:
            kernel = next(iter(kind.kernel_attributes))
            config["split"] = (
                self.split_of(kernel) if self.ranks else vars(self).get("_wanted_split")
            )
        return config

    # --- hooks of Keras ---------------------------------------------------------------

    def penalize_product(self, weight: float) -> bool:
        """Add `weight * ||U V||_F^2` of each factorised kernel to the losses; 0 takes it away.

        Returns:
            True if that changes anything.
        """
        changed: bool = weight != vars(self).get("_product_weight", 0.0)
        vars(self)["_product_weight"] = weight
        if changed:
            vars(self).pop("_penalty_is_counted", None)
        return changed

    @property
    def lacks_penalty(self) -> bool:
        """True while nobody has asked for the losses since `penalize_product` added to them."""
        counted = vars(self).get("_penalty_is_counted", False)
        return bool(vars(self).get("_product_weight", 0.0)) and not counted

    def _get_own_losses(self) -> list[Tensor]:
        """Regularize the product: each kernel's regularizer is given `U V`."""
        return super()._get_own_losses() + product_losses(self)

    def enable_lora(self, *args: object, **kwargs: object) -> None:
        raise SurgeryError(_unsupported(self, "LoRA", "enable_lora"))

    def quantize(self, *args: object, **kwargs: object) -> None:
        raise FactorisedError(_unsupported(self, "quantization", "quantize"))


def _unsupported(layer: LowRank, what: str, method: str) -> str:
    return (
        f"`{method}` cannot be used on layer '{layer.name}', which is factorised at rank(s) "
        f"{layer.ranks}: {what} expects one dense kernel. Call reducible_train.merge(model) "
        "first to get plain Keras layers."
    )


def add_bias(layer: Biased, outputs: Tensor) -> Tensor:
    """Add a bias of one axis along the last axis, if there is one; then activate."""
    if layer.bias is not None:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


class PlainKernel:
    """A kernel that Keras keeps in a plain attribute; read, it is `U V` once factorised."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: LowRank | None, owner: type | None = None) -> Any:
        return self if layer is None else layer.product(self.name)

    def __set__(self, layer: LowRank, value: Variable | None) -> None:
        vars(layer)[self.name] = value


# What may be of one's own in a low-rank class whose calls are those of the dense one all the same.
_NOT_OF_CALLS = ("kernel_kind", "rank", "get_config", "compute_output_shape", "compute_output_spec")
_DUNDERS_OF_CALLS = ("__call__", "__getattr__", "__getattribute__")
_FOR_CALLS = ("multiply", "product", "factors", "ranks")  # what calls with factors are made of


def _computes_as(dense: type, cls: type[LowRank]) -> bool:
    """True if nothing in a low-rank class has a part in its calls, which need the dense kernel."""
    before = cls.__mro__[: cls.__mro__.index(dense)]
    own = {name for each in before if each not in LowRank.__mro__ for name in vars(each)}
    dunders = {each for each in own if each.startswith("__")} - {*_DUNDERS_OF_CALLS}
    return not own - dunders - {*_NOT_OF_CALLS} and _needs_kernel(dense, cls.kernel_kind)


def _call_in_place_of_its_own(dense: type, cls: type[LowRank]) -> type | None:
    """The low-rank class, made for another dense one, whose `call` hides one of the dense class's
    own; `None` for none.
    """
    before = cls.__mro__[: cls.__mro__.index(dense)]
    owner = next((each for each in before if "call" in vars(each)), cls)
    own, kind = cast(Any, dense).call, vars(owner).get("kernel_kind")
    if kind is not None:
        return None if kind.dense_class.call is own else owner
    is_ours = owner.__module__.startswith("reducible_train.")
    return owner if is_ours and not _keras.is_of_keras(inspect.unwrap(own)) else None


def _needs_kernel(dense: type, kind: KernelKind) -> bool:
    """True if the call of a dense class is Keras's, or takes the kernel, and asks for no factors.

    One of your own may be written for both: with a `multiply` that a low-rank class has, too.
    """
    call = inspect.unwrap(cast(Any, dense).call)
    if _keras.is_of_keras(call):
        return True
    code = getattr(call, "__code__", None)  # what is no plain function may be anything
    if code is None:
        return False
    named = {*code.co_names, *(each for each in code.co_consts if isinstance(each, str))}
    kernels = {*kind.kernel_attributes, *kind.kernel_attributes.values()}
    return bool(named & {"call", *kernels}) and not named & {*_FOR_CALLS}


def low_rank_class(layer: object) -> type[LowRank] | None:
    """The low-rank class for a layer: of exactly the classes that are known."""
    if isinstance(layer, LowRank):
        return type(layer)
    return _CLASSES.get(type(layer))


def dense_classes() -> dict[type, type[LowRank]]:
    """Every Keras class that can be factorised, with its low-rank class."""
    return dict(_CLASSES)
