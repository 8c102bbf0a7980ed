"""The figures of the README, made of what `results/` holds; a test compares the two."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results"
_RUNTIMES = ("Keras", "LiteRT", "onnxruntime")
OURS = "RankScheduler"
FINETUNED = ("default", "default untrained", "default halved")
BESIDE = {  # ways of published.py -> columns
    OURS: "`RankScheduler`",
    "energy allocation": "same, by kernel energy",
    "uniform allocation": "same, one fraction of full rank",
    "cut, then fine-tuned": "cut late, fine-tuned",
    "tensorly-torch": "tensorly-torch, cut early",
    "low rank from scratch": "low rank from scratch",
    "ancestor's way": "cut after training",
}
NETWORKS = {
    "mlp500": "784-500-500-500-500-10",
    "mlp784": "784-784-784-784-784-10",
    "lenet5": "LeNet-5 (20-50-500-10)",
    "lenet300": "LeNet-300-100",
    "origin": "784-128-128-128-10",
    "vgg_fashion": "a small VGG, Fashion-MNIST",
}
PUBLISHED = {  # points lost there, at (nearly) the same size
    ("mlp500", 0.75): "DLRT 0.02 to 0.2",
    ("mlp500", 0.865): "DLRT 0.43",
    ("mlp500", 0.924): "DLRT 1.64",
    ("mlp784", 0.84): "DLRT 0.04",
    ("mlp784", 0.886): "DLRT 0.41",
    ("mlp784", 0.943): "DLRT 1.13",
    ("lenet5", 0.953): "DLRT 0.68",
    ("lenet5", 0.97): "DLRT 0.70",
    ("lenet5", 0.978): "DLRT 1.37",
}
WAYS = {
    "ramp": '`RankScheduler(allocation="{allocation}", criterion="{criterion}")`, ranks falling',
    "cut, then fine-tuned": "dense for three quarters of the epochs, one cut, fine-tuned",
    "cut, not trained again": "`factorize` after training, not trained again",
    "ancestor's way": "every layer cut alike after training, the output layer too",
}


def text() -> str:
    """All tables, as Markdown."""
    return f"{accuracy_table()}\n\n{finetune_table()}\n\n{published_table()}\n\n{other_table()}"


def results(name: str) -> dict[str, Any]:
    """The figures a script left."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def accuracy_table() -> str:
    """Points of test accuracy that each way loses, at each size."""
    found = results("origin")
    of = {(way["way"], way["target"]): way for way in found["ways"]}
    targets = sorted({target for _, target in of} - {0.0})
    dense = of["dense", 0.0]
    head = [f"{target:.0%} fewer parameters".replace("%", " %") for target in targets]
    rows = [["points of test accuracy lost", *head], ["---"] * (1 + len(targets))]
    for name, told in WAYS.items():
        ways = [of[name, target] for target in targets]
        told = told.format(**found["settings"])
        rows.append([told, *(f"{w['points_lost']:.2f} ± {w['points_lost_std']:.2f}" for w in ways)])
    files = [of["ramp", target]["smaller_file"] for target in targets]
    rows.append(["the file of the first is smaller by", *(f"{100 * v:.1f} %" for v in files)])
    settings = found["settings"]
    return (
        f"784-128-128-128-10 on MNIST, {settings['epochs']} epochs for every way, mean and standard"
        f" deviation of {settings['seeds']} seeds; dense it\nreaches {dense['accuracy']:.2f} ±"
        f" {dense['accuracy_std']:.2f} % (`{found['command']}`):\n\n" + _markdown(rows)
    )


def finetune_table() -> str:
    """Points that a trained network loses by the default, trained on and not, and at half size."""
    found = results("finetune")
    of = {(r["network"], r["method"], r["epochs"] > 0): r for r in found}
    rows = [["trained network, removed", "cut and trained on", "not trained", "half, not trained"]]
    rows.append(["---"] * 4)
    for name in dict.fromkeys(r["network"] for r in found):
        ways = [of.get((name, w, t)) for w, t in zip(FINETUNED, (True, False, False), strict=True)]
        seeds = ways[0]["seeds"]
        told = "1 seed" if seeds == 1 else f"{seeds} seeds"
        rows.append([f"{name}, {told}", *map(_lost, ways)])
    return (
        "Points of test accuracy that trained networks lose by default arguments, and how the loss"
        f" changed; trained\non for a third of their epochs, against the dense network trained on"
        f" as long (`python benchmarks/finetune.py`):\n\n{_markdown(rows)}"
    )


