"""What a user typed is looked up as a name first, and as a number where no class has that name."""

import unicodedata

import pytest

from editable.data.classes import check_same_classes, class_labels, class_numbers, find_class
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
