"""Debian's Chromium, without a screen: what it shows, and what it asks for and complains of."""

import base64
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.common import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

WIDE, NARROW = 1280, 360  # pixels: a desk and a phone
PATIENCE = 10  # seconds for what has to happen at once
# A name for this machine that is no secure context: there, browsers have no clipboard API.
PLAIN_HOST = "hub.test"
OURS = ("127.0.0.1", PLAIN_HOST)
REMEDY = "Debian's chromium and chromium-driver are missing; install them as root: make browser"
ARGUMENTS = (
    "--headless=new",
    # Only pages of these tests are opened, and root has no sandbox.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    # What a browser asks its maker for by itself, and whatever a page may ask others for.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@dataclass(frozen=True)
class Look:
    """How a reader looks at a page."""

    width: int = WIDE
    dark: bool = False
    scripts: bool = True

    def __str__(self) -> str:
        return f"{self.width}px-{'dark' if self.dark else 'light'}"


LOOKS = [Look(width, dark) for width in (WIDE, NARROW) for dark in (False, True)]


class Browser:
    """One window, in which one page after the other is opened."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, address: str, look: Look | None = None) -> None:
        """Open a page; it is loaded when this returns."""
        look = look or Look()
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=look.width,
            height=900,
            deviceScaleFactor=1,
            mobile=look.width == NARROW,
        )
        scheme = "dark" if look.dark else "light"
        self._command(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self._command("Emulation.setScriptExecutionDisabled", value=not look.scripts)
        self.driver.get(address)

    def one(self, selector: str) -> WebElement:
        """Return the first element that a CSS selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Return all elements that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: object) -> Any:
        """Run a function's body in the page, and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition; fail if it does not come true."""
        wait = WebDriverWait(
            self.driver,
            PATIENCE,
            poll_frequency=0.05,
            ignored_exceptions=[StaleElementReferenceException],
        )
        wait.until(lambda _: condition())

    def clipboard(self) -> str:
        """Return what the page may paste. The page has to be one of 127.0.0.1."""
        text: str = self.driver.execute_async_script(
            "navigator.clipboard.readText().then(arguments[0], e => arguments[0](`refused: ${e}`))"
        )
        return text

    def axe(self) -> list[str]:
        """Return what axe-core finds wrong in the page, the gravity of each fault first."""
        self.run(_axe_core())
        result = self.driver.execute_async_script(
            "const done = arguments[0];"
            "axe.run({resultTypes: ['violations']}).then(done, (error) => done(String(error)))"
        )
        assert isinstance(result, dict), result
        return [
            f"{fault['impact']}: {fault['id']}: {node['target']}: {node['failureSummary']}"
            for fault in result["violations"]
            for node in fault["nodes"]
        ]

    def complaints(self) -> list[str]:
        """Return what was written to the console since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Return the addresses that were asked for since the last time."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        addresses = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in addresses if address.startswith("http")]

    def draw(self, picture: Path) -> None:
        """Write the whole page to a PNG file."""
        size = self._command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        answer = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        picture.write_bytes(base64.b64decode(answer["data"]))

    def _command(self, name: str, **arguments: object) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)


@contextmanager
def started() -> Iterator[Browser]:
    """Start Chromium with an empty profile, and end it. Raises `FileNotFoundError`."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise FileNotFoundError(REMEDY)
    options = ChromeOptions()
    options.binary_location = program
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options, ChromeService(driver))
    try:
        chrome.set_script_timeout(PATIENCE)
        browser = Browser(chrome)
        browser._command(
            "Browser.grantPermissions",
            permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        )
        yield browser
    finally:
        chrome.quit()


def elsewhere(addresses: list[str]) -> list[str]:
    """Return those addresses that lead to another machine."""
    return [address for address in addresses if urlsplit(address).hostname not in OURS]


def _axe_core() -> str:
    """Return axe-core as the package brings it that is there (pyproject.toml says which)."""
    package = "axe-selenium-python" if sys.version_info >= (3, 12) else "axe-core-python"
    [script] = [file for file in metadata.files(package) or () if file.name == "axe.min.js"]
    return script.read_text()
