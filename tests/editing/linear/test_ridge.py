"""Ridge: the formula written out, streams that equal all samples together, and mistakes."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from editable.editing import EditResult, EditSite, NullSpaceEditor, RidgeEditor
from editable.editing.linear.least_squares import LeastSquaresEditor
from editable.errors import UserError
from tests.editing.linear.small import (
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

BOTH = pytest.mark.parametrize("editor", [RidgeEditor(0.01), NullSpaceEditor(0.5)], ids=["ridge", "null space"])


def edit(editor: LeastSquaresEditor, site: EditSite, inputs: Tensor, labels: Tensor | list[int]) -> EditResult:
    return editor(site.split.suffix, site.split.params, site.split.prefix(inputs), labels)


def asked_changes(logits: Tensor, derivatives: Tensor, labels: list[int], margin: float) -> Tensor:
    """R, columns [o, N]: the least change of the layer's output that raises the label above all others."""
    columns = []
    for i, label in enumerate(labels):
        best = max(float(logits[i, j]) for j in range(logits.shape[1]) if j != label)
        rise = torch.zeros(logits.shape[1], dtype=torch.float64)
        rise[label] = max(0.0, margin + best - float(logits[i, label]))
        columns.append(torch.linalg.lstsq(derivatives[i], rise, driver="gelsd").solution)
    return torch.stack(columns, dim=1)


def stream(
    editor: LeastSquaresEditor, site: EditSite, inputs: Tensor, labels: Tensor, size: int = 1, saved: bool = False
) -> tuple[EditResult, dict[str, Tensor]]:
    """``size`` samples an edit; with ``saved``, each from a file that the last edit has left."""
    params, state = dict(site.split.params), {}
    for start in range(0, len(inputs), size):
        features = site.split.prefix(inputs[start : start + size])
        result, state = editor.extend(site.split.suffix, params, features, labels[start : start + size], state)
        params = result.params
        if saved:
            file = io.BytesIO()
            torch.save((params, state), file)
            file.seek(0)
            params, state = torch.load(file, weights_only=True)
    return result, state


@pytest.mark.filterwarnings("ignore:.*do not get their labels")
@pytest.mark.parametrize("place", ["fc", "fc.weight", "fc.extra_layer.contract", "hidden"])
@pytest.mark.parametrize("number", [1, 5, 20])
def test_formula(place: str, number: int):
    network = small_network(extra="extra" in place)
    site, x = site_of(network, place), vectors(number)
    labels = other_labels(network, x)
    layer, bias = place.removesuffix(".weight"), not place.endswith("weight")
    result = edit(RidgeEditor(0.3, 0.7, 1e-3).at(site), site, x, labels)
    keys = features_of(layer, network, x)
    keys = (with_one(keys) if bias else keys).T
    with torch.no_grad():
        logits = network(x)
    asked = asked_changes(logits, jacobian(layer, network, x), labels.tolist(), 0.7)
    moment = regularised(moment_of(layer, network, bias), 1e-3)
    expected = asked @ keys.T @ torch.linalg.inv(0.3 * moment + keys @ keys.T)
    torch.testing.assert_close(change_of(layer, network, result.params), expected, rtol=1e-8, atol=1e-10)
    assert result.num_steps == 1


