"""`Editor` equals the textbook recursion on deep copies, one edit at a time or many at once, and is differentiable."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torchvision.models.vision_transformer import VisionTransformer

from editable.editing import GD, Adam, AdaptiveRProp, Editor, EditResult, Momentum, RMSProp, RProp, ScaledGD
from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.split.form_table import FORMS
from tests.editing import reference
from tests.editing.reference import conv_network, images_of, textbook_edit

LAYERS = ["3", "8"]
NEVER = 1000.0  # a margin in nats that no edit of these tests reaches
RULES = {
    "GD": (GD(0.05), partial(reference.gd, lr=0.05)),
    "ScaledGD": (ScaledGD(0.15), partial(reference.scaled_gd, lr=0.15)),
    "Momentum": (Momentum(0.03), partial(reference.momentum, lr=0.03)),
    "RMSProp": (RMSProp(0.02), partial(reference.rmsprop, lr=0.02)),
    "RProp": (RProp(0.02), partial(reference.rprop, lr=0.02)),
    "AdaptiveRProp": (AdaptiveRProp(0.02), partial(reference.adaptive_rprop, lr=0.02)),
    "Adam": (Adam(0.02), partial(reference.adam, lr=0.02)),
}
# Adam's default ε is so small that finite differences cannot resolve the slope where a feature is exactly zero.
SMOOTH_RULES = {
    "GD": GD,
    "ScaledGD": ScaledGD,
    "Momentum": Momentum,
    "RMSProp": RMSProp,
    "Adam": partial(Adam, epsilon=1e-6),
}
every_rule = pytest.mark.parametrize("rule", RULES)


@pytest.fixture
def network() -> nn.Module:
    return conv_network()


@pytest.fixture
def split(network: nn.Module) -> SplitNetwork:
    return SplitNetwork(network, LAYERS)


def predictions(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(network).eval()(images).argmax(dim=-1)


def some_edits(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Six images, each with the network's own label for the first, and some other label for the rest."""
    images = images_of(6)
    return images, (predictions(network, images) + torch.tensor([0, 1, 2, 3, 4, 2])) % 5


def edit_one(editor: Editor, split: SplitNetwork, images: Tensor, labels: Tensor, **options: bool) -> EditResult:
    return editor(split.suffix, split.params, split.prefix(images), labels, **options)


def edit_all(editor: Editor, split: SplitNetwork, images: Tensor, labels: Tensor, **options: bool) -> EditResult:
    features = tuple(feature.unsqueeze(1) for feature in split.prefix(images))
    return editor.edit_many(split.suffix, split.params, features, labels.unsqueeze(1), **options)


def take(together: EditResult, edit: int) -> EditResult:
    """One of the edits that ran at once."""
    params = {name: value[edit] for name, value in together.params.items()}
    return EditResult(params, *(field[edit] for field in together[1:]))


def assert_params(params: dict[str, Tensor], network: nn.Module) -> None:
    for name, value in params.items():
        torch.testing.assert_close(value.detach(), network.get_parameter(name).detach(), rtol=1e-9, atol=1e-11)


@every_rule
@pytest.mark.parametrize("differentiable", [False, True])
def test_equals_the_textbook_recursion(rule: str, differentiable: bool, network: nn.Module, split: SplitNetwork):
    ours, by_hand = RULES[rule]
    images, labels = some_edits(network)
    outcomes = []
    for max_steps in (1, 8):
        together = edit_all(Editor(ours, max_steps), split, images, labels, differentiable=differentiable)
        assert together.success.shape == together.num_steps.shape == together.loss.shape == (6,)
        for edit in range(len(images)):
            image, label = images[edit : edit + 1], labels[edit : edit + 1]
            edited, success, num_steps = textbook_edit(network, split.names, by_hand, image, label, max_steps)
            alone = edit_one(Editor(ours, max_steps), split, image, label, differentiable=differentiable)
            assert alone.num_steps.dtype == torch.int64
            assert alone.success.dtype == torch.bool
            for result in (alone, take(together, edit)):
                assert (bool(result.success), int(result.num_steps)) == (success, num_steps)
                assert_params(result.params, edited)
                expected = reference.margin_loss(edited(image), label)
                torch.testing.assert_close(result.loss.detach(), expected.detach(), rtol=1e-9, atol=1e-11)
            outcomes.append((success, num_steps))
    # The edits are worth the name: one that needs no step, one that needs several, and one that fails.
    assert (True, 0) in outcomes
    assert any(success and num_steps > 1 for success, num_steps in outcomes)
    assert (False, 1) in outcomes


