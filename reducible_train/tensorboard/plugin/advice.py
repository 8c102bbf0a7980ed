"""Three sentences on what to do next, each with the number behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from typing import Any

from reducible_train.settings.metric_names import is_fraction_by_name
from reducible_train.tensorboard.plugin.cuts import costliest
from reducible_train.tensorboard.plugin.values import is_same_size

_FEW = 3
_ROOM = 0.98  # energy kept, above which a layer can give more
_LITTLE = 0.01  # share of the variance of its outputs that a layer may lose without a word
_DIVERGED = (
    "The training diverged: look for NaN or infinity in the data, or lower the learning rate."
)
_LEARNING = 0.02  # share of its value by which a metric still gets better in the last epochs

Run = Mapping[str, Any]


def advice(run: Run) -> list[str]:
    """The most urgent sentences for a run, three at most.

    Of a training that diverged there is one: figures of a model that is lost advise nothing.

    Args:
        run: As `run_answer` makes it.
    """
    if run["outcome"].get("diverged"):
        return [_DIVERGED]
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


def _worst(run: Run) -> Iterator[str]:
    """What the worst layer has lost, and the rule that gives it more; nothing if that is little."""
    layer = worst_layer(run)
    if layer is None:
        return
    rank = int(layer["rank"] or layer["last_rank"] or 1)
    alone = _cost_alone(run["analysis"], layer, rank)
    if _lost_little(layer) or (alone is not None and alone.cost <= 0):
        return
    full = f" of {layer['full']:.0f}" if layer["full"] else ""
    lines = [f"Layer {layer['name']}, at rank {rank}{full}, {_lost(layer)}."]
    if alone is not None:
        lines.append(f"With it alone at rank {alone.rank:g}, {alone}.")
    elif (deepest := _deepest(run, layer)) is not None:
        lines.append(f"With its deepest cut, {deepest[0]}, {deepest[1]}.")
    yield " ".join([*lines, *_more(layer, rank)])


def _lost(layer: Mapping[str, Any]) -> str:
    """By one measure: the data's, where it is known."""
    if layer["output_error"] is not None:
        return f"has lost {share(layer['output_error'])} of the variance of its outputs"
    return f"keeps {share(layer['energy'])} of its energy"


def _lost_little(layer: Mapping[str, Any]) -> bool:
    if layer["output_error"] is not None:
        return bool(layer["output_error"] < _LITTLE)
    return bool(layer["energy"] >= _ROOM)


