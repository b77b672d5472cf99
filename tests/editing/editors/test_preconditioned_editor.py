"""`PreconditionedEditor` equals descent with the gradient times C⁻¹, written out, on linear layers and convolutions."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from editable.editing import (
    GD,
    BallEditor,
    CodebookEditor,
    Editor,
    EditResult,
    EditSite,
    HigherEditor,
    MinimalHarmEditor,
    PreconditionedEditor,
    RMSProp,
    ScaledGD,
    StrengthSearch,
)
from editable.editing.editors.objective import is_predicted
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.editing.reference import conv_network, images_of, margin_loss
from tests.warned import no_warning

REFERENCES = images_of(60, seed=9)
CASES = [(["8"], "pixel"), (["3"], "pixel"), (["3"], "patch"), (["3", "8"], "pixel")]


def site_of(split: SplitNetwork) -> EditSite:
    batches = [(part, torch.zeros(len(part), dtype=torch.int64)) for part in REFERENCES.split(25)]
    return EditSite(split, lambda number: batches)


def keys_of(network: nn.Module, layer: str, architecture: str) -> Tensor:
    """What a layer reads of the references, one key a row."""
    inner = copy.deepcopy(network).eval()[: int(layer)]
    with torch.no_grad():
        read = inner(REFERENCES)
    if read.ndim == 2:
        return read
    if architecture == "pixel":
        return torch.stack([read[n, :, y, x] for n in range(60) for y in range(6) for x in range(6)])
    return torch.stack(
        [read[n, :, y : y + 3, x : x + 3].flatten() for n in range(60) for y in (0, 2) for x in (0, 2)]
    )  # the convolution is 3×3 of stride 2


def times(weight: Tensor, matrix: Tensor, architecture: str) -> Tensor:
    """A weight, or gradient, times a symmetric matrix on its keys."""
    if weight.ndim == 4 and architecture == "pixel":
        return torch.einsum("fcmn,cd->fdmn", weight, matrix)
    return (weight.flatten(1) @ matrix).view_as(weight)


def inverse_of(keys: Tensor, power: float, epsilon: float = 1e-4) -> Tensor:
    moment = keys.T @ keys / len(keys)
    moment = moment + epsilon * moment.trace() / len(moment) * torch.eye(len(moment), dtype=moment.dtype)
    values, vectors = torch.linalg.eigh(moment)
    return vectors @ torch.diag(values**power) @ vectors.T


def by_hand(
    network: nn.Module, layers: list[str], architecture: str, step: str, sample: Tensor, label: Tensor, rate: float
):
    """Descent in place: W ← W − αGC⁻¹; or with mean squares, or one norm, of GC^{-1/2}, mapped back by C^{-1/2}."""
    edited = copy.deepcopy(network).eval()
    weights = [edited.get_parameter(f"{layer}.weight") for layer in layers]
    keys = [keys_of(network, layer, architecture) for layer in layers]
    squares: list = [None] * len(layers)
    for num_steps in range(9):
        loss = margin_loss(edited(sample), label, 1.0)
        if loss.item() <= 0 or num_steps == 8:
            return edited, num_steps
        grads = torch.autograd.grad(loss, weights)
        roots = [inverse_of(some, -0.5) for some in keys]
        white = [times(grad, root, architecture) for grad, root in zip(grads, roots, strict=True)]
        norm = sum(float(some.square().sum()) for some in white) ** 0.5
        with torch.no_grad():
            for place, weight in enumerate(weights):
                if step == "GD":
                    weight -= rate * times(grads[place], inverse_of(keys[place], -1.0), architecture)
                elif step == "ScaledGD":
                    weight -= rate * times(white[place] / norm, roots[place], architecture)
                else:
                    square = white[place] ** 2
                    squares[place] = square if squares[place] is None else 0.5 * squares[place] + 0.5 * square
                    weight -= rate * times(white[place] / (squares[place] + 1e-6).sqrt(), roots[place], architecture)


@pytest.fixture
def network() -> nn.Module:
    return conv_network()


def asked(split: SplitNetwork, number: int = 3) -> tuple[tuple[Tensor, ...], Tensor]:
    features = split.prefix(images_of(number))
    return features, (split.suffix(features, split.params).argmax(dim=1) + torch.arange(number) + 1) % 5


@pytest.mark.parametrize(("layers", "architecture"), CASES)
@pytest.mark.parametrize(("rule", "rate"), [(GD, 0.01), (ScaledGD, 0.1), (RMSProp, 0.01)])
def test_equals_descent_written_out(network: nn.Module, layers: list[str], architecture: str, rule: type, rate: float):
    split = SplitNetwork(network, layers)
    features, labels = asked(split)
    editor = PreconditionedEditor(Editor(rule(rate), 8, margin=1.0), architecture).at(site_of(split))
    together = editor.edit_many(split.suffix, split.params, tuple(some[:, None] for some in features), labels)
    counts = []
    for edit, image in enumerate(images_of(3)):
        edited, num_steps = by_hand(
            network, layers, architecture, rule.__name__, image[None], labels[edit : edit + 1], rate
        )
        alone = editor(
            split.suffix, split.params, tuple(some[edit : edit + 1] for some in features), [int(labels[edit])]
        )
        assert int(alone.num_steps) == int(together.num_steps[edit]) == num_steps
        for name in split.names:
            expected = edited.get_parameter(name).detach()
            torch.testing.assert_close(alone.params[name], expected, rtol=1e-8, atol=1e-9)
            torch.testing.assert_close(together.params[name][edit], expected, rtol=1e-8, atol=1e-9)
        counts.append(num_steps)
    assert max(counts) > 1


def test_biases_and_batch_norm_are_left(network: nn.Module):
    split = SplitNetwork(network, ["3", "4", "8"])
    features, labels = asked(split)
    editor = PreconditionedEditor(Editor(ScaledGD(0.2), 60)).at(site_of(split))
    result = editor(split.suffix, split.params, features, labels)
    assert result.success
    assert result.params.keys() == split.params.keys()
    for name, param in split.params.items():
        assert result.params[name].equal(param) == (name not in ("3.weight", "8.weight"))
        assert result.params[name].data_ptr() != param.data_ptr()
        assert not result.params[name].requires_grad


def test_an_edit_without_a_step_returns_the_weights_to_the_bit(network: nn.Module):
    split = SplitNetwork(network, ["3", "8"])
    features = split.prefix(images_of(2))
    own = split.suffix(features, split.params).argmax(dim=1)
    editor = PreconditionedEditor(Editor(GD(0.1))).at(site_of(split))
    result = editor(split.suffix, split.params, features, own)
    assert result.num_steps == 0
    assert all(result.params[name].equal(param) for name, param in split.params.items())


def test_the_output_on_references_moves_by_the_norm_in_white_coordinates():
    """Within a ball of V the mean square change of a layer's output on the references is at most r² (ε = 0)."""
    network = conv_network()
    split = SplitNetwork(network, ["8.weight"])
    features, labels = asked(split)
    ball = BallEditor(ScaledGD(0.2), 0.3, max_steps=8, margin=50.0)
    editor = PreconditionedEditor(ball, epsilon=0.0).at(site_of(split))
    result = editor(split.suffix, split.params, features, labels)
    change = result.params["8.weight"] - split.params["8.weight"]
    moved = keys_of(network, "8", "pixel") @ change.detach().T
    assert float(moved.square().sum(dim=1).mean()) == pytest.approx(0.3**2)


