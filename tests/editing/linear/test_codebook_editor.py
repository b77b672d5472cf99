"""The memory of corrections: whom keys fire at, which one decides, and that each is taken back by deleting its rows."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from editable.editing import CodebookEditor, EditResult, EditSite
from editable.errors import UserError
from editable.models import Codebook, SplitNetwork
from tests.editing.linear.small import features_of, other_labels, references, small_network, vectors

KEYS, THRESHOLDS, VALUES = "codebook.match.weight", "codebook.thresholds", "codebook.values"


def bound(
    network: nn.Module | None = None, dtype: torch.dtype = torch.float64, **options: float
) -> tuple[CodebookEditor, EditSite]:
    """An editor at a furnished network."""
    network = small_network(dtype=dtype) if network is None else network
    editor = CodebookEditor(**options)
    site = EditSite(SplitNetwork(editor.furnish(network), list(editor.own_layers)), references)
    return editor.at(site), site


def edit(editor: CodebookEditor, site: EditSite, inputs: Tensor, labels: Tensor | list[int]) -> EditResult:
    return editor(site.split.suffix, site.split.params, site.split.prefix(inputs), labels)


def stream(
    editor: CodebookEditor, site: EditSite, inputs: Tensor, labels: Tensor | list[int]
) -> list[dict[str, Tensor]]:
    """The parameters after each edit, of one sample."""
    params, state, each = dict(site.split.params), {}, []
    for i in range(len(inputs)):
        result, state = editor.extend(
            site.split.suffix, params, site.split.prefix(inputs[i : i + 1]), labels[i : i + 1], state
        )
        params = result.params
        each.append(params)
    return each


@torch.no_grad()
def logits_of(site: EditSite, inputs: Tensor, params: dict[str, Tensor]) -> Tensor:
    return site.split.suffix(site.split.prefix(inputs), params)


def whitened(inputs: Tensor, epsilon: float) -> Tensor:
    """q(h), written out: (Σ_c + ε·mean eigenvalue·I)^{-1/2} by its eigenvectors."""
    network = small_network()
    features = features_of("fc", network, vectors(150, seed=2))
    mean = features.sum(dim=0) / 150
    moment = sum(torch.outer(h - mean, h - mean) for h in features) / 150
    values, vectors_ = torch.linalg.eigh(moment)
    root = vectors_ @ torch.diag((values + epsilon * values.sum() / len(values)) ** -0.5) @ vectors_.T
    rows = [root @ (h - mean) for h in features_of("fc", network, inputs)]
    return torch.stack([row / row.square().sum().sqrt() for row in rows])


@pytest.mark.parametrize("epsilon", [1e-2, 0.3])
def test_keys_and_thresholds(epsilon: float):
    """A key is q(h); its threshold is the least one, or above the cosines of all but the allowed references."""
    x, rate = vectors(6), 0.05
    editor, site = bound(epsilon=epsilon, firing_rate=rate, threshold=0.3)
    result = edit(editor, site, x, other_labels(small_network(), x))
    keys, own = whitened(x, epsilon), whitened(vectors(150, seed=2), epsilon)
    torch.testing.assert_close(result.params[KEYS][1:], keys, rtol=1e-9, atol=1e-10)
    for key, threshold in zip(keys, result.params[THRESHOLDS][1:], strict=True):
        cosines = sorted((float(key @ other) for other in own), reverse=True)
        assert float(threshold) == pytest.approx(max(0.3, cosines[int(rate * 150)]), abs=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.5])
def test_no_more_references_fire_than_are_allowed(rate: float, dtype: torch.dtype):
    """Tried on the references themselves: their logits change for at most the share, one key at a time."""
    x = vectors(12, dtype=dtype)
    editor, site = bound(dtype=dtype, firing_rate=rate, threshold=0.05, margin=50.0)
    labels = other_labels(small_network(dtype=dtype), x)
    own = vectors(150, seed=2, dtype=dtype)
    before, most = logits_of(site, own, site.split.params), 0
    for i in range(12):
        result = edit(editor, site, x[i : i + 1], labels[i : i + 1])
        assert result.success
        fired = int((logits_of(site, own, result.params) != before).any(dim=1).sum())
        assert fired <= rate * 150
        most = max(most, fired)
    assert most == int(rate * 150), "and no fewer than are allowed, where the least threshold is low"


@pytest.mark.parametrize("threshold", [0.4, 1.0])
def test_any_share_may_fire(threshold: float):
    """The least threshold alone counts then; at a cosine of one, its own sample still fires."""
    x = vectors(4)
    editor, site = bound(firing_rate=1.0, threshold=threshold)
    result = edit(editor, site, x, other_labels(small_network(), x))
    assert result.success
    assert result.params[THRESHOLDS][1:].tolist() == pytest.approx([threshold] * 4, abs=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_success_and_nothing_else(dtype: torch.dtype):
    x, network = vectors(20, dtype=dtype), small_network(dtype=dtype)
    labels = other_labels(network, x)
    with torch.no_grad():
        before = network(torch.cat([x, vectors(200, seed=9, dtype=dtype)]))
    editor, site = bound(network, dtype)
    kept = {name: some.clone() for name, some in network.state_dict().items()}
    result = edit(editor, site, x, labels)
    assert (result.success, result.num_steps) == (True, 1)
    assert {some.dtype for some in result.params.values()} == {dtype}
    assert all(torch.equal(network.state_dict()[name], some) for name, some in kept.items())
    after = logits_of(site, torch.cat([x, vectors(200, seed=9, dtype=dtype)]), result.params)
    lead = after[:20].gather(1, labels[:, None]) - after[:20].scatter(1, labels[:, None], -torch.inf).amax(1, True)
    torch.testing.assert_close(lead, torch.ones_like(lead), rtol=0, atol=1e-5)
    same = (after[20:] == before[20:]).all(dim=1)
    assert same.sum() > 100, "what does not fire is what it was, bit for bit"


def test_samples_that_are_right_need_no_row_alone_but_get_one_in_a_stream():
    """So that a later key that is near does not take them."""
    x = vectors(1)
    near = x + 0.05
    editor, site = bound(threshold=0.05, firing_rate=1.0)
    right = logits_of(site, x, site.split.params).argmax(dim=1)
    alone = edit(editor, site, x, right)
    assert (alone.success, alone.num_steps) == (True, 0)
    assert len(alone.params[KEYS]) == 1
    wrong = (right + 1) % 4
    after = stream(editor, site, torch.cat([x, near]), torch.cat([right, wrong]))[-1]
    assert logits_of(site, torch.cat([x, near]), after).argmax(dim=1).tolist() == [int(right), int(wrong)]
    taken = edit(editor, site, near, wrong)
    assert logits_of(site, x, taken.params).argmax() == wrong, "without a row it would have been taken"


def test_of_opposing_labels_the_nearer_key_decides():
    x = vectors(1)
    apart = x + 0.4
    editor, site = bound(threshold=0.05, firing_rate=1.0)
    result = edit(editor, site, torch.cat([x, apart]), [2, 3])
    assert result.success
    between = x + torch.linspace(0, 0.4, 21, dtype=torch.float64)[:, None]
    q, keys = whitened(between, 1e-2), whitened(torch.cat([x, apart]), 1e-2)
    expected = [2 if float(some @ keys[0]) > float(some @ keys[1]) else 3 for some in q]
    assert len(set(expected)) == 2
    assert logits_of(site, between, result.params).argmax(dim=1).tolist() == expected


def test_of_equal_samples_the_last_one_counts():
    """Two keys in one place: what was asked last, with a word on the one that has lost, or none in a stream."""
    x = vectors(2)
    editor, site = bound()
    with pytest.warns(UserWarning, match=r"1 of 3 samples do not get their labels \(number 0\): .* contradicts"):
        result = edit(editor, site, torch.cat([x, x[:1]]), [0, 1, 2])
    assert not result.success
    assert len(result.params[KEYS]) == 3
    assert logits_of(site, x, result.params).argmax(dim=1).tolist() == [2, 1]
    same = edit(editor, site, torch.cat([x, x[:1]]), [2, 1, 2])
    assert same.success
    after = stream(editor, site, torch.cat([x, x[:1]]), torch.tensor([0, 1, 3]))[-1]
    assert len(after[KEYS]) == 3
    assert logits_of(site, x, after).argmax(dim=1).tolist() == [3, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deleting_rows_takes_back_an_edit_exactly(dtype: torch.dtype):
    x, others = vectors(5, dtype=dtype), vectors(300, seed=9, dtype=dtype)
    editor, site = bound(dtype=dtype, threshold=0.2, firing_rate=0.2)
    labels = other_labels(small_network(dtype=dtype), x)
    each = stream(editor, site, x, labels)
    for gone in range(5):
        rows = [row for row in range(6) if row != 1 + gone]
        left = {name: some[rows] for name, some in each[-1].items()}
        stays = [i for i in range(5) if i != gone]
        never = stream(editor, site, x[stays], labels[stays])[-1]
        assert all(torch.equal(never[name], left[name]) for name in left), "as if it had never been made"
        assert torch.equal(logits_of(site, others, left), logits_of(site, others, never))
    none = {name: some[:1] for name, some in each[-1].items()}
    with torch.no_grad():
        assert torch.equal(logits_of(site, others, none), small_network(dtype=dtype)(others))


def test_edits_apart_are_the_same_edits():
    """Where some need no row, the others' results have more: they are filled up with empty ones."""
    x, network = vectors(4), small_network()
    labels = other_labels(network, x)
    with torch.no_grad():
        labels[2] = network(x).argmax(dim=1)[2]
    editor, site = bound(network)
    features = tuple(some.unsqueeze(1) for some in site.split.prefix(x))
    many = editor.edit_many(site.split.suffix, site.split.params, features, labels)
    assert many.success.all()
    assert many.num_steps.tolist() == [1, 1, 0, 1]
    others = vectors(100, seed=9)
    for i in range(4):
        alone = edit(editor, site, x[i : i + 1], labels[i : i + 1])
        own = {name: some[i] for name, some in many.params.items()}
        assert torch.equal(logits_of(site, others, own), logits_of(site, others, alone.params))


