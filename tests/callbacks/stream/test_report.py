"""A report of a stream is made of the outcome alone, and again from the file that a run keeps of it."""

import csv
from pathlib import Path

import pytest
import torch

from editable.callbacks.run.outcome_file import read_outcome
from editable.callbacks.stream import StreamOutcome, report
from editable.callbacks.stream.report import describe, summary, write
from tests.callbacks.drawn_again import assert_drawn_again
from tests.callbacks.stream.outcomes import NAN, POINTS, stream_outcome


@pytest.fixture
def _no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest and is looked at elsewhere."""
    monkeypatch.setattr(report, "plot_stream", lambda *args: None)


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_moment_and_one_for_before() -> None:
    table = summary(stream_outcome())
    assert table.columns[:4] == ["edits", "hold", "error", "broken"]
    assert table.rows[0] == ["0", "", "12.00 %", "", "", "25.0 %", "", ""]
    assert table.rows[1] == [1, "100.0 %", "12.50 %", "1.00 %", "0.50 %", "50.0 %", "–", "250.0"]
    assert table.rows[3] == [4, "75.0 %", "25.00 %", "14.00 %", "1.00 %", "62.5 %", "25.0 %", "250.0"]


@pytest.mark.usefixtures("_no_figure")
def test_tables_have_exact_values(tmp_path: Path) -> None:
    write(stream_outcome(), tmp_path)
    points = read(tmp_path / "stream.csv")
    assert [int(row["num_edits"]) for row in points] == [1, 2, 4]
    assert [int(row["latest_success"]) for row in points] == [1, 1, 0]
    for row, point in zip(points, POINTS, strict=True):
        for name in ("retention", "error", "broken", "mended", "agreement", "generality", "seconds"):
            assert float(row[name]) == getattr(point, name)
        assert [float(row[f"generality_{name}"]) for name in ("blur", "jpeg")] == [point.changes[1], point.changes[4]]
    rows = read(tmp_path / "corrections.csv")
    assert [[int(row[name]) for row in rows] for name in ("index", "old_label", "new_label", "success", "holds")] == [
        [7, 3, 12, 0],
        [1, 1, 0, 2],
        [0, 2, 2, 1],
        [1, 1, 1, 0],
        [1, 1, 1, 0],
    ]


def test_section(tmp_path: Path) -> None:
    (section,) = write(stream_outcome(), tmp_path)
    assert (
        "4 corrections by SomeEditor, each with 1 views of its image, each on top of the last; 3 succeeded, and 3 "
        "hold at the end. Of 200 images that are neither corrected nor chose anything, 12.00 % were mistaken before "
        "and 25.00 % are now: 14.00 % are broken, 1.00 % mended."
    ) in section
    assert "Of 2 further views of each corrected image (shift), 25.0 % had the asked label before, 62.5 %" in section
    assert "brightness 50.0 %, blur 25.0 %, noise 100.0 %, rotation 0.0 %, jpeg 100.0 %." in section
    assert "8 judged images were mistaken in the same way as a corrected one; 25.0 % of them are right now." in section
    assert summary(stream_outcome()).markdown() in section
    assert {path.name for path in tmp_path.iterdir()} == {"stream.csv", "corrections.csv", "stream.png"}
    for name in (*(path.name for path in tmp_path.iterdir()), "corrected.safetensors"):
        assert f"]({name})" in section


@pytest.mark.usefixtures("_no_figure")
def test_what_there_is_none_of_is_not_spoken_of() -> None:
    last = POINTS[0]._replace(generality=NAN, changes=[])
    text = " ".join(describe(stream_outcome(points=[last], num_edited_views=0, protocol="together")))
    assert "together, from the unedited network" in text
    for word in ("views", "Changed", "in the same way", "nan"):
        assert word not in text


@pytest.mark.usefixtures("_no_figure")
def test_a_share_of_nothing_is_empty_or_nan_but_never_a_number(tmp_path: Path) -> None:
    write(stream_outcome(views_held=torch.full((4,), NAN, dtype=torch.float64)), tmp_path)
    assert {row["generality"] for row in read(tmp_path / "corrections.csv")} == {"nan"}
    assert read(tmp_path / "stream.csv")[0]["group_generality"] in ("", "nan")


def test_drawn_again_from_the_outcomes_file(whole, tmp_path: Path) -> None:
    outcome = read_outcome(whole.folder / "stream_outcome.pt", StreamOutcome)
    assert repr(outcome) == repr(whole.stream.outcome)  # NaN is no equal of itself
    assert_drawn_again(write(outcome, tmp_path), tmp_path, whole.folder)
