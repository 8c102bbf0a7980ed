"""What `published.py` found: means over the seeds, a table, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from common import deviation, show

DENSE = "dense"
OURS = "RankScheduler"


def records(
    found: Sequence[Mapping[str, Any]], cases: Mapping[str, Any], ours: str = OURS
) -> list[dict[str, Any]]:
    """One record for each network, number of epochs, method and size (the fraction that was to be
    removed, 0 where the method chooses it), in the order of the cases. Goals are of the method
    `ours`.
    """

    def epochs_of(run: Mapping[str, Any]) -> int:
        return run["epochs"] if "epochs" in run else cases[run["network"]].recipe.epochs

    dense = {
        (run["network"], epochs_of(run), run["seed"]): run
        for run in found
        if run["method"] == DENSE
    }
    groups: dict[tuple[str, int, str, float], list[Mapping[str, Any]]] = {}
    for name in cases:
        for run in found:
            if run["network"] == name:
                key = (name, epochs_of(run), run["method"], run["goal"])
                groups.setdefault(key, []).append(run)
    made = []
    for (name, epochs, method, size), runs in groups.items():
        controls = [dense[name, epochs, run["seed"]] for run in runs]
        record = {"network": name, "method": method, "size": size, "seeds": len(runs)}
        record |= _mean_and_std("removed", runs, controls, _removed)
        record |= _mean_and_std("drop", runs, controls, _drop)
        record |= {"epochs": epochs}
        record |= {"seconds": float(np.mean([run["seconds"] for run in runs]))}
        record |= _mean_and_std("accuracy", runs, controls, lambda run, _: run["accuracy"])
        record |= _mean_and_std("flops_removed", runs, controls, _flops_removed)
        if all("loss" in run for run in runs):
            record |= _mean_and_std("rise", runs, controls, _rise)
        made.append(record | (_goal(cases[name], size, record) if method == ours else {}))
    return made


def _mean_and_std(name: str, runs, controls, of) -> dict[str, float]:
    values = [of(run, control) for run, control in zip(runs, controls, strict=True)]
    return {f"{name}_mean": float(np.mean(values)), f"{name}_std": deviation(values)}


def _removed(run: Mapping[str, Any], control: Mapping[str, Any]) -> float:
    return 1 - run["counted"] / control["counted"]


def _flops_removed(run: Mapping[str, Any], control: Mapping[str, Any]) -> float:
    return 1 - run["flops"] / control["flops"]


def _drop(run: Mapping[str, Any], control: Mapping[str, Any]) -> float:
    return control["accuracy"] - run["accuracy"]


def _rise(run: Mapping[str, Any], control: Mapping[str, Any]) -> float:
    """Of the loss, in percent."""
    return 100 * (run["loss"] / control["loss"] - 1)


def _goal(case: Any, size: float, record: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for at that size, and whether our way reached it."""
    if case.goals[size] is None:
        return {}
    asked = {"removed": size, "drop": case.goals[size], "flops_removed": case.flops}
    met = (
        record["removed_mean"] >= asked["removed"]
        and record["flops_removed_mean"] >= asked["flops_removed"]
        and record["drop_mean"] <= asked["drop"]
    )
    return {"goal": asked, "reached": bool(met)}


def table(made: Sequence[Mapping[str, Any]]) -> None:
    """Print the records."""
    columns = ["network", "method", "removed %", "FLOPs %", "accuracy %", "points lost", "s", ""]
    rows = []
    for record in made:
        goal = record.get("goal")
        word = "reached" if record.get("reached") else "MISSED"
        rows.append(
            [
                record["network"],
                record["method"],
                f"{100 * record['removed_mean']:.1f}",
                f"{100 * record['flops_removed_mean']:.1f}",
                f"{record['accuracy_mean']:.2f}",
                f"{record['drop_mean']:.2f} ± {record['drop_std']:.2f}",
                f"{record['seconds']:.0f}",
                f"{word} {goal['drop']:g}" if goal else "",
            ]
        )
    show("Points lost against the dense control of the same seed", columns, rows)


def draw(made: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Points lost against what is left, a panel for each network, a colour for each method."""
    names = list(dict.fromkeys(record["network"] for record in made))
    methods = [m for m in dict.fromkeys(r["method"] for r in made) if not m.endswith(DENSE)]
    rows, columns = -(-len(names) // 3), min(len(names), 3)
    size = (3.7 * columns, 2.9 * rows + 0.6)
    figure, panels = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        for index, method in enumerate(methods):
            points = sorted(
                (100 * (1 - r["removed_mean"]), r["drop_mean"], r["drop_std"])
                for r in made
                if (r["network"], r["method"]) == (name, method)
            )
            if not points:
                continue
            left, drop, std = zip(*points, strict=True)
            ours = method == OURS
            panel.errorbar(
                left,
                drop,
                std,
                color=f"C{index}",
                marker="o" if ours else "s",
                markersize=5,
                linewidth=2 if ours else 1,
                capsize=2,
                label=method,
                zorder=3 if ours else 2,
            )
        panel.axhline(0, color="grey", linewidth=0.8)
        panel.set(title=name, xlabel="% left", ylabel="points lost", xscale="log")
        panel.set_yscale("symlog", linthresh=1.0)
        panel.set_ylim(bottom=-0.5)
        panel.set_xticks([2, 5, 10, 20, 50], minor=False)
        panel.set_xticks([], minor=True)
        panel.set_yticks([-0.5, 0, 0.5, 1, 10, 100])
        panel.xaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_major_formatter("{x:g}")
    for panel in panels.flat[len(names) :]:
        panel.axis("off")
    handles = {}
    for panel in panels.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=2 * columns - 2 or 1
    )
    figure.savefig(path, dpi=90)
