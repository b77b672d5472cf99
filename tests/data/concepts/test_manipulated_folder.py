import json

import numpy as np
import pytest
import torch
from PIL import Image

from editable.data import ManipulatedImage, load_manipulated_folder, read_manifest, save_manipulated_folder
from editable.errors import UserError


def image(class_name, name, seed=0):
    pixels = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return ManipulatedImage(pixels, class_name, name, f"{class_name}.jpg", "masks.json", "snow.jpg", seed)


IMAGES = [image("dog", "1", 3), image("cat", "1", 4), image("cat", "2", 5)]


def test_images_and_manifest(tmp_path):
    manifest = save_manipulated_folder(tmp_path / "out", iter(IMAGES), {"blend": "paste", "seed": 7})
    assert manifest == read_manifest(tmp_path / "out") == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"] == {"blend": "paste", "seed": 7}
    assert manifest["images"][1] == {
        "file": "cat/1.png",
        "class": "cat",
        "source": "cat.jpg",
        "mask": "masks.json",
        "texture": "snow.jpg",
        "seed": 4,
    }
    stored = np.array(Image.open(tmp_path / "out" / "cat" / "1.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(stored, np.rint(IMAGES[1].image.numpy() * 255))
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == [
        "1.png",
        "1.png",
        "2.png",
        "cat",
        "dog",
        "manifest.json",
    ]


def test_loaded_with_labels(tmp_path):
    save_manipulated_folder(tmp_path / "out", IMAGES, {})
    files = load_manipulated_folder(tmp_path / "out", ["bird", "cat", "dog"])
    assert files.labels.tolist() == [2, 1, 1]
    for (pixels, label), original in zip((files[i] for i in range(3)), IMAGES, strict=True):
        assert label == ["bird", "cat", "dog"].index(original.class_name)
        assert torch.equal(pixels, (original.image * 255).round().to(torch.uint8))
    with pytest.raises(UserError, match=r"class of the image dog/1\.png is 'dog' .* none of the 2 classes"):
        load_manipulated_folder(tmp_path / "out", ["bird", "cat"])


def test_nothing_is_overwritten(tmp_path):
    save_manipulated_folder(tmp_path / "out", IMAGES[:1], {})
    before = (tmp_path / "out" / "dog" / "1.png").read_bytes()
    for place in (tmp_path / "out", tmp_path / "out" / "manifest.json"):
        with pytest.raises(UserError, match=f"{place} is not an empty folder: choose another one"):
            save_manipulated_folder(place, [image("dog", "1", 8)], {})
    assert (tmp_path / "out" / "dog" / "1.png").read_bytes() == before


def test_interrupted_writer_leaves_whole_files_and_no_manifest(tmp_path):
    def images():
        yield IMAGES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_manipulated_folder(tmp_path / "out", images(), {})
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["1.png"]
    with pytest.raises(
        UserError, match=r"manifest\.json does not exist: the folder holds no manipulated images, or not"
    ):
        read_manifest(tmp_path / "out")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"images": [{"file": "a"}], "settings": {}}', '{"images": [3]}'])
def test_foreign_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json is no manifest of manipulated images: make the folder anew"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/a"])
def test_names_that_lead_elsewhere(tmp_path, name):
    for wrong in (image("dog", name), image(name, "1")):
        with pytest.raises(UserError, match=r"cannot be put under .*: a class and a name are one word each"):
            save_manipulated_folder(tmp_path / "out", [wrong], {})


def test_names_that_are_the_same(tmp_path):
    with pytest.raises(UserError, match=r"Two manipulated images would be .*dog/1\.png: give them different names"):
        save_manipulated_folder(tmp_path / "out", [IMAGES[0], IMAGES[0]], {})


def test_no_images(tmp_path):
    with pytest.raises(UserError, match="There are no manipulated images to write to"):
        save_manipulated_folder(tmp_path / "out", [], {})
