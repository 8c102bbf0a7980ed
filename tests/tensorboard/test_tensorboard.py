"""Laws of what is written for TensorBoard, read back with TensorBoard's own reader."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import pickle
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util

from reducible_train import (
    LayerRule,
    Ramp,
    RankBackupAndRestore,
    RankEarlyStopping,
    RankScheduler,
)
from reducible_train.errors import ArgumentError, ArgumentTypeError, FileAccessError, FormatError
from reducible_train.report.records import Cut, KernelCut, KernelRecord, Report, UndoneCut
from reducible_train.settings.schedules import Constant
from reducible_train.settings.targets import Budget
from reducible_train.tensorboard.callback import RankTensorBoard, configuration_table
from reducible_train.tensorboard.tags import ThinnedSpectrum, from_json, layer_of, thin_spectrum

SHAPE = (784, 600)
DENSE = 784 * 600 + 6000


class Scripted:
    """Stands for a RankScheduler: the rank falls to a planned value as an epoch begins."""

    target = Budget(Constant(0.3))
    rules = ()

    def __init__(self, ranks: list[int | None], flops: int | None = 200):
        self.ranks, self.flops, self.rank, self.cuts = ranks, flops, None, ()

    def reset(self) -> None:
        self.rank, self.cuts = None, ()

    def cut(self, epoch: int, rank: int | None) -> None:
        if rank == self.rank:
            return
        spectrum = np.linspace(5, 0, min(SHAPE))
        kernel = KernelCut(
            "net/d1/kernel", SHAPE, self.rank, rank, 0.5 + rank / 1000, 0.1, "budget", spectrum
        )
        self.cuts += (Cut(epoch, 0, "budget", 0.3, (kernel,), DENSE, self.parameters, {}),)
        self.rank = rank

    @property
    def parameters(self) -> int:
        return DENSE if self.rank is None else self.rank * sum(SHAPE) + 6000

    @property
    def report(self) -> Report:
        kernels = (
            KernelRecord("net/d1/kernel", "Dense", SHAPE, self.rank, 339, self.parameters),
            KernelRecord(
                "net/out|/kernel", "Dense", (600, 10), None, 9, 6000, reason="output layer"
            ),
        )
        return Report(
            DENSE,
            self.parameters,
            4,
            4,
            self.flops and 2 * self.flops,
            self.flops,
            kernels,
            self.cuts,
        )


def fit(board: RankTensorBoard, epochs=range(3), logs=None) -> None:
    scheduler = board.scheduler
    board.on_train_begin()
    scheduler.reset()
    for epoch in epochs:
        scheduler.cut(epoch, scheduler.ranks[epoch])
        board.on_epoch_end(epoch, {"loss": 1.0, "val_loss": 0.5 - epoch / 10} | (logs or {}))
    board.on_train_end()


def fit_undone(folder: Path) -> RankTensorBoard:
    """Logs of a fit of three epochs whose last cut, of the last epoch, is undone as it ends."""
    scheduler = Scripted([None, 100, 40, 40, 40])
    board = RankTensorBoard(scheduler, folder)
    board.on_train_begin()
    for epoch in range(3):
        scheduler.cut(epoch, scheduler.ranks[epoch])
        board.on_epoch_end(epoch, {"val_accuracy": 0.9 - 0.1 * epoch})
    scheduler.rank, scheduler.cuts = 100, scheduler.cuts[:-1]
    board.on_train_end()
    return board


class Within(Scripted):
    """Its cuts are made before and in epochs of ten steps; two of one epoch are undone in the next.

    Each cut is of one kernel: `d2` is cut within epoch 1 only, and by what the data say. It ends
    with the weights of epoch 1.
    """

    kept_epoch = 1

    def __init__(self, *, known: bool = True):
        super().__init__([])
        self.made, self.taken, self.known = 0, (), known
        self.planned = (
            self.planned_cut(1, 10, "d1", 100, "frobenius", 900, 700),
            self.planned_cut(1, 14, "d2", 90, "activation", 700, 500),
            self.planned_cut(2, 25, "d1", 40, "activation", 500, 300),
        )

    def planned_cut(self, epoch, step, name, rank, criterion, before, after):
        kernel = KernelCut(
            f"net/{name}/kernel", SHAPE, None, rank, 0.5, 0.1, "", np.linspace(5, 1, 600), criterion
        )
        done = step - 10 * epoch if self.known else None
        return Cut(epoch, step, "budget", 0.3, (kernel,), before, after, {}, epoch_step=done)

    def go_on(self, epoch: int) -> None:
        """To the end of an epoch."""
        self.cuts = tuple(cut for cut in self.planned if cut.epoch <= epoch)
        if epoch == 2:
            aims = "budget", 0.3, 900, 500, "val_loss"
            self.taken = (UndoneCut(1, 2, *aims, 0.5, 0.6, 0.7, "it was too much"),)

    @property
    def report(self) -> Report:
        kernels = [
            KernelRecord(f"net/{name}/kernel", "Dense", SHAPE, rank, 339, 300)
            for name, rank in (("d1", 100), ("d2", 90))
        ]
        return Report(900, 300, 4, 4, 200, 100, tuple(kernels), self.cuts, (), self.taken)


def fit_within(folder: Path, *, known: bool = True) -> None:
    """Logs of a fit of three epochs that cuts as `Within` does, and tells where, if it is known."""
    scheduler = Within(known=known)
    board = RankTensorBoard(scheduler, folder)
    board.on_train_begin()
    for epoch in range(3):
        scheduler.go_on(epoch)
        board.on_epoch_end(epoch, {"val_accuracy": 0.9 - 0.1 * epoch})
    board.on_train_end()


def read(
    folder: Path, run: str = "reducible"
) -> dict[str, list[tuple[int, summary_pb2.Summary.Value]]]:
    """Every value in the run's event files, by tag: (step, value)."""
    found: dict[str, list] = {}
    files = (folder / run).iterdir()
    for file in sorted(files, key=lambda path: int(path.name.rpartition(".")[2])):  # their count
        for event in EventFileLoader(os.fspath(file)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


def points(values) -> list[tuple[int, float]]:
    return [(step, tensor_util.make_ndarray(value.tensor).item()) for step, value in values]


def configuration(values) -> list[str]:
    ((_, value),) = values["reducible/configuration"]
    return tensor_util.make_ndarray(value.tensor).item().decode().splitlines()


def test_tags_plugins_and_data_classes(tmp_path):
    fit(RankTensorBoard(Scripted([None, 100, 40]), tmp_path), logs={"val_table": "a"})
    values = read(tmp_path)
    scalars = {
        *("reducible/params", "reducible/params_fraction", "reducible/flops_fraction"),
        *("reducible/val_loss", "reducible_rank/net/d1", "reducible_cut_energy/net/d1"),
        *("reducible/undone_cuts", "reducible_energy_kept/net/d1", "reducible/quality"),
    }
    others = {
        "reducible/spectrum/net/d1": "reducible",
        "reducible/outcome": "reducible",
        "reducible/decisions": "reducible",
        "reducible/cuts": "text",
        "_hparams_/experiment": "hparams",
        "_hparams_/session_start_info": "hparams",
        "_hparams_/session_end_info": "hparams",
        "custom_scalars__config__": "custom_scalars",
        "reducible/configuration": "text",
    }
    assert values.keys() == scalars | others.keys()
    for tag in scalars:
        for _, value in values[tag]:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            assert value.metadata.data_class == summary_pb2.DATA_CLASS_SCALAR
            array = tensor_util.make_ndarray(value.tensor)
            assert array.dtype == np.float32
            assert array.shape == ()
    for tag, plugin in others.items():
        for _, value in values[tag]:
            assert value.metadata.plugin_data.plugin_name == plugin
            assert value.metadata.data_class == summary_pb2.DATA_CLASS_TENSOR


def test_ranks_and_sizes_stand_at_the_epoch_they_were_in_force(tmp_path):
    fit(RankTensorBoard(Scripted([None, 100, 40]), tmp_path))
    values = read(tmp_path)
    assert points(values["reducible_rank/net/d1"]) == [(0, 600), (1, 100), (2, 40)]
    sizes = [DENSE, 100 * 1384 + 6000, 40 * 1384 + 6000]
    assert points(values["reducible/params"]) == list(enumerate(sizes))
    fractions = points(values["reducible/params_fraction"])
    assert fractions == [(i, np.float32(size / DENSE)) for i, size in enumerate(sizes)]
    assert points(values["reducible/val_loss"]) == [(i, np.float32(0.5 - i / 10)) for i in range(3)]
    assert points(values["reducible_cut_energy/net/d1"]) == [
        (1, np.float32(0.6)),
        (2, np.float32(0.54)),
    ]


def test_a_cut_that_is_undone_at_the_end_leaves_the_ranks_of_before_it_there(tmp_path):
    board = fit_undone(tmp_path)
    values = read(tmp_path)
    ranks = [600, 100, 40, 100]
    assert points(values["reducible_rank/net/d1"]) == list(enumerate(ranks))
    sizes = [DENSE, *(rank * 1384 + 6000 for rank in ranks[1:])]
    assert points(values["reducible/params"]) == list(enumerate(sizes))
    qualities = [np.float32(each) for each in (0.9, 0.8, 0.7, 0.8)]
    assert points(values["reducible/quality"]) == list(enumerate(qualities))
    assert [step for step, _ in values["reducible/val_accuracy"]] == [0, 1, 2], "as measured"
    fit(board, range(3, 5))
    assert [step for step, _ in read(tmp_path)["reducible/params"]] == [0, 1, 2, 3, 4, 5]


def test_spectrum_is_written_only_where_a_cut_was_made(tmp_path):
    fit(RankTensorBoard(Scripted([None, 100, 100, 40]), tmp_path), range(4))
    written = read(tmp_path)["reducible/spectrum/net/d1"]
    assert [step for step, _ in written] == [1, 3]
    spectrum = ThinnedSpectrum.from_tensor(tensor_util.make_ndarray(written[0][1].tensor))
    assert (spectrum.rank, spectrum.length) == (100, 600)
    whole = np.linspace(5, 0, 600).astype(np.float32)
    assert np.array_equal(spectrum.values, whole[spectrum.positions - 1])


def test_last_of_several_cuts_in_an_epoch(tmp_path):
    scheduler = Scripted([None])
    board = RankTensorBoard(scheduler, tmp_path)
    board.on_train_begin()
    for rank in (300, 200, 100):
        scheduler.cut(0, rank)
    board.on_epoch_end(0, {})
    board.on_train_end()
    values = read(tmp_path)
    assert points(values["reducible_cut_energy/net/d1"]) == [(0, np.float32(0.6))]
    assert points(values["reducible_rank/net/d1"]) == [(0, 100)]


def test_steps_only_grow_over_fits(tmp_path):
    board = RankTensorBoard(Scripted([None, 100, 40, 40, 40, 30]), tmp_path)
    fit(board)
    fit(board, range(3, 5))  # continued with initial_epoch
    fit(board)  # from the beginning
    values = read(tmp_path)
    assert [step for step, _ in values["reducible/params"]] == list(range(8))
    assert len(values["custom_scalars__config__"]) == len(values["reducible/configuration"]) == 1
    assert [step for step, _ in values["reducible/spectrum/net/d1"]] == [1, 2, 3, 6, 7]


def test_initial_epoch_is_honoured(tmp_path):
    fit(RankTensorBoard(Scripted([None] * 7 + [100, 40]), tmp_path), range(7, 9))
    assert [step for step, _ in read(tmp_path)["reducible/params"]] == [7, 8]


def test_another_folder_starts_anew(tmp_path):
    keras_board = keras.callbacks.TensorBoard(os.fspath(tmp_path / "a"))
    board = RankTensorBoard(Scripted([None, 100, 40]), keras_board)
    fit(board)
    keras_board.log_dir = os.fspath(tmp_path / "b")  # as Keras Tuner does for each trial
    fit(board)
    for name in "ab":
        values = read(tmp_path / name)
        assert [step for step, _ in values["reducible/params"]] == [0, 1, 2]
        assert "custom_scalars__config__" in values


def test_copies_before_and_between_fits(tmp_path):
    board = RankTensorBoard(Scripted([None, 100, 40]), keras.callbacks.TensorBoard("logs"))
    for copied in (copy.deepcopy(board), pickle.loads(pickle.dumps(board))):
        copied.log_dir.log_dir = os.fspath(tmp_path)
        fit(copied)
    assert board.log_dir.log_dir == "logs"

    first = RankTensorBoard(Scripted([None, 100, 40]), tmp_path / "again")
    fit(first)
    fit(copy.deepcopy(first))
    steps = [step for step, _ in read(tmp_path / "again")["reducible/params"]]
    assert steps == [0, 1, 2, 3, 4, 5]


def test_copied_in_the_middle_of_a_fit_that_was_interrupted(tmp_path):
    board = RankTensorBoard(Scripted([None, 100, 40]), tmp_path)
    board.on_train_begin()
    board.on_epoch_end(0, {})
    copied = pickle.loads(pickle.dumps(board))
    fit(board)
    fit(copied)
    assert len(read(tmp_path)["reducible/params"]) == 7


def test_nan_metric_is_kept_as_nan(tmp_path):
    fit(RankTensorBoard(Scripted([None, 100, 40]), tmp_path), logs={"val_loss": math.nan})
    assert all(math.isnan(loss) for _, loss in points(read(tmp_path)["reducible/val_loss"]))


def test_flops_are_left_out_where_not_known(tmp_path):
    fit(RankTensorBoard(Scripted([None, 100, 40], flops=None), tmp_path))
    assert "reducible/flops_fraction" not in read(tmp_path)


def test_configuration_is_one_markdown_table(tmp_path):
    fit(RankTensorBoard(Scripted([None, 100, 40]), tmp_path))
    lines = configuration(read(tmp_path))
    assert lines[:3] == ["| setting | value |", "|---|---|", "| budget | Constant(value=0.3) |"]
    assert lines[-1] == r"| kernels left dense | net/out\|/kernel (output layer) |"


@pytest.mark.parametrize(
    ("samples", "told"), [(64, "64 samples of the fit"), (np.ones((2, 4)), "data of its own")]
)
def test_the_configuration_tells_what_judges_the_directions(samples, told):
    scheduler = RankScheduler(
        rank=8, criterion="activation", rules=[LayerRule("*", min_gain=0.2)], calibration=samples
    )
    table = configuration_table(scheduler, Scripted([None]).report)
    for row in ("| criterion | activation |", f"| calibration | {told} |"):
        assert row in table.splitlines()


def test_layout_reads_back_and_matches_the_tags(tmp_path):
    fit(RankTensorBoard(Scripted([None, 100, 40]), tmp_path), logs={"val_accuracy": 0.9})
    values = read(tmp_path)
    ((_, value),) = values["custom_scalars__config__"]
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(value.tensor).item())
    patterns = [p for c in layout.category for chart in c.chart for p in chart.multiline.tag]
    compared = re.compile(r"\^reducible(_cut_error/|/output_error|/\(before)")  # nothing was, here
    for pattern in patterns:
        assert compared.match(pattern) or any(re.match(pattern, tag) for tag in values), pattern


