"""YAML of configurations and options: what is typed stays text, and what is ambiguous or boundless is refused."""

import json
import time

import pytest
import yaml

from editable.errors import UserError
from editable.yaml_text import load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("003", "003"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("1e3", "1e3"),
        (".5", ".5"),
        ("yes", "yes"),
        ("True", "True"),
        ("2020-01-01", "2020-01-01"),
        ("12:30:45", "12:30:45"),
        ("'003'", "003"),
        ("'3'", "3"),
        ("# no comment", "# no comment"),
        ("crane [bird]", "crane [bird]"),
        ("{step}", "{step}"),
        ("{step:03d}", "{step:03d}"),
        ("{val_loss:.2f}", "{val_loss:.2f}"),
        ("a:", "a:"),
        ("[003, 3, null, 'null']", ["003", 3, None, "null"]),
    ],
)
def test_what_is_typed_can_be_known(text: str, value: object):
    loaded = load_yaml(text)
    assert loaded == value
    assert type(loaded) is type(value)
    if not isinstance(value, str | list | None):
        assert json.dumps(loaded) == text


def test_keys_alone_are_text_in_one_line_only():
    assert load_yaml("{}") == {}
    assert load_yaml("{a: null}") == {"a": None}
    assert load_yaml("evaluation:\ntrainer:") == {"evaluation": None, "trainer": None}


@pytest.mark.parametrize("name", ["003", "3", "null", "yes", "1e3", "1.0e+3", "~", "true", "0x1F", "a: b", "猫", "- x"])
def test_names_that_were_written_come_back(name: str):
    assert load_yaml(yaml.safe_dump({"labels": [name, name]})) == {"labels": [name, name]}


def test_anchors_and_merged_keys_are_read():
    assert load_yaml("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}") == {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}


@pytest.mark.parametrize("blank", ["\xa0", "\u2003", "\xa0\n\xa0"])
def test_blanks_that_yaml_takes_for_text(blank: str):
    assert load_yaml(blank) in (blank, "\xa0 \xa0")


def test_keys_stand_once():
    with pytest.raises(UserError, match=r"'run.yaml' has the key 'seed' twice in one place, in lines 2 and 4"):
        load_yaml("model:\n  seed: 1\n  lr: 2\n  seed: 3\nseed: 4", path="run.yaml")
    assert load_yaml("a: {seed: 1}\nb: {seed: 1}") == {"a": {"seed": 1}, "b": {"seed": 1}}


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_anchors_that_multiply_end_at_once():
    """Each level counts ten times the level before it and one: 3 levels are 11 + 111 + 1111 lists and words."""
    assert len(load_yaml(laughs(3))["a2"]) == 10
    start = time.monotonic()
    with pytest.raises(UserError, match=r"'x.yaml' has more than 100000 values, with those that its anchors repeat"):
        load_yaml(laughs(40), path="x.yaml")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: &x {b: *x}", "a: &x {b: [1, {c: *x}]}", "&x a: &y {<<: *y}"])
def test_anchors_that_refer_to_themselves(text: str):
    with pytest.raises(UserError, match=r"the anchor in line 1 of the YAML that begins with .* refers to itself"):
        load_yaml(text)


@pytest.mark.parametrize(
    "text", ["[" * 900, "[" * 5000, "{a: " * 5000, "- " * 5000, "*x", "!x y", "? [a]\n: b", "\x00"]
)
def test_what_is_no_yaml(text: str):
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
