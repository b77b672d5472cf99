"""The smallest change: a naive program of all constraints, conditions of optimality, streams, and mistakes."""

import io
import warnings

import pytest
import torch
from torch import Tensor, nn

from editable.editing import EditResult, EditSite, MinimalHarmEditor
from editable.errors import UserError
from tests.editing.linear.small import (
    CLASSES,
    change_of,
    features_of,
    moment_of,
    other_labels,
    regularised,
    site_of,
    small_network,
    vectors,
    with_one,
)
from tests.editing.linear.test_linear_layer import jacobian

EPSILON = 1e-3


def coordinate_ascent(kernel: Tensor, vector: Tensor, sweeps: int = 20_000) -> Tensor:
    """The dual, one multiplier after the other."""
    alpha, slope = torch.zeros_like(vector), vector.clone()  # slope = g − Kα
    for _ in range(sweeps):
        moved = 0.0
        for i in range(len(vector)):
            step = max(-float(alpha[i]), float(slope[i] / kernel[i, i]))
            alpha[i] += step
            slope -= step * kernel[:, i]
            moved = max(moved, abs(step))
        if moved < 1e-13 * max(1.0, float(alpha.max())):
            break
    return alpha


def constraints(
    logits: Tensor, derivatives: Tensor, keys: Tensor, labels: list[int], margin: float
) -> tuple[list[Tensor], Tensor]:
    """Each constraint ⟨A, Δ⟩ ≥ g with A = u kᵀ, of all samples and all other classes."""
    matrices, bounds = [], []
    for i, label in enumerate(labels):
        for other in range(logits.shape[1]):
            if other != label:
                u = derivatives[i, label] - derivatives[i, other]
                matrices.append(torch.outer(u, keys[i]))
                bounds.append(margin - float(logits[i, label] - logits[i, other]))
    return matrices, torch.tensor(bounds, dtype=torch.float64)


def naive_change(
    logits: Tensor, derivatives: Tensor, keys: Tensor, labels: list[int], moment: Tensor, margin: float, softness: float
) -> Tensor:
    matrices, bounds = constraints(logits, derivatives, keys, labels, margin)
    inverse = torch.linalg.inv(moment)
    kernel = torch.tensor(
        [[float((one @ inverse * other).sum()) for other in matrices] for one in matrices], dtype=torch.float64
    )
    kernel += softness * kernel.diagonal().mean() * torch.eye(len(kernel), dtype=torch.float64)
    alpha = coordinate_ascent(kernel, bounds)
    return sum(float(a) * some @ inverse for a, some in zip(alpha, matrices, strict=True))


def editor_at(site: EditSite, softness: float = 0.0, **options: float) -> MinimalHarmEditor:
    return MinimalHarmEditor(softness=softness, epsilon=EPSILON, **options).at(site)


def edit(editor: MinimalHarmEditor, site: EditSite, inputs: Tensor, labels: Tensor | list[int]) -> EditResult:
    return editor(site.split.suffix, site.split.params, site.split.prefix(inputs), labels)


def stream(
    editor: MinimalHarmEditor, site: EditSite, parts: list[tuple[Tensor, Tensor]], saved: bool = False
) -> tuple[EditResult, dict[str, Tensor]]:
    """One edit after the other; with ``saved``, each from a file that the last one has left."""
    params, state = dict(site.split.params), {}
    for inputs, labels in parts:
        result, state = editor.extend(site.split.suffix, params, site.split.prefix(inputs), labels, state)
        params = result.params
        if saved:
            file = io.BytesIO()
            torch.save((params, state), file)
            file.seek(0)
            params, state = torch.load(file, weights_only=True)
    return result, state


