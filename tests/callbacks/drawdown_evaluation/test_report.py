"""A report of edits is made of the outcome alone, and again from the file that a run keeps of it."""

import re
from pathlib import Path

import pytest

from editable.callbacks import EvaluatedEdits
from editable.callbacks.drawdown_evaluation.report import describe, table, write
from editable.callbacks.run.outcome_file import read_outcome
from editable.editing import DrawdownEstimate
from tests.callbacks.drawdown_evaluation.outcomes import evaluated_edits


def test_every_edit_has_its_row() -> None:
    made = table(evaluated_edits())
    shares = ["agreement", "sensitive_agreement", "generality_before", "generality"]
    assert made.columns == ["index", "old_label", "new_label", "success", "num_steps", "drawdown", *shares]
    assert [row[:5] for row in made.rows] == [(7, 0, 1, 1, 2), (3, 1, 0, 0, 10), (21, 2, 2, 1, 0)]
    assert made.rows[0][5:] == pytest.approx((0.04, 0.9, 0.25, 0.0, 0.5))


def test_sentences() -> None:
    assert describe(evaluated_edits()) == [
        "3 edits, each scored on 50 images.",
        "96.0 % of predictions on these stay as they were.",
        "4 images are sensitive, which the unedited network just gets right: of these, 58.3 % stay right.",
        "Of 8 views of each edited input (shift), 37.5 % have the label asked for before the edit, and 75.0 % "
        "after it.",
    ]


def test_sentences_about_views_that_were_edited_and_images_that_were_not_looked_at() -> None:
    told = describe(evaluated_edits(num_edited_views=4, num_views=0, num_sensitive=0))
    assert told[0] == "3 edits of an input and 4 further views of it, each scored on 50 images."
    assert told[2:] == ["No image is sensitive, so that there is no sensitive_agreement."]
    estimate = DrawdownEstimate(3, 0.06, 0.0, 0.0, 77)
    words = "a random part of 50 images, 77 looked at in all: drawdown 2.000 ± 0.000 points (95 % confidence)"
    assert words in describe(evaluated_edits(estimate=estimate))[0]


@pytest.mark.parametrize(("stage", "start"), [("test", ""), ("val", "val_")])
def test_section_links_to_the_files_of_its_stage(stage: str, start: str, tmp_path: Path) -> None:
    (section,) = write(evaluated_edits(stage=stage), tmp_path)
    assert section.startswith(f"## Edits on the {stage} set\n")
    linked = set(re.findall(r"\]\(([^)]+)\)", section))
    assert linked == {f"{start}{name}" for name in ("edits.csv", "edits.png", "drawdown.png", "success.png")}
    assert {path.name for path in tmp_path.iterdir()} == linked


def test_drawn_again_from_the_outcomes_file(fitted_and_tested, tmp_path: Path) -> None:
    folder = fitted_and_tested.folder
    report = (folder / "report.md").read_text(encoding="utf-8")
    for start in ("", "val_"):
        outcome = read_outcome(folder / f"{start}evaluation_outcome.pt", EvaluatedEdits)
        (section,) = write(outcome, tmp_path)
        assert section in report
    again = sorted(path.name for path in tmp_path.iterdir())
    assert again == sorted(path.name for end in ("csv", "png") for path in folder.glob(f"*.{end}"))
    for name in again:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_images_are_kept_as_they_are_drawn(fitted_and_tested) -> None:
    for outcome in fitted_and_tested.results.values():
        assert outcome.images.amin() == 0
        assert outcome.images.amax() == 1
        assert outcome.classes is None
