"""What kept an edit from success is named: each cause is made, and its sentence found."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from editable.callbacks.edit.cause import refuse_impossible, why_it_failed
from editable.editing import GD, Editor
from editable.errors import UserError

X = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
PARAMS = {"weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]])}


def logits(own: Mapping[str, Tensor], x: Tensor = X) -> Tensor:
    return x @ own["weight"].T


def near(own: Mapping[str, Tensor]) -> Tensor:
    """Logits of two images that are nearly the same: what moves one moves the other."""
    return logits(own, torch.tensor([[1.0, 0.0], [1.0, 0.1]]))


def cause(labels: list[int], editor: Editor, function=logits, learns_views: bool = False) -> str:
    result = editor(lambda x, own: function(own), PARAMS, X, labels)
    return why_it_failed(result, function, PARAMS, torch.tensor(labels), learns_views)


def test_each_cause() -> None:
    assert "no step: allow more steps" in cause([2, 1], Editor(GD(0.1), max_steps=0))
    assert "came nearer, but not far enough: allow more steps" in cause([2, 1], Editor(GD(1e-4), max_steps=2))
    assert "edit fewer views (evaluation.edited_views), allow" in cause([2, 1], Editor(GD(1e-4), 2), learns_views=True)
    assert "became NaN or infinite on the way: lower" in cause(
        [2, 1], Editor(GD(1e12), max_steps=1), lambda own: 1e30 * logits(own)
    )
    assert "further away than before: lower the editor's learning rate" in cause([0, 1], Editor(GD(60.0), 1), near)


def test_no_gradient() -> None:
    def rounded(own: Mapping[str, Tensor]) -> Tensor:
        return logits({"weight": own["weight"].round()})  # as a quantised layer, or argmax, passes none

    words = "no gradient of what is asked reaches the editable layers: choose layers"
    assert words in cause([2, 1], Editor(GD(0.1), max_steps=2), rounded)


def test_what_no_edit_can_do() -> None:
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 2, 2).clone()
    names, classes, fine = ["a", "b", "c"], ["cat", "dog"], torch.zeros(3, 2)
    refuse_impossible(names, images, torch.tensor([0, 1, 0]), fine, classes)
    images[2] = images[0]
    refuse_impossible(names, images, torch.tensor([0, 1, 0]), fine, classes)
    with pytest.raises(UserError, match="the images a and c are the same image, but cat and dog were asked for"):
        refuse_impossible(names, images, torch.tensor([0, 1, 1]), fine, classes)
    broken = fine.clone()
    broken[1, 0] = torch.nan
    with pytest.raises(UserError, match="logits of b are NaN or infinite before any edit: look at its weights"):
        refuse_impossible(names, images, torch.tensor([0, 1, 0]), broken, classes)
