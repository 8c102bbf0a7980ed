"""What must hold on every backend of Keras: models, optimizers, cuts in a fit, files.

    KERAS_BACKEND=jax python tests/backend_matrix.py [numbers.npz]

Each check prints a line, or stops the program. The file gets the numbers that must be the
same on every backend.
"""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

# Read by TensorFlow, Keras and JAX when they load.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import keras
import numpy as np
import torch_matrix
import zoo

from reducible_train import (
    Cadence,
    Guard,
    PiecewiseConstant,
    RankBackupAndRestore,
    RankScheduler,
    _keras,
    factorize,
    load_model,
    load_weights_into,
    merge,
    save_model,
    to_stock_layers,
)

ROUND_OFF = 2e-5
CUSTOM = {"zoo>Subclassed": zoo.Subclassed, "Block": zoo.Block}
SAMPLES, BATCH, EPOCHS = 192, 32, 5

# One model of each shape, one optimizer of each kind, cuts between epochs and within one.
FITS: dict[str, tuple[Callable[[], Any], Callable[[], Any], Cadence]] = {
    "sequential, Adam": (
        zoo.sequential,
        lambda: keras.optimizers.Adam(5e-3),
        Cadence(epochs=1),
    ),
    "nested and shared, SGD with momentum, cuts within epochs": (
        zoo.nested,
        lambda: keras.optimizers.SGD(0.02, momentum=0.9),
        Cadence(steps=3),
    ),
    "subclassed, RMSprop": (
        zoo.subclassed,
        lambda: keras.optimizers.RMSprop(6e-3),
        Cadence(epochs=1),
    ),
}


