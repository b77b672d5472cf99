"""A whole rewrite of a generator, and the mistakes that end in a sentence."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from editable.errors import UserError
from editable.models import Generator, NormalLatents
from editable.rewriting import ClosedForm, LayerBlock, ProjectedDescent, SmoothDescent
from editable.rewriting.generators.generator_rewrite import GeneratorRewrite, render, rewrite_generator
from editable.rewriting.keys.erase_problem import EraseRule
from editable.rewriting.keys.selections import Selection
from tests.rewriting.generator_rules import FIRST, planted, planted_rule, spot, with_concept
from tests.rewriting.problems import Untouched

DESCENT = ProjectedDescent(learning_rate=0.05, max_steps=200)


def rewritten(network: nn.Module | None = None, **settings) -> GeneratorRewrite:
    defaults = {
        "layer": "conv",
        "rule": planted_rule(),
        "solver": DESCENT,
        "num_moment_images": 200,
        "num_unseen_images": 100,
        "quantile": 0.995,
    }
    return rewrite_generator(planted() if network is None else network, **{**defaults, **settings})


def test_the_rule_shows_on_unseen_images_and_the_network_stays_as_it_is():
    network = planted()
    with Untouched(network):
        rewrite = rewritten(network)
    outcome = rewrite.outcome
    assert rewrite.result.loss < 0.3 * rewrite.result.loss_before
    assert outcome.feature_progress > 0.5
    assert outcome.pixel_progress > 0.3
    assert outcome.feature_change_elsewhere < 0.1 * outcome.feature_change_matched
    before, after = rewrite.images(rewrite.latents)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(before, network(rewrite.latents.double()))
        network.conv.weight.copy_(rewrite.result.params["conv.weight"])
        torch.testing.assert_close(after, network(rewrite.latents.double()))


def test_wanted_pixels_are_those_of_the_image_with_pasted_features():
    rewrite = rewritten()
    network, problem = rewrite.problem.block.network.eval(), rewrite.problem
    latents = planted_rule().paste.latents.double()
    with torch.no_grad():
        values = network.relu(network.bn(network.conv(network.relu0(network.unflatten(network.fc(latents))))))
        pasted = torch.where(problem.value_mask[:, None] > 0, problem.targets, values)
        torch.testing.assert_close(rewrite.goal, network.tanh(network.out(pasted)))


def test_the_same_seeds_give_the_same_rewrite_and_others_other_images():
    first, second, third = rewritten(), rewritten(), rewritten(unseen_seed=9)
    assert first.outcome == second.outcome
    assert torch.equal(first.result.params["conv.weight"], second.result.params["conv.weight"])
    assert torch.equal(first.result.params["conv.weight"], third.result.params["conv.weight"])
    assert not torch.equal(first.latents, third.latents)


def test_erasing_takes_the_concept_away_on_unseen_images():
    rule = EraseRule(Selection(with_concept(0, 5), spot(FIRST, 5)), channels=1)
    outcome = rewritten(rule=rule).outcome
    assert outcome.feature_progress > 0.5
    assert outcome.feature_distance < outcome.feature_distance_before
    assert outcome.feature_change_elsewhere < 0.1 * outcome.feature_change_matched


def test_a_convolutional_generator_of_the_package():
    """Its layers are blocks of convolution, BatchNorm and ReLU, also of weights that were never trained."""
    torch.manual_seed(0)
    network = Generator(latent_size=8, image_size=8, width=4).double()
    assert LayerBlock(network, "layer1.conv2").stages == ("layer1.conv2", "layer1.bn2", "layer1.relu2")
    latents = NormalLatents(8)(4, 0)
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:4, 2:4] = 1
    rule = planted_rule()._replace(
        copy=Selection(latents[:1], mask),
        paste=Selection(latents[1:2], mask),
        context=Selection(latents[1:], mask.expand(3, 8, 8)),
    )
    rewrite = rewritten(network, layer="layer2.conv1", rule=rule, solver=ClosedForm())
    assert rewrite.result.residual < 1e-8
    assert rewrite.goal.shape == (1, 1, 8, 8)


@pytest.mark.parametrize("layers", ["layer", "all"])
def test_the_old_way_changes_what_it_names(layers: str):
    """Also of weights before the layer, what is measured is the change of its output."""
    network = planted()
    solver = SmoothDescent(layers, learning_rate=0.01, max_steps=100, patience=None)
    rewrite = rewritten(network, solver=solver)
    assert len(rewrite.result.params) == (1 if layers == "layer" else len(list(network.parameters())))
    assert rewrite.result.loss < rewrite.result.loss_before
    assert rewrite.outcome.output_bound is None
    network.eval()
    before, z = [], rewrite.latents.double()
    with torch.no_grad():
        for changed in (False, True):
            if changed:
                network.load_state_dict({**network.state_dict(), **rewrite.result.params})
            features = network.relu(network.bn(network.conv(network.relu0(network.unflatten(network.fc(z))))))
            before.append(features.clone())
    amount = (before[1] - before[0]).abs().mean(dim=1)[rewrite.context.matched > 0].mean()
    assert rewrite.outcome.feature_change_matched == pytest.approx(float(amount))


def test_progress_is_told():
    told: dict[str, tuple[int, int]] = {}
    rewritten(progress=lambda task, done, total: told.update({task: (done, total)}))
    assert told["second moment"] == (200, 200)
    assert told["unseen images"] == (100, 100)
    assert told["rewrite"][1] == 200


def test_a_goal_that_cannot_be_rendered_is_left_out():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.conv, self.out = nn.Linear(4, 36), nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1)

        def forward(self, z):
            return self.out(functional.relu(self.conv(self.fc(z).reshape(-1, 1, 6, 6))))

    block = LayerBlock(Functional(), "conv")
    assert render(block, torch.zeros(2, 4), torch.zeros(2, 2, 6, 6)) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": "convv"}, "has no layer 'convv'"),
        ({"layer": "fc"}, "'fc' is a linear layer"),
        ({"latents": NormalLatents(5)}, "latent vectors of length 4, got shape \\[5\\]"),
        ({"rule": planted_rule()._replace(context=Selection(with_concept(0, 1), torch.zeros(1, 6, 6)))}, "is empty"),
        ({"rule": planted_rule()._replace(context=Selection(with_concept(0, 1), torch.ones(1, 8, 8)))}, "as large as"),
        ({"unseen_seed": 3, "moment_seed": 3}, "seed must be another .* which is 3"),
        ({"num_unseen_images": 0}, "num_unseen_images must be at least 1"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"quantile": 0.0}, r"quantile must be in \(0, 1\)"),
    ],
)
def test_mistakes_end_in_a_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        rewritten(**settings)


@pytest.mark.parametrize("part", ["copy", "paste", "context"])
def test_an_image_of_the_rule_is_not_an_unseen_one(part):
    """The last of 20 unseen images is one of the rule's; of 19, it is not among them."""
    masks = torch.zeros(1, 6, 6)
    masks[:, 2:4, 2:4] = 1
    rule = planted_rule()._replace(**{part: Selection(NormalLatents(4)(20, seed=9)[19:], masks)})
    with pytest.raises(UserError, match="an image of the rule is among the unseen ones"):
        rewritten(rule=rule, unseen_seed=9, num_unseen_images=20)
    assert rewritten(rule=rule, unseen_seed=9, num_unseen_images=19).outcome.num_images == 19


def test_a_generator_without_a_known_latent_size():
    network = nn.Sequential(nn.Linear(4, 36), nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 2, 3, padding=1))
    with pytest.raises(UserError, match="Sequential has no attribute latent_size"):
        rewritten(network, layer="2")
    with pytest.raises(UserError, match="Sequential cannot take latent vectors of shape \\[7\\]"):
        rewritten(network, layer="2", latents=NormalLatents(7))
