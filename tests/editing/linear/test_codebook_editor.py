"""The memory of corrections: whom keys fire at, which one decides, and that each is taken back by deleting its rows."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from editable.editing import CodebookEditor, EditResult, EditSite
from editable.errors import UserError
from editable.models import Codebook, SplitNetwork
from tests.editing.linear.small import features_of, other_labels, references, small_network, vectors

KEYS, THRESHOLDS, VALUES = "codebook.match.weight", "codebook.thresholds", "codebook.values"
STRENGTHS = "codebook.strengths"


def bound(
    network: nn.Module | None = None, dtype: torch.dtype = torch.float64, **options: Any
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


def whitened(inputs: Tensor, epsilon: float, layer: str = "fc") -> Tensor:
    """q(h), written out: (Σ_c + ε·mean eigenvalue·I)^{-1/2} by its eigenvectors."""
    network = small_network()
    features = features_of(layer, network, vectors(150, seed=2))
    mean = features.sum(dim=0) / 150
    moment = sum(torch.outer(h - mean, h - mean) for h in features) / 150
    values, vectors_ = torch.linalg.eigh(moment)
    root = vectors_ @ torch.diag((values + epsilon * values.sum() / len(values)) ** -0.5) @ vectors_.T
    rows = [root @ (h - mean) for h in features_of(layer, network, inputs)]
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


def test_a_rate_that_no_reference_shows_is_that_of_an_exponential_tail():
    """Plainly: the mean excess of the 20 nearest over the 21st, and how often that must be doubled for the rate."""
    x, rate = vectors(6), 1e-5
    editor, site = bound(epsilon=0.3, firing_rate=rate, threshold=0.1)
    result = edit(editor, site, x, other_labels(small_network(), x))
    keys, own = whitened(x, 0.3), whitened(vectors(150, seed=2), 0.3)
    for key, threshold in zip(keys, result.params[THRESHOLDS][1:], strict=True):
        cosines = sorted((float(key @ other) for other in own), reverse=True)
        mean = sum(cosine - cosines[20] for cosine in cosines[:20]) / 20
        halvings = math.log2(20 / 150 / rate)
        expected = max(cosines[20] + halvings * math.log(2) * mean, cosines[0])
        assert float(threshold) == pytest.approx(min(expected, 1 - 1e-5), abs=2e-6)


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


@pytest.mark.parametrize("strength", [0.0, 0.8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deleting_rows_takes_back_an_edit_exactly(dtype: torch.dtype, strength: float):
    """What a sample was mistaken for is asked of the unedited network, not of one that other edits have changed."""
    x, others = vectors(5, dtype=dtype), vectors(300, seed=9, dtype=dtype)
    options = {"layers": ["hidden", "fc"], "strength": strength, "radius": 0.0} if strength else {}
    editor, site = bound(dtype=dtype, threshold=0.2, firing_rate=0.2, **options)
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


def cosines(inputs: Tensor, others: Tensor, shares: dict[str, float], epsilon: float = 1e-2) -> Tensor:
    """Σ_l w_l cos of what layers read, [inputs, others]."""
    total = torch.zeros(len(inputs), len(others), dtype=torch.float64)
    for layer, share in shares.items():
        total += share * (whitened(inputs, epsilon, layer) @ whitened(others, epsilon, layer).T)
    return total


SHARES = {"hidden": 0.25, "fc": 0.75}


def two_layers(**options: Any) -> tuple[CodebookEditor, EditSite]:
    return bound(layers=["hidden", "fc"], layer_weights=[1, 3], **{"epsilon": 0.05} | options)


def test_cosines_of_several_layers_are_averaged():
    x, own = vectors(6), vectors(150, seed=2)
    editor, site = two_layers(threshold=0.3, firing_rate=0.05)
    result = edit(editor, site, x, other_labels(small_network(), x))
    assert result.success
    keys = result.params[KEYS][1:]
    torch.testing.assert_close(keys @ keys.T, cosines(x, x, SHARES, 0.05), rtol=1e-9, atol=1e-9)
    assert keys.shape[1] == 11 + 7
    for of_key, threshold in zip(cosines(x, own, SHARES, 0.05), result.params[THRESHOLDS][1:], strict=True):
        assert float(threshold) == pytest.approx(max(0.3, sorted(of_key.tolist(), reverse=True)[7]), abs=2e-6)


@pytest.mark.parametrize(("radius", "power"), [(0.0, 1.0), (0.3, 2.0), (0.6, 3.5)])
def test_a_key_speaks_for_its_label_within_its_radius(radius: float, power: float):
    """Plainly: β·((c − t)₊/(1 − t))^p (asked − mistaken) of each key whose sample was wrong; no threshold is passed."""
    x, others, strength = vectors(8), vectors(300, seed=9), 0.6
    labels = other_labels(small_network(), x)
    with torch.no_grad():
        before, mistaken = small_network()(others), small_network()(x).argmax(dim=1)
    labels[3] = mistaken[3]
    editor, site = two_layers(threshold=1.0, strength=strength, radius=radius, power=power)
    after = logits_of(site, others, edit(editor, site, x, labels).params)
    near = cosines(others, x, SHARES, 0.05)
    expected = before.clone()
    for i in range(300):
        for key in range(8):
            if key != 3 and float(near[i, key]) > radius:
                push = strength * ((float(near[i, key]) - radius) / (1 - radius)) ** power
                expected[i, labels[key]] += push
                expected[i, mistaken[key]] -= push
    torch.testing.assert_close(after, expected, rtol=1e-9, atol=1e-9)
    outside = (near[:, [0, 1, 2, 4, 5, 6, 7]] <= radius).all(dim=1)
    assert outside.sum() > 3
    assert torch.equal(after[outside], before[outside]), "bit for bit"
    assert not torch.equal(after, before)


def test_a_key_speaks_only_where_earlier_ones_agree():
    """Plainly, edit by edit: a vote over earlier keys within the radius, without a say for the mistaken label."""
    number, radius = 30, 0.05
    x = vectors(number)
    labels = other_labels(small_network(), x)
    editor, site = two_layers(threshold=1.0, strength=0.6, radius=radius, agreement=True)
    with torch.no_grad():
        labels[4] = small_network()(x[4:5]).argmax()  # right: it says nothing
        mistaken = small_network()(x).argmax(dim=1)
    near = cosines(x, x, SHARES, 0.05)
    expected = []
    for edit_ in range(number):
        votes = [0.0] * 10
        for earlier in range(edit_):
            weight = max(0.0, (float(near[edit_, earlier]) - radius) / (1 - radius))
            if labels[earlier] != mistaken[earlier]:
                votes[labels[earlier]] += weight
                votes[mistaken[earlier]] -= weight
        rivals = [vote for label, vote in enumerate(votes) if label != mistaken[edit_]]
        own = votes[labels[edit_]]
        expected.append(0.6 if labels[edit_] != mistaken[edit_] and own > 0 and own == max(rivals) else 0.0)
    found = stream(editor, site, x, labels)[-1][STRENGTHS][1:]
    assert found.tolist() == pytest.approx(expected)
    assert 2 < sum(some > 0 for some in expected) < number - 5
    assert not edit(editor, site, x, labels).params[STRENGTHS].any(), "made together, none has earlier ones"


@pytest.mark.parametrize("options", [{}, {"strength": 0.7, "radius": 0.2}, {"strength": 5.0, "radius": 0.0}])
def test_what_is_asked_is_given_whatever_other_keys_say(options: dict[str, float]):
    x = vectors(20)
    labels = other_labels(small_network(), x)
    for editor, site in (bound(**options), two_layers(**options)):
        assert edit(editor, site, x, labels).success
        assert logits_of(site, x, stream(editor, site, x, labels)[-1]).argmax(dim=1).equal(labels)


def test_fires_counts_thresholds_and_radii():
    x, others = vectors(5), vectors(300, seed=9)
    editor, site = two_layers(threshold=0.2, firing_rate=0.1, strength=0.5, radius=0.5)
    result = edit(editor, site, x, other_labels(small_network(), x))
    network = site.split.network
    before, after = logits_of(site, others, site.split.params), logits_of(site, others, result.params)
    network.load_state_dict(network.state_dict() | result.params)
    read = torch.cat([features_of(layer, small_network(), others) for layer in SHARES], dim=1)
    fires = network.codebook.fires(read)
    assert fires.any()
    assert not fires[(after != before).any(dim=1)].logical_not().any()
    assert torch.equal(after[~fires], before[~fires])


def views(of: Tensor, number: int, spread: float = 0.15) -> Tensor:
    """Samples near each of some, one behind the other."""
    noise = torch.randn(len(of), number, of.shape[1], generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return (of[:, None] + spread * noise).flatten(0, 1)


def plain_groups(x: Tensor, labels: Tensor, mistaken: Tensor, merge: float, threshold: float) -> list[list[int]]:
    """One sample after the other joins the first group that it fits: near to all, all fire at the mean.

    Then groups in which a sample is nearer to the mean of one with another label are taken apart, until there is none.
    """
    q, groups = whitened(x, 1e-2), []

    def mean(group: list[int]) -> Tensor:
        total = sum(q[i] for i in group)
        return total / total.norm()

    for sample in range(len(x)):
        for group in groups:
            alike = all(labels[i] == labels[sample] and mistaken[i] == mistaken[sample] for i in group)
            near = all(float(q[i] @ q[sample]) >= merge for i in group)
            if alike and near and all(float(q[i] @ mean([*group, sample])) >= threshold for i in [*group, sample]):
                group.append(sample)
                break
        else:
            groups.append([sample])
    while True:
        nearest = [max(groups, key=lambda group: float(q[i] @ mean(group))) for i in range(len(x))]
        missed = {i for i in range(len(x)) if labels[nearest[i][0]] != labels[i]}
        if not any(len(group) > 1 and missed & set(group) for group in groups):
            return groups
        groups = [part for group in groups for part in ([[i] for i in group] if missed & set(group) else [group])]


@pytest.mark.parametrize("merge", [0.2, 0.6, 0.9])
@pytest.mark.parametrize("threshold", [0.3, 0.9])
def test_keys_are_merged_where_all_they_stand_for_still_fire(merge: float, threshold: float):
    x = views(vectors(6), 5)
    with torch.no_grad():
        mistaken = small_network()(x).argmax(dim=1)
    labels = (mistaken + 1) % 4
    options = {"threshold": threshold, "firing_rate": 1.0, "strength": 0.3}
    without, result = (edit(*bound(**options, **more), x, labels) for more in ({}, {"merge": merge}))
    assert without.success
    assert result.success
    groups, q = plain_groups(x, labels, mistaken, merge, threshold), whitened(x, 1e-2)
    assert len(result.params[KEYS]) == 1 + len(groups)
    assert len(without.params[KEYS]) == 31
    assert 4 < len(groups) < 30
    for row, group in enumerate(groups, 1):
        mean = sum(q[i] for i in group)
        torch.testing.assert_close(result.params[KEYS][row], mean / mean.norm(), rtol=1e-9, atol=1e-9)
        assert float(result.params[STRENGTHS][row]) == pytest.approx(0.3 * len(group))
        assert torch.equal(result.params[VALUES][row], without.params[VALUES][1 + group[0]])


def test_what_would_lose_its_label_is_not_merged():
    """A sample whose mean is farther from it than the key of an earlier edit keeps its own key."""
    x = views(vectors(1), 6, spread=0.5)
    editor, site = bound(threshold=0.05, firing_rate=1.0, merge=0.1)
    first = edit(editor, site, x[:1] + 0.02, [2])
    kept = first.params
    result, _ = editor.extend(site.split.suffix, kept, site.split.prefix(x), torch.full((6,), 3), {})
    assert result.success
    alone, _ = editor.extend(site.split.suffix, site.split.params, site.split.prefix(x), torch.full((6,), 3), {})
    assert len(alone.params[KEYS]) < len(result.params[KEYS]) <= 8
    assert logits_of(site, x[:1] + 0.02, result.params).argmax() == 2
    assert all(torch.equal(result.params[name][:2], kept[name]) for name in kept), "earlier edits are left alone"


def test_merged_keys_fire_at_no_more_references_than_are_allowed_and_are_taken_back():
    x = views(vectors(4), 5, spread=0.05)
    editor, site = bound(threshold=0.05, firing_rate=0.02, merge=0.5)
    labels = other_labels(small_network(), x[::5]).repeat_interleave(5)
    params, each = dict(site.split.params), []
    for i in range(4):
        part = slice(5 * i, 5 * i + 5)
        result, _ = editor.extend(site.split.suffix, params, site.split.prefix(x[part]), labels[part], {})
        params = result.params
        each.append(len(params[KEYS]))
    assert each[-1] < 15
    own = whitened(vectors(150, seed=2), 1e-2)
    assert ((own @ params[KEYS][1:].T >= params[THRESHOLDS][1:]).sum(dim=0) <= 3).all()
    left = {name: torch.cat([some[: each[0]], some[each[1] :]]) for name, some in params.items()}
    never = dict(site.split.params)
    for i in (0, 2, 3):
        part = slice(5 * i, 5 * i + 5)
        never = editor.extend(site.split.suffix, never, site.split.prefix(x[part]), labels[part], {})[0].params
    assert all(torch.equal(never[name], left[name]) for name in left), "as if it had never been made"


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
    with pytest.raises(UserError, match=r"layer_weights has 1 numbers, but must have one for each layer of layers"):
        CodebookEditor(layers=["hidden", "fc"], layer_weights=[1.0])
    with pytest.raises(UserError, match=r"layer_weights must be positive, got \[0.5, 0\]"):
        CodebookEditor(layers=["hidden", "fc"], layer_weights=[0.5, 0])
    other = CodebookEditor(layers=["hidden", "fc"])
    for act in (lambda: other.at(site), lambda: other.furnish(site.split.network)):
        with pytest.raises(
            UserError, match=r"has a codebook already, which reads fc, but layers names hidden, fc: name"
        ):
            act()
    assert CodebookEditor(layers=["fc"]).furnish(site.split.network) is site.split.network
    with pytest.raises(UserError, match="Sequential has no 'hiden'"):
        CodebookEditor(layers=["hiden"]).furnish(small_network())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margin": 5.0}, "has a margin of 1, but 5 is asked for"),
        ({"strength": 0.5, "radius": 0.9}, "has a radius of 0.1, but 0.9 is asked for"),
        ({"strength": 0.5, "power": 3.0}, "has a power of 1, but 3 is asked for"),
    ],
)
def test_settings_that_a_codebook_has_otherwise_are_refused(settings: dict[str, float], message: str):
    """Its rows were made with its own; where nothing speaks to others, radius and power are of no account."""
    editor, site = bound()
    x = vectors(3)
    rows = edit(editor, site, x, other_labels(small_network(), x)).params
    codebook = site.split.network.codebook
    codebook.resize(4)
    with torch.no_grad():
        for name, value in rows.items():
            site.split.network.get_parameter(name).copy_(value)
    with pytest.raises(UserError, match=message):
        CodebookEditor(**settings).at(EditSite(SplitNetwork(site.split.network, "codebook"), references))
    CodebookEditor(radius=0.9).at(EditSite(SplitNetwork(site.split.network, "codebook"), references))
