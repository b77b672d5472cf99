"""`BallEditor` equals fine-tuning in place with a projection after each step, and stays in its ball along a stream."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from editable.editing import GD, Adam, BallEditor, Editor, RMSProp
from editable.editing.editors.objective import is_predicted
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.editing import reference
from tests.editing.reference import Step, conv_network, images_of, textbook_edit

LAYERS = ["3", "8"]
RULES = {
    "GD": (GD(0.3), partial(reference.gd, lr=0.3)),
    "RMSProp": (RMSProp(0.05), partial(reference.rmsprop, lr=0.05)),
    "Adam": (Adam(0.05), partial(reference.adam, lr=0.05)),
}


def projected(step: Step, centre: list[Tensor], radius: float, norm: str) -> Step:
    """A step in place, and then the nearest point of the ball: entry by entry, or all tensors as one long vector."""

    def whole(params, grads, state):
        step(params, grads, state)
        moved = torch.cat([(param - middle).flatten() for param, middle in zip(params, centre, strict=True)])
        if norm == "linf":
            moved = torch.tensor([min(max(some, -radius), radius) for some in moved.tolist()], dtype=moved.dtype)
        elif moved.norm() > radius:
            moved = moved / moved.norm() * radius
        for param, middle, part in zip(params, centre, moved.split([some.numel() for some in params]), strict=True):
            param.copy_(middle + part.view_as(param))

    return whole


def size(params: dict[str, Tensor], centre: dict[str, Tensor], norm: str) -> float:
    moved = torch.cat([(params[name] - centre[name]).detach().flatten() for name in params])
    return float(moved.norm() if norm == "l2" else moved.abs().max())


@pytest.fixture
def split() -> SplitNetwork:
    return SplitNetwork(conv_network(), LAYERS)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("norm", "radius"), [("l2", 0.2), ("l2", 0.8), ("linf", 0.01), ("linf", 0.04)])
def test_equals_projection_after_every_step(split: SplitNetwork, rule: str, norm: str, radius: float):
    ours, by_hand = RULES[rule]
    images = images_of(3)
    labels = (split.suffix(split.prefix(images), split.params).argmax(dim=1) + torch.tensor([1, 2, 3])) % 5
    centre = {name: param.detach().clone() for name, param in split.params.items()}
    step = projected(by_hand, list(centre.values()), radius, norm)
    editor = BallEditor(ours, radius, norm, max_steps=5, margin=1.0)
    features = split.prefix(images)
    together = editor.edit_many(split.suffix, split.params, tuple(some[:, None] for some in features), labels)
    for edit in range(len(images)):
        own = images[edit : edit + 1], labels[edit : edit + 1]
        edited, success, num_steps = textbook_edit(split.network, split.names, step, *own, 5, 1.0)
        alone = editor(split.suffix, split.params, tuple(some[edit : edit + 1] for some in features), own[1])
        assert (bool(alone.success), int(alone.num_steps)) == (success, num_steps)
        for name, param in alone.params.items():
            expected = edited.get_parameter(name).detach()
            torch.testing.assert_close(param, expected, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(together.params[name][edit], expected, rtol=1e-9, atol=1e-11)
        assert size(alone.params, centre, norm) <= radius * (1 + 1e-12)
    assert size(split.params, centre, norm) == 0


def test_it_goes_on_as_long_as_the_editor_by_default():
    ball, plain = BallEditor(GD(0.1), 1.0), Editor(GD(0.1))
    assert (ball.max_steps, ball.margin, ball.norm) == (plain.max_steps, plain.margin, "l2")


def test_in_a_wide_ball_it_is_the_editor_to_the_bit(split: SplitNetwork):
    features, labels = split.prefix(images_of(4)), torch.tensor([1, 2, 3, 4])
    for norm in ("l2", "linf"):
        ball, plain = BallEditor(RMSProp(0.02), 1e6, norm, 30), Editor(RMSProp(0.02), 30).with_strict_success()
        one, other = (editor(split.suffix, split.params, features, labels) for editor in (ball, plain))
        assert one.success
        assert one.num_steps == other.num_steps > 0
        if norm == "l2":
            assert all(one.params[name].equal(other.params[name]) for name in one.params)
        assert is_predicted(split.suffix(features, one.params), labels).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_stream_stays_in_the_ball_around_its_beginning_and_resumes_bit_for_bit(split: SplitNetwork, norm: str):
    """Each edit alone could go as far as the radius; together they may not go farther."""
    radius = 0.3 if norm == "l2" else 0.02
    editor = BallEditor(RMSProp(0.02), radius, norm, max_steps=6, margin=5.0)
    centre = {name: param.detach().clone() for name, param in split.params.items()}
    images = images_of(6)

    def follow(params: dict, state: dict, edits: range) -> tuple[list[dict], dict]:
        left = []
        for edit in edits:
            sample = split.prefix(images[edit : edit + 1])
            result, state = editor.extend(split.suffix, params, sample, [edit % 5], state)
            params = result.params
            left.append(params)
        return left, state

    left, _ = follow(dict(split.params), {}, range(6))
    assert all(size(params, centre, norm) <= radius * (1 + 1e-12) for params in left)
    assert size(left[-1], left[0], norm) > 0.1 * radius
    first, state = follow(dict(split.params), {}, range(3))
    kept = {name: some.clone() for name, some in state.items()}
    second, _ = follow({name: some.clone() for name, some in first[-1].items()}, kept, range(3, 6))
    assert all(second[-1][name].equal(left[-1][name]) for name in left[-1])
    assert all(some.data_ptr() != split.params[name].data_ptr() for name, some in state.items())


def test_differentiable_through_the_projection():
    """The change of an edit that ends on the ball's border does not grow with the learning rate, within it it does."""
    network = nn.Linear(3, 2).double()
    params = {name: param.detach() for name, param in network.named_parameters()}

    def forward(inputs, params):
        return torch.func.functional_call(network, params, inputs)

    x = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = [int(forward(x, params).argmin())]
    for radius, outside in ((1e-3, True), (1e3, False)):
        editor = BallEditor(GD(0.5, learn_learning_rate=True), radius, max_steps=1, margin=50.0)
        result = editor(forward, params, x, label, differentiable=True)
        change = torch.stack([(result.params[name] - params[name]).square().sum() for name in params]).sum()
        (gradient,) = torch.autograd.grad(change, editor.rule.log_learning_rate)
        # inside, the change is α·g, whose square has the derivative 2α²g² = 2·change by log α
        expected = 0.0 if outside else 2 * change.item()
        assert gradient.item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_rank_of_its_change(split: SplitNetwork):
    network = SplitNetwork(conv_network(num_classes=30), ["8"])
    features, labels = network.prefix(images_of(3)), torch.tensor([1, 2, 3])
    editor = BallEditor(GD(1.0), 0.5, max_steps=4, margin=9.0)
    change = editor(network.suffix, network.params, features, labels).params["8.weight"] - network.params["8.weight"]
    assert torch.linalg.matrix_rank(change.detach()) <= editor.rank_of_change(3) == 12
    assert BallEditor(GD(1.0), 0.5, "linf").rank_of_change(3) is None
    assert BallEditor(RMSProp(1.0), 0.5).rank_of_change(3) is None


def test_what_nobody_can_mean_ends_in_a_sentence(split: SplitNetwork):
    with pytest.raises(UserError, match="norm must be one of l2, linf, got 'l1'"):
        BallEditor(GD(0.1), 1.0, "l1")
    with pytest.raises(UserError, match="radius must be positive, got 0"):
        BallEditor(GD(0.1), 0.0)
    features = split.prefix(images_of(1))
    _, state = BallEditor(GD(0.1), 1.0).extend(split.suffix, dict(split.params), features, [1], {})
    with pytest.raises(UserError, match=r"began with 3\.bias.*edit the same parameters"):
        BallEditor(GD(0.1), 1.0).extend(split.suffix, {"8.bias": split.params["8.bias"]}, features, [1], state)


def test_contradicting_labels_and_nan_do_not_succeed(split: SplitNetwork):
    editor = BallEditor(GD(0.1), 1.0, max_steps=3)
    twice = tuple(torch.cat([some, some]) for some in split.prefix(images_of(1)))
    assert not editor(split.suffix, split.params, twice, [1, 2]).success
    assert not editor(split.suffix, split.params, tuple(some * torch.nan for some in twice), [1, 1]).success
