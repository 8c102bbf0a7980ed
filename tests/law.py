"""The law of low-rank layers, for one kind of layer, in one kind of model, of one dtype policy.

At full rank nothing moves beyond round-off: outputs, masks, random numbers in training, losses.
After a cut the kernel and the output are wrong by the error that is reported, the layer computes
what a dense layer with kernel `U V` computes, and the gradients of both factors are those of
that layer, `G V^T` and `U^T G`. Frozen layers stay frozen. What is then trained and saved is the
same in another process, which `FAULTS` asks for what differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import kinds
import numpy as np
from kinds import KINDS, Kind

from reducible_train import (
    LayerRule,
    PiecewiseConstant,
    factorize,
    load_model,
    load_weights_into,
    merge,
    save_model,
)
from reducible_train.compressor import Compression
from reducible_train.layers import LowRank, as_matrices, find_kernels
from reducible_train.report.records import Cut
from reducible_train.selection.scoring import decomposition
from reducible_train.settings.targets import target
from reducible_train.surgery.change import change_kernels, cut
from reducible_train.surgery.plans import plan_of

L = keras.layers
OUTPUTS = 3

# Policy -> dtype it computes in, dtype of its variables.
POLICIES = {
    "float32": ("float32", "float32"),
    "float64": ("float64", "float64"),
    "mixed_float16": ("float16", "float32"),
    "mixed_bfloat16": ("bfloat16", "float32"),
    "bfloat16": ("bfloat16", "bfloat16"),
}
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
# In units of the epsilon, of the largest number: there are several layers, and a decomposition.
ROUND_OFF = {"float64": 32, "float32": 12, "float16": 4, "bfloat16": 6}


# --- models -------------------------------------------------------------------------------


def chain(kind: Kind, policy: str) -> list[Any]:
    """The layer with what masks, random numbers and an output need."""
    before = [L.Masking(dtype=policy)] if kind.masked and not kind.has_words else []
    pool = [Pool(dtype=policy)] if kind.masked else [L.Flatten(dtype=policy)]
    output = L.Dense(OUTPUTS, name="output", dtype=policy)
    return [*before, kind.make(policy), L.Dropout(0.3, seed=5, dtype=policy), *pool, output]


@keras.saving.register_keras_serializable("law")
class Pool(L.Layer):
    """The mean of what no mask hides, of sequences and of anything else."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Any, mask: Any = None) -> Any:
        if len(x.shape) < 3:
            return x
        weights = keras.ops.ones_like(x[..., :1])
        if mask is not None:
            weights = weights * keras.ops.cast(mask, x.dtype)[..., None]
        return keras.ops.sum(x * weights, 1) / keras.ops.sum(weights, 1)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None


def through(layers: Sequence[Any], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def an_input(kind: Kind) -> Any:
    return keras.Input(kind.shape, dtype="int32" if kind.has_words else "float32")


def sequential(name: str, policy: str) -> keras.Model:
    return keras.Sequential([an_input(KINDS[name]), *chain(KINDS[name], policy)])


def several_inputs_and_outputs(name: str, policy: str) -> keras.Model:
    """A layer of its own for each of two inputs."""
    left, right = an_input(KINDS[name]), an_input(KINDS[name])
    (*first, one), (*second, two) = (chain(KINDS[name], policy) for _ in range(2))
    two.name = "output_two"
    x, y = through(first, left), through(second, right)
    both = L.Concatenate(dtype=policy)([x, y])
    return keras.Model([left, right], [one(x), two(both)])


def nested(name: str, policy: str) -> keras.Model:
    """A Functional model in a Sequential one in a Functional one."""
    *layers, output = chain(KINDS[name], policy)
    inner_input, inputs = an_input(KINDS[name]), an_input(KINDS[name])
    inner = keras.Model(inner_input, through(layers, inner_input), name="inner")
    middle = keras.Sequential([an_input(KINDS[name]), inner], name="middle")
    return keras.Model(inputs, output(middle(inputs)))


def shared(name: str, policy: str) -> keras.Model:
    """A layer that is called twice."""
    left, right = an_input(KINDS[name]), an_input(KINDS[name])
    *layers, output = chain(KINDS[name], policy)
    both = [through(layers, x) for x in (left, right)]
    return keras.Model([left, right], output(L.Add(dtype=policy)(both)))


class Own(keras.Model):
    """What subclassed models share."""

    def __init__(self, kind: str, policy: str, **kwargs: Any):
        super().__init__(**{"dtype": policy} | kwargs)
        self.kind, self.policy = kind, policy

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind, "policy": self.policy}