@pytest.mark.parametrize("inner", [Editor(RMSProp(0.01), 40), BallEditor(RMSProp(0.05), 1.0, max_steps=20, margin=1.0)])
def test_a_stream_resumes_bit_for_bit(network: nn.Module, inner: Editor):
    split = SplitNetwork(network, ["3", "8"])
    editor = PreconditionedEditor(inner).at(site_of(split))
    images, labels = images_of(5, seed=4), [0, 1, 2, 3, 4]
    keys = {layer: inverse_of(keys_of(network, layer, "pixel"), 0.5) for layer in ("3", "8")}

    def follow(params: dict, state: dict, edits: range) -> tuple[EditResult, dict]:
        for edit in edits:
            sample = split.prefix(images[edit : edit + 1])
            result, state = editor.extend(split.suffix, params, sample, [labels[edit]], state)
            params = result.params
            if isinstance(inner, BallEditor):  # in white coordinates, around the beginning
                white = [
                    times((params[f"{layer}.weight"] - split.params[f"{layer}.weight"]).detach(), root, "pixel")
                    for layer, root in keys.items()
                ]
                assert sum(float(some.square().sum()) for some in white) ** 0.5 <= 1.0 + 1e-6
            else:
                assert is_predicted(split.suffix(sample, params), torch.tensor(labels[edit : edit + 1])).all()
        return result, state

    whole, _ = follow(dict(split.params), {}, range(5))
    half, state = follow(dict(split.params), {}, range(2))
    resumed, _ = follow(copy.deepcopy(half.params), {name: some.clone() for name, some in state.items()}, range(2, 5))
    assert all(resumed.params[name].equal(some) for name, some in whole.params.items())


