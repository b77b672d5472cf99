"""The page in a real browser: by keyboard, on a narrow screen, with wrong files, and with two visitors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from editable.app.server import Server
from tests.app.browsers import Browser, browser
from tests.app.small import mistakes, running
from tests.app.test_album import PNG

pytestmark = pytest.mark.slow

NARROW = 360


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "kept") as place:
        yield place


@pytest.fixture
def page(server: Server) -> Iterator[Browser]:
    with browser(server.address) as place:
        yield place
        assert place.errors() == []


def switches(page: Browser) -> list[str | None]:
    return [some.get_attribute("aria-checked") for some in page.all(".switch")]


def wait_for_switches(page: Browser, *on: bool) -> None:
    page.until(lambda: switches(page) == [str(some).lower() for some in on] and not page.shows("work"))


def test_keep_take_back_and_switch_off_the_middle_one(page: Browser, server: Server, tmp_path: Path):
    assert f"{100 * len(mistakes()) / 120:.1f} % wrong of 120 test images" in page.text("summary")
    page.pick(0)
    page.correct()
    assert "other images would break" in page.text("harm")
    assert "With 95 % confidence at most" in page.text("harm")
    assert page.shows("before")
    assert page.shows("after")
    page.one("discard").click()
    page.says("message", "Taken back: nothing was changed")
    assert page.all("#corrections li") == []
    for _ in range(3):
        page.pick(0)
        page.correct()
        page.keep()
    wait_for_switches(page, True, True, True)
    with_all = page.text("summary")
    page.one("switch-2").click()
    wait_for_switches(page, True, False, True)
    page.says("message", "Correction 2 is switched off")
    assert page.focused() == "switch-2"
    assert page.text("summary") != with_all
    page.one("switch-2").click()
    wait_for_switches(page, True, True, True)
    assert page.text("summary") == with_all
    page.driver.refresh()
    page.until(lambda: len(page.all("#corrections li")) == 3)
    assert page.text("summary") == with_all


def test_a_restart_finds_all_again(tmp_path: Path):
    with running(tmp_path / "kept") as server, browser(server.address) as page:
        for _ in range(2):
            page.pick(0)
            page.correct()
            page.keep()
        page.one("switch-1").click()
        wait_for_switches(page, True, False)
        before = page.text("summary")
    with running(tmp_path / "kept") as server, browser(server.address) as page:
        wait_for_switches(page, True, False)
        assert page.text("summary") == before


def test_by_the_keyboard_alone(page: Browser):
    page.press(Keys.TAB)
    assert page.driver.switch_to.active_element.text == "Skip to the image"
    first = str(page.all("#thumbnails button")[0].get_attribute("aria-label"))
    page.tab_to(first)
    page.press(Keys.ENTER)
    page.until(lambda: page.shows("seen"))
    page.until(lambda: page.focused() == "label")
    page.tab_to("make")
    page.press(Keys.ENTER)
    page.until(lambda: page.focused() == "keep")
    page.press(Keys.ESCAPE)
    page.says("message", "Taken back")
    assert page.focused() == "label"
    page.tab_to("make")
    page.press(Keys.SPACE)
    page.until(lambda: page.focused() == "keep")
    page.press(Keys.ENTER)
    page.until(lambda: len(page.all("#corrections li")) == 1)
    page.says("message", "Kept")
    page.tab_to("switch-1")
    page.press(Keys.SPACE)
    wait_for_switches(page, False)
    assert page.focused() == "switch-1"


def test_painting_by_keyboard_and_pointer(page: Browser):
    page.pick(0)
    page.all("[name=how]")[1].send_keys(Keys.SPACE)
    page.until(lambda: page.shows("brush"))
    assert "painted part should behave as in images of" in page.text("label-title")
    page.one("make").click()
    page.says("error", "Nothing is painted")
    page.one("clear").click()
    page.tab_to("canvas")

    def painted() -> int:
        return int(str(page.one("canvas").get_attribute("aria-label")).partition(": ")[2].split()[0])

    assert painted() == 0
    page.press(Keys.SPACE)
    few = painted()
    assert few > 0
    page.press(*[Keys.ARROW_RIGHT] * 2, Keys.SPACE)
    more = painted()
    assert more > few
    page.press(Keys.BACKSPACE)
    assert painted() == 0
    page.one("canvas").click()
    assert painted() > 0
    page.one("whole").click()
    assert painted() == 64
    page.correct()
    assert page.shows("trial") or "does not make the image look like" in page.text("error")


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_screen_has_no_way_sideways(server: Server, dark: bool):
    with browser(server.address, NARROW, 740) as page:
        if dark:
            features = [{"name": "prefers-color-scheme", "value": "dark"}]
            page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        widths = "return [document.documentElement.scrollWidth, innerWidth]"
        assert page.driver.execute_script(widths) == [NARROW, NARROW]
        page.pick(0)
        assert page.driver.execute_script(widths) == [NARROW, NARROW]
        page.correct()
        assert page.driver.execute_script(widths) == [NARROW, NARROW]
        page.keep()
        assert page.driver.execute_script(widths) == [NARROW, NARROW]
        for button in page.all("button"):
            if button.is_displayed() and button.get_attribute("role") != "switch":
                assert button.size["height"] >= 24
        assert page.errors() == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.png", b"no image at all", "The image notes.png cannot be read"),
        ("half.png", PNG[: len(PNG) // 2], "The image half.png cannot be read"),
        ("large.png", bytes(1_000_001), "This is 1.0 MB, more than the 1 MB that are allowed"),
        ("<b>bold<b>.png", b"", "The image <b>bold<b>.png cannot be read"),
    ],
)
def test_wrong_files(server: Server, tmp_path: Path, name: str, content: bytes, says: str):
    (tmp_path / name).write_bytes(content)
    with browser(server.address) as page:
        page.one("file").send_keys(str(tmp_path / name))
        page.says("error", says)
        assert not page.shows("seen")
        page.pick(0)
        assert not page.shows("error")


def test_too_many_pixels_and_then_an_image_of_ones_own(page: Browser, tmp_path: Path):
    Image.new("L", (1200, 900)).save(tmp_path / "wide.png")
    page.one("file").send_keys(str(tmp_path / "wide.png"))
    page.says("error", "is 1200×900 pixels, more than the 1 million that are allowed")
    Image.new("RGB", (40, 30), (200, 200, 200)).save(tmp_path / "mine <i>.png")
    page.one("file").send_keys(str(tmp_path / "mine <i>.png"))
    page.says("image-title", "mine <i>.png")
    assert page.text("note") == "40×30 pixels, resized and cut to 8×8"
    taken_for = page.all("#top li span")[0].text
    page.correct(next(some for some in "123" if some != taken_for))
    page.keep()
    assert "mine <i>.png" in page.text("corrections")


def test_two_visitors_see_each_others_corrections(server: Server):
    with browser(server.address) as one, browser(server.address) as other:
        one.pick(0)
        other.pick(1)
        one.correct()
        other.correct()
        assert one.shows("trial")
        assert other.shows("trial")
        one.keep()
        other.until(lambda: len(other.all("#corrections li")) == 1)
        other.one("keep").click()
        other.says("error", "The network has changed since the correction was made for it: ask again")
        other.one("discard").click()
        other.correct()
        other.keep()
        one.until(lambda: len(one.all("#corrections li")) == 2)
        other.one("switch-1").click()
        wait_for_switches(one, True, False)
        wait_for_switches(other, True, False)
        assert one.text("summary") == other.text("summary")


def test_names_of_classes_are_shown_as_they_are(server: Server):
    assert server.desk is not None
    strange = "<img src=x onerror=alert(1)>"
    server.desk.bench.classes[:] = [f"{strange}{label}" for label in range(10)]
    with browser(server.address) as page:
        page.pick(0)
        page.correct()
        page.keep()
        assert strange in page.text("top")
        assert page.all("img[src=x]") == []
        assert page.errors() == []


def test_the_token_is_asked_for(tmp_path: Path):
    with running(tmp_path / "kept", token="a-right-token") as server, browser(server.address) as page:
        assert "token" not in page.driver.current_url
        page.driver.delete_all_cookies()
        page.driver.get(f"http://127.0.0.1:{server.server_address[1]}/")
        field = page.driver.find_element(By.ID, "token")
        field.send_keys("a-wrong-token", Keys.ENTER)
        page.until(lambda: "a-wrong-token" in page.driver.current_url)
        page.driver.find_element(By.ID, "token").send_keys("a-right-token", Keys.ENTER)
        page.until(lambda: bool(page.all("#thumbnails button")))
        assert "token" not in page.driver.current_url


def test_a_server_that_has_gone_is_said(tmp_path: Path):
    with running(tmp_path / "kept") as server, browser(server.address) as page:
        page.pick(0)
        server.shutdown()
        server.server_close()
        page.says("summary", "the server does not answer")
        assert "the server does not answer" in page.text("summary")
