"""The HParams dashboard: what each fit was asked for, beside its quality, its size and its FLOPs.

TensorBoard takes the columns from the first run that describes them, so they are the same for
every fit: `SETTINGS` and `METRICS`. A session is a run; its metrics are the last points of scalars.
`tensorboard.plugins.hparams.summary` would import TensorFlow; the messages do not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from reducible_train.report.scalars import numbers
from reducible_train.tensorboard import events, tags

Plain: TypeAlias = str | float

_TEXT, _NUMBER = api_pb2.DATA_TYPE_STRING, api_pb2.DATA_TYPE_FLOAT64

SETTINGS: Mapping[str, tuple[int, str]] = {
    "target": (_TEXT, "What falls: budget, cost, energy, rtol, rank, or a search."),
    "final": (_NUMBER, "Where it ends; of several budgets, the smallest."),
    "schedule": (_TEXT, "How it gets there."),
    "start_epoch": (_NUMBER, "Dense until then."),
    "end_epoch": (_NUMBER, "At the final ranks from then on, at the latest."),
    "measure": (_TEXT, "What a budget counts."),
    "criterion": (_TEXT, "What a lost direction costs."),
    "allocation": (_TEXT, "How kernels share the budget."),
    "guard": (_TEXT, "The metric by which cuts are undone."),
    "aids": (_TEXT, "What helps beside the cuts."),
    "rules": (_NUMBER, "Rules for single layers."),
    "epochs": (_NUMBER, "Epochs of the fit."),
    "steps": (_NUMBER, "Steps of an epoch, where the data tell."),
    "optimizer": (_TEXT, "Optimizer of the fit."),
    "learning_rate": (_NUMBER, "Learning rate as the fit began."),
    "quality_is": (_TEXT, "The metric that stands under `quality`."),
}
_FIRST = ("target", "final", "schedule", "guard", "quality_is")  # the page begins with five columns
METRICS: Mapping[str, tuple[str, str]] = {
    tags.QUALITY: (
        "quality",
        "The metric named in `quality_is`, at the last epoch of these ranks.",
    ),
    tags.PARAMS: ("parameters", "Parameters of the whole model."),
    tags.FLOPS_FRACTION: ("FLOPs", "FLOPs of one sample over those of the dense model."),
}


def experiment() -> Summary.Value:
    """The columns of the dashboard."""
    settings = [
        api_pb2.HParamInfo(name=name, type=kind, description=told, differs=name in _FIRST)
        for name, (kind, told) in SETTINGS.items()
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name, description=told)
        for tag, (name, told) in METRICS.items()
    ]
    about = api_pb2.Experiment(hparam_infos=settings, metric_infos=metrics)
    return _value(metadata.EXPERIMENT_TAG, plugin_data_pb2.HParamsPluginData(experiment=about))


def session_start(settings: Mapping[str, Plain]) -> Summary.Value:
    """The row of a run: its settings, those that are not columns left out."""
    about = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
    for name, value in settings.items():
        if name not in SETTINGS:
            continue
        if isinstance(value, str):
            about.hparams[name].string_value = value
        elif math.isfinite(value):  # JSON, in which they travel, knows no others
            about.hparams[name].number_value = value
    return _value(
        metadata.SESSION_START_INFO_TAG,
        plugin_data_pb2.HParamsPluginData(session_start_info=about),
    )


def session_end() -> Summary.Value:
    """The fit of a run has ended."""
    about = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
    return _value(
        metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=about)
    )


def _value(tag: str, data: plugin_data_pb2.HParamsPluginData) -> Summary.Value:
    described = metadata.create_summary_metadata(data)
    described.data_class = DATA_CLASS_TENSOR
    return Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)


@dataclass
class Session:
    """One fit: a row of the dashboard, with the quality by which it is compared.

    Args:
        settings: What was asked for, by the names of `SETTINGS`.
        watched: The metric that a guard goes by.
        is_row: False where another writes the row, and the quality alone is told here.
    """

    settings: Mapping[str, Plain]
    watched: str | None = None
    is_row: bool = True
    _quality: str | None = field(default=None, init=False)
    _is_told: bool = field(default=False, init=False)

    def values(self, metrics: Iterable[str], logs: Mapping[str, Any]) -> Iterator[Summary.Value]:
        """What is written as an epoch ends: the row, once, and the quality.

        Args:
            metrics: Names in the tags of metrics: `val_accuracy`; `train_accuracy` where nothing
                is validated.
            logs: Those of the epoch.
        """
        self._quality = self._quality or self.watched or quality_name(metrics)
        if self.is_row and not self._is_told:
            self._is_told = True
            named = {"quality_is": self._quality} if self._quality else {}
            yield experiment()
            yield session_start({**self.settings, **named})
        yield from self.quality(logs)

    def quality(self, logs: Mapping[str, Any]) -> Iterator[Summary.Value]:
        """The quality that logs tell; nothing where they do not."""
        name = (self._quality or "").removeprefix("train_")
        if (value := numbers(logs).get(name)) is not None:
            words = f"{self._quality}: the metric of the HParams dashboard."
            yield events.scalar(tags.QUALITY, value, words)


def quality_name(metrics: Iterable[str]) -> str | None:
    """The metric to judge a fit by that has no guard: the first that is no loss, else the loss.

    >>> quality_name(["val_loss", "val_accuracy"])
    'val_accuracy'
    >>> quality_name(["val_a_loss", "val_loss"])
    'val_loss'
    """
    known = list(metrics)
    wanted = [name for name in known if not name.endswith("loss")]
    wanted += [name for name in known if name in ("val_loss", "train_loss")]
    return next(iter(wanted + known), None)


def session_of(scheduler: Any, model: Any, params: Mapping[str, Any] | None) -> Session:
    """The row of a fit that begins.

    Args:
        scheduler: Its rank callback.
        model: Its model, whose optimizer has its learning rate still; `None` where there is none.
        params: What Keras tells callbacks of the fit.
    """
    guard = getattr(getattr(scheduler, "settings", scheduler), "guard", None)
    settings = settings_of(scheduler) | settings_of_fit(model, params)
    return Session(settings, getattr(guard, "monitor", None))


def settings_of(scheduler: Any) -> dict[str, Plain]:
    """What a rank callback was asked for, as far as it tells."""
    asked = getattr(scheduler, "settings", scheduler)
    found: dict[str, Plain | None] = dict(_targets(asked))
    if "schedule" in found:
        found["start_epoch"] = _dense_until(asked)
        found["end_epoch"] = getattr(scheduler, "final_epoch", found["end_epoch"])
    for name in ("criterion", "allocation"):
        found[name] = getattr(asked, name, None)
    guard = getattr(asked, "guard", None)
    found["guard"] = None if guard is None else str(guard.monitor)
    found["aids"] = _names(getattr(asked, "aids", None) or ())
    found["rules"] = len(getattr(asked, "rules", None) or ())
    return {name: value for name, value in found.items() if value not in (None, "")}


def _targets(asked: Any) -> Iterator[tuple[str, Plain]]:
    """What falls, and when; a search has no schedule."""
    if getattr(asked, "search", None) is not None:
        yield "target", "search"
        return
    target = getattr(asked, "target", None)
    if target is None:
        return
    schedules = [part.schedule for part in target.parts]
    counts = [part.counts(_measure(asked)) for part in target.parts if hasattr(part, "counts")]
    yield "measure", ", ".join(counts)
    yield "target", target.parts[0].name.partition(".")[0]
    yield "schedule", _names(schedules)
    yield "end_epoch", max(schedule.end_epoch for schedule in schedules)
    yield "final", min(schedule(math.inf) for schedule in schedules)


def _dense_until(asked: Any) -> float:
    """The epoch before which nothing asks for a cut, as far as it tells; 0 if nothing ever does."""
    rules = [rule.target for rule in getattr(asked, "rules", ()) if rule.target is not None]
    starts = [getattr(target, "idle_until", 0.0) for target in (*asked.target.parts, *rules)]
    waits = getattr(getattr(asked, "adaptive", None), "start_epoch", 0)
    return float(waits + min((start for start in starts if start is not None), default=0.0))


def _measure(asked: Any) -> str:
    """Name of what the one budget of a model counts."""
    measure = getattr(asked, "measure", None)
    return str(getattr(measure, "name", "parameters"))


def settings_of_fit(model: Any, params: Mapping[str, Any] | None) -> dict[str, Plain]:
    """Epochs, steps, optimizer and learning rate of a fit, as far as they are known."""
    found = {k: v for k, v in (params or {}).items() if k in ("epochs", "steps") and v}
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return found
    rate = numbers({"learning_rate": getattr(optimizer, "learning_rate", None)})
    return found | {"optimizer": type(optimizer).__name__} | rate


def _names(things: Iterable[Any]) -> str:
    """The kinds of some settings, each once."""
    return ", ".join(dict.fromkeys(type(each).__name__ for each in things))