def test_others_may_be_inside_and_outside(network: nn.Module):
    split = SplitNetwork(network, ["8"])
    features, labels = asked(split)
    higher = HigherEditor(lambda params: torch.optim.SGD(params, 0.02), 30)
    one, other = (
        PreconditionedEditor(inner).at(site_of(split))(split.suffix, split.params, features, labels)
        for inner in (higher, Editor(GD(0.02), 30))
    )
    assert one.num_steps == other.num_steps > 0
    torch.testing.assert_close(one.params["8.weight"], other.params["8.weight"], rtol=1e-6, atol=1e-8)
    search = StrengthSearch(PreconditionedEditor(Editor(GD(0.05), 40, margin=1.0))).at(site_of(split))
    params, state = dict(split.params), {}
    for edit in range(3):
        sample = tuple(some[edit : edit + 1] for some in features)
        result, state = search.extend(split.suffix, params, sample, labels[edit : edit + 1], state)
        assert result.success
        assert is_predicted(split.suffix(sample, result.params), labels[edit : edit + 1]).all()
        params = result.params


def test_differentiable(network: nn.Module):
    """The gradient of an edited loss with respect to the first weights, by finite differences."""
    split = SplitNetwork(network, ["8"])
    features, labels = asked(split, 1)
    editor = PreconditionedEditor(Editor(GD(0.05), 2, margin=50.0)).at(site_of(split))

    def edited(weight: Tensor) -> Tensor:
        params = {**split.params, "8.weight": weight}
        result = editor(split.suffix, params, features, labels, differentiable=True)
        return functional.cross_entropy(split.suffix(features, result.params), labels + 0)

    assert torch.autograd.gradcheck(edited, split.params["8.weight"].detach().clone().requires_grad_())


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(torch.cat([x, x.square()], dim=1)).relu()).mean(dim=(2, 3))


def test_layers_that_are_no_memory_are_left_with_a_warning():
    torch.manual_seed(0)
    network = Grouped().double()
    split = SplitNetwork(network, "all")
    with pytest.warns(UserWarning, match=r"1 of 2 layers are left as they are: 'first' is a convolution with 4 groups"):
        editor = PreconditionedEditor(Editor(GD(0.1))).at(site_of(split))
    with no_warning():
        result = editor(split.suffix, split.params, split.prefix(images_of(1)), [2])
    assert result.params["first.weight"].equal(network.first.weight)
    with pytest.raises(UserError, match=r"no linear or convolutional weight can be preconditioned.*4 groups"):
        PreconditionedEditor(Editor(GD(0.1))).at(site_of(SplitNetwork(network, "first")))


def test_what_cannot_be_done_ends_in_a_sentence(network: nn.Module):
    split = SplitNetwork(network, ["8"])
    features, labels = asked(split)
    editor = PreconditionedEditor(Editor(GD(0.1)))
    for inner in (MinimalHarmEditor(), CodebookEditor(), editor):
        with pytest.raises(UserError, match=f"{type(inner).__name__} works on the weights of its place"):
            PreconditionedEditor(inner)
    with pytest.raises(UserError, match="architecture must be one of pixel, patch, got 'row'"):
        PreconditionedEditor(Editor(GD(0.1)), "row")
    with pytest.raises(UserError, match=r"call at\(EditSite"):
        editor(split.suffix, split.params, features, labels)
    with pytest.raises(UserError, match=r"can be preconditioned among 4\.weight, 4\.bias$"):
        editor.at(site_of(SplitNetwork(network, ["4"])))
    there = editor.at(site_of(split))
    with pytest.raises(UserError, match=r"those of 8\.weight, none of which is among the parameters 3\.bias"):
        there(split.suffix, {"3.bias": torch.zeros(6)}, features, labels)
    with pytest.raises(UserError, match="at least one parameter"):
        there(split.suffix, {}, features, labels)
    broken = EditSite(split, lambda number: [(REFERENCES * torch.nan, torch.zeros(60, dtype=torch.int64))])
    with pytest.raises(UserError, match="keys must be finite"):
        editor.at(broken)
    assert not there(split.suffix, split.params, tuple(some * torch.nan for some in features), labels).success
    twice = tuple(torch.cat([some[:1], some[:1]]) for some in features)
    assert not there.with_strict_success()(split.suffix, split.params, twice, [1, 2]).success


def test_it_is_written_and_its_rank_is_that_of_the_rule():
    editor = PreconditionedEditor(Editor(GD(0.1), 3), "patch", 1e-3, 100)
    arguments = editor.configuration()["init_args"]
    assert arguments["editor"]["class_path"] == "editable.editing.Editor"
    assert (arguments["architecture"], arguments["epsilon"], arguments["num_references"]) == ("patch", 1e-3, 100)
    assert editor.rank_of_change(2) == 6
    network = conv_network(num_classes=30)
    split = SplitNetwork(network, ["8"])
    there = PreconditionedEditor(Editor(GD(0.1), 3, margin=50.0)).at(site_of(split))
    result = there(split.suffix, split.params, split.prefix(images_of(2)), [1, 2])
    assert torch.linalg.matrix_rank((result.params["8.weight"] - split.params["8.weight"]).detach()) <= 6
