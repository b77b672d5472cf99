"""`HigherEditor` and `Editor` check each other: same edits, same meta-gradients, two independent implementations."""

import copy
from functools import partial

import higher
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from editable.editing import GD, Adam, BaseEditor, Editor, EditResult, HigherEditor, Momentum, RMSProp, RProp
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.editing.reference import conv_network, images_of

NEVER = 1000.0  # a margin in nats that no edit of these tests reaches
OPTIMIZERS = {
    "SGD": (partial(torch.optim.SGD, lr=0.05), GD(0.05)),
    "momentum": (partial(torch.optim.SGD, lr=0.03, momentum=0.8), Momentum(0.03, decay=0.8)),
    "Adam": (partial(torch.optim.Adam, lr=0.02, betas=(0.7, 0.9), eps=0.0), Adam(0.02, 0.7, 0.9, epsilon=0.0)),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


@pytest.fixture
def split() -> SplitNetwork:
    return SplitNetwork(conv_network(), ["3", "8"])


@pytest.fixture
def smooth_split() -> SplitNetwork:
    """A split whose edited layer has no zero gradient, where Adam without ε is differentiable."""
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(72, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 5))
    return SplitNetwork(nn.Sequential(*layers).double(), "3")


def edit_all(editor: BaseEditor, split: SplitNetwork, differentiable: bool) -> EditResult:
    images = images_of(6)
    features = tuple(feature.unsqueeze(1) for feature in split.prefix(images))
    labels = split.network.eval()(images).argmax(dim=-1) + torch.tensor([0, 1, 2, 3, 4, 2])
    return editor.edit_many(split.suffix, split.params, features, labels.unsqueeze(1) % 5, differentiable)


@every_optimizer
@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("max_steps", [0, 2, 8])
def test_equals_editor(name: str, differentiable: bool, max_steps: int, smooth_split: SplitNetwork):
    optimizer, rule = OPTIMIZERS[name]
    ours = edit_all(Editor(rule, max_steps), smooth_split, differentiable)
    theirs = edit_all(HigherEditor(optimizer, max_steps), smooth_split, differentiable)
    assert theirs.num_steps.tolist() == ours.num_steps.tolist()
    assert theirs.success.tolist() == ours.success.tolist()
    torch.testing.assert_close(theirs.loss, ours.loss, rtol=1e-9, atol=1e-12)
    for key, value in ours.params.items():
        torch.testing.assert_close(theirs.params[key], value, rtol=1e-9, atol=1e-12)
    if max_steps == 8:
        assert len(set(ours.num_steps.tolist())) > 2


@every_optimizer
def test_meta_gradients_equal_editor(name: str, smooth_split: SplitNetwork):
    optimizer, rule = OPTIMIZERS[name]
    wanted = list(smooth_split.network.parameters())
    gradients = []
    for editor in (Editor(rule, 4), HigherEditor(optimizer, 4)):
        result = edit_all(editor, smooth_split, differentiable=True)
        assert result.num_steps.max() > 2
        total = result.loss.sum() + sum((value**3).sum() for value in result.params.values())
        gradients.append(torch.autograd.grad(total, wanted))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ["SGD", "momentum"])
def test_meta_gradients_through_a_convolutional_network(name: str, split: SplitNetwork):
    optimizer, rule = OPTIMIZERS[name]
    wanted = list(split.network.parameters())
    gradients = []
    for editor in (Editor(rule, 3, NEVER), HigherEditor(optimizer, 3, NEVER)):
        result = edit_all(editor, split, differentiable=True)
        gradients.append(torch.autograd.grad(result.loss.sum(), wanted))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-11)


def bowl(inputs: Tensor, params: dict[str, Tensor]) -> Tensor:
    """Two logits whose difference, so the edit objective but for its margin, is Σ w²/2."""
    return torch.stack([(params["w"] ** 2 / 2).sum() + 0 * inputs.sum(), inputs.new_zeros(())]).unsqueeze(0)


