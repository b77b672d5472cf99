"""The figure of an edit of images is a whole PNG file, whatever the number of images and classes."""

from pathlib import Path

import pytest
import torch

from editable.visualize import plot_image_edit
from tests.visualize.test_edits import assert_picture


@pytest.mark.parametrize(("number", "channels", "num_classes"), [(1, 1, 2), (3, 3, 9)])
def test_images_beside_their_probabilities(number: int, channels: int, num_classes: int, tmp_path: Path):
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(number, channels, 8, 8, generator=draw)
    before, after = (torch.rand(number + 1, num_classes, generator=draw).softmax(dim=1) for _ in range(2))
    names = [f"{'long' * i}/{i}.png" for i in range(number + 1)]
    labels = torch.arange(number + 1) % num_classes
    classes = [f"class {label}" for label in range(num_classes)]
    plot_image_edit(tmp_path / "edit.png", images, names, labels, before, after, classes)
    assert_picture(tmp_path / "edit.png")
