"""`NeuronEditor` finds the unit that a plain solver of the primal program finds; it fires where it shall, and alone."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from editable.editing import EditResult, EditSite, NeuronEditor
from editable.editing.linear.neuron_editor import separating_unit
from editable.errors import UserError
from editable.models import SplitNetwork, add_neurons

CLASSES, HIDDEN = 4, 30
NAMES = ("3.neurons.values", "3.neurons.keys.weight", "3.neurons.keys.bias")


def plain_network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)).to(dtype)


def images_of(number: int, seed: int) -> Tensor:
    return torch.randn(number, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def site_of(network: nn.Module, layers: str = "neurons", number: int = 80) -> EditSite:
    images = images_of(number, 1)
    return EditSite(SplitNetwork(network, layers), lambda n: [(images[:n], torch.zeros(len(images[:n])).long())])


@pytest.fixture
def site() -> EditSite:
    return site_of(add_neurons(plain_network()))


def edit_of(number: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    images = images_of(number, seed)
    return images, (plain_network()(images).argmax(dim=1) + 1) % CLASSES


def views_of(image: Tensor, number: int) -> Tensor:
    noise = torch.randn(number, *image.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return image + 0.1 * torch.cat([torch.zeros_like(noise[:1]), noise[1:]])


def edit(site: EditSite, images: Tensor, labels: Tensor, **options: object) -> EditResult:
    editor = NeuronEditor(**options).at(site)
    dtype = site.split.network[1].weight.dtype
    return editor(site.split.suffix, site.split.params, site.split.prefix(images.to(dtype)), labels)


def answers(site: EditSite, images: Tensor, params: dict[str, Tensor]) -> Tensor:
    return site.split.suffix(site.split.prefix(images.to(site.split.network[1].weight.dtype)), params)


def primal(features: Tensor, silent: Tensor, references: Tensor, epsilon: float, silence: float) -> np.ndarray:
    """The program in u and b as it is written, by sequential quadratic programming."""
    h, r, reference = (some.numpy() for some in (features, silent, references))
    mean = reference.mean(axis=0)
    moment = np.mean([np.outer(x - mean, x - mean) for x in reference], axis=0)
    moment += epsilon * np.trace(moment) / len(mean) * np.eye(len(mean))

    def harm(x: np.ndarray) -> float:
        return 0.5 * (x[:-1] @ moment @ x[:-1] + (x[-1] + x[:-1] @ mean) ** 2 / len(mean))

    def slope(x: np.ndarray) -> np.ndarray:
        offset = (x[-1] + x[:-1] @ mean) / len(mean)
        return np.append(moment @ x[:-1] + offset * mean, offset)

    rows = np.vstack([np.c_[h, np.ones(len(h))], -np.c_[r, np.ones(len(r))]])
    bounds = np.r_[np.ones(len(h)), np.full(len(r), silence)]
    constraint = {"type": "ineq", "fun": lambda x: rows @ x - bounds, "jac": lambda x: rows}
    options = {"maxiter": 2000, "ftol": 1e-14}
    found = minimize(harm, np.zeros(len(mean) + 1), jac=slope, constraints=[constraint], options=options)
    assert found.success
    return found.x


@pytest.mark.parametrize("silence", [1.0, 0.2])
def test_equals_the_primal_program(site: EditSite, silence: float):
    image, label = edit_of(1)
    views = views_of(image[0], 4)
    result = edit(site, views, label.repeat(4), silence=silence, epsilon=0.05, margin=0.7)
    assert (bool(result.success), int(result.num_steps)) == (True, 1)
    with torch.no_grad():
        hidden = plain_network()[:3]
        features, references = hidden(views), hidden(images_of(80, 1))
    expected = torch.from_numpy(primal(features, references, references, 0.05, silence))
    u, b = result.params["3.neurons.keys.weight"][1], result.params["3.neurons.keys.bias"][1]
    torch.testing.assert_close(u, expected[:-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(b, expected[-1], rtol=1e-4, atol=1e-4)
    assert (features @ u + b >= 1 - 1e-5).all()
    assert (references @ u + b <= -silence + 1e-5).all()
    # The least strength by which all have the label by the margin.
    logits = plain_network()(views)
    others = logits.clone()
    others[:, label] = -math.inf
    strength = max(((others.amax(dim=1) - logits[:, label[0]] + 0.7) / (features @ u + b)).tolist())
    value = result.params["3.neurons.values"][1]
    torch.testing.assert_close(value[label[0]], torch.tensor(strength, dtype=torch.float64))
    assert value.count_nonzero() == 1


def test_references_and_the_network_stay_as_they_are(site: EditSite):
    network = site.split.network
    before = copy.deepcopy(network.state_dict())
    images, labels = edit_of(1)
    result = edit(site, images, labels)
    references = images_of(80, 1)
    assert torch.equal(answers(site, references, result.params), plain_network()(references))
    assert answers(site, images, result.params).argmax(dim=1).equal(labels)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_several_samples_of_several_labels(dtype: torch.dtype):
    site = site_of(add_neurons(plain_network(dtype)))
    images, labels = edit_of(6)
    result = edit(site, images, labels)
    assert result.success
    logits = answers(site, images, result.params)
    top = logits.topk(2, dim=1).values
    assert torch.equal(logits.argmax(dim=1), labels)
    assert (top[:, 0] - top[:, 1] >= 1 - 1e-4).all()
    assert len(result.params["3.neurons.values"]) == 1 + len(labels.unique())
    loaded = add_neurons(plain_network(dtype))
    loaded.load_state_dict(loaded.state_dict() | result.params)
    torch.testing.assert_close(loaded(images.to(dtype)), logits)


def test_what_holds_already_is_left_alone(site: EditSite):
    images = images_of(3, 2)
    result = edit(site, images, plain_network()(images).argmax(dim=1))
    assert (bool(result.success), int(result.num_steps)) == (True, 0)
    assert all(torch.equal(value, site.split.params[name]) for name, value in result.params.items())


def stream(site: EditSite, images: Tensor, labels: Tensor, params: dict | None = None, state: dict | None = None):
    params, state, results = params or site.split.params, state or {}, []
    editor = NeuronEditor().at(site)
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        features = site.split.prefix(image.to(site.split.network[1].weight.dtype))
        result, state = editor.extend(site.split.suffix, params, features, label, state)
        params = result.params
        results.append((result, state))
    return results


def test_a_stream_keeps_earlier_edits_and_resumes_bit_for_bit():
    site = site_of(add_neurons(plain_network(torch.float32)))
    images, labels = edit_of(8)
    results = stream(site, images, labels)
    assert all(bool(result.success) for result, _ in results)
    last, state = results[-1]
    assert torch.equal(answers(site, images, last.params).argmax(dim=1), labels)
    assert all(isinstance(value, Tensor) for value in state.values())
    (again, kept), *_ = reversed(
        stream(site, images[5:], labels[5:], *copy.deepcopy((results[4][0].params, results[4][1])))
    )
    assert all(torch.equal(value, last.params[name]) for name, value in again.params.items())
    assert all(torch.equal(value, state[name]) for name, value in kept.items())


def test_deleting_a_row_takes_its_edit_back(site: EditSite):
    images, labels = edit_of(3)
    results = stream(site, images, labels)
    params = {name: torch.cat([value[:2], value[3:]]) for name, value in results[-1][0].params.items()}
    others = images_of(300, 5)
    fires = torch.stack([answers(site, others, dict(results[k][0].params)) for k in (0, 1)])
    untouched = (fires[0] == fires[1]).all(dim=1)
    assert 0 < untouched.sum() < 300
    full = answers(site, others, results[-1][0].params)
    torch.testing.assert_close(answers(site, others, params)[untouched], full[untouched])
    back = answers(site, images, params).argmax(dim=1)
    assert back[1] == plain_network()(images[1:2]).argmax(dim=1)
    assert torch.equal(back[[0, 2]], labels[[0, 2]])
    undone = {name: value[:-1] for name, value in results[-1][0].params.items()}
    assert all(torch.equal(value, results[-2][0].params[name]) for name, value in undone.items())


def test_the_last_word_on_a_sample_counts(site: EditSite):
    images, labels = edit_of(1)
    other = (labels + 1) % CLASSES
    (_, _), (result, state) = stream(site, images.repeat(2, 1, 1, 1), torch.cat([labels, other]))
    assert result.success
    assert answers(site, images, result.params).argmax(dim=1).equal(other)
    assert state["targets"].tolist() == other.tolist()


def test_where_no_half_space_parts_them_it_says_so(site: EditSite):
    """The mean of reference images' features, in the midst of them, cannot be parted from them."""
    with torch.no_grad():
        middle = plain_network()[:3](images_of(80, 1)).mean(dim=0, keepdim=True)
        logits = plain_network()[3](middle)
    label = logits.argmin(dim=1)
    editor = NeuronEditor().at(site)
    features = tuple(logits if some.shape[1] == CLASSES else middle for some in site.split.prefix(images_of(1, 1)))
    with pytest.warns(
        UserWarning, match=rf"for label {int(label)} fires at \d+ of 80 reference images and 0 of 0 edited"
    ):
        result = editor(site.split.suffix, site.split.params, features, label)
    assert result.success
    assert site.split.suffix(features, result.params).argmax(dim=1).equal(label)


