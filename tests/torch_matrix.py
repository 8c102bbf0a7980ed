"""What must hold on torch of its own optimizers, which know parameters and no variables.

    KERAS_BACKEND=torch python tests/torch_matrix.py

`backend_matrix.py` runs it there, too. Each check prints a line, or stops the program.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    FormatError,
    LayerRule,
    PiecewiseConstant,
    RankBackupAndRestore,
    RankScheduler,
    SurgeryError,
    _keras,
    factorize,
    merge,
)
from reducible_train._keras import torch_settings, torch_state
from reducible_train.layers import find_kernels
from reducible_train.selection.scoring import decomposition
from reducible_train.surgery.change import change_kernels, cut
from reducible_train.surgery.snapshot import restore, take_snapshot
from reducible_train.training.aid_context import ModelAidContext
from reducible_train.training.backup_form import is_packed

ALL = LayerRule("*", keep_dense=False)
X = np.random.default_rng(0).normal(size=(16, 24)).astype("float32")

OPTIMIZERS: dict[str, Callable[[Any, Sequence[Any]], Any]] = {  # of `torch.optim` and parameters
    "SGD": lambda optim, p: optim.SGD(p, 0.01, momentum=0.9),
    "SGD without momentum": lambda optim, p: optim.SGD(p, 0.1),
    "Adam": lambda optim, p: optim.Adam(p, 1e-3),
    "AdamW, amsgrad": lambda optim, p: optim.AdamW(p, 1e-3, amsgrad=True),
    "Adamax": lambda optim, p: optim.Adamax(p, 1e-3),
    "NAdam": lambda optim, p: optim.NAdam(p, 1e-3),
    "RAdam": lambda optim, p: optim.RAdam(p, 1e-3),
    "RMSprop": lambda optim, p: optim.RMSprop(p, 1e-4, momentum=0.9),
    "RMSprop, centered": lambda optim, p: optim.RMSprop(p, 1e-4, centered=True),
    "Adagrad": lambda optim, p: optim.Adagrad(p, 1e-2, initial_accumulator_value=0.1),
    "Adadelta": lambda optim, p: optim.Adadelta(p, 1.0),
    "Adafactor": lambda optim, p: optim.Adafactor(p, 1e-3),
    "ASGD": lambda optim, p: optim.ASGD(p, 0.01),
    "Rprop": lambda optim, p: optim.Rprop(p, 1e-3),
    "LBFGS": lambda optim, p: optim.LBFGS(p, 0.1, max_iter=3, history_size=4),
}


def scene(name: str) -> tuple[Any, Any]:
    """A model, and an optimizer that has made some steps with it."""
    import torch

    keras.utils.set_random_seed(2)
    model = zoo.sequential()
    optimizer = OPTIMIZERS[name](torch.optim, parameters(model))
    train(model, optimizer)
    return model, optimizer


def parameters(model: Any) -> list[Any]:
    return [variable.value for variable in model.trainable_variables]


def train(model: Any, optimizer: Any, steps: int = 3) -> list[float]:
    """The losses of some steps."""
    import torch

    losses = []

    def closure() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(X), torch.tensor(X[:, :5]))
        loss.backward()
        losses.append(float(loss.detach()))
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return losses


def known(model: Any, optimizer: Any) -> list[Any]:
    """All that a model and an optimizer know."""
    state, arrays = _keras.torch_state(optimizer, model.weights)
    return [[zoo.as_array(each).copy() for each in model.weights], state, arrays]


def assert_same(now: list[Any], before: list[Any]) -> None:
    assert now[1] == before[1]
    for one, other in zip([*now[0], *now[2]], [*before[0], *before[2]], strict=True):
        np.testing.assert_array_equal(one, other)


def assert_steps(optimizer: Any, model: Any) -> None:
    """It steps the parameters of the model, in some order, and no other."""
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in parameters(model))


def check_cuts(name: str) -> None:
    """Whatever becomes of kernels, an optimizer steps what is there, in the list that it had."""
    model, optimizer = scene(name)
    held = optimizer.param_groups[0]["params"]
    for options in ({"rank": 9}, {"rank": 4}, None):
        merge(model) if options is None else factorize(model, **options)
        assert_steps(optimizer, model)
        assert held is optimizer.param_groups[0]["params"]
        before = [zoo.as_array(each).copy() for each in model.trainable_variables]
        losses = train(model, optimizer, 12)
        assert losses[-1] < losses[0], (name, options, losses)
        for variable, value in zip(model.trainable_variables, before, strict=True):
            assert np.abs(zoo.as_array(variable) - value).max() > 0, f"{variable.path} stands still"


def check_undo(name: str, folder: str) -> None:
    """What was remembered comes back, state included, and training goes on from there."""
    model, optimizer = scene(name)
    for cuts, place in ((True, folder), (True, None), (False, None)):
        snapshot, before = take_snapshot(model, place), known(model, optimizer)
        order = [each.path for each in model.weights]
        losses = train(model, optimizer)
        if cuts:
            factorize(model, rank=4)
        train(model, optimizer)
        for _ in range(2):
            restore(model, snapshot)
            assert [each.path for each in model.weights] == order
            assert_same(known(model, optimizer), before)
            assert_steps(optimizer, model)
            np.testing.assert_allclose(train(model, optimizer), losses, rtol=1e-4)
        factorize(model, rank=7)
        train(model, optimizer)


def check_undo_of_the_first_steps() -> None:
    """An optimizer that had made no step, or was not there, knows nothing afterwards."""
    import torch

    model = zoo.sequential()
    early = torch.optim.Adam(parameters(model))
    snapshot = take_snapshot(model)
    late, other = torch.optim.Adam(parameters(model)), torch.nn.Parameter(torch.ones(3))
    late.add_param_group({"params": [other]})
    other.grad = torch.ones(3)
    for each in (early, late):
        train(model, each)
        late.state[other] = {"step": torch.tensor(1.0)}
    factorize(model, rank=4)
    restore(model, snapshot)
    assert not early.state
    assert list(late.state) == [other]


def check_failures() -> None:
    """A cut that fails on its last step leaves every parameter, its name and its state."""
    import torch

    for named in (False, True):
        model = zoo.sequential()
        names = [(each.path, each.value) for each in model.trainable_variables]
        optimizer = torch.optim.Adam(names if named else parameters(model))
        train(model, optimizer)
        before, groups = known(model, optimizer), optimizer.state_dict()["param_groups"]
        kernel = find_kernels(model)[0]

        def fail() -> None:
            raise RuntimeError("on purpose")

        with pytest.raises(SurgeryError, match="on purpose"):
            change_kernels(model, [cut(kernel, 3, decomposition(kernel))], last=fail)
        assert_same(known(model, optimizer), before)
        assert optimizer.state_dict()["param_groups"] == groups
        assert_steps(optimizer, model)
        factorize(model, rank=4)
        if named:
            (group,) = optimizer.param_groups
            paths = {id(each.value): each.path for each in model.trainable_variables}
            assert group["param_names"] == [paths[id(p)] for p in group["params"]]


def check_frozen() -> None:
    """What torch's own flag freezes is left dense in a fit; cut all the same, it stays frozen."""
    kept, taken_in = RankScheduler(rank=4), RankScheduler(rank=4, rules=[ALL])
    for scheduler in (kept, taken_in, None):
        model = zoo.compiled(zoo.sequential())
        layer = model.get_layer("first")
        layer.kernel.value.requires_grad_(False)
        before = zoo.as_array(layer.kernel).copy()
        if scheduler is None:
            factorize(model, rank=4)
        model.fit(*zoo.data(model), epochs=2, verbose=0, callbacks=[scheduler] if scheduler else [])
        flags = {each.name: each.value.requires_grad for each in layer.trainable_variables}
        if scheduler is kept:
            assert flags == {"kernel": False, "bias": True}
            np.testing.assert_array_equal(zoo.as_array(layer.kernel), before)
            assert "first/kernel" in str(kept.report)
            assert "frozen when the training began" in str(kept.report)
            continue
        assert flags == {"kernel_u": False, "kernel_v": False, "bias": True}
        product = zoo.as_array(layer.kernel).copy()
        model.fit(*zoo.data(model), verbose=0)
        np.testing.assert_array_equal(zoo.as_array(layer.kernel), product)
        merge(model)
        assert not layer.kernel.value.requires_grad


