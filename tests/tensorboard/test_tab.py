"""The tab in a real browser, on runs that real fits have made."""

from __future__ import annotations

import re
import shutil
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import pytest
from browser import BROWSER, DRIVER, VIEWS, Tab, chromium, served
from test_tensorboard import fit_within

from reducible_train import Guard, PiecewiseConstant, Ramp, RankScheduler, RankTensorBoard, analyze
from reducible_train.errors import ShortfallWarning
from reducible_train.tensorboard import events
from reducible_train.tensorboard import tags as form

pytest.importorskip("selenium.webdriver", reason="the tab is tested by selenium")
if BROWSER is None or DRIVER is None:
    pytest.skip(
        "the tab is not tested: no Chromium with its chromedriver; make test-browser installs them",
        allow_module_level=True,
    )

GOLDEN = Path(__file__).parents[1] / "golden"
HOSTILE = "x<img src=q onerror='window.hacked=1'>"
RUNS = ("guarded", "ramp", "dense", "many <b>layers", "old", "within")


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
    """A dense run, an analysed ramp, one held back by a guard, one of hostile names, an old one."""
    folder = tmp_path_factory.mktemp("logs")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 16)).astype("float32")
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)

    def fit(run, scheduler, names=("first", "second"), **options):
        model = network(names)
        model.fit(x, y, 32, options.pop("trained", 0), 0)
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
    falls = Ramp(1.0, 0.2, start_epoch=1, end_epoch=3)
    fit("guarded", RankScheduler(falls, guard=guard), trained=20)  # so that a cut must lose
    fit(
        "many <b>layers", RankScheduler(rank=falling), (HOSTILE, *(f"layer_{i}" for i in range(13)))
    )
    fit_within(folder / "within")
    shutil.copytree(GOLDEN / "event_files" / "before_json", folder / "old")
    return folder


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def address(logs, tmp_path_factory):
    told = tmp_path_factory.mktemp("board") / "told.txt"
    with served(logs, told, "--path_prefix", "/behind/it", "--reload_interval", "1") as found:
        yield found


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
    assert "rank" in tab.text.partition("Asked and reached")[2]
    picture = tab.find("#view svg")[0]
    assert picture.accessible_name == "val_accuracy and parameters over 5 epochs"
    tab.run("dense")
    assert "Nothing was cut in this run" in tab.text
    tab.run("within")
    assert re.search(r"val_accuracy\s+80 %\s.*of epoch 1, whose weights were kept", tab.text)
    tab.run("many <b>layers")
    assert re.search(
        r"Layer \S.*, at rank 4 of \d+, has lost [\d.]+ % of the variance of its outputs", tab.text
    )
    tab.run("old")
    assert "An older version wrote these logs" in tab.text
    assert "not ended" not in tab.text, "nothing is known of that"


