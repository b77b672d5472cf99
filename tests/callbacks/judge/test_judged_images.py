"""What is kept of an image's logits, and the figures that follow: against softmax and counts by hand."""

from math import exp

import pytest
import torch

from editable.callbacks.judge.image_sets import ImageSet
from editable.callbacks.judge.judged_images import JudgedImages, accuracies, judge, judge_set

BEFORE = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
AFTER = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def kept() -> JudgedImages:
    """Three images, of which the second shows no concept; class 1 is the target, class 2 the noise."""
    found = torch.tensor([True, False, True])
    return judge((BEFORE, AFTER), torch.tensor([4, 0, 2]), found, torch.tensor([1, 0, 2]), [1], 2)


def test_by_hand():
    images, e = kept(), exp(1)
    assert images.predictions.tolist() == [[1, 0], [0, 0], [0, 2]]
    assert images.own[0].tolist() == pytest.approx([e / (e + 2), 1 / (e**3 + 2)])
    assert images.own[2].tolist() == pytest.approx([1 / (e**2 + 2), e / (e + 2)])
    assert images.noise[0].tolist() == pytest.approx([1 / (e + 2), 1 / (e**3 + 2)])
    assert images.target[0].tolist() == pytest.approx(images.own[0].tolist())
    assert images.target[1].tolist() == images.own[1].tolist() == images.noise[1].tolist() == [0, 0]


def test_a_set_takes_its_own_images_and_labels():
    labels = torch.tensor([0, 1, 2, 0, 1])
    moved = ImageSet(torch.tensor([True, False, True, False, True]), torch.where(labels == 1, 2, labels))
    nothing = judge(
        (BEFORE[:0], AFTER[:0]),
        torch.tensor([], dtype=torch.int64),
        torch.tensor([], dtype=torch.bool),
        labels[:0],
        [1],
        2,
    )
    outcome = judge_set(moved, labels == 1, labels, (nothing, kept()))
    figures = outcome.figures
    assert outcome.num_images == 3
    assert figures["normal_same_num_images"] == 0
    assert figures["normal_same_accuracy"] != figures["normal_same_accuracy"]
    # Image 4 is of the target and called by class 2; image 2 is of class 2 by itself.
    assert figures["manipulated_same_num_images"] == figures["manipulated_other_num_images"] == 1
    assert figures["manipulated_same_confidence"] == pytest.approx(1 / (exp(3) + 2))
    assert figures["manipulated_other_accuracy_before"] == 0
    assert figures["manipulated_other_accuracy"] == 1
    before, after = outcome.curves["manipulated"]
    assert before.auc == 1  # the target's image has the larger probability of the target before, ...
    assert after.auc == 0  # ... and the smaller one after


def test_accuracy_of_all():
    images = judge((BEFORE, AFTER), torch.tensor([0, 1]), torch.tensor([True, True]), torch.tensor([1, 0]), [1], None)
    assert accuracies(images, torch.tensor([1, 0])) == (1.0, 0.0)
    assert images.noise.tolist() == [[0, 0], [0, 0]]
