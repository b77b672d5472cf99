"""`LearnedEditor` starts as gradient descent, equals the formula factor by factor, and learns by its gradients."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn import functional

from editable.editing import BaseEditor, EditResult, LearnedEditor
from editable.editing.editors.learned_editor import FactorTransform
from editable.errors import UserError
from editable.models import SplitNetwork, cifar_resnet
from editable.tasks import EditableTrainingTask

NEVER = 1000.0  # a margin in nats that no edit of these tests reaches
LAYERS = ["3", "5"]


def small_network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(inplace=True), nn.Linear(6, 4)]
    return nn.Sequential(*layers).to(dtype)


def images_of(number: int, seed: int = 1) -> Tensor:
    return torch.randn(number, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def split() -> SplitNetwork:
    return SplitNetwork(small_network(), LAYERS)


def editor_for(split: SplitNetwork, learnt: bool = False, **options: float) -> LearnedEditor:
    """An editor for a network, with random constants if it shall have learnt something."""
    torch.manual_seed(3)
    editor = LearnedEditor(**{"rank": 5} | options)
    editor.prepare(split.params)
    if learnt:
        for constant in editor.parameters():
            constant.data += 0.2 * torch.randn_like(constant)
    return editor


def edit(editor: BaseEditor, split: SplitNetwork, images: Tensor, labels: Tensor, **options: bool) -> EditResult:
    return editor(split.suffix, split.params, split.prefix(images), labels, **options)


LABELS = torch.tensor([1, 3, 0])


def test_it_starts_as_gradient_descent(split: SplitNetwork):
    result = edit(editor_for(split, learning_rate=0.3, margin=NEVER), split, images_of(3), LABELS)
    network = small_network()
    loss = functional.cross_entropy(network(images_of(3)), LABELS)
    gradients = torch.autograd.grad(loss, [network.get_parameter(name) for name in split.names])
    for name, gradient in zip(split.names, gradients, strict=True):
        torch.testing.assert_close(result.params[name], network.get_parameter(name).detach() - 0.3 * gradient)
    assert (int(result.num_steps), bool(result.success)) == (1, False)


def transformed(transform: FactorTransform, u: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """One pair of factors, value by value."""
    scales = [math.sqrt(sum(float(x) ** 2 for x in some) / len(some) + 1e-12) for some in (u, delta)]
    both = torch.tensor([float(x) / scales[0] for x in u] + [float(x) / scales[1] for x in delta]).double()
    hidden = transform.reduce.weight @ both + transform.reduce.bias
    hidden = torch.stack([x * (1 + math.erf(float(x) / math.sqrt(2))) / 2 for x in hidden])
    change = transform.expand.weight @ hidden
    return u + scales[0] * change[: len(u)], delta + scales[1] * change[len(u) :]


@torch.no_grad()
@pytest.mark.parametrize("max_steps", [1, 3])
def test_equals_the_formula(max_steps: int, split: SplitNetwork):
    """Factors by hand: through the network of two layers, sample by sample."""
    editor = editor_for(split, learnt=True, max_steps=max_steps, margin=NEVER)
    result = edit(editor, split, images_of(3), LABELS)
    network = small_network()
    hidden = network[:3](images_of(3))
    for _ in range(max_steps):
        changes = {name: torch.zeros_like(network.get_parameter(name)) for name in split.names}
        for sample, label in zip(hidden, LABELS.tolist(), strict=True):
            between = network[3](sample)
            read = between.clamp(min=0)
            delta = network[5](read).softmax(dim=0)
            delta[label] -= 1
            delta /= 3
            before = (network[5].weight.T @ delta) * (between > 0)
            for layer, u, own in (("5", read, delta), ("3", sample, before)):
                transform = editor.transforms[f"{layer}/weight"]
                u, own = transformed(transform, u, own)
                rates = transform.log_learning_rates.exp()
                changes[f"{layer}.weight"] -= rates[0] * torch.outer(own, u)
                changes[f"{layer}.bias"] -= rates[1] * own
        for name, change in changes.items():
            network.get_parameter(name).add_(change)
    for name, value in result.params.items():
        torch.testing.assert_close(value, network.get_parameter(name), rtol=1e-8, atol=1e-10)


def test_positions_are_samples():
    """A linear layer that reads several vectors of each image: its gradient is a sum over them too."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(2), nn.Linear(4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(15, 4)).double()
    split = SplitNetwork(network, "1")
    result = edit(editor_for(split, learning_rate=0.3, margin=NEVER), split, images_of(3), LABELS)
    loss = functional.cross_entropy(network(images_of(3)), LABELS)
    for name, gradient in zip(split.names, torch.autograd.grad(loss, list(split.params.values())), strict=True):
        torch.testing.assert_close(result.params[name], network.get_parameter(name).detach() - 0.3 * gradient)


@pytest.mark.parametrize("layers", [["5.weight"], ["5"]])
def test_with_and_without_the_bias(layers: list[str]):
    split = SplitNetwork(small_network(), layers)
    editor = editor_for(split, learning_rate=1.0, max_steps=200)
    result = edit(editor, split, images_of(3), LABELS)
    assert result.success
    assert result.num_steps > 1
    assert torch.equal(split.suffix(split.prefix(images_of(3)), result.params).argmax(dim=1), LABELS)
    assert tuple(result.params) == split.names


def test_the_network_is_untouched_and_results_have_no_graph(split: SplitNetwork):
    before = copy.deepcopy(split.network.state_dict())
    for max_steps in (0, 2):
        result = edit(editor_for(split, learnt=True, max_steps=max_steps), split, images_of(3), LABELS)
        assert not any(some.requires_grad for some in (*result.params.values(), *result[1:]))
        for value in result.params.values():
            value += 1
    assert all(torch.equal(value, before[name]) for name, value in split.network.state_dict().items())
    assert all(param.grad is None for param in split.network.parameters())


