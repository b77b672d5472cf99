"""The images that choose among rewrites are never those that are reported."""

import pytest
import torch

from editable.callbacks.rewrite.image_sets import rewrite_images
from editable.errors import UserError
from tests.callbacks.rewrite.runs import make_data, rule, trial_rules


def test_nothing_to_choose(root):
    data = make_data(root)
    data.setup("test")
    choosing, reporting = rewrite_images(data.test_dataset, data, rule(root))
    assert list(choosing) == ["target"]
    assert list(reporting) == ["report", "exemplars"]
    assert reporting["report"] is data.test_dataset
    assert len(reporting["exemplars"]) == 6


def test_one_half_of_the_test_images_chooses_and_the_other_is_reported(root):
    data = make_data(root)
    data.setup("test")
    choosing, reporting = rewrite_images(data.test_dataset, data, rule(root), choose_on="half", seed=3)
    indices = choosing["others"].indices, reporting["report"].indices
    assert sorted(indices[0] + indices[1]) == list(range(60))
    assert len(indices[0]) == len(indices[1]) == 30


def test_validation_images_choose_and_all_test_images_are_reported(root):
    data = make_data(root)
    data.setup("test")
    choosing, reporting = rewrite_images(data.test_dataset, data, rule(root), choose_on="val")
    assert choosing["others"] is data.val_dataset
    assert reporting["report"] is data.test_dataset


def test_validation_images_that_are_the_test_images_choose_nothing(root, tmp_path):
    (tmp_path / "val").symlink_to(root / "test")
    data = make_data(tmp_path)
    data.setup("test")
    with pytest.raises(UserError, match=r"tested on their validation images, .*: set choose_on to half"):
        rewrite_images(data.test_dataset, data, rule(root), choose_on="val")
    choosing, reporting = rewrite_images(data.test_dataset, data, rule(root), choose_on="half")
    assert not set(choosing["others"].indices) & set(reporting["report"].indices)
    assert list(rewrite_images(data.test_dataset, data, rule(root)).choosing) == ["target"]  # nothing to choose


def test_further_sets(root):
    data = make_data(root)
    data.setup("test")
    choosing, reporting = rewrite_images(
        data.test_dataset,
        data,
        rule(root),
        rule(root, "validation", exemplars=[6, 7]),
        trial_rules(root),
        "half",
        str(root / "photographs"),
    )
    assert list(reporting) == ["report", "exemplars", "held_out", "photographs", "trial", "trial_originals"]
    assert [len(reporting[name]) for name in reporting] == [30, 6, 2, 30, 6, 6]
    assert reporting["held_out"] is choosing["target"]
    for (with_it, label), (without, same) in zip(reporting["trial"], reporting["trial_originals"], strict=True):
        assert label == same
        assert torch.equal(with_it[:, 0], without[:, 0])  # the concept is in the lower half
        assert not torch.allclose(with_it[:, -1], without[:, -1])
