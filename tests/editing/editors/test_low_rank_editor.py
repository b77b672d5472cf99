"""`LowRankEditor` equals LoRA written as a module and trained in place; its change has the rank it states."""

import copy

import pytest
import torch
from torch import Tensor, nn

from editable.editing import EditSite, LowRankEditor
from editable.editing.editors.objective import is_predicted
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.editing.reference import adam, conv_network, images_of

REFERENCES = images_of(40, seed=9)
LAYERS = ["3", "4", "8"]


@pytest.fixture
def split() -> SplitNetwork:
    return SplitNetwork(conv_network(), LAYERS)


def site_of(split: SplitNetwork) -> EditSite:
    batches = [(part, torch.zeros(len(part), dtype=torch.int64)) for part in REFERENCES.split(15)]
    return EditSite(split, lambda number: batches)


def asked(split: SplitNetwork, number: int = 3) -> tuple[tuple[Tensor, ...], Tensor]:
    features = split.prefix(images_of(number))
    return features, (split.suffix(features, split.params).argmax(dim=1) + torch.arange(number) + 1) % 5


class Lora(nn.Module):
    """A layer with thin matrices beside it: the rank-r product is added to its output, not to its weight."""

    def __init__(self, layer: nn.Module, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layer = layer
        size = layer.weight[0].numel()
        drawn = torch.rand(rank, size, generator=generator, dtype=torch.float64)
        self.a = nn.Parameter((drawn * 2 - 1) / size**0.5)
        self.b = nn.Parameter(torch.zeros(len(layer.weight), rank, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return self.layer(x) + (x @ self.a.T) @ self.b.T
        low = nn.functional.conv2d(x, self.a.view(-1, *self.layer.weight.shape[1:]), None, self.layer.stride)
        return self.layer(x) + nn.functional.conv2d(low, self.b[:, :, None, None])


def by_hand(editor: LowRankEditor, network: nn.Module, images: Tensor, labels: Tensor) -> tuple[nn.Module, int]:
    edited, generator = copy.deepcopy(network).eval().requires_grad_(False), torch.Generator().manual_seed(editor.seed)
    base = copy.deepcopy(edited)
    for place in (3, 8):
        edited[place] = Lora(edited[place], editor.rank, generator)
    params: list[Tensor] = [param for param in edited.parameters() if param.requires_grad]
    state: dict = {}
    for step in range(editor.max_steps + 1):
        log_p = edited(images).log_softmax(dim=1)
        own = log_p[torch.arange(len(labels)), labels]
        others = torch.stack([torch.cat([row[:y], row[y + 1 :]]).max() for row, y in zip(log_p, labels, strict=True)])
        if bool((own - others).min() >= editor.margin) or step == editor.max_steps:
            break
        batch = REFERENCES[torch.randperm(len(REFERENCES), generator=generator)[: editor.replay_size]]
        p, q = base(batch).softmax(dim=1), edited(batch).softmax(dim=1)
        loss = -own.mean() + editor.locality * (p * (p / q).log()).sum() / len(batch)
        grads = torch.autograd.grad(loss, params)
        with torch.no_grad():
            adam(params, grads, state, editor.learning_rate)
    return edited, step


@pytest.mark.parametrize("locality", [0.0, 2.0])
@pytest.mark.parametrize("number", [1, 3])
def test_equals_lora_as_a_module(split: SplitNetwork, locality: float, number: int):
    editor = LowRankEditor(2, 0.05, 40, 0.3, locality, 8, seed=3)
    features, labels = asked(split, number)
    result = editor.at(site_of(split))(split.suffix, split.params, features, labels)
    edited, num_steps = by_hand(editor, split.network, images_of(number), labels)
    assert int(result.num_steps) == num_steps > 1
    assert result.success
    for place in (3, 8):
        lora = edited[place]
        expected = lora.layer.weight + (lora.b @ lora.a).view_as(lora.layer.weight)
        torch.testing.assert_close(result.params[f"{place}.weight"], expected.detach(), rtol=1e-5, atol=1e-7)
    ours = split.suffix(features, result.params)
    torch.testing.assert_close(ours, edited(images_of(number)).detach(), rtol=1e-5, atol=1e-6)


def test_its_labels_are_predicted_and_only_weights_change_by_the_rank_it_states():
    network = conv_network(num_classes=12)
    split = SplitNetwork(network, LAYERS)
    features, labels = split.prefix(images_of(4)), torch.tensor([1, 5, 9, 11])
    before = copy.deepcopy(network.state_dict())
    for rank in (1, 3):
        editor = LowRankEditor(rank, 0.05, 300, margin=0.2).at(site_of(split))
        result = editor(split.suffix, split.params, features, labels)
        logits = split.suffix(features, result.params)
        assert result.success
        assert is_predicted(logits, labels).all()
        leads = logits.gather(1, labels[:, None]) - logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
        assert float(leads.detach().min()) >= 0.2 - 1e-9
        for name, param in split.params.items():
            change = (result.params[name] - param).detach()
            assert result.params[name].data_ptr() != param.data_ptr()
            assert not result.params[name].requires_grad
            if name in ("3.weight", "8.weight"):
                assert torch.linalg.matrix_rank(change.flatten(1), rtol=1e-9) == rank == editor.rank_of_change(4)
            else:
                assert not change.any()
    assert all(network.state_dict()[name].equal(some) for name, some in before.items())


def test_the_kl_term_holds_other_images(split: SplitNetwork):
    """More of it leaves predictions on images that are neither edited nor replayed nearer to what they were."""
    features, labels = asked(split)
    others = split.prefix(images_of(200, seed=17))
    before = split.suffix(others, split.params).log_softmax(dim=1)
    harms = []
    for locality in (0.0, 1.0, 10.0):
        editor = LowRankEditor(3, 0.02, 300, 0.1, locality, 40).at(site_of(split))
        result = editor(split.suffix, split.params, features, labels)
        assert result.success
        after = split.suffix(others, result.params).log_softmax(dim=1)
        harms.append(float((before.exp() * (before - after)).sum(dim=1).mean().detach()))
    assert harms[0] > harms[1] > harms[2]


def test_seeds_and_streams(split: SplitNetwork):
    editor = LowRankEditor(2, 0.05, 60, replay_size=8, seed=5).at(site_of(split))
    features, labels = asked(split)
    call = split.suffix, split.params, features, labels
    first, again = editor(*call), editor(*call)
    assert all(first.params[name].equal(again.params[name]) for name in first.params)
    other = LowRankEditor(2, 0.05, 60, replay_size=8, seed=6).at(site_of(split))(*call)
    assert not other.params["8.weight"].equal(first.params["8.weight"])
    images = images_of(5, seed=4)

    def follow(params: dict, state: dict, edits: range) -> tuple[list[dict], dict]:
        left = []
        for edit in edits:
            sample = split.prefix(images[edit : edit + 1])
            result, state = editor.extend(split.suffix, params, sample, [edit], state)
            assert is_predicted(split.suffix(sample, result.params), torch.tensor([edit])).all()
            params = result.params
            left.append(params)
        return left, state

    whole, _ = follow(dict(split.params), {}, range(5))
    half, state = follow(dict(split.params), {}, range(2))
    resumed, _ = follow(copy.deepcopy(half[-1]), {name: some.clone() for name, some in state.items()}, range(2, 5))
    assert all(resumed[-1][name].equal(some) for name, some in whole[-1].items())


def test_many_edits_are_as_one_by_one(split: SplitNetwork):
    editor = LowRankEditor(2, 0.05, 60, replay_size=8).at(site_of(split))
    features, labels = asked(split)
    together = editor.edit_many(split.suffix, split.params, tuple(some[:, None] for some in features), labels)
    for edit in range(3):
        one = editor(
            split.suffix, split.params, tuple(some[edit : edit + 1] for some in features), labels[edit : edit + 1]
        )
        assert all(together.params[name][edit].equal(some) for name, some in one.params.items())


def test_a_learning_rate_and_what_is_written():
    editor = LowRankEditor(2, 0.05, seed=7)
    changed = editor.with_learning_rate(0.2)
    assert (editor.learning_rate, changed.learning_rate) == (0.05, 0.2)
    arguments = changed.configuration()["init_args"]
    assert LowRankEditor(**arguments).configuration()["init_args"] == arguments
    assert (arguments["rank"], arguments["seed"], arguments["margin"]) == (2, 7, 0.1)


def test_what_cannot_be_done_ends_in_a_sentence(split: SplitNetwork):
    features, labels = asked(split)
    editor = LowRankEditor(max_steps=5)
    with pytest.raises(UserError, match=r"call at\(EditSite"):
        editor(split.suffix, split.params, features, labels)
    with pytest.raises(UserError, match=r"there is none among 4\.weight, 4\.bias"):
        editor.at(site_of(SplitNetwork(split.network, ["4"])))
    there = editor.at(site_of(split))
    with pytest.raises(UserError, match="cannot be differentiated"):
        there(split.suffix, split.params, features, labels, differentiable=True)
    with pytest.raises(UserError, match=r"none of which is among the parameters 3\.bias"):
        there(split.suffix, {"3.bias": split.params["3.bias"]}, features, labels)
    with pytest.raises(UserError, match="label 5 was asked for"):
        there(split.suffix, split.params, features, [5, 0, 0])
    with pytest.raises(UserError, match="NaN or infinite"):
        there(split.suffix, split.params, tuple(some * torch.nan for some in features), labels)
    twice = tuple(torch.cat([some[:1], some[:1]]) for some in features)
    assert not there(split.suffix, split.params, twice, [1, 2]).success
    with pytest.raises(UserError, match="there are none"):
        editor.at(EditSite(split, lambda number: []))
