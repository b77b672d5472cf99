"""The decay of an update rule may be learnt, and must be below one."""

from functools import partial

import pytest
from torch.autograd import gradcheck

from editable.editing import Adam, Momentum, RMSProp
from editable.errors import UserError
from tests.editing.rules.running import assert_same_within_float32, name_of, run, start

DECAY_RULES = [partial(Momentum, 0.05), partial(RMSProp, 0.05), partial(Adam, 0.05)]


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("rule", DECAY_RULES, ids=name_of)
def test_learnable_decay(rule, decay: float):
    learnt, fixed = rule(decay=decay, learn_learning_rate=True, learn_decay=True), rule(decay=decay)
    assert {name for name, _ in learnt.named_parameters()} == {"log_learning_rate", "logit_decay"}
    assert learnt.decay.item() == pytest.approx(decay, rel=1e-6)
    learnt.double()
    assert_same_within_float32(run(learnt, start(), 4), run(fixed, start(), 4))
    assert gradcheck(lambda *_: tuple(run(learnt, start(), 4, True).values()), tuple(learnt.parameters()))
    sum(param.sum() for param in run(learnt, start(), 4, True).values()).backward()
    assert all(constant.grad != 0 for constant in learnt.parameters())


@pytest.mark.parametrize("bad", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize("rule", DECAY_RULES, ids=name_of)
def test_decay_must_be_below_one(rule, bad: float):
    with pytest.raises(UserError, match=rf"decay must be in \[0, 1\), got {bad}"):
        rule(decay=bad)
    with pytest.raises(UserError, match=r"decay must be in \(0, 1\), got 0"):
        rule(decay=0.0, learn_decay=True)
