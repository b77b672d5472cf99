"""The report of a scan: drawn again from its file, and what it says of outcomes that are made up."""

import csv
from pathlib import Path

import pytest

from editable.callbacks.run.outcome_file import read_outcome
from editable.callbacks.scan import ScanOutcome
from editable.callbacks.scan import report as scan_report
from editable.callbacks.scan.classes import Change
from editable.callbacks.scan.report import MOST_SHOWN, summary, write
from tests.callbacks.scan.made_up import class_change, made_up, made_up_edited, network_changes


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure: most of the time goes into it."""
    monkeypatch.setattr(scan_report, "plot_scan", lambda *arguments: None)


def test_it_is_drawn_again_without_the_run(beside: Path, tmp_path: Path):
    (section,) = write(read_outcome(beside / "scan_outcome.pt", ScanOutcome), tmp_path)
    assert (beside / "report.md").read_text().endswith(section)
    for name in ("scan.csv", "scan.png"):
        assert (tmp_path / name).read_bytes() == (beside / name).read_bytes(), name


def test_the_table_has_ranked_classes_with_the_edited_network_beside():
    table = summary(made_up())
    assert table.title == "Classes by the harm that replacing the concept does"
    assert table.columns == ["class", "found", "error, %", "top p", "true p", "taken, %"]
    probability = "0.750 → 0.500"
    bee = ["bee", "2 of 10", "0.00 → 100.00", probability, probability, "100.00 → 0.00"]
    ant = ["ant", "4 of 10", "0.00 → 25.00", probability, probability, "50.00 → 25.00"]
    assert table.rows == [bee, ant]
    both = summary(made_up(edited=made_up_edited()))
    assert both.columns == [*table.columns, "edited: error, %", "edited: taken, %"]
    assert both.rows == [[*bee, "50.00 → 50.00", "50.00 → 25.00"], [*ant, "0.00 → 0.00", "0.00 → 0.00"]]


@pytest.mark.usefixtures("_undrawn")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "ranked by the rise in error. 'bee' is number 1 of 2, and takes 100.00 → 0.00 of the other classes' imag"),
        ({"rank_by": "taken"}, "ranked by the rise of the part of other classes' images that they take. 'bee' is"),
        ({"rank_by": "top_probability"}, "ranked by the fall in top probability. 'bee' is number 1 of 2"),
        ({"target": 0}, "'ant' is number 2 of 2, and takes 50.00 → 25.00 of the other classes' images."),
        ({"target": 2}, "'cow' is not ranked."),
        ({"target": 2, "edited": made_up_edited()}, "'cow' is not ranked."),
        ({"edited": made_up_edited()}, "of the other classes' images; by the edited network, 50.00 → 25.00."),
        ({"min_found": 3}, "given to this one. Not ranked: 1 with fewer than 3 such images. All classes, with 95 %"),
    ],
)
def test_sentences(tmp_path: Path, settings: dict, expected: str):
    (section,) = write(made_up(**settings), tmp_path)
    assert "The concept was found in 6 of 30 test images, and replaced. Classes are ranked by" in section
    assert expected in section


@pytest.mark.usefixtures("_undrawn")
def test_the_file_has_every_class_and_leaves_empty_what_is_undefined(tmp_path: Path):
    write(made_up(min_found=3), tmp_path)
    with (tmp_path / "scan.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["ant", "bee", "cow"]
    assert [row["rank_by_error"] for row in rows.values()] == ["1", "", ""]
    assert rows["ant"]["error_half_width"] == "0.5"
    assert (rows["bee"]["error_change"], rows["bee"]["error_half_width"]) == ("1", "")
    assert {value for name, value in rows["cow"].items() if name.endswith(("before", "after", "change"))} == {""}


def test_of_many_classes_the_first_are_shown(tmp_path: Path):
    many = MOST_SHOWN + 1
    network = network_changes([class_change(label, 1, Change(0.0, 1 - label / many)) for label in range(many)])
    outcome = made_up(classes=[f"class {label}" for label in range(many)], network=network, target=many - 1)
    table = summary(outcome)
    assert [row[0] for row in table.rows] == outcome.classes[:MOST_SHOWN]
    (section,) = write(outcome, tmp_path)
    assert f" The first {MOST_SHOWN} of {many} classes are shown." in section
    assert f"'class {many - 1}' is number {many} of {many}" in section
    assert (tmp_path / "scan.csv").read_text().count("\n") == 1 + many