def test_visible_after_every_epoch(tmp_path):
    board = RankTensorBoard(Scripted([None, 100]), tmp_path)
    board.on_train_begin()
    for epoch in range(2):
        board.on_epoch_end(epoch, {})
        assert len(read(tmp_path)["reducible/params"]) == epoch + 1
    board.on_train_end()


def test_nothing_is_written_when_no_epoch_runs(tmp_path):
    fit(RankTensorBoard(Scripted([]), tmp_path), epochs=())
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_name_the_way_out(tmp_path):
    with pytest.raises(ArgumentTypeError, match=r"RankScheduler.*Received: 'logs'"):
        RankTensorBoard("logs", Scripted([]))
    with pytest.raises(ArgumentTypeError, match=r"folder.*Received: 3"):
        RankTensorBoard(Scripted([]), 3)


@given(
    length=st.integers(1, 5000),
    fraction=st.floats(0, 1),
    max_points=st.sampled_from([16, 100, 512]),
)
def test_thinning_keeps_the_head_the_cut_and_the_end(length, fraction, max_points):
    rank = round(fraction * length)
    spectrum = np.sort(np.random.default_rng(length).random(length))[::-1]
    thinned = thin_spectrum(spectrum, rank, max_points)
    positions = thinned.positions.tolist()
    assert len(positions) == min(length, max_points)
    assert positions == sorted(set(positions))
    leading = range(1, min(64, max_points - 3, length) + 1)
    assert {*leading, max(rank, 1), min(rank + 1, length), length} <= set(positions)
    assert np.array_equal(thinned.values, spectrum.astype(np.float32)[thinned.positions - 1])

    tensor = thinned.to_tensor()
    assert tensor.dtype == np.float32
    assert tensor.shape == (len(positions) + 1, 2)
    again = ThinnedSpectrum.from_tensor(tensor)
    assert (again.rank, again.length) == (rank, length)
    assert again.positions.tolist() == positions
    assert np.array_equal(again.values, thinned.values)


