"""Readers of what users write: whatever it is, it is read or refused in one sentence, and what is read comes back.

``HYPOTHESIS_PROFILE=long pytest tests/test_reader_properties.py --hypothesis-show-statistics`` tries many more inputs.
"""

import csv
import json
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import numpy as np
import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console
from torch import nn

from editable.data.classes import find_class, name_text
from editable.data.concepts.generator_rule import Region, read_generator_rule
from editable.data.concepts.masked_image import OutlinedImage
from editable.data.concepts.masks import read_masks
from editable.data.images.frame import Frame
from editable.errors import UserError
from editable.models import select_parameters
from editable.tables import BREAKS, Table, markdown_code, markdown_text, visible_text
from editable.text_files import parse_json
from editable.visualize.drawing import name_lines
from editable.yaml_text import load_yaml

SIZE = 8
"""Height and width of all images."""

text = st.text(st.characters(exclude_categories=["Cs"]))
markup = st.text("a1 \t\r\n|`*_[]()<>$~&\\#!-+.:{}'\"\u2028é猫")
words = text | markup
numbers = st.integers(-9, 20) | st.integers() | st.floats(-1, 9) | st.floats()
scalars = st.none() | st.booleans() | numbers | words
plain = st.recursive(
    scalars, lambda inside: st.lists(inside, max_size=4) | st.dictionaries(words, inside, max_size=4), max_leaves=12
)


def objects(keys: dict[str, st.SearchStrategy]) -> st.SearchStrategy:
    """Objects in which some keys are left out, some hold anything, and some are nobody's."""
    known = st.fixed_dictionaries({}, optional={key: value | plain for key, value in keys.items()})
    near = st.dictionaries(st.sampled_from([f"{key}s" for key in keys] + [key[1:] for key in keys]) | words, plain)
    return known | st.builds(lambda one, other: other | one, known, near)


vertices = st.lists(st.lists(st.floats(-1, SIZE + 1) | st.integers(0, SIZE), min_size=2, max_size=2), max_size=6)
outlines = {
    "polygon": vertices,
    "polygons": st.lists(vertices, max_size=3),
    "box": st.lists(st.floats(-1, SIZE + 1), min_size=4, max_size=4),
    "mask": st.sampled_from(["mask.png", "a/1.png", "none.png", ".", "a", "/dev/null", "\x00"]),
}
good_outline = st.sampled_from(sorted(outlines)).flatmap(lambda key: st.fixed_dictionaries({key: outlines[key]}))
places = st.sampled_from(["a/1.png", "a/2.png", "a", "..", "/", "none.png", "caf\u00e9.png", "\x00"])
good_entry = st.builds(
    lambda image, outline, rest: {"image": image, **outline, **rest},
    places,
    good_outline,
    st.fixed_dictionaries({}, optional={"class": words, "outside": st.booleans()}),
)
entries = good_entry | objects({"image": places, "class": words, "outside": st.booleans(), **outlines})
masks = st.fixed_dictionaries(
    {"masks": st.lists(entries, max_size=3)}, optional={"resize": st.integers(4, 9), "crop": st.integers(3, 9)}
) | objects({"masks": st.lists(entries, max_size=3), "resize": numbers, "crop": numbers})

