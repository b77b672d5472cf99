"""Negatives are drawn by seed, or are what a filter responds to most."""

import pytest
import torch

from editable.errors import UserError
from editable.rewriting.new_class.negatives import random_negatives, top_false_positives


def test_random_negatives_are_drawn_by_seed():
    first, again, other = (random_negatives(100, 20, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) == 20
    assert first.min() >= 0
    assert first.max() < 100
    assert torch.equal(random_negatives(100, 5, 1), first[:5])
    assert random_negatives(3, 3, 0).sort().values.tolist() == [0, 1, 2]
    assert len(random_negatives(3, 0, 0)) == 0


def test_top_false_positives_have_the_highest_scores():
    scores = torch.tensor([0.1, 3.0, -1.0, 3.0, 2.0])
    assert top_false_positives(scores, 3).tolist() == [1, 3, 4]
    assert top_false_positives(scores, 0).tolist() == []


def test_mistakes():
    with pytest.raises(UserError, match="11 negatives are wanted, but there are only 10 images"):
        random_negatives(10, 11, 0)
    with pytest.raises(UserError, match="3 negatives are wanted, but there are only 2 images"):
        top_false_positives(torch.zeros(2), 3)
    with pytest.raises(UserError, match="count must be at least 0, got -1"):
        random_negatives(10, -1, 0)
    with pytest.raises(UserError, match="scores must be finite"):
        top_false_positives(torch.tensor([1.0, float("inf")]), 1)