@pytest.mark.parametrize(
    "tensor",
    [
        np.zeros(4),
        np.zeros((0, 2)),
        np.zeros((3, 3)),
        [[5, 4], [1, 0.5]],  # rank above the length
        [[1, 4], [1, 0.5], [1, 0.4]],  # positions that do not rise
        [[1, 4], [5, 0.5]],  # a position past the end
        [[1.5, 4], [1, 0.5]],
        [[math.nan, 4], [1, 0.5]],
        [[1, math.inf], [1, 0.5]],
    ],
)
def test_a_strange_tensor_is_refused(tensor):
    with pytest.raises(FormatError, match="Received:"):
        ThinnedSpectrum.from_tensor(np.asarray(tensor))


def test_layer_paths_of_several_kernels_differ():
    paths = ["lstm/kernel", "lstm/recurrent_kernel", "mha/query/kernel", "embedding/embeddings"]
    assert len({layer_of(path) for path in paths}) == len(paths)


def small_model() -> keras.Model:
    layers = [keras.layers.Dense(32, activation="relu", name=f"hidden_{i}") for i in (1, 2)]
    model = keras.Sequential([keras.Input((24,)), *layers, keras.layers.Dense(3, name="out")])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def test_only_what_resumes_goes_on_in_the_run_of_another_companion(tmp_path, rng):
    x = rng.normal(size=(64, 24)).astype("float32")

    def trained(initial_epoch=0, breaks=False):
        scheduler = RankScheduler(0.4)
        backup = RankBackupAndRestore(scheduler, tmp_path / "backup")
        board = RankTensorBoard(scheduler, tmp_path)
        told = [scheduler, backup, board, *([Breaks()] if breaks else [])]
        given = {"initial_epoch": initial_epoch, "epochs": 3, "callbacks": told, "verbose": 0}
        small_model().fit(x, x[:, :3], batch_size=64, **given)

    class Breaks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    trained()
    trained(initial_epoch=1)
    with pytest.raises(KeyboardInterrupt):
        trained(breaks=True)
    trained()
    stale = small_model()
    stale._initial_epoch = 1  # as Keras's own backup leaves it behind
    scheduler = RankScheduler(0.4)
    told = [scheduler, RankTensorBoard(scheduler, tmp_path)]
    stale.fit(x, x[:, :3], batch_size=64, epochs=3, callbacks=told, verbose=0)
    runs = sorted(path.name for path in tmp_path.glob("reducible*"))
    steps = [[step for step, _ in read(tmp_path, run)["reducible/params"]] for run in runs]
    assert dict(zip(runs, steps, strict=True)) == {
        "reducible": [0, 1, 2], "reducible_2": [1, 2], "reducible_3": [0, 1, 2],
        "reducible_4": [1, 2]}  # fmt: skip


