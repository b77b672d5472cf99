"""Figures of an edit are counts of images before and after."""

from dataclasses import replace

import pytest
import torch

from editable.callbacks.edit.outcome import MOST_CHANGED, ScoredImages
from tests.callbacks.edit.outcomes import image_edit_outcome, images, scored_images


def test_figures() -> None:
    expected = {
        "num_steps": 3,
        "num_images": 2,
        "error_before": 4 / 10,
        "error": 5 / 10,
        "drawdown": 1 / 10,
        "agreement": 6 / 10,
        "num_corrected": 1,
        "num_broken": 2,
        "num_scoring_images": 10,
        "num_edited_test_images": 2,
        "drawdown_with_edited": (2 - 3) / 12,
        "generality_before": 0,
        "generality": 1 / 2,
    }
    values = image_edit_outcome().values()
    assert values == pytest.approx(expected)
    assert all(type(value) is float for value in values.values())


def test_no_generality_without_views() -> None:
    assert not [name for name in image_edit_outcome(num_views=0).values() if "generality" in name]


def test_what_was_asked_for() -> None:
    assert image_edit_outcome().edited.asked() == ["a.png: cat → dog", "b.png: frog → cat"]


def test_an_edit_is_refused_above_its_largest_drawdown() -> None:
    assert image_edit_outcome(max_drawdown=0.1).refusal is None
    refusal = image_edit_outcome(max_drawdown=0.05).refusal or ""
    assert refusal.startswith(
        "the edit succeeds, but raises the error rate by 10.00 points where edit.max_drawdown allows 5, and was not "
        "kept: allow more"
    )


def test_the_gain_on_edited_images_does_not_make_up_for_harm_elsewhere() -> None:
    """With the edited images the error falls; on the ten others, it rises by a tenth."""
    outcome = image_edit_outcome(max_drawdown=0.05)
    assert outcome.scored.drawdown < 0
    assert outcome.scored.others.drawdown == pytest.approx(0.1)
    assert outcome.refusal is not None


def test_no_harm_is_known_where_all_scored_images_are_edited() -> None:
    outcome = image_edit_outcome()
    all_edited = replace(outcome, scored=outcome.scored._replace(edited=torch.ones(12) > 0))
    assert "all test images that are scored are edited ones" in (all_edited.refusal or "")
    assert "drawdown" not in all_edited.values()
    assert all_edited.values()["drawdown_with_edited"] == pytest.approx(-1 / 12)


def test_batches_are_joined_in_their_order_and_only_the_first_changed_images_are_shown() -> None:
    parts = [scored_images() for _ in range(8)]
    joined = ScoredImages.join(parts)
    for name in ("labels", "before", "after", "edited"):
        assert torch.equal(getattr(joined, name), torch.cat([getattr(part, name) for part in parts]))
    assert len(joined.changed) == MOST_CHANGED < 8 * 4
    assert torch.equal(joined.changed[4:8], images(4))