@keras.saving.register_keras_serializable("law")
class InAList(Own):
    def __init__(self, kind: str, policy: str, **kwargs: Any):
        super().__init__(kind, policy, **kwargs)
        self.steps = chain(KINDS[kind], policy)

    def call(self, x: Any) -> Any:
        return through(self.steps, x)


@keras.saving.register_keras_serializable("law")
class InADictionary(Own):
    def __init__(self, kind: str, policy: str, **kwargs: Any):
        super().__init__(kind, policy, **kwargs)
        self.parts = {f"step_{i}": each for i, each in enumerate(chain(KINDS[kind], policy))}

    def call(self, x: Any) -> Any:
        return through(list(self.parts.values()), x)


@keras.saving.register_keras_serializable("law")
class InALayer(L.Layer):
    """A layer that makes its sublayer when it is built."""

    def __init__(self, kind: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.kind = kind
        self.supports_masking = True

    def build(self, shape: Any) -> None:
        self.inner = KINDS[self.kind].make(self.dtype_policy)
        self.inner.build(shape)

    def call(self, x: Any, training: bool = False) -> Any:
        takes_training = isinstance(self.inner, (L.RNN, L.Bidirectional, kinds.Attention))
        return self.inner(x, training=training) if takes_training else self.inner(x)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return self.inner.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind}


def in_a_layer(name: str, policy: str) -> keras.Model:
    inputs = an_input(KINDS[name])
    layers = chain(KINDS[name], policy)
    position = layers.index(next(each for each in layers if not isinstance(each, L.Masking)))
    layers[position] = InALayer(name, dtype=policy)
    return keras.Model(inputs, through(layers, inputs))


def called(kind: type) -> Callable[[str, str], keras.Model]:
    def make(name: str, policy: str) -> keras.Model:
        model = kind(name, policy)
        model(KINDS[name].inputs(1))
        return model

    return make


MODELS: dict[str, Callable[[str, str], keras.Model]] = {
    "sequential": sequential,
    "several inputs and outputs": several_inputs_and_outputs,
    "nested two deep": nested,
    "shared by two calls": shared,
    "in a list": called(InAList),
    "in a dictionary": called(InADictionary),
    "in a layer": in_a_layer,
}
OWN_CLASSES = {
    keras.saving.get_registered_name(each): each
    for each in (kinds.Attention, kinds.Tied, Pool, InAList, InADictionary, InALayer)
}


def inputs_of(model: str, kind: str) -> Any:
    x = KINDS[kind].inputs()
    return [x, x[::-1].copy()] if model in TWO_INPUTS else x


TWO_INPUTS = ("several inputs and outputs", "shared by two calls")


# --- what is measured ---------------------------------------------------------------------


def run(model: keras.Model, x: Any, training: bool = False) -> np.ndarray:
    """All outputs as one array of float64."""
    parts = keras.tree.flatten(model(x, training=training))
    return np.concatenate([host(part) for part in parts], -1)


def host(tensor: Any) -> np.ndarray:
    """A tensor or variable as float64; numpy reads no single bfloat16 of TensorFlow."""
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float64"))


def kernels_of(model: keras.Model) -> list[Any]:
    """The kernels under test, with all but the outputs."""
    return [k for k in find_kernels(model) if not k.layer.name.startswith("output")]


def gradients(model: keras.Model, x: Any, split: str | None) -> dict[str, list[np.ndarray]]:
    """The gradient of a loss by each kernel or its factors, as matrices."""
    import tensorflow as tf

    kernels = kernels_of(model)
    with tf.GradientTape() as tape:
        loss = error(model(x, training=False))
    found = tape.gradient(loss, [[v.value for v in kernel.variables] for kernel in kernels])
    return {
        kernel.path: as_matrices(kernel, split)([host(tf.convert_to_tensor(g)) for g in each])
        for kernel, each in zip(kernels, found, strict=True)
    }


def impulses(layer: Any) -> np.ndarray | None:
    """Every unit vector of a layer that is linear in its kernel; `None` for any other."""
    if isinstance(layer, (L.Embedding, L.ReversibleEmbedding)):
        return np.arange(layer.input_dim, dtype="int32")[:, None]
    if not isinstance(layer, (L.Dense, L.EinsumDense, *CONVOLUTIONS)):
        return None
    shape = layer.get_build_config()["input_shape"][1:]
    shape = tuple(2 if size is None else size for size in shape)
    return np.eye(int(np.prod(shape)), dtype="float32").reshape(-1, *shape)


