"""Labels given to an editor: whatever holds integers does the same, and anything else is refused with its value."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from editable.editing import GD, Editor, EditResult, HigherEditor
from editable.errors import UserError
from editable.models import SplitNetwork

X = torch.linspace(-1, 1, 8, dtype=torch.float64).view(2, 4)


def edit(targets: Any, editor: Any = None, samples: int = 1) -> EditResult:
    torch.manual_seed(0)
    split = SplitNetwork(nn.Linear(4, 3).double(), "all")
    return (editor or Editor(GD(0.1)))(split.suffix, split.params, split.prefix(X[:samples]), targets)


def edit_many(targets: Any, samples: int = 1) -> EditResult:
    torch.manual_seed(0)
    split = SplitNetwork(nn.Linear(4, 3).double(), "all")
    inputs = tuple(feature.expand(2, *feature.shape) for feature in split.prefix(X[:samples]))
    return Editor(GD(0.1)).edit_many(split.suffix, split.params, inputs, targets)


def same(one: EditResult, other: EditResult) -> bool:
    return one.num_steps.equal(other.num_steps) and all(
        one.params[name].equal(other.params[name]) for name in one.params
    )


@pytest.mark.parametrize(
    "targets", [1, [1], (1,), torch.tensor(1), torch.tensor([1], dtype=torch.int32), np.array([1]), np.int64(1)]
)
def test_integers_of_any_kind(targets: Any):
    expected = edit(torch.tensor([1]))
    assert expected.num_steps > 0
    assert same(edit(targets), expected)
    by_higher = [edit(some, HigherEditor(lambda p: torch.optim.SGD(p, 0.1))) for some in (targets, torch.tensor([1]))]
    assert same(*by_higher)


def test_one_label_for_all_samples():
    assert same(edit(2, samples=2), edit(torch.tensor([2, 2]), samples=2))
    expected = edit_many(torch.tensor([[1, 1], [2, 2]]), samples=2)
    for targets in ([1, 2], torch.tensor([1, 2]), np.array([[1, 1], [2, 2]]), [[1, 1], [2, 2]]):
        assert same(edit_many(targets, samples=2), expected)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([1, 2], r"there are labels of shape \[2\] for samples of shape \[1\]"),
        ([[1]], r"there are labels of shape \[1, 1\] for samples of shape \[1\]"),
        (torch.tensor([1.0]), r"labels are integers, such as 3 or \[3, 5\], got \[1.0\] of type torch.float32"),
        ([True], r"labels are integers.*got \[True\]"),
        (1.5, r"labels are integers.*got 1.5"),
        ("2", r"labels are integers.*got '2'"),
        (["2"], r"labels are integers.*got \['2'\]"),
        (None, r"labels are integers.*got None"),
        ([], r"needs at least one sample with a label"),
        (3, r"label 3 was asked for, but the network's classes are 0 … 2"),
        ([-1], r"label -1 was asked for"),
    ],
)
def test_what_is_no_label(targets: Any, words: str):
    for editor in (Editor(GD(0.1)), HigherEditor(lambda params: torch.optim.SGD(params, 0.1))):
        with pytest.raises(UserError, match=words):
            edit(targets, editor)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3,)])
def test_what_is_no_logits(shape: tuple[int, ...]):
    params = {"weight": torch.zeros(3, 4)}
    with pytest.raises(UserError, match=r"but a classifier's logits are \[1, classes\]"):
        Editor(GD(0.1))(lambda x, own: (x @ own["weight"].T).reshape(shape), params, torch.ones(1, 4), 2)


class Branching(nn.Module):
    """Its way depends on the data, which vmap cannot map."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.linear(x)
        return logits if logits.sum() > 0 else 2 * logits


@pytest.mark.filterwarnings("ignore:Branching cannot be traced")
def test_edits_that_cannot_be_made_together_are_made_one_by_one():
    torch.manual_seed(0)
    split, targets = SplitNetwork(Branching(), "all"), torch.tensor([[0], [1]])
    inputs, editor = (X.float().unsqueeze(1),), Editor(GD(0.1))
    with pytest.warns(
        UserWarning, match="edits are made one at a time, which is slower, .*data-dependent control flow"
    ):
        together = editor.edit_many(split.suffix, split.params, inputs, targets)
    for edit, target in enumerate(targets):
        alone = editor(split.suffix, split.params, (inputs[0][edit],), target)
        assert same(
            EditResult(*({k: v[edit] for k, v in together.params.items()}, *(f[edit] for f in together[1:]))), alone
        )


def test_other_errors_are_not_caught():
    def broken(x: Tensor, params: dict[str, Tensor]) -> Tensor:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        Editor(GD(0.1)).edit_many(broken, {"weight": torch.zeros(1)}, X.unsqueeze(1), [0, 1])
