"""Cosines of features under a mask and position by position, against loops and torch's formula."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.inverse.similarity import masked_similarity, position_similarity
from tests.rewriting.problems import random

FIRST, SECOND = random(2, 3, 4, 5, seed=0), random(2, 3, 4, 5, seed=1)


def test_similarity_under_a_mask_is_that_of_a_loop():
    mask = random(2, 4, 5, seed=2).abs()
    expected = []
    for item in range(2):
        product = first = second = 0.0
        for y, x in itertools.product(range(4), range(5)):
            a, b, weight = FIRST[item, :, y, x], SECOND[item, :, y, x], float(mask[item, y, x])
            product += weight * float(a @ b)
            first += weight * float(a @ a)
            second += weight * float(b @ b)
        expected.append(product / math.sqrt(first * second))
    torch.testing.assert_close(masked_similarity(FIRST, SECOND, mask), torch.tensor(expected).double())


def test_without_a_mask_it_is_torchs_formula_on_whole_features():
    expected = functional.cosine_similarity(FIRST.reshape(2, -1), SECOND.reshape(2, -1))
    torch.testing.assert_close(masked_similarity(FIRST, SECOND), expected)
    torch.testing.assert_close(masked_similarity(FIRST, SECOND, torch.ones(2, 4, 5)), expected)
    rows = FIRST.flatten(1)
    torch.testing.assert_close(masked_similarity(rows, -3 * rows), -torch.ones(2).double())


def test_what_is_outside_the_mask_does_not_count():
    mask = torch.zeros(2, 4, 5)
    mask[:, :2] = 1
    other = SECOND.clone()
    other[:, :, 2:] += 5
    torch.testing.assert_close(masked_similarity(FIRST, other, mask), masked_similarity(FIRST, SECOND, mask))
    assert masked_similarity(FIRST, SECOND, torch.zeros(2, 4, 5)).tolist() == [0, 0]


def test_similarity_of_positions_is_that_of_a_loop():
    found = position_similarity(FIRST, SECOND)
    assert found.shape == (2, 4, 5)
    for item, y, x in itertools.product(range(2), range(4), range(5)):
        a, b = FIRST[item, :, y, x], SECOND[item, :, y, x]
        assert float(found[item, y, x]) == pytest.approx(float(a @ b / (a.norm() * b.norm())))


@pytest.mark.parametrize(
    ("first", "second", "mask", "message"),
    [
        (FIRST, SECOND[:1], None, r"features of one shape can be compared, got \[2, 3, 4, 5\] and \[1, 3, 4, 5\]"),
        (FIRST, SECOND, torch.ones(2, 5, 4), r"need a mask \[n, H, W\] of their size, got \[2, 5, 4\]"),
        (FIRST.flatten(1), SECOND.flatten(1), torch.ones(2, 4, 5), r"features \[2, 60\] need a mask"),
    ],
)
def test_features_that_do_not_fit_are_refused(first, second, mask, message):
    with pytest.raises(UserError, match=message):
        masked_similarity(first, second, mask)


@pytest.mark.parametrize(("first", "second"), [(FIRST, SECOND[:1]), (FIRST.flatten(1), SECOND.flatten(1))])
def test_positions_that_do_not_fit_are_refused(first, second):
    with pytest.raises(UserError, match=r"two \[n, c, H, W\] of one shape"):
        position_similarity(first, second)
