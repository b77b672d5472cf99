"""What all editors share: edits one after the other, stacked."""

import torch

from editable.editing import BaseEditor, EditResult


class Growing(BaseEditor):
    """Adds as many rows as the label asked for says."""

    def forward(self, forward, params, inputs, targets, differentiable=False):
        rows = torch.full((int(targets), 2), 7.0)
        edited = {name: torch.cat([param, rows]) for name, param in params.items()}
        return EditResult(edited, torch.zeros(()), torch.tensor(True), torch.tensor(1))


def test_edits_of_different_numbers_of_rows_are_stacked_with_zeros_behind():
    params = {"rows": torch.tensor([[1.0, 2.0]])}
    result = Growing().edit_many(lambda *_: torch.zeros(1, 9), params, torch.zeros(3, 1, 4), [2, 0, 1])
    one, none, seven = [1.0, 2.0], [0.0, 0.0], [7.0, 7.0]
    assert result.params["rows"].tolist() == [[one, seven, seven], [one, none, none], [one, seven, none]]
    assert result.num_steps.tolist() == [1, 1, 1]
