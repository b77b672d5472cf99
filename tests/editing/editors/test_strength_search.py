"""`StrengthSearch` finds the least strength at which labels hold, by formula on linear networks and by a fine grid."""

import copy

import pytest
import torch
from torch import nn

from editable.editing import (
    GD,
    BallEditor,
    BaseEditor,
    CodebookEditor,
    Editor,
    EditResult,
    EditSite,
    MinimalHarmEditor,
    RMSProp,
    StrengthSearch,
)
from editable.editing.editors.objective import is_predicted
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.editing.reference import conv_network, images_of

LAYERS = ["3", "8"]
STRONG = Editor(RMSProp(0.05), max_steps=40, margin=2.0)


@pytest.fixture
def split() -> SplitNetwork:
    return SplitNetwork(conv_network(), LAYERS)


def some_edits(split: SplitNetwork, number: int = 3) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    features = split.prefix(images_of(number))
    return features, (split.suffix(features, split.params).argmax(dim=1) + torch.arange(number) + 1) % 5


def strength_of(weak: EditResult, strong: EditResult, split: SplitNetwork) -> float:
    """α by which θ₀ + α(θ₁ − θ₀) is the weak edit."""
    start = torch.cat([split.params[name].detach().flatten() for name in strong.params])
    change = torch.cat([some.flatten() for some in strong.params.values()]) - start
    return float(
        (torch.cat([some.flatten() for some in weak.params.values()]) - start) @ change / change.square().sum()
    )


class Given(BaseEditor):
    """Changes one parameter to what it is given, whatever is asked."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, forward, params, inputs, targets, differentiable=False):
        edited = {name: torch.full_like(param, self.value) for name, param in params.items()}
        return EditResult(edited, torch.zeros(()), torch.tensor(True), torch.tensor(1))


@pytest.mark.parametrize(("margin", "strength"), [(1.0, 0.5), (0.5, 0.25), (1.75, 0.875)])
def test_a_lead_of_just_the_margin_is_enough(margin: float, strength: float):
    """The lead is 2α: each of these strengths is one that halving comes by, and no number is rounded."""

    def forward(inputs, params):
        return torch.stack([torch.zeros(1), params["weight"].expand(1)], dim=1)

    weak = StrengthSearch(Given(2.0), margin)(forward, {"weight": torch.zeros(1)}, torch.ones(1, 1), torch.tensor([1]))
    assert weak.params["weight"].tolist() == [2 * strength]
    assert weak.loss < 1e-6


def test_the_least_strength_by_formula():
    """The lead of a linear layer's label is linear in α: it is at the margin where α = (m − lead₀)/(lead₁ − lead₀)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 2).double())
    split, x = SplitNetwork(network, "1"), torch.randn(1, 6, dtype=torch.float64)
    label = split.suffix(split.prefix(x), split.params).argmin(dim=1)
    editor = Editor(GD(0.5), max_steps=50, margin=3.0)
    for margin in (0.0, 0.7):
        strong = editor(split.suffix, split.params, split.prefix(x), label)
        weak = StrengthSearch(editor, margin, 20)(split.suffix, split.params, split.prefix(x), label)
        before, after, now = (
            float((logits[0, label] - logits[0, 1 - label]).detach())
            for logits in (split.suffix(split.prefix(x), some) for some in (split.params, strong.params, weak.params))
        )
        assert weak.success
        assert margin <= now < margin + (after - before) * 2**-19
        expected = (margin - before) / (after - before)
        assert strength_of(weak, strong, split) == pytest.approx(expected, abs=2**-19)
        assert strong.num_steps == weak.num_steps > 0


def test_below_it_a_label_is_lost_on_a_network_that_is_not_linear(split: SplitNetwork):
    features, labels = some_edits(split)
    strong = STRONG(split.suffix, split.params, features, labels)
    weak = StrengthSearch(STRONG)(split.suffix, split.params, features, labels)
    strength = strength_of(weak, strong, split)
    steps = 2**10
    holds = []
    for step in range(steps + 1):  # the whole way, walked
        params = {name: param + step / steps * (strong.params[name] - param) for name, param in split.params.items()}
        holds.append(bool(is_predicted(split.suffix(features, params), labels).all()))
    assert strong.success
    assert weak.success
    assert strength == pytest.approx(holds.index(True) / steps, abs=1e-6)
    assert 0 < strength < 0.9


def test_many_at_once_are_as_one_by_one(split: SplitNetwork):
    features, labels = some_edits(split, 4)
    search = StrengthSearch(STRONG)
    together = search.edit_many(split.suffix, split.params, tuple(some[:, None] for some in features), labels)
    assert together.success.tolist() == [True] * 4
    for edit, label in enumerate(labels):
        one = search(split.suffix, split.params, tuple(some[edit : edit + 1] for some in features), [int(label)])
        torch.testing.assert_close(together.loss[edit], one.loss)
        for name, param in one.params.items():
            torch.testing.assert_close(together.params[name][edit], param, rtol=1e-6, atol=1e-8)


