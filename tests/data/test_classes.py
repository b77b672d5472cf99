"""What a user typed is looked up as a name first, and as a number where no class has that name."""

import unicodedata

import pytest

from editable.data.classes import check_same_classes, class_labels, class_numbers, find_class, is_none, named_classes
from editable.errors import UserError

NAMES = ["001", "002", "cat", "1"]


@pytest.mark.parametrize(
    ("asked", "label"),
    [("001", 0), ("cat", 2), ("1", 3), (1, 3), ("2", 2), (0, 0), ("4", None), ("dog", None), (-1, None)],
)
def test_names_come_before_numbers(asked: int | str, label: int | None):
    assert find_class(asked, NAMES) == label


def test_several_classes_in_the_order_asked_for():
    assert class_numbers(["b", "a"], ["a", "b", "c"], "target") == [1, 0]
    assert class_numbers([2, "a"], ["a", "b", "c"], "target") == [2, 0]


def test_folders_are_names_and_never_numbers():
    assert class_labels(["b", "a", "b"], ["a", "b"], ["x", "y", "z"]).tolist() == [1, 0, 1]
    with pytest.raises(
        UserError, match=r"class of the image x is '1' .* none of the 2 classes .* they begin with a, b"
    ):
        class_labels(["1"], ["a", "b"], ["x"])


@pytest.mark.parametrize(
    ("asked", "option", "message"),
    [
        (["cra"], "target", "target has 'cra', which is none .* names are car"),
        (["x"], "noise", "noise has 'x', .* they begin with car, ship"),
        ([], "target", "target is empty"),
        (["car", "car"], "target", "target has 'car' twice"),
        (["car", 0], "target", "target has 'car' twice"),
    ],
)
def test_mistakes(asked: list[int | str], option: str, message: str):
    with pytest.raises(UserError, match=message):
        class_numbers(asked, ["car", "ship"], option)


def test_the_same_classes_in_the_same_order():
    check_same_classes(["car", "café"], ["car", unicodedata.normalize("NFD", "café")], "the checkpoint", "else")


@pytest.mark.parametrize(
    ("made_for", "message"),
    [
        (["ship", "car"], "the checkpoint was made for other .* class 0 is 'ship' there and 'car' in the data: else"),
        (["car", "boat"], "class 1 is 'boat' there and 'ship'"),
        (["car"], "made for 1 classes and the data have 2, the first more is class 1, 'ship'"),
        (["car", "ship", "x"], "made for 3 classes and the data have 2, the first more is class 2, 'x'"),
        ("carship", "damaged: its class names"),
        ([1, 2], "damaged: its class names"),
    ],
)
def test_other_classes_are_refused_by_the_first_that_differs(made_for: object, message: str):
    with pytest.raises(UserError, match=message):
        check_same_classes(made_for, ["car", "ship"], "the checkpoint", "else")


@pytest.mark.parametrize(
    ("asked", "label"),
    [("null", 0), (None, 0), ("yes", 1), ("1e3", 2), ("true", 3), (True, 3), ("0.5", 4), (0.5, 4), ('"null"', 0)],
)
def test_names_that_yaml_takes_for_something_else(asked: str | float | bool | None, label: int):
    assert find_class(asked, ["null", "yes", "1e3", "true", "0.5"]) == label


def test_two_ways_to_write_an_accent_are_one_name():
    """é is U+00E9, or e with U+0301 behind it."""
    assert find_class("cafe\u0301", ["b", "caf\u00e9"]) == find_class("caf\u00e9", ["b", "cafe\u0301"]) == 1
    assert class_labels(["cafe\u0301"], ["b", "caf\u00e9"], ["x"]).tolist() == [1]
    with pytest.raises(UserError, match="twice"):
        class_numbers(["cafe\u0301", "caf\u00e9"], ["caf\u00e9"], "target")


def test_one_class_is_a_list_of_one():
    assert class_numbers("001", NAMES, "target") == class_numbers(["001"], NAMES, "target") == [0]
    assert class_numbers(2, NAMES, "target") == [2]
    assert named_classes([None, True, 3, 0.5, "x"]) == ["null", "true", "3", "0.5", "x"]


def test_null_is_none_where_no_class_has_that_name():
    for asked in (None, "null", '"null"', "~", ["null"]):
        assert is_none(asked, ["a", "b"])
    for asked in ("a", "x", ["null", "null"], [], "'x"):
        assert not is_none(asked, ["a", "b"])
    assert not is_none("null", ["null"])
    assert is_none("~", ["null"])


def test_names_that_begin_as_asked_are_near():
    """Rather than the first of all classes, where the rest of the name is long."""
    classes = ["1e3", "C#", "crane [bird]", "Crane [machine]"]
    with pytest.raises(UserError, match=r"near names are crane \[bird\], Crane \[machine\]"):
        class_numbers("crane", classes, "edit.labels")
