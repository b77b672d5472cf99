"""Rewrites side by side: errors counted by hand, and the published tables from their counts."""

import pytest
import torch

from editable.callbacks.rewrite.outcome import MeasuredRewrite
from editable.callbacks.rewrite.routes import RouteComparison, compare_errors
from editable.callbacks.rewrite.trials import RewriteTrial, TrialSettings
from editable.callbacks.site.set_errors import SetErrors

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
PREDICTED = torch.tensor([0, 0, 1, 1, 0, 2])  # of the images without the new concept
BEFORE = torch.tensor([1, 0, 1, 0, 0, 1])
AFTER = torch.tensor([0, 0, 1, 1, 0, 2])
TARGET = torch.tensor([0])


def measured(after: torch.Tensor) -> MeasuredRewrite:
    labels = {"trial": LABELS, "trial_originals": LABELS, "report": torch.tensor([0, 1, 2, 3])}
    before = {"trial": BEFORE, "trial_originals": PREDICTED, "report": torch.tensor([0, 1, 2, 0])}
    sets = {"trial": after, "trial_originals": PREDICTED, "report": torch.tensor([0, 1, 0, 0])}
    return MeasuredRewrite(RewriteTrial(TrialSettings("3", 0, 1), "ClosedForm", 1.0), labels, before, sets)


def test_errors_counted_by_hand():
    compared = compare_errors(LABELS, PREDICTED, BEFORE, AFTER, TARGET)
    # By truth: images 0, 1 and 2 are of the target, of which 0 and 2 are wrong before, and 2 after.
    assert compared["target"].truth == SetErrors(3, 2, 1)
    assert compared["others"].truth == SetErrors(3, 3, 1)
    # By the prediction: images 0, 1 and 4 are taken for the target without the new concept.
    assert compared["target"].prediction == SetErrors(3, 1, 0)
    assert compared["others"].prediction == SetErrors(3, 2, 0)
    assert compared["target"].truth.corrected == pytest.approx(1 / 2)
    assert compared["others"].truth.corrected == pytest.approx(2 / 3)


PUBLISHED = {
    # Elango 2021, tables 2.3 and 2.4: images, right before and after, and the figures printed for them.
    "target, truth, features": (70, 2, 56, 80.00, 79.41),
    "target, truth, images": (70, 2, 63, 90.00, 89.71),
    "target, truth, fine-tuning": (70, 2, 16, 22.86, 20.59),
    "target, prediction, features": (72, 3, 58, 80.56, 79.71),
    "target, prediction, images": (72, 3, 64, 88.89, 88.41),
    "target, prediction, fine-tuning": (72, 3, 17, 23.61, 20.29),
    "others, truth, features": (54, 20, 32, 59.26, 35.29),
    "others, truth, images": (54, 20, 30, 55.56, 29.41),
    "others, truth, fine-tuning": (54, 20, 23, 42.59, 8.82),
    "others, prediction, features": (93, 29, 47, 50.54, 28.12),
    "others, prediction, images": (93, 29, 46, 49.46, 26.56),
    "others, prediction, fine-tuning": (93, 29, 35, 37.63, 9.38),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name: str):
    count, right_before, right_after, accuracy, corrected = PUBLISHED[name]
    group, reference, _ = name.split(", ")
    label = 0 if group == "target" else 5
    labels = torch.full((count,), label)
    before, after = (
        (torch.arange(count) < right).long() * label + (torch.arange(count) >= right) * 9
        for right in (right_before, right_after)
    )
    other = torch.full((count,), 7)
    truth, predicted = (labels, other) if reference == "truth" else (other, labels)
    errors = getattr(compare_errors(truth, predicted, before, after, TARGET)[group], reference)
    assert 100 * (1 - errors.after / errors.num_images) == pytest.approx(accuracy, abs=0.0051)
    assert 100 * errors.corrected == pytest.approx(corrected, abs=0.0051)


def test_no_change_corrects_nothing():
    compared = compare_errors(LABELS, PREDICTED, BEFORE, BEFORE, TARGET)
    assert {errors.corrected for both in compared.values() for errors in both} == {0.0}


def test_several_target_classes_and_none_of_them():
    both = compare_errors(LABELS, PREDICTED, BEFORE, AFTER, torch.tensor([0, 1]))
    assert both["target"].truth == SetErrors(5, 4, 2)
    assert both["others"].truth == SetErrors(1, 1, 0)
    nowhere = compare_errors(LABELS, PREDICTED, BEFORE, AFTER, torch.tensor([8]))
    assert nowhere["target"].truth == SetErrors(0, 0, 0)
    assert nowhere["target"].truth.corrected is None


def test_tables_bars_and_rows():
    comparison = RouteComparison({"a": measured(AFTER), "b": measured(BEFORE)}, [0, 0])
    table = comparison.table("target")
    before, first, second = table.rows
    assert table.columns[0] == "Target class"
    assert before == ["before the edit", "33.33 % (1 of 3)", "–", "66.67 % (2 of 3)", "–", "75.00 % (3 of 4)"]
    assert first == ["a", "66.67 % (2 of 3)", "50.00 %", "100.00 % (3 of 3)", "100.00 %", "50.00 % (2 of 4)"]
    assert second[2] == second[4] == "0.00 %"
    bars = comparison.bars()
    assert bars["other classes, by true labels"] == [pytest.approx(2 / 3), 0]
    assert bars["target class, by prediction before"] == [1, 0]
    rows = comparison.counts().rows
    assert rows[0] == ["a", "target", "truth", 3, 2, 1, 0.5]
    assert rows[4] == ["a", "overall", "truth", 4, 1, 2, -1.0]
    assert len(rows) == 2 * 5
    nobody = RouteComparison({"a": measured(AFTER)}, [8])
    before, after = nobody.table("target").rows
    assert before[1] == "no images"
    assert after[2] == "undefined"
