"""A budget shared by what an analysis has measured."""

from __future__ import annotations

import os
from dataclasses import replace

import keras
import numpy as np
import pytest
from test_analyze import X, Y, network

from reducible_train import (
    Analysis,
    ArgumentError,
    LayerRule,
    Ramp,
    RankScheduler,
    analyze,
    factorize,
)
from reducible_train.compressor import Compression
from reducible_train.errors import FileAccessError, FormatError, ReducibleError
from reducible_train.selection.measured import MeasuredLosses, isotonic, losses_of
from reducible_train.settings.targets import target


@pytest.fixture(scope="module")
def table() -> Analysis:
    return analyze(network(), (X, Y))


def told(table: Analysis, path: str, *losses: float) -> Analysis:
    """The same, where a kernel was measured to lose so much at its ranks."""
    kernels = [
        replace(each, values=tuple(table.baseline + np.array(losses)), errors=())
        if each.path == path
        else each
        for each in table.kernels
    ]
    return replace(table, kernels=tuple(kernels))


def test_the_kernel_that_was_measured_to_matter_is_spared(table):
    free, dear = [0.0] * 10, list(np.linspace(9.0, 1.0, 10))
    ranks = {}
    for spared, other in (("first", "second"), ("second", "first")):
        said = told(told(table, f"{spared}/kernel", *dear), f"{other}/kernel", *free)
        report = factorize(network(), 0.7, criterion="measured", analysis=said)
        ranks[spared] = {k.path: k.rank for k in report.kernels if k.reason is None}
        assert ranks[spared][f"{spared}/kernel"] is None
        assert ranks[spared][f"{other}/kernel"] < 14
        assert "The budget was shared by criterion 'measured': by the loss" in str(report)
        assert "as they were at the cut" in str(report)


def test_losses_never_rise_with_rank_whatever_was_measured(table):
    noisy = (0.5, 0.1, np.nan, -0.2, 0.3, -0.1, 0.0, 0.2, -0.3, 0.0)
    losses = MeasuredLosses(told(table, "first/kernel", *noisy), "a file")
    found = losses.losses("first/kernel", table.kernels[0].spectrum, 13)
    assert found[0] <= 1
    assert (np.diff(found) < 0).all()  # below what chance does, the energy tells
    assert found[-1] >= 0


def flat(table: Analysis) -> Analysis:
    """The same, where no cut has changed anything."""
    for path in table.paths:
        table = told(table, path, *[0.0] * 10)
    return table


def ranks(report):
    return {kernel.path: kernel.rank for kernel in report.kernels}


def test_where_measured_losses_are_equal_the_energy_decides_so_the_budget_is_used(table):
    losses = (0.02, *[0.0] * 9)
    said = told(flat(table), "second/kernel", *losses)
    for each in said.kernels:
        found = MeasuredLosses(said, "").losses(each.path, each.spectrum, 12)
        assert (np.diff(found) < 0).all()
    report = factorize(network(), 0.7, criterion="measured", analysis=said)
    assert 0.65 < report.size_fraction <= 0.7
    assert "was shared by criterion 'measured'" in str(report)


def test_an_error_of_zero_is_not_that_there_is_no_chance(table):
    said = told(flat(table), "second/kernel", 0.5, *[0.0] * 9)
    errors = (0.1, *[0.0] * 9)
    said = replace(said, kernels=tuple(replace(each, errors=errors) for each in said.kernels))
    free = said.kernels[0]
    found, dear = (
        MeasuredLosses(said, "").losses(each.path, each.spectrum, 12) for each in said.kernels
    )
    np.testing.assert_allclose(found / dear[0], 0.1 * free.discarded()[:13] / 0.6, atol=0.05)
    assert dear[0] == 1


@pytest.mark.parametrize("data", [None, (X, Y)])
@pytest.mark.parametrize("error", [0.0, 0.3])
def test_of_an_analysis_that_tells_nothing_apart_the_energies_decide_alone(table, data, error):
    same = flat(table)
    if error:  # what it does tell, chance may have done
        same = told(same, "first/kernel", *0.9 * np.linspace(error, -error, 10))
        errors = (error,) * 10
        same = replace(same, kernels=tuple(replace(each, errors=errors) for each in same.kernels))
    report = factorize(network(), 0.7, criterion="measured", analysis=same, calibration=data)
    assert ranks(report) == ranks(factorize(network(), 0.7, calibration=data))
    told_by = "fisher" if data else "frobenius"
    assert f"not shared by criterion 'measured' but by '{told_by}'" in str(report)
    assert "no cut of a kernel changes the loss by more than chance" in str(report)
    assert "was shared by criterion 'measured'" not in str(report)


def test_a_kernel_without_which_nothing_is_left_is_spared_where_no_other_is_told(table):
    said = told(flat(table), "second/kernel", *[np.nan] * 9, 0.0)
    report = factorize(network(), 0.7, criterion="measured", analysis=said)
    assert ranks(report)["second/kernel"] is None


