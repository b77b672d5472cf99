"""Strict success: the label asked for is predicted, ahead of all others; by the published rule a tie is enough."""

import pytest
import torch
from torch import nn

from editable.editing import GD, BaseEditor, Editor, EditResult, HigherEditor, MarginObjective
from editable.editing.editors.objective import is_predicted
from editable.models import SplitNetwork

EDITORS = [Editor(GD(0.1)), HigherEditor(lambda params: torch.optim.SGD(params, 0.1))]


def edit(editor: BaseEditor, network: nn.Module, x: torch.Tensor, targets: list[int]) -> EditResult:
    split = SplitNetwork(network, "all")
    return editor(split.suffix, split.params, split.prefix(x), targets)


@pytest.mark.parametrize("editor", EDITORS, ids=["rule", "higher"])
def test_a_head_of_zeros(editor: BaseEditor):
    """All classes tie: the published rule is content, the strict one goes on to where the label is predicted."""
    network, x = nn.Linear(4, 3), torch.ones(1, 4)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    published = edit(editor, network, x, [2])
    assert published.success
    assert published.num_steps == 0
    strict = edit(editor.with_strict_success(), network, x, [2])
    assert strict.success
    assert strict.num_steps == 1
    logits = torch.func.functional_call(network, strict.params, x)[0]
    assert logits.argmax() == 2
    assert logits[2] > logits[:2].max()
    assert not editor.objective.strict, "the editor itself stays as it was"


def test_equal_only_as_rounded():
    """In bfloat16, log-probabilities of −20.0 and −20.03 are the same number, the logits are not."""
    logits = torch.tensor([[25.0, 5.03125, 5.0]], dtype=torch.bfloat16)[:, [1, 2, 0]]
    objective, targets = MarginObjective(strict=True), torch.tensor([1])
    two = torch.cat([logits[:, :2], torch.full((1, 1), -25.0, dtype=torch.bfloat16)], dim=1)
    for some in (logits, two):
        assert not objective.is_met(objective(some, targets), some, targets)
        assert not is_predicted(some, targets)
    tie = torch.tensor([[0.0, 0.0, -1.0]])
    assert MarginObjective().is_met(MarginObjective()(tie, targets), tie, targets)
    assert not objective.is_met(objective(tie, targets), tie, targets)


def test_is_predicted_is_a_lead_over_all_others():
    logits = torch.tensor([[1.0, 2.0, 2.0], [0.0, 3.0, 1.0], [float("nan"), 1.0, 0.0], [-1e30, -2e30, -3e30]])
    for label in range(3):
        labels = torch.full((4,), label)
        expected = [all(row[label] > row[other] for other in range(3) if other != label) for row in logits.tolist()]
        assert is_predicted(logits, labels).tolist() == expected
    assert is_predicted(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)).all()


def test_in_float32_strict_and_published_edits_are_the_same():
    torch.manual_seed(0)
    network, x, targets = nn.Linear(4, 3), torch.randn(2, 4), [2, 1]
    editor = Editor(GD(0.3), max_steps=50)
    one, other = (edit(some, network, x, targets) for some in (editor, editor.with_strict_success()))
    assert one.success
    assert one.num_steps == other.num_steps > 0
    assert all(one.params[name].equal(other.params[name]) for name in one.params)
    many = (
        Editor(GD(0.3), 50)
        .with_strict_success()
        .edit_many(
            lambda x, params: torch.func.functional_call(network, params, x),
            dict(network.named_parameters()),
            x.unsqueeze(1),
            torch.tensor([[2], [1]]),
        )
    )
    assert many.success.tolist() == [True, True]
