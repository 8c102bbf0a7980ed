"""TensorBoard with the tab, and a browser that looks at it: of tests, pictures, benchmarks."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
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


@contextlib.contextmanager
def served(logs: Path, told: Path, *options: str) -> Iterator[str]:
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


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium, 1280 x 1000."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.chrome.service.Service(DRIVER))
    driver.set_script_timeout(20)
    try:
        yield driver
    finally:
        driver.quit()


class Tab:
    """The page within TensorBoard, opened anew."""

    def __init__(self, driver: Any, address: str):
        self.driver = driver
        driver.switch_to.default_content()
        driver.get("about:blank")
        driver.get(f"{address}/#reducible")
        self.enter()
        self.wait(lambda: self.find(".card-value"))

    def enter(self) -> None:
        """Look into the frame that the tab is."""
        self.driver.switch_to.default_content()
        frame = self.wait(lambda: self.find("iframe"))[0]
        self.driver.switch_to.frame(frame)

    def wait(self, there: Callable[[], Any], seconds: float = 20) -> Any:
        """What a function gives, as soon as that is something."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: there())

    def find(self, selector: str) -> list[Any]:
        """Elements by a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def js(self, script: str, *given: Any) -> Any:
        """What a script gives."""
        return self.driver.execute_script(script, *given)

    @property
    def text(self) -> str:
        """All that is shown below the tabs."""
        return self.find("#view")[0].text

    def view(self, name: str) -> Tab:
        """Choose one of `VIEWS`, and wait until it is there."""
        self.find(f"#tab-{name}")[0].click()
        self.wait(lambda: self.find(f"#tab-{name}[aria-selected=true]"))
        self.wait(lambda: "Loading" not in self.text)
        return self

    def run(self, name: str) -> Tab:
        """Choose a run, and wait until it is there."""
        from selenium.webdriver.support.ui import Select

        Select(self.find("#run")[0]).select_by_visible_text(name)
        self.wait(lambda: self.find("[role=status]")[0].text == "")
        return self

    @property
    def keys(self) -> Any:
        """Names of keys."""
        from selenium.webdriver.common.keys import Keys

        return Keys

    @property
    def focused(self) -> str:
        """Id of what the keyboard is at."""
        return str(self.js("return document.activeElement.id"))

    def press(self, *keys: str) -> None:
        """Press keys, wherever the keyboard is at."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def refresh(self) -> Tab:
        """Read the logs again, and wait until that is done."""
        self.find("#refresh")[0].click()
        self.wait(lambda: "reading" not in self.find("[role=status]")[0].text)
        self.wait(lambda: "Loading" not in self.text)
        return self

    def dark(self, wanted: bool) -> Tab:
        """Have TensorBoard in its dark mode, or not."""
        self.driver.switch_to.default_content()
        self.js("document.body.classList.toggle('dark-mode', arguments[0])", wanted)
        self.enter()
        self.wait(lambda: bool(self.find("html.dark")) == wanted)
        return self

    def severe(self) -> list[str]:
        """Errors in the browser's console since the last call."""
        logged = self.driver.get_log("browser")
        told = [each["message"] for each in logged if each["level"] == "SEVERE"]
        return [each for each in told if "/font-roboto/" not in each]  # TensorBoard's own

    def picture(self, file: Path | str, width: int = 1180) -> None:
        """Keep the whole page, however high it is, as a PNG file."""
        import PIL.Image

        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 300, "deviceScaleFactor": 1, "mobile": False},
        )
        below = self.js("return document.querySelector('main').getBoundingClientRect().height")
        self.driver.switch_to.default_content()
        bar = self.js("return document.querySelector('iframe').getBoundingClientRect().top")
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": width,
                "height": round(bar + below),
                "deviceScaleFactor": 1,
                "mobile": False,
            },
        )
        self.enter()
        time.sleep(0.3)  # the page has no other sign that it is drawn
        png = self.driver.get_screenshot_as_png()
        image = PIL.Image.open(io.BytesIO(png)).convert("RGB").quantize(256, 1, dither=0)
        image.save(file, optimize=True)  # a third of what the browser makes of it
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
