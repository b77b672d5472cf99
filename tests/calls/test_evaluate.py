"""The published protocol in one call, beside a plain loop."""

import pytest
import torch
from scipy.stats import beta

import editable
from editable.calls.views import shifted_views
from editable.data import NaturalMistakeEdits, RandomLabelEdits
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.calls.small import classifier, images, mistakes

X, Y = images(150, seed=2)


@pytest.mark.parametrize("views", [0, 4])
def test_figures_are_those_of_a_plain_loop(views: int):
    network, number = classifier(), 12
    editor = editable.editors.Editor(editable.editors.RMSProp(3e-3))
    found = editable.evaluate(network, (X, Y), editor, num_edits=number, layers="3", views=views)
    split = SplitNetwork(network, "3")
    with torch.no_grad():
        base = network(X).argmax(dim=1)
    indices, labels = RandomLabelEdits()(Y, base, 3, number)
    rises, steps, successes, held = [], [], 0, [0, 0]
    for index, label in zip(indices.tolist(), labels.tolist(), strict=True):
        result = editor(split.suffix, split.params, split.prefix(X[index : index + 1]), torch.tensor([label]))
        with torch.no_grad():
            after = torch.func.functional_call(network, result.params, (X,)).argmax(dim=1)
            for place, params in enumerate((split.params, result.params)):
                seen = shifted_views(X[index : index + 1], views, index)[0]
                if views:
                    given = torch.func.functional_call(network, dict(params), (seen,)).argmax(dim=1)
                    held[place] += int((given == label).sum())
        rises.append(float((after != Y).double().mean() - (base != Y).double().mean()))
        steps.append(int(result.num_steps))
        successes += bool(result.success)
    assert found.num_edits == number
    assert found.num_images == 150
    assert found.success_rate[0] == pytest.approx(successes / number)
    low = beta.ppf(0.025, successes, number - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, number - successes) if successes < number else 1.0
    assert found.success_rate[1:] == pytest.approx((low, high), rel=1e-6)
    mean = sum(rises) / number
    spread = (sum((rise - mean) ** 2 for rise in rises) / (number - 1)) ** 0.5
    half = 1.96 * spread / number**0.5
    assert found.drawdown == pytest.approx((mean, mean - half, mean + half), abs=1e-9)
    assert found.num_steps[0] == pytest.approx(sum(steps) / number)
    assert found.error == pytest.approx(len(mistakes(network, X, Y)) / 150)
    if views:
        assert found.generality == pytest.approx(tuple(count / number / views for count in held))
    else:
        assert found.generality is None
    assert "12 edits by Editor(RMSProp 0.003) at 3" in repr(found)


def test_closed_forms_and_mistakes():
    network = classifier()
    found = editable.evaluate(
        network, (X, Y), editable.editors.MinimalHarmEditor(), edits=NaturalMistakeEdits(), num_edits=5
    )
    assert found.success_rate[0] == 1
    assert "at 5" in repr(found)  # the classifier, where gradients take the block before it
    assert found.generality[1] >= found.generality[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_edits": 0}, "num_edits must be at least 1"),
        ({"views": -1}, "views must be at least 0"),
        ({"layers": "nowhere"}, "nowhere"),
        ({"num_edits": 10**6}, "1000000"),
    ],
)
def test_mistakes_end_in_one_sentence(options: dict, message: str):
    with pytest.raises(UserError, match=message):
        editable.evaluate(classifier(), (X, Y), editable.editors.Editor(editable.editors.RMSProp(1e-3)), **options)


def test_labels_that_the_network_does_not_know_are_refused():
    editor = editable.editors.Editor(editable.editors.RMSProp(1e-3))
    with pytest.raises(UserError, match=r"loader has the label 1., which is none of the network's classes, 0 … 2"):
        editable.evaluate(classifier(), (X, Y + 10), editor, num_edits=2)
