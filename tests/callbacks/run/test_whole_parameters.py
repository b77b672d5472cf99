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
    with pytest.raises(UserError, match=rf"and {strategy.__name__} shares them out: use trainer\.strategy=ddp here"):
        require_whole_parameters(SimpleNamespace(strategy=strategy()), "rewrite")


def test_an_evaluation_refuses_parameters_that_are_no_tensors_of_their_own():
    """What it makes of distributed tensors, which ``ModelParallelStrategy`` leaves, is in `test_sharded_parameters`."""
    task = ClassificationTask(nn.Linear(2, 2))
    task.trainer = SimpleNamespace(strategy=FSDPStrategy())
    evaluation = DrawdownEvaluation(1, editor=Editor(GD(0.1)), editable_layers=["all"])
    with pytest.raises(UserError, match="evaluation of edits needs the parameters whole, and FSDPStrategy"):
        evaluation.check(task, inference_mode=False)


def test_one_that_does_not_is_taken():
    assert require_whole_parameters(SimpleNamespace(strategy=DDPStrategy()), "rewrite") is None
