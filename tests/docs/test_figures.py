"""Figures on the pages are drawn from the store, by a command, or are pictures of images; the rest is listed here."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from tests.docs.blocks import PAGES
from tests.docs.test_tables import FILES
from tests.paths import DOCS

FIGURES = DOCS / "figures"
SCRIPT = SimpleNamespace(**runpy.run_path(str(FIGURES / "measured.py")))
ELSEWHERE = {
    "app": "a screenshot, by docs/figures/app.py",
    "board": "by the command `board`, of results/",
    "fast": "by the command `board`, of results/fast",
    "few_shot_vehicles_on_snow": "by docs/figures/few_shot.py, of results/few_shot",
    **dict.fromkeys(("edit", "edit_changed"), "images and what a network makes of them, by `edit`"),
    **dict.fromkeys(
        ("generator_erased", "generator_first", "generator_rule", "generator_samples", "generator_strongest"),
        "generated images, by `rewrite_generator`",
    ),
    "seeing_change": "maps over images, by `see`",
    "seeing_curves": "by the report of `see`, of its outcome",
}


def shown() -> set[str]:
    links = [link for page in PAGES for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))]
    return {Path(link).stem for link in links if "figures/" in link}


def test_it_is_known_where_each_comes_from():
    known = [*SCRIPT.FIGURES, *ELSEWHERE]
    assert len(known) == len(set(known))
    assert shown() == set(known)
    assert {path.stem for path in FIGURES.glob("*.png")} == set(known)


@pytest.mark.parametrize("name", SCRIPT.FIGURES)
def test_it_shows_what_the_store_has(name: str):
    with Image.open(FIGURES / f"{name}.png") as picture:
        assert picture.text["rows"] == SCRIPT.digest(SCRIPT.rows_of(name)), f"python docs/figures/measured.py {name}"


def test_what_is_stored_for_figures_alone_is_drawn():
    drawn = {table for _, tables in SCRIPT.FIGURES.values() for table in tables}
    assert {name for name, file in FILES.items() if "columns" not in file} <= drawn


@pytest.mark.usefixtures("fine_figures")
@pytest.mark.parametrize("name", ["six_editors", "search_fine_tuned_rmsprop", "rewrite_routes", "inverse_trade_off"])
def test_it_is_drawn(name: str, tmp_path: Path):
    """One of each kind; what the functions draw has tests of its own."""
    SCRIPT.draw(name, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as drawn, Image.open(FIGURES / f"{name}.png") as kept:
        assert drawn.text == kept.text
        assert drawn.size == kept.size
