"""The first finder that finds a concept in an image has the say."""

import pytest
import torch
from torch import Tensor, nn

from editable.errors import UserError
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.rewriting.concepts.first_finder import FirstFinder


class Known(ConceptFinder):
    """Finds the concept in images of some names, everywhere to one degree."""

    def __init__(self, names: str, degree: float) -> None:
        self.names, self.degree = names, degree
        self.settings = {"names": names}
        self.asked: list[str] = []
        self.network = None

    @property
    def description(self) -> str:
        return self.names

    def prepare(self, network, normalise, images=(), progress=lambda images: None) -> None:
        self.network = network

    def find(self, images: Tensor, names) -> Tensor:
        self.asked += names
        known = torch.tensor([float(name in self.names) for name in names])
        return images.new_ones(len(images), 2, 2) * known[:, None, None] * self.degree


def test_each_image_has_the_mask_of_the_first_that_finds_it():
    first, second, third = Known("ac", 0.25), Known("bc", 0.5), Known("abd", 1.0)
    finder, network = FirstFinder([first, second, third]), nn.Identity()
    finder.prepare(network, nn.Identity())
    assert all(one.network is network for one in (first, second, third))
    images, names = torch.rand(5, 3, 2, 2), list("abcde")
    assert finder.find(images, names)[:, 0, 0].tolist() == [0.25, 0.5, 0.25, 1.0, 0.0]
    assert (first.asked, second.asked, third.asked) == (names, list("bde"), list("de"))
    assert finder.activation(images, names).tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert finder.description == "ac, or else bc, or else abd"
    assert finder.settings["finders"][1] == {"class": "Known", "names": "bc"}


def test_one_finder_alone_is_as_it_is():
    images = torch.rand(2, 3, 2, 2)
    assert FirstFinder([Known("a", 0.5)]).find(images, ["a", "b"])[:, 0, 0].tolist() == [0.5, 0.0]


def test_none_is_refused():
    with pytest.raises(UserError, match="finders is empty"):
        FirstFinder([])
