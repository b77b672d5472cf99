import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from editable.data import read_masks
from editable.data.images.frame import Frame
from editable.data.images.reader import read_mask_image
from editable.errors import UserError

TRIANGLE = [[0, 0], [8, 0], [0, 8]]


def write_image(path, size=(16, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(len(str(path))).randint(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def write_mask(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels))
    (image if mode is None else image.convert(mode)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two images of 16×20 pixels, in two class folders."""
    for name in ("cat/1.png", "dog/2.png"):
        write_image(tmp_path / name)
    return tmp_path


def write_json(folder, *entries, **settings):
    path = folder / "masks.json"
    path.write_text(json.dumps({**settings, "masks": list(entries)}))
    return path


def draw(folder, *entries, frame=None, **settings):
    found = read_masks(write_json(folder, *entries, **settings))
    return [image.read(frame or found.frame)[1] for image in found.images]


def box_mask(left, top, right, bottom, size=(16, 20)):
    mask = torch.zeros(size)
    mask[top:bottom, left:right] = 1
    return mask


# ---- JSON files -----------------------------------------------------------------------------------------------------


def test_images_of_a_file(folder):
    found = read_masks(
        write_json(
            folder,
            {"image": "dog/2.png", "polygon": TRIANGLE},
            {"image": "cat/1.png", "box": [1, 2, 3, 4], "class": "tabby"},
        )
    )
    assert [image.name for image in found.images] == ["dog/2.png", "cat/1.png"]
    assert [image.class_name for image in found.images] == ["dog", "tabby"]
    assert found.frame == Frame()
    image, mask = found.images[0].read(found.frame)
    stored = torch.from_numpy(np.array(Image.open(folder / "dog" / "2.png"))).permute(2, 0, 1)
    assert image.dtype == mask.dtype == torch.float32
    torch.testing.assert_close(image, stored / 255, rtol=1e-6, atol=0)
    assert mask.sum().item() == 32  # half of 8×8


def test_root_is_where_the_images_are(folder):
    (folder / "elsewhere").mkdir()
    path = write_json(folder / "elsewhere", {"image": "cat/1.png", "polygon": TRIANGLE})
    with pytest.raises(
        UserError, match=f"image {folder}/elsewhere/cat/1.png does not exist: {path} names it, and root"
    ):
        read_masks(path)
    assert read_masks(path, root=folder).images[0].path == folder / "cat" / "1.png"


def test_mask_files_are_beside_the_masks_file(folder):
    write_mask(folder / "elsewhere" / "painted.png", 255 * box_mask(3, 4, 9, 10).byte().numpy())
    found = read_masks(write_json(folder / "elsewhere", {"image": "cat/1.png", "mask": "painted.png"}), root=folder)
    assert torch.equal(found.images[0].read(found.frame)[1], box_mask(3, 4, 9, 10))


def test_outlines_of_each_kind(folder):
    write_mask(folder / "painted.png", 255 * box_mask(3, 4, 9, 10).byte().numpy())
    corners = [[3, 4], [9, 4], [9, 10], [3, 10]]
    for outline in (
        {"box": [3, 4, 9, 10]},
        {"polygon": corners},
        {"polygons": [corners]},
        {"polygons": [corners[:3], [corners[0], *corners[2:]]]},
        {"mask": "painted.png"},
    ):
        (mask,) = draw(folder, {"image": "cat/1.png", **outline})
        assert torch.equal(mask, box_mask(3, 4, 9, 10)), outline


def test_outlines_of_what_is_not_the_concept(folder):
    entry = {"image": "cat/1.png", "polygons": [[[2, 3], [7, 3], [7, 9], [2, 9]], [[10, 3], [12, 3], [12, 5], [10, 5]]]}
    (inside,), (outside,) = draw(folder, entry), draw(folder, {**entry, "outside": True})
    assert torch.equal(outside, 1 - inside)


def test_last_pixel_reaches_the_border(folder):
    (mask,) = draw(folder, {"image": "cat/1.png", "polygon": [[0, 10], [19, 10], [19, 15], [0, 15]]})
    assert torch.equal(mask, box_mask(0, 10, 20, 16))
    (mask,) = draw(folder, {"image": "cat/1.png", "polygon": [[19, 15], [20, 15], [20, 16], [19, 16]]})
    assert torch.equal(mask, box_mask(19, 15, 20, 16))
    (mask,) = draw(folder, {"image": "cat/1.png", "polygon": [[0, 0], [18.5, 0], [18.5, 14.5], [0, 14.5]]})
    assert mask.sum().item() == 18.5 * 14.5


def test_edges_of_a_box_are_exact(folder):
    (mask,) = draw(folder, {"image": "cat/1.png", "box": [2, 3, 19, 15]})
    assert torch.equal(mask, box_mask(2, 3, 19, 15))


def test_polygons_are_in_pixels_of_the_file(folder):
    """The shorter side of 16 is resized to 8, the longer to 10; the crop leaves out 2 columns on each side."""
    settings = {"resize": 8, "crop": 6}
    (mask,) = draw(folder, {"image": "cat/1.png", "box": [1, 2, 3, 5]}, **settings)
    assert torch.equal(mask, box_mask(1, 2, 3, 5, size=(6, 6)))
    (stored,) = draw(folder, {"image": "cat/1.png", "box": [1, 2, 3, 5]}, frame=Frame(), **settings)
    assert torch.equal(stored, box_mask(2 * 3, 2 * 3, 2 * 5, 2 * 6))
    (larger,) = draw(folder, {"image": "cat/1.png", "box": [1, 2, 3, 5]}, frame=Frame(24, 32), **settings)
    assert torch.equal(larger, box_mask(4 * 1, 4 * 2, 4 * 3, 4 * 5, size=(24, 24)))


def test_polygon_of_the_stored_image_is_cropped(folder):
    (mask,) = draw(folder, {"image": "cat/1.png", "box": [0, 0, 10, 8]}, frame=Frame(6, 8))
    assert torch.equal(mask, box_mask(0, 0, 3, 3, size=(6, 6)))
    with pytest.raises(UserError, match=r"mask of the image .*cat/1\.png is empty: it has no pixel of the image with"):
        draw(folder, {"image": "cat/1.png", "box": [0, 0, 3, 3]}, frame=Frame(6, 8))


def test_mask_file_is_transformed_like_the_image(folder):
    levels = np.random.RandomState(0).randint(0, 256, (16, 20), dtype=np.uint8)
    write_mask(folder / "painted.png", levels)
    (mask,) = draw(folder, {"image": "cat/1.png", "mask": "painted.png"}, frame=Frame(6, 8))
    values = torch.from_numpy(levels / 255).float()[None]
    assert torch.equal(mask, v2.functional.center_crop(v2.functional.resize(values, [8], antialias=True), [6, 6])[0])
    assert len(mask.unique()) > 30  # it stays float


def test_mask_file_of_the_crop(folder):
    pixels = 255 * box_mask(1, 2, 3, 4, size=(6, 6)).byte().numpy()
    write_mask(folder / "painted.png", pixels)
    entry, settings = {"image": "cat/1.png", "mask": "painted.png"}, {"resize": 8, "crop": 6}
    (mask,) = draw(folder, entry, **settings)
    assert torch.equal(mask, box_mask(1, 2, 3, 4, size=(6, 6)))
    with pytest.raises(
        UserError, match=r"painted\.png is in pixels of the image with its shorter side resized to 8 and"
    ):
        draw(folder, entry, frame=Frame(12, 16), **settings)


def test_mask_of_another_size(folder):
    write_mask(folder / "painted.png", np.full((20, 16), 255, dtype=np.uint8))
    with pytest.raises(
        UserError, match=r"painted\.png is 20×16 pixels .* as large as the image .*cat/1\.png, which is 16×20"
    ):
        draw(folder, {"image": "cat/1.png", "mask": "painted.png"})


def test_empty_masks(folder):
    write_mask(folder / "painted.png", np.zeros((16, 20), dtype=np.uint8))
    for outline in ({"mask": "painted.png"}, {"polygon": [[1, 1], [2, 2], [3, 3]]}, {"box": [4, 4, 4, 9]}):
        with pytest.raises(UserError, match=r"mask of the image .*cat/1\.png is empty: it has no pixel of the stored"):
            draw(folder, {"image": "cat/1.png", **outline})


@pytest.mark.parametrize("vertex", [[21, 3], [3, 17], [-1, 3]])
def test_polygon_outside_of_the_image(folder, vertex):
    with pytest.raises(
        UserError, match=r"vertex .* is outside of the image, where x is from 0 to 20 and y from 0 to 16"
    ):
        draw(folder, {"image": "cat/1.png", "polygon": [[1, 1], [5, 1], vertex]})


def test_polygon_outside_of_the_crop(folder):
    with pytest.raises(UserError, match=r"x is from 0 to 6 and y from 0 to 6: .* its shorter side resized to 8"):
        draw(folder, {"image": "cat/1.png", "polygon": [[1, 1], [5, 1], [5, 9]]}, resize=8, crop=6)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("cat/1.png", "Entry 1 of .*masks.json names no image: expected"),
        ({"polygon": TRIANGLE}, "Entry 1 of .*masks.json names no image: expected"),
        ({"image": 3, "polygon": TRIANGLE}, "Entry 1 of .*masks.json names no image: expected"),
        ({"image": "cat/1.png"}, "Entry 1 .* must have one of polygon, polygons, box, mask, but has none"),
        ({"image": "cat/1.png", "polygn": TRIANGLE}, "Entry 1 .* unknown key 'polygn': did you mean 'polygon'"),
        ({"image": "cat/1.png", "box": [0, 0, 1, 1], "outsde": True}, "unknown key 'outsde': did you mean 'outside'"),
        ({"image": "cat/1.png", "box": [0, 0, 1, 1], "note": 1}, "unknown key 'note': known are box, class, image"),
        ({"image": "cat/1.png", "polygon": TRIANGLE, "box": [0, 0, 1, 1]}, "but has polygon and box"),
        ({"image": "cat/1.png", "polygon": []}, "A polygon of Entry 1 .* at least 3 points, but has 0"),
        ({"image": "cat/1.png", "polygon": [[1, 2], [3, 4]]}, "A polygon of Entry 1 .* at least 3 points, but has 2"),
        ({"image": "cat/1.png", "polygons": [TRIANGLE, [[1, 2]]]}, "A polygon of Entry 1 .* 3 points, but has 1"),
        ({"image": "cat/1.png", "polygons": []}, "polygons of Entry 1 .* must be a list of polygons"),
        ({"image": "cat/1.png", "polygon": [1, 2, 3, 4]}, r"polygon of Entry 1 .* must be \[\[x, y\], …\] in numbers"),
        ({"image": "cat/1.png", "polygon": [[1, 2], [3], [4, 5]]}, r"polygon of Entry 1 .* must be \[\[x, y\], …\]"),
        (
            {"image": "cat/1.png", "polygon": [["a", 2], [3, 1], [4, 5]]},
            r"polygon of Entry 1 .* must be \[\[x, y\], …\]",
        ),
        ({"image": "cat/1.png", "polygon": [[None, 2], [3, 1], [4, 5]]}, r"polygon of Entry 1 .* must be"),
        ({"image": "cat/1.png", "box": [1, 2, 3]}, r"box of Entry 1 .* must be \[left, top, right, bottom\]"),
        ({"image": "cat/1.png", "mask": 3}, "mask of Entry 1 .* is 3, but must be the path"),
        ({"image": "cat/1.png", "box": [1, 2, 3, 4], "outside": 1}, "outside of Entry 1 .* is 1, but must be true or"),
        ({"image": "cat/1.png", "mask": "a.png", "outside": True}, "outside of Entry 1 .* true for outlines only"),
        ({"image": "cat/1.png", "box": [1, 2, 3, 4], "class": 7}, "class of Entry 1 .* is 7, but must be the name"),
        (
            {"image": "dog/2.png", "box": [1, 2, 3, 4]},
            r"Entry 1 .* is for the image dog/2\.png again: .* under polygons",
        ),
    ],
)
def test_entries_that_are_wrong(folder, entry, message):
    with pytest.raises(UserError, match=message):
        read_masks(write_json(folder, {"image": "dog/2.png", "polygon": TRIANGLE}, entry))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 0}, "crop in .* must be at least 1, got 0"),
        ({"crop": "224"}, "crop in .* must be a whole number, got '224'"),
        ({"crop": 10**9}, "crop in .* must be at most 16384, got 1000000000"),
        ({"crop": float("nan")}, "has the number NaN, but numbers must be finite"),
        ({"crop": 4, "resize": float("inf")}, "has the number Infinity, but numbers must be finite"),
        ({"crop": 1, "resize": []}, r"resize in .* must be a whole number, got \[\]"),
        ({"crop": [8]}, r"crop in .* must be a whole number, got \[8\]"),
        ({"crop": True}, "crop in .* must be a whole number, got True"),
        ({"resize": 8}, "resize in .* is 8, but must be at least crop, which is not set"),
        ({"resize": 8, "crop": 9}, "resize in .* is 8, but must be at least crop, which is 9"),
    ],
)
def test_sizes_that_are_wrong(folder, settings, message):
    with pytest.raises(UserError, match=message):
        read_masks(write_json(folder, {"image": "dog/2.png", "polygon": TRIANGLE}, **settings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"cannot be read as JSON \(.*\): expected .*polygon"),
        ("", r"cannot be read as JSON \(.*\): expected .*polygon"),
        ("[1]", "holds no masks: expected .*polygon.*, or COCO annotations"),
        ('{"shapes": []}', "holds no masks: expected .*polygon.*, or COCO annotations"),
        ('{"masks": {"a": 1}}', "holds no masks: expected .*polygon"),
        ('{"masks": []}', "has no entry: expected .*polygon"),
        ('{"maks": []}', "has the unknown key 'maks': did you mean 'masks'"),
        ('{"masks": [{}], "resise": 8}', "has the unknown key 'resise': did you mean 'resize'"),
        ('{"masks": [], "masks": [{}]}', "has the key 'masks' twice in one place"),
        ('{"masks": [{"image": "a/b.png", "box": [NaN, 0, 1, 1]}]}', "has the number NaN, but numbers must be finite"),
        ('{"masks": [{"image": "a/b.png", "box": [0, 0, 1e999, 1]}]}', "has the number 1e999, but numbers must be"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_are_no_masks(tmp_path, text, message):
    (tmp_path / "masks.json").write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        read_masks(tmp_path / "masks.json")
    assert "\n" not in str(raised.value)


def test_image_in_place_of_json(folder):
    with pytest.raises(UserError, match=r"1\.png' is no text in UTF-8"):
        read_masks(folder / "cat" / "1.png")


def test_missing_masks_and_images(folder):
    with pytest.raises(UserError, match=r"masks .*none\.json do not exist: expected a JSON file or a folder"):
        read_masks(folder / "none.json")
    path = write_json(folder, {"image": "cat/7.png", "polygon": TRIANGLE})
    with pytest.raises(UserError, match=r"The image .*cat/7\.png does not exist: .*masks\.json names it"):
        read_masks(path)
    with pytest.raises(UserError, match=r"The image folder .*nowhere does not exist: root must hold the images"):
        read_masks(path, root=folder / "nowhere")


def test_category_is_for_coco(folder):
    path = write_json(folder, {"image": "cat/1.png", "polygon": TRIANGLE})
    with pytest.raises(UserError, match=r"category is 'road', but .* holds no COCO annotations"):
        read_masks(path, category="road")


# ---- folders of mask images -----------------------------------------------------------------------------------------


def test_masks_beside_images(folder):
    write_mask(folder / "masks" / "cat" / "1.gif", 255 * box_mask(1, 2, 3, 4).byte().numpy())
    write_mask(folder / "masks" / "dog" / "2.png", 255 * box_mask(5, 6, 7, 8).byte().numpy())
    (folder / "masks" / "notes.txt").write_text("no mask")
    # .gif is not among the endings that torchvision takes for images
    with pytest.warns(UserWarning, match=r"are left out, such as notes\.txt"):
        found = read_masks(folder / "masks", root=folder)
    assert [image.name for image in found.images] == ["dog/2.png"]
    (folder / "masks" / "notes.txt").unlink()
    (folder / "masks" / "cat" / "1.gif").unlink()
    write_mask(folder / "masks" / "cat" / "1.bmp", 255 * box_mask(1, 2, 3, 4).byte().numpy())
    found = read_masks(folder / "masks", root=folder)
    assert [image.name for image in found.images] == ["cat/1.png", "dog/2.png"]
    assert [image.class_name for image in found.images] == ["cat", "dog"]
    assert torch.equal(found.images[0].read(found.frame)[1], box_mask(1, 2, 3, 4))
    assert torch.equal(found.images[1].read(found.frame)[1], box_mask(5, 6, 7, 8))


def test_folders_that_are_wrong(folder):
    masks = folder / "masks"
    masks.mkdir()
    with pytest.raises(UserError, match=r"masks is the folder .*masks: root must say in which other folder"):
        read_masks(masks)
    with pytest.raises(UserError, match=r"masks is the folder .*masks: root must say in which other folder"):
        read_masks(masks, root=masks)
    with pytest.raises(UserError, match=r"The folder .*masks holds no mask image"):
        read_masks(masks, root=folder)
    write_mask(masks / "cat" / "3.png", box_mask(1, 2, 3, 4).byte().numpy())
    with pytest.raises(UserError, match=r"exemplar of cat/3\.png must be the one image .*cat/3\.\* .* there is none"):
        read_masks(masks, root=folder)
    write_image(folder / "cat" / "3.png")
    write_image(folder / "cat" / "3.bmp")
    with pytest.raises(UserError, match=r"must be the one image .*cat/3\.\* .* but there are 3\.bmp, 3\.png"):
        read_masks(masks, root=folder)


# ---- what a mask image says -----------------------------------------------------------------------------------------

LEVELS = np.array([[0, 51, 255], [102, 204, 0]], dtype=np.uint8)
BINARY = np.array([[0, 1, 1], [1, 0, 0]], dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
def test_grey_levels_of_every_mode(tmp_path, mode):
    path = write_mask(tmp_path / ("mask.tiff" if mode == "CMYK" else "mask.png"), LEVELS, mode)
    mask = read_mask_image(path)
    assert mask.dtype == torch.float32
    torch.testing.assert_close(mask, torch.from_numpy(LEVELS / 255).float(), atol=2 / 255, rtol=0)


@pytest.mark.parametrize("kind", ["levels", "bool", "white", "16 bits"])
def test_zero_and_one(tmp_path, kind):
    """A mask of 0 and 1 is one whether 1 is stored as 1 or as white."""
    pixels = {
        "levels": BINARY,
        "bool": BINARY.astype(bool),
        "white": BINARY * 255,
        "16 bits": BINARY.astype(np.uint16),
    }[kind]
    assert torch.equal(read_mask_image(write_mask(tmp_path / "mask.png", pixels)), torch.from_numpy(BINARY).float())


def test_sixteen_bits(tmp_path):
    path = write_mask(tmp_path / "mask.png", LEVELS.astype(np.uint16) * 257)
    torch.testing.assert_close(read_mask_image(path), torch.from_numpy(LEVELS / 255).float(), atol=1e-7, rtol=0)


def test_transparent_is_outside(tmp_path):
    pixels = np.full((2, 3, 4), 255, dtype=np.uint8)
    pixels[..., 3] = LEVELS
    mask = read_mask_image(write_mask(tmp_path / "mask.png", pixels))
    torch.testing.assert_close(mask, torch.from_numpy(LEVELS / 255).float(), atol=1 / 255, rtol=0)


def test_jpeg_is_grey_enough(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    path = tmp_path / "mask.jpg"
    Image.fromarray(smooth).convert("RGB").save(path, quality=90)
    torch.testing.assert_close(read_mask_image(path), torch.from_numpy(smooth / 255).float(), atol=0.02, rtol=0)


def test_colours_labels_and_damage_are_refused(tmp_path):
    colours = np.zeros((4, 4, 3), dtype=np.uint8)
    colours[1:3, 1:3] = (192, 128, 128)
    with pytest.raises(UserError, match=r"mask\.png is in colour, but must be grey: black outside"):
        read_mask_image(write_mask(tmp_path / "mask.png", colours))
    with pytest.raises(UserError, match=r"mask\.png has no level above 20 of 255, but must be black outside"):
        read_mask_image(write_mask(tmp_path / "mask.png", np.array([[0, 5, 20]], dtype=np.uint8)))
    with pytest.raises(UserError, match=r"mask\.tiff cannot be read \(its levels are floats"):
        read_mask_image(write_mask(tmp_path / "mask.tiff", np.ones((2, 2), dtype=np.float32)))
    (tmp_path / "mask.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"The mask .*mask\.png cannot be read \(.*\): replace or remove the file"):
        read_mask_image(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"The mask .*none\.png cannot be read \(.*\): replace or remove the file"):
        read_mask_image(tmp_path / "none.png")


# ---- COCO annotations -----------------------------------------------------------------------------------------------


def coco_content():
    box = [3, 4, 9, 4, 9, 10, 3, 10]
    other = [12, 1, 15, 1, 15, 3, 12, 3]
    # run lengths down the columns: 2 columns of 16 outside, 1 column inside, the rest outside
    runs = {"size": [16, 20], "counts": [32, 16, 272]}
    annotations = [
        {"image_id": 7, "category_id": 1, "segmentation": [box]},
        {"image_id": 7, "category_id": 1, "segmentation": [other]},
        {"image_id": 7, "category_id": 2, "segmentation": [[0, 0, 20, 0, 20, 16, 0, 16]]},
        {"image_id": 5, "category_id": 1, "segmentation": runs, "iscrowd": 1},
    ]
    for number, annotation in enumerate(annotations):
        annotation.update({"id": number + 1, "area": 1, "iscrowd": annotation.get("iscrowd", 0)})
    return {
        "images": [
            {"id": 7, "file_name": "dog/2.png", "height": 16, "width": 20},
            {"id": 5, "file_name": "cat/1.png", "height": 16, "width": 20},
            {"id": 6, "file_name": "cat/missing.png", "height": 16, "width": 20},
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "road"}, {"id": 2, "name": "sky"}, {"id": 3, "name": "roof"}],
    }


def write_coco(folder, content):
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_coco_annotations(folder, capsys):
    pytest.importorskip("pycocotools")
    found = read_masks(write_coco(folder, coco_content()), category="road")
    assert [image.name for image in found.images] == ["cat/1.png", "dog/2.png"]
    assert [image.class_name for image in found.images] == ["cat", "dog"]
    masks = [image.read(found.frame)[1] for image in found.images]
    assert torch.equal(masks[0], box_mask(2, 0, 3, 16))
    assert torch.equal(masks[1], box_mask(3, 4, 9, 10) + box_mask(12, 1, 15, 3))
    assert masks[0].dtype == torch.float32
    resized = found.images[0].read(Frame(4))[1]
    assert resized.shape == (4, 4)
    assert 0 < resized.sum() < 4
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ("rod", r"category is rod, but must be one of the 3 categories of .*instances\.json, such as road"),
        (None, r"category is not set, but must be one of the 3 categories of .*, such as road, sky, roof"),
        ("roof", "No image of the annotations .* has the category 'roof': choose another one"),
    ],
)
def test_categories_that_are_not_there(folder, category, message):
    pytest.importorskip("pycocotools")
    with pytest.raises(UserError, match=message):
        read_masks(write_coco(folder, coco_content()), category=category)


@pytest.mark.parametrize("missing", ["images", "categories", "file_name", "height", "name", "image_id", "image"])
def test_coco_annotations_that_are_not_in_order(folder, missing):
    pytest.importorskip("pycocotools")
    content = coco_content()
    if missing == "image":
        content["images"].pop(0)
    for holder in (content, content["images"][0], content["categories"][0], content["annotations"][0]):
        holder.pop(missing, None)
    with pytest.raises(UserError, match=r"COCO annotations .* are not in order \(.*\): expected the lists images"):
        read_masks(write_coco(folder, content), category="road")


def test_coco_segmentation_that_cannot_be_drawn(folder):
    pytest.importorskip("pycocotools")
    content = coco_content()
    del content["annotations"][0]["segmentation"]
    found = read_masks(write_coco(folder, content), category="road")
    with pytest.raises(UserError, match=r"annotations of the image .*dog/2\.png .* cannot be drawn .* segmentation"):
        found.images[1].read(found.frame)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_coco_image_of_another_size(folder):
    pytest.importorskip("pycocotools")
    write_image(folder / "dog" / "2.png", size=(16, 21))
    found = read_masks(write_coco(folder, coco_content()), category="road")
    with pytest.raises(UserError, match=r"is 16×20 pixels .* as large as the image .*dog/2\.png, which is 16×21"):
        found.images[1].read(found.frame)


def test_coco_without_pycocotools(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(UserError, match=r"needs pycocotools: pip install 'editable\[coco\]'"):
        read_masks(write_coco(folder, coco_content()), category="road")