def test_many_equal_one_by_one(split: SplitNetwork):
    editor = editor_for(split, learnt=True, max_steps=4)
    images, labels = images_of(6), torch.tensor([0, 1, 2, 3, 0, 1])
    features = tuple(some.unsqueeze(1) for some in split.prefix(images))
    for suffix in (split.suffix, split.edit_suffix, split.unrolled_suffix()):
        together = editor.edit_many(suffix, split.params, features, labels, suffix is not split.suffix)
        for number in range(6):
            alone = edit(editor, split, images[number : number + 1], labels[number : number + 1])
            assert together.num_steps[number] == alone.num_steps
            for name, value in alone.params.items():
                torch.testing.assert_close(together.params[name][number].detach(), value)


@pytest.mark.parametrize("max_steps", [1, 2])
def test_gradients_through_an_edit(max_steps: int, split: SplitNetwork):
    """With respect to the network's parameters, features, and all of the editor's constants."""
    editor = editor_for(split, learnt=True, max_steps=max_steps, margin=NEVER)
    features = tuple(some.detach().requires_grad_() for some in split.prefix(images_of(2)))
    others = split.prefix(images_of(4, 5))
    number, names = len(split.names), [name for name, _ in editor.named_parameters()]

    def outer(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        params = dict(zip(split.names, tensors, strict=False))
        constants = dict(zip(names, tensors[number : number + len(names)], strict=True))
        result = torch.func.functional_call(editor, constants, (split.suffix, params, features, LABELS[:2], True))
        return result.loss, split.suffix(others, result.params).square().mean()

    start = [some.detach().clone().requires_grad_() for some in (*split.params.values(), *editor.parameters())]
    assert gradcheck(outer, (*start, *features), eps=1e-7, atol=1e-4, fast_mode=True)
    gradients = torch.autograd.grad(outer(*start)[1], start)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def task_of(**options: object) -> EditableTrainingTask:
    torch.manual_seed(0)
    network = cifar_resnet(4, 2, (1, 1, 1, 1), 1).double()
    editor = LearnedEditor(rank=4, learning_rate=1.0)
    return EditableTrainingTask(network, editor, ["fc"], c_edit=1.0, c_loc=1.0, edits_per_batch=4, **options).double()


def test_editable_training_trains_it():
    task = task_of(editor_learning_rate=1e-2)
    assert [name for name, _ in task.editor.named_parameters()] == [
        f"transforms.fc/weight.{name}"
        for name in ("log_learning_rates", "reduce.weight", "reduce.bias", "expand.weight")
    ]
    (_, own) = task.parameter_groups()
    assert own["params"] == list(task.editor.parameters())
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(16, 1, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (16,), generator=generator)
    optimizer = torch.optim.Adam(task.editor.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        logits, features = task.unedited_pass(images)
        terms = task.loss_terms(logits, features, (images, labels), task.draw_edits(16, 4, 0))
        losses.append(float(terms.edit.detach() + terms.locality.detach()))
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    again = task_of()
    again.load_state_dict(task.state_dict())
    assert all(torch.equal(value, task.state_dict()[name]) for name, value in again.state_dict().items())


def test_prepared_twice_it_keeps_what_it_has_learnt(split: SplitNetwork):
    editor = editor_for(split, learnt=True)
    before = copy.deepcopy(editor.state_dict())
    editor.prepare(split.params)
    assert all(torch.equal(value, before[name]) for name, value in editor.state_dict().items())


def test_another_learning_rate(split: SplitNetwork):
    editor = editor_for(split, learning_rate=0.3, margin=NEVER)
    slower = editor.with_learning_rate(0.03)
    changes = [
        edit(some, split, images_of(3), LABELS).params["5.bias"] - split.params["5.bias"].detach()
        for some in (editor, slower)
    ]
    torch.testing.assert_close(changes[0], 10 * changes[1])
    assert slower.learning_rate == 0.03
    with pytest.raises(UserError, match="learning_rate must be positive, got -1"):
        editor.with_learning_rate(-1)


class TestMistakes:
    def test_layers_that_are_not_linear(self):
        network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4, 4)).double()
        split = SplitNetwork(network, "all")
        with pytest.raises(
            UserError, match=r"of linear layers, but '0.bias' is none, of shape \[4\]: name linear layers"
        ):
            LearnedEditor().prepare(split.params)
        with pytest.raises(UserError, match=r"'0\.weight' is none"):
            LearnedEditor().prepare({"0.weight": network[0].weight})

    def test_nothing_learnt(self, split: SplitNetwork):
        with pytest.raises(
            UserError, match=r"has learnt nothing for '3\.weight': train it there by EditableTrainingTask"
        ):
            edit(LearnedEditor(), split, images_of(3), LABELS)

    def test_a_weight_that_is_used_otherwise(self):
        class Product(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.randn(4, 12).double())

            def forward(self, x: Tensor) -> Tensor:
                return x @ self.weight.T

        split = SplitNetwork(nn.Sequential(nn.Flatten(), Product()), "1")
        with pytest.raises(UserError, match=r"'1\.weight' is not used as one by the network"):
            edit(editor_for(split), split, images_of(3), LABELS)

    def test_a_label_that_is_no_class(self, split: SplitNetwork):
        with pytest.raises(UserError, match="label 4 was asked for"):
            edit(editor_for(split), split, images_of(1), torch.tensor([4]))


def test_configuration():
    written = LearnedEditor(rank=8, max_steps=2).configuration()
    assert written["class_path"] == "editable.editing.LearnedEditor"
    assert LearnedEditor(**written["init_args"]).configuration() == written