CONVOLUTIONS = (
    *(L.Conv1D, L.Conv2D, L.Conv3D),
    *(L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose),
)


def responses(layer: Any) -> np.ndarray | None:
    x = impulses(layer)
    return None if x is None else host(layer(x))


class Seeds:
    """The state of every random number generator of a model, to be put back."""

    def __init__(self, model: keras.Model):
        self.state = [(v, host(v)) for v in model.variables if "seed_generator" in v.path]

    def restore(self) -> None:
        for variable, value in self.state:
            variable.assign(value.astype("uint32"))


def close(found: Any, wanted: Any, tolerance: float, what: str) -> None:
    """Arrays that differ by no more than a fraction of the largest number."""
    scale = np.abs(wanted).max()
    assert np.isfinite(scale), f"{what}: not finite"
    assert scale > 0, f"{what}: all zero, so nothing is tested"
    worst = np.abs(found - wanted).max() / scale
    assert worst <= tolerance, f"{what} differ by {worst:.2e} of the largest, not {tolerance:.2e}"


# --- the law ------------------------------------------------------------------------------


def check(
    kind: str,
    model: str,
    policy: str,
    folder: Path | None = None,
    files: Sequence[str] = (),
    anew: bool = True,
) -> None:
    """Check the law for one combination; then train a step, and save files in the folder.

    Args:
        kind: Name of a kind of layer.
        model: Name of a kind of model.
        policy: Name of a dtype policy.
        folder: Where files are saved; left out, nothing is trained and saved.
        files: Suffixes of the files.
        anew: True to look at the model again before the second cut, as a call of its own does;
            False to do as a fit, which takes half of the time.

    Raises:
        AssertionError: It does not hold.
    """
    compute, storage = POLICIES[policy]
    round_off = ROUND_OFF[compute] * EPSILON[compute]
    split, exact = KINDS[kind].split, KINDS[kind].exact
    keras.utils.set_random_seed(1)
    made, x = make(kind, model, policy), inputs_of(model, kind)
    kernels = kernels_of(made)
    assert kernels
    assert len({k.path for k in kernels}) == len(kernels)
    nothing_moves_at_full_rank(made, x, round_off, split)
    cut_to = twice_factorized if anew else cut_by_a_schedule
    for rank, cut_there in cut_to(made, (3, 2), split):
        a_cut_is_as_wrong_as_reported(made, rank, cut_there, split, exact, compute, storage)
    it_computes_and_learns_as_its_product(made, x, round_off, split)
    if folder is not None:
        trained_and_saved(made, x, split, folder / f"{kind}|{model}|{policy}", files)


def make(kind: str, model: str, policy: str) -> keras.Model:
    """The model of one combination, of the same names each time."""
    keras.utils.clear_session(free_memory=False)
    return MODELS[model](kind, policy)


def everything(model: keras.Model, x: Any, seeds: Seeds) -> dict[str, np.ndarray]:
    """What a model computes, without and with training, and its losses."""
    found = without_training(model, x)
    seeds.restore()
    found["outputs in training"] = run(model, x, training=True)
    return found


def without_training(model: keras.Model, x: Any) -> dict[str, np.ndarray]:
    found = {"outputs": run(model, x)}
    return found | ({"losses": host(sum(model.losses))[None]} if model.losses else {})


def nothing_moves_at_full_rank(
    model: keras.Model, x: Any, tolerance: float, split: str | None
) -> None:
    seeds = Seeds(model)
    assert seeds.state
    config = model.get_config()
    trainable = len(model.trainable_variables)
    before = everything(model, x, seeds)
    moved = np.abs(before["outputs"] - before["outputs in training"]).max()
    assert moved > tolerance * np.abs(before["outputs"]).max(), "nothing is random in training"
    kernels = kernels_of(model)
    full = [cut(k, min(k.shape_in(split)), decomposition(k, split), split) for k in kernels]
    frozen = kernels[0].layer
    frozen.trainable = False
    change_kernels(model, full)
    assert all(isinstance(k.layer, LowRank) and k.rank == min(k.shape) for k in kernels)
    own = [v for k in kernels if k.layer is frozen for v in k.variables]
    assert not any(any(v is one for one in model.trainable_variables) for v in own)
    frozen.trainable = True
    assert len(model.trainable_variables) == trainable + len(kernels)
    after = everything(model, x, seeds)
    merge(model)
    for stage, found in (("at full rank", after), ("merged", without_training(model, x))):
        for what, value in found.items():
            close(value, before[what], tolerance, f"{what} {stage}")
    assert after.keys() == before.keys()
    assert ("losses" in before) == bool(model.losses)
    assert model.get_config() == config
    assert len(model.trainable_variables) == trainable