regions = st.builds(lambda latent, outline: {"latent": latent, **outline}, st.integers(0, 9), good_outline) | objects(
    {"latent": numbers, **outlines}
)
several = st.lists(regions, max_size=3)
rules = (
    st.fixed_dictionaries({"seed": st.integers(0, 9), "copy": regions, "paste": several, "context": several})
    | st.fixed_dictionaries({"seed": st.integers(0, 9), "erase": several, "channels": st.integers(0, 9)})
    | objects({"seed": numbers, "copy": regions, "paste": several, "erase": several, "channels": numbers})
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    (root / "a").mkdir()
    for name in ("a/1.png", "a/2.png", "cafe\u0301.png"):
        Image.new("RGB", (SIZE, SIZE), (9, 99, 199)).save(root / name)
    Image.fromarray(np.eye(SIZE, dtype=np.uint8) * 255).save(root / "mask.png")
    return root


def polygons(some: tuple[np.ndarray, ...]) -> list[list[list[float]]]:
    return [polygon.tolist() for polygon in some]


@given(content=masks | plain)
def test_masks(folder: Path, content: Any):
    (folder / "masks.json").write_text(json.dumps(content), encoding="utf-8")
    try:
        found = read_masks(folder / "masks.json")
    except UserError:
        return
    again = []
    for image in found.images:
        try:
            pixels, mask = image.read(found.frame)
        except UserError:
            pass
        else:
            assert pixels.shape[1:] == mask.shape
            assert ((mask >= 0) & (mask <= 1)).all()
        entry = {"image": image.name, "class": image.class_name}
        if isinstance(image, OutlinedImage):
            entry |= {"polygons": polygons(image.polygons), "outside": image.outside}
        else:
            entry["mask"] = str(image.mask_path)
        again.append(entry)
    frame = {} if found.frame == Frame() else {"crop": found.frame.image_size, "resize": found.frame.resize_size}
    (folder / "again.json").write_text(json.dumps({"masks": again} | frame), encoding="utf-8")
    reread = read_masks(folder / "again.json")
    assert reread.frame == found.frame
    for one, other in zip(found.images, reread.images, strict=True):
        assert (one.name, one.path, one.class_name) == (other.name, other.path, other.class_name)
        if isinstance(one, OutlinedImage):
            assert polygons(one.polygons) == polygons(other.polygons)


def region(some: Region) -> dict[str, Any]:
    where = {"mask": str(some.mask_path)} if some.mask_path else {"polygons": polygons(some.polygons)}
    return {"latent": some.latent, **where}


@given(content=rules | plain)
def test_rules_of_generators(folder: Path, content: Any):
    (folder / "rule.json").write_text(json.dumps(content), encoding="utf-8")
    try:
        rule = read_generator_rule(folder / "rule.json")
    except UserError:
        return
    parts = {name: [region(some) for some in getattr(rule, name)] for name in ("copy", "paste", "context")}
    again: dict[str, Any] = {"seed": rule.seed, **parts}
    if rule.channels is not None:
        again = {"seed": rule.seed, "erase": parts["context"], "channels": rule.channels}
    (folder / "again.json").write_text(json.dumps(again), encoding="utf-8")
    reread = read_generator_rule(folder / "again.json")
    assert (reread.seed, reread.channels) == (rule.seed, rule.channels)
    for name in parts:
        assert [region(some) for some in getattr(reread, name)] == parts[name]
        for some in getattr(rule, name):
            try:
                mask = some.mask((SIZE, SIZE))
            except UserError:
                continue
            assert mask.shape == (SIZE, SIZE)
            assert ((mask >= 0) & (mask <= 1)).all()


NETWORK = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Linear(2, 2, bias=False))
PIECES = ["0", "1", "2", ".", "weight", "bias", "*", "?", "[", "]", "!", "all", "-", ""]
patterns = st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | words


@given(asked=st.lists(patterns, max_size=3) | patterns)
def test_layer_patterns(asked: str | list[str]):
    try:
        selected = select_parameters(NETWORK, asked)
    except UserError:
        return
    everything = dict(NETWORK.named_parameters())
    assert list(selected) == [name for name in everything if name in selected]
    assert all(everything[name] is parameter for name, parameter in selected.items())
    assert list(select_parameters(NETWORK, list(selected))) == list(selected)
    for name in everything:
        for pattern in [asked] if isinstance(asked, str) else asked:
            if pattern == "all" or fnmatchcase(name, pattern) or name.startswith(f"{pattern}."):
                assert name in selected


def cells(markdown: str) -> list[str]:
    tokens = [token for token in MarkdownIt("commonmark").enable("table").parse(markdown) if token.type == "inline"]
    assert {child.type for token in tokens for child in token.children} <= {"text", "text_special"}
    return ["".join(child.content for child in token.children) for token in tokens]


