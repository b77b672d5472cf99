"""The site builds without a warning, all its links lead somewhere, and it asks no other host for anything."""

import ast
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.paths import DOCS, ROOT

ROOMS = sorted(page.stem for page in (DOCS / "reference").glob("*.md") if page.stem not in ("index", "editable"))


class Page(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attributes}
        self.places.update(of[name] for name in ("id", "name") if name in of)
        if tag == "a" and "href" in of:
            self.links.add(of["href"])
        elif tag == "link" and of.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.add(of["href"])
        elif "src" in of:
            self.loaded.add(of["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The pages of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path: Page(path) for path in folder.rglob("*.html")}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_opens_with_what_its_reader_will_be_able_to_do(page: Path):
    title, *paragraphs = page.read_text(encoding="utf-8").split("\n\n")
    assert title.startswith("# ")
    first = next(some for some in paragraphs if not some.startswith("<!--"))
    assert re.search(r"\byou\b|\*\*What to expect", first), first


def test_no_link_is_broken(site: dict[Path, Page]):
    broken = []
    for path, page in site.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":  # its links begin at the host's root
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            aim = aim / "index.html" if aim.is_dir() else aim
            if not aim.is_file() or (parts.fragment and unquote(parts.fragment) not in site[aim].places):
                broken.append(f"{path.parent.name}: {link}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, Page]):
    folder = min(site, key=lambda path: len(path.parts)).parent
    assert not {link for page in site.values() for link in page.loaded if urlsplit(link).netloc}
    styles = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.css"))
    assert not re.findall(r"url\([\"']?(?:https?:)?//[^)]*", styles)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(site: dict[Path, Page], room: str):
    door = ast.parse((ROOT / "editable" / room / "__init__.py").read_text(encoding="utf-8"))
    [names] = [ast.literal_eval(part.value) for part in door.body if isinstance(part, ast.Assign)]
    [page] = [page for path, page in site.items() if path.parts[-3:] == ("reference", room, "index.html")]
    shown = {place.removeprefix(f"editable.{room}.") for place in page.places}
    assert not [name for name in names if shown.isdisjoint({name, f"{name}.{name}"})]  # a function named as its file


def test_formulas_are_mathml(site: dict[Path, Page]):
    for path in site:
        if "files" in path.parts:  # sources, as they are
            continue
        text = path.read_text(encoding="utf-8")
        assert "arithmatex" not in text, path
        assert ".. math::" not in text, path
        assert not re.search(r"<em>[,;:)‖]", text), path  # a star that is no emphasis, as in W k*
        assert not re.search(r":(?:class|func|meth|mod|attr|math):`", text), path
    [concepts] = [path for path in site if path.parent.name == "concepts"]
    assert concepts.read_text(encoding="utf-8").count("<math") >= 4


def test_every_page_is_in_the_table_of_contents():
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert not [page for page in pages if page not in contents]
