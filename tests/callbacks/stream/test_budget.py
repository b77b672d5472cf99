"""A budget of harm: corrections over it are not kept, and what is promised speaks of other images."""

import pytest
import torch
from scipy.stats import beta

from editable.callbacks.stream.outcome import StreamOutcome
from editable.data import RandomLabelEdits
from editable.editing import HarmBudget, Spending, StreamEvaluator
from editable.errors import UserError
from tests.callbacks.stream.streams import make_stream, run


def made(tmp_path, **settings) -> StreamOutcome:
    stream = make_stream("minimal harm", edits=RandomLabelEdits(), **settings)
    run(stream, tmp_path, reported=False)
    assert stream.outcome is not None
    return stream.outcome


def test_only_what_is_within_it_is_kept(tmp_path, monkeypatch):
    looked_at: list[tuple[int, int]] = []
    cost = StreamEvaluator.cost

    def watched(self, params, indices):
        found = cost(self, params, indices)
        looked_at.append((len(indices), int(((found.before == found.labels) & (found.after != found.labels)).sum())))
        return found

    monkeypatch.setattr(StreamEvaluator, "cost", watched)
    outcome = made(tmp_path, budget=0.14)
    promised = outcome.certificate
    assert promised is not None
    assert 0 < promised.num_refused < len(outcome.index)
    assert promised.num_refused == int((~outcome.kept).sum())
    # the certifying images are half of those that would judge
    assert (promised.num_images, outcome.num_judged) == (90, 89)
    # the same decisions by hand, of what was broken among them after each correction
    counted = [broken for number, broken in looked_at if number == 90][:-1]
    spent, decided = Spending(), []
    for broken in counted:
        decision = HarmBudget(0.14).decide_next(broken, 90, spent)
        decided.append(decision)
        spent = decision.spent
    assert outcome.kept.tolist() == [decision.kept for decision in decided]
    last = [decision for decision in decided if decision.kept][-1]
    assert promised.bound == last.bound <= 0.14
    # a Clopper-Pearson bound at that decision's level
    assert last.bound == pytest.approx(beta.ppf(last.level, promised.num_counted + 1, 90 - promised.num_counted))


def test_a_refused_correction_leaves_all_as_it_was(tmp_path):
    outcome = made(tmp_path, budget=0.14)
    refused = (~outcome.kept).nonzero().flatten().tolist()
    held = outcome.held & outcome.kept
    assert outcome.success[refused].all(), "it succeeded, and was taken back for its harm alone"
    assert torch.equal(held, outcome.kept), "what was kept holds"


def test_without_labels_changed_predictions_are_counted(tmp_path):
    broken, changed = (made(tmp_path / counts, budget=0.3, counts=counts) for counts in ("broken", "changed"))
    assert broken.certificate is not None
    assert changed.certificate is not None
    assert changed.certificate.counted == "changed"
    assert changed.kept.sum() <= broken.kept.sum()


def test_together_they_are_kept_all_or_none(tmp_path):
    kept = made(tmp_path / "kept", budget=0.5, protocol="together")
    assert kept.kept.all()
    assert kept.certificate is not None
    assert kept.certificate.bound == pytest.approx(
        beta.ppf(0.95, kept.certificate.num_counted + 1, 90 - kept.certificate.num_counted)
    )
    refused = made(tmp_path / "refused", budget=0.05, protocol="together")
    assert not refused.kept.any()
    assert refused.points[-1].error == refused.error_before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget": 0.0}, "budget must be above 0, got 0"),
        ({"budget": 1.5}, "budget must be"),
        ({"budget": float("nan")}, "budget must be"),
        ({"budget": 0.1, "level": 1.0}, "level must be"),
        ({"budget": 0.1, "counts": "mended"}, "counts must be"),
    ],
)
def test_what_cannot_be_meant(settings, said):
    with pytest.raises(UserError, match=said):
        make_stream("minimal harm", **settings)


def test_too_few_images_to_promise_anything(tmp_path):
    with pytest.raises(UserError, match=r"90 images cannot show that harm is at most 1 points .* give at least 398"):
        made(tmp_path, budget=0.01)
