"""A rewrite's report is a function of its outcome: drawn again from the file, and from outcomes made by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from editable.callbacks.rewrite import RewriteOutcome
from editable.callbacks.rewrite.outcome import MeasuredRewrite, ShownChanges, ShownExemplars, ShownHeatMaps
from editable.callbacks.rewrite.report import summary, write
from editable.callbacks.rewrite.trials import RewriteTrial, TrialSettings
from editable.callbacks.run.outcome_file import read_outcome, write_outcome
from editable.callbacks.site.set_errors import SetErrors


@pytest.mark.parametrize("name", ["several", "routes"])
def test_a_report_is_drawn_again_from_the_file(name: str, request: pytest.FixtureRequest, tmp_path: Path):
    folder = request.getfixturevalue(name).folder
    outcome = read_outcome(folder / "rewrite_outcome.pt", RewriteOutcome)
    sections = write(outcome, tmp_path)
    assert (folder / "report.md").read_text().endswith("\n\n" + "\n".join(sections))
    drawn = {path.name for path in tmp_path.iterdir()}
    # Candidates are kept while they are tried, so that a run can go on.
    assert drawn == {path.name for path in folder.iterdir() if path.suffix in (".png", ".csv")} - {"candidates.csv"}
    for file in drawn:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


MEASURES = {
    "loss_before": 2.0,
    "loss": 1.0,
    "residual": 1e-3,
    "rank": 1,
    "norm": 0.5,
    "relative_norm": 0.125,
    "num_steps": 3,
    "seconds": 0.25,
}
IMAGES = torch.linspace(0, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)


def measured(after: list[int], trial: RewriteTrial) -> MeasuredRewrite:
    """Of four test images the last is wrong before, of two exemplars both."""
    labels = {"report": torch.tensor([0, 1, 2, 3]), "exemplars": torch.tensor([0, 1])}
    before = {"report": torch.tensor([0, 1, 2, 0]), "exemplars": torch.tensor([2, 2])}
    return MeasuredRewrite(trial, labels, before, {"report": torch.tensor(after), "exemplars": torch.tensor([0, 2])})


def trial(solver: str, position: int, corrected: int, drop: int) -> RewriteTrial:
    """Of 4 errors some are corrected, at a drop of so many of 100 images."""
    errors = SetErrors(8, 4, 4 - corrected), SetErrors(100, 10, 10 + drop)
    return RewriteTrial(TrialSettings("conv", position, 1), solver, 0.5, *errors, MEASURES)


@pytest.fixture
def outcome() -> RewriteOutcome:
    """One solver that is chosen, and one that costs too much."""
    trials = [trial("ClosedForm", 0, 3, 1), trial("LambdaDescent", 1, 4, 9)]
    return RewriteOutcome(
        layers=["conv"],
        max_drop=0.02,
        classes=["a", "b", "c", "d"],
        target=[0, 1],
        exemplars=ShownExemplars(5, IMAGES, 1 - IMAGES, torch.ones(2, 4, 4), ["first", "second"]),
        trials=trials,
        rewrites={"ClosedForm": measured([1, 1, 2, 3], trials[0]), "LambdaDescent": measured([1, 2, 3, 0], trials[1])},
        chosen="ClosedForm",
        stages=["conv", "norm"],
        heat_maps=ShownHeatMaps("report", IMAGES, IMAGES.mean(1), ["exemplars 0", "report 3"]),
        changes={"report": ShownChanges(torch.tensor([3, 0]), IMAGES)},
    )


def test_summary_has_a_column_for_each_solver(outcome: RewriteOutcome):
    table = summary(outcome)
    assert list(table.columns) == ["solver", "ClosedForm (chosen)", "LambdaDescent (not eligible)"]
    assert [list(row) for row in table.rows] == [
        ["layer", "conv", "conv"],
        ["rank", "1", "1"],
        ["strength", "0.5", "0.5"],
        [
            "test images that chose nothing",
            "25.00 → 25.00 % wrong (1 → 1 of 4)",
            "25.00 → 100.00 % wrong (1 → 4 of 4)",
        ],
        ["the rule's exemplars with the new concept", *["100.00 → 50.00 % wrong (2 → 1 of 2)"] * 2],
    ]


def test_sections_of_a_chosen_rewrite(outcome: RewriteOutcome, tmp_path: Path):
    first, exemplars, candidates, heat_maps, *changes = write(outcome, tmp_path)
    assert first.startswith(
        "## Rewrite\n\nBlock `conv` → `norm`, ClosedForm, rank 1, strength 0.5, chosen among 2 candidates. The "
        "update's norm is 12.50 % of the weight's; loss 2 → 1 and relative residual of the constraint 0.001 at "
        "strength 1, in 3 steps and 0.25 s."
    )
    assert "Not eligible: no candidate of this solver" in first
    assert "5 exemplars." in exemplars
    assert "Chosen by 8 images with the new concept, of which 4 are wrong before, and 100 others" in candidates
    assert "those test images that chose nothing that respond most" in heat_maps
    assert changes[1].startswith("Of test images that chose nothing: 1 corrected, 1 newly broken.\n\n![")
    assert changes[2] == "Of the rule's exemplars with the new concept: 1 corrected, 0 newly broken.\n"
    expected = {"candidates.png", "changed_report.png", "exemplars.png", "heat_maps.png", "solvers.csv"}
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_nothing_was_chosen(outcome: RewriteOutcome, tmp_path: Path):
    nothing = replace(outcome, max_drop=0.001, chosen=None, stages=[], heat_maps=None, changes={})
    sections = write(nothing, tmp_path)
    assert len(sections) == 3
    assert "None of 2 candidates corrects an error on the images that choose at a drop of at most 0.1 po" in sections[0]
    assert nothing.values() == {"num_candidates": 2.0}


def test_values_are_those_of_the_chosen_rewrite(outcome: RewriteOutcome):
    assert outcome.values() == MEASURES | {
        "num_candidates": 2,
        "strength": 0.5,
        "num_report_images": 4,
        "report_error_before": 0.25,
        "report_error": 0.25,
        "report_errors_corrected": 0,
        "num_exemplars_images": 2,
        "exemplars_error_before": 1,
        "exemplars_error": 0.5,
        "exemplars_errors_corrected": 0.5,
        "drop": 0,
    }


def test_an_outcome_survives_its_file(outcome: RewriteOutcome, tmp_path: Path):
    write_outcome(tmp_path / "outcome.pt", outcome)
    again = read_outcome(tmp_path / "outcome.pt", RewriteOutcome)
    assert again.trials == outcome.trials
    assert again.values() == outcome.values()
    assert summary(again) == summary(outcome)
    assert torch.equal(again.exemplars.masks, outcome.exemplars.masks)
