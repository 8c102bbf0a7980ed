"""The tab in a real browser, on runs that real fits have made."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from reducible_train import Guard, PiecewiseConstant, Ramp, RankScheduler, RankTensorBoard, analyze
from reducible_train.errors import ShortfallWarning

webdriver = pytest.importorskip("selenium.webdriver", reason="the tab is tested by selenium")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="no chromium with its driver; see make test-browser"
)

HOSTILE = "x<img src=q onerror='window.hacked=1'>"
VIEWS = ("overview", "ranks", "spectrum", "frontier", "decisions", "sensitivity")

# The tab comes by its entry point; where an older version is installed, it is given by hand.
SERVE = """
import sys
from tensorboard import default, program
from reducible_train.tensorboard.plugin.loader import ReducibleLoader
plugins = default.get_plugins()
if ReducibleLoader not in plugins:
    plugins.append(ReducibleLoader)
board = program.TensorBoard(plugins=plugins)
board.configure(argv=[None, *sys.argv[1:]])
sys.exit(board.main())
"""


def network(names):
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,))])
    for name in names:
        model.add(keras.layers.Dense(32, activation="relu", name=name))
    model.add(keras.layers.Dense(3, activation="softmax", name="output"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A dense run, a ramp with its analysis, one that a guard holds back, one of hostile names."""
    folder = tmp_path_factory.mktemp("logs")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 16)).astype("float32")
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)

    def fit(run, scheduler, names=("first", "second"), **options):
        model = network(names)
        if options.pop("analysed", False):
            options["analysis"] = analyze(model, (x, y))
        board = RankTensorBoard(scheduler, str(folder / run), **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ShortfallWarning)  # of the guard
            model.fit(x, y, 32, 5, 0, callbacks=[scheduler, board], validation_data=(x, y))

    fit("dense", RankScheduler(1.0))
    falling = PiecewiseConstant(values=(16, 6, 4), start_epochs=(0, 1, 2))
    fit("ramp", RankScheduler(rank=falling), analysed=True)
    guard = Guard("val_accuracy", max_drop=0.0, patience=1)
    fit("guarded", RankScheduler(Ramp(1.0, 0.3, start_epoch=1, end_epoch=3), guard=guard))
    fit(
        "many <b>layers", RankScheduler(rank=falling), (HOSTILE, *(f"layer_{i}" for i in range(13)))
    )
    return folder


