"""Real browsers without a screen."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECONDS = 60


class Browser:
    """A visitor with eyes and hands."""

    def __init__(self, driver: webdriver.Chrome, address: str, shows: str) -> None:
        self.driver = driver
        self._wait = WebDriverWait(driver, SECONDS, 0.05, [StaleElementReferenceException])
        driver.get(address)
        self.until(lambda: bool(self.all(shows)))

    def until(self, holds: object) -> None:
        self._wait.until(lambda _: holds())  # type: ignore[operator]

    def one(self, name: str) -> WebElement:
        return self.driver.find_element(By.ID, name)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, name: str) -> str:
        return self.one(name).text

    def shows(self, name: str) -> bool:
        return self.one(name).is_displayed()

    def says(self, name: str, words: str) -> None:
        """Wait until an element says something."""
        try:
            self.until(lambda: words in self.text(name))
        except Exception as error:
            raise AssertionError(
                f"{name} says {self.text(name)!r}, not {words!r}; error: {self.text('error')!r}"
            ) from error

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """Return what has the focus: its id, or else its label."""
        element = self.driver.switch_to.active_element
        return element.get_attribute("id") or element.get_attribute("aria-label") or element.tag_name

    def tab_to(self, name: str, most: int = 200) -> None:
        """Go on by the keyboard alone until something has the focus."""
        for _ in range(most):
            if self.focused() == name:
                return
            self.press(Keys.TAB)
        raise AssertionError(f"{name} is not reached by the keyboard")

    def pick(self, number: int = 0) -> str:
        """Look at a test image; return its name."""
        said: list[str] = []

        def clicked() -> bool:
            button = self.all("#thumbnails button")[number]
            said[:] = [str(button.get_attribute("aria-label")).partition(":")[0]]
            button.click()
            return True

        self.until(clicked)
        self.until(lambda: self.shows("seen") and self.text("image-title") == said[0])
        return said[0]

    def correct(self, label: str | None = None) -> None:
        """Ask for a correction of the image, and wait for what comes of it."""
        if label is not None:
            Select(self.one("label")).select_by_visible_text(label)
        self.one("make").click()
        self.until(lambda: self.shows("trial") or self.shows("error"))

    def keep(self) -> None:
        number = len(self.all("#corrections li"))
        self.one("keep").click()
        self.until(lambda: len(self.all("#corrections li")) == number + 1)
        self.until(lambda: self.text("message").startswith("Kept"))

    def errors(self) -> list[str]:
        """Return what the browser has complained of, but for refused requests: errors of scripts, and of its policy."""
        messages = [str(entry["message"]) for entry in self.driver.get_log("browser")]
        return [message for message in messages if "Failed to load resource" not in message]


@contextmanager
def browser(address: str, width: int = 1280, height: int = 900, shows: str = "#thumbnails button") -> Iterator[Browser]:
    """Open a page and wait until it shows something; skip the test where there is no browser."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("there is no browser: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        made = webdriver.Chrome(options, Service(driver))
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        try:
            made.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            yield Browser(made, address, shows)
        finally:
            made.quit()