Cuts = Iterator[tuple[int, Callable[[], Cut]]]


def twice_factorized(model: keras.Model, ranks: Sequence[int], split: str | None) -> Cuts:
    """For each rank, what cuts the model to it in a call of its own."""
    for rank in ranks:
        rules = rules_of(model, split)
        yield rank, lambda rank=rank, rules=rules: factorize(model, rank=rank, rules=rules).cuts[-1]


def cut_by_a_schedule(model: keras.Model, ranks: Sequence[int], split: str | None) -> Cuts:
    """For each rank, what cuts the model to it, as one compression that goes down in steps."""
    falling = PiecewiseConstant(ranks, range(len(ranks)))
    rules = rules_of(model, split)
    compression = Compression(model, target("rank", falling), rules=rules, trains=False)
    for time, rank in enumerate(ranks):
        yield rank, lambda time=time: compression.cut(float(time))


def rules_of(model: keras.Model, split: str | None) -> list[LayerRule]:
    return [LayerRule(k.layer_path, split=split) for k in kernels_of(model) if split]


def a_cut_is_as_wrong_as_reported(
    model: keras.Model,
    rank: int,
    cut_there: Callable[[], Cut],
    split: str | None,
    exact: bool,
    compute: str,
    storage: str,
) -> None:
    kernels = kernels_of(model)
    before = {k.path: _whole(k, split) for k in kernels}
    answers = {k.path: responses(k.layer) for k in kernels}
    made = {each.path: each for each in cut_there().kernels}
    assert set(made) == {k.path for k in kernels_of(model)}, "a kernel was left"
    for k in kernels:
        told = made[k.path]
        assert k.rank == rank
        assert k.splits[0] == (split or k.splits[0])
        assert all(keras.backend.standardize_dtype(v.dtype) == storage for v in k.variables)
        w, after = before[k.path], _whole(k, split)
        product = k.layer.product(k.name)
        assert tuple(product.shape) == k.variable_shape
        close(k.view().stack(host(product)), after, 4 * EPSILON[storage], "the product")
        size, lost = np.linalg.norm(w), np.linalg.norm(after - w)
        slack = 4 * EPSILON[storage]
        assert abs(lost / size - told.relative_error) <= slack, (
            f"{k.path} is wrong by {lost / size:.4g}, reported {told.relative_error:.4g}"
        )
        assert told.relative_error > 4 * slack, f"{k.path} lost nothing, so nothing is tested"
        if answers[k.path] is None:
            continue
        moved = np.linalg.norm(responses(k.layer) - answers[k.path])
        bound = told.relative_error * size * np.sqrt(_uses(k, split))
        slack = 8 * EPSILON[compute] * np.linalg.norm(answers[k.path])
        assert moved <= bound + slack, f"{k.path}: outputs move by {moved:.4g}, not {bound:.4g}"
        if exact:
            assert moved >= bound - slack, f"{k.path}: outputs move by {moved:.4g}, not {bound:.4g}"


def _whole(kernel: Any, split: str | None) -> np.ndarray:
    """The kernel matrices, factors multiplied out."""
    matrices = [each.astype("float64") for each in kernel.matrices(split)]
    return matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1]


def _uses(kernel: Any, split: str | None) -> int:
    """How often all impulses together meet each number of the kernel, at most."""
    layer = kernel.layer
    if isinstance(layer, (L.Embedding, L.ReversibleEmbedding)):
        return 1
    shape = impulses(layer).shape[1:]
    return kernel.uses(split or kernel.splits[0], (1, *shape)).dense


def it_computes_and_learns_as_its_product(
    model: keras.Model, x: Any, tolerance: float, split: str | None
) -> None:
    small, slopes = run(model, x), gradients(model, x, split)
    factors = {k.path: [each.astype("float64") for each in k.matrices()] for k in kernels_of(model)}
    merge(model)
    close(run(model, x), small, tolerance, "outputs of the dense twin")
    # Of many positions that nearly cancel: in bfloat16, a fifth of the largest number was seen.
    learning = 2 * tolerance if tolerance < EPSILON["bfloat16"] else 0.5
    for path, (whole,) in gradients(model, x, split).items():
        u, v = factors[path]
        wanted = whole @ v.swapaxes(1, 2), u.swapaxes(1, 2) @ whole
        for side, found, expected in zip("UV", slopes[path], wanted, strict=True):
            close(found, expected, learning, f"gradients of {side} of {path}")


