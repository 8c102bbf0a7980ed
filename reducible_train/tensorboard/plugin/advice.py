"""Three sentences on what to do next, each with the number behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reducible_train.tensorboard.plugin.cuts import costliest

_FEW = 3
_ROOM = 0.98  # energy kept, above which a layer can give more
_LEARNING = 0.02  # share of its value by which a metric still gets better in the last epochs

Run = Mapping[str, Any]


def advice(run: Run) -> list[str]:
    """The most urgent sentences for a run, three at most.

    Args:
        run: As `run_answer` makes it.
    """
    return [sentence for each in _KINDS for sentence in each(run)][:_FEW]


def worst_layer(run: Run) -> Mapping[str, Any] | None:
    """The factorised layer whose outputs have lost most; where that is not known, its energy."""
    layers: list[Mapping[str, Any]] = [
        each for each in run["layers"] if each["rank"] or _has_fallen(each)
    ]
    told = [each for each in layers if each["output_error"] is not None]
    if told:
        return max(told, key=lambda each: float(each["output_error"]))
    known = [each for each in layers if each["energy"] is not None]
    return min(known, key=lambda each: float(each["energy"]), default=None)


def _has_fallen(layer: Mapping[str, Any]) -> bool:
    rank, full = layer["last_rank"], layer["full"]
    return rank is not None and full is not None and rank < full


def _short(run: Run) -> Iterator[str]:
    """What was asked for was not reached."""
    if run["outcome"]["shortfall"]:
        yield run["outcome"]["shortfall"]


def _worst(run: Run) -> Iterator[str]:
    layer = worst_layer(run)
    if layer is None:
        return
    facts = []
    if layer["energy"] is not None:
        facts.append(f"keeps {layer['energy']:.2g} of its energy")
    if layer["output_error"] is not None:
        facts.append(f"lost {layer['output_error']:.2g} of the variance of its outputs")
    cost = _cost_of_layer(run, layer)
    facts += [cost] if cost else []
    rank = int(layer["rank"] or layer["last_rank"] or 1)
    rule = f'LayerRule("{layer["name"]}", min_rank={rank + max(rank // 2, 1)})'
    yield f"Layer {layer['name']} {_listed(facts)}, at rank {rank}: give it more, {rule}."


def _cost_of_layer(run: Run, layer: Mapping[str, Any]) -> str | None:
    """What it costs by itself as an analysis has measured it, else what came with its worst cut."""
    alone = _cost_alone(run["analysis"], layer)
    if alone is not None:
        return alone
    cuts = [
        (kernel["energy"], cut["at"])
        for cut in run["cuts"]
        for kernel in cut["kernels"]
        if kernel["name"] == layer["name"] and kernel["energy"] is not None
    ]
    costs = {each["step"]: each["cost"] for each in run["costs"].get(run["main"], ())}
    if not cuts or costs.get(min(cuts)[1], 0.0) <= 0:
        return None
    step = min(cuts)[1]
    return f"its deepest cut, in epoch {step}, came with {amount(costs[step], run['main'])}"


def _cost_alone(analysis: Any, layer: Mapping[str, Any]) -> str | None:
    rank, found = layer["rank"], analysis or {"kernels": ()}
    for kernel in found["kernels"]:
        pairs = zip(kernel["ranks"], kernel["values"], strict=True)
        known = [(r, v) for r, v in pairs if r is not None and v is not None]
        if kernel["name"] != layer["name"] or rank is None or not known:
            continue
        near, value = min(known, key=lambda each: abs(each[0] - rank))
        if found["baseline"] is not None:
            cost = found["direction"] * (found["baseline"] - value)
            if cost <= 0:
                return None
            return f"cost {amount(cost, found['metric'])} alone at rank {near:g}"
    return None


def _costliest(run: Run) -> Iterator[str]:
    name = run["main"]
    found = costliest(run["costs"].get(name, ()))
    if found is not None:
        yield (
            f"The cut in epoch {found['step']} cost most: {name} went from {found['before']:.4g} "
            f"to {found['after']:.4g} ({amount(found['cost'], name)}). Let the schedule fall more "
            "slowly there, or end later."
        )


def _undone(run: Run) -> Iterator[str]:
    if run["undone"]:
        last = run["undone"][-1]
        count = len(run["undone"])
        yield (
            f"The guard has undone {count} {'cut' if count == 1 else 'cuts'}, the last to "
            f"{_whole(last['parameters'])} parameters in epoch {last['at']}; "
            f"{_whole(last['parameters_before'])} is what it lets pass. "
            "Train for longer, or let the metric fall further."
        )


def _room(run: Run) -> Iterator[str]:
    """A layer that has lost next to nothing, though it holds much."""
    layers: list[Mapping[str, Any]] = [
        each for each in run["layers"] if each["energy"] and each["parameters"]
    ]
    total = run["outcome"]["parameters"]
    full = [each for each in layers if each["energy"] >= _ROOM and each["rank"]]
    if not full or not total:
        return
    layer = max(full, key=lambda each: float(each["parameters"]))
    yield (
        f"Layer {layer['name']} still keeps {layer['energy']:.3g} of its energy and holds "
        f"{100 * layer['parameters'] / total:.0f} % of the parameters: it can give more."
    )


def _learning(run: Run) -> Iterator[str]:
    """The metric was still getting better when the training ended."""
    name = run["main"]
    values = [each for each in run["metrics"].get(name, ()) if each is not None]
    if not run["outcome"]["done"] or len(values) < 4:
        return
    gain = run["directions"][name] * (values[-1] - values[-3])
    if gain > _LEARNING * abs(values[-3]):
        yield (
            f"{name} was still getting better, by {amount(gain, name)} in the last two epochs: "
            "train for longer."
        )


def _nothing(run: Run) -> Iterator[str]:
    if not run["cut_steps"]:
        yield "Nothing was cut in this run: it is a dense one, to compare others with."


def _kept(run: Run) -> Iterator[str]:
    """What the size has cost in all."""
    name = run["main"]
    known = [
        (value, size)
        for value, size in zip(run["metrics"].get(name, ()), run["params"], strict=False)
        if value is not None and size is not None
    ]
    if not known or not run["cut_steps"]:
        return
    dense = max(size for _, size in known)
    best = max((run["directions"][name] * v for v, size in known if size == dense))
    value, size = known[-1]
    change = run["directions"][name] * value - best
    if change >= 0:  # also of a short run, whose dense epochs had learned little
        return
    yield (
        f"{name} is {value:.4g} at the end, {amount(-change, name)} worse than the best of "
        f"the epochs at full size, with {100 * (1 - size / dense):.0f} % fewer parameters."
    )


def amount(value: float, metric: str) -> str:
    """A difference in words: of a metric that is a fraction, in points.

    Example:
        >>> amount(0.006, "val_accuracy"), amount(0.25, "val_loss")
        ('0.6 points', '0.25 of val_loss')
    """
    if any(word in metric for word in ("acc", "auc", "precision", "recall", "f1")):
        return f"{100 * value:.3g} points"
    return f"{value:.3g} of {metric}"


def _whole(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def _listed(facts: list[str]) -> str:
    return " and ".join([", ".join(facts[:-1]), facts[-1]]) if len(facts) > 1 else facts[0]


_KINDS: tuple[Callable[[Run], Iterator[str]], ...] = (
    _nothing,
    _short,
    _worst,
    _costliest,
    _undone,
    _room,
    _learning,
    _kept,
)