def test_what_is_asked_before_an_activation_gives_the_asked_logits():
    """The network behind ``fc.extra_layer.contract`` is linear, so r leads exactly to the asked logits."""
    network, x = small_network(extra=True), vectors(1)
    site = site_of(network, "fc.extra_layer.contract")
    label = other_labels(network, x)
    result = edit(RidgeEditor(1e-9, 0.7).at(site), site, x, label)
    before, after = network(x)[0], torch.func.functional_call(network, result.params, x)[0]
    others = torch.arange(4) != label
    torch.testing.assert_close(after[others], before[others], rtol=0, atol=1e-6)
    torch.testing.assert_close(after[label], before[others].max()[None] + 0.7, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_formula_where_logits_do_not_depend_on_all_of_the_output(dtype: torch.dtype):
    """A log-softmax takes no notice of the mean: D = I − 1pᵀ is singular, and in float32 only nearly so."""
    network, x = nn.Sequential(*small_network(dtype=dtype), nn.LogSoftmax(dim=-1)), vectors(3, dtype=dtype)
    site, labels = site_of(network, "4"), other_labels(network, x)
    result = edit(RidgeEditor(0.01, 0.7, 1e-3).at(site), site, x, labels)
    exact = copy.deepcopy(network).double()
    keys, logits = with_one(features_of("4", exact, x.double())).T, exact(x.double()).detach()
    derivatives = torch.eye(4, dtype=torch.float64) - logits.exp()[:, None, :]
    asked = asked_changes(logits, derivatives, labels.tolist(), 0.7)
    moment = regularised(moment_of("4", exact), 1e-3)
    expected = asked @ keys.T @ torch.linalg.inv(0.01 * moment + keys @ keys.T)
    found = change_of("4", network, result.params).double()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_success_and_nothing_else(editor: LeastSquaresEditor, dtype: torch.dtype):
    network, x = small_network(dtype=dtype), vectors(3, dtype=dtype)
    site, labels = site_of(network, "fc"), other_labels(network, x)
    before = {name: some.clone() for name, some in network.state_dict().items()}
    result = edit(editor.at(site), site, x, labels)
    assert result.success
    assert torch.func.functional_call(network, result.params, x).argmax(dim=1).equal(labels)
    assert {some.dtype for some in result.params.values()} == {dtype}
    assert all(torch.equal(network.state_dict()[name], some) for name, some in before.items())
    with torch.no_grad():
        own = network(x).argmax(dim=1)
    kept = edit(type(editor)(margin=1e-9).at(site), site, x, own)
    assert (kept.success, kept.num_steps) == (True, 0)
    assert not change_of("fc", network, kept.params).any()


@BOTH
@pytest.mark.filterwarnings("ignore:.*do not get their labels")
@pytest.mark.parametrize("place", ["fc", "hidden"])
@pytest.mark.parametrize("size", [1, 3])
def test_one_by_one_is_together(editor: LeastSquaresEditor, place: str, size: int):
    """Also with more samples than a key has entries, some of them twice."""
    network = small_network()
    site, x = site_of(network, place), torch.cat([vectors(28), vectors(2)])
    labels, editor = other_labels(network, x), editor.at(site)
    together = edit(editor, site, x, labels)
    result, state = stream(editor, site, x, labels, size)
    for name, value in together.params.items():
        torch.testing.assert_close(result.params[name], value, rtol=0, atol=1e-9 * float(value.abs().max()))
    assert state["inverse"].dtype == torch.float64
    torch.testing.assert_close(state["inverse"], state["inverse"].T, rtol=1e-10, atol=1e-10)
    own = {some.data_ptr() for some in network.parameters()}
    assert not own & {some.data_ptr() for some in (*state.values(), *result.params.values())}


@BOTH
@pytest.mark.filterwarnings("ignore:.*do not get their labels")
def test_a_stream_goes_on_from_a_file_bit_by_bit(editor: LeastSquaresEditor):
    network = small_network(dtype=torch.float32)
    site, x = site_of(network, "fc"), vectors(8, dtype=torch.float32)
    labels, editor = other_labels(network, x), editor.at(site)
    (one, state), (other, resumed) = (stream(editor, site, x, labels, 2, saved) for saved in (False, True))
    assert all(torch.equal(one.params[name], other.params[name]) for name in one.params)
    assert all(torch.equal(state[name], resumed[name]) for name in state | resumed)


@BOTH
def test_earlier_edits_hold_on(editor: LeastSquaresEditor):
    network, x = small_network(), vectors(4)
    site = site_of(network, "fc")
    labels = other_labels(network, x)
    result, _ = stream(editor.at(site), site, x, labels)
    assert torch.func.functional_call(network, result.params, x).argmax(dim=1).equal(labels)


@BOTH
def test_labels_that_contradict_each_other_are_named(editor: LeastSquaresEditor):
    network, x = small_network(), vectors(2)
    site = site_of(network, "fc")
    with pytest.warns(UserWarning, match=r"of 3 samples do not get their labels \(number (0|2|0, 2)\)"):
        result = edit(editor.at(site), site, torch.cat([x, x[:1]]), [0, 1, 2])
    assert not result.success


@BOTH
def test_mistakes(editor: LeastSquaresEditor):
    name = type(editor).__name__
    network, x = small_network(), vectors(2)
    site = site_of(network, "fc")
    with pytest.raises(UserError, match=rf"{name} needs .* call at\(EditSite\(…\)\) first"):
        edit(editor, site, x, [0, 1])
    with pytest.raises(UserError, match="name one linear layer, such as fc"):
        editor.at(site_of(network, "fc", "hidden"))
    bound = editor.at(site)
    with pytest.raises(UserError, match="label 4 was asked for, but the network's classes are 0 … 3"):
        edit(bound, site, x, [0, 4])
    with pytest.raises(UserError, match=f"{name} cannot be differentiated"):
        bound(site.split.suffix, site.split.params, site.split.prefix(x), [0, 1], differentiable=True)
    with pytest.raises(UserError, match="got none"):
        edit(bound, site, x[:0], [])
    x[1, 0] = torch.inf
    x[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"what 'fc' reads is NaN or infinite for 1 of 2 samples \(number 0\)"):
        edit(bound, site, x, [0, 1])


@BOTH
def test_its_configuration_makes_it_again(editor: LeastSquaresEditor):
    written = editor.configuration()
    assert written["class_path"] == f"editable.editing.{type(editor).__name__}"
    again = type(editor)(**written["init_args"])
    assert again.configuration() == written