def test_what_has_failed_stays_as_it_is_and_what_held_before_is_not_changed(split: SplitNetwork):
    features, labels = some_edits(split, 1)
    short = Editor(GD(1e-4), max_steps=2)
    failed, plain = (some(split.suffix, split.params, features, labels) for some in (StrengthSearch(short), short))
    assert not failed.success
    assert all(failed.params[name].equal(plain.params[name]) for name in plain.params)
    own = split.suffix(features, split.params).argmax(dim=1)
    far = Editor(GD(0.1), 100, margin=20.0)  # goes on long after the label is predicted
    held = StrengthSearch(far)(split.suffix, split.params, features, own)
    assert held.success
    assert all(held.params[name].equal(param) for name, param in split.params.items())
    assert all(held.params[name].data_ptr() != param.data_ptr() for name, param in split.params.items())


@pytest.mark.parametrize("kind", ["gradient", "closed form", "ball"])
def test_a_stream_keeps_what_it_had_and_resumes_bit_for_bit(kind: str):
    split = SplitNetwork(conv_network(), ["8"])
    site = EditSite(split, lambda number: [(images_of(80, seed=9), torch.zeros(80, dtype=torch.int64))])
    inner: BaseEditor = {
        "gradient": Editor(RMSProp(0.02), 40, margin=1.0),
        "closed form": MinimalHarmEditor(margin=1.0),
        "ball": BallEditor(RMSProp(0.02), 5.0, max_steps=40, margin=1.0),
    }[kind]
    search = StrengthSearch(inner).at(site)
    images, labels = images_of(6, seed=4), [0, 1, 2, 3, 4, 0]

    def follow(params: dict, state: dict, edits: range) -> tuple[dict, dict]:
        for edit in edits:
            sample = split.prefix(images[edit : edit + 1])
            strong, _ = search.editor.extend(
                split.suffix, params, sample, [labels[edit]], {k[7:]: v for k, v in state.items() if k[:7] == "editor."}
            )
            result, state = search.extend(split.suffix, params, sample, [labels[edit]], state)
            past = split.prefix(images[: edit + 1]), torch.tensor(labels[: edit + 1])
            kept = is_predicted(split.suffix(past[0], strong.params), past[1])
            assert is_predicted(split.suffix(past[0], result.params), past[1])[kept].all()
            assert result.success == is_predicted(split.suffix(sample, result.params), past[1][-1:]).all()
            params = result.params
        return params, state

    whole, _ = follow(dict(split.params), {}, range(6))
    if kind == "closed form":
        assert is_predicted(split.suffix(split.prefix(images), whole), torch.tensor(labels)).all()
    half, state = follow(dict(split.params), {}, range(3))
    if kind == "closed form":
        change = (half["8.weight"] - split.params["8.weight"]).detach()
        assert torch.linalg.matrix_rank(change, rtol=1e-9) <= 3 * search.rank_of_change(1) == 3
    resumed, _ = follow(copy.deepcopy(half), {name: some.clone() for name, some in state.items()}, range(3, 6))
    assert all(resumed[name].equal(whole[name]) for name in whole)


def test_it_stands_for_the_editor_that_it_wraps(split: SplitNetwork):
    codebook = CodebookEditor()
    assert StrengthSearch(codebook).own_layers == codebook.own_layers
    assert StrengthSearch(Editor(GD(0.1), 7)).rank_of_change(2) == 14
    assert StrengthSearch(Editor(RMSProp(0.1), 7)).rank_of_change(2) is None
    search = StrengthSearch(Editor(GD(0.1)))
    changed = search.with_learning_rate(0.7)
    assert changed.editor.rule.learning_rate == 0.7
    assert search.editor.rule.learning_rate == 0.1, "the editor itself stays as it was"
    inner = search.configuration()["init_args"]["editor"]
    assert inner["class_path"] == "editable.editing.Editor"


def test_a_change_of_shape_is_refused():
    network = CodebookEditor().furnish(conv_network())
    split = SplitNetwork(network, "codebook")
    site = EditSite(split, lambda number: [(images_of(40, seed=9), torch.zeros(40, dtype=torch.int64))])
    search = StrengthSearch(CodebookEditor()).at(site)
    features, labels = some_edits(split, 1)
    with pytest.raises(UserError, match=r"CodebookEditor changes the shape of 'codebook"):
        search(split.suffix, split.params, features, labels)


def test_what_cannot_be_done_ends_in_a_sentence(split: SplitNetwork):
    features, labels = some_edits(split)
    with pytest.raises(UserError, match="cannot be differentiated"):
        StrengthSearch(STRONG)(split.suffix, split.params, features, labels, differentiable=True)
    with pytest.raises(UserError, match="label 5 was asked for"):
        StrengthSearch(STRONG)(split.suffix, split.params, features, [5, 5, 5])
    with pytest.raises(UserError, match="num_halvings must be at least 1, got 0"):
        StrengthSearch(STRONG, num_halvings=0)
    missing = tuple(some * torch.nan for some in features)
    assert not StrengthSearch(STRONG)(split.suffix, split.params, missing, labels).success
    contradicting = tuple(torch.cat([some[:1], some[:1]]) for some in features)
    assert not StrengthSearch(STRONG)(split.suffix, split.params, contradicting, [1, 2]).success
