"""Corrections on the bench: what is said of them is what plain passes of the patched network find."""

import copy

import pytest
import torch
from scipy.stats import beta
from torch import Tensor, nn

from editable.app.bench import Asked, Bench, Trial
from editable.app.concept import find_layer
from editable.editing import CodebookEditor, Editor, EditPatch, RMSProp
from editable.editing.choosing.candidates import Candidate, candidates_for
from editable.errors import UserError
from tests.app.small import CANDIDATE, PAINTABLE, bench, digits, mistakes, painted, shared, trained


@pytest.fixture(scope="module")
def made() -> tuple[Bench, list[Trial]]:
    """Three corrections of mistakes, the middle one by its painted part, each on those before."""
    place, trials = bench(views=2), []
    x, y = shared()[0]
    for position, mask in ((mistakes()[0], None), (PAINTABLE, painted()), (mistakes()[1], None)):
        trials.append(place.correct(Asked(x[position], f"digit {position}", int(y[position]), mask)))
        place.go_to([*place.patches, trials[-1].patch])
    return place, trials


def predicted(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x).argmax(dim=1)


def test_a_correction_is_what_it_says(made: tuple[Bench, list[Trial]]):
    network = copy.deepcopy(trained())
    (x, y), _ = shared()
    for trial in made[1]:
        before = predicted(network, x)
        trial.patch.apply_(network)
        after = predicted(network, x)
        with torch.no_grad():
            shares = network(trial.asked.image[None]).softmax(dim=-1)[0]
        assert torch.allclose(trial.after, shares, atol=1e-5)
        assert int(trial.after.argmax()) == trial.asked.label != int(trial.before.argmax())
        other = torch.tensor([not torch.equal(image, trial.asked.image) for image in x])
        assert trial.harm.num_images == int(other.sum()) == len(x) - 1
        broken = ((before == y) & (after != y) & other).nonzero().flatten().tolist()
        assert trial.harm.broken == broken
        assert [(some.position, some.label, some.after) for some in trial.broken] == [
            (place, int(y[place]), int(after[place])) for place in broken
        ]
        expected = beta.ppf(0.95, len(broken) + 1, trial.harm.num_images - len(broken))
        assert trial.harm.bound == pytest.approx(expected)
        (record,) = trial.patch.edits
        assert record.images == [trial.asked.name]
        assert record.labels == [trial.asked.label]
        assert record.harm is not None
        assert record.harm.number == len(broken)


def test_going_there_and_back_changes_no_bit(made: tuple[Bench, list[Trial]]):
    place, trials = made
    states = [copy.deepcopy(trained().state_dict())]
    network = copy.deepcopy(trained())
    for trial in trials:
        trial.patch.apply_(network)
        states.append(copy.deepcopy(network.state_dict()))
    (x, _), _ = shared()
    for number in (3, 0, 2, 1, 3):
        place.go_to([trial.patch for trial in trials[:number]])
        own = place.network.state_dict()
        assert all(torch.equal(value, own[name]) for name, value in states[number].items())
        assert place.predictions.equal(predicted(place.network, x)), "what was kept of the images is of other weights"
    assert place.unedited.equal(predicted(trained(), x))


def test_an_editor_with_a_layer_of_its_own():
    """Two corrections by a codebook, and one of a painted part between them; then all are taken out."""
    editor = CodebookEditor(threshold=0.99, firing_rate=1, num_references=40)
    place, x, y = bench(), *shared()[0]
    place.candidates = [Candidate(editor, editor.own_layers)]
    for position, mask in ((mistakes()[0], None), (PAINTABLE, painted()), (mistakes()[1], None)):
        trial = place.correct(Asked(x[position], f"digit {position}", int(y[position]), mask))
        assert int(trial.after.argmax()) == int(y[position])
        assert trial.maps[1] is not None
        place.go_to([*place.patches, trial.patch])
        place.prepare()
        assert place.predictions.equal(predicted(place.network, x))
        assert int(place.predictions[position]) == int(y[position])
    place.go_to([])
    assert all(torch.equal(value, trained().state_dict()[name]) for name, value in place.network.state_dict().items())
    assert place.predictions.equal(place.unedited)


def test_what_a_layer_of_the_editors_own_costs():
    """Harm is that of the network with the patch, whose layer was set up before the judging images were looked at."""
    editor = CodebookEditor(threshold=0.2, firing_rate=0.5, num_references=40)
    network, (x, y), _ = trained(), *shared()
    position = mistakes()[0]
    place = Bench(network, [Candidate(editor, editor.own_layers)], *shared(), [str(digit) for digit in range(10)])
    trial = place.correct(Asked(x[position], "a digit", int(y[position])))
    before = predicted(network, x)
    with trial.patch.applied(place.network):
        after = predicted(place.network, x)
    broken = ((before == y) & (after != y)).nonzero().flatten().tolist()
    assert trial.harm.broken == broken != []


