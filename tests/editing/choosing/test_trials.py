"""How candidates are tried: each at its place, judged by images that are not edited and that are run once."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from editable.data.images.same_images import SameImages
from editable.editing import GD, BaseEditor, CodebookEditor, Editor, MinimalHarmEditor, StrengthSearch
from editable.editing.choosing.candidates import Candidate
from editable.editing.choosing.trials import JudgingImages, Made, Measured, Trials, key_of
from editable.models import SplitNetwork

IMAGES = torch.randn(30, 1, 2, 2, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(30) % 3


class Scene:
    """A network, what is asked of it, and how often its judging images are read."""

    def __init__(self, labels: Tensor = LABELS, edited: Tensor = IMAGES[:1], **options: object) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        with torch.no_grad():
            self.wanted = (self.network(IMAGES[:1]).argmax(dim=1) + 1) % 3
        self.labels, self.num_read, self.num_right = labels, 0, 1
        self.seen: list[BaseEditor] = []
        self.placed: list[BaseEditor] = []
        judging = JudgingImages(self.batches, 30, SameImages(edited))
        self.trials = Trials(self.network, self.make, self.place, 1, judging, **options)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.num_read += 1
        yield from zip(IMAGES.split(7), self.labels.split(7), strict=True)

    def make(self, editor: BaseEditor, split: SplitNetwork) -> Made:
        self.seen.append(editor)
        warnings.warn("2 of 3 edited samples do not get their labels", UserWarning, stacklevel=2)
        result = editor(split.suffix, split.params, split.prefix(IMAGES[:1]), self.wanted)
        return Made(result.params, self.num_right, int(result.num_steps))

    def place(self, editor: BaseEditor, split: SplitNetwork) -> BaseEditor:
        self.placed.append(editor)
        return Editor(GD(0.2), 50)


def test_judging_images_are_run_once_for_edits_of_the_same_layers() -> None:
    scene = Scene()
    for layer, read in [("3", 1), ("3", 1), ("1", 2), ("3", 2)]:
        trial = scene.trials.run(Candidate(Editor(GD(0.2), 50), (layer,)))
        assert trial.success
        assert (trial.num_right, trial.why) == (1, "")
        assert scene.num_read == read
    assert trial.made is not None
    assert trial.cost is not None
    with torch.no_grad():
        before = scene.network(IMAGES[1:]).argmax(dim=1)
        after = functional_call(scene.network, dict(trial.made.params), (IMAGES[1:],)).argmax(dim=1)
    assert trial.cost.labels.tolist() == LABELS[1:].tolist()
    assert trial.cost.before.tolist() == before.tolist()
    assert trial.cost.after.tolist() == after.tolist()
    assert scene.trials.split_of(trial.candidate).params.keys() == {"3.weight", "3.bias"}
    assert scene.num_read == 2


def test_what_earlier_trials_have_kept_is_taken() -> None:
    """The images are read again, for which of them are edited, but not run."""
    kept: dict[object, Measured] = {}
    earlier, later = Scene(measured=kept), Scene(edited=IMAGES[3:5], measured=kept)
    candidate = Candidate(Editor(GD(0.2), 50), ("3",))
    earlier.trials.run(candidate)
    (measured,) = kept.values()
    trial = later.trials.run(candidate)
    assert list(kept.values()) == [measured]
    assert later.trials.others.tolist() == [0, 1, 2, *range(5, 30)]
    assert trial.cost is not None
    assert len(trial.cost.after) == 28


def test_a_candidate_that_gives_too_few_labels_is_told_with_how_many() -> None:
    scene = Scene()
    scene.num_right = 0
    trial = scene.trials.run(Candidate(Editor(GD(0.2), 50), ("3",)))
    assert (trial.success, trial.num_right, trial.made, trial.cost, trial.why) == (False, 0, None, None, "")


def test_without_judging_images_nothing_is_known_of_the_cost() -> None:
    scene = Scene()
    trials = Trials(scene.network, scene.make, scene.place, 1)
    trial = trials.run(Candidate(Editor(GD(0.2), 50), ("3",)))
    assert trial.success
    assert trial.made is not None
    assert trial.cost is None
    assert trials.others.tolist() == []


@pytest.mark.parametrize(("label", "place"), [(-1, 0), (3, 29), (99, 5)])
def test_a_label_of_the_judging_images_that_is_none_is_named(label: int, place: int) -> None:
    labels = LABELS.clone()
    labels[place] = label
    trial = Scene(labels).trials.run(Candidate(Editor(GD(0.2), 50), ("3",)))
    assert trial.why == f"judge has the label {label}, which is none of the network's"


def test_judging_images_that_are_all_edited() -> None:
    trial = Scene(edited=IMAGES).trials.run(Candidate(Editor(GD(0.2), 50), ("3",)))
    assert trial.why == "judge has no images but those that are edited: give others"


def test_an_editor_is_made_strict_and_put_at_its_place_once() -> None:
    scene = Scene()
    plain, form = Candidate(Editor(GD(0.2), 50), ("3",)), Candidate(MinimalHarmEditor(), ("3",))
    for candidate in (plain, form, form, plain):
        assert scene.trials.run(candidate).success
    (asked,) = scene.placed
    assert isinstance(asked, MinimalHarmEditor)
    assert scene.seen[0].objective.strict
    assert not plain.editor.objective.strict
    assert scene.seen[0] is scene.seen[3]
    assert scene.seen[1] is scene.seen[2]


def test_new_weights_are_taken_and_editors_put_at_their_places_anew() -> None:
    kept: dict[object, Measured] = {}
    scene = Scene(measured=kept)
    candidate = Candidate(MinimalHarmEditor(), ("3",))
    scene.trials.run(candidate)
    (measured,) = kept.values()
    with torch.no_grad():
        scene.network[3].bias += torch.tensor([0.0, 50.0, 0.0])
    measured.take_weights()
    trial = scene.trials.run(candidate)
    assert len(scene.placed) == 2
    assert measured.evaluator.predictions.tolist() == [1] * 30
    assert trial.cost is not None
    assert trial.cost.before.tolist() == [1] * 29


def test_features_beyond_the_budget_are_kept_in_the_folder(tmp_path: Path) -> None:
    """As is seen where there is no such folder; within the budget none is looked for."""
    candidate = Candidate(Editor(GD(0.2), 50), ("3",))
    missing = tmp_path / "missing"
    assert str(missing) in Scene(memory_budget=1e-9, folder=missing).trials.run(candidate).why
    assert Scene(memory_budget=0.1, folder=missing).trials.run(candidate).success
    scene = Scene(memory_budget=1e-9, folder=tmp_path)
    assert scene.trials.run(candidate).success
    scene.trials.close()


def test_what_candidates_have_in_common() -> None:
    one, other = Candidate(Editor(GD(0.1)), ("3",)), Candidate(StrengthSearch(Editor(GD(0.2))), ("3",))
    assert key_of(one) == key_of(other) == ("3",)
    assert key_of(one) != key_of(Candidate(Editor(GD(0.1)), ("1",)))
    assert key_of(Candidate(CodebookEditor(), ("3",))) is CodebookEditor
