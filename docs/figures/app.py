"""Make docs/figures/app.png: the page of `app` in use, on the CIFAR-10 ResNet-18, in a browser without a screen.

    python docs/figures/app.py [folder for further pictures: narrow, dark]

It needs chromium and chromium-driver, and selenium of the extra `test`; it takes two minutes on two cores.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from selenium.webdriver.common.keys import Keys  # noqa: E402

from tests.app.browsers import Browser, browser  # noqa: E402

COMMAND = ["train.py", "app", "--config", "configs/cifar10/stream_minimal_harm.yaml", "--app.port", "0"]
HEIGHT, WIDTH = 980, 1280


@contextmanager
def running(runs: str) -> Iterator[str]:
    """Start the app; yield the address of its page."""
    log = Path(runs, "out.txt")
    command = [sys.executable, *COMMAND, f"--trainer.logger.init_args.save_dir={runs}", "--data.cache=false"]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        while not (found := re.search(r"The page is at (\S+)", log.read_text())):
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.5)
        yield found[1]
    finally:
        process.terminate()
        process.wait()


def use(page: Browser) -> None:
    """Keep three corrections, the second by its painted part, switch the first off, and ask for a fourth."""
    for number in range(3):
        page.pick(2 * number)
        if number == 1:
            paint(page)
        page.correct()
        if page.shows("error"):
            print(page.text("error"))
            continue
        page.keep()
        page.all("[name=how]")[0].send_keys(Keys.SPACE)
    page.one("switch-1").click()
    page.says("message", "is switched off")
    time.sleep(3)
    page.until(lambda: not page.shows("work"))  # it prepares for the next correction


def paint(page: Browser) -> None:
    """Paint the middle of the image."""
    page.all("[name=how]")[1].send_keys(Keys.SPACE)
    page.driver.execute_script("arguments[0].focus()", page.one("canvas"))
    for _ in range(7):
        page.press(Keys.ARROW_LEFT, Keys.ARROW_UP)
    for _ in range(5):
        for _ in range(7):
            page.press(Keys.SPACE, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        page.press(*[Keys.ARROW_LEFT] * 14, *[Keys.ARROW_DOWN] * 3)


def main(further: Path | None) -> None:
    """Use the page, and take pictures of it."""
    with tempfile.TemporaryDirectory() as runs, running(runs) as address:
        with browser(address, WIDTH, HEIGHT) as page:
            use(page)
            page.pick(3)
            page.correct()
            time.sleep(1)
            page.driver.save_screenshot(str(ROOT / "docs" / "figures" / "app.png"))
            if further is not None:
                features = [{"name": "prefers-color-scheme", "value": "dark"}]
                page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                page.driver.save_screenshot(str(further / "dark.png"))
                page.one("discard").click()
                paint(page)
                page.driver.save_screenshot(str(further / "painting.png"))
        if further is not None:
            with browser(address, 360, 2600) as page:
                page.pick(3)
                page.correct()
                time.sleep(1)
                page.driver.save_screenshot(str(further / "narrow.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
