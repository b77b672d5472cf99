"""Sets of images of a rewrite run: halves, exemplars of several rules in order, and images for second moments."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from editable.callbacks.site.sets import halves, manipulated_images, moment_dataset, original_images, rule_images
from editable.data import ImageFolderDataModule, RewriteRule
from editable.errors import UserError

MEAN, STD = (0.5, 0.25, 0.0), (0.25, 0.5, 1.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of constant images for training and testing; masks of an image's lower half; a white texture."""
    for split, count in (("train", 10), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                path = tmp_path / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8, 3), 20 * number + 10 * label, dtype=np.uint8)).save(path)
    Image.fromarray(np.full((8, 8, 3), 255, dtype=np.uint8)).save(tmp_path / "white.png")
    for name in ("cat", "dog"):
        lower_half = [[0, 4], [8, 4], [8, 8], [0, 8]]
        masks = [{"image": f"test/{name}/{number}.png", "polygon": lower_half} for number in (1, 2)]
        (tmp_path / f"{name}.json").write_text(json.dumps({"masks": masks}))
    return tmp_path


def make_data(root: Path, **settings) -> ImageFolderDataModule:
    data = ImageFolderDataModule(str(root), image_size=8, num_workers=0, mean=MEAN, std=STD, **settings)
    data.setup("test")
    return data


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


def test_images_for_second_moments(root):
    data = make_data(root, validation_fraction=0.2)
    choosing = TensorDataset(torch.zeros(2, 3, 8, 8))
    assert moment_dataset("test", data, choosing) is choosing
    assert len(moment_dataset("test", data, None)) == 8
    assert len(moment_dataset("val", data, choosing)) == 4
    assert len(moment_dataset("train", data, choosing)) == 16


def test_no_validation_images(root):
    data = make_data(root, validation_fraction=0.0)
    with pytest.raises(UserError, match="validation"):
        moment_dataset("val", data, None)