@pytest.mark.parametrize("has_run", [True, False])
def test_what_was_broken_off_after_its_last_epoch_is_told_as_ended(has_run, tmp_path, rng):
    x = rng.normal(size=(64, 24)).astype("float32")

    def trained(*more):
        scheduler = RankScheduler(0.4)
        backup = RankBackupAndRestore(scheduler, tmp_path / "backup")
        told = [scheduler, RankTensorBoard(scheduler, tmp_path), backup, *more]
        small_model().fit(x, x[:, :3], batch_size=64, epochs=3, callbacks=told, verbose=0)

    class Breaks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(Breaks())
    if not has_run:
        shutil.rmtree(tmp_path / "reducible")
    trained()
    assert [path.name for path in tmp_path.iterdir()] == ["reducible"] * has_run
    if has_run:
        values = read(tmp_path)
        steps = {tag: [step for step, _ in values[tag]] for tag in values}
        assert steps["reducible/params"] == [0, 1, 2]
        assert steps["reducible/outcome"] == [0, 2]
        assert steps["_hparams_/session_end_info"] == [2]
        told = from_json(points(values["reducible/outcome"])[-1][1])
        assert (told["done"], told["last_step"], told["directions"]["train_mae"]) == (True, 2, -1)


def test_beside_a_real_fit(tmp_path, rng):
    scheduler = RankScheduler(budget=Ramp(1.0, 0.4, start_epoch=1, end_epoch=3))
    keras_board = keras.callbacks.TensorBoard(os.fspath(tmp_path))
    board = RankTensorBoard(scheduler, tmp_path)
    seen: list[dict[str, int]] = []
    probe = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(scheduler.report.ranks)
    )
    x = rng.normal(size=(64, 24)).astype("float32")
    y, callbacks = x[:, :3], [scheduler, keras_board, board, probe]
    fit_once = {"epochs": 5, "batch_size": 64, "validation_data": (x, y), "verbose": 0}
    history = small_model().fit(x, y, callbacks=callbacks, **fit_once)

    values = read(tmp_path)
    ranks = points(values["reducible_rank/hidden_2"])
    assert ranks == [(i, r.get("hidden_2/kernel", 32)) for i, r in enumerate(seen)]
    assert ranks[-1][1] < 24
    assert points(values["reducible/params"]) == list(enumerate(history.history["params"]))
    for name in ("val_loss", "val_mae"):
        expected = np.float32(history.history[name]).tolist()
        assert points(values[f"reducible/{name}"]) == list(enumerate(expected))
    spectra = values["reducible/spectrum/hidden_2"]
    for step, value in spectra:
        spectrum = ThinnedSpectrum.from_tensor(tensor_util.make_ndarray(value.tensor))
        assert spectrum.rank == seen[step]["hidden_2/kernel"]
    cuts = scheduler.report.cuts
    paths = {cut.epoch: [kernel.path for kernel in cut.kernels] for cut in cuts}
    steps = [epoch for epoch in paths if "hidden_2/kernel" in paths[epoch]]
    assert [step for step, _ in spectra] == steps
    assert any("Ramp(" in line for line in configuration(values))

    copied = copy.deepcopy(board)  # between fits; a used keras TensorBoard itself cannot be
    assert copied.scheduler.report.ranks == scheduler.report.ranks