def test_separating_unit_of_two_points():
    """By hand: w = t·x with wᵀ(2, 0) ≥ 1 and wᵀ(−1, 0) ≤ −1."""
    silent = torch.tensor([[-1.0, 0.0], [-5.0, 0.0]]).double()
    for parts in ([silent], [silent[:1], silent[1:]], [silent[:0], silent]):
        w = separating_unit(torch.tensor([[2.0, 0.0]]).double(), parts, 1.0)
        torch.testing.assert_close(w, torch.tensor([1.0, 0.0]).double(), rtol=1e-6, atol=1e-6)


class TestMistakes:
    def test_contradicting_labels(self, site: EditSite):
        with pytest.raises(UserError, match="label 1 and label 2 are asked of samples number 0 and 1, which are the"):
            edit(site, images_of(1, 2).repeat(2, 1, 1, 1), torch.tensor([1, 2]))

    def test_not_finite(self, site: EditSite):
        with pytest.raises(UserError, match=r"what the edited layer reads is NaN or infinite for 1 of 2 samples"):
            edit(site, torch.cat([images_of(1, 2), images_of(1, 2) * torch.nan]), torch.tensor([1, 1]))

    def test_a_label_that_is_no_class(self, site: EditSite):
        with pytest.raises(UserError, match="label 4 was asked for"):
            edit(site, images_of(1, 2), torch.tensor([4]))

    def test_differentiable(self, site: EditSite):
        with pytest.raises(UserError, match="NeuronEditor cannot be differentiated"):
            NeuronEditor().at(site)(site.split.suffix, site.split.params, (), torch.tensor([1]), differentiable=True)

    def test_places(self, site: EditSite):
        with pytest.raises(UserError, match="Sequential has no layer of neurons: furnish it first"):
            NeuronEditor().at(site_of(plain_network(), "3"))
        with pytest.raises(UserError, match=r"adds rows to '3.neurons', but the editable layers are 3.weight"):
            NeuronEditor().at(site_of(site.split.network, "3"))
        with pytest.raises(UserError, match="there are none"):
            NeuronEditor().at(EditSite(site.split, lambda n: []))
        features = site.split.prefix(images_of(1, 2))
        with pytest.raises(UserError, match=r"call at\(EditSite"):
            NeuronEditor()(site.split.suffix, site.split.params, features, torch.tensor([1]))


def test_it_furnishes_a_network_once():
    network = plain_network()
    images = images_of(5, 3)
    before = network(images)
    assert torch.equal(NeuronEditor().furnish(network)(images), before)
    assert sorted(
        name for name, _ in NeuronEditor().furnish(network).named_parameters() if "neurons" in name
    ) == sorted(NAMES)


def test_configuration():
    written = NeuronEditor(silence=0.5).configuration()
    assert written["class_path"] == "editable.editing.NeuronEditor"
    assert NeuronEditor(**written["init_args"]).configuration() == written
