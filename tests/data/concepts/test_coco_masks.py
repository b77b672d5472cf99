"""Numbers in COCO annotations that nobody can mean are refused when the file is read, before anything is drawn."""

import copy
import json
import math
import resource
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editable.data.concepts.masks import read_masks
from editable.errors import UserError

pytest.importorskip("pycocotools")

CONTENT: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "dog/2.png", "height": 16, "width": 20}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [[3, 4, 9, 4, 9, 10]], "area": 1, "iscrowd": 0},
        {
            "id": 2,
            "image_id": 7,
            "category_id": 1,
            "segmentation": {"size": [16, 20], "counts": [32, 16, 272]},
            "area": 1,
            "iscrowd": 1,
        },
    ],
    "categories": [{"id": 1, "name": "road"}],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dog").mkdir()
    Image.new("RGB", (20, 16)).save(tmp_path / "dog" / "2.png")
    return tmp_path


def read(root: Path, content: dict[str, Any]):
    (root / "instances.json").write_text(json.dumps(content))
    return read_masks(root / "instances.json", category="road")


BAD = [1e30, -1e30, 1e9, 41.0, -20.5, "3", None, True]


@pytest.mark.parametrize("value", BAD)
def test_a_vertex(root: Path, value: object):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["segmentation"][0][3] = value
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"^The annotation 1 of the image dog/2\.png in .*instances\.json"):
        read(root, content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "in KiB"


def test_a_vertex_just_outside_is_cut(root: Path):
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["segmentation"] = [[-1.5, 4, 21, 4, 21, 10, -1.5, 10]]
    (image,) = read(root, content).images
    assert image.read(read(root, content).frame)[1][6].tolist() == [1.0] * 20


@pytest.mark.parametrize("polygon", [[], [3, 4, 9, 4], [3, 4, 9, 4, 9], [3, 4, 9, 4, 9, 10, 3], 5, "road"])
def test_a_polygon_of_another_form(root: Path, polygon: object):
    """Of four numbers pycocotools would make a box."""
    content = copy.deepcopy(CONTENT)
    content["annotations"][0]["segmentation"] = [polygon]
    with pytest.raises(UserError, match=r"annotation 1 .* of at least 3 points"):
        read(root, content)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"size": [10**9, 10**9], "counts": [1]}, r"size \[1000000000, 1000000000\], but must have \[16, 20\]"),
        ({"counts": [320]}, r"size None, but must have \[16, 20\]"),
        ({"size": [16, 20], "counts": [3, 4, 5]}, "of 12 pixels in all, but must have 320"),
        ({"size": [16, 20], "counts": [32, 16, 273]}, "of 321 pixels in all, but must have 320"),
        ({"size": [16, 20], "counts": [-32, 80, 272]}, "each run length must be at least 0"),
        ({"size": [16, 20], "counts": [10**30, 48, 272]}, "each run length must be at most 320"),
        ({"size": [16, 20], "counts": [0.5, 47.5, 272]}, "each run length must be a whole number"),
    ],
)
def test_run_lengths(root: Path, runs: dict, message: str):
    content = copy.deepcopy(CONTENT)
    content["annotations"][1]["segmentation"] = runs
    with pytest.raises(UserError, match=f"annotation 2 .*{message}"):
        read(root, content)


@pytest.mark.parametrize("value", [0, -16, 10**9, "16"])
@pytest.mark.parametrize("side", ["height", "width"])
def test_the_size_of_an_image(root: Path, side: str, value: object):
    content = copy.deepcopy(CONTENT)
    content["images"][0][side] = value
    with pytest.raises(UserError, match=rf"{side} of the image dog/2\.png .* must be "):
        read(root, content)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["vertex", "run length", "height"])
def test_numbers_that_are_not_finite(root: Path, place: str, value: float):
    content = copy.deepcopy(CONTENT)
    if place == "vertex":
        content["annotations"][0]["segmentation"][0][3] = value
    elif place == "run length":
        content["annotations"][1]["segmentation"] = {"size": [16, 20], "counts": [value, 48, 272]}
    else:
        content["images"][0]["height"] = value
    with pytest.raises(
        UserError, match=r"instances\.json' has the number -?(NaN|Infinity), but numbers must be finite"
    ):
        read(root, content)
