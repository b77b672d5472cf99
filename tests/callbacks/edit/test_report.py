"""A report of an edit is made of the outcome alone, and again from the file that a run keeps of it."""

import re
from dataclasses import replace
from pathlib import Path

import torch

from editable.callbacks.edit import ImageEditOutcome
from editable.callbacks.edit.outcome import Choice
from editable.callbacks.edit.report import summary, write
from editable.callbacks.run.outcome_file import read_outcome
from editable.editing.choosing.tried import Harm, Tried
from tests.callbacks.edit.conftest import Edited
from tests.callbacks.edit.outcomes import image_edit_outcome, images


def test_each_image_views_and_test_images_before_and_after() -> None:
    table = summary(image_edit_outcome())
    assert table.title == "Edit of 2 images in 3 steps"
    assert table.rows == [
        ["a.png, asked for dog", "cat (70.0 %)", "dog (90.0 %)"],
        ["b.png, asked for cat", "frog (80.0 %)", "cat (60.0 %)"],
        ["4 other views of each have the label asked for", "0.0 %", "50.0 %"],
        ["errors on 10 test images that are not edited", "40.00 %", "50.00 %"],
        ["errors on 12 test images with the edited ones", "50.00 %", "41.67 %"],
    ]
    assert len(summary(image_edit_outcome(num_views=0)).rows) == 4


def test_images_of_ones_own_are_no_test_images() -> None:
    outcome = image_edit_outcome()
    scored = outcome.scored._replace(edited=torch.zeros(12) > 0)
    assert summary(replace(outcome, scored=scored)).rows[-1] == ["errors on 12 test images", "50.00 %", "41.67 %"]


def test_one_image_and_one_step_are_no_plural() -> None:
    outcome = image_edit_outcome()
    one = {name: getattr(outcome.edited, name)[:1] for name in ("names", "images", "labels", "before", "after")}
    assert summary(replace(outcome, edited=outcome.edited._replace(num_steps=1, **one))).title == (
        "Edit of 1 image in 1 step"
    )


def test_section_and_figures_of_an_edit_that_is_kept(tmp_path: Path) -> None:
    (section,) = write(image_edit_outcome(), tmp_path)
    assert section.startswith("## Edit of 2 images in 3 steps\n\nKept as [edit.safetensors](edit.safetensors)")
    assert f"`--patches {tmp_path / 'edit.safetensors'}`, and as [edited.ckpt](edited.ckpt)" in section
    assert (
        "Of 10 test images that are not edited 1 became right and 2 wrong: a drawdown of 10.00 points. Of 12 test "
        "images with the edited ones 3 became right and 2 wrong: a drawdown of -8.33 points."
    ) in section
    assert {path.name for path in tmp_path.iterdir()} == {"edit.png", "changed.png"}
    assert set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", section)) == {"edit.png", "changed.png"}


def test_section_of_an_edit_that_is_not_kept_and_changes_no_test_image(tmp_path: Path) -> None:
    outcome = image_edit_outcome(max_drawdown=-1)
    scored = outcome.scored._replace(after=outcome.scored.before, changed=images(0))
    (section,) = write(replace(outcome, scored=scored), tmp_path)
    assert (
        "\n\nthe edit succeeds, but raises the error rate by 0.00 points where edit.max_drawdown allows -100" in section
    )
    assert "edit.safetensors" not in section
    assert [path.name for path in tmp_path.iterdir()] == ["edit.png"]


def test_drawn_again_from_the_outcomes_file(edited_11: Edited, tmp_path: Path) -> None:
    folder = edited_11.here / edited_11.folder
    (section,) = write(read_outcome(folder / "edit_outcome.pt", ImageEditOutcome), tmp_path)
    assert section.replace(str(tmp_path), str(edited_11.folder)) in (folder / "report.md").read_text()
    figures = sorted(path.name for path in tmp_path.iterdir())
    assert figures == sorted(path.name for path in folder.glob("*.png"))
    for name in figures:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_what_was_tried_and_taken(tmp_path: Path) -> None:
    harm = Harm(50, 0.1, 0.12, [3, 4], 1, 5, 0.1, 0.95)
    tried = [
        Tried("GD at fc", False, None, "", 1),
        Tried("Ridge|Editor at fc", True, harm, "", 2),
        Tried("RMSProp at fc", True, harm._replace(error_after=0.2), "", 2),
        Tried("Adam at fc", False, None, "there are no training images"),
    ]
    outcome = replace(image_edit_outcome(), choice=Choice(tried, 1, 2))
    section, choosing = write(outcome, tmp_path)
    assert section.startswith("## Edit of 2 images in 3 steps by Ridge\\|Editor at fc\n")
    assert "10 other test images that are not edited" in section
    assert "Of 4 editors" in choosing
    rows = [line for line in choosing.splitlines() if line.startswith("| ")]
    assert rows[2:] == [
        "| Ridge\\|Editor at fc | 2 of 2 | +2.00 points | 2 of 50 | 10.00 % | taken |",
        "| RMSProp at fc | 2 of 2 | +10.00 points | 2 of 50 | 10.00 % |  |",
        "| GD at fc | 1 of 2 |  |  |  | not all images get their labels |",
        "| Adam at fc |  |  |  |  | there are no training images |",
    ]
