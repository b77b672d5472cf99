"""Categories by name or number, and what is said of those that a detector does not know."""

import pytest

from editable.errors import UserError
from editable.rewriting.concepts.category_labels import category_labels, known_categories

NAMES = ["background", "car", "cat", "bus"]


def test_names_and_numbers():
    assert category_labels(["cat", 1, "bus"], NAMES) == [2, 1, 3]
    assert category_labels([0, 17], None) == [0, 17]


def test_categories_are_a_list_or_those_of_weights():
    assert known_categories(NAMES) == NAMES
    assert known_categories(None) is None
    coco = known_categories("MaskRCNN_ResNet50_FPN_Weights.COCO_V1")
    assert category_labels(["person", "car", "toothbrush"], coco) == [1, 3, 90]  # COCO's own category ids
    voc = known_categories("DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1")
    assert category_labels(["__background__", "car"], voc) == [0, 7]  # Pascal VOC's


@pytest.mark.parametrize("categories", ["COCO", "MaskRCNN_ResNet50_FPN_Weights.COCO_V9", "KeypointRCNN"])
def test_unknown_weights(categories: str):
    with pytest.raises(UserError, match=f"categories is '{categories}', but must be a list of names, or torchvision"):
        known_categories(categories)


@pytest.mark.parametrize(
    ("labels", "categories", "message"),
    [
        ([], NAMES, "labels is empty"),
        (["cart"], NAMES, r"the detector has no category 'cart' among its 4: near names are (cat, car|car, cat)"),
        (["zebra"], NAMES, "no category 'zebra' among its 4: they begin with background, car, cat"),
        ([4], NAMES, "no category '4'"),
        ([-1], NAMES, "no category '-1'"),
        (["car"], None, "categories are not known, so 'car' cannot be looked up: set categories"),
        ([-1], None, "labels are numbers from 0, got -1"),
    ],
)
def test_mistakes(labels: list, categories: list[str] | None, message: str):
    with pytest.raises(UserError, match=message):
        category_labels(labels, categories)