@given(rows=st.lists(st.lists(words, min_size=2, max_size=2), min_size=1, max_size=4))
def test_tables(rows: list[list[str]]):
    head, *body = rows
    table = Table(head, body, rows[0][0])
    assert cells(table.markdown()) == [visible_text(cell, BREAKS) for row in rows for cell in row]
    console = Console(width=30)
    with console.capture() as capture, tempfile.TemporaryDirectory() as folder:
        console.print(table.terminal())
        table.write_csv(Path(folder) / "table.csv")
        with (Path(folder) / "table.csv").open(newline="", encoding="utf-8") as file:
            assert list(csv.reader(file)) == rows
    assert all(some == "\n" or category(some) != "Cc" for some in capture.get())


@given(name=words)
def test_names_in_markdown(name: str):
    seen = f"see {visible_text(name, BREAKS)}."
    assert cells(f"see {markdown_text(name)}.") == [seen]
    (inline,) = [token for token in MarkdownIt("commonmark").parse(f"see {markdown_code(name)}.") if token.children]
    assert "".join(child.content for child in inline.children) == seen


@example(name="\n\n$", width=3, most=1)
@example(name="\n\n$\n\n", width=30, most=1)
@given(name=words, width=st.integers(2, 30), most=st.integers(1, 4))
def test_names_in_figures(name: str, width: int, most: int):
    lines = name_lines(name, width, most)
    if len(name) <= width and name.isprintable():
        assert lines == name
    assert "$" not in name or "$" in lines or len(visible_text(name)) > width * most


@given(names=st.lists(words, min_size=1, max_size=6, unique_by=lambda name: normalize("NFC", name)))
def test_names_of_classes(names: list[str]):
    """Each is found by its name, as it is written into a file and read from it, and with accents in another form."""
    assume("\x85" not in "".join(names))  # PyYAML writes it as it is, and reads a space
    read = load_yaml(yaml.safe_dump({"labels": names}, allow_unicode=True))["labels"]
    for label, (name, back) in enumerate(zip(names, read, strict=True)):
        assert name_text(back) == name
        assert find_class(name, names) == find_class(back, names) == label
        assert find_class(normalize("NFD", name), names) in (label, names.index(name))


def yaml_as_json(content: str) -> str:
    """Return what was read, which has no circles, as JSON; of what is refused, nothing."""
    try:
        value = load_yaml(content)
    except (UserError, yaml.YAMLError):
        return ""
    return json.dumps(value, default=str, skipkeys=True)


@given(content=words)
def test_yaml_that_is_anything(content: str):
    assert isinstance(yaml_as_json(content), str)


YAML_PIECES = (
    *(
        "a",
        "b",
        ": ",
        "- ",
        "\n",
        "  ",
        "&x ",
        "*x",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "<<: ",
        "'",
        '"',
        "1",
        "003",
        "~",
        "null",
    ),
    *("!!int ", "!!map ", "!!float ", "!!binary ", "!!omap ", "!!set ", "!!bool ", "? ", "|\n", "# "),
)
yaml_pieces = st.lists(st.sampled_from(YAML_PIECES), max_size=25).map("".join)


@given(content=yaml_pieces)
def test_yaml_of_its_own_pieces(content: str):
    assert isinstance(yaml_as_json(content), str)


@given(content=plain)
def test_yaml_that_was_written_comes_back(content: Any):
    assume("nan" not in repr(content) and "x85" not in repr(content))  # PyYAML reads U+0085 as a space
    back = load_yaml(yaml.safe_dump(content, allow_unicode=True))
    assert is_same(back, content)


def is_same(back: Any, written: Any) -> bool:
    """Return whether values are the same, where a number may be its text."""
    if isinstance(written, dict):
        return back.keys() == written.keys() and all(is_same(back[key], written[key]) for key in written)
    if isinstance(written, list):
        return len(back) == len(written) and all(map(is_same, back, written))
    return back == (yaml.safe_dump(written).split("\n")[0] if back != written else written)


@given(content=words | st.text('{}[]",:0123456789eE+-.truefalsenullNaNInfinity'))
def test_json_that_is_anything(content: str):
    try:
        value = parse_json(content, "x")
    except UserError:
        return
    assert json.loads(content) == value


@given(content=plain)
def test_json_that_was_written_comes_back(content: Any):
    written = json.dumps(content)
    finite = not any(some in written for some in ("NaN", "Infinity")) or isinstance(content, str)
    assume(finite)
    assert parse_json(written, "x") == content