def test_a_real_fit_tells_directions_and_the_epoch_that_it_ends_with(tmp_path, rng):
    x = rng.normal(size=(32, 24)).astype("float32")
    model = small_model()
    model.compile("sgd", "mse", metrics=["mae", keras.metrics.CosineSimilarity(name="loss_of_it")])
    scheduler = RankScheduler(0.4)
    stop = RankEarlyStopping(scheduler, "val_loss", mode="max", restore_best_weights=True)
    stop.patience = 9  # the loss falls, so that the first epoch is the one to keep
    board = RankTensorBoard(scheduler, tmp_path)
    data = {"validation_data": (x, x[:, :3]), "epochs": 3, "verbose": 0}
    model.fit(x, x[:, :3], callbacks=[scheduler, board, stop], **data)
    (*_, (_, last)) = read(tmp_path)["reducible/outcome"]
    told = from_json(tensor_util.make_ndarray(last.tensor).item())
    assert told["directions"] == {"val_loss": -1, "val_mae": -1, "val_loss_of_it": 1}
    assert told["kept_step"] == scheduler.kept_epoch == stop.best_epoch == 0


def test_without_its_scheduler_or_a_folder_the_fit_is_refused_before_it_begins(
    tmp_path, rng, monkeypatch
):
    scheduler = RankScheduler(budget=Ramp(1.0, 0.4, start_epoch=1, end_epoch=2))
    x = rng.normal(size=(64, 24)).astype("float32")
    seen: list[int] = []
    probe = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    fit = {"x": x, "y": x[:, :3], "epochs": 3, "verbose": 0}
    board = RankTensorBoard(scheduler, tmp_path / "logs")
    with pytest.raises(ArgumentError, match="same fit"):
        small_model().fit(callbacks=[board, probe], **fit)
    (tmp_path / "file").write_text("")
    board = RankTensorBoard(scheduler, tmp_path / "file")
    with pytest.raises(FileAccessError, match="must be a folder"):
        small_model().fit(callbacks=[scheduler, board, probe], **fit)
    board = RankTensorBoard(scheduler, tmp_path / "file" / "below" / "it")
    with pytest.raises(FileAccessError, match=r"it', but '.*file' is no folder"):
        small_model().fit(callbacks=[scheduler, board, probe], **fit)
    (tmp_path / "lost").symlink_to(tmp_path / "none")
    board = RankTensorBoard(scheduler, tmp_path / "lost")
    with pytest.raises(FileAccessError, match="lost' is no folder"):
        small_model().fit(callbacks=[scheduler, board, probe], **fit)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a test may run as root
    board = RankTensorBoard(scheduler, tmp_path / "logs")
    with pytest.raises(FileAccessError, match="nothing may be written to"):
        small_model().fit(callbacks=[scheduler, board, probe], **fit)
    assert seen == []
    assert {path.name for path in tmp_path.iterdir()} == {"file", "lost"}


def test_what_cuts_did_to_the_answers_is_written_where_it_was_measured(tmp_path):
    class Measured(Scripted):
        def cut(self, epoch: int, rank: int | None) -> None:
            before = self.cuts
            super().cut(epoch, rank)
            if self.cuts != before and epoch == 2:
                kernel = dataclasses.replace(self.cuts[-1].kernels[0], output_error=0.125)
                metrics = {"metrics_before": {"loss": 0.5}, "metrics_after": {"loss": 0.75}}
                last = dataclasses.replace(
                    self.cuts[-1], kernels=(kernel,), output_error=0.25, **metrics
                )
                self.cuts = (*before, last)

    fit(RankTensorBoard(Measured([None, 100, 40]), tmp_path))
    values = read(tmp_path)
    assert points(values["reducible_cut_error/net/d1"]) == [(2, 0.125)]
    assert points(values["reducible/output_error"]) == [(2, 0.25)]
    assert points(values["reducible/before_cut_loss"]) == [(2, 0.5)]
    assert points(values["reducible/after_cut_loss"]) == [(2, 0.75)]
