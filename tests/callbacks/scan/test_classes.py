"""Changes by class: where they are undefined, and how ties in the ranking are broken."""

from math import isnan, nan

import pytest
import torch

from editable.callbacks.scan.classes import Change, ClassChange, class_changes, ranking
from editable.callbacks.scan.records import ScanRecords


def make_records(positions, found, predictions, top, true) -> ScanRecords:
    images = len(positions)
    fields = (torch.tensor(some).reshape(images, 1, 2) for some in (predictions, top, true))
    return ScanRecords(torch.tensor(positions), torch.tensor(found), *fields)


def test_classes_by_hand():
    labels = torch.tensor([0, 0, 1, 1, 2])
    records = make_records(
        positions=[0, 1, 2, 3],
        found=[True, True, True, False],
        predictions=[[0, 1], [0, 0], [0, 1], [0, 0]],
        top=[[0.75, 0.5], [0.5, 0.5], [1.0, 0.5], [0.0, 0.0]],
        true=[[0.75, 0.25], [0.5, 0.5], [0.0, 0.5], [0.0, 0.0]],
    )
    first, second, third = class_changes(records, labels, 3)
    assert (first.num_images, first.num_found) == (2, 2)
    assert (first.error.before, first.error.after) == (0.0, 0.5)
    assert (first.top.before, first.top.after) == (0.625, 0.5)
    assert first.true.change == -0.25
    assert first.error.half_width == pytest.approx(1.96 * 0.5**0.5 / 2**0.5)
    assert (first.taken.before, first.taken.after) == (1.0, 0.0)
    assert isnan(first.taken.half_width)  # of one image
    assert (second.num_images, second.num_found) == (2, 1)
    assert (second.error.before, second.error.after) == (1.0, 0.0)
    assert (third.num_images, third.num_found) == (0, 0)
    assert isnan(third.error.before)
    assert third.values() == {"taken_before": 0.0, "taken_after": 0.0}


def make_change(label: int, error: float, top: float, true: float, found: int = 5, taken: float = nan) -> ClassChange:
    values = (Change(0.0, value) for value in (error, top, true))
    some, other, third = values
    return ClassChange(label, 9, found, some, other, third, Change(0.0, taken))


@pytest.mark.parametrize(
    ("rank_by", "min_found", "expected"),
    [
        ("error", 1, [3, 0, 1, 2, 4]),
        ("top_probability", 1, [2, 3, 0, 1, 4]),
        ("error", 5, [3, 0, 1, 2]),
        ("error", 6, []),
    ],
)
def test_ranking_and_its_ties(rank_by, min_found, expected):
    changes = [
        make_change(0, error=0.5, top=-0.1, true=-0.2),
        make_change(1, error=0.5, top=-0.1, true=-0.1),
        make_change(2, error=0.1, top=-0.3, true=-0.1),
        make_change(3, error=0.5, top=-0.2, true=0.0),
        make_change(4, error=-0.5, top=0.1, true=0.0, found=2),
        make_change(5, error=nan, top=nan, true=nan, found=0),
    ]
    assert ranking(changes, rank_by, min_found) == expected


def test_ranking_by_what_is_taken():
    """The largest rise first; where there are no images of others, last."""
    changes = [
        make_change(0, error=0.5, top=-0.1, true=-0.2, taken=0.01),
        make_change(1, error=0.9, top=-0.1, true=-0.1),
        make_change(2, error=0.1, top=-0.3, true=-0.1, taken=0.25),
        make_change(3, error=0.2, top=-0.2, true=0.0, taken=-0.1),
        make_change(4, error=0.6, top=-0.1, true=-0.2, taken=0.01),
        make_change(5, error=nan, top=nan, true=nan, found=0, taken=0.3),
    ]
    assert ranking(changes, "taken", 9) == [5, 2, 4, 0, 3, 1]
