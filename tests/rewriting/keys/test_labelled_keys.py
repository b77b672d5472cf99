"""What labelled images ask of a layer, and what the closed form then makes of it."""

import pytest
import torch

from editable.errors import UserError
from editable.rewriting import InverseMoment, closed_form_update, labelled_key


def draw() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    matrix, keys = (torch.randn(size, 4, generator=generator, dtype=torch.float64) for size in (6, 5))
    known = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    return matrix, keys, torch.tensor([2, 2, 2, 5, 5]), known


def test_classes_count_alike_however_many_images_they_have():
    matrix, keys, labels, known = draw()
    asked = labelled_key(matrix, keys, labels, known)
    expected = [(sum(keys[i, j] for i in (0, 1, 2)) / 3 + (keys[3, j] + keys[4, j]) / 2) / 2 for j in range(4)]
    torch.testing.assert_close(asked.keys, torch.stack(expected)[:, None])
    torch.testing.assert_close(asked.values, (matrix @ known.sum(dim=0) / 3)[:, None])


def test_own_classes_stay_and_others_go_to_the_known_ones():
    matrix, keys, labels, known = draw()
    asked = labelled_key(matrix, keys, labels, known, keep_labels=True)
    moment = keys.T @ keys + torch.eye(4, dtype=torch.float64)
    update = closed_form_update(matrix, asked.keys, asked.values, InverseMoment(moment))
    change = update.coefficients @ update.directions.T
    rows = torch.tensor([2, 5])
    torch.testing.assert_close(change[rows], torch.zeros(2, 4, dtype=torch.float64))
    others = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(((matrix + change) @ asked.keys)[others, 0], matrix[others] @ known.mean(dim=0))
    assert torch.linalg.matrix_rank(change) == 1


def test_half_precision_is_computed_in_double():
    matrix, keys, labels, known = draw()
    asked = labelled_key(matrix.bfloat16(), keys.bfloat16(), labels, known.bfloat16())
    assert asked.keys.dtype == asked.values.dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keys": torch.zeros(0, 4)}, r"keys must be rows \[n, 4\], at least one of them, got shape \[0, 4\]"),
        ({"keys": torch.zeros(5, 3)}, r"got shape \[5, 3\]"),
        ({"known_keys": torch.zeros(4)}, r"known keys must be rows \[n, 4\], at least one of them, got shape \[4\]"),
        ({"labels": torch.zeros(2, dtype=torch.int64)}, r"5 keys need as many labels, got shape \[2\]"),
        ({"labels": torch.full((5,), 6)}, r"labels are \[6\], but the layer has 6 outputs"),
        ({"labels": torch.full((5,), -1)}, r"labels are \[-1\], but the layer has 6 outputs"),
    ],
)
def test_mistakes(changes: dict, sentence: str):
    matrix, keys, labels, known = draw()
    given = {"keys": keys, "labels": labels, "known_keys": known} | changes
    with pytest.raises(UserError, match=sentence):
        labelled_key(matrix, keep_labels=True, **given)