def _more(layer: Mapping[str, Any], rank: int) -> Iterator[str]:
    """The rule, as far as factors of a higher rank would still be smaller than the kernel."""
    wanted = rank + max(rank // 2, 1)
    most = layer["break_even"] or layer["full"] or wanted
    if rank < min(wanted, most):
        place = layer["path"].rpartition("/")[0] or layer["name"]  # the layer that has the kernel
        yield f"Give it more: LayerRule({escape(place)!r}, min_rank={min(wanted, int(most))})."


@dataclass(frozen=True)
class _Alone:
    """What a layer costs that alone is cut to a rank."""

    rank: float
    cost: float
    metric: str

    def __str__(self) -> str:
        return f"{self.metric} was {amount(self.cost, self.metric)} worse"


def _cost_alone(analysis: Any, layer: Mapping[str, Any], rank: int) -> _Alone | None:
    """As an analysis has measured it, at the rank nearest to that of the layer."""
    found = analysis or {"kernels": ()}
    for kernel in found["kernels"]:
        pairs = zip(kernel["ranks"], kernel["values"], strict=True)
        known = [(r, v) for r, v in pairs if r is not None and v is not None]
        if kernel["name"] == layer["name"] and known and found["baseline"] is not None:
            near, value = min(known, key=lambda each: abs(each[0] - rank))
            cost = found["direction"] * (found["baseline"] - value)
            return _Alone(near, cost, found["metric"])
    return None


def _deepest(run: Run, layer: Mapping[str, Any]) -> tuple[str, str] | None:
    """When the cut was made that took most of a layer, and what the metric lost over it."""
    undone = {each["at"] for each in run["undone"]}
    cuts = [
        (kernel["energy"], cut["at"], cut["when"])
        for cut in run["cuts"]
        if cut["at"] not in undone
        for kernel in cut["kernels"]
        if kernel["name"] == layer["name"] and kernel["energy"] is not None
    ]
    costs = {each["step"]: each["cost"] for each in run["costs"].get(run["main"], ())}
    if not cuts or costs.get(min(cuts)[1], 0.0) <= 0:
        return None
    _, step, when = min(cuts)
    return f"{when} epoch {step}", f"{run['main']} became {amount(costs[step], run['main'])} worse"


def _costliest(run: Run) -> Iterator[str]:
    """The epoch in which the metric fell most with a cut, and whether it came back."""
    name = run["main"]
    found = costliest(run["costs"].get(name, ()))
    if found is None:
        return
    change = f"{name} went from {shown(found['before'], name)} to {shown(found['after'], name)}"
    only = len(run["costs"][name]) == 1
    cut = _cuts_at(run, found["step"])
    said = f"With the {cut}" if only else f"The {cut} cost most:"
    said = f"{said} {change}, {amount(found['cost'], name)} worse."
    back = _back(run, found)
    if any(each["at"] == found["step"] for each in run["undone"]):
        yield f"{said} The guard has undone {'them' if cut.startswith('cuts') else 'it'}."
    elif back is not None:
        yield f"{said} It was made up for by epoch {back}."
    elif only:
        yield f"{said} Train for longer, or leave it more."
    else:
        yield f"{said} Let the schedule fall more slowly there, or end later."


def _cuts_at(run: Run, step: int) -> str:
    """`cut before epoch 2`, `cuts in epoch 2`."""
    several = sum(each["at"] == step for each in run["cuts"]) > 1
    return f"{'cuts' if several else 'cut'} {run['when'][step]} epoch {step}"


def _back(run: Run, cut: Mapping[str, Any]) -> int | None:
    """The first epoch after a cut in which the metric was as good as before it."""
    sign = run["directions"][run["main"]]
    for step, value in zip(run["steps"], run["metrics"][run["main"]], strict=True):
        if step > cut["step"] and value is not None and sign * (value - cut["before"]) >= 0:
            return int(step)
    return None


def _undone(run: Run) -> Iterator[str]:
    if not run["undone"]:
        return
    last, count = run["undone"][-1], len(run["undone"])
    lines = [f"The guard has undone {count} {'cut' if count == 1 else 'cuts'}."]
    if last["parameters"] is not None and last["parameters_before"] is not None:
        which = f"{'It' if count == 1 else 'The last'}, {last['when']} epoch {last['at']}"
        lines.append(
            f"{which}, went to {last['parameters']:,.0f} parameters; "
            f"{last['parameters_before']:,.0f} is what it has let pass."
        )
    if not run["outcome"].get("shortfall"):  # which says itself what helps
        guard = run["outcome"].get("guard") or ""
        more = "a limit that is easier to meet" if "max_drop=None" in guard else "a larger max_drop"
        lines.append(f"Train for longer, or give the guard {more} or a longer patience.")
    yield " ".join(lines)


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
        f"Layer {layer['name']} still keeps {share(layer['energy'])} of its energy and holds "
        f"{share(layer['parameters'] / total)} of the parameters: it can give more."
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
    """Why there is no cut; only a run that has ended, and asked for none, is a dense one."""
    if run["cut_steps"]:
        return
    told = run["outcome"]
    if (_fraction(run) or 1) < 1:
        cut = "was cut in this run" if told["done"] else "is cut yet in this run"
        yield f"Nothing {cut}: its model was smaller than the dense one before it."
    elif not told["known"]:
        yield "Nothing was cut in this run, as far as its logs tell."
    elif run["dense"]:
        yield "Nothing was cut in this run: it is a dense one, to compare others with."
    elif not told["asks"]:
        yield "Nothing is to be cut in this run: once it has ended, it is a dense one."
    elif told["done"]:
        yield "Nothing was cut in this run, though that was asked for."
    else:
        yield "Nothing is cut yet: the training goes on, or was broken off before its first cut."


def _fraction(run: Run) -> float | None:
    """The size at the end, over that of the dense model; `None` where the logs tell neither."""
    size, dense = run["final"]["params"], run["outcome"]["dense_parameters"]
    if not size or not dense:
        return None
    return 1.0 if is_same_size(size, dense) else float(size / dense)


def _kept(run: Run) -> Iterator[str]:
    """What the size has cost in all."""
    name, fraction = run["main"], _fraction(run)
    value = run["final"]["metrics"].get(name)
    if value is None or fraction is None or fraction >= 1 or not run["cut_steps"]:
        return
    dense, sign = run["outcome"]["dense_parameters"], run["directions"][name]
    pairs = zip(run["metrics"][name], run["params"], strict=False)
    at_full_size = [sign * v for v, size in pairs if v is not None and is_same_size(size, dense)]
    words = f"{name} is {shown(value, name)} {_at(run)}, "
    if at_full_size:
        worse = max(at_full_size) - sign * value
        if worse <= 0:  # also of a short run, whose dense epochs had learned little
            return
        words += f"{amount(worse, name)} worse than in the best epoch at full size, "
    yield f"{words}with {share(1 - fraction)} fewer parameters."


def _at(run: Run) -> str:
    """When the metric was what it is shown as."""
    return "at the end" if run["outcome"]["done"] else f"in epoch {run['final']['step']}"


def is_fraction(value: float, metric: str) -> bool:
    """True for a value that is shown in percent."""
    return abs(value) <= 1 and is_fraction_by_name(metric)


def shown(value: float, metric: str) -> str:
    """A metric in words, as the page shows it too.

    Example:
        >>> shown(0.92307, "val_accuracy"), shown(0.25, "val_loss")
        ('92.31 %', '0.25')
    """
    return f"{100 * value:.4g} %" if is_fraction(value, metric) else f"{value:.4g}"


def amount(value: float, metric: str) -> str:
    """A difference in words: of a metric that is a fraction, in points.

    Example:
        >>> amount(0.006, "val_accuracy"), amount(0.01, "val_accuracy"), amount(0.25, "val_loss")
        ('0.6 points', '1 point', '0.25')
    """
    if is_fraction(value, metric):
        points = f"{100 * value:.3g}"
        return f"{points} {'point' if points == '1' else 'points'}"
    return f"{value:.3g}"


def share(value: float) -> str:
    """A share in percent, to two figures; near the whole as exact as it has to be.

    Example:
        >>> share(0.1712), share(0.00034), share(0.9968), share(1.0)
        ('17 %', '0.034 %', '99.7 %', '100 %')
    """
    return f"{100 * value:.{2 if value < _ROOM else 3}g} %"


_KINDS: tuple[Callable[[Run], Iterator[str]], ...] = (
    _nothing,
    _worst,
    _costliest,
    _undone,
    _room,
    _learning,
    _kept,
)