FAULTS = (Path(__file__).parent / "faults.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_shows_something_that_everybody_can_read(tab, theme):
    tab.dark(theme == "dark")
    for run in RUNS if theme == "light" else RUNS[:2]:
        tab.run(run)
        for name in VIEWS:
            assert tab.view(name).wait(lambda: len(tab.text) > 20)
            assert tab.js(FAULTS) == [], (run, name)


def test_a_layer_leads_to_its_singular_values(tab):
    tab.run("ramp").view("ranks")
    lines = tab.find("svg path")
    assert len(lines) == 2
    tab.find(".legend button")[1].click()
    picture = tab.wait(lambda: tab.find("#view svg"))[0]
    assert "Singular values of second before the cut that begins epoch" in picture.accessible_name
    marks = " ".join(each.text for each in tab.find("svg .mark"))
    assert "cut at rank" in marks
    assert "effective rank" in marks
    slider = tab.find("input[type=range]")[0]
    assert "cut 2 of 2" in tab.text
    slider.send_keys("\ue012")  # left
    assert "cut 1 of 2" in tab.text


def test_cuts_within_epochs_are_told_as_such(tab):
    tab.run("within").view("ranks")
    assert "drawn at the start of the epoch before or in which they were made" in tab.text
    titles = tab.js("return [...document.querySelectorAll('line title')].map((e) => e.textContent)")
    assert titles == ["cuts before or in epoch 1, undone later", "cut in epoch 2"]
    tab.view("decisions")
    rows = [each.text for each in tab.find("#view tbody th")]
    assert rows[:3] == ["before epoch 1", "in epoch 1\nafter 4 steps", "in epoch 2\nafter 5 steps"]
    assert rows[3] == "before or in epoch 1", "both were undone"
    tab.run("ramp")
    assert tab.find("#view thead th")[0].text == "before epoch"


def test_a_spectrum_is_told_by_the_cut_of_its_layer(tab):
    tab.run("within").view("ranks").find(".legend button")[1].click()
    picture = tab.wait(lambda: tab.find("#view svg"))[0]
    assert "of net/d2 before the cut in epoch 1" in picture.accessible_name
    assert "singular value, as the data weighs it" in tab.text
    tab.view("ranks").find(".legend button")[0].click()
    tab.wait(lambda: tab.find("#cut"))[0].send_keys(tab.keys.ARROW_LEFT)
    picture = tab.find("#view svg")[0]
    assert "of net/d1 before the cut that begins epoch 1" in picture.accessible_name
    assert "as the data weighs it" not in tab.text


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


PLACES = """
const [points, done] = arguments;
const style = document.querySelector('link[rel=stylesheet]').href;
import(style.replace('style.css', 'frontier.js')).then(({places}) => done(
  places(points, (point) => point).map(({all}) => all.length)));
"""


def test_runs_at_one_place_are_rings_around_each_other(tab):
    tab.view("frontier")
    found = tab.driver.execute_async_script(PLACES, [[0, 0], [3, 4], [100, 0], [0, 9]])
    assert found == [3, 1]
    told = [each.get_attribute("textContent") for each in tab.find("svg .series title")]
    assert len([line for each in set(told) for line in each.splitlines()]) == len(told) >= 4


def test_decisions_tell_cuts_and_what_was_undone(tab):
    tab.run("guarded").view("decisions")
    assert "Guard(monitor='val_accuracy'" in tab.text
    undone = [each for each in tab.find("table") if "undone" in each.text.splitlines()[0]]
    assert "val_accuracy was below" in undone[0].text
    assert "an epoch before → after (the guard judges it)" in tab.text
    assert "The guard judges val_accuracy at the ends of epochs" in tab.text
    tab.run("ramp")
    assert "output layer" in tab.text, "why it stayed dense"
    assert "There was no guard." in tab.text
    tab.run("old")
    assert "Ranks fell in epochs 2, 3" in tab.text
    assert "Whether a guard undid cuts, and why a layer stayed dense, is not in" in tab.text


def test_the_analysis_is_a_map_of_layers_and_ratios(tab):
    tab.run("ramp").view("sensitivity")
    assert len(tab.find("table.heat tbody tr")) == 2
    assert len(tab.find("table.heat thead th")) == 13
    tab.run("dense")
    assert "No analysis is in these logs" in tab.text


def test_all_of_it_goes_by_the_keyboard(tab):
    tab.run("ramp")
    keys = tab.keys
    tab.find("#run")[0].send_keys(keys.TAB)
    assert tab.focused == "refresh"
    tab.press(keys.TAB)
    assert tab.focused == "tab-overview"
    tab.press(keys.ARROW_LEFT)
    assert tab.focused == "tab-sensitivity"
    tab.press(keys.ARROW_RIGHT, keys.ARROW_RIGHT)
    assert tab.focused == "tab-ranks"
    assert tab.find("#tab-ranks[aria-selected=true]")
    tab.press(keys.TAB)
    assert tab.focused == "view"
    tab.press(keys.TAB, keys.TAB, keys.ENTER)  # the second layer
    tab.wait(lambda: tab.find("#cut"))
    assert "Singular values of second" in tab.find("#view svg")[0].accessible_name
    assert tab.find("#view")[0].accessible_name == "Spectrum"
    tab.run("many <b>layers").view("ranks")
    tab.find("#tab-ranks")[0].send_keys(keys.TAB, keys.TAB, keys.ENTER)  # a row of the map
    assert tab.wait(lambda: HOSTILE in tab.text)


def test_refreshing_keeps_what_is_chosen(tab, logs, address):
    tab.run("old").view("frontier").find(".choices input")[0].send_keys("1 MB")
    tab.view("ranks").find(".legend button")[0].click()
    tab.wait(lambda: tab.find("#cut"))[0].send_keys(tab.keys.ARROW_LEFT)
    tab.find("summary")[0].click()
    tab.find("#cut")[0].send_keys("")  # the keyboard is there
    told = tab.find("#view")[0].text
    assert "cut 1 of 2" in told
    writer = events.RunWriter(logs / "old" / "reducible")  # its training goes on
    writer.write(5, [events.scalar(form.PARAMS, 500.0)])
    writer.close()
    asked = f"{address}/data/plugin/reducible/run?run=old%2Freducible"
    tab.wait(lambda: b'"steps":[0,1,2,3,4,5]' in urllib.request.urlopen(asked).read())
    tab.js("document.querySelector('#view svg').remove()")
    tab.js("document.querySelector('#refresh').click()")  # the keyboard stays where it is
    tab.wait(lambda: tab.find("#view svg"))
    assert tab.find("#view")[0].text == told
    assert tab.find("details[open]")
    assert tab.focused == "cut"
    tab.view("frontier")
    assert "Best within 1 MB" in tab.text
    assert tab.find("#run option:checked")[0].text == "old"


def test_a_run_that_is_gone_is_told(tab, logs, tmp_path):
    tab.run("ramp").view("ranks")
    kept = shutil.move(logs / "ramp", tmp_path / "ramp")
    try:
        tab.wait(lambda: "no longer there" in tab.refresh().find("[role=status]")[0].text)
    finally:
        shutil.move(kept, logs / "ramp")
    assert tab.find("#run option:checked")[0].text == "guarded"
    assert tab.find("#view svg"), "the same view of another one is shown"
