"""Errors on a set of images, counted by hand."""

import pytest
import torch

from editable.callbacks.site.set_errors import SetErrors


def test_counts_by_hand():
    labels = torch.tensor([0, 1, 2, 3])
    errors = SetErrors.of(labels, torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 2, 0]))
    assert errors == SetErrors(num_images=4, before=3, after=2)
    assert errors.corrected == pytest.approx(1 / 3)  # one of three, net of the one that was broken
    assert errors.drop == -1 / 4


def test_nothing_was_wrong():
    assert SetErrors(4, 0, 1).corrected is None
    assert SetErrors(4, 0, 1).drop == 1 / 4
