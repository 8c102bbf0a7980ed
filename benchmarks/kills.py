"""Does a search survive kill -9? Thirty kills at drawn moments, of every process that a search has.

Each search of `reducible-train tune` is killed again and again, and its command given again, until
it ends: the process of a search of one process, the chief, a worker, or the command that watches
them. Told of each kill: finished trials that were lost or run again, and the seconds until the next
trial was finished. Told of each search: whether its trials and its best file are those of a search
that nobody has disturbed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from common import finish, parser, show

from reducible_train.datasets import load

PLACES = ("process", "chief", "worker", "command")  # what is killed
CONFIG = """\
compression: {budget: 0.5}
search_space: {budget: [0.25, 0.8], ramp: [0.0, 0.5]}
training: {epochs: 3, batch_size: 256, seed: SEED}
"""
PATIENCE = 600.0  # seconds


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--kills", type=int, default=30)
    asked.add_argument("--trials", type=int, default=10, help="of each search")
    asked.add_argument("--workers", type=int, default=2)
    asked.add_argument("--within", type=float, default=30, help="seconds in which a kill is drawn")
    asked.add_argument("--runs", type=Path, help="keeps each kill and search; goes on from there")
    options = asked.parse_args()
    kept = Kept(options.runs)
    left = [PLACES[i % len(PLACES)] for i in range(options.kills)]
    for row in kept.rows:
        if row["killed"] in left:
            left.remove(row["killed"])
    draw = random.Random(len(kept.rows))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _prepare(root)
        seed = max((each["seed"] for each in kept.searches), default=0)
        while left:
            seed += 1
            expected = Search(root, seed, "undisturbed", options.trials).undisturbed()
            for kind in (("process",), PLACES[1:]):
                own = [each for each in left if each in kind]
                if not own:
                    continue
                workers = 1 if kind == ("process",) else options.workers
                search = Search(root, seed, kind[0], options.trials, workers, kept)
                done = search.killed(own, draw, options.within)
                for row in done:
                    left.remove(row["killed"])
                same = search.outcome() == expected
                kept.add({"seed": seed, "workers": workers, "kills": len(done),
                          "same_as_undisturbed": same})  # fmt: skip
    _tell(kept.rows, kept.searches)


def _prepare(root: Path) -> None:
    """A trained model and its data."""
    data = load("digits")

    np.savez(root / "data.npz", x_train=data.x_train, y_train=data.y_train, x_val=data.x_val,
             y_val=data.y_val)  # fmt: skip
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(64, activation="relu", name="hidden"),
            keras.layers.Dense(data.classes, activation="softmax", name="output"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data.x_train, data.y_train, epochs=8, verbose=0)
    model.save(root / "model.keras")


class Kept:
    """Rows of kills and of searches, in a file if one is given."""

    def __init__(self, path: Path | None = None):
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        found = [json.loads(line) for line in lines]
        self.rows = [each for each in found if "killed" in each]
        self.searches = [each for each in found if "seed" in each]

    def add(self, row: dict[str, Any]) -> None:
        (self.rows if "killed" in row else self.searches).append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


class Search:
    """One search in a folder of its own, by one command that is given again and again."""

    def __init__(
        self,
        root: Path,
        seed: int,
        name: str,
        trials: int,
        workers: int = 1,
        kept: Kept | None = None,
    ):
        self._kept = Kept() if kept is None else kept
        self._root, self._folder = root, root / f"{name}-{seed}"
        self._trials, self._out = trials, root / f"{name}-{seed}.reducible"
        config = root / f"{seed}.yaml"
        config.write_text(CONFIG.replace("SEED", str(seed)))
        self._command = [sys.executable, "-m", "reducible_train", "tune", str(root / "model.keras"),
                         str(root / "data.npz"), "-c", str(config), "-o", str(self._out),
                         "--folder", str(self._folder), "--trials", str(trials), "--tuner",
                         "random", "--max-drop", "0.02", "--workers", str(workers)]  # fmt: skip

    def undisturbed(self) -> Any:
        """What the search comes to if nobody kills it."""
        self._ended(self._begun())
        return self.outcome()

    def killed(self, places: list[str], draw: random.Random, within: float) -> list[dict[str, Any]]:
        """Kill it at drawn moments until it has ended; a row for each kill."""
        rows: list[dict[str, Any]] = []
        process, begun = self._begun(), time.monotonic()
        while len(rows) < len(places):
            place, wait = places[len(rows)], draw.uniform(0.0, within)
            while time.monotonic() < begun + wait and process.poll() is None:
                time.sleep(0.02)
            victim = self._process_of(process, place)
            if process.poll() is not None:
                break
            if victim is None:  # not there yet
                begun += 1.0
                continue
            before = self.finished()
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            if victim == process.pid:
                process.wait()
                process, killed = self._begun(), time.monotonic()
            seconds = self._until_next(process, before, killed)
            after = self.finished()
            rows.append({"killed": place, "after": round(wait, 2), "finished": len(before),
                         "lost": sum(after.get(name) != told for name, told in before.items()),
                         "seconds": seconds, "load": round(os.getloadavg()[0], 1)})  # fmt: skip
            self._kept.add(rows[-1])
            begun = time.monotonic() - within * draw.random() / 2  # not always just after a trial
        self._ended(process)
        return rows

    def finished(self) -> dict[str, tuple[str, int]]:
        """Finished trials by name: the bytes of their file, and when it was written."""
        found = {}
        for path in (self._folder / "trials").glob("trial_*/trial.json"):
            text = path.read_text("utf-8")
            if json.loads(text)["status"] == "COMPLETED":
                digest = hashlib.sha256(text.encode()).hexdigest()
                found[path.parent.name] = (digest, path.stat().st_mtime_ns)
        return found

    def outcome(self) -> Any:
        """What each trial was told and has come to, in no order, and the best file."""
        trials = []
        for path in (self._folder / "trials").glob("trial_*/trial.json"):
            told = json.loads(path.read_text("utf-8"))
            values = sorted(told["hyperparameters"]["values"].items())
            trials.append((values, told["status"], told["score"]))
        return sorted(trials), hashlib.sha256(self._out.read_bytes()).hexdigest()

    def _until_next(self, process: Any, before: Any, since: float) -> float | None:
        """Seconds until one more trial was finished; `None` where none was left to do."""
        if len(before) == self._trials:
            return None
        while len(self.finished()) == len(before):
            if process.poll() is not None or time.monotonic() > since + PATIENCE:
                raise RuntimeError(f"the search did not go on: {process.communicate()}")
            time.sleep(0.1)
        return round(time.monotonic() - since, 1)

    def _process_of(self, process: Any, place: str) -> int | None:
        """Number of the process to be killed; `None` while it is not there."""
        if place in ("process", "command"):
            return int(process.pid)
        name = "chief" if place == "chief" else "worker-1"
        found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
        for pid in found.stdout.split():
            try:
                told = Path(f"/proc/{pid}/environ").read_text("utf-8")
            except OSError:
                continue
            if f"KERASTUNER_TUNER_ID={name}\0" in told:
                return int(pid)
        return None

    def _begun(self) -> Any:
        log = open(self._root / "log.txt", "ab")  # noqa: SIM115 (of the process)
        return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _ended(self, process: Any) -> None:
        code = process.wait(timeout=4 * PATIENCE)
        if code not in (0, 3):
            raise RuntimeError((self._root / "log.txt").read_text("utf-8")[-2000:])


def _tell(rows: list[dict[str, Any]], searches: list[dict[str, Any]]) -> None:
    table = []
    for place in PLACES:
        own = [row for row in rows if row["killed"] == place]
        seconds = [row["seconds"] for row in own if row["seconds"] is not None]
        if own:
            table.append([place, len(own), sum(row["lost"] for row in own),
                          f"{max(seconds, default=0.0):.0f}"])  # fmt: skip
    show("kill -9", ["killed", "kills", "finished trials lost", "most seconds to go on"], table)
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    finish(
        {
            "kills": len(rows),
            "lost": sum(row["lost"] for row in rows),
            "seconds_most": max(seconds, default=None),
            "within_60_s": sum(each <= 60 for each in seconds),
            "searches_same": all(each["same_as_undisturbed"] for each in searches),
            "searches": searches,
            "rows": rows,
        }
    )


if __name__ == "__main__":
    main()