def test_rows_that_are_there_stay_and_so_does_their_space():
    """A network that was edited and saved is edited further."""
    x = vectors(2)
    editor, site = bound()
    network = site.split.network
    labels = other_labels(small_network(), x)
    result = edit(editor, site, x[:1], labels[:1])
    network.load_state_dict(network.state_dict() | result.params)
    space = {name: some.clone() for name, some in network.codebook.named_buffers()}
    again, site = bound(network, epsilon=0.5, radius=0.7, power=5.0)
    assert all(torch.equal(some, space[name]) for name, some in network.codebook.named_buffers())
    result = edit(again, site, x[1:], labels[1:])
    assert len(result.params[KEYS]) == 3
    assert logits_of(site, x, result.params).argmax(dim=1).equal(labels)


def test_an_editor_is_bound_to_its_codebook_alone():
    editor = CodebookEditor()
    places = []
    for seed in (1, 2):
        network = small_network()
        torch.manual_seed(seed)
        nn.init.normal_(network.hidden.weight)
        site = EditSite(SplitNetwork(editor.furnish(network), "codebook"), references)
        places.append((editor.at(site), site))
    x = vectors(3)
    for some, site in places:
        assert edit(some, site, x, (logits_of(site, x, site.split.params).argmax(dim=1) + 1) % 4).success
        assert edit(some.with_strict_success(), site, x, [1, 2, 3]).success
        assert not list(some.parameters())
        assert not list(some.modules())[1:]
    assert editor._place is None


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = small_network()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x if x.sum() > -1e9 else -x)