def test_without_an_editor_the_least_harmful_is_taken():
    place, (x, y) = bench(), shared()[0]
    place.candidates = candidates_for(place.network)
    position = mistakes()[0]
    trial = place.correct(Asked(x[position], "a digit", int(y[position])))
    trial.patch.apply_(place.network)
    assert int(predicted(place.network, x[position : position + 1])) == int(y[position])
    alone = beta.ppf(0.95, len(trial.harm.broken) + 1, trial.harm.num_images - len(trial.harm.broken))
    assert trial.harm.bound > alone, "it holds for all candidates that were judged"


def test_switching_one_layer_keeps_what_is_known_of_another(made: tuple[Bench, list[Trial]]):
    place, trials = made
    known = dict(place._measured)
    place.go_to([trials[0].patch, trials[1].patch])
    assert place._measured == known
    place.go_to([trial.patch for trial in trials])


def test_patches_of_another_network_leave_all_as_it_was(made: tuple[Bench, list[Trial]]):
    place, trials = made
    place.go_to([trials[0].patch])
    before = copy.deepcopy(place.network.state_dict())
    with pytest.raises(UserError, match="was made for other weights"):
        place.go_to([trials[2].patch])
    assert place.patches == [trials[0].patch]
    assert all(torch.equal(value, before[name]) for name, value in place.network.state_dict().items())
    place.go_to([trial.patch for trial in trials])


def test_maps_are_those_of_the_network_before_and_after(made: tuple[Bench, list[Trial]]):
    """The response of each position's key to the class's direction, computed plainly."""
    trial = made[1][0]
    _, (x, y) = shared()
    features = nn.Sequential(*list(trained())[:2])
    with torch.no_grad():
        keys = features(x).double().flatten(2)
        own = features(trial.asked.image[None]).double().flatten(2)[0]
    moment = torch.einsum("ncp,ndp->cd", keys, keys) / (len(keys) * keys.shape[2])
    label = int(trial.before.argmax())
    right = (predicted(trained(), x) == y) & (y == label)
    scale = moment.trace() / len(moment)
    inverse = torch.linalg.inv(moment / scale + 1e-2 * torch.eye(len(moment)))
    direction = inverse @ keys[right].mean(dim=(0, 2))
    expected = ((direction / direction.norm()) @ own).view(8, 8).clamp(min=0)
    assert trial.maps[0] is not None
    assert torch.allclose(trial.maps[0].double(), expected, rtol=1e-3, atol=1e-5)


def test_an_edit_before_the_layer_makes_the_bench_look_again():
    place, x = bench(), shared()[0][0]
    place.candidates.append(Candidate(Editor(RMSProp(1e-3)), ("0",)))
    place.prepare()
    edited = {"0.bias": place.network.state_dict()["0.bias"] + 0.1}
    place.go_to([EditPatch.of(place.network, edited)])
    place.prepare()
    assert place.predictions.equal(predicted(place.network, x))


@pytest.mark.parametrize(
    ("mask", "label", "says"),
    [
        (torch.zeros(8, 8), 3, "nothing is painted"),
        (None, -1, "the labels asked for are"),
        (None, 10, "the labels asked for are"),
    ],
)
def test_what_cannot_be_asked_is_said(mask: Tensor | None, label: int, says: str):
    with pytest.raises(UserError, match=says):
        bench().correct(Asked(shared()[0][0][0], "a digit", label, mask))


def test_what_is_right_already_needs_no_correction():
    x, y = shared()[0]
    position = next(place for place in range(len(x)) if place not in mistakes())
    with pytest.raises(UserError, match="already"):
        bench().correct(Asked(x[position], "a digit", int(y[position])))
    with pytest.raises(UserError, match="already: name another class"):
        bench().correct(Asked(x[position], "a digit", int(y[position]), painted()))


def test_the_layer_is_the_last_that_tells_positions_apart():
    image = shared()[0][0][0]
    assert find_layer(trained(), image) == "2"
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=4, padding=1), nn.Flatten(), nn.Linear(16, 10)
    )
    assert find_layer(network, image) == "0"
    assert find_layer(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), image) is None


def test_candidates_are_measured_once(monkeypatch: pytest.MonkeyPatch):
    place, seen = bench(), []
    place.progress = lambda what, done, total: seen.append(done)
    x, y = shared()[0]
    position = mistakes()[0]
    place.correct(Asked(x[position], "a digit", int(y[position])))
    first = len(seen)
    place.correct(Asked(x[position], "a digit", int(y[position])))
    assert len(place._measured) == 2
    assert len(seen) <= 2 * first
    assert place.candidates == [CANDIDATE]
    assert len(place.classes) == digits().num_classes
