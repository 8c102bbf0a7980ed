"""The trials of a search as its folder tells them, whichever process has run them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import keras_tuner
from rich.console import Console
from rich.text import Text

from reducible_train.tuner.keras_tuner_side import REASON


@dataclass(frozen=True)
class Ended:
    """A trial that has ended.

    Args:
        metrics: What it has reported, and its `score`; empty for one that has failed.
        reason: Why it has failed; empty for one that has not.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def ended(project: Path) -> dict[str, Ended]:
    """The trials that are done or failed, by name; a file half written waits for the next look."""
    found = {}
    for path in sorted(project.glob("trial_*/trial.json")):
        try:
            trial = keras_tuner.engine.trial.Trial.load(str(path))
        except (ValueError, OSError):
            continue
        if path.parent.name != f"trial_{trial.trial_id}":  # a copy
            continue
        if trial.status == "COMPLETED":
            metrics = {n: float(trial.metrics.get_best_value(n)) for n in trial.metrics.metrics}
            found[trial.trial_id] = Ended({**metrics, "score": float(trial.score)})
        elif trial.status == "FAILED":
            found[trial.trial_id] = Ended(reason=_reason(path.parent, trial.message))
    return found


def _reason(folder: Path, message: str | None) -> str:
    """Why a trial has failed, in one line; keras-tuner keeps a traceback, where it keeps any."""
    try:
        told = (folder / REASON).read_text("utf-8")
    except OSError:
        told = ((message or "").strip().splitlines() or ["it left no reason"])[-1]
    return " ".join(told.split())


@dataclass
class Progress:
    """Tells of each trial that has ended since it was asked last.

    Args:
        console: Where to.
        project: The folder of the trials.
        trials: How many there shall be.
        direction: `"min"` or `"max"`, of their scores.
        shown: The metrics of quality and of size.
    """

    console: Console
    project: Path
    trials: int
    direction: str
    shown: tuple[str, str]

    def __post_init__(self) -> None:
        self._began, self._told = time.monotonic(), set(ended(self.project))
        self._before = len(self._told)
        if self._before:
            many = "" if self._before <= self.trials else ", more than are asked for"
            told = f"done before: {self._before} of {self.trials} trials{many}"
            self.console.print(Text(told))

    def __call__(self) -> int:
        """How many have ended since the last call."""
        done = ended(self.project)
        new = sorted(done.keys() - self._told)
        for name in new:
            self._told.add(name)
            place = f"trial {name} ({len(self._told)} of {self.trials} done)"
            self.console.print(Text(f"{place}  {self._line(done, name)}"), soft_wrap=True)
        return len(new)

    def _line(self, done: Mapping[str, Ended], name: str) -> str:
        since = len(self._told) - self._before
        seconds = (time.monotonic() - self._began) / since * (self.trials - len(self._told))
        left = f"{duration(max(seconds, 0.0))} left"
        if done[name].reason:
            return f"failed: {done[name].reason}  {left}"
        some = [each.metrics for each in done.values() if not each.reason]
        best = (min if self.direction == "min" else max)(some, key=lambda each: each["score"])
        told = line_of(done[name].metrics, self.shown)
        quality, size = (best[each] for each in self.shown)  # a score may be neither
        return f"{told}  best {quality:.4f} at {size:.1%}  {left}"


def line_of(metrics: Mapping[str, float], shown: tuple[str, str]) -> str:
    """Quality and size of a trial."""
    monitor, size = shown
    return f"{monitor} {metrics[monitor]:.4f}  {size.replace('_', ' ')} {metrics[size]:.1%}"


def duration(seconds: float) -> str:
    """Seconds, as one reads them.

    >>> duration(61), duration(400), duration(9000)
    ('61 s', '7 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
