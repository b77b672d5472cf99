import json

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from editable.data import ImageFolderDataModule, RewriteRule, fit_texture, read_manifest, shade
from editable.errors import UserError


def write_image(path, size, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def write_json(path, names, **settings):
    masks = [{"image": name, "box": [1, 1 + i, 6, 5 + i]} for i, name in enumerate(names)]
    path.write_text(json.dumps({**settings, "masks": masks}))
    return path


NAMES = ["test/dog/1.png", "test/cat/1.png", "test/cat/2.png"]


@pytest.fixture
def folder(tmp_path):
    """Three exemplars of different sizes in two classes, their masks and a texture."""
    for i, name in enumerate(NAMES):
        write_image(tmp_path / name, (20 + i, 30 - i), seed=i)
    write_json(tmp_path / "masks.json", NAMES, resize=14, crop=10)
    write_image(tmp_path / "snow.png", (25, 17), seed=9)
    return tmp_path


def make_rule(folder, **kwargs):
    arguments = {"masks": str(folder / "masks.json"), "texture": str(folder / "snow.png"), **kwargs}
    return RewriteRule(**{key: value for key, value in arguments.items() if value is not None})


def box_masks(count=3, size=10):
    masks = torch.zeros(count, size, size)
    for i in range(count):
        masks[i, 1 + i : 5 + i, 1:6] = 1
    return masks


def darken(image, texture, mask, seed):
    """A stylizer, for the tests: no texture is given, and the seed is the exemplar's own."""
    assert texture is None
    assert mask.shape == image.shape[1:]
    return image * (0.25 if seed % 2 else 0.5)


def negative(image, texture, mask, seed):
    return 1 - image


def test_stylizers_draw_into_exemplars_in_turn(folder):
    rule = make_rule(folder, texture=None, stylizers=[negative, darken], copies=2)
    alone = make_rule(folder, texture=None, stylizers=[darken], copies=2)
    inside = box_masks()[:, None].repeat(2, 3, 1, 1)
    expected = 1 - rule.originals
    torch.testing.assert_close(rule.manipulated[::2], torch.lerp(rule.originals, expected, inside)[::2])
    assert torch.equal(rule.textures[1::2], alone.textures[1::2])  # a seed depends on the exemplar alone
    assert rule.settings["stylizers"][0] == {"name": f"{__name__}.negative"}
    json.dumps(rule.settings)
    manifest = rule.save(folder / "out")
    assert [image["texture"] for image in manifest["images"][:2]] == [f"{__name__}.negative", f"{__name__}.darken"]


def test_a_stylizer_that_returns_no_image_is_named(folder):
    rule = make_rule(folder, texture=None, stylizers=[lambda image, texture, mask, seed: image[:1]])
    with pytest.raises(UserError, match=r"the stylizer .*<lambda> must return a finite image \[3, 10, 10\], got \[1, "):
        _ = rule.manipulated


# ---- what a rule offers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image_size", "resize_size"), [(10, 14), (12, None), (12, 20), (24, 31)])
def test_originals_are_what_the_data_module_gives(folder, image_size, resize_size):
    data = ImageFolderDataModule(
        str(folder), image_size=image_size, resize_size=resize_size, mean=(0, 0, 0), std=(1, 1, 1)
    )
    data.setup("test")
    seen = torch.stack([data.test_dataset[i][0] for i in (2, 0, 1)])  # cat/1, cat/2, dog/1
    own = image_size == 10
    rule = make_rule(folder) if own else make_rule(folder, image_size=image_size, resize_size=resize_size)
    assert rule.originals.dtype == torch.float32
    assert torch.equal(rule.originals, seen)


def test_names_masks_and_labels(folder):
    rule = make_rule(folder)
    assert len(rule) == 3
    assert rule.names == NAMES
    assert rule.class_names == ["dog", "cat", "cat"]
    assert torch.equal(rule.masks, box_masks())
    assert rule.masks.dtype == torch.float32
    labels = rule.labels(["bird", "cat", "cow", "dog"])
    assert labels.dtype == torch.int64
    assert labels.tolist() == [3, 1, 1]


def test_manipulated_is_texture_inside_and_original_outside(folder):
    rule = make_rule(folder)
    inside = box_masks()[:, None].bool().expand(3, 3, 10, 10)
    assert torch.equal(rule.manipulated[inside], rule.textures[inside])
    assert torch.equal(rule.manipulated[~inside], rule.originals[~inside])
    assert rule.originals.shape == rule.manipulated.shape == rule.textures.shape == (3, 3, 10, 10)
    assert torch.equal(rule.texture, rule.textures[0])


def test_texture_is_a_part_of_the_file(folder):
    stored = torch.from_numpy(np.array(Image.open(folder / "snow.png"))).permute(2, 0, 1)
    parts = stored.unfold(1, 10, 1).unfold(2, 10, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    for texture in make_rule(folder).textures:
        assert ((texture * 255).round() == parts).flatten(1).all(dim=1).sum() == 1


def test_texture_may_be_resized(folder):
    smaller = make_rule(folder, texture_size=5).textures[0]
    assert torch.equal(smaller[:, :, 5:], smaller[:, :, :5])  # 17 columns became 5, and are tiled


def test_shading(folder):
    rule, plain = make_rule(folder, blend="shading"), make_rule(folder)
    assert torch.equal(rule.textures[1], shade(plain.textures[1], plain.originals[1], plain.masks[1]))
    inside = box_masks()[:, None].bool().expand(3, 3, 10, 10)
    assert torch.equal(rule.manipulated[inside], rule.textures[inside])
    assert not torch.equal(rule.manipulated, plain.manipulated)


def test_seed_fixes_the_texture(folder):
    first, again, other = make_rule(folder, seed=3), make_rule(folder, seed=3), make_rule(folder, seed=4)
    assert torch.equal(first.manipulated, again.manipulated)
    assert not torch.equal(first.manipulated, other.manipulated)
    assert not torch.equal(first.textures[1], first.textures[2])  # each exemplar has its own part


def test_one_exemplar_at_a_time(folder):
    rule = make_rule(folder)
    one = rule.read(1)
    assert torch.equal(one.original, rule.originals[1])
    assert torch.equal(one.manipulated, rule.manipulated[1])
    assert torch.equal(one.mask, rule.masks[1])
    assert torch.equal(one.texture, rule.textures[1])


def test_copies_have_other_parts_of_the_texture(folder):
    once, twice = make_rule(folder), make_rule(folder, copies=2)
    assert twice.names == 2 * NAMES
    assert torch.equal(twice.originals, once.originals.repeat(2, 1, 1, 1))
    assert torch.equal(twice.manipulated[:3], once.manipulated)
    assert not any(torch.equal(*pair) for pair in zip(twice.textures[:3], twice.textures[3:], strict=True))


@pytest.mark.parametrize(("exemplars", "expected"), [([2, 0], [2, 0]), (2, [0, 1]), ([1], [1]), (3, [0, 1, 2])])
def test_holding_exemplars_out_changes_nothing_else(folder, exemplars, expected):
    everything, some = make_rule(folder), make_rule(folder, exemplars=exemplars)
    assert some.names == [NAMES[i] for i in expected]
    assert torch.equal(some.manipulated, everything.manipulated[expected])
    assert some.labels(["cat", "dog"]).tolist() == [[1, 0, 0][i] for i in expected]


def test_sizes_of_ones_own_map_the_masks(folder):
    """The first image is 14×21 pixels of the masks file, its crop from column 6 on (5.5, to the even side); at twice
    the size it is 28×42, the crop from column 11 on. The box from 1 to 6 is at 7 to 12 there, here at 14 to 24."""
    expected = torch.zeros(20, 20)
    expected[2:10, 14 - 11 : 24 - 11] = 1
    assert torch.equal(make_rule(folder, image_size=20, resize_size=28).masks[0], expected)


def test_stored_size(tmp_path):
    for i, name in enumerate(NAMES):
        write_image(tmp_path / name, (9, 11), seed=i)
    write_image(tmp_path / "snow.png", (4, 4))
    write_json(tmp_path / "masks.json", NAMES)
    rule = make_rule(tmp_path)
    stored = np.array(Image.open(tmp_path / NAMES[1])).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(rule.originals[1].numpy(), stored, rtol=1e-6)
    assert rule.masks.shape == (3, 9, 11)


# ---- variants -------------------------------------------------------------------------------------------------------


@pytest.fixture
def variants(folder):
    for i, name in enumerate(NAMES):
        write_image(folder / "variants" / name.replace("png", "bmp"), (20 + i, 30 - i), seed=10 + i)
    return folder / "variants"


@pytest.mark.parametrize("kind", ["folder", "mapping"])
def test_variants_are_the_manipulated_images(folder, variants, kind):
    mapping = {name: str(variants / name.replace("png", "bmp")) for name in NAMES}
    rule = make_rule(folder, texture=None, variants=str(variants) if kind == "folder" else mapping)
    data = ImageFolderDataModule(str(variants), image_size=10, resize_size=14, mean=(0, 0, 0), std=(1, 1, 1))
    data.setup("test")
    seen = torch.stack([data.test_dataset[i][0] for i in (2, 0, 1)])
    assert torch.equal(rule.manipulated, seen)
    assert torch.equal(rule.textures, seen)
    assert torch.equal(rule.masks, box_masks())


def test_exemplars_held_out_need_no_variant(folder, variants):
    mapping = {NAMES[1]: str(variants / "test" / "cat" / "1.bmp")}
    rule = make_rule(folder, texture=None, variants=mapping, exemplars=[1])
    assert rule.manipulated.shape == (1, 3, 10, 10)
    with pytest.raises(UserError, match=r"variants have no image for the exemplar test/dog/1\.png: give each its path"):
        make_rule(folder, texture=None, variants=mapping)


def test_variants_that_do_not_fit(folder, variants):
    names = {name: str(folder / name) for name in NAMES}
    with pytest.raises(UserError, match=r"variants name the exemplar cat/8\.png, but the masks have test/dog/1\.png"):
        make_rule(folder, texture=None, variants={**names, "cat/8.png": "x"})
    with pytest.raises(UserError, match=r"The variant .*none\.png of the exemplar test/cat/1\.png does not exist"):
        make_rule(folder, texture=None, variants={**names, "test/cat/1.png": str(folder / "none.png")})
    with pytest.raises(UserError, match=r"The folder .*nowhere does not exist: it must hold the variant of each"):
        make_rule(folder, texture=None, variants=str(folder / "nowhere"))
    (variants / "test" / "cat" / "2.bmp").unlink()
    with pytest.raises(UserError, match=r"variant of test/cat/2\.png must be the one image .* there is none"):
        make_rule(folder, texture=None, variants=str(variants))
    write_image(variants / "test" / "cat" / "2.bmp", (21, 28))
    rule = make_rule(folder, texture=None, variants=str(variants))
    with pytest.raises(UserError, match=r"2\.bmp is 21×28 pixels .* its exemplar .*2\.png, which is 22×28"):
        _ = rule.manipulated


# ---- saved as an image folder ---------------------------------------------------------------------------------------


def test_saved_images_can_be_made_again_from_the_manifest(folder):
    rule = make_rule(folder, seed=3)
    manifest = rule.save(folder / "snowed")
    assert read_manifest(folder / "snowed") == manifest
    assert RewriteRule(**manifest["settings"]).names == NAMES
    assert [entry["class"] for entry in manifest["images"]] == ["dog", "cat", "cat"]
    snow = torch.from_numpy(np.array(Image.open(folder / "snow.png"))).permute(2, 0, 1)
    for i, entry in enumerate(manifest["images"]):
        assert entry["source"] == str(folder / NAMES[i])
        assert entry["mask"] == str(folder / "masks.json")
        assert entry["texture"] == str(folder / "snow.png")
        saved = torch.from_numpy(np.array(Image.open(folder / "snowed" / entry["file"]))).permute(2, 0, 1)
        torch.testing.assert_close(saved / 255, rule.manipulated[i], atol=0.5 / 255 + 1e-6, rtol=0)
        texture = fit_texture(snow, (10, 10), entry["seed"])  # the seed alone gives the part that was pasted
        assert torch.equal(saved[:, 1 + i : 5 + i, 1:6], texture[:, 1 + i : 5 + i, 1:6])


def test_saving_again_gives_the_same_bytes(folder):
    for name in ("first", "second"):
        make_rule(folder).save(folder / name)
    files = {
        name: {path.relative_to(folder / name): path.read_bytes() for path in (folder / name).rglob("*.*")}
        for name in ("first", "second")
    }
    assert files["first"] == files["second"]
    assert len(files["first"]) == 4


def test_variants_are_in_the_manifest(folder, variants):
    manifest = make_rule(folder, texture=None, variants=str(variants)).save(folder / "saved")
    assert manifest["images"][0]["texture"] == str(variants / "test" / "dog" / "1.bmp")
    assert manifest["images"][0]["seed"] is None


# ---- from a configuration -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rule_from_yaml(folder, variants):
    parser = ArgumentParser()
    parser.add_subclass_arguments(RewriteRule, "rule")
    (folder / "rule.yaml").write_text(
        f"rule:\n  class_path: editable.data.RewriteRule\n  init_args:\n    masks: {folder}/masks.json\n"
        f"    texture: {folder}/snow.png\n    blend: shading\n    seed: 5\n    exemplars: [2, 1]\n"
    )
    parser.add_argument("--config", action="config")
    rule = parser.instantiate(parser.parse_args(["--config", str(folder / "rule.yaml")])).rule
    assert rule.names == [NAMES[2], NAMES[1]]
    assert torch.equal(rule.manipulated, make_rule(folder, blend="shading", seed=5, exemplars=[2, 1]).manipulated)
    plain = ArgumentParser()
    plain.add_class_arguments(RewriteRule, "rule")
    arguments = [f"--rule.masks={folder}/masks.json", "--rule.exemplars=2"]
    mapping = json.dumps({name: str(variants / name.replace("png", "bmp")) for name in NAMES})
    for value in (mapping, str(variants)):
        rule = plain.instantiate(plain.parse_args([*arguments, f"--rule.variants={value}"])).rule
        assert rule.manipulated.shape == (2, 3, 10, 10)


# ---- mistakes -------------------------------------------------------------------------------------------------------


def test_class_that_is_unknown(folder):
    with pytest.raises(
        UserError, match=r"class of the image test/dog/1\.png is 'dog' .* none of the 3 classes .*: near names are dogs"
    ):
        make_rule(folder).labels(["cat", "dogs", "bird"])
    with pytest.raises(UserError, match=r"none of the 4 classes of the data: they begin with cat, 1, 2\."):
        make_rule(folder).labels(["cat", "1", "2", "3"])


def test_missing_files(folder):
    with pytest.raises(UserError, match=r"The texture .*ice\.png does not exist: expected an image file of the new"):
        make_rule(folder, texture=str(folder / "ice.png"))
    with pytest.raises(UserError, match=r"The masks .*none\.json do not exist"):
        make_rule(folder, masks=str(folder / "none.json"))
    (folder / NAMES[1]).unlink()
    with pytest.raises(UserError, match=r"The image .*test/cat/1\.png does not exist: .*masks\.json names it"):
        make_rule(folder)


def test_broken_files(folder):
    (folder / NAMES[1]).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"The image .*test/cat/1\.png cannot be read \(.*\): replace or remove"):
        _ = make_rule(folder).originals
    (folder / "snow.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"The image .*snow\.png cannot be read \(.*\): replace or remove"):
        _ = make_rule(folder, exemplars=1).manipulated


def test_sizes_that_differ_need_an_image_size(folder):
    write_json(folder / "masks.json", NAMES)
    with pytest.raises(UserError, match=r"1\.png is 21×29 pixels .* the first exemplar is 20×30: set image_size"):
        _ = make_rule(folder).originals
    assert make_rule(folder, image_size=20).masks.shape == (3, 20, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texture": None}, "a set of variants, or stylizers draw it, but none is given: set one"),
        ({"variants": "folder"}, "but texture and variants are given: set one"),
        ({"stylizers": [abs]}, "but texture and stylizers are given: set one"),
        ({"texture": None, "stylizers": []}, r"stylizers must be at least one function or callable class, got \[\]"),
        ({"texture": None, "stylizers": ["X"]}, r"stylizers must be .*, got \['X'\]"),
        ({"texture": None, "stylizers": [abs], "blend": "shading"}, "for a texture, but stylizers are given"),
        ({"texture": None, "variants": "folder", "blend": "shading"}, "blend and texture_size are for a texture"),
        ({"texture": None, "variants": "folder", "texture_size": 9}, "blend and texture_size are for a texture"),
        ({"blend": "poisson"}, "blend is 'poisson', but must be one of paste, shading"),
        ({"texture_size": 0}, "texture_size must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"resize_size": 9}, "resize_size is 9, but must be at least image_size, which is not set"),
        ({"copies": 10**9}, "copies must be at most 10000, got 1000000000"),
        ({"image_size": 10**9}, "image_size must be at most 16384"),
        ({"texture_size": 10**9}, "texture_size must be at most 16384"),
        ({"exemplars": float("nan")}, "exemplars must be a whole number, got nan"),
        ({"exemplars": 0}, "exemplars must be at least 1, got 0"),
        ({"exemplars": 4}, "exemplars is 4, but must be from 1 to 3"),
        ({"exemplars": []}, r"exemplars is \[\], but must be different positions from 0 to 2, at least one"),
        ({"exemplars": [0, 3]}, r"exemplars is \[0, 3\], but must be different positions from 0 to 2"),
        ({"exemplars": [1, 1]}, r"exemplars is \[1, 1\], but must be different positions from 0 to 2"),
        ({"exemplars": [-1]}, r"exemplars is \[-1\], but must be different positions from 0 to 2"),
        ({"copies": 0}, "copies must be at least 1, got 0"),
        ({"texture": None, "variants": "folder", "copies": 2}, "copies is 2, but there is one variant of each"),
        ({"category": "road"}, "category is 'road', but .* holds no COCO annotations"),
        ({"root": "nowhere"}, "The image folder nowhere does not exist"),
    ],
)
def test_arguments_out_of_range(folder, arguments, message):
    with pytest.raises(UserError, match=message):
        RewriteRule(**{"masks": str(folder / "masks.json"), "texture": str(folder / "snow.png"), **arguments})