def slope(editor: BaseEditor, start: list[float]) -> Tensor:
    """The derivative of each edited weight with respect to itself before the edit."""
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    inputs, label = torch.zeros(1, dtype=torch.float64), torch.tensor([1])
    edited = editor(bowl, {"w": w}, inputs, label, differentiable=True).params["w"]
    return torch.autograd.grad(edited.sum(), w)[0]


@pytest.mark.filterwarnings("ignore:Differentiable RMSprop")
def test_where_torch_rmsprop_cannot_be_differentiated():
    """At g = 0 an ε outside the root makes the slope 1 − α/ε, and NaN where it is centred; ours is 1 − α/√ε."""
    plain = partial(torch.optim.RMSprop, lr=0.01, eps=1e-8)
    # a weight with g = 0 beside one with g ≠ 0; for w ≠ 0 the first update is α·sign(w) times a constant: slope 1
    assert slope(HigherEditor(plain, 1, NEVER), [0.0, 2.0]).tolist() == pytest.approx([1 - 1e-2 / 1e-8, 1.0])
    centred = slope(HigherEditor(partial(plain, centered=True), 1, NEVER), [0.0, 2.0])
    assert centred[0].isnan()
    ours = slope(Editor(RMSProp(0.01, epsilon=1e-6), 1, NEVER), [0.0, 2.0])
    assert ours.tolist() == pytest.approx([1 - 1e-2 / 1e-3, 1.0], rel=1e-6)

    def edited(w: Tensor) -> Tensor:
        label = torch.tensor([1])
        return Editor(RMSProp(0.01), 3, NEVER)(bowl, {"w": w}, w.new_zeros(1), label, True).params["w"]

    assert gradcheck(
        edited, torch.tensor([0.0, 2.0, -0.3], dtype=torch.float64, requires_grad=True), eps=1e-8, atol=1e-4
    )


@pytest.mark.filterwarnings("ignore:Differentiable RMSprop")
def test_torch_rmsprop_agrees_with_finite_differences_away_from_zero_gradients(smooth_split: SplitNetwork):
    features, label = tuple(f.detach() for f in smooth_split.prefix(images_of(1))), torch.tensor([2])

    def final(*values: Tensor) -> tuple[Tensor, ...]:
        editor = HigherEditor(partial(torch.optim.RMSprop, lr=0.01, alpha=0.5), 3, NEVER)
        params = dict(zip(smooth_split.names, values, strict=True))
        return tuple(editor(smooth_split.suffix, params, features, label, differentiable=True).params.values())

    start = tuple(param.detach().clone().requires_grad_() for param in smooth_split.params.values())
    # higher's hooks cannot take the undefined gradients that gradcheck would also try
    assert gradcheck(final, start, check_undefined_grad=False)


