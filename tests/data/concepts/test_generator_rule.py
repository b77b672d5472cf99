"""Rules for generators in JSON files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data import read_generator_rule
from editable.errors import UserError

BOX = {"latent": 4, "box": [1, 2, 3, 5]}
PASTE = {"seed": 7, "copy": BOX, "paste": [{"latent": 5, "box": [0, 0, 1, 1]}], "context": [BOX, BOX]}
ERASE = {"seed": 7, "erase": [BOX], "channels": 3}


def write(folder: Path, content: object) -> Path:
    path = folder / "rule.json"
    path.write_text(json.dumps(content))
    return path


def test_a_rule_that_pastes(tmp_path: Path):
    rule = read_generator_rule(write(tmp_path, PASTE))
    assert (rule.seed, rule.channels) == (7, None)
    assert (rule.copy.latents, rule.paste.latents, rule.context.latents) == ([4], [5], [4, 4])
    expected = torch.zeros(6, 8)
    expected[2:5, 1:3] = 1
    masks = rule.context.masks((6, 8))
    assert masks.shape == (2, 6, 8)
    torch.testing.assert_close(masks[1], expected)


def test_a_rule_that_erases(tmp_path: Path):
    rule = read_generator_rule(str(write(tmp_path, ERASE)))
    assert rule.channels == 3
    assert rule.context.latents == [4]
    assert not rule.copy
    assert not rule.paste


def test_polygons_are_drawn_by_area_and_mask_images_read(tmp_path: Path):
    levels = np.zeros((4, 4), dtype=np.uint8)
    levels[1, 2], levels[2, 2] = 255, 51
    Image.fromarray(levels).save(tmp_path / "mask.png")
    triangle = [[0, 0], [2, 0], [0, 2]]
    erase = [
        {"latent": 0, "polygon": triangle},
        {"latent": 1, "polygons": [triangle, [[2, 2], [4, 2], [4, 4], [2, 4]]]},
        {"latent": 2, "mask": "mask.png"},
    ]
    masks = read_generator_rule(write(tmp_path, {**ERASE, "erase": erase})).context.masks((4, 4))
    assert masks.flatten(1).sum(dim=1).tolist() == pytest.approx([2, 6, 1.2])
    torch.testing.assert_close(masks[2], torch.from_numpy(levels / 255).float())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "has no keys: expected"),
        ({"seed": 1, "copy": BOX}, r"has \['copy', 'seed'\] keys: expected"),
        ({**ERASE, "seed": float("nan")}, "has the number NaN, but numbers must be finite"),
        ({**ERASE, "seed": 2**32}, "seed in .* must be at most 4294967295"),
        ({**ERASE, "channels": 10**9}, "channels in .* must be at most 65536"),
        ({**ERASE, "erase": [{**BOX, "latent": 10**9}]}, "latent of .* must be at most 1000000"),
        ({**ERASE, "seed": -1}, "seed in .* is -1, but must be a whole number"),
        ({**ERASE, "channels": 1.5}, "channels in .* is 1.5"),
        ({**ERASE, "erase": []}, "erase in .* names no image"),
        ({**ERASE, "erase": [{"latent": 4}]}, "entry 0 of erase in .* must have latent and one of box, mask, polygon"),
        ({**ERASE, "erase": [{"box": [0, 0, 1, 1]}]}, "must have latent"),
        ({**ERASE, "erase": [{**BOX, "mask": "a.png"}]}, "and one of"),
        ({**ERASE, "erase": [{"latent": "x", "box": [0, 0, 1, 1]}]}, "latent of .* is 'x'"),
        ({**ERASE, "erase": [{"latent": 4, "box": [0, 0, 1]}]}, r"must be \[left, top, right, bottom\]"),
        ({**ERASE, "erase": [{"latent": 4, "polygon": [[0, 0], [1, 1]]}]}, "at least 3 points"),
        ({**ERASE, "erase": [{"latent": 4, "polygon": "no"}]}, "at least 3 points, got 'no'"),
        ({**ERASE, "erase": [{"latent": 4, "polygons": []}]}, "must be a list of polygons"),
        ({**ERASE, "erase": [{"latent": 4, "mask": 3}]}, "mask of .* is 3"),
        ({**PASTE, "copy": [BOX, BOX]}, "a part of one image, got 2"),
    ],
)
def test_files_of_another_form(content: object, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read_generator_rule(write(tmp_path, content))


def test_missing_and_broken_files(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere\.json does not exist"):
        read_generator_rule(tmp_path / "nowhere.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_generator_rule(tmp_path / "broken.json")


def test_masks_that_do_not_fit_the_images(tmp_path: Path):
    rule = read_generator_rule(write(tmp_path, ERASE))
    with pytest.raises(UserError, match=r"The vertex \[3.0, 5.0\] of entry 0 of erase .* y from 0 to 4"):
        rule.context.masks((4, 4))
    Image.fromarray(np.full((4, 5), 255, dtype=np.uint8)).save(tmp_path / "mask.png")
    rule = read_generator_rule(write(tmp_path, {**ERASE, "erase": [{"latent": 0, "mask": "mask.png"}]}))
    with pytest.raises(UserError, match=r"4×5 pixels .* as large as the generated images, 8×8"):
        rule.context.masks((8, 8))
