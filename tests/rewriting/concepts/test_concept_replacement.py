"""A concept replaced: what is outside stays, what is inside is the texture or the blend; by seed, in any batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from editable.data.concepts.manipulation import shade
from editable.errors import UserError
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.rewriting.concepts.concept_replacement import ConceptReplacement

HEIGHT, WIDTH = 10, 12
NAMES = ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/nothing.jpg"]


class SoftSquare(ConceptFinder):
    """Finds 3 × 4 pixels of which the last column counts half; nothing where the name says so."""

    def __init__(self) -> None:
        self.settings = {"kind": "square"}

    def find(self, images: Tensor, names) -> Tensor:
        masks = images.new_zeros(len(images), *images.shape[-2:])
        for mask, name in zip(masks, names, strict=True):
            if "nothing" not in name:
                mask[2:5, 3:7] = 1
                mask[2:5, 6] = 0.5
        return masks


@pytest.fixture
def texture(tmp_path: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "texture.png")
    return str(tmp_path / "texture.png")


def stored(texture: str) -> Tensor:
    return torch.from_numpy(np.asarray(Image.open(texture)).copy()).permute(2, 0, 1).double() / 255


def images(count: int = 4, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_outside_nothing_changes_and_inside_is_a_piece_of_the_texture(texture: str):
    made, before = ConceptReplacement(SoftSquare(), texture)(images(), NAMES), images()
    assert made.found.tolist() == [True, True, True, False]
    assert torch.equal(made.images[3], before[3])
    assert not made.masks[3].any()
    outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    outside[2:5, 3:7] = False
    assert torch.equal(made.images[..., outside], before[..., outside])
    pieces = stored(texture).unfold(1, 3, 1).unfold(2, 4, 1)  # [3, rows, columns, 3, 4]
    weight = torch.tensor([1, 1, 1, 0.5], dtype=torch.float64)
    places = []
    for index in range(3):
        old, new = before[index, :, 2:5, 3:7], made.images[index, :, 2:5, 3:7]
        expected = weight * pieces + (1 - weight) * old[:, None, None]
        wrong = (expected - new[:, None, None]).abs().amax(dim=(0, 3, 4))
        places.append(tuple((wrong < 1e-6).nonzero()[0].tolist()))
        assert (wrong < 1e-6).sum() == 1
    assert len(set(places)) == 3, "each image has a piece of its own"


def test_it_depends_on_seed_and_name_alone(texture: str):
    concept = ConceptReplacement(SoftSquare(), texture, seed=5)
    whole = concept(images(), NAMES).images
    for index, name in enumerate(NAMES):
        alone = ConceptReplacement(SoftSquare(), texture, seed=5)(images()[index : index + 1], [name])
        assert torch.equal(alone.images[0], whole[index])
    assert torch.equal(concept(images(), NAMES).images, whole)
    other = ConceptReplacement(SoftSquare(), texture, seed=6)(images(), NAMES).images
    assert not torch.equal(other[:3], whole[:3])
    assert concept.seed_of("cat/1.jpg") != concept.seed_of("cat/2.jpg")


def test_a_grey_image_gets_a_grey_texture(texture: str):
    concept = ConceptReplacement(SoftSquare(), texture, placement="mask")
    made = concept(images(1, channels=1), ["cat/1.jpg"]).images
    coloured = concept(images(1), ["cat/1.jpg"]).images
    luminance = (coloured[0, :, 2:5, 3:6] * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(dim=0)
    torch.testing.assert_close(made[0, 0, 2:5, 3:6], luminance, atol=5e-3, rtol=0)


def test_the_texture_may_be_resized_to_the_mask(texture: str):
    """Of one colour, it is that colour; its edge pixels keep their sides."""
    left_red = np.zeros((4, 6, 3), dtype=np.uint8)
    left_red[:, :3, 0] = 255
    Image.fromarray(left_red).save(texture)
    made = ConceptReplacement(SoftSquare(), texture, placement="mask")(images(1), ["cat/1.jpg"]).images[0]
    assert made[0, 2:5, 3].min() > 0.99
    assert made[0, 2:5, 5].max() < 0.5
    box = ConceptReplacement(SoftSquare(), texture, placement="mask", texture_box=[0, 0, 3, 4])
    assert box(images(1), ["cat/1.jpg"]).images[0, 0, 2:5, 3:6].min() > 0.99


def test_shading_lights_the_texture_as_the_region_was(texture: str):
    concept = ConceptReplacement(SoftSquare(), texture, blend="shading")
    plain = ConceptReplacement(SoftSquare(), texture)
    mask = SoftSquare().find(images(1), ["cat/1.jpg"])[0]
    made = concept(images(1), ["cat/1.jpg"]).images[0]
    pasted = plain(images(1), ["cat/1.jpg"]).images[0]
    gain = shade(torch.full((3, HEIGHT, WIDTH), 0.5, dtype=torch.float64), images(1)[0], mask) / 0.5
    inside = mask == 1
    expected = (pasted[:, inside] * gain[:, inside]).clamp(0, 1)
    torch.testing.assert_close(made[:, inside], expected, atol=1e-6, rtol=0)
    assert torch.equal(made[:, mask == 0], images(1)[0][:, mask == 0])
    flat = images(1) * 0 + 0.6  # a region that is evenly lit
    assert torch.allclose(concept(flat, ["a"]).images, plain(flat, ["a"]).images, atol=1e-9)


def test_a_stylizer_has_the_say_inside_the_mask(texture: str):
    given = []

    def invert(image, texture, mask, seed):
        given.append((texture, mask, seed))
        return 1 - image

    concept = ConceptReplacement(SoftSquare(), texture, stylizer=invert)
    made, before = concept(images(), NAMES), images()
    mask = SoftSquare().find(before, NAMES)[:, None]
    torch.testing.assert_close(made.images, mask * (1 - before) + (1 - mask) * before, atol=1e-9, rtol=0)
    assert torch.equal(made.images[3], before[3])
    assert [seed for *_, seed in given] == [concept.seed_of(name) for name in NAMES[:3]]
    assert torch.allclose(given[0][0], stored(texture), atol=1e-6)
    without = ConceptReplacement(SoftSquare(), stylizer=invert)
    assert torch.equal(without(before, NAMES).images, made.images)
    assert given[-1][0] is None
    assert without.description.endswith("invert")
    assert concept.description == texture


def test_a_mask_below_the_least_share_is_none(texture: str):
    share = (9 + 1.5) / (HEIGHT * WIDTH)
    for least, expected in ((share - 1e-6, True), (share + 1e-6, False)):
        made = ConceptReplacement(SoftSquare(), texture, min_share=least)(images(1), ["cat/1.jpg"])
        assert made.found.tolist() == [expected]
        assert torch.equal(made.images, images(1)) != expected
        assert bool(made.masks.any()) == expected


def test_settings_tell_concepts_apart(texture: str):
    plain = ConceptReplacement(SoftSquare(), texture).settings
    assert plain["finder"] == {"class": "SoftSquare", "kind": "square"}
    for change in ({"seed": 1}, {"blend": "shading"}, {"texture_size": 20}, {"stylizer": Bright(1.0)}):
        assert ConceptReplacement(SoftSquare(), texture, **change).settings != plain
    bright, brighter = (ConceptReplacement(SoftSquare(), stylizer=Bright(gain)).settings for gain in (1.0, 2.0))
    assert bright != brighter


class Bright:
    def __init__(self, gain: float) -> None:
        self.gain = gain

    def __call__(self, image, texture, mask, seed):
        return image * self.gain


MISTAKES = {
    "seed": ({"seed": -1}, "seed must be at least 0, got -1"),
    "placement": ({"placement": "middle"}, "placement is 'middle', but must be one of texture, image, mask"),
    "blend": ({"blend": "mix"}, "blend is 'mix', but must be one of paste, shading"),
    "both": ({"blend": "shading", "stylizer": Bright(1.0)}, "blend is 'shading', but a stylizer takes its place"),
    "share": ({"min_share": 1.1}, r"min_share must be in \[0, 1\], got 1.1"),
    "nothing": ({"texture": None}, "there is nothing to put in the concept's place: name a texture, or a stylizer"),
    "missing": ({"texture": "nowhere.png"}, "The texture nowhere.png does not exist"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(texture: str, settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        ConceptReplacement(SoftSquare(), **{"texture": texture, **settings})


@pytest.mark.parametrize("returned", [None, torch.zeros(3, 4, 4), torch.full((3, HEIGHT, WIDTH), float("nan"))])
def test_a_stylizer_must_return_an_image(returned: Tensor | None):
    concept = ConceptReplacement(SoftSquare(), stylizer=lambda image, texture, mask, seed: returned)
    with pytest.raises(UserError, match=r"the stylizer .* must return a finite image \[3, 10, 12\], got"):
        concept(images(1), ["cat/1.jpg"])
