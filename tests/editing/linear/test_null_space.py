"""The null space: AlphaEdit's formula written out, what the projection leaves alone, and where nothing is empty."""

import pytest
import torch
from torch import Tensor, nn

from editable.editing import EditSite, NullSpaceEditor
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.editing.linear.small import (
    change_of,
    features_of,
    moment_of,
    other_labels,
    references,
    site_of,
    small_network,
    vectors,
    with_one,
)
from tests.editing.linear.test_linear_layer import jacobian
from tests.editing.linear.test_ridge import asked_changes, edit, stream


def projection(moment: Tensor, energy: float) -> Tensor:
    """P, on one eigenvector after the other while their eigenvalues sum up to no more than a share."""
    values, vectors_ = torch.linalg.eigh(moment)
    total, held = torch.zeros_like(moment), 0.0
    for value, vector in zip(values.tolist(), vectors_.T, strict=True):
        held += max(value, 0.0)
        if held > energy * float(moment.trace()):
            break
        total += torch.outer(vector, vector)
    return total


@pytest.mark.filterwarnings("ignore:.*do not get their labels")
@pytest.mark.parametrize("energy", [0.01, 0.2])
@pytest.mark.parametrize("place", ["fc", "fc.weight", "hidden"])
@pytest.mark.parametrize("number", [1, 12])
def test_formula(place: str, number: int, energy: float):
    """R K₁ᵀP (K_p K_pᵀP + K₁K₁ᵀP + γI)⁻¹ of all together, and edit by edit with R against the weights as they are."""
    network, x = small_network(), vectors(number)
    site, labels = site_of(network, place), other_labels(network, x)
    layer, bias = place.removesuffix(".weight"), not place.endswith("weight")
    editor = NullSpaceEditor(energy, 0.1, 0.7).at(site)
    moment = moment_of(layer, network, bias)
    p, penalty = projection(moment, energy), 0.1 * moment.trace() / len(moment)
    assert 0 < int(p.trace().round()) < len(p)
    keys = features_of(layer, network, x)
    keys = (with_one(keys) if bias else keys).T
    with torch.no_grad():
        asked = asked_changes(network(x), jacobian(layer, network, x), labels.tolist(), 0.7)
    unit = penalty * torch.eye(len(p), dtype=torch.float64)
    expected = asked @ keys.T @ p @ torch.linalg.inv(keys @ keys.T @ p + unit)
    together = change_of(layer, network, edit(editor, site, x, labels).params)
    torch.testing.assert_close(together, expected, rtol=1e-7, atol=1e-9)

    change = torch.zeros_like(expected)
    for i in range(number):
        own, earlier = keys[:, i : i + 1], keys[:, :i]
        residual = asked[:, i : i + 1] - change @ own
        inner = earlier @ earlier.T @ p + own @ own.T @ p + unit
        change = change + residual @ own.T @ p @ torch.linalg.inv(inner)
    one_by_one = change_of(layer, network, stream(editor, site, x, labels)[0].params)
    torch.testing.assert_close(one_by_one, change, rtol=1e-6, atol=1e-8)


class Narrow(nn.Module):
    """Reads five values, and on references the last two are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def test_what_is_truly_empty_costs_nothing():
    torch.manual_seed(0)
    network = Narrow().double().eval()
    split = SplitNetwork(network, "fc")

    def narrow(number: int):
        for images, labels in references(number):
            yield images * torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64), labels

    site = EditSite(split, narrow)
    x = vectors(2)
    with torch.no_grad():
        labels = (network(x).argmax(dim=1) + 1) % 3
    result = edit(NullSpaceEditor(1e-12, 1e-6).at(site), site, x, labels)
    assert result.success
    change = result.params["fc.weight"] - network.fc.weight
    assert change[:, :3].abs().max() < 1e-9
    assert change[:, 3:].abs().max() > 0.1
    images = next(iter(narrow(150)))[0]
    with torch.no_grad():
        torch.testing.assert_close(images @ result.params["fc.weight"].T, network(images), rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*do not get their labels")
def test_harm_is_bounded_by_the_energy():
    """E‖Δk‖² ≤ ‖Δ‖² times the largest eigenvalue that was taken, and all of these hold a share of the trace."""
    network, x = small_network(), vectors(3)
    site, moment = site_of(network, "fc"), moment_of("fc", network)
    for energy in (1e-3, 0.1):
        result = edit(NullSpaceEditor(energy).at(site), site, x, other_labels(network, x))
        change = change_of("fc", network, result.params)
        p = projection(moment, energy)
        torch.testing.assert_close(change @ p, change, rtol=1e-8, atol=1e-10)
        harm = (change @ moment @ change.T).trace()
        assert harm <= energy * moment.trace() * change.square().sum()


def test_where_nothing_is_empty_it_says_so():
    network = small_network()
    least = float(torch.linalg.eigvalsh(moment_of("fc", network))[0] / moment_of("fc", network).trace())
    with pytest.raises(UserError, match=r"none of the 8 directions that 'fc' reads is empty .* energy is 1e-09; take"):
        NullSpaceEditor(1e-9).at(site_of(network, "fc"))
    with pytest.raises(UserError, match="RidgeEditor"):
        NullSpaceEditor(0.9 * least).at(site_of(network, "fc"))
    assert NullSpaceEditor(1.1 * least).at(site_of(network, "fc"))


def test_a_layer_that_reads_zeros():
    network = small_network()
    nn.init.zeros_(network.hidden.weight)
    nn.init.zeros_(network.hidden.bias)
    with pytest.raises(UserError, match="'fc' reads nothing but zeros on reference images"):
        NullSpaceEditor().at(site_of(network, "fc.weight"))