def check_hooks() -> None:
    """A kernel whose gradient has hooks stays dense, until they are taken away."""
    hooks: dict[str, Callable[[Any], Any]] = {
        "register_hook": lambda gradient: 0 * gradient,
        "register_post_accumulate_grad_hook": lambda parameter: None,
    }
    for register, hook in hooks.items():
        model = zoo.sequential()
        path = factorize(zoo.sequential(), rank=2).kernels[0].path
        kernel = find_kernels(model)[0].variables[0]
        handle = getattr(kernel.value, register)(hook)
        report = factorize(model, rank=2)
        assert report.ranks
        assert path not in report.ranks
        assert "hooks of torch are on the gradient" in str(report.kernels[0].reason)
        assert find_kernels(model)[0].variables == [kernel]
        handle.remove()
        assert path in factorize(model, rank=2).ranks
        check_lost_hooks(model, path, register, hook)


def check_lost_hooks(model: Any, path: str, register: str, hook: Callable[[Any], Any]) -> None:
    """A warning tells of hooks on factors, and of those that come after a look at the model."""

    class Putting(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            getattr(find_kernels(trained)[0].variables[0].value, register)(hook)

    getattr(find_kernels(model)[0].variables[1].value, register)(hook)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        factorize(model, rank=1)
    lost = [str(each.message) for each in told if "Hooks of torch" in str(each.message)]
    assert len(lost) == 1
    assert f"the gradients of '{path}' went with the variables" in lost[0]
    trained = zoo.compiled(zoo.sequential())
    scheduler = RankScheduler(rank=PiecewiseConstant((99, 2), (0, 1)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trained.fit(*zoo.data(trained), epochs=3, verbose=0, callbacks=[scheduler, Putting()])
    assert len([each for each in told if "Hooks of torch" in str(each.message)]) == 1


def check_inference_mode() -> None:
    """A cut within torch's inference mode is the one that it would have been; training goes on."""
    import torch

    predicted = []
    for mode in (contextlib.nullcontext, torch.no_grad, torch.inference_mode):
        keras.utils.set_random_seed(3)
        model = zoo.compiled(zoo.sequential())
        x, y = zoo.data(model)
        with mode():
            report = factorize(model, 0.6, calibration=(x, y), criterion="fisher")
        assert "By plain energy" not in str(report)
        predicted.append(zoo.predicted(model, x))
        model.fit(x, y, verbose=0)
        with mode():
            merge(model)
        model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(predicted[1:], predicted[:2])
    with torch.inference_mode():
        model = zoo.sequential()
        factorize(model, rank=4, calibration=x)
        assert all(variable.value.is_inference() for variable in model.weights)


def check_transport(name: str, make_twin: Callable[[], Any], slots: dict[str, str]) -> None:
    """State follows cuts as that of the same optimizer of Keras does, which knows the same."""
    (model, optimizer), twin = scene(name), make_twin()
    twin.build(model.trainable_variables)
    for variable in model.trainable_variables:
        state = optimizer.state[variable.value]
        if "grad_avg" in slots:  # of gradients that are always the same
            state["square_avg"].copy_(1.001 * state["grad_avg"] ** 2)
        for ours, theirs in slots.items():
            _slot(twin, theirs, variable).assign(state[ours])
    for options in ({"rank": 9}, {"rank": 4}):
        factorize(model, rules=[ALL], **options)
        for variable in model.trainable_variables:
            state = optimizer.state[variable.value]
            assert float(state.get("step", 3)) == 3
            for ours, theirs in slots.items():
                wanted = zoo.as_array(_slot(twin, theirs, variable))
                atol = 1e-6 * np.abs(wanted).max()
                np.testing.assert_allclose(zoo.as_array(state[ours]), wanted, atol=atol)
                assert wanted.any()
    train(model, optimizer)


def check_strange_state() -> None:
    """A state that holds what nobody knows the meaning of begins anew, as a whole."""
    for strange in ({"seen": X}, {"seen": {}}, {"exp_avg": X[0]}):
        model, optimizer = scene("Adam")
        kernel, bias, *_ = parameters(model)
        tensors = {k: kernel.new_tensor(v) if len(v) else v for k, v in strange.items()}
        optimizer.state[kernel].update(tensors)
        factorize(model, rank=4)
        factors = [each for each in model.weights if each.path.startswith("stack/first/kernel_")]
        assert [each.value in optimizer.state for each in factors] == [False] * 2
        assert float(optimizer.state[bias]["step"]) == 3


def check_numbers_of_numpy() -> None:
    """Rates and counts that numpy has made are numbers as others are, in state and settings."""
    model, optimizer = scene("Adam")
    kernel = parameters(model)[0]
    optimizer.param_groups[0]["lr"] *= np.float32(512)
    optimizer.state[kernel]["seen"] = np.float32(0.25)
    (state, _), (settings,) = torch_state(optimizer, model.weights), torch_settings(optimizer)
    assert json.loads(json.dumps(settings))["lr"] == float(np.float32(0.512))
    assert is_packed(state["0"], 99)
    assert json.loads(json.dumps(state))["0"]["entries"]["seen"] == 0.25
    factorize(model, rank=4)
    factors = [each for each in model.weights if each.path.startswith("stack/first/kernel_")]
    assert [optimizer.state[each.value]["seen"] for each in factors] == [0.25] * 2


def _slot(optimizer: Any, name: str, variable: Any) -> Any:
    place = next(i for i, v in enumerate(_keras.trainable_of(optimizer)) if v is variable)
    return _keras.slots(optimizer)[name][place]


TWINS = {  # of Keras, and its slots
    "SGD": (lambda: keras.optimizers.SGD(momentum=0.9), {"momentum_buffer": "momentums"}),
    "Adam": (
        lambda: keras.optimizers.Adam(),
        {"exp_avg": "_momentums", "exp_avg_sq": "_velocities"},
    ),
    "AdamW, amsgrad": (
        lambda: keras.optimizers.AdamW(amsgrad=True),
        {"exp_avg": "_momentums", "exp_avg_sq": "_velocities", "max_exp_avg_sq": "_velocity_hats"},
    ),
    "Adamax": (lambda: keras.optimizers.Adamax(), {"exp_avg": "_m", "exp_inf": "_u"}),
    "RMSprop, centered": (
        lambda: keras.optimizers.RMSprop(centered=True),
        {"square_avg": "_velocities", "grad_avg": "_average_gradients"},
    ),
    "Adagrad": (lambda: keras.optimizers.Adagrad(), {"sum": "_accumulators"}),
    "Adadelta": (
        lambda: keras.optimizers.Adadelta(),
        {"square_avg": "_accumulated_grads", "acc_delta": "_accumulated_delta_vars"},
    ),
}


def check_warm_up() -> None:
    """The rates of torch's own optimizers climb after each cut, and are plain between two steps."""
    import torch

    model = zoo.sequential()
    optimizer = torch.optim.SGD(parameters(model)[:2], torch.tensor(0.5), momentum=0.9)
    optimizer.add_param_group({"params": parameters(model)[2:], "lr": 0.1})
    rates = optimizer.param_groups[0]["lr"], 0.1

    def in_steps(count: int) -> list[float]:
        seen: list[list[float]] = []
        look = optimizer.register_step_pre_hook(
            lambda o, *_: seen.append([float(group["lr"]) for group in o.param_groups])
        )
        train(model, optimizer, count)
        look.remove()
        assert all(g["lr"] is r for g, r in zip(optimizer.param_groups, rates, strict=True))
        np.testing.assert_allclose([a / b for a, b in seen], 5.0, rtol=1e-6)
        return [round(b / rates[1], 6) for _, b in seen]

    training = ModelAidContext(model, None)
    training.warm_up(4, 0.2)
    assert in_steps(3) == [0.4, 0.6, 0.8]
    training.warm_up(2, 0.0)
    training.refresh(1.0, 2.0)
    assert in_steps(4) == [0.5, 1.0, 1.0, 1.0]
    training.refresh(1.0, 2.0)
    assert in_steps(1) == [1.0]
    training.warm_up(4, 0.2)
    with pytest.raises(RuntimeError, match="in a closure"):
        optimizer.step(_fail)
    optimizer.param_groups[1]["lr"] = rates[1] / 2  # as is done against what has failed
    training.close()
    assert optimizer.param_groups[0]["lr"] is rates[0]
    assert optimizer.param_groups[1]["lr"] == rates[1] / 2
    optimizer.param_groups[1]["lr"] = rates[1]
    assert in_steps(1) == [1.0]


def _fail() -> None:
    raise RuntimeError("in a closure")


class Halves(keras.Model):
    """A model that two optimizers of torch's train, each a half of it."""

    def __init__(self):
        super().__init__()
        layers = keras.layers
        self.halves = [
            keras.Sequential([keras.Input((24,)), layers.Dense(24, "relu"), layers.Dropout(0.2)]),
            keras.Sequential([keras.Input((24,)), layers.Dense(24, "tanh"), layers.Dense(5)]),
        ]
        self.optimizers: list[Any] = []

    def call(self, x: Any, training: bool = False) -> Any:
        return self.halves[1](self.halves[0](x, training=training))

    def train_step(self, data: Any) -> dict[str, Any]:
        import torch

        x, y = data
        self.zero_grad()
        loss = torch.nn.functional.mse_loss(self(x, training=True), y)
        loss.backward()
        for optimizer in self.optimizers or [self.made_late()]:
            optimizer.step()
        return {"loss": loss.detach()}

    def made_late(self) -> Any:
        import torch

        self.optimizers = [torch.optim.Adam(parameters(self))]
        return self.optimizers[0]


class Replaces(keras.callbacks.Callback):
    """Begins a second phase, which has an optimizer of its own."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.at:
            self.model.made_late()


class Falls(keras.callbacks.Callback):
    """Lets the rates fall, and breaks the fit off."""

    def __init__(self, broken: bool):
        super().__init__()
        self.broken = broken

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.broken and epoch == 3:
            raise InterruptedError
        for optimizer in self.model.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= 0.7


def check_backup() -> None:
    """A fit that was broken off goes on with what torch's own optimizers knew."""
    import torch

    def trained(
        folder: str | None, kinds: str = "Adam, SGD", *others: Any, broken: bool = False
    ) -> Any:
        keras.utils.set_random_seed(1)
        model = Halves()
        model(X)
        model.compile()
        rates = torch.tensor(1e-2), 1e-2
        model.optimizers = [
            getattr(torch.optim, kind)(parameters(half), rate)
            for kind, half, rate in zip(kinds.split(", "), model.halves, rates, strict=False)
            if kind
        ]
        scheduler = RankScheduler(rank=PiecewiseConstant((99, 7, 4), (0, 2, 4)), rules=[ALL])
        callbacks = [scheduler, Falls(broken), *others]
        if folder is not None:
            callbacks.insert(1, RankBackupAndRestore(scheduler, folder))
        with contextlib.suppress(InterruptedError):
            model.fit(X, X[:, :5], epochs=6, shuffle=False, verbose=0, callbacks=callbacks)
        return model

    wanted = trained(None)
    with tempfile.TemporaryDirectory() as folder:
        trained(folder, broken=True)
        for kinds, told in (
            ("Adam", r"Adam \(1 group\)\."),
            ("SGD, Adam", "SGD.*Adam"),
            ("", "none"),
        ):
            with pytest.raises(FormatError, match=f"were Adam.*, SGD.*Received: {told}"):
                trained(folder, kinds)
        model = trained(folder)
        for one, other in zip(model.optimizers, wanted.optimizers, strict=True):
            assert one.param_groups[0]["lr"] == other.param_groups[0]["lr"] < 2e-3
            assert torch.is_tensor(one.param_groups[0]["lr"]) == (one is model.optimizers[0])
            assert_same(known(model, one), known(wanted, other))
        with pytest.warns(UserWarning, match=r"Adam \(torch\.optim\).*made after fit began"):
            trained(folder, "")
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.warns(UserWarning, match=r"Adam \(torch\.optim\).*made after fit began"),
    ):
        trained(folder, "SGD", Replaces(at=3))


def main() -> None:
    for name in OPTIMIZERS:
        check_cuts(name)
    for name in ("SGD without momentum", "Adam", "LBFGS"):
        with tempfile.TemporaryDirectory() as folder:
            check_undo(name, folder)
    for name, (make_twin, slots) in TWINS.items():
        check_transport(name, make_twin, slots)
    check_strange_state()
    check_numbers_of_numpy()
    check_undo_of_the_first_steps()
    check_failures()
    check_frozen()
    check_hooks()
    check_inference_mode()
    check_warm_up()
    check_backup()
    print(f"{len(OPTIMIZERS)} optimizers of torch")


if __name__ == "__main__":
    main()
