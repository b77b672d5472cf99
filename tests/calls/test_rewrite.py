"""A rewrite in one call, beside the same by its parts."""

from typing import Any

import pytest
import torch
from torch import Tensor

import editable
from editable.calls.judge import halves
from editable.errors import UserError
from editable.rewriting import (
    ClosedForm,
    FineTuning,
    InverseMoment,
    LayerBlock,
    Regularisation,
    RewriteProblem,
    SmoothDescent,
    collect_second_moment,
    exemplars_from_images,
    make_memory,
)
from tests.calls.small import classifier, images

X, Y = images(200, seed=2)
MASK = torch.zeros(4, 8, 8)
MASK[:, 2:6, 2:6] = 1


def manipulated() -> Tensor:
    changed = X[:4].clone()
    changed[:, :, 2:6, 2:6] = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(3)) * 3
    return changed


def test_it_is_the_closed_form_and_costs_what_it_says():
    network, changed = classifier(), manipulated()
    rule = editable.rewrite(network, "0", (X[:4], changed, MASK), judge=(X, Y))
    judged, rest = halves(200, True, 0)
    block = LayerBlock(network, "0")
    memory = make_memory(tuple(block.weight.shape), block.geometry)
    inverse = InverseMoment(collect_second_moment(block, memory, [X[rest]]), Regularisation(epsilon=1e-4))
    exemplars = exemplars_from_images(block, X[:4], changed, MASK)
    result = ClosedForm()(RewriteProblem(block, memory, exemplars, inverse))
    torch.testing.assert_close(rule.network[0].weight.detach(), result.params["0.weight"], rtol=1e-4, atol=1e-6)
    others = [i for i in judged.tolist() if i > 3]
    with torch.no_grad():
        before, after = network(X).argmax(dim=1), rule.network(X).argmax(dim=1)
        assert rule.after.equal(rule.network(changed).argmax(dim=1))
        assert rule.before.equal(network(changed).argmax(dim=1))
    assert rule.wanted.equal(before[:4])
    assert rule.harm.num_images == len(others)
    assert rule.harm.broken == [i for i in others if before[i] == Y[i] and after[i] != Y[i]]
    assert f"of {len(others)} other images" in repr(rule)


def test_strength_and_other_solvers():
    network, changed = classifier(), manipulated()
    given = (X[:4], changed, MASK)
    none = editable.rewrite(network, "0", given, judge=(X, Y), strength=0.0)
    assert none.patch.changes == {}
    assert (none.harm.num_changed, none.harm.num_images) == (0, len([i for i in halves(200, True, 0)[0] if i > 3]))
    tuned = editable.rewrite(network, "0", given, judge=(X, Y), references=(X, Y), solver=FineTuning(max_steps=3))
    assert tuned.harm.num_images == 196
    assert "FineTuning" in repr(tuned)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "9"}, "'9'"),
        ({"layer": "1"}, "'1'"),
        ({"exemplars": X[:4]}, "exemplars are three things"),
        ({"exemplars": (X[:4], X[:3], MASK)}, "4"),
        ({"exemplars": (X[:4], X[:4], MASK[:2])}, "masks|mask"),
        ({"exemplars": (X[:4], X[:4], MASK * 0)}, "mask"),
        ({"judge": (X[:0], Y[:0])}, "judge has no images"),
        ({"judge": (X[:4], Y[:4]), "references": (X, Y)}, "judge has no images but the exemplars"),
        ({"judge": (X, Y + 10)}, "judge has the label 1., which is none of the network's classes, 0 … 2"),
        ({"judge": (X, Y - 20)}, "judge has the label -.*, which is none of"),
        ({"references": (X, Y + 10)}, "references has the label 1., which is none"),
        ({"judge": (X[:, :1], Y)}, "judge has images that do not fit"),
        ({"exemplars": (X[:4], X[:4], [MASK[0], MASK[0, :2]])}, "masks must be numbers"),
        ({"level": 0.0}, "level must be in"),
        ({"strength": float("nan")}, "strength must be"),
        ({"epsilon": -1.0}, "epsilon"),
    ],
)
def test_mistakes_end_in_one_sentence(changes: dict[str, Any], message: str):
    given = {"layer": "0", "exemplars": (X[:4], manipulated(), MASK), "judge": (X, Y)} | changes
    layer, exemplars = given.pop("layer"), given.pop("exemplars")
    with pytest.raises(UserError, match=message):
        editable.rewrite(classifier(), layer, exemplars, **given)


def test_masks_may_be_given_one_by_one():
    given = X[:4], manipulated()
    whole, each = (editable.rewrite(classifier(), "0", (*given, masks), judge=(X, Y)) for masks in (MASK, list(MASK)))
    assert torch.equal(whole.network[0].weight, each.network[0].weight)


@pytest.mark.parametrize("references", [None, (X[:100], Y[:100])])
def test_a_network_in_double_precision_is_rewritten_in_it(references: tuple[Tensor, Tensor] | None):
    network, changed = classifier().double(), manipulated()
    rule = editable.rewrite(network, "0", (X[:4], changed, MASK), judge=(X, Y), references=references)
    read = X[halves(200, True, 0)[1]] if references is None else references[0]
    block = LayerBlock(network, "0")
    memory = make_memory(tuple(block.weight.shape), block.geometry)
    moment = collect_second_moment(block, memory, [read.double()])
    exemplars = exemplars_from_images(block, X[:4].double(), changed.double(), MASK.double())
    problem = RewriteProblem(block, memory, exemplars, InverseMoment(moment, Regularisation(epsilon=1e-4)))
    expected = ClosedForm()(problem).params["0.weight"]
    assert expected.dtype == torch.float64
    torch.testing.assert_close(rule.network[0].weight.detach(), expected)
    smooth = editable.rewrite(network, "0", (X[:4], changed, MASK), judge=(X, Y), solver=SmoothDescent(max_steps=2))
    assert smooth.network[0].weight.dtype == torch.float64


def test_half_precision_is_refused():
    with pytest.raises(UserError, match=r"full precision, but '0.weight' is torch.float16: call float\(\)"):
        editable.rewrite(classifier().half(), "0", (X[:4], manipulated(), MASK), judge=(X, Y))
