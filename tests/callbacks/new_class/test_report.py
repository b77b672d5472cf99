"""The report of a new class: drawn again from its file, and what it says of outcomes that are made up."""

import csv
from pathlib import Path

import pytest

from editable.callbacks.new_class import NewClassOutcome
from editable.callbacks.new_class import report as new_class_report
from editable.callbacks.new_class.report import summary, write
from editable.callbacks.run.outcome_file import read_outcome
from tests.callbacks.new_class.made_up import made_up
from tests.callbacks.new_class.small_new_class import Run


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """What figures were to be drawn of, by file: most of the time goes into drawing."""
    asked: dict[str, tuple] = {}
    for name in ("plot_filter_maps", "plot_negative_weights", "plot_new_class_roc"):
        monkeypatch.setattr(new_class_report, name, lambda path, *arguments: asked.update({path.name: arguments}))
    return asked


def test_it_is_drawn_again_without_the_run(swept: Run, tmp_path: Path):
    (section,) = write(read_outcome(swept.folder / "new_class_outcome.pt", NewClassOutcome), tmp_path)
    assert (swept.folder / "report.md").read_text().endswith(section)
    for name in ("new_class.csv", "new_class_roc.png", "filter_maps.png", "negative_weights.png"):
        assert (tmp_path / name).read_bytes() == (swept.folder / name).read_bytes(), name


def test_the_table_has_means_and_the_report_their_range(drawn: dict[str, tuple], tmp_path: Path):
    table = summary(made_up())
    assert table.title == "The new class 'blue'"
    assert table.columns == ["method", "AUC", "AUC of probability", "recall", "old images lost", "old accuracy"]
    assert table.rows == [
        ["filter, λ = 0", "0.500", "0.750", "50.0%", "1.00%", "87.50%"],
        ["filter, λ = 0.05", "0.812", "0.750", "50.0%", "1.00%", "87.50%"],
        ["class vector", "0.625", "0.500", "25.0%", "1.00%", "87.50%"],
    ]
    (section,) = write(made_up(), tmp_path)
    assert "| filter, λ = 0.05 | 0.812 (0.750 … 0.875) |" in section
    assert "This was done 2 times" in section


def test_one_draw_has_no_range(drawn: dict[str, tuple], tmp_path: Path):
    (section,) = write(made_up(num_draws=1), tmp_path)
    assert "| filter, λ = 0.05 | 0.750 |" in section
    assert "…" not in section
    assert "times" not in section


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {},
            "beside `layer4` was trained on 1 image of 'blue' and 100 images of other classes drawn at random, with λ",
        ),
        ({"negatives": "top"}, "other classes that a filter trained on the positives alone responds to most, with λ"),
        ({}, "6 test images of 'blue' and all test images of old classes, of which the network got 87.50% right"),
        ({"max_loss": 0.25}, "shifted such that 25.0% of other images"),
        ({}, "is in `grown.safetensors`.\n"),
        (
            {"configuration": "runs/x/grown.yaml"},
            "in `grown.safetensors`, and [grown.yaml](grown.yaml) loads it: `--config runs/x/grown.yaml` behind the "
            "options of a run on data whose last class is 'blue'.\n",
        ),
    ],
)
def test_sentences(drawn: dict[str, tuple], tmp_path: Path, settings: dict, expected: str):
    (section,) = write(made_up(**settings), tmp_path)
    assert section.startswith("## The new class 'blue'\n")
    assert expected in section


def test_every_draw_has_its_line_in_the_file(drawn: dict[str, tuple], tmp_path: Path):
    write(made_up(), tmp_path)
    with (tmp_path / "new_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["negative_weight"], row["draw"]) for row in rows] == [
        (method, weight, draw)
        for draw in "01"
        for method, weight in (("filter", "0.0"), ("filter", "0.05"), ("class vector", ""))
    ]
    assert [row["loss"] for row in rows[:3]] == ["0.25", "0.25", ""]


def test_what_is_drawn(drawn: dict[str, tuple], tmp_path: Path):
    outcome = made_up()
    write(outcome, tmp_path)
    (curves,) = drawn["new_class_roc.png"]
    assert {method: [area for *_, area in draws] for method, draws in curves.items()} == {
        "filter": [0.75, 0.875],
        "class vector": [0.625, 0.625],
    }
    assert drawn["filter_maps.png"][-1] == ["blue", "other"]
    weights, areas, positive, negative, baselines = drawn["negative_weights.png"]
    assert (weights, areas) == ([0.0, 0.05], [[0.5, 0.5], [0.75, 0.875]])
    assert (positive, negative) == ([[0.9, 0.9]] * 2, [[0.1, 0.1]] * 2)
    assert baselines == {"class vector": 0.625}
    drawn.clear()
    only = [some for some in outcome.figures if some.negative_weight != 0]
    (section,) = write(made_up(figures=only), tmp_path)
    assert "negative_weights.png" not in drawn
    assert "negative_weights.png" not in section
