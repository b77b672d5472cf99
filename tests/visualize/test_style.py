"""Figures are drawn in one style, which eyes of all kinds can read, and leave matplotlib's settings as they are."""

import ast
from pathlib import Path

import pytest
import torch
from matplotlib import rcParams
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from editable.visualize import edits
from editable.visualize.drawing import COLOURS
from tests.paths import ROOT

OKABE_ITO = {  # red, green, blue as in "Color Universal Design", 2008
    "black": (0, 0, 0),
    "orange": (230, 159, 0),
    "sky blue": (86, 180, 233),
    "bluish green": (0, 158, 115),
    "yellow": (240, 228, 66),
    "blue": (0, 114, 178),
    "vermillion": (213, 94, 0),
    "reddish purple": (204, 121, 167),
}
FILES = sorted((ROOT / "editable" / "visualize").glob("*.py"))


def test_the_colours_are_those_of_the_published_palette():
    assert sorted(COLOURS) == sorted("#{:02x}{:02x}{:02x}".format(*some) for some in OKABE_ITO.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_figure_is_in_style(path: Path):
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("plot_"):
            assert [ast.unparse(some) for some in node.decorator_list] == ["in_style"], node.name
    assert "tab:" not in text, "a colour of another palette"
    assert "tab10" not in text, "another palette"


def test_a_figure_has_the_colours_and_settings_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures: list[Figure] = []
    monkeypatch.setattr(edits, "save_figure", lambda figure, path: figures.append(figure))
    before = dict(rcParams)
    edits.plot_drawdown(tmp_path / "a.png", {"one": torch.tensor([0.0, 0.1]), "two": torch.tensor([0.2, 0.3])})
    assert dict(rcParams) == before
    (axes,) = figures[0].axes
    assert {to_hex(patch.get_facecolor()) for patch in axes.patches} == {COLOURS[0], COLOURS[1]}
    assert not axes.spines["top"].get_visible()
    assert to_hex(figures[0].get_facecolor()) == "#ffffff"
