"""Sets of images of a rewrite run: halves, exemplars of several rules in order, and validation images."""

import pytest
import torch
from torch.utils.data import TensorDataset

from editable.callbacks.site.rule_images import rule_images
from editable.callbacks.site.sets import halves, manipulated_images, original_images, validation_images
from editable.data import RewriteRule
from editable.errors import UserError
from tests.callbacks.site.constant_images import MEAN, STD, make_data


def normalised(value: float) -> torch.Tensor:
    return (torch.full((3,), value / 255) - torch.tensor(MEAN)) / torch.tensor(STD)


def test_exemplars_of_several_rules_follow_one_another(root):
    data = make_data(root)
    rules = [RewriteRule(str(root / f"{name}.json"), texture=str(root / "white.png")) for name in ("dog", "cat")]
    originals, manipulated = original_images(rules, data), manipulated_images(rules, data)
    assert [int(originals[index][1]) for index in range(4)] == [1, 1, 0, 0]
    for index, value in enumerate((30, 50, 20, 40)):
        torch.testing.assert_close(originals[index][0][:, 7, 0], normalised(value))
        torch.testing.assert_close(manipulated[index][0][:, 0, 0], normalised(value))
        torch.testing.assert_close(manipulated[index][0][:, 7, 0], normalised(255))
    images = rule_images(rules[0], data)
    torch.testing.assert_close(images.originals[:, :, 7, 0], torch.stack([normalised(30), normalised(50)]))
    assert images.labels.tolist() == [1, 1]


def test_halves_are_disjoint_complete_and_drawn_by_seed():
    dataset = TensorDataset(torch.arange(11))
    first, second = halves(dataset, 3)
    assert sorted([*first.indices, *second.indices]) == list(range(11))
    assert first.indices == sorted(first.indices)
    assert (len(first), len(second)) == (6, 5)
    assert halves(dataset, 3)[0].indices == first.indices != halves(dataset, 4)[0].indices


def test_no_validation_images(root):
    with pytest.raises(UserError, match="validation"):
        validation_images(make_data(root, validation_fraction=0.0), "")


def test_validation_images_that_are_the_test_images_are_refused(root, tmp_path):
    (tmp_path / "train").symlink_to(root / "train")
    with pytest.raises(UserError, match="tested on their validation images, which must not"):
        validation_images(make_data(tmp_path, validation_fraction=0.2), "which must not")
    (tmp_path / "val").symlink_to(root / "test")
    with pytest.raises(UserError, match="tested on their validation images, which must not"):
        validation_images(make_data(tmp_path), "which must not")
    (tmp_path / "test").symlink_to(root / "test")
    assert len(validation_images(make_data(tmp_path), "")) == 8