def _lost(record: dict[str, Any] | None) -> str:
    """Points, their deviation where there are several seeds, and the rise of the loss."""
    if record is None:
        return ""
    spread = f" ± {record['drop_std']:.2f}" if record["seeds"] > 1 else ""
    return f"{record['drop_mean']:.2f}{spread} ({record['rise_mean']:+.0f} %)"


def published_table() -> str:
    """Points lost on the networks of published results, by way."""
    found = results("published")
    of = {(r["network"], r["epochs"], r["method"], r["size"]): r for r in found}
    ours = [r for r in found if r["method"] == OURS]
    several = [
        name for name in NETWORKS if len({r["epochs"] for r in ours if r["network"] == name}) > 1
    ]
    rows = [["network", "removed", *BESIDE.values(), "published"], ["---"] * (3 + len(BESIDE))]
    for record in ours:
        network, epochs, size = record["network"], record["epochs"], record["size"]
        told = [of.get((network, epochs, method, size)) for method in BESIDE]
        whole = f"{100 * record['removed_mean']:.1f} %"
        if record.get("goal", {}).get("flops_removed"):
            whole += f" ({100 * record['flops_removed_mean']:.0f} % of the FLOPs)"
        rows.append(
            [
                NETWORKS[network] + (f", {epochs} epochs" if network in several else ""),
                whole,
                *(
                    f"{round(r['drop_mean'], 2) + 0.0:.2f} ± {r['drop_std']:.2f}" if r else ""
                    for r in told
                ),
                PUBLISHED.get((network, size), ""),
            ]
        )
    dense = {(r["network"], r["epochs"]): r for r in found if r["method"] == "dense"}
    told = ", ".join(f"{r['accuracy_mean']:.2f}" for r in dense.values())
    goals = [record["reached"] for record in ours if "goal" in record]
    seeds = ours[0]["seeds"]
    return (
        "MNIST. Points of test accuracy lost against the dense control of the same seed and epochs,"
        f" mean of {seeds} seeds\n(`python benchmarks/published.py`); the control reaches"
        f" {told} %; {sum(goals)} of {len(goals)} goals reached:\n\n{_markdown(rows)}"
    )


def other_table() -> str:
    """Speed, size and the rest, a figure and its command in each row."""
    speed, overhead = results("training_speed"), results("overhead")
    cost, by_data = overhead["fraction_of_fit"], overhead["by_data"]["fraction_of_fit"]
    file, codec = results("file"), results("codec")["dtypes"]["float32"]
    runs = results("allocation")["runs"]
    largest = max(run["kernels"] for run in runs)
    seconds = max(run["knapsack"]["seconds"] for run in runs if run["kernels"] == largest)
    proven, all_runs = (sum(run[key] for run in runs) for key in ("proven", "seeds"))
    lengths, rates = file["bytes"], codec["megabytes_per_second"]
    over = lengths["compact file"] / lengths["entropy bound"] - 1
    rows = [
        ["what", "figure", "command"],
        ["---"] * 3,
        [
            "a training step of 784-512-512-10 at rank 20, batch 256, one core",
            f"{speed['step_speedup']['median']:.1f} times faster than dense",
            _command("training_speed"),
        ],
        [
            "its whole fit of 16 epochs, dense for 2, cuts and retracing included",
            f"{speed['fit_fraction']['median']:.2f} of the dense fit's time",
            _command("training_speed"),
        ],
        [
            "what `RankScheduler` and `RankTensorBoard` take of such a fit for four cuts",
            f"{100 * cost['RankScheduler']:.1f} % and {100 * cost['RankTensorBoard']:.1f} %;"
            f"<br>judged by the data, as by default: {100 * by_data['RankScheduler']:.0f} %",
            _command("overhead"),
        ],
        [
            f"parameters and file of 784-512-512-10 at rank {file['settings']['rank']}",
            f"{100 * file['predicted_reduction']:.1f} % fewer,"
            f" {100 * file['actual_reduction']['compact file']:.1f} % smaller",
            _command("file"),
        ],
        [
            "that file over the entropy bound; its `.keras`, without optimizer state, over it",
            f"{100 * over:.1f} %;"
            f" {100 * (lengths['.keras, without optimizer'] / lengths['entropy bound'] - 1):.1f} %",
            _command("file"),
        ],
        [
            "encoding and decoding of float32, one core",
            f"{rates['encode']:.0f} and {rates['decode']:.0f} MB/s",
            _command("codec"),
        ],
        _transport_row(),
        [
            f"a budget shared among up to {largest} kernels by the knapsack, slowest",
            f"{seconds:.1f} s, proven best in {proven} of {all_runs}",
            _command("allocation"),
        ],
        _several_row(),
        *_inference_rows(),
        _criteria_row(),
        _loop_row(),
        _search_row(),
        _tune_row(),
        _aids_row(),
        _label_noise_row(),
    ]
    return _markdown(rows)


