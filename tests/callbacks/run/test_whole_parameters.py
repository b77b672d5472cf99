"""Strategies that share parameters out are refused by what looks at them whole."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from torch import nn

from editable.callbacks import DrawdownEvaluation
from editable.callbacks.run.context import require_whole_parameters
from editable.editing import GD, Editor
from editable.errors import UserError
from editable.tasks import ClassificationTask


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_a_strategy_that_shares_parameters_out_is_refused(strategy):
    sharing = SimpleNamespace(strategy=strategy())
    task = ClassificationTask(nn.Linear(2, 2))
    task.trainer = sharing
    evaluation = DrawdownEvaluation(1, editor=Editor(GD(0.1)), editable_layers=["all"])
    with pytest.raises(UserError, match=f"evaluation of edits needs the parameters whole, and {strategy.__name__}"):
        evaluation.check(task, inference_mode=False)
    with pytest.raises(UserError, match=r"use trainer\.strategy=ddp here"):
        require_whole_parameters(sharing, "rewrite")


def test_one_that_does_not_is_taken():
    assert require_whole_parameters(SimpleNamespace(strategy=DDPStrategy()), "rewrite") is None
