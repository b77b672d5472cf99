"""Names in figures: as they are, whatever they hold, with at most one warning."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from editable.visualize import drawing as module
from editable.visualize import (
    plot_changed_images,
    plot_comparison,
    plot_contact_sheet,
    plot_edited_images,
    plot_image_edit,
)
from editable.visualize.drawing import name_lines, save_figure
from editable.visualize.spurious_scan import Bars, plot_scan
from tests.warned import no_warning, whatever_is_warned

NAMES = [
    *("cost $5$ a $x$", r"$\frac{", "crane [bird]", "a|b", "<b>bold", "null", "_hidden", "100%", "#1", "x" * 300),
    *("two\nlines", "a\ttab", "שלום", "猫", "😀"),
]


def drawn(axes) -> list[str]:
    """Names beside an axis, none of which is mathematics."""
    labels = axes.get_yticklabels()
    assert not any(label.get_parse_math() for label in labels)
    return [label.get_text() for label in labels]


def test_every_figure_takes_every_name(tmp_path: Path):
    count = len(NAMES)
    images, numbers = torch.rand(count, 3, 8, 8), torch.arange(count)
    share = torch.rand(count, count).softmax(1)
    with whatever_is_warned() as warned:
        plot_image_edit(tmp_path / "1.png", images[:3], NAMES, numbers, share, share, NAMES)
        plot_edited_images(tmp_path / "2.png", images, numbers, numbers.flip(0), NAMES)
        plot_changed_images(tmp_path / "3.png", images, numbers, numbers, numbers.flip(0), NAMES)
        plot_contact_sheet(tmp_path / "4.png", images, images, images[:, 0], NAMES)
        plot_scan(tmp_path / "5.png", NAMES, [Bars("change", {"network": [0.1] * count}, {"network": [0.1] * count})])
        plot_comparison(tmp_path / "6.png", NAMES, [0.1] * count, [0.1] * count, [0.1] * count)
    said = {str(some.message) for some in warned}
    assert len(said) <= 1
    assert all("no font of this machine has" in message for message in said)
    for number in range(1, 7):
        Image.open(tmp_path / f"{number}.png").verify()


def test_dollars_are_no_mathematics_but_powers_of_ten_are(tmp_path: Path):
    figure = Figure()
    axes = figure.subplots()
    axes.set_title("a $x$ b")
    axes.barh([0, 1], [1, 1000], label="$y$")
    axes.set_yticks([0, 1], ["$5$ or $6$", "two"])
    axes.set_xscale("log")
    axes.legend()
    save_figure(figure, tmp_path / "a.png")
    assert drawn(axes) == ["$5$ or $6$", "two"]
    assert not axes.title.get_parse_math()
    assert not axes.get_legend().get_texts()[0].get_parse_math()
    assert all(label.get_parse_math() for label in axes.get_xticklabels())


def test_a_character_that_one_font_of_the_machine_has_is_drawn_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_drawn_by", lambda font, some: some - {"猫"} if "DejaVuSans.ttf" in font else some)
    figure = Figure()
    title = figure.subplots().set_title("猫")
    with no_warning():
        save_figure(figure, tmp_path / "a.png")
    assert len(title.get_fontfamily()) == 2


def test_a_character_that_no_font_has_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_drawn_by", lambda font, some: some - {"猫"})
    figure = Figure()
    figure.subplots().set_title("猫 and dog")
    with pytest.warns(UserWarning, match="no font of this machine has 猫: figures show boxes"):
        save_figure(figure, tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("cat", ["cat"]),
        ("crane [machine]", ["crane ", "[machine]"]),
        ("x" * 30, ["x" * 10] * 3),
        ("data/test/cat/0040.jpg", ["data/test/", "cat/", "0040.jpg"]),
        ("a/" + "x" * 12 + " b", ["a/", "x" * 10, "xx b"]),
        ("a" * 20 + "b" * 20, ["a" * 10, "aaaa…bbbbb", "b" * 9]),
        ("", [""]),
        ("a\tb", ["a\\tb"]),
        ("a\nb", ["a", "b"]),
    ],
)
def test_long_names_go_over_lines(name: str, lines: list[str]):
    assert name_lines(name, 10).split("\n") == lines