class Unrolled(Editor):
    """Makes all steps wherever it is, as differentiable edits do on a device."""

    def _stop_early(self, objective, update, current, state, inputs, targets, differentiable):
        return self._unroll(objective, update, current, state, inputs, targets)


@every_rule
def test_unrolled_edits_are_those_that_stop_early(rule: str, network: nn.Module, split: SplitNetwork):
    """Those that succeed at once, late or never: the same parameters, figures and gradients."""
    images, labels = some_edits(network)
    found, wanted = [], list(network.parameters())
    for kind in (Editor, Unrolled):
        result = edit_all(kind(RULES[rule][0], 6), split, images, labels, differentiable=True)
        score = result.loss.sum() + sum(some.square().sum() for some in result.params.values())
        gradients = torch.autograd.grad(score, wanted, allow_unused=True)
        found.append((*result.params.values(), *result[1:], *(some for some in gradients if some is not None)))
    assert len(found[0]) > len(result), "with gradients"
    assert len(result.num_steps.unique()) > 2
    assert result.num_steps.dtype == torch.int64
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_several_samples_in_one_edit(margin: float, network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    step = partial(reference.gd, lr=0.05)
    edited, success, num_steps = textbook_edit(network, split.names, step, images[:3], labels[:3], 6, margin)
    result = edit_one(Editor(GD(0.05), 6, margin), split, images[:3], labels[:3])
    assert (bool(result.success), int(result.num_steps)) == (success, num_steps)
    assert_params(result.params, edited)
    stacked = tuple(torch.stack([f[:3], f[3:]]) for f in split.prefix(images))
    both = Editor(GD(0.05), 6, margin).edit_many(split.suffix, split.params, stacked, labels.view(2, 3))
    assert_params({name: value[0] for name, value in both.params.items()}, edited)


def test_a_margin_makes_edits_longer(network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    plain = edit_all(Editor(GD(0.02), 50), split, images, labels)
    wide = edit_all(Editor(GD(0.02), 50, margin=1.0), split, images, labels)
    assert plain.success.all()
    assert wide.success.all()
    assert (wide.num_steps >= plain.num_steps).all()
    assert wide.num_steps.sum() > plain.num_steps.sum()
    for edit in range(6):
        params = {name: value[edit] for name, value in wide.params.items()}
        log_p = split.suffix(split.prefix(images[edit : edit + 1]), params)[0].log_softmax(-1)
        others = log_p[torch.arange(5) != labels[edit]]
        assert log_p[labels[edit]] >= others.max() + 1.0 - 1e-9


def test_no_updates_are_allowed(network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    result = edit_all(Editor(GD(0.1), max_steps=0), split, images, labels)
    assert result.num_steps.tolist() == [0] * 6
    assert result.success.tolist() == [True] + [False] * 5
    for name, value in result.params.items():
        assert torch.equal(value, network.get_parameter(name).expand_as(value))


@pytest.mark.parametrize("max_steps", [0, 1, 4])
def test_k_updates_see_k_plus_one_checks(max_steps: int, network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    evaluations = []

    def counted(features, params):
        evaluations.append({name: value.detach().clone() for name, value in params.items()})
        return split.suffix(features, params)

    features = split.prefix(images[1:2])
    result = Editor(GD(0.01), max_steps, NEVER)(counted, split.params, features, labels[1:2])
    assert len(evaluations) == max_steps + 1
    assert int(result.num_steps) == max_steps
    assert not result.success
    assert all(torch.equal(evaluations[-1][name], value) for name, value in result.params.items())
    evaluations.clear()
    Editor(GD(0.01), max_steps)(counted, split.params, split.prefix(images[:1]), labels[:1])
    assert len(evaluations) == 1  # the first check succeeds


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_untouched(training: bool, differentiable: bool, network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    network.train(training)
    for param in network.parameters():
        param.grad = torch.rand_like(param)
    before = copy.deepcopy(network.state_dict())
    grads = {name: param.grad.clone() for name, param in network.named_parameters()}
    editor = Editor(RMSProp(0.02, learn_decay=True), 5)
    edit_one(editor, split, images[1:2], labels[1:2], differentiable=differentiable)
    edit_all(editor, split, images, labels, differentiable=differentiable)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(torch.equal(param.grad, grads[name]) for name, param in network.named_parameters())
    assert all(module.training == training for module in network.modules())
    assert all(param.requires_grad for param in network.parameters())
    assert all(constant.grad is None for constant in editor.parameters())


@pytest.mark.parametrize("max_steps", [0, 3])
def test_a_result_shares_no_memory_with_the_network(max_steps: int, network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    before = copy.deepcopy(network.state_dict())
    results = [
        edit_one(Editor(GD(0.1), max_steps), split, images[:1], labels[:1]).params,
        edit_all(Editor(GD(0.1), max_steps), split, images[:1], labels[:1]).params,
        edit_all(Editor(GD(0.1), max_steps), split, images, labels).params,
    ]
    for params in results:
        for value in params.values():
            value.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_plain_result_has_no_graph(network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    editor = Editor(RMSProp(0.02, learn_learning_rate=True, learn_decay=True), 2)
    for result in (edit_one(editor, split, images[1:2], labels[1:2]), edit_all(editor, split, images, labels)):
        assert not any(tensor.requires_grad for tensor in (*result.params.values(), *result[1:]))


def test_under_no_grad_and_from_frozen_parameters(network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    expected = edit_all(Editor(GD(0.05)), split, images, labels)
    with torch.no_grad():
        silent = edit_all(Editor(GD(0.05)), split, images, labels)
    network.requires_grad_(False)
    frozen = edit_all(Editor(GD(0.05)), split, images, labels)
    rule = GD(0.05, learn_learning_rate=True).double()
    differentiable = edit_all(Editor(rule), split, images, labels, differentiable=True)
    for name, value in expected.params.items():
        assert torch.equal(silent.params[name], value)
        assert torch.equal(frozen.params[name], value)
        torch.testing.assert_close(differentiable.params[name].detach(), value, rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(differentiable.params["8.bias"].square().sum(), rule.log_learning_rate)
    assert gradient != 0


def test_a_parameter_without_influence_stays(network: nn.Module):
    auxiliary = nn.Parameter(torch.ones(3, dtype=torch.float64))
    images, labels = some_edits(network)
    whole = lambda inputs, params: torch.func.functional_call(  # noqa: E731
        network.eval(), {name: value for name, value in params.items() if name != "auxiliary"}, inputs
    )
    params = {"8.weight": network[8].weight, "auxiliary": auxiliary}
    for differentiable in (False, True):
        result = Editor(RMSProp(0.02))(whole, params, images[1:2], labels[1:2], differentiable)
        assert result.success
        assert torch.equal(result.params["auxiliary"], auxiliary)


@pytest.mark.parametrize("rule", SMOOTH_RULES)
def test_gradients_through_an_edit(rule: str, network: nn.Module, split: SplitNetwork):
    """With respect to parameters, prefix features and the rule's learnable constants, against finite differences."""
    images, labels = some_edits(network)
    learnable = {} if rule in ("GD", "ScaledGD") else {"learn_decay": True}
    constants = SMOOTH_RULES[rule](0.02, learn_learning_rate=True, **learnable).double()
    editor = Editor(constants, 3, NEVER)
    features = tuple(feature.detach().requires_grad_() for feature in split.prefix(images[1:2]))
    others = split.prefix(images[2:])

    def outer(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        params = dict(zip(split.names, tensors, strict=False))
        result = editor(split.suffix, params, features, labels[1:2], differentiable=True)
        return result.loss, split.suffix(others, result.params).square().mean()

    start = tuple(param.detach().clone().requires_grad_() for param in split.params.values())
    assert gradcheck(outer, (*start, *features, *constants.parameters()), eps=1e-7, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("max_steps", [2, 6])
def test_meta_gradients_of_many_equal_one_by_one(max_steps: int, network: nn.Module, split: SplitNetwork):
    """Edits that stop at different steps: each has its own share of the gradient."""
    images, labels = some_edits(network)
    rule = RMSProp(0.02, learn_learning_rate=True, learn_decay=True).double()
    editor = Editor(rule, max_steps)
    features = tuple(feature.detach().requires_grad_() for feature in split.prefix(images))
    wanted = [*split.params.values(), *features, *rule.parameters()]

    def outer(result: EditResult) -> Tensor:
        return result.loss.sum() + sum((value**3).sum() for value in result.params.values())

    stacked = tuple(feature.unsqueeze(1) for feature in features)
    many = editor.edit_many(split.suffix, split.params, stacked, labels.unsqueeze(1), differentiable=True)
    singles = [
        editor(split.suffix, split.params, tuple(f[e : e + 1] for f in features), labels[e : e + 1], True)
        for e in range(6)
    ]
    assert len(set(many.num_steps.tolist())) > 1
    assert many.num_steps.tolist() == [int(single.num_steps) for single in singles]
    together = torch.autograd.grad(outer(many), wanted)
    one_by_one = torch.autograd.grad(sum(outer(single) for single in singles), wanted)
    for first, second in zip(together, one_by_one, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("differentiable", [False, True])
def test_large_edits_on_a_cpu_are_made_one_by_one(
    differentiable: bool, network: nn.Module, split: SplitNetwork, monkeypatch: pytest.MonkeyPatch
):
    """As the loop over single edits, bit for bit, and no pass has more than one edit's samples."""
    limit = sum(param.nbytes for param in split.params.values()) - 1
    monkeypatch.setitem(FORMS, "cpu", FORMS["cpu"]._replace(one_by_one_bytes=limit))
    images, labels = some_edits(network)
    editor, features, passes = Editor(RMSProp(0.02)), split.prefix(images), []

    def forward(inputs, params):
        passes.append(params)
        return split.suffix(inputs, params)

    stacked = tuple(feature.unsqueeze(1) for feature in features)
    many = editor.edit_many(forward, split.params, stacked, labels.unsqueeze(1), differentiable)
    assert len(passes) == (many.num_steps + 1).sum() > many.num_steps.max() + 1
    for edit, steps in enumerate(many.num_steps.tolist()):
        sample = tuple(feature[edit : edit + 1] for feature in features)
        single = editor(split.suffix, split.params, sample, labels[edit : edit + 1], differentiable)
        assert steps == single.num_steps
        assert all(torch.equal(many.params[name][edit], value) for name, value in single.params.items())


def test_an_edit_without_steps_is_the_identity_for_gradients(network: nn.Module, split: SplitNetwork):
    images, labels = some_edits(network)
    result = edit_one(Editor(RMSProp(0.02)), split, images[:1], labels[:1], differentiable=True)
    weights = {name: torch.rand_like(value) for name, value in result.params.items()}
    total = result.loss + sum((value * weights[name]).sum() for name, value in result.params.items())
    for (name, _), gradient in zip(
        split.params.items(), torch.autograd.grad(total, list(split.params.values())), strict=True
    ):
        assert torch.equal(gradient, weights[name])


@pytest.mark.parametrize("differentiable", [False, True])
def test_autocast_does_not_reach_the_inner_loop(differentiable: bool):
    network = conv_network(dtype=torch.float32)
    split, images = SplitNetwork(network, LAYERS), images_of(6, dtype=torch.float32)
    labels = (predictions(network, images) + 1) % 5
    features = tuple(feature.detach().unsqueeze(1) for feature in split.prefix(images))
    arguments = (split.suffix, split.params, features, labels.unsqueeze(1), differentiable)
    editor = Editor(RMSProp(0.01))
    expected = editor.edit_many(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        result = editor.edit_many(*arguments)
        half = split.prefix(images)
        assert half[0].dtype == torch.bfloat16  # the prefix is free to use it
        from_half = editor(split.suffix, split.params, tuple(f[:1] for f in half), labels[:1], differentiable)
    for name, value in expected.params.items():
        assert torch.equal(result.params[name], value)
    assert torch.equal(result.loss, expected.loss)
    from_float = editor(split.suffix, split.params, tuple(f[:1].float() for f in half), labels[:1], differentiable)
    for name, value in from_float.params.items():
        assert value.dtype == torch.float32
        assert torch.equal(from_half.params[name], value)
    if differentiable:
        with torch.autocast("cpu", torch.bfloat16):
            loss = editor.edit_many(*arguments).params["8.weight"].sum()
        (with_autocast,) = torch.autograd.grad(loss, split.params["3.weight"])
        (without,) = torch.autograd.grad(expected.params["8.weight"].sum(), split.params["3.weight"])
        assert torch.equal(with_autocast, without)


class Attention(nn.Module):
    """A network around `nn.MultiheadAttention`, which has a fused kernel without a second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.flatten(1, 2))
        return self.head(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]).mean(dim=1)


def attentive(name: str) -> tuple[nn.Module, list[str], Tensor]:
    torch.manual_seed(0)
    if name == "attention":
        return Attention().double(), ["attention"], images_of(4)
    vit = VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5).double()
    nn.init.normal_(vit.heads.head.weight)  # torchvision starts it at zero
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return vit, ["encoder.layers.encoder_layer_1"], images


@pytest.mark.filterwarnings("ignore:.*batching rule.*:UserWarning")
@pytest.mark.parametrize("name", ["attention", "vit"])
def test_networks_with_attention(name: str):
    network, layers, images = attentive(name)
    split = SplitNetwork(network, layers)
    labels = (predictions(network, images) + 1) % 5
    step = partial(reference.gd, lr=0.1)
    for differentiable in (False, True):
        many = edit_all(Editor(GD(0.1), 3), split, images, labels, differentiable=differentiable)
        for edit in range(4):
            image, label = images[edit : edit + 1], labels[edit : edit + 1]
            edited, success, num_steps = textbook_edit(network, split.names, step, image, label, 3)
            alone = edit_one(Editor(GD(0.1), 3), split, image, label, differentiable=differentiable)
            assert (bool(alone.success), int(alone.num_steps)) == (success, num_steps)
            assert (bool(many.success[edit]), int(many.num_steps[edit])) == (success, num_steps)
            assert_params(alone.params, edited)
            assert_params({key: value[edit] for key, value in many.params.items()}, edited)

    features = tuple(feature.detach().requires_grad_() for feature in split.prefix(images[:1]))

    def outer(*tensors: Tensor) -> Tensor:
        params = dict(zip(split.names, tensors, strict=False))
        result = Editor(GD(0.1), 2, NEVER)(split.suffix, params, features, labels[:1], differentiable=True)
        return result.loss + sum(value.square().sum() for value in result.params.values())

    start = tuple(param.detach().clone().requires_grad_() for param in split.params.values())
    assert gradcheck(outer, (*start, *features), fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("many", [False, True])
class TestMistakes:
    """Mistakes of the user raise a `UserError` with the offending value, from both ways of editing."""

    def edit(self, split: SplitNetwork, many: bool, labels: list[int], params: dict | None = None, number: int = 1):
        params = split.params if params is None else params
        features, targets = split.prefix(images_of(number)), torch.tensor(labels)
        if not many:
            return Editor(GD(0.1))(split.suffix, params, features, targets)
        stacked = tuple(feature.unsqueeze(1) for feature in features)
        return Editor(GD(0.1)).edit_many(split.suffix, params, stacked, targets.unsqueeze(1))

    @pytest.mark.parametrize("label", [5, 99, -1])
    def test_label_out_of_range(self, split: SplitNetwork, many: bool, label: int):
        with pytest.raises(UserError, match=f"label {label} was asked for, .* 0 … 4"):
            self.edit(split, many, [label])
        with pytest.raises(UserError, match=f"label {label} "):
            self.edit(split, many, [1, label, 2], number=3)

    def test_inference_mode(self, split: SplitNetwork, many: bool):
        with torch.inference_mode(), pytest.raises(UserError, match="inference mode"):
            self.edit(split, many, [1])

    def test_no_parameters(self, split: SplitNetwork, many: bool):
        with pytest.raises(UserError, match="at least one parameter"):
            self.edit(split, many, [1], params={})

    def test_no_samples(self, split: SplitNetwork, many: bool):
        with pytest.raises(UserError, match="at least one sample"):
            Editor(GD(0.1)).edit_many(split.suffix, split.params, (), torch.zeros(0, 1, dtype=torch.int64))
        with pytest.raises(UserError, match="at least one sample"):
            Editor(GD(0.1))(split.suffix, split.params, (), torch.zeros(0, dtype=torch.int64))


def test_negative_max_steps():
    with pytest.raises(UserError, match="max_steps must be at least 0, got -1"):
        Editor(GD(0.1), max_steps=-1)


def test_the_rules_constants_are_the_editors_parameters():
    editor = Editor(RMSProp(0.01, learn_decay=True), max_steps=7, margin=0.5)
    assert [name for name, _ in editor.named_parameters()] == ["rule.logit_decay"]
    assert "max_steps=7" in repr(editor)
    assert "margin=0.5" in repr(editor)


@every_rule
def test_rank_of_its_change(rule: str):
    """Rules that add up gradients change a linear layer by at most one rank for each sample and step."""
    split = SplitNetwork(conv_network(num_classes=20), ["8"])
    ours, _ = RULES[rule]
    result = edit_one(Editor(ours, 3, NEVER), split, images_of(2), torch.tensor([3, 8]))
    change = (result.params["8.weight"] - split.params["8.weight"]).detach()
    if rule in ("GD", "ScaledGD", "Momentum"):
        assert torch.linalg.matrix_rank(change, rtol=1e-9) <= Editor(ours, 3).rank_of_change(2) == 6
    else:
        assert Editor(ours, 3).rank_of_change(2) is None
