"""The report of the four tests: what a run leaves, the same drawn again, and sentences and cells by hand."""

import csv
from dataclasses import replace

import pytest
import torch

from editable.callbacks.judge.outcome import FourTestsOutcome, SetOutcome
from editable.callbacks.judge.report import summary, write
from editable.callbacks.run.outcome_file import read_outcome
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.metrics import TargetCurve
from tests.callbacks.drawn_again import assert_drawn_again

NAN = float("nan")
TESTS = ("normal_same", "normal_other", "manipulated_same", "manipulated_other")


def curve(area: float) -> TargetCurve:
    line = torch.linspace(0, 1, 0 if area != area else 5, dtype=torch.float64)
    return TargetCurve(line, line, torch.tensor(area, dtype=torch.float64))


def some_set(num_images: int, area_before: float, area: float) -> SetOutcome:
    """Two images in each test but the last one, which has none."""
    figures = {}
    for position, test in enumerate(TESTS):
        empty = position == 3
        figures |= {
            f"{test}_num_images": 0.0 if empty else 2.0,
            f"{test}_accuracy_before": NAN if empty else 0.5,
            f"{test}_accuracy": NAN if empty else 1.0,
            f"{test}_confidence_before": NAN if empty else 0.25,
            f"{test}_confidence": NAN if empty else 0.125 * position,
        }
    curves = curve(area_before), curve(area)
    return SetOutcome(num_images, figures, {"normal": curves, "manipulated": (curve(NAN), curve(NAN))})


BY_HAND = FourTestsOutcome(
    target=["car", "tram"],
    noise=None,
    edited="wood.ckpt",
    confusing_share=0.05,
    seed=7,
    num_images=40,
    accuracy_before=0.8,
    accuracy=0.75,
    sets={"random": some_set(6, 0.5, 0.75), "confusing": some_set(6, NAN, NAN)},
    examples=None,
)
WITHOUT_CURVES = replace(BY_HAND, sets=dict.fromkeys(BY_HAND.sets, some_set(6, NAN, NAN)))


def test_report_has_table_curves_and_a_sentence_where_there_is_none(reported):
    (_, metrics), folder = reported
    report = (folder / "report.md").read_text()
    for words in ("## Four tests", "](four_tests_roc.png)", "](manipulated.png)", "`random`: 1 images"):
        assert words in report
    assert "There is no ROC curve of normal images of the set `random`, which has" in report
    for name in ("four_tests_roc.png", "manipulated.png"):
        assert (folder / name).stat().st_size > 1000
    rows = list(csv.DictReader((folder / "four_tests.csv").open()))
    assert [(row["set"], row["test"]) for row in rows[4:]] == [
        ("confusing", "normal_same"),
        ("confusing", "normal_other"),
        ("confusing", "manipulated_same"),
        ("confusing", "manipulated_other"),
        ("all", "normal"),
    ]
    assert float(rows[4]["accuracy"]) == pytest.approx(metrics["judge_confusing_normal_same_accuracy"], abs=1e-6)
    assert rows[0]["num_images"] in "01"
    areas = {(row["set"], row["version"]): row for row in csv.DictReader((folder / "roc_areas.csv").open())}
    assert areas["random", "normal"]["auc"] == ""
    assert float(areas["confusing", "normal"]["auc"]) == pytest.approx(metrics["judge_confusing_normal_auc"], abs=1e-6)


def test_the_report_is_drawn_again_from_the_outcome_alone(reported, tmp_path):
    outcome = read_outcome(reported.folder / "judge_outcome.pt", FourTestsOutcome)
    assert outcome.values() == reported.run.callback.outcome.values()
    assert_drawn_again(write(outcome, tmp_path), tmp_path, reported.folder)
    assert {path.name for path in tmp_path.iterdir()} == {
        "four_tests.csv",
        "roc_areas.csv",
        "four_tests_roc.png",
        "manipulated.png",
    }


def test_the_terminal_shows_before_and_after_in_one_cell():
    table = summary(BY_HAND)
    assert table.title == "The edit wood.ckpt; target 2 classes"
    assert table.rows[1] == ["random", "normal, other classes", "2", "50.00 → 100.00 %", "0.250 → 0.125"]
    assert table.rows[3] == ["random", "manipulated, other classes", "0", "—", "—"]
    assert table.rows[-1] == ["all", "normal", "40", "80.00 → 75.00 %", ""]
    assert len(table.rows) == 2 * 4 + 1
    assert summary(replace(BY_HAND, edited=None, target=["car"])).title == "No edit; target 'car'"


def test_what_is_undefined_is_left_empty_and_said(tmp_path):
    (text, roc) = write(BY_HAND, tmp_path)
    assert "![ROC curves](four_tests_roc.png)" in roc
    assert "| random | manipulated, other classes | 0 | — | — | — | — |" in text
    assert text.count("There is no ROC curve") == 3
    assert "of manipulated images of the set `random`, which has 2 of the target and 0 others." in text
    rows = list(csv.reader((tmp_path / "four_tests.csv").open()))
    assert rows[4] == ["random", "manipulated_other", "0", "", "", "", ""]
    assert rows[-1] == ["all", "normal", "40", "0.8", "0.75", "", ""]
    areas = list(csv.reader((tmp_path / "roc_areas.csv").open()))
    assert areas[1:3] == [["random", "normal", "0.5", "0.75"], ["random", "manipulated", "", ""]]


def test_without_curves_or_examples_there_is_no_figure(tmp_path):
    assert len(write(WITHOUT_CURVES, tmp_path)) == 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv"}


def test_sets_are_described_with_what_chose_them(tmp_path):
    first, *_ = write(WITHOUT_CURVES, tmp_path)
    assert "The edit wood.ckpt, judged by 40 test images. Target: `car`, `tram`. `random`: 6 images drawn with" in first
    assert "drawn with seed 7; `confusing`: 6 images, the 5 % in which the concept is seen most" in first
    assert "mislabelled" not in first
    pictures = torch.rand(1, 3, 4, 4)
    examples = ReplacedExamples(pictures, pictures, pictures[:, 0], ["car/1.png"])
    with_noise = {**WITHOUT_CURVES.sets, "mislabelled": some_set(9, NAN, NAN)}
    first, last = write(replace(WITHOUT_CURVES, noise="boat", sets=with_noise, examples=examples), tmp_path)
    assert "`mislabelled`: 9 images, those of the target under the label `boat`" in first
    assert "](manipulated.png)" in last