def trained_and_saved(
    model: keras.Model, x: Any, split: str | None, stem: Path, files: Sequence[str]
) -> None:
    cuts = [cut(k, 2, decomposition(k, split), split) for k in kernels_of(model)]
    change_kernels(model, cuts)
    # Momentum, because Adam's first correction, 1 - 0.999, is no number of bfloat16.
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9), "mse")
    before = [host(v) for k in kernels_of(model) for v in k.variables]
    for _ in range(16):  # a loss scale that is too great skips the step and is halved
        step(model, x)
        after = [host(v) for k in kernels_of(model) for v in k.variables]
        trained = all((a != b).any() for a, b in zip(after, before, strict=True))
        if trained:
            break
    assert trained, "not trained"
    for suffix in files:
        FILES[suffix][0](model, f"{stem}{suffix}")
    Path(f"{stem}.json").write_text(json.dumps(described(model, x) | {"files": list(files)}))


def step(model: keras.Model, x: Any) -> None:
    """One step of training.

    Keras's own takes no losses of layers that compute in another dtype than float32.
    """
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = error(model(x, training=True))
        for more in model.losses:
            loss += keras.ops.cast(more, loss.dtype)
        scaled = model.optimizer.scale_loss(loss)
    slopes = tape.gradient(scaled, [v.value for v in model.trainable_variables])
    model.optimizer.apply(slopes, model.trainable_variables)


def error(outputs: Any) -> Any:
    """The mean squared distance of all outputs from 1."""
    parts = [keras.ops.cast(each, "float64") for each in keras.tree.flatten(outputs)]
    return sum(keras.ops.mean(keras.ops.square(each - 1.0)) for each in parts)


# Suffix -> how a model is saved, and how it is read, given its path and the combination.
FILES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    ".keras": (
        lambda model, path: model.save(path),
        lambda path, *_: keras.models.load_model(path),
    ),
    ".reducible": (save_model, lambda path, *_: load_model(path, OWN_CLASSES)),
    ".weights.h5": (
        lambda model, path: model.save_weights(path),
        lambda path, *names: load_weights_into(make(*names), path),
    ),
}


# --- in another process -------------------------------------------------------------------


def described(model: keras.Model, x: Any) -> dict[str, Any]:
    """What must be the same again: plan, bytes of the weights and of the optimizer, outputs."""
    optimizer = getattr(model, "optimizer", None)
    return {
        "plan": plan_of(model),
        "weights": _digest(model.weights),
        "optimizer": None if optimizer is None else _digest(optimizer.variables),
        "outputs": run(model, x).tolist(),
    }


def _digest(variables: Sequence[Any]) -> str:
    arrays = [np.asarray(keras.ops.convert_to_numpy(v)) for v in variables]
    return hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest()


def faults_of(name: str, wanted: dict[str, Any], stem: str) -> Iterator[str]:
    """What is not as it was, of the files of one combination."""
    kind, model, policy = name.split("|")
    tolerance = 4 * EPSILON[POLICIES[policy][0]]
    for suffix in wanted["files"]:
        try:
            loaded = FILES[suffix][1](stem + suffix, kind, model, policy)
            found = described(loaded, inputs_of(model, kind))
            compiled = suffix == ".keras"
            for what in ("plan", "weights", *(["optimizer"] if compiled else [])):
                assert found[what] == wanted[what], f"the {what} differ"
            close(np.array(found["outputs"]), wanted["outputs"], tolerance, "outputs")
        except Exception as fault:
            yield f"{suffix}: {type(fault).__name__}: {fault}"


def faults_in(folder: Path) -> dict[str, list[str]]:
    """Combination -> what is not as it was, of all files in a folder."""
    keras.config.set_dtype_policy("mixed_bfloat16")  # nothing may depend on it
    return {
        file.stem: list(faults_of(file.stem, json.loads(file.read_text()), f"{file}"[:-5]))
        for file in sorted(folder.glob("*.json"))
    }


# A program for another process.
FAULTS = """
import json, sys
from pathlib import Path
import law
print(json.dumps(law.faults_in(Path(sys.argv[1]))))
"""