def _several_row() -> list[str]:
    """What budgets of parameters, of FLOPs and of both leave and lose."""
    judged, found = ("fisher", "knapsack"), results("several")
    cells = []
    for run in found["runs"]:
        tight = run["budget"].get("flops", 0.25) == 0.25
        if (run["criterion"], run["allocation"]) == judged and tight:
            left = f"{100 * run['parameters']:.0f} / {100 * run['flops']:.0f} %"
            cells.append(f"{left}, {run['accuracy']:.1f}")
    what = (
        "a VGG-like network on MNIST cut once to a fifth of its parameters, a quarter of its "
        "FLOPs, both (`fisher`, `knapsack`): parameters / FLOPs left, and its test accuracy then "
        f"(dense: {found['dense']:.1f})"
    )
    return [what, "<br>".join(cells), _command("several")]


def _inference_rows() -> list[list[str]]:
    """Latency at a quarter of the FLOPs, batch 64."""
    models = {"8 x Dense 512": "eight layers of 512 units", "VGG": "a VGG-like network"}
    found = {
        (row["model"], row["budget"], row["batch"]): row for row in results("inference")["rows"]
    }
    rows = []
    for key, name in models.items():
        row = found[key, 0.25, 64]
        told = [f"{each} {row[each]['latency_fraction']:.2f}" for each in _RUNTIMES]
        what = f"latency of {name} at a quarter of the FLOPs, over dense, batch 64, one core"
        rows.append([what, ", ".join(told), _command("inference")])
    return rows


def _criteria_row() -> list[str]:
    """What looking at the data is worth after fine-tuning."""
    found, budgets = results("criteria")["figures"], (0.34, 0.21, 0.1)
    told = []
    for name, key in (("kernel alone", "frobenius"), ("activations", "activation")):
        runs = [found[f"{key}, knapsack, budget {budget}"]["test_accuracy"] for budget in budgets]
        told.append(f"{name}: {' / '.join(f'{sum(run) / len(run):.2f}' for run in runs)}")
    what = "test accuracy at 34 / 21 / 10 % of the parameters, ranks by the knapsack, judged by the"
    return [what, "<br>".join(told), "`python benchmarks/criteria.py`"]


def _loop_row() -> list[str]:
    """The same of a recurrent network, the budget shared by energy."""
    found, told = results("criteria_lstm")["figures"], []
    for name, key in (("kernels alone", "frobenius"), ("activations", "activation")):
        runs = [found[f"{key}, equal_energy, budget {b}"]["test_accuracy"] for b in (0.5, 0.25)]
        told.append(f"{name}: {' / '.join(f'{sum(run) / len(run):.1f}' for run in runs)}")
    dense = found["dense"]["test_accuracy"]
    what = (
        "test accuracy of an LSTM on scikit-learn's digits at 50 / 25 % of the parameters (dense: "
        f"{sum(dense) / len(dense):.1f}), judged by the"
    )
    return [what, "<br>".join(told), _command("criteria_lstm")]


