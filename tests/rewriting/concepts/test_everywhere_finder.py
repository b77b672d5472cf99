"""Everything is found, and a stylizer then changes whole images."""

import torch

from editable.rewriting import ConceptReplacement, EverywhereFinder


def darker(image: torch.Tensor, texture: torch.Tensor | None, mask: torch.Tensor, seed: int) -> torch.Tensor:
    return image / 2


def test_whole_images_are_changed():
    images = torch.rand(2, 3, 5, 7)
    replaced = ConceptReplacement(EverywhereFinder(), stylizer=darker)(images, ["a/1.png", "a/2.png"])
    torch.testing.assert_close(replaced.images, images / 2)
    assert torch.equal(replaced.masks, torch.ones(2, 5, 7))
    assert replaced.found.all()
