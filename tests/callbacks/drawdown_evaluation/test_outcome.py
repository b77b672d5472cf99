"""Figures of single edits are counts divided by what they are counted of."""

import pytest
import torch

from tests.callbacks.drawdown_evaluation.outcomes import evaluated_edits


def test_drawdown_is_the_change_of_the_error_rate() -> None:
    outcome = evaluated_edits()
    assert outcome.drawdown.dtype == torch.float64
    assert outcome.drawdown.tolist() == pytest.approx([(12 - 10) / 50, (9 - 10) / 50, 0.0])


def test_shares_are_of_scoring_images_sensitive_ones_and_views() -> None:
    shares = evaluated_edits().shares
    assert shares["agreement"].tolist() == pytest.approx([45 / 50, 49 / 50, 1.0])
    assert shares["sensitive_agreement"].tolist() == pytest.approx([1 / 4, 0.5, 1.0])
    assert shares["generality_before"].tolist() == pytest.approx([0.0, 1 / 8, 1.0])
    assert shares["generality"].tolist() == pytest.approx([0.5, 0.75, 1.0])


def test_there_is_no_share_of_nothing() -> None:
    assert evaluated_edits(num_sensitive=0, num_views=0).shares.keys() == {"agreement"}