@contextlib.contextmanager
def served(logs, told, *options):
    """The address of a TensorBoard that runs; what it says is kept in the file `told`."""
    with open(told, "w", encoding="utf-8") as file:
        command = [sys.executable, "-c", SERVE, "--logdir", str(logs), "--port", "0", *options]
        board = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        while not (found := re.search(r"at (http://\S+)", told.read_text(encoding="utf-8"))):
            assert board.poll() is None, told.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield found[1].rstrip("/")
    finally:
        board.terminate()
        board.wait(timeout=20)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.chrome.service.Service(DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(logs, tmp_path_factory):
    told = tmp_path_factory.mktemp("board") / "told.txt"
    with served(logs, told, "--path_prefix", "/behind/it", "--reload_interval", "1") as found:
        yield found


class Tab:
    """The page within TensorBoard."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.switch_to.default_content()
        driver.get("about:blank")
        driver.get(f"{address}/#reducible")
        frame = self.wait(lambda: driver.find_elements("css selector", "iframe"))[0]
        driver.switch_to.frame(frame)
        self.wait(lambda: self.find(".card-value"))

    def wait(self, there, seconds=20):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: there())

    def find(self, selector):
        return self.driver.find_elements("css selector", selector)

    @property
    def text(self):
        return self.find("#view")[0].text

    def view(self, name):
        self.find(f"#tab-{name}")[0].click()
        self.wait(lambda: self.find(f"#tab-{name}[aria-selected=true]"))
        return self

    def run(self, name):
        from selenium.webdriver.support.ui import Select

        Select(self.find("#run")[0]).select_by_visible_text(name)
        self.wait(lambda: self.find("[role=status]")[0].text == "")
        return self

    def severe(self):
        logged = self.driver.get_log("browser")
        told = [each["message"] for each in logged if each["level"] == "SEVERE"]
        return [each for each in told if "/font-roboto/" not in each]  # TensorBoard's own


@pytest.fixture
def tab(browser, address):
    found = Tab(browser, address)
    yield found
    assert not found.severe()
    browser.switch_to.default_content()


def test_the_overview_says_what_became_of_the_model(tab):
    tab.run("ramp")
    assert "Parameters" in tab.text
    assert re.search(r"of [\d,]+, [\d.]+ % fewer", tab.text)
    assert re.search(r"Layer (first|second) keeps 0\.\d+ of its energy", tab.text)
    assert "rank" in tab.text.partition("Asked and reached")[2]
    tab.run("dense")
    assert "Nothing was cut in this run" in tab.text


def test_every_view_of_every_run_shows_something(tab):
    for run in ("ramp", "dense", "guarded", "many <b>layers"):
        tab.run(run)
        for name in VIEWS:
            assert tab.view(name).wait(lambda: len(tab.text) > 20 and "Loading" not in tab.text)


def test_a_layer_leads_to_its_singular_values(tab):
    tab.run("ramp").view("ranks")
    lines = tab.find("svg path")
    assert len(lines) == 2
    tab.find(".legend button")[1].click()
    picture = tab.wait(lambda: tab.find("#view svg"))[0]
    assert "Singular values of second before the cut of epoch" in picture.accessible_name
    marks = " ".join(each.text for each in tab.find("svg .mark"))
    assert "cut at rank" in marks
    assert "effective rank" in marks
    slider = tab.find("input[type=range]")[0]
    assert "cut 2 of 2" in tab.text
    slider.send_keys("\ue012")  # left
    assert "cut 1 of 2" in tab.text


def test_many_layers_are_a_map_and_names_are_text(tab):
    tab.run("many <b>layers").view("ranks")
    names = [each.text for each in tab.find("text.row-name")]
    assert len(names) == 14
    assert len(tab.find("svg rect")) < 14 * 5, "equal neighbours are one rectangle"
    tab.find("text.row-name")[0].click()
    assert tab.wait(lambda: HOSTILE in tab.text and "Loading" not in tab.text)
    assert tab.find("#view svg")
    assert not tab.driver.execute_script("return window.hacked || document.querySelector('img')")


def test_the_best_run_within_a_size_is_named(tab):
    tab.view("frontier")
    assert len(tab.find("svg circle")) + len(tab.find("svg rect")) >= 4
    field = tab.find(".choices input")[0]
    field.send_keys("1 MB")
    assert re.search(r"Best within 1 MB: .+, val_accuracy [\d.]+ %", tab.text)
    field.send_keys("\b\b\b\b", "1")
    assert "No run is within 1 B." in tab.text


def test_decisions_tell_cuts_and_what_was_undone(tab):
    tab.run("guarded").view("decisions")
    assert "Guard(monitor='val_accuracy'" in tab.text
    undone = [each for each in tab.find("table") if "undone" in each.text.splitlines()[0]]
    assert "val_accuracy was below" in undone[0].text
    tab.run("ramp")
    assert "output layer" in tab.text, "why it stayed dense"
    assert "There was no guard." in tab.text


def test_the_analysis_is_a_map_of_layers_and_ratios(tab):
    tab.run("ramp").view("sensitivity")
    assert len(tab.find("table.heat tbody tr")) == 2
    assert len(tab.find("table.heat thead th")) == 13
    tab.run("dense")
    assert "No analysis is in these logs" in tab.text


def test_tabs_go_by_the_keyboard(tab):
    tab.find("#tab-overview")[0].send_keys("\ue014")  # right
    assert tab.find("#tab-ranks[aria-selected=true]")
    tab.find("#tab-ranks")[0].send_keys("\ue012\ue012")
    assert tab.driver.switch_to.active_element.get_attribute("id") == "tab-sensitivity"


def test_a_run_that_is_gone_is_told(tab, logs, tmp_path):
    tab.run("ramp")
    kept = shutil.move(logs / "ramp", tmp_path / "ramp")
    try:
        tab.wait(
            lambda: (tab.find("#refresh")[0].click(), "ramp" not in tab.find("#run")[0].text)[1]
        )
    finally:
        shutil.move(kept, logs / "ramp")
    assert tab.wait(lambda: tab.find(".card-value")), "another one is shown"


def test_nothing_of_ours_is_told_in_words(browser, tmp_path):
    with served(tmp_path, tmp_path / "told.txt") as found:
        browser.get(f"{found}/data/plugin/reducible/runs")
        assert "RankTensorBoard" in browser.page_source


@pytest.mark.skipif("PICTURES" not in os.environ, reason="make pictures")
def test_pictures_for_the_documents(tab):
    folder = Path(__file__).parents[2] / "docs" / "pictures"
    tab.run("ramp")
    for name in VIEWS:
        tab.view(name).wait(lambda: "Loading" not in tab.text)
        tab.driver.save_screenshot(str(folder / f"tab_{name}.png"))
