"""Which candidate is chosen, and with which bound."""

import pytest
import torch
from scipy.stats import beta
from torch import nn

from editable.data.images.same_images import SameImages
from editable.editing import GD, BaseEditor, Editor
from editable.editing.choosing.candidates import Candidate
from editable.editing.choosing.trials import JudgingImages, Made, Trials
from editable.editing.choosing.tried import Harm, Tried, least_harmful, tell
from editable.editing.evaluation.stream import Cost
from editable.errors import UserError
from editable.models import SplitNetwork


def tried(num_right: int, error: float, changed: int, success: bool = True) -> Tried:
    harm = Harm(100, 0.1, error, [], 0, changed, 0.1, 0.95) if success else None
    return Tried("some", success, harm, "", num_right)


def test_labels_given_come_first_then_errors_then_changes_then_the_order():
    assert least_harmful([tried(2, 0.1, 0), tried(3, 0.4, 0), tried(3, 0.3, 9), tried(3, 0.3, 5)]) == 3
    assert least_harmful([tried(3, 0.3, 5), tried(3, 0.3, 5), tried(9, 0.0, 0, success=False)]) == 0
    assert least_harmful([tried(1, 0.1, 0, success=False)]) is None
    assert least_harmful([]) is None
    assert least_harmful([Tried("unjudged", True, None, "", 1)]) == 0


def test_fewer_changes_than_none_that_is_known_there_are_not():
    """A candidate that nothing has judged counts as one of no errors and no changes."""
    unjudged, judged = (
        Tried("unjudged", True, None, "", 3),
        Tried("judged", True, HARM._replace(error_after=0.0), "", 3),
    )
    assert least_harmful([judged, unjudged]) == 1
    unchanged = judged._replace(harm=HARM._replace(error_after=0.0, num_changed=0))
    assert least_harmful([unjudged, unchanged]) == least_harmful([unchanged, unjudged]) == 0


HARM = Harm(8, 0.25, 0.375, [4, 9], 1, 4, 0.3125, 0.95)


def test_what_a_change_costs():
    """By counting: of eight images two were wrong; two of the right ones break, and one is mended."""
    labels, before = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    after = torch.tensor([0, 2, 0, 1, 1, 1, 1, 0])
    positions = torch.tensor([3, 4, 7, 9, 10, 12, 15, 20])
    assert Harm.of(Cost(labels, before, after), positions, 0.3125, 0.95) == HARM
    assert HARM.points == pytest.approx(12.5)


def test_what_is_told_in_a_line():
    assert str(HARM) == (
        "25.00 → 37.50 % wrong of 8 other images: 2 broken, 1 mended; at most 31.25 % are broken, with 95 % confidence"
    )
    assert str(Tried("some", True, HARM, "", 3)) == "some: +12.50 points"
    assert str(Tried("some", True, HARM._replace(error_after=0.0), "", 3)) == "some: -25.00 points"
    assert str(Tried("some", True, None, "", 3)) == "some"
    assert str(Tried("some", False, None, "", 2)) == "some: not all images get their labels"
    assert str(Tried("some", False, None, "it cannot")) == "some: it cannot"


class Unwilling(Editor):
    def forward(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
        raise UserError("it is not willing")


def test_each_is_made_of_the_unedited_network_and_judged_by_what_is_not_edited():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = torch.randn(40, 1, 2, 2), torch.randint(3, (40,))
    wanted = (network(images[:1]).argmax() + 1) % 3

    def make(editor: BaseEditor, split: SplitNetwork) -> Made:
        result = editor(split.suffix, split.params, split.prefix(images[:1]), wanted[None])
        return Made(result.params, int(result.success), int(result.num_steps))

    judging = JudgingImages(lambda: [(images, labels)], 40, SameImages(images[:1]))
    trials = Trials(network, make, lambda editor, split: editor, 1, judging)
    some = [Candidate(editor, ("1",)) for editor in (Editor(GD(0.1), 100), Editor(GD(9.0), 100), Editor(GD(0.1), 0))]
    found = [trials.run(one) for one in (*some, Candidate(Unwilling(GD(0.1)), ("1",)))]
    assert trials.others.tolist() == list(range(1, 40))
    told = tell(found, trials.others, 0.95)
    assert [one.success for one in told] == [True, True, False, False]
    assert told[3].why == "it is not willing"
    with torch.no_grad():
        old = network(images[1:]).argmax(dim=1)
        for one, trial in zip(told[:2], found, strict=False):
            assert one.harm is not None
            assert trial.made is not None
            new = torch.func.functional_call(network, trial.made.params, (images[1:],)).argmax(dim=1)
            assert one.harm.error_after == pytest.approx((new != labels[1:]).double().mean().item())
            broken = ((old == labels[1:]) & (new != labels[1:])).sum().item()
            assert len(one.harm.broken) == broken
            assert one.harm.bound == pytest.approx(beta.ppf(1 - 0.05 / 2, broken + 1, 39 - broken), rel=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
