"""Edits on a device: the figures of the CPU, with one wait a step, and none where they are differentiated."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from editable.editing import GD, Adam, AdaptiveRProp, BaseEditor, Editor, LearnedEditor, Momentum, RMSProp
from tests.fake_cuda.counting import counting
from tests.fake_cuda.device import fake_cuda

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, or --fake-cuda")
RULES = {
    "GD": GD(2.0),
    "GD, learnt rate": GD(2.0, learn_learning_rate=True),
    "Momentum": Momentum(0.5),
    "RMSProp": RMSProp(0.05, learn_learning_rate=True, learn_decay=True),
    "Adam": Adam(0.05),
    "AdaptiveRProp": AdaptiveRProp(0.02),
}
STEPS = 8


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def make(editor: BaseEditor, device: str, differentiable: bool) -> tuple[Tensor, ...]:
    """Make six edits; return what they are, and the gradients of their losses where they are differentiated."""
    model, editor = network().to(device), editor.to(device)
    params = dict(model.named_parameters())
    editor.prepare(params)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(6, 1, 6, generator=generator, dtype=torch.float64).to(device)
    labels = torch.randint(4, (6, 1), generator=generator)  # on the CPU, where their range is read

    def forward(inputs: Tensor, params: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, params, inputs)

    result = editor.edit_many(forward, params, inputs, labels, differentiable)
    found = (*result.params.values(), result.loss, result.success, result.num_steps)
    if differentiable:
        constants = [constant for constant in editor.parameters() if constant.requires_grad]
        score = result.loss.sum() + sum(some.square().sum() for some in result.params.values())
        found += torch.autograd.grad(score, [*params.values(), *constants])
    return tree_map(lambda tensor: tensor.detach().cpu(), found)


def editors() -> dict[str, BaseEditor]:
    made: dict[str, BaseEditor] = {name: Editor(rule, STEPS) for name, rule in RULES.items()}
    return made | {"LearnedEditor": LearnedEditor(max_steps=STEPS)}


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("name", editors())
def test_edits_are_those_of_the_cpu(name: str, differentiable: bool):
    """Some succeed at once and some late, so that on the CPU they leave the loop at different steps."""
    expected = make(editors()[name], "cpu", differentiable)
    found = make(editors()[name], "cuda", differentiable)
    num_steps = expected[6]
    assert num_steps.min() < num_steps.max()
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.skipif(fake_cuda() is None, reason="waits are counted on the fake device")
@pytest.mark.parametrize("name", RULES)
def test_one_wait_a_step_and_none_where_differentiated(name: str):
    model = network().cuda()
    inputs, labels = torch.randn(6, 1, 6, dtype=torch.float64, device="cuda"), torch.randint(4, (6, 1))
    editor = Editor(RULES[name], STEPS).cuda()

    def forward(inputs: Tensor, params: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, params, inputs)

    for differentiable, allowed in ((False, STEPS), (True, 0)):
        with counting() as count:
            editor.edit_many(forward, dict(model.named_parameters()), inputs, labels, differentiable)
        assert count.waits.total() + count.pageable.total() <= allowed, count.lines()