class SignDescent(torch.optim.Optimizer):
    """A user's own optimizer."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, {"lr": lr})


class DifferentiableSignDescent(higher.optim.DifferentiableOptimizer):
    """The same, as `higher` wants it."""

    def _update(self, grouped_grads, **kwargs) -> None:
        for group, grads in zip(self.param_groups, grouped_grads, strict=True):
            group["params"] = [
                param - group["lr"] * grad.sign() for param, grad in zip(group["params"], grads, strict=True)
            ]


def test_a_users_own_optimizer(split: SplitNetwork, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(higher.optim, "_opt_mapping", dict(higher.optim._opt_mapping))
    higher.register_optim(SignDescent, DifferentiableSignDescent)
    theirs = edit_all(HigherEditor(partial(SignDescent, lr=0.02), 6), split, differentiable=True)
    ours = edit_all(Editor(RProp(0.02), 6), split, differentiable=True)
    assert theirs.num_steps.tolist() == ours.num_steps.tolist()
    for key, value in ours.params.items():
        torch.testing.assert_close(theirs.params[key], value, rtol=1e-9, atol=1e-12)


@every_optimizer
@pytest.mark.parametrize("max_steps", [0, 3])
def test_a_plain_result_has_no_graph_and_shares_no_memory(name: str, max_steps: int, smooth_split: SplitNetwork):
    before = copy.deepcopy(smooth_split.network.state_dict())
    editor = HigherEditor(OPTIMIZERS[name][0], max_steps)
    features, label = smooth_split.prefix(images_of(1)), torch.tensor([2])
    result = editor(smooth_split.suffix, smooth_split.params, features, label)
    assert not any(tensor.requires_grad for tensor in (*result.params.values(), *result[1:]))
    for value in result.params.values():
        value.add_(1.0)
    assert all(torch.equal(value, before[key]) for key, value in smooth_split.network.state_dict().items())


@every_optimizer
@pytest.mark.parametrize("differentiable", [False, True])
def test_the_network_is_untouched(name: str, differentiable: bool, split: SplitNetwork):
    network = split.network
    for param in network.parameters():
        param.grad = torch.rand_like(param)
    before = copy.deepcopy(network.state_dict())
    grads = {key: param.grad.clone() for key, param in network.named_parameters()}
    optimizer = partial(torch.optim.SGD, lr=0.1) if name == "Adam" else OPTIMIZERS[name][0]
    edit_all(HigherEditor(optimizer, 3), split, differentiable)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(torch.equal(param.grad, grads[key]) for key, param in network.named_parameters())


@pytest.mark.parametrize("differentiable", [False, True])
def test_frozen_parameters_are_edited_all_the_same(differentiable: bool, split: SplitNetwork):
    expected = edit_all(HigherEditor(OPTIMIZERS["SGD"][0], 4), split, False)
    split.network.requires_grad_(False)
    result = edit_all(HigherEditor(OPTIMIZERS["SGD"][0], 4), split, differentiable)
    assert result.num_steps.max() > 0
    assert all(torch.equal(result.params[key], value) for key, value in expected.params.items())


def test_mistakes(split: SplitNetwork):
    editor, features = HigherEditor(partial(torch.optim.SGD, lr=0.1)), split.prefix(images_of(1))
    with pytest.raises(UserError, match=r"label 5 was asked for, .* 0 … 4"):
        editor(split.suffix, split.params, features, torch.tensor([5]))
    with pytest.raises(UserError, match="at least one parameter"):
        editor(split.suffix, {}, features, torch.tensor([1]))
    with pytest.raises(UserError, match="at least one sample"):
        editor.edit_many(split.suffix, split.params, (), torch.zeros(0, 1, dtype=torch.int64))
    with torch.inference_mode(), pytest.raises(UserError, match="inference mode"):
        editor(split.suffix, split.params, features, torch.tensor([1]))
    with pytest.raises(UserError, match="max_steps must be at least 0, got -3"):
        HigherEditor(partial(torch.optim.SGD, lr=0.1), max_steps=-3)


def test_another_learning_rate_is_that_of_the_optimizer(smooth_split: SplitNetwork):
    editor = HigherEditor(partial(torch.optim.SGD, lr=0.5, momentum=0.8), 3)
    changed = edit_all(editor.with_learning_rate(0.03), smooth_split, differentiable=False)
    expected = edit_all(Editor(Momentum(0.03, decay=0.8), 3), smooth_split, differentiable=False)
    for name, value in expected.params.items():
        torch.testing.assert_close(changed.params[name], value, rtol=1e-9, atol=1e-12)
    settings = editor.configuration()["init_args"]["optimizer"]["init_args"]
    assert (settings["lr"], settings["momentum"]) == (0.5, 0.8)
    with pytest.raises(UserError, match=r"learning_rate .*-1"):
        editor.with_learning_rate(-1.0)


class Rateless(torch.optim.Optimizer):
    """Has nothing that could be set."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        super().__init__(params, {})


def test_an_optimizer_without_a_learning_rate_is_named():
    with pytest.raises(UserError, match="Rateless has no learning rate, lr, that could be set"):
        HigherEditor(Rateless).with_learning_rate(0.1).configuration()
