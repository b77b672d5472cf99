"""Maps of exemplars, beside plain formulas on a small network."""

import torch
from torch.nn import functional

from editable.callbacks.see.maps import exemplar_maps
from editable.rewriting import ReconstructionSettings
from editable.rewriting.inverse.trace_back import TraceBack
from tests.rewriting.problems import conv_problem, random


def test_maps_are_those_of_plain_formulas():
    problem, weight = conv_problem(), random(4, 4, 3, 3, seed=9)
    network, count = problem.block.network.eval(), 2
    trace = TraceBack(problem, weight, count=count)
    features = trace.features(ReconstructionSettings(num_steps=2, restarts=1))
    images = [random(3, 3, 6, 6, seed=seed)[:count] for seed in (2, 1)]  # originals and manipulated ones
    maps = exemplar_maps(problem, weight, trace, features, images)

    with torch.no_grad():
        originals, manipulated = (network.relu(network.bn1(network.first(some))) for some in images)

        def block(inputs: torch.Tensor, some: torch.Tensor) -> torch.Tensor:
            return network.relu(network.bn2(functional.conv2d(inputs, some, padding=1)))

        old = network.second.weight
        before, after, wanted = block(manipulated, old), block(manipulated, weight), block(originals, old)
        torch.testing.assert_close(maps.wanted, wanted.square().sum(1).sqrt())
        torch.testing.assert_close(maps.lengths["before"], before.square().sum(1).sqrt())
        torch.testing.assert_close(maps.lengths["after"], after.square().sum(1).sqrt())
        torch.testing.assert_close(maps.changes["manipulated"], (after - before).square().sum(1).sqrt())
        change = block(originals, weight) - wanted
        torch.testing.assert_close(maps.changes["original"], change.square().sum(1).sqrt())
        direction = problem.directions[:, 0]
        direction = direction * torch.sign(direction @ problem.keys[:, 0])  # of which the concept's key responds
        for responses, read in zip(maps.matches.heat_maps.split(count), (originals, manipulated), strict=True):
            torch.testing.assert_close(responses, torch.einsum("c,nchw->nhw", direction, read).to(responses))
        for when, found in (("before", features.before.found), ("after", features.after.found)):
            for name, read in (("original", originals), ("manipulated", manipulated)):
                product = (found[:count] * read).sum(1) / (found[:count].norm(dim=1) * read.norm(dim=1)).clamp(min=1e-8)
                torch.testing.assert_close(maps.similarities[when][name], product)
