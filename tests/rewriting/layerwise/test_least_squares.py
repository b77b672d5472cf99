"""Layers fitted one after the other equal a plain regression written by hand, and take a concept back."""

import copy

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.rewriting import LayerwiseLeastSquares
from tests.rewriting.problems import Untouched, conv_problem, random


def with_concept(**others):
    """Exemplars of 6×6 pixels, to which the concept adds a pattern."""
    originals = random(12, 3, 6, 6, seed=5)
    images = originals.clone()
    images[:, :, 2:4] += 3 * random(1, 3, 2, 6, seed=6)
    return conv_problem(**{"images": images, "originals": originals, "labels": torch.zeros(12)} | others)


def patches(network: nn.Module, layer: str, images: torch.Tensor) -> torch.Tensor:
    """What a 3×3 convolution reads, one patch in each row, by a hook and loops over positions."""
    read = []
    handle = network.get_submodule(layer).register_forward_pre_hook(lambda _, args: read.append(args[0]))
    network.eval()(images)
    handle.remove()
    stride = network.get_submodule(layer).stride[0]
    padded = nn.functional.pad(read[0], (1, 1, 1, 1))
    rows = range(0, padded.shape[2] - 2, stride)
    columns = range(0, padded.shape[3] - 2, stride)
    return torch.stack([padded[:, :, r : r + 3, c : c + 3].flatten(1) for r in rows for c in columns], 1).flatten(0, 1)


@torch.no_grad()
def test_equals_regressions_one_after_the_other():
    problem = with_concept()
    with Untouched(problem.block.network):
        result = LayerwiseLeastSquares(["third"], ridge=0.01)(problem)
    assert result.params.keys() == {"second.weight", "third.weight"}
    edited, network = copy.deepcopy(problem.block.network), problem.block.network
    for layer in ("second", "third"):
        clean = patches(copy.deepcopy(network), layer, problem.originals)
        seen = torch.cat([patches(edited, layer, some) for some in (problem.images, problem.originals)])
        wanted = torch.cat([clean, clean])
        # Least squares of A with rows of √ρ·I for the ridge towards I.
        rho = (0.01 * seen.square().sum() / seen.shape[1]).sqrt()
        eye = torch.eye(seen.shape[1], dtype=torch.float64)
        solution = torch.linalg.lstsq(torch.cat([seen, rho * eye]), torch.cat([wanted, rho * eye])).solution
        weight = edited.get_submodule(layer).weight
        expected = (weight.flatten(1) @ solution.T).view_as(weight)
        torch.testing.assert_close(result.params[f"{layer}.weight"], expected, rtol=1e-7, atol=1e-9)
        weight.copy_(expected)


@torch.no_grad()
def test_takes_the_concept_back():
    problem = with_concept()
    network = problem.block.network.eval()
    wanted = network(problem.originals)

    def distance(params, images):
        return (torch.func.functional_call(network, params, (images,)) - wanted).square().mean()

    before = distance({}, problem.images)
    one, both = (LayerwiseLeastSquares(layers, 1e-4)(problem).params for layers in ([], ["third"]))
    assert distance(both, problem.images) < distance(one, problem.images) < before
    assert distance(both, problem.originals) < before


def test_without_a_difference_nothing_changes():
    same = random(12, 3, 6, 6, seed=5)
    result = LayerwiseLeastSquares(["third"])(with_concept(images=same, originals=same))
    assert result.relative_norm < 1e-12


@pytest.mark.parametrize(
    ("layers", "others", "message"),
    [
        (["first"], {}, "'second' is to be rewritten before 'first', which it reads the output of"),
        (["third", "third"], {}, "'third' is named twice"),
        (["second"], {}, "'second' is named twice"),
        (["fourth"], {}, "fourth"),
        ([], {"originals": None}, "exemplars with and without the concept, got no originals"),
        ([], {"images": None}, "got no images"),
    ],
)
def test_mistakes(layers, others, message):
    with pytest.raises(UserError, match=message):
        LayerwiseLeastSquares(layers)(with_concept(**others))


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_ridge_must_be_positive(ridge):
    with pytest.raises(UserError, match=r"ridge must be (positive|finite)"):
        LayerwiseLeastSquares(ridge=ridge)