def test_pooling_is_the_nearest_that_never_falls():
    values = np.random.default_rng(0).normal(size=12)
    found = isotonic(values)
    assert (np.diff(found) >= 0).all()
    assert found.mean() == pytest.approx(values.mean())
    assert ((values - found) @ found) == pytest.approx(0, abs=1e-9)  # as of any projection


def test_a_metric_that_should_be_large_is_one_that_cuts_make_smaller(table):
    assert table.better == "less"
    table = told(table, "second/kernel", *np.linspace(2.0, 0.1, 10))
    turned = replace(
        table,
        better="",
        baseline=-table.baseline,
        kernels=tuple(replace(k, values=tuple(-v for v in k.values)) for k in table.kernels),
    )
    assert table.less_is_better
    assert not turned.less_is_better
    one, two = (MeasuredLosses(each, "") for each in (table, turned))
    spectrum = table.kernels[1].spectrum
    np.testing.assert_allclose(
        one.losses("second/kernel", spectrum, 14), two.losses("second/kernel", spectrum, 14)
    )


def test_a_fit_says_how_old_the_analysis_is_and_takes_a_second_cut(table, tmp_path):
    (tmp_path / "a.json").write_text(table.to_json())
    model = network()
    scheduler = RankScheduler(
        Ramp(1.0, 0.5, start_epoch=0, end_epoch=2),
        criterion="measured",
        analysis=tmp_path / "a.json",
    )
    assert RankScheduler.from_config(scheduler.get_config()).analysis == str(tmp_path / "a.json")
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[scheduler])
    report = scheduler.report
    assert len(report.cuts) == 2
    assert report.size_fraction <= 0.5
    assert f"in {tmp_path / 'a.json'}, of the weights at the start, which training" in str(report)
    assert "moved by 2 to 4 steps at the cuts" in str(report)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_an_analysis_is_in_a_file_of_a_bounded_length(tmp_path):
    (tmp_path / "a.json").write_bytes(b"")
    os.truncate(tmp_path / "a.json", 1 << 40)  # takes no space
    with pytest.raises(FormatError, match=r"a\.json: The file must have at most"):
        factorize(network(), 0.7, criterion="measured", analysis=tmp_path / "a.json")
    os.mkfifo(tmp_path / "pipe")
    for file in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(FileAccessError, match=r"read as analysis.*not a regular file"):
            factorize(network(), 0.7, criterion="measured", analysis=file)


def test_several_budgets_are_met_and_a_kernel_that_is_not_in_the_analysis_is_named(table):
    report = factorize(
        network(),
        {"parameters": 0.7, "flops": 0.7},
        criterion="measured",
        analysis=table,
        rules=[LayerRule("output", keep_dense=False)],
    )
    assert report.size_fraction <= 0.7
    assert report.flops_fraction <= 0.7
    assert "Not in the analysis" in str(report)
    assert "output/kernel" in str(report).partition("Not in the analysis")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"criterion": "measured"}, "Give it, or its file"),
        ({"analysis": "a.json"}, "read by criterion='measured' alone"),
        ({"criterion": "measured", "analysis": 3}, "must be an Analysis"),
        ({"criterion": "measured", "analysis": "a.json", "allocation": "uniform"}, "no losses"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(arguments, words):
    with pytest.raises(ReducibleError, match=words):
        RankScheduler(0.5, **arguments)


def test_a_target_that_shares_nothing_is_refused(table):
    with pytest.raises(ArgumentError, match="shares none"):
        factorize(network(), rank=4, criterion="measured", analysis=table)


def test_an_analysis_of_something_else_is_refused_before_anything_is_done(table, tmp_path):
    other = network(1)
    before = other.get_weights()
    with pytest.raises(ArgumentError, match="of the weights that model"):
        factorize(other, 0.5, criterion="measured", analysis=table)
    scheduler = RankScheduler(0.5, criterion="measured", analysis=table)
    with pytest.raises(ArgumentError, match="of the weights that model"):
        other.fit(X, Y, epochs=1, verbose=0, callbacks=[scheduler])
    for one, two in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    begun = replace(table, kernels=table.kernels[:1])
    with pytest.raises(ArgumentError, match="with 1 of 2 kernels"):
        factorize(network(), 0.5, criterion="measured", analysis=begun)
    with pytest.raises(FileAccessError, match="nowhere"):
        factorize(network(), 0.5, criterion="measured", analysis="nowhere.json")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(FormatError, match="must be an analysis"):
        factorize(network(), 0.5, criterion="measured", analysis=tmp_path / "b.json")


def test_an_analysis_of_another_architecture_names_the_kernel(table):
    small = keras.Sequential([keras.Input((24,)), keras.layers.Dense(20, name="first")])
    small.add(keras.layers.Dense(5, name="output"))
    with pytest.raises(ArgumentError, match=r"first/kernel of shape \(24, 32\)"):
        Compression(small, target("budget", 0.9), criterion="measured", analysis=losses_of(table))