@pytest.mark.parametrize("softness", [0.0, 0.3])
@pytest.mark.parametrize("place", ["fc", "fc.weight", "fc.extra_layer.contract"])
@pytest.mark.parametrize("number", [1, 4])
def test_the_naive_program_finds_the_same(place: str, number: int, softness: float):
    network = small_network(extra="extra" in place)
    site, x = site_of(network, place), vectors(number)
    labels = other_labels(network, x)
    layer, bias = place.removesuffix(".weight"), not place.endswith("weight")
    result = edit(editor_at(site, softness, margin=0.5), site, x, labels)
    keys = features_of(layer, network, x)
    with torch.no_grad():
        logits = network(x)
    moment = regularised(moment_of(layer, network, bias), EPSILON)
    keys = with_one(keys) if bias else keys
    derivatives = jacobian(layer, network, x)
    expected = naive_change(logits, derivatives, keys, labels.tolist(), moment, 0.5, softness)
    change = change_of(layer, network, result.params)
    torch.testing.assert_close(change, expected, rtol=1e-7, atol=1e-8 * float(expected.abs().max()))
    assert result.num_steps == 1 or softness


def test_optimality():
    """Of the primal program: all that is asked holds, and what holds with room to spare does not count."""
    network, x = small_network(), vectors(6)
    site, labels = site_of(network, "fc"), other_labels(small_network(), vectors(6))
    result = edit(editor_at(site, margin=0.2), site, x, labels)
    change, keys = change_of("fc", network, result.params), with_one(features_of("fc", network, x))
    with torch.no_grad():
        logits = network(x)
    eye = torch.eye(CLASSES, dtype=torch.float64).expand(6, -1, -1)
    matrices, bounds = constraints(logits, eye, keys, labels.tolist(), 0.2)
    room = torch.stack([(some * change).sum() for some in matrices]) - bounds
    assert room.min() > -1e-6
    active = [some for some, free in zip(matrices, room, strict=True) if free < 1e-6]
    columns = torch.stack([some.flatten() for some in active], dim=1)
    slope = (change @ regularised(moment_of("fc", network), EPSILON)).flatten()
    alpha = torch.linalg.lstsq(columns, slope).solution
    torch.testing.assert_close(columns @ alpha, slope, rtol=1e-6, atol=1e-8)
    assert alpha.min() > -1e-8
    assert 6 <= len(active) < len(matrices)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_success_and_nothing_else(dtype: torch.dtype):
    network, x = small_network(dtype=dtype), vectors(5, dtype=dtype)
    site, labels = site_of(network, "fc"), other_labels(network, x)
    before = {name: some.clone() for name, some in network.state_dict().items()}
    editor = editor_at(site, margin=0.1)
    result = edit(editor, site, x, labels)
    assert result.success
    logits = torch.func.functional_call(network, result.params, x)
    leads = logits.gather(1, labels[:, None]) - logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    assert leads.min() > 0.1 - 1e-4
    assert {some.dtype for some in result.params.values()} == {dtype}
    assert all(torch.equal(network.state_dict()[name], some) for name, some in before.items())
    with torch.no_grad():
        own = network(x).argmax(dim=1)
    again = edit(MinimalHarmEditor(margin=1e-6).at(site), site, x, own)
    assert (again.success, again.num_steps) == (True, 0)
    assert not change_of("fc", network, again.params).any()
    assert edit(editor.with_strict_success(), site, x, labels).params["fc.weight"].equal(result.params["fc.weight"])


