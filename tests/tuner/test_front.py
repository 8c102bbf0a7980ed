"""The front of a search: the trials that none beats in everything."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from reducible_train.errors import ArgumentError
from reducible_train.tuner.front import ParetoFront, TrialPoint, non_dominated, pareto


def brute(rows):
    def beats(one, other):
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    return [i for i, row in enumerate(rows) if not any(beats(other, row) for other in rows)]


def test_it_is_what_the_definition_says(rng):
    for width in (1, 2, 3, 4):
        rows = [tuple(map(int, row)) for row in rng.integers(0, 5, (40, width))]
        assert non_dominated(rows) == brute(rows)


def test_scales_do_not_matter(rng):
    rows = rng.normal(size=(30, 3))
    assert non_dominated(rows.tolist()) == non_dominated((rows * [1e-6, 1, 1e9]).tolist())


def test_no_number_is_beaten_by_every_number():
    assert non_dominated([(math.nan, 1.0), (2.0, 1.0)]) == [1]
    for lost in (math.nan, math.inf):
        assert non_dominated([(lost, 0.1), (1.0, 0.5)]) == [1], "also where it costs less"
        assert non_dominated([(lost, 0.1)] * 2) == []


def front():
    rows = {"a": (0.9, 0.5, 4e4), "b": (0.8, 0.2, 1e4), "c": (0.7, 0.3, 2e4)}
    names = ("val_accuracy", "params_fraction", "file_bytes")
    points = [
        TrialPoint(
            name, dict(zip(names, row, strict=True)), {"budget": 0.5}, Path("f"), name != "c"
        )
        for name, row in rows.items()
    ]
    points.sort(key=lambda point: point.metrics["params_fraction"])
    return ParetoFront(tuple(points), names[0], 1, names[1:])


def test_the_table_has_the_best_the_smallest_first():
    lines = str(front()).splitlines()
    assert [line.split()[0] for line in lines] == ["trial", "b", "a", "2"]
    assert "20.0%" in lines[1]
    assert [each.trial_id for each in front().best] == ["b", "a"]


def test_data_are_plain_values_of_all_trials():
    rows = front().data()
    assert [row["trial"] for row in rows] == ["b", "c", "a"]
    assert rows[1]["best"] is False
    assert rows[0] | {"settings": {"budget": 0.5}, "file": "f"} == rows[0]


def test_the_plot_is_written(tmp_path):
    figure = front().plot(tmp_path / "front.png", cost="file_bytes")
    assert (tmp_path / "front.png").stat().st_size > 1000
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("file bytes", "val_accuracy")
    _, _, line = axes.lines
    assert list(line.get_xdata()) == [1e4, 4e4]
    with pytest.raises(ArgumentError, match="one of 'params_fraction'"):
        front().plot(cost="latency")
    with pytest.raises(ArgumentError, match="which has none"):
        ParetoFront(front().trials, "val_accuracy", 1, ()).plot()


def test_one_cost_may_stand_alone_and_what_is_no_cost_or_no_tuner_is_told():
    metrics = dict.fromkeys(("val_accuracy", "params_fraction", "file_bytes"), 0.5)
    tracker = SimpleNamespace(metrics=metrics, get_best_value=lambda name: metrics[name])
    trial = SimpleNamespace(
        trial_id="0",
        status="COMPLETED",
        metrics=tracker,
        hyperparameters=SimpleNamespace(values={}),
    )
    objective = SimpleNamespace(name="val_accuracy", direction="max")
    oracle = SimpleNamespace(trials={"0": trial}, objective=objective)
    tuner = SimpleNamespace(oracle=oracle, hypermodel=None, project_dir=".")
    assert pareto(tuner).costs == ("params_fraction", "file_bytes")
    assert pareto(tuner, costs="file_bytes").costs == ("file_bytes",)
    with pytest.raises(ArgumentError, match="`costs` must have at least one element"):
        pareto(tuner, costs=[])
    with pytest.raises(TypeError, match="`costs` must be a list"):
        pareto(tuner, costs=3)
    with pytest.raises(TypeError, match="must be a tuner of keras-tuner"):
        pareto(trial)
