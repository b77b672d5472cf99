"""`LastLayerRetraining` finds the minimum that a plain Newton's method finds, and what is asked holds."""

import copy

import pytest
import torch
from torch import Tensor, nn

from editable.editing import EditSite, LastLayerRetraining
from editable.editing.linear.last_layer import reference_weights
from editable.errors import UserError
from editable.models import SplitNetwork

CLASSES = 4


def small_network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, CLASSES)).to(dtype)


def images_of(number: int, seed: int) -> Tensor:
    return torch.randn(number, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def site_of(network: nn.Module, layers: str = "3", number: int = 60) -> EditSite:
    """References have the network's own labels, but for one in six."""
    images = images_of(number, 1)
    labels = network(images.to(network[1].weight)).argmax(dim=1)
    labels[::6] = (labels[::6] + 1) % CLASSES
    return EditSite(SplitNetwork(network, layers), lambda n: [(images[:n], labels[:n])] if n else [])


def edit_of(network: nn.Module, number: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    images = images_of(number, seed)
    return images, (network(images).argmax(dim=1) + 1) % CLASSES


def newton(keys: Tensor, labels: Tensor, weights: Tensor, base: Tensor, ridge: float) -> Tensor:
    """Newton's method, gradient and Hessian summed over samples one by one."""
    classes, size = base.shape
    matrix = base.clone()
    for _ in range(30):
        gradient = ridge * (matrix - base).flatten()
        hessian = ridge * torch.eye(classes * size, dtype=torch.float64)
        for key, label, weight in zip(keys, labels.tolist(), weights, strict=True):
            p = (matrix @ key).softmax(dim=0)
            error = p.clone()
            error[label] -= 1
            gradient += weight * torch.kron(error, key)
            hessian += weight * torch.kron(p.diag() - torch.outer(p, p), torch.outer(key, key))
        matrix = matrix - torch.linalg.solve(hessian, gradient).view_as(base)
        if gradient.abs().max() < 1e-12:
            break
    return matrix


@pytest.mark.parametrize("number", [60, 7])  # 7 and the 2 that are edited span less than all of a key
@pytest.mark.filterwarnings("ignore:.*do not get their labels")
def test_equals_newtons_method(number: int):
    network = small_network()
    site, (images, targets) = site_of(network, number=number), edit_of(network, 2)
    editor = LastLayerRetraining(max_steps=1, margin=0.0, gamma=3.0, strength=0.02, edit_weight=0.7).at(site)
    result = editor(site.split.suffix, site.split.params, site.split.prefix(images), targets)
    references, labels = site.features(number)
    with torch.no_grad():
        hidden = torch.cat([references[0], site.split.prefix(images)[0]])
        keys = torch.cat([hidden, torch.ones(number + 2, 1, dtype=torch.float64)], dim=1)
        base = torch.cat([network[3].weight, network[3].bias[:, None]], dim=1)
        weights = torch.zeros(number, dtype=torch.float64)
        for place, label in enumerate(labels.tolist()):
            p = (keys[place] @ base.T).softmax(dim=0)[label]
            weights[place] = torch.exp(-3.0 * p) / (labels == label).sum()
        weights /= weights.sum()
        ridge = 0.02 * float(sum(w * (k**2).mean() for w, k in zip(weights, keys, strict=False)))
    asked, own = torch.cat([labels, targets]), torch.full((2,), 0.7, dtype=torch.float64)
    expected = newton(keys, asked, torch.cat([weights, own]), base, ridge)
    torch.testing.assert_close(result.params["3.weight"], expected[:, :-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.params["3.bias"], expected[:, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", ["3", "3.weight"])
@pytest.mark.parametrize("weighting", ["wrong", "group", "equal"])
def test_edited_samples_hold(weighting: str, layers: str):
    network = small_network()
    before = copy.deepcopy(network.state_dict())
    site, (images, targets) = site_of(network, layers), edit_of(network, 3)
    result = LastLayerRetraining(weighting=weighting).at(site)(
        site.split.suffix, site.split.params, site.split.prefix(images), targets
    )
    assert result.success
    assert 1 <= result.num_steps <= 10
    edited = copy.deepcopy(network)
    edited.load_state_dict(before | result.params)
    logits = edited(images)
    assert torch.equal(logits.argmax(dim=1), targets)
    top = logits.topk(2, dim=1).values
    assert (top[:, 0] - top[:, 1] >= 0.1 - 1e-9).all()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(param.requires_grad for param in result.params.values())


def test_what_holds_already_is_left_alone():
    network = small_network(torch.float32)
    site, images = site_of(network), images_of(2, 2).float()
    result = LastLayerRetraining(margin=0.0).at(site)(
        site.split.suffix, site.split.params, site.split.prefix(images), network(images).argmax(dim=1)
    )
    assert (bool(result.success), int(result.num_steps)) == (True, 0)
    assert all(torch.equal(value, site.split.params[name]) for name, value in result.params.items())


def test_weights_of_references():
    """By the formulas of the papers, one image after the other."""
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = torch.arange(30) % 2
    pairs = list(zip(labels.tolist(), logits.argmax(dim=1).tolist(), strict=True))
    wrong, group = [], []
    for number, (label, prediction) in enumerate(pairs):
        p = float(logits[number, label].exp() / logits[number].exp().sum())
        wrong.append(2.718281828459045 ** (-5 * p) / sum(other == label for other, _ in pairs))
        group.append(1 / pairs.count((label, prediction)))
    for weighting, expected in (("wrong", wrong), ("group", group), ("equal", [1.0] * 30)):
        expected = torch.tensor(expected, dtype=torch.float64)
        found = reference_weights(logits, labels, weighting, 5.0)
        torch.testing.assert_close(found, expected / expected.sum())


def test_retraining_mends_a_kind_of_mistake():
    """What the references have as label, and the old weights get wrong, is learnt by images that are not edited."""
    torch.manual_seed(1)
    network = small_network()
    images, others = images_of(400, 5), images_of(400, 6)
    network[3].bias.data[0] += 3.0  # class 0 is predicted too often
    truth = small_network()(images).argmax(dim=1)
    wrong = (network(images).argmax(dim=1) != truth).nonzero().flatten()[:2]
    site = EditSite(SplitNetwork(network, "3"), lambda n: [(images[10:], truth[10:])])
    result = LastLayerRetraining(strength=1e-4).at(site)(
        site.split.suffix, site.split.params, site.split.prefix(images[wrong]), truth[wrong]
    )
    right = small_network()(others).argmax(dim=1)
    before = (network(others).argmax(dim=1) != right).double().mean()
    after = (site.split.suffix(site.split.prefix(others), result.params).argmax(dim=1) != right).double().mean()
    assert before > 0.2
    assert after < before / 3


def stream(editor: LastLayerRetraining, site: EditSite, images: Tensor, targets: Tensor, state: dict | None = None):
    params, state, results = site.split.params, state or {}, []
    for image, target in zip(images.split(1), targets.split(1), strict=True):
        result, state = editor.extend(site.split.suffix, params, site.split.prefix(image), target, state)
        params = result.params
        results.append((result, state))
    return results


def test_a_stream_keeps_earlier_edits_and_resumes_bit_for_bit():
    network = small_network(torch.float32)
    site, (images, targets) = site_of(network), edit_of(small_network(), 5)
    images = images.float()
    editor = LastLayerRetraining().at(site)
    results = stream(editor, site, images, targets)
    assert all(bool(result.success) for result, _ in results)
    last, state = results[-1]
    logits = site.split.suffix(site.split.prefix(images), last.params)
    assert torch.equal(logits.argmax(dim=1), targets)
    assert all(isinstance(value, Tensor) for value in state.values())
    params, kept = copy.deepcopy(results[2][0].params), copy.deepcopy(results[2][1])
    for image, target in zip(images[3:].split(1), targets[3:].split(1), strict=True):
        again, kept = (
            LastLayerRetraining().at(site).extend(site.split.suffix, params, site.split.prefix(image), target, kept)
        )
        params = again.params
    assert all(torch.equal(value, last.params[name]) for name, value in params.items())
    assert all(torch.equal(value, state[name]) for name, value in kept.items())


def test_the_last_word_on_a_sample_counts():
    network = small_network()
    site, (images, targets) = site_of(network), edit_of(network, 1)
    other = (targets + 1) % CLASSES
    (_, _), (result, state) = stream(
        LastLayerRetraining().at(site), site, images.repeat(2, 1, 1, 1), torch.cat([targets, other])
    )
    assert result.success
    assert state["labels"].tolist() == other.tolist()


def test_what_cannot_hold_is_said():
    network = small_network()
    site, (images, targets) = site_of(network), edit_of(network, 40)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, CLASSES, targets.shape, generator=generator)
    editor = LastLayerRetraining(max_steps=2).at(site)
    with pytest.warns(UserWarning, match=r"\d+ of 40 samples do not get their labels by the margin in 2 trainings"):
        result = editor(site.split.suffix, site.split.params, site.split.prefix(images), targets)
    assert not result.success
    assert result.num_steps == 2


class TestMistakes:
    def edit(self, images: Tensor, labels: list[int], **options: object) -> None:
        site = site_of(small_network())
        LastLayerRetraining().at(site)(
            site.split.suffix, site.split.params, site.split.prefix(images), torch.tensor(labels), **options
        )

    def test_contradicting_labels(self):
        with pytest.raises(UserError, match="label 1 and label 2 are asked of samples number 0 and 1, which are the"):
            self.edit(images_of(1, 2).repeat(2, 1, 1, 1), [1, 2])

    def test_not_finite(self):
        with pytest.raises(UserError, match=r"what '3' reads is NaN or infinite for 1 of 1 samples \(number 0\)"):
            self.edit(images_of(1, 2) * torch.nan, [1])

    def test_a_label_that_is_no_class(self):
        with pytest.raises(UserError, match="label 4 was asked for"):
            self.edit(images_of(1, 2), [4])

    def test_differentiable(self):
        with pytest.raises(UserError, match="LastLayerRetraining cannot be differentiated"):
            self.edit(images_of(1, 2), [1], differentiable=True)

    def test_places(self):
        network = small_network()
        with pytest.raises(UserError, match="what '1' gives goes on through others"):
            LastLayerRetraining().at(site_of(network, "1"))
        with pytest.raises(UserError, match="one linear layer"):
            LastLayerRetraining().at(EditSite(SplitNetwork(network, ["1", "3"]), lambda n: []))
        with pytest.raises(UserError, match="there are none"):
            LastLayerRetraining().at(EditSite(SplitNetwork(network, "3"), lambda n: []))
        foreign = EditSite(SplitNetwork(network, "3"), lambda n: [(images_of(2, 1), torch.tensor([0, 7]))])
        with pytest.raises(UserError, match="labels up to 7, but the network's classes are 0 … 3"):
            LastLayerRetraining().at(foreign)
        broken = EditSite(SplitNetwork(network, "3"), lambda n: [(images_of(2, 1) * torch.nan, torch.tensor([0, 1]))])
        with pytest.raises(UserError, match="what '3' reads is NaN or infinite for 1 of 1 samples"):
            LastLayerRetraining().at(broken)
        split = SplitNetwork(network, "3")
        with pytest.raises(UserError, match=r"call at\(EditSite"):
            LastLayerRetraining()(split.suffix, split.params, split.prefix(images_of(1, 2)), torch.tensor([1]))

    def test_weighting(self):
        with pytest.raises(UserError, match="weighting must be one of wrong, group, equal, got 'right'"):
            LastLayerRetraining(weighting="right")


def test_configuration():
    written = LastLayerRetraining(weighting="group", strength=0.5).configuration()
    assert written["class_path"] == "editable.editing.LastLayerRetraining"
    assert LastLayerRetraining(**written["init_args"]).configuration() == written