def test_gauss_newton_on_a_hidden_layer():
    """The program is set up anew where the last one has led, until half the margin is there."""
    network, x, margin = small_network(), vectors(4), 0.4
    site, labels = site_of(network, "hidden"), other_labels(small_network(), vectors(4))
    editor = editor_at(site, margin=margin)
    result = edit(editor, site, x, labels)
    assert result.success
    assert 1 <= result.num_steps <= 10

    moment = regularised(moment_of("hidden", network), EPSILON)
    keys, total, edited = with_one(features_of("hidden", network, x)), torch.zeros(7, 12, dtype=torch.float64), network
    for _ in range(int(result.num_steps)):
        edited = small_network()
        with torch.no_grad():
            edited.hidden.weight += total[:, :-1]
            edited.hidden.bias += total[:, -1]
            logits = edited(x)
        derivatives = jacobian("hidden", edited, x)
        at_start = logits - torch.einsum("nco,no->nc", derivatives, keys @ total.T)
        total = naive_change(at_start, derivatives, keys, labels.tolist(), moment, margin, 0.0)
    torch.testing.assert_close(change_of("hidden", network, result.params), total, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("place", ["fc", "fc.extra_layer.contract"])
def test_one_by_one_is_together(place: str):
    network = small_network(extra="extra" in place)
    site, x = site_of(network, place), vectors(4)
    labels, editor = other_labels(network, x), editor_at(site)
    together = edit(editor, site, x, labels)
    result, state = stream(editor, site, [(x[i : i + 1], labels[i : i + 1]) for i in range(4)])
    assert together.success
    assert result.success
    for name, value in together.params.items():
        torch.testing.assert_close(result.params[name], value, rtol=0, atol=1e-7 * float(value.abs().max()))
    own = {some.data_ptr() for some in network.parameters()}
    assert not own & {some.data_ptr() for some in (*state.values(), *result.params.values())}


def test_samples_that_nearly_lead_enough_are_asked_for_the_margin_too():
    """A stream's second sample leads by part of the margin after the first edit: together it would lead by all."""
    network, x = small_network(), vectors(2)
    site, label = site_of(network, "fc"), other_labels(small_network(), vectors(2))[:1]
    for margin in torch.logspace(-2, 1, 40).tolist():
        editor = editor_at(site, margin=margin)
        first = edit(editor, site, x[:1], label)
        logits = torch.func.functional_call(network, first.params, x[1:])[0].detach().sort(descending=True)
        if 0.5 < float(logits.values[0] - logits.values[1]) / margin < 0.95:
            break
    else:
        pytest.fail("no margin of which the second sample has most")
    labels = torch.cat([label, logits.indices[:1]])
    result, _ = stream(editor, site, [(x[:1], labels[:1]), (x[1:], labels[1:])])
    together = edit(editor, site, x, labels)
    assert (together.params["fc.weight"] - first.params["fc.weight"]).abs().max() > 1e-4
    torch.testing.assert_close(result.params["fc.weight"], together.params["fc.weight"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("place", ["fc", "hidden"])
def test_a_stream_goes_on_from_a_file_bit_by_bit(place: str):
    network = small_network(dtype=torch.float32)
    site, x = site_of(network, place), vectors(8, dtype=torch.float32)
    labels, editor = other_labels(network, x), editor_at(site, 1e-8)
    parts = [(x[i : i + 2], labels[i : i + 2]) for i in range(0, 8, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether all are met is not the question
        (one, state), (other, resumed) = (stream(editor, site, parts, saved) for saved in (False, True))
    assert all(torch.equal(one.params[name], other.params[name]) for name in one.params)
    assert state.keys() == resumed.keys()
    assert all(torch.equal(state[name], resumed[name]) for name in state)
    assert one.loss.equal(other.loss)


@pytest.mark.parametrize("softness", [1e-8, 0.1])
def test_a_longer_stream_is_together(softness: float):
    """Constraints enter and leave by updates of an inverse, and the softness goes with the mean of all samples."""
    network = small_network()
    site, x = site_of(network, "fc"), vectors(20)
    labels = torch.where(torch.arange(20) < 10, other_labels(network, x), network(x).argmax(dim=1))
    editor = editor_at(site, softness)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether all are met is not the question
        together = edit(editor, site, x, labels)
        result, state = stream(editor, site, [(x[i : i + 2], labels[i : i + 2]) for i in range(0, 20, 2)])
    for name, value in together.params.items():
        torch.testing.assert_close(result.params[name], value, rtol=0, atol=1e-6 * float(value.abs().max()))
    assert len(state["active"]) >= 10


def test_an_inverse_of_other_constraints_is_found_out():
    """A state whose inverse is that of nothing leads to the same."""
    network, x = small_network(), vectors(4)
    site, labels = site_of(network, "fc"), other_labels(small_network(), vectors(4))
    editor = editor_at(site)
    first, state = stream(editor, site, [(x[:3], labels[:3])])
    results = []
    for inverse in (state["inverse"], torch.eye(len(state["active"])).double() * 7, torch.zeros(0, 0).double()):
        changed = {**state, "inverse": inverse}
        results.append(editor.extend(site.split.suffix, first.params, site.split.prefix(x[3:]), labels[3:], changed)[0])
    assert len(state["inverse"]) == len(state["active"]) > 0
    for other in results[1:]:
        torch.testing.assert_close(other.params["fc.weight"], results[0].params["fc.weight"], rtol=0, atol=1e-9)


def test_labels_that_contradict_each_other_are_named():
    network, x = small_network(), vectors(3)
    site = site_of(network, "fc")
    twice = torch.cat([x, x[1:2]])
    with pytest.warns(UserWarning, match=r"1 of 4 samples do not get their labels \(number (1|3)\)|number 1, 3"):
        result = edit(MinimalHarmEditor().at(site), site, twice, [0, 1, 2, 3])
    assert not result.success
    assert all(some.isfinite().all() for some in result.params.values())
    logits = torch.func.functional_call(network, result.params, x)
    assert logits.argmax(dim=1)[[0, 2]].tolist() == [0, 2], "the others are as asked"


def test_more_than_the_layer_can_hold_is_said():
    """A hundred random labels of vectors with seven features and a bias."""
    network, x = small_network(), vectors(100, seed=5)
    site = site_of(network, "fc")
    with pytest.warns(UserWarning, match=r"of 100 samples do not get their labels \(number .*, …\): .* more than the"):
        result = edit(MinimalHarmEditor().at(site), site, x, other_labels(network, x))
    assert not result.success
    assert all(some.isfinite().all() for some in result.params.values())


@pytest.mark.parametrize("softness", [0.0, 1e-8])
def test_a_layer_that_nothing_hears(softness: float):
    """All units behind it are dead: there is no derivative, and no change that would help."""
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, CLASSES)).double().eval()
    nn.init.constant_(network[0].bias, -100.0)
    with torch.no_grad():
        network[2].bias.copy_(torch.arange(4.0))
    site = site_of(network, "0")
    with pytest.warns(UserWarning, match=r"2 of 3 samples do not get their labels \(number 0, 2\)"):
        result = edit(editor_at(site, softness), site, vectors(3), [0, 3, 2])
    assert not result.success
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in result.params.items())


def test_contradictions_behind_a_hidden_layer():
    network, x = small_network(), vectors(3)
    site = site_of(network, "hidden")
    with pytest.warns(UserWarning, match=r"do not get their labels"):
        result = edit(MinimalHarmEditor(softness=0.1).at(site), site, torch.cat([x, x[:1]]), [0, 1, 2, 3])
    assert not result.success
    assert all(value.isfinite().all() for value in result.params.values())


def test_mistakes():
    network, x = small_network(), vectors(2)
    site = site_of(network, "fc")
    editor = MinimalHarmEditor().at(site)
    with pytest.raises(UserError, match="label 4 was asked for, but the network's classes are 0 … 3"):
        edit(editor, site, x, [0, 4])
    with pytest.raises(UserError, match="label -1 was asked for"):
        edit(editor, site, x, [-1, 0])
    x[1, 0] = torch.nan
    with pytest.raises(UserError, match=r"what 'fc' reads is NaN or infinite for 1 of 2 samples \(number 1\)"):
        edit(editor, site, x, [0, 1])
    with pytest.raises(UserError, match=r"call at\(EditSite\(…\)\) first"):
        edit(MinimalHarmEditor(), site, x, [0, 1])
    with pytest.raises(UserError, match="MinimalHarmEditor cannot be differentiated"):
        editor(site.split.suffix, site.split.params, site.split.prefix(x), [0, 1], differentiable=True)
    with pytest.raises(UserError, match="got none"):
        edit(editor, site, x[:0], [])
    with pytest.raises(UserError, match="name one linear layer, such as fc"):
        MinimalHarmEditor().at(site_of(network, "fc", "hidden"))


def test_an_editor_is_bound_to_its_place_alone():
    one, other = small_network(), small_network()
    nn.init.normal_(other.fc.weight)
    editor, x = MinimalHarmEditor(), vectors(2)
    sites = [site_of(network, "fc") for network in (one, other)]
    bound = [editor.at(site) for site in sites]
    for network, site, some in zip((one, other), sites, bound, strict=True):
        assert edit(some, site, x, other_labels(network, x)).success
    assert editor._place is None
