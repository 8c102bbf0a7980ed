"""How fast the tab of TensorBoard is: what logging adds to an epoch, how soon the server answers,
when the page is there in Chromium.

The logs are those of `RankTensorBoard` for a fit that is played, not trained: kernels of
1024 x 1024 whose ranks fall in forty cuts. Logging is told in seconds of the processor, for it
waits for nothing. Answers are timed from a client of the same machine, the page by the browser's
own clock, from the moment the frame of the tab is opened; the fastest of several rounds counts,
for what else the machine does can only add to it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import command, console, finish, show

from reducible_train import RankTensorBoard
from reducible_train.report.records import Cut, KernelCut, KernelRecord, Report

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from browser import BROWSER, DRIVER, VIEWS, Tab, chromium, served

WIDTH = 1024
CUTS = 40
LOADERS = {"Rust": (), "Python": ("--load_fast", "false")}
LOGGING, ANSWER, PAINT = 0.020, 0.300, 2.0  # seconds that are the goals

# Clicks a tab, and tells when the frame after the next one has begun: what was drawn is there.
CLICK = """
const [name, done] = arguments;
const begun = performance.now();
document.getElementById(`tab-${name}`).click();
const there = () => document.querySelector('#view').textContent.includes('Loading')
  ? requestAnimationFrame(there)
  : requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begun)));