def _search_row() -> list[str]:
    """How small a search makes a network, and what is lost on samples it never saw."""
    rows = results("search")["rows"]
    told = [
        f"{row['points']:g} points: {100 * sum(row['removed']) / len(row['removed']):.1f} % fewer,"
        f" {sum(row['drop']) / len(row['drop']):+.2f}"
        for row in rows
    ]
    what = (
        "parameters that `Search` takes from 784-128-128-128-10 where validation accuracy may fall"
        " by so much, and points then lost on the test split"
    )
    return [what, "<br>".join(told), _command("search")]


def _tune_row() -> list[str]:
    """How small twenty trials make a network, by what chooses them."""
    found = results("tune")
    seeds = found["records"][0]["seeds"]
    told = [
        f"{each['engine']}: {100 * fmean(each['removed']):.1f} ± {100 * stdev(each['removed']):.1f}"
        f" % fewer, {fmean(each['lost']):+.2f}"
        for each in found["records"]
    ]
    what = (
        f"parameters that {found['trials']} trials take from a trained 784-128-128-128-10 where"
        f" validation accuracy may fall by 0.3 points ({seeds} seeds; proposed: random search"
        " steered by `propose`), and points then lost on the test split"
    )
    return [what, "<br>".join(told), _command("tune")]


def _aids_row() -> list[str]:
    """What an aid changes beside none, where all of them were tried."""
    ways = results("aids")["ways"]
    size = next(way["size"] for way in ways if way["way"] == "ramp, Rewarm")
    of = {way["way"]: way for way in ways if way["size"] == size}
    told = []
    for name in (
        *(f"ramp, {aid}" for aid in ("ProductDecay", "Regrow", "Rewarm", "TailShrink")),
        "one cut, TailShrink",
        "ramp, Distiller",
    ):
        way, (start, _, aid) = of[name], name.partition(", ")
        loss, points = way["loss_over_none"], way["points_gained"]
        told.append(
            f"{start}, `{aid}`: {fmean(loss):.2f}, {fmean(points):+.2f} ± {stdev(points):.2f}"
        )
    what = (
        f"validation loss over that without aid, and points of accuracy gained, at {size}"
        f" parameters, {of['ramp']['seeds']} seeds"
    )
    return [what.replace("%", " %"), "<br>".join(told), "`python benchmarks/aids.py`"]


def _label_noise_row() -> list[str]:
    """What falling ranks do where most labels are wrong."""
    found = results("label_noise")
    told = [
        f"{name}: {fmean(r for r, _ in runs):.1f} %, {fmean(m for _, m in runs):.1f} %"
        for name, runs in found["ways"].items()
    ]
    wrong = f"{100 * found['settings']['fraction']:.0f} %"
    what = (
        f"MNIST with {wrong} wrong labels, 784-512-512-512-512-10: test accuracy, and wrong labels"
        " given back"
    )
    return [what, "<br>".join(told), _command("label_noise")]


def _transport_row() -> list[str]:
    found = results("transport")
    cuts = {
        "dense to 32": "dense -> 32, steps 11-50",
        "64 to 12 in 16 cuts": "64 -> 12 in 16 cuts",
        "32 to 8 at once": "32 -> 8, steps 11-50",
    }
    told = []
    for name, key in cuts.items():
        loss = {way: found[f"{key}|{way}"]["mean"] for way in ("signal", "reset", "no cut")}
        told.append(f"{name}: {loss['signal']:.3f} / {loss['reset']:.3f} ({loss['no cut']:.3f})")
    return [
        "training loss just after cuts, optimizer state carried over / reset (without a cut)",
        "<br>".join(told),
        _command("transport"),
    ]


def _command(name: str) -> str:
    return f"`{results(name)['command']}`"


def _markdown(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(text())
