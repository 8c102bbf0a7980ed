"""New numbers are computed kernel by kernel: little memory, and all or nothing all the same."""

from __future__ import annotations

import tracemalloc
import weakref
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import zoo

from reducible_train import SpectrumError, SurgeryError
from reducible_train.compressor.changes import agreed
from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery import change as surgery
from reducible_train.surgery import optimizer_state
from reducible_train.surgery.change import change_kernels, cut, merge_all

WIDTH, KERNELS = 256, 16
ONE = WIDTH * WIDTH * 8  # bytes of a kernel in double precision


def stack(policy="float32"):
    layers = [
        keras.layers.Dense(WIDTH, use_bias=False, dtype=policy, name=f"dense_{i}")
        for i in range(KERNELS)
    ]
    return keras.Sequential([keras.Input((WIDTH,)), *layers])


def cuts(model, rank):
    kernels = find_kernels(model)
    return [cut(kernel, rank, decomposition(kernel, most=rank)) for kernel in kernels]


def peak(model, changes):
    """Bytes of numpy's, above what is held before; variables are not numpy's."""
    change_kernels(model, changes[:1])  # what is imported or cached on the way counts once
    tracemalloc.start()
    try:
        change_kernels(model, changes[1:])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="variables are numpy's too")
def test_numbers_of_few_kernels_are_held_at_a_time():
    model = stack()
    assert peak(model, cuts(model, 128)) < 6 * ONE
    new = KERNELS * ONE / 2  # TensorFlow may make variables of numpy's memory
    assert peak(model, merge_all(find_kernels(model))) < new + 6 * ONE


def test_factors_are_gone_when_the_state_of_optimizers_follows(monkeypatch):
    model = stack()
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    made, left = [], []

    def watched(change):
        new = change.make()
        made.extend(weakref.ref(matrices) for matrices in new.matrices)
        return new

    def transfer(*args, **kwargs):
        left.append(sum(each() is not None for each in made))
        return optimizer_state.transfer(*args, **kwargs)

    monkeypatch.setattr(surgery, "transfer", transfer)
    changes = cuts(model, 128)
    change_kernels(model, [replace(each, make=partial(watched, each)) for each in changes])
    assert (len(made), left) == (2 * KERNELS, [0])


def everything(model):
    variables = (*model.variables, *model.optimizer.variables)
    return [id(v) for v in variables], [np.array(v) for v in variables]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SpectrumError("dense: it does not converge."), SpectrumError),
        (MemoryError("no room"), SurgeryError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else "",
)
def test_what_cannot_be_computed_half_way_leaves_the_model_as_it_was(error, told):
    model = zoo.compiled(zoo.sequential(), "adam")
    x, y = zoo.data(model)
    model.train_on_batch(x, y)
    ids, values = everything(model)
    kinds = [type(layer) for layer in model.layers]
    first, second = [cut(k, 3, decomposition(k)) for k in find_kernels(model)[:2]]
    seen = []

    def fails():
        seen.append(find_kernels(model)[0].rank)
        raise error

    with pytest.raises(told) as caught:
        change_kernels(model, [first, replace(second, make=fails)])
    assert seen == [3], "the first kernel had been changed"
    assert type(caught.value) is told
    ids_now, values_now = everything(model)
    assert ids_now == ids
    assert [type(layer) for layer in model.layers] == kinds
    for after, before in zip(values_now, values, strict=True):
        np.testing.assert_array_equal(after, before)
    model.train_on_batch(x, y)
    change_kernels(model, [first, second])
    model.train_on_batch(x, y)


def momentums(model):
    return list(model.optimizer.momentums)


@pytest.mark.parametrize("policy", ["float32", "float16"])
def test_state_follows_the_factors_that_were_computed(policy):
    """Read from the variables, or kept where these hold fewer digits."""
    rng, model = np.random.default_rng(0), stack(policy)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    momenta = [rng.normal(size=v.shape) for v in momentums(model)]
    for variable, value in zip(momentums(model), momenta, strict=True):
        variable.assign(value)
    momenta = [np.array(v, "float64") for v in momentums(model)]
    changes = cuts(model, 5)
    factors = [change.make().matrices for change in changes]
    change_kernels(model, changes)
    found = [np.array(v) for v in momentums(model)]
    for place, ((u,), (v,)) in enumerate(factors):
        for ours, theirs in zip(
            found[2 * place : 2 * place + 2],
            (momenta[place] @ v.T, u.T @ momenta[place]),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs.astype(ours.dtype))


def test_an_interruption_between_biases_gives_back_the_first(monkeypatch):
    model = zoo.compiled(zoo.sequential(), "adam")
    x, y = zoo.data(model)
    model.train_on_batch(x, y)
    _, values = everything(model)

    def shifted(change):
        bias = change.kernel.layer.bias
        return replace(
            change, make=lambda: replace(change.make(), shift=np.ones((1, bias.shape[0])))
        )

    first, _, last = find_kernels(model)
    changes = [shifted(cut(k, 3, decomposition(k))) for k in (first, last)]
    real, seen = surgery.shift_weights, []

    def interrupted(*args):
        if seen:
            raise KeyboardInterrupt
        seen.append(real(*args))

    monkeypatch.setattr(surgery, "shift_weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        change_kernels(model, changes)
    assert seen
    for after, before in zip(everything(model)[1], values, strict=True):
        np.testing.assert_array_equal(after, before)


def test_what_the_first_process_fails_with_all_fail_with_before_any_is_changed():
    model = zoo.sequential()
    kernels = find_kernels(model)[:2]
    changes = [cut(kernel, 3, decomposition(kernel)) for kernel in kernels]
    known = [SimpleNamespace(kernel=kernel) for kernel in kernels]
    answers = []

    @zoo.Told
    def first(value):
        answers.append(value)
        return value

    def fails():
        raise SpectrumError("no convergence")

    @zoo.Told
    def another(value):
        return told.pop(0)

    for change in agreed(first, changes, known):
        assert len(answers) == 3, "all is told before the surgery"
        assert change.make().matrices[0].shape[-1] == 3
    told = list(answers)
    bad = [replace(each, make=fails) for each in changes]
    taken = agreed(another, bad, known)  # what it cannot compute itself, it need not
    for mine, theirs in zip(taken, changes, strict=True):
        for one, other in zip(mine.make().matrices, theirs.make().matrices, strict=True):
            np.testing.assert_array_equal(one, other)
    answers.clear()
    with pytest.raises(SpectrumError, match="no convergence"):
        agreed(first, bad, known)
    told = list(answers)
    with pytest.raises(SpectrumError, match="no convergence"):
        agreed(another, changes, known)
    assert not told