def test_networks_that_cannot_be_traced():
    with pytest.raises(UserError, match=r"torch.fx cannot trace: give its name, its last linear layer is 'network.fc'"):
        CodebookEditor().furnish(Untraceable())
    editor = CodebookEditor(layers=["network.fc"])
    network = editor.furnish(Untraceable()).eval()
    assert isinstance(network.codebook, Codebook)
    with pytest.warns(UserWarning, match="trace"):
        split = SplitNetwork(network, "codebook")
    site, x = EditSite(split, references), vectors(3)
    labels = other_labels(small_network(), x)
    result = edit(editor.at(site), site, x, labels)
    assert result.success
    expected = edit(*bound(), x, labels)
    for name, some in expected.params.items():
        torch.testing.assert_close(result.params[name], some, rtol=1e-9, atol=1e-9)


def nothing(number: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from ()


def spoilt(number: int) -> Iterator[tuple[Tensor, Tensor]]:
    for images, labels in references(number):
        images = images.clone()
        images[3] = torch.nan
        yield images, labels


def test_mistakes():
    x = vectors(2)
    editor, site = bound()
    with pytest.raises(UserError, match="label 4 was asked for, but the network's classes are 0 … 3"):
        edit(editor, site, x, [0, 4])
    with pytest.raises(UserError, match=r"call at\(EditSite\(…\)\) first"):
        edit(CodebookEditor(), site, x, [0, 1])
    with pytest.raises(UserError, match="CodebookEditor cannot be differentiated"):
        editor(site.split.suffix, site.split.params, site.split.prefix(x), [0, 1], differentiable=True)
    with pytest.raises(UserError, match="Sequential has no codebook: furnish it first"):
        CodebookEditor().at(EditSite(SplitNetwork(small_network(), "fc"), references))
    with pytest.raises(UserError, match=r"an editor needs reference images .* and there are none"):
        CodebookEditor().at(EditSite(site.split, nothing))
    with pytest.raises(
        UserError, match=r"of reference images is NaN or infinite for 2 of 150 samples \(number 3, 78\)"
    ):
        CodebookEditor().at(EditSite(site.split, spoilt))
    x[1, 0] = torch.nan
    with pytest.raises(UserError, match=r"what the codebook reads is NaN or infinite for 1 of 2 samples \(number 1\)"):
        edit(editor, site, x, [0, 1])