there();
"""


class Played:
    """Stands for a `RankScheduler`: in forty epochs, evenly spread, every kernel is cut."""

    def __init__(self, layers: int, epochs: int):
        names = (f"encoder_{i // 6}/dense_{i % 6}/kernel" for i in range(layers))
        self.kernels = [(name, WIDTH) for name in names]
        self.every = max(epochs // (2 * CUTS), 1)
        self.cuts: list[Cut] = []
        self.ranks: list[int | None] = [None] * layers
        self.rng = np.random.default_rng(0)
        self.spectrum = np.geomspace(10, 0.01, WIDTH)

    def begin(self, epoch: int) -> None:
        """What an epoch does before its first step."""
        made = len(self.cuts)
        if made == CUTS or epoch < self.every or epoch % self.every:
            return
        before, after = self._parameters(), round(WIDTH * 0.45 * 0.94**made)
        cut = []
        for i, (path, width) in enumerate(self.kernels):
            rank = max(after + int(self.rng.integers(-after // 3, after // 3)), 1)
            rank = min(rank, self.ranks[i] or rank)
            values = self.spectrum[: self.ranks[i]]
            cut.append(
                KernelCut(path, (width, width), self.ranks[i], rank, 0.9, 0.1, "budget", values)
            )
            self.ranks[i] = rank
        sizes = before, self._parameters()
        self.cuts.append(Cut(epoch, 0, "budget", 0.3, tuple(cut), *sizes, {}, output_error=0.01))

    def _parameters(self) -> int:
        return sum(WIDTH * WIDTH if rank is None else 2 * rank * WIDTH for rank in self.ranks)

    @property
    def report(self) -> Report:
        now, dense = self._parameters(), len(self.kernels) * WIDTH * WIDTH
        kernels = tuple(
            KernelRecord(
                path, "Dense", (width, width), rank, width // 2, 2 * (rank or 512) * width, 0.5
            )
            for (path, width), rank in zip(self.kernels, self.ranks, strict=True)
        )
        sizes = dense, now, 4 * dense, 4 * now, 2 * dense, 2 * now
        return Report(*sizes, kernels, tuple(self.cuts))


def play(folder: Path, layers: int, epochs: int) -> dict[str, list[float]]:
    """Write the logs of a fit.

    Returns:
        Processor seconds of each epoch's end, of epochs with a cut and of those without.
    """
    scheduler = Played(layers, epochs)
    board = RankTensorBoard(scheduler, folder)
    seconds: dict[str, list[float]] = {"cut": [], "no cut": []}
    board.on_train_begin()
    for epoch in range(epochs):
        made = len(scheduler.cuts)
        scheduler.begin(epoch)
        logs = {"val_accuracy": 0.9 - 0.3 * 0.9**epoch, "val_loss": 0.3 + 0.9**epoch}
        started = time.process_time()
        board.on_epoch_end(epoch, logs)
        kind = "cut" if len(scheduler.cuts) > made else "no cut"
        seconds[kind].append(time.process_time() - started)
    board.on_train_end()
    return seconds


def asked(address: str, route: str, **given: str) -> Any:
    """What the server answers."""
    url = f"{address}/data/plugin/reducible/{route}?{urllib.parse.urlencode(given)}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def until_read(address: str, epochs: int) -> None:
    """Wait for TensorBoard to have read all of the logs."""
    while True:
        runs = asked(address, "runs")["runs"]
        if runs and runs[0]["done"] and runs[0]["steps"][-1] == epochs - 1:
            time.sleep(2)  # it looks once more
            return
        time.sleep(0.5)


def timed(call: Callable[[], Any], rounds: int) -> float:
    """Seconds of a call, the fastest of several."""
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


def answers(address: str, rounds: int) -> dict[str, float]:
    """Seconds of each answer of the server."""
    (run,) = (each["run"] for each in asked(address, "runs")["runs"])
    layer = asked(address, "run", run=run)["layers"][0]["name"]
    asks = {
        "runs": lambda: asked(address, "runs"),
        "run": lambda: asked(address, "run", run=run),
        "spectra": lambda: asked(address, "spectra", run=run, layer=layer),
    }
    return {route: timed(call, rounds) for route, call in asks.items()}


def page(address: str, rounds: int) -> dict[str, float]:
    """Seconds until the frame paints, until the run is shown, and of each click."""
    with chromium() as driver:
        found = [dict(_opened(driver, address)) for _ in range(rounds)]
    return {name: min(each[name] for each in found) / 1000 for name in found[0]}


def _opened(driver: Any, address: str) -> Iterator[tuple[str, float]]:
    tab = Tab(driver, address)
    for name, kind in ("first-contentful-paint", "paint"), ("reducible-shown", "mark"):
        yield (
            name,
            tab.js(f"return performance.getEntriesByName('{name}', '{kind}')[0].startTime"),
        )
    for view in VIEWS[1:]:
        yield view, driver.execute_async_script(CLICK, view)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument(
        "--sizes", nargs="+", default=["50x100", "200x300"], help="layers x epochs"
    )
    args = options.parse_args()
    console.print(f"$ {command()}")
    rows = [row for size in args.sizes for row in measured(size, args.rounds)]
    show(
        f"layers x epochs; milliseconds, the fastest of {args.rounds}",
        ["of", "what", "ms"],
        [
            [row["of"], what, f"{1000 * s:.1f}"]
            for row in rows
            for what, s in row["seconds"].items()
        ],
    )
    goals = dict(judged(rows))
    for text, reached in goals.items():
        console.print(f"{'reached' if reached else 'MISSED '}  {text}")
    finish({"rows": rows, "goals": goals, "settings": vars(args)})


def measured(size: str, rounds: int) -> Iterator[dict[str, Any]]:
    """A row for the logging, one for each loader's answers, one for the page."""
    layers, epochs = map(int, size.split("x"))
    with tempfile.TemporaryDirectory() as place:
        logs, told = Path(place) / "logs", Path(place) / "told.txt"
        written = play(logs, layers, epochs)
        ends = {f"epoch, {kind}": statistics.median(each) for kind, each in written.items()}
        every = [each for kind in written.values() for each in kind]
        yield {"of": f"{size}, logging", "seconds": ends | {"epoch, mean": statistics.mean(every)}}
        for loader, switches in LOADERS.items():
            with served(logs, told, *switches) as address:
                until_read(address, epochs)
                yield {"of": f"{size}, {loader}", "seconds": answers(address, rounds)}
                if loader == "Rust" and BROWSER and DRIVER:
                    yield {"of": f"{size}, page", "seconds": page(address, rounds)}


def judged(rows: list[dict[str, Any]]) -> Iterator[tuple[str, bool]]:
    """Each goal, and whether it is reached."""
    for row in rows:
        of, seconds = row["of"], row["seconds"]
        if of == "50x100, logging":
            told = "50 layers: logging takes at most 20 ms in an epoch with a cut"
            yield told, seconds["epoch, cut"] <= LOGGING
        if of.startswith("50x100") and "run" in seconds:
            slowest = max(seconds.values())
            yield f"{of}: each answer within 300 ms", slowest <= ANSWER
        if of == "200x300, page":
            yield "200 layers x 300 epochs: shown within 2 s", seconds["reducible-shown"] <= PAINT


if __name__ == "__main__":
    main()