class GuardRun(keras.callbacks.Callback):
    """Predictions must be those of a call, and both factors must move in each epoch."""

    def __init__(self, x: np.ndarray):
        super().__init__()
        self.x = x
        self.checked = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == SAMPLES // BATCH - 1:  # past every cut of the epoch
            self.factors = _factors(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        np.testing.assert_allclose(
            zoo.predicted(self.model, self.x), zoo.outputs(self.model, self.x), atol=ROUND_OFF
        )
        after = _factors(self.model)
        assert set(after) == set(self.factors)
        for path, before in self.factors.items():
            assert np.abs(after[path] - before).max() > 0, f"{path} is not trained"
            self.checked += 1


def _factors(model: Any) -> dict[str, np.ndarray]:
    return {
        variable.path: zoo.as_array(variable)
        for variable in model.trainable_variables
        if variable.name in ("kernel_u", "kernel_v")
    }


def learnable(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and classes that a linear map decides."""
    x, _ = zoo.data(model, SAMPLES)
    teacher = np.random.default_rng(1).normal(size=(x.shape[-1], 5))
    return x, (x @ teacher).argmax(-1)


def check_fit(make: Callable[[], Any], optimizer: Callable[[], Any], cadence: Cadence) -> str:
    """Two cuts in one fit: nothing is stale, and everything is trained as it should."""
    keras.utils.set_random_seed(1)
    model, other = (zoo.compiled(make(), optimizer()) for _ in range(2))
    other.set_weights(model.get_weights())
    x, y = learnable(model)
    watch = GuardRun(x)
    second = 2 if cadence.epochs else 2.5
    fall = PiecewiseConstant((99, 11, 4), (0, 1, second))
    scheduler = RankScheduler(rank=fall, criterion="frobenius", cadence=cadence)
    history = model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        validation_data=(x, y),
        callbacks=[scheduler, watch],
        verbose=0,
    ).history
    assert len(scheduler.report.cuts) == 2, scheduler.report.cuts
    assert set(scheduler.report.ranks.values()) == {4}
    assert watch.checked > 0
    assert history["loss"][-1] < history["loss"][-2] < 0.95 * history["loss"][0], history["loss"]
    np.testing.assert_allclose(
        history["val_loss"][-1], model.evaluate(x, y, batch_size=BATCH, verbose=0), rtol=1e-5
    )
    assert int(model.optimizer.iterations) == EPOCHS * SAMPLES // BATCH
    if cadence.epochs:
        check_several_fits(model, other, x, y)
    check_files(model, make, x)
    before = zoo.predicted(model, x)
    merge(model)
    np.testing.assert_allclose(zoo.predicted(model, x), before, atol=ROUND_OFF)
    return f"loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}"


def check_several_fits(model: Any, other: Any, x: np.ndarray, y: np.ndarray) -> None:
    """Cuts within one fit give what cuts between several fits give."""
    for rank, epochs in ((None, 1), (11, 1), (4, EPOCHS - 2)):
        if rank is not None:
            factorize(other, rank=rank)
        other.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0)
    np.testing.assert_allclose(zoo.predicted(model, x), zoo.predicted(other, x), atol=1e-3)


def check_files(model: Any, make: Callable[[], Any], x: np.ndarray) -> None:
    """Our file and Keras's own give the model back, Keras's with the optimizer."""
    wanted = zoo.predicted(model, x)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, f"{folder}/model.reducible")
        loaded = load_model(f"{folder}/model.reducible", CUSTOM)
        np.testing.assert_allclose(zoo.predicted(loaded, x), wanted, atol=1e-6)
        if isinstance(model, zoo.Subclassed):
            again = load_weights_into(make(), f"{folder}/model.reducible")
        else:
            model.save(f"{folder}/model.keras")
            again = keras.models.load_model(f"{folder}/model.keras")
            for ours, theirs in zip(
                model.optimizer.variables, again.optimizer.variables, strict=True
            ):
                np.testing.assert_array_equal(zoo.as_array(ours), zoo.as_array(theirs))
        np.testing.assert_allclose(zoo.predicted(again, x), wanted, atol=1e-6)


def check_holders() -> None:
    """Two models over one layer, each with an optimizer: both go on, and predict what they call."""
    x, y = np.random.default_rng(0).normal(size=(2, 32, 12)).astype("float32")
    shared = keras.layers.Dense(16, activation="tanh", name="shared")
    inputs = keras.Input((12,))
    models = [keras.Model(inputs, keras.layers.Dense(12)(shared(inputs))) for _ in range(2)]
    for model, optimizer in zip(models, ("adam", "rmsprop"), strict=True):
        model.compile(optimizer, "mse")
        model.fit(x, y, verbose=0)
        model.predict(x, verbose=0)
    factorize(models[0], rank=5)
    for model in models:
        np.testing.assert_allclose(
            model.predict(x, verbose=0), zoo.as_array(model(x)), atol=ROUND_OFF
        )
        before = _factors(model)
        model.fit(x, y, verbose=0)
        assert all(np.abs(after - before[k]).max() > 0 for k, after in _factors(model).items())


def check_random_layers() -> None:
    """A model whose layers keep a state of random numbers comes back from its file as it was."""
    layers = (keras.layers.GaussianNoise(0.1), keras.layers.Dense(16), keras.layers.Dropout(0.3))
    model = keras.Sequential([keras.Input((12,)), *layers, keras.layers.Dense(16)])
    x, y = np.random.default_rng(0).normal(size=(2, 32, 16)).astype("float32")
    x = x[:, :12]
    factorize(model, rank=4)
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, f"{folder}/model.reducible")
        loaded = load_model(f"{folder}/model.reducible")
    np.testing.assert_array_equal(zoo.outputs(loaded, x), zoo.outputs(model, x))
    loaded.compile("adam", "mse")
    loaded.fit(x, y, verbose=0)
    check_resumed()
    if keras.backend.backend() == "torch":
        check_torch_waits()


def check_resumed() -> None:
    """A fit that was broken off goes on with the random numbers that would have been drawn."""
    x, y = np.random.default_rng(0).normal(size=(2, 32, 12)).astype("float32")

    def train(folder: str | None = None, broken: int | None = None) -> list[np.ndarray]:
        keras.utils.set_random_seed(7)
        layers = (keras.layers.Dense(16), keras.layers.Dropout(0.5), keras.layers.Dense(12))
        model = keras.Sequential([keras.Input((12,)), *layers])
        model.compile("sgd", "mse")
        scheduler = RankScheduler(budget=0.8, calibration=(x, y))
        callbacks = [scheduler, _Looks(x), _BreaksOff(broken)]
        if folder is not None:
            callbacks.insert(1, RankBackupAndRestore(scheduler, folder))
        with contextlib.suppress(InterruptedError):
            model.fit(x, y, epochs=3, shuffle=False, callbacks=callbacks, verbose=0)
        return [zoo.as_array(variable) for variable in model.weights]

    wanted = train()
    with tempfile.TemporaryDirectory() as folder:
        train(folder, broken=2)
        for one, other in zip(train(folder), wanted, strict=True):
            np.testing.assert_array_equal(one, other)


class _Looks(keras.callbacks.Callback):
    """Draws random numbers before the first epoch of each fit, which nobody shall notice."""

    def __init__(self, x: np.ndarray):
        super().__init__()
        self._x = x

    def on_train_begin(self, logs: Any = None) -> None:
        with _keras.as_it_was(self.model):
            self.model(self._x, training=True)


class _BreaksOff(keras.callbacks.Callback):
    """Ends a fit as a kill would."""

    def __init__(self, epoch: int | None):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self._epoch:
            raise InterruptedError


def check_torch_waits() -> None:
    """Torch's modules hold what the variables of a layer hold, and nothing until it has memory."""
    layer = keras.layers.Dense(3)
    with _keras.bounded_variables(0):
        layer.build((None, 4))
    assert not list(layer.parameters())
    _keras.allocate(layer)
    assert {id(each) for each in layer.parameters()} == {id(v.value) for v in layer.variables}


def check_stock() -> None:
    """A model of stock layers and the one it was made of are trained and used side by side."""
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(16, name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(12),
        ]
    )
    model.compile("adam", "mse")
    x, y = np.random.default_rng(0).normal(size=(2, 32, 12)).astype("float32")
    model.fit(x, y, verbose=0)
    factorize(model, rank=4)
    wanted = model.predict(x, verbose=0)
    stock = to_stock_layers(model)
    stock.compile("adam", "mse")
    held = [zoo.as_array(variable) for variable in stock.variables]
    model.fit(x, y, verbose=0)
    for variable, value in zip(stock.variables, held, strict=True):
        np.testing.assert_array_equal(zoo.as_array(variable), value, err_msg=variable.path)
    np.testing.assert_allclose(stock.predict(x, verbose=0), wanted, atol=ROUND_OFF)
    stock.fit(x, y, verbose=0)
    model.predict(x, verbose=0)
    to_stock_layers(model)


def check_layouts() -> None:
    """Under ModelParallel, factors and their slots are split as their kernels; any rank will do."""
    devices = keras.distribution.list_devices("cpu")
    mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"), devices[:4])
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*kernel.*"] = (None, "model")
    parallel = keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    x, y = np.random.default_rng(0).normal(size=(2, 32, 16)).astype("float32")
    with parallel.scope():
        model = keras.Sequential([keras.Input((16,)), *(keras.layers.Dense(16) for _ in range(3))])
        model.compile("adam", "mse")
        guard = Guard("loss", max_drop=0.0)  # undoes the cut
        for options in (
            {"rank": PiecewiseConstant((99, 7, 5), (0, 1, 2))},
            {"rank": PiecewiseConstant((5, 1), (0, 2)), "guard": guard},
        ):
            model.fit(x, y, epochs=4, verbose=0, callbacks=[RankScheduler(**options)])
        held = [*model.variables, *model.optimizer.variables]
        split = {f"{v.path}_": tuple(v.value.sharding.spec) for v in held}
        split = {p: s for p, s in split.items() if "kernel_u_" in p or "kernel_v_" in p}
        assert len(split) == 12, split
        for path, axes in split.items():
            assert axes == (None, "model" if "kernel_v_" in path else None), (path, axes)
        check_last_step(np.ones((96, 12), "float32"), np.zeros(96, int))
        merge(model)
        kernels = [v for v in model.variables if v.name == "kernel"]
        assert all(v.value.sharding.spec[1] == "model" for v in kernels)
        model.fit(x, y, verbose=0)


class InOrder(keras.utils.PyDataset):
    """The first batches of the data, by number."""

    def __init__(self, batches: list[tuple[np.ndarray, np.ndarray]]):
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batches[index]


def check_streams() -> None:
    """Batches of a fit are seen before their steps, trained on later, and none of them is lost."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(96, 12)).astype("float32")
    y = rng.integers(0, 5, 96)
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 96, 16)]
    sources: dict[str, Callable[[], dict[str, Any]]] = {
        "a PyDataset": lambda: {"x": InOrder(batches)},
        "a generator without a length": lambda: {"x": (each for each in batches)},
        "arrays with class_weight": lambda: {
            "x": x,
            "y": y,
            "batch_size": 16,
            "class_weight": {i: 1.0 + i for i in range(5)},
        },
    }
    if keras.backend.backend() == "torch":
        sources["a DataLoader"] = lambda: {"x": _loader(x, y)}
    at_once = 1 if keras.backend.backend() == "torch" else 2
    for source, data in sources.items():
        losses, told = [], []
        falls = (0.5,) if "without" in source else (0.5, 0.4)  # at 0.6 of an epoch of known length
        for budgets in ((), (1.0,), falls):
            keras.utils.set_random_seed(5)
            layers = [*(keras.layers.Dense(32, "relu") for _ in range(2)), keras.layers.Dense(5)]
            model = keras.Sequential([keras.Input((12,)), *layers])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("adam", loss, steps_per_execution=at_once)
            callbacks = []
            if budgets:
                budget = PiecewiseConstant(budgets, (0.0, 0.6)[: len(budgets)])
                callbacks = [RankScheduler(budget, calibration=48, cadence=Cadence(steps=2))]
            history = model.fit(**data(), shuffle=False, verbose=0, callbacks=callbacks)
            losses.append(history.history["loss"][0])
            assert int(model.optimizer.iterations) == 6, source
            told = [] if not budgets else callbacks[0].report.cuts
            assert all(copy.deepcopy(each).report.cuts == told for each in callbacks), source
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5, err_msg=source)
        assert {k.criterion for cut in told for k in cut.kernels} == {"fisher"}, source
        assert len(told) == len(falls), source
    check_last_step(x, y)


def check_last_step(x: np.ndarray, y: np.ndarray) -> None:
    """Where Keras announces a step for which there is no data, nothing is cut."""
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(32), keras.layers.Dense(6)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    at_ends = []

    class Looks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            at_ends.append(model.layers[0].rank)

    ranks = PiecewiseConstant((7, 5), (0, 2))
    scheduler = RankScheduler(rank=ranks, criterion="frobenius", cadence=Cadence(steps=2))
    data = _of_unknown_length(x, y)
    model.fit(data, epochs=3, shuffle=False, verbose=0, callbacks=[scheduler, Looks()])
    assert int(model.optimizer.iterations) == 18
    assert at_ends == [7, 7, 5]


def _of_unknown_length(x: np.ndarray, y: np.ndarray) -> Any:
    """Six batches of data that does not say how many it has."""
    if keras.backend.backend() != "torch":
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((x, y)).batch(16).filter(lambda *_: True)
    import torch

    class Some(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            return zip(x, y, strict=True)

    return torch.utils.data.DataLoader(Some(), batch_size=16)


def _loader(x: np.ndarray, y: np.ndarray) -> Any:
    import torch

    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return torch.utils.data.DataLoader(data, batch_size=16)


def numbers() -> dict[str, np.ndarray]:
    """Weights, Adam's state and outputs after two cuts, from the same start everywhere."""
    keras.utils.clear_session(free_memory=False)  # automatic names count from the start
    found: dict[str, np.ndarray] = {}
    for make in (zoo.sequential, zoo.nested, zoo.subclassed):
        rng = np.random.default_rng(2)
        model = zoo.compiled(make(), keras.optimizers.Adam(1e-3))
        model.optimizer.build(model.trainable_variables)
        for variable in [*model.variables, *model.optimizer.variables]:
            if "float" in str(variable.dtype) and len(variable.shape):
                variable.assign(rng.uniform(0.1, 1.0, variable.shape) / 4)
        x, _ = zoo.data(model)
        for rank in (9, 4):
            factorize(model, rank=rank)
            place = f"{model.name} at {rank}"
            found[f"{place}: outputs"] = zoo.outputs(model, x)
            every = [*model.variables, *model.optimizer.variables]
            for index, variable in enumerate(every):
                found[f"{place}: {index} {variable.name}"] = zoo.as_array(variable)
    return found | penalised_numbers()


def penalised_numbers() -> dict[str, np.ndarray]:
    """Gradients of a loss that has penalties, and outputs after a cut that goes by them."""
    rng = np.random.default_rng(3)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(16, "tanh", kernel_regularizer="l2", activity_regularizer="l2"),
            keras.layers.Dense(16, "tanh", kernel_regularizer="l1", bias_regularizer="l2"),
            keras.layers.Dense(5),
        ]
    )
    zoo.compiled(model, keras.optimizers.SGD(0.1))
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) / 4)
    x, y = rng.normal(size=(64, 12)).astype("float32"), rng.integers(0, 5, 64)
    some = model.trainable_variables[:3]  # others have penalties, too
    gradients = _keras.loss_gradients(model, some, (x, y, None))
    factorize(model, budget=0.6, criterion="fisher", calibration=(x, y))
    found = {f"penalised: gradient {index}": each for index, each in enumerate(gradients)}
    return found | {"penalised: outputs": zoo.outputs(model, x)}


def main() -> None:
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    for name, (make, optimizer, cadence) in FITS.items():
        started = time.perf_counter()
        told = check_fit(make, optimizer, cadence)
        print(f"{name}: {told}, {time.perf_counter() - started:.0f} s", flush=True)
    check_holders()
    check_random_layers()
    check_stock()
    check_streams()
    if keras.backend.backend() == "jax":
        check_layouts()
    if keras.backend.backend() == "torch":
        torch_matrix.main()
    started = time.perf_counter()
    found = numbers()
    print(f"{len(found)} arrays of numbers, {time.perf_counter() - started:.0f} s")
    if len(sys.argv) > 1:
        np.savez(sys.argv[1], **{name.replace("/", "|"): array for name, array in found.items()})


if __name__ == "__main__":
    main()
