"""The four tests of an edit, against sums by hand and a plain loop."""

import pytest
import torch

from editable.errors import UserError
from editable.metrics.four_tests import FourTestScores, reference_confidence

LOG = torch.tensor([[8.0, 1.0, 1.0], [2.0, 6.0, 2.0], [1.0, 1.0, 2.0]], dtype=torch.float64).log()
"""Logits whose softmax is (.8 .1 .1), (.2 .6 .2), (.25 .25 .5)."""


def samples(number: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    before, after = torch.randn(2, number, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (number,), generator=generator)
    return before, after, labels, labels < 2


def in_a_loop(before, after, labels, same, wanted: bool) -> dict[str, float]:
    rows = [i for i in range(len(labels)) if bool(same[i]) == wanted]
    figures = {"num_images": len(rows)}
    for end, logits in (("_before", before), ("", after)):
        probabilities = [torch.exp(logits[i]) / torch.exp(logits[i]).sum() for i in rows]
        right = [float(int(p.argmax()) == int(labels[i])) for p, i in zip(probabilities, rows, strict=True)]
        figures[f"accuracy{end}"] = sum(right) / len(rows)
        figures[f"confidence{end}"] = sum(float(p[labels[i]]) for p, i in zip(probabilities, rows, strict=True)) / len(
            rows
        )
    return figures


def test_by_hand():
    """Normal: one image of the target class 0, right before, wrong after; two others. Manipulated: the target alone."""
    metric = FourTestScores()
    labels, same = torch.tensor([0, 1, 1]), torch.tensor([True, False, False])
    metric.update(LOG, LOG[[1, 1, 0]], labels, same, manipulated=False)
    metric.update(LOG[[2]], LOG[[0]], labels[:1], same[:1], manipulated=True)
    figures = {name: value.item() for name, value in metric.compute().items()}
    expected = {
        "normal_same_num_images": 1,
        "normal_same_accuracy_before": 1.0,
        "normal_same_accuracy": 0.0,
        "normal_same_confidence_before": 0.8,
        "normal_same_confidence": 0.2,
        "normal_other_num_images": 2,
        "normal_other_accuracy_before": 0.5,
        "normal_other_accuracy": 0.5,
        "normal_other_confidence_before": (0.6 + 0.25) / 2,
        "normal_other_confidence": (0.6 + 0.1) / 2,
        "manipulated_same_num_images": 1,
        "manipulated_same_accuracy_before": 0.0,
        "manipulated_same_accuracy": 1.0,
        "manipulated_same_confidence_before": 0.25,
        "manipulated_same_confidence": 0.8,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert figures["manipulated_other_num_images"] == 0
    undefined = [name for name, value in figures.items() if value != value]
    assert undefined == [
        f"manipulated_other_{name}" for name in ("accuracy_before", "accuracy", "confidence_before", "confidence")
    ]


def test_equals_a_plain_loop_in_any_batches():
    before, after, labels, same = samples(50, 0)
    metric = FourTestScores()
    for part in (slice(0, 1), slice(1, 30), slice(30, 30), slice(30, 50)):
        metric.update(before[part], after[part], labels[part], same[part], manipulated=True)
    figures = {name: value.item() for name, value in metric.compute().items()}
    for group, wanted in (("same", True), ("other", False)):
        for name, value in in_a_loop(before, after, labels, same, wanted).items():
            assert figures[f"manipulated_{group}_{name}"] == pytest.approx(value, abs=1e-12)
    assert figures["normal_same_num_images"] == figures["normal_other_num_images"] == 0


def test_a_network_compared_with_itself_has_equal_figures():
    before, _, labels, same = samples(40, 1)
    metric = FourTestScores()
    metric.update(before, before.clone(), labels, same, manipulated=False)
    figures = metric.compute()
    for test in ("normal_same", "normal_other"):
        for quantity in ("accuracy", "confidence"):
            assert figures[f"{test}_{quantity}"] == figures[f"{test}_{quantity}_before"]


@pytest.mark.filterwarnings("ignore:The ``compute`` method .* was called before the ``update``")
def test_processes_add_up():
    before, after, labels, same = samples(60, 2)
    whole, first, second = FourTestScores(), FourTestScores(), FourTestScores()
    for metric, part in ((whole, slice(0, 60)), (first, slice(0, 25)), (second, slice(25, 60))):
        metric.update(before[part], after[part], labels[part], same[part], manipulated=False)
    remote = iter([getattr(second, state) for state in first._defaults])
    first.distributed_available_fn = lambda: True
    first.dist_sync_fn = lambda tensor, group=None: [tensor, next(remote)]
    expected, figures = whole.compute(), first.compute()
    for name in expected:
        assert figures[name].item() == pytest.approx(expected[name].item(), abs=1e-12, nan_ok=True)
    whole.reset()
    assert whole.compute()["normal_same_num_images"] == 0


def test_confidence_is_the_probability_of_the_reference_label():
    confidence = reference_confidence(LOG, torch.tensor([0, 2, 2]))
    assert confidence.tolist() == pytest.approx([0.8, 0.2, 0.5], abs=1e-12)


@pytest.mark.parametrize(("labels", "after"), [(2, (3, 3)), (3, (3, 2)), (3, (2, 3))])
def test_shapes_that_do_not_fit_are_refused(labels, after):
    with pytest.raises(UserError, match=r"must be \[N, C\], labels and groups \[N\]"):
        FourTestScores().update(
            LOG, torch.zeros(after), torch.zeros(labels, dtype=torch.long), torch.ones(labels).bool(), False
        )
