"""What every test shares: a quiet TensorFlow, the same random numbers each time.

Folders of `PURE` are tested without Keras: `make test-pure` collects nothing else, and a test
that loads Keras then fails. A few that must are marked `keras`.
"""

from __future__ import annotations

import functools
import gc
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

# Read by TensorFlow, Keras and BLAS when they load, so set before any test imports them.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
from elsewhere import Elsewhere

from reducible_train import datasets

TESTS = Path(__file__).resolve().parent
PURE = (
    "config",
    "container",
    "linalg",
    "report",
    "selection/allocation",
    "selection/criteria",
    "settings",
)
EAGER = (
    "analysis",
    "cli",
    "compressor",
    "layers",
    "saving",
    "selection",
    "surgery",
    "tensorboard",
    "training",
    "tuner",
    "whole/test_distribution.py",
    "whole/test_docs.py",
    "whole/test_examples.py",
    "whole/test_readme.py",
)


@functools.cache
def quick_tensorflow(*, optimizes: bool) -> None:
    """Have TensorFlow do for many small models no more than they need: a tenth less time.

    Graphs are run as they are traced, not optimised first, which is decided before the first
    operation runs; the slow tests run them as everybody does. And kernels of operations stay when
    it is seeded anew; all are thrown away elsewhere, for those that hold a seed, which Keras has
    none of.
    """
    import tensorflow as tf
    from tensorflow.python.eager.context import Context

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not optimizes})

    def seed(self: Any, seed: Any) -> None:
        self._seed, self._rng = seed, random.Random(seed)

    Context._set_global_seed = seed
    Context.clear_kernel_cache = lambda self: None


def pytest_collectstart(collector: pytest.Collector) -> None:
    """What may make a model when it is imported is collected after TensorFlow is set up."""
    if collector.path.suffix == ".py" and not is_in_pure_room(collector.path):
        quick_tensorflow(optimizes=collector.config.option.markexpr == "slow")


@pytest.fixture(autouse=True)
def same_every_time() -> None:
    """Seed everything and number layer names from the start; load Keras for nobody."""
    random.seed(1)
    np.random.seed(1)
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(1)


@pytest.fixture(autouse=True)
def few_objects() -> None:
    """Take all that lives before a test from the garbage collector, a million objects.

    Each cut asks it for all objects, to find what holds the old variables: that took half of the
    time of every test that cuts. So no test cuts a model that lived before it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)  # what a test leaves is gone before the next one


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts at the same place in every test."""
    return np.random.default_rng(1)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Another process that runs programs."""
    process = Elsewhere(tmp_path_factory.mktemp("elsewhere") / "errors.txt")
    yield process
    process.close()


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, which are those of `whole`: else one worker ends long after the other."""
    items.sort(key=lambda item: TESTS / "whole" not in item.path.parents)
    for item in filter(is_pure, items):
        item.add_marker("pure")


def is_pure(item: pytest.Item) -> bool:
    """True for a test that must run where there is no Keras."""
    return item.get_closest_marker("keras") is None and is_in_pure_room(item.path)


@functools.cache
def is_in_pure_room(path: Path) -> bool:
    return any(TESTS / room in path.parents for room in PURE)


@pytest.fixture(scope="session")
def only_pure_rooms(request: pytest.FixtureRequest) -> bool:
    return all(is_pure(item) for item in request.session.items)


@pytest.fixture(autouse=True)
def pure_rooms_load_no_keras(only_pure_rooms: bool) -> Any:
    """Where nothing else is collected, nobody has loaded Keras but this test or its module."""
    yield
    if only_pure_rooms and "keras" in sys.modules:
        pytest.fail("A test of a pure room loads Keras: take it elsewhere, or mark it `keras`.")


@pytest.fixture(autouse=True)
def eagerly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In what `EAGER` names, models are compiled to run eagerly, unless a test is marked `traced`.

    To trace the graph of a small model takes as long as a dozen of its epochs, and each cut has
    it traced anew. Whether a graph is stale after a cut is a law of its own, in `surgery`.
    """
    keras = sys.modules.get("keras")
    rooms = [TESTS / room for room in EAGER]
    if keras is None or request.node.get_closest_marker("traced"):
        return
    if not any(room in (request.path, *request.path.parents) for room in rooms):
        return
    # Keras asks whether a class has a `compile` of its own, so it is changed where it is defined.
    home = next(each for each in keras.Model.__mro__ if "compile" in vars(each))
    compiles = home.compile

    def compile_eagerly(self: Any, *args: Any, **kwargs: Any) -> None:
        compiles(self, *args, **{"run_eagerly": True} | kwargs)

    monkeypatch.setattr(home, "compile", compile_eagerly)


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets.load` gives 64 samples of each part: programs on them are run, not judged."""
    load = datasets.load

    def load_few(name: str = "digits") -> datasets.Dataset:
        data = load(name)
        parts = [f"{axis}_{part}" for part in ("train", "val", "test") for axis in "xy"]
        return replace(data, **{part: getattr(data, part)[:64] for part in parts})

    monkeypatch.setattr(datasets, "load", load_few)
