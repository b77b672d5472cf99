"""Corrections, one on top of the other or together, come to what a plain loop over copies of the network comes to."""

import copy
import math
import tempfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editable.editing import (
    BaseEditor,
    CodebookEditor,
    Correction,
    Editor,
    EditResult,
    EditSite,
    MinimalHarmEditor,
    RMSProp,
    StreamEvaluator,
    points_of,
)
from editable.editing.evaluation.stream import Cost
from editable.errors import UserError
from editable.models import SplitNetwork
from tests.editing.evaluation.plain_stream import (
    Asked,
    corrected_one_by_one,
    corrected_together,
    plain_figures,
    predict,
)
from tests.tasks.reference import NUM_CLASSES, images_and_labels, loader, small_network

NUM_IMAGES, NUM_EDITS, NUM_VIEWS, NUM_CHANGES = 60, 6, 3, 2
EDITORS = {
    "gradient": (lambda: Editor(RMSProp(0.02), 20).with_strict_success(), ["3", "4"]),
    "gradient of the last layer": (lambda: Editor(RMSProp(0.05), 20).with_strict_success(), ["7"]),
    "minimal harm": (lambda: MinimalHarmEditor(num_references=40), ["7"]),
    "codebook": (lambda: CodebookEditor(num_references=40), None),
}


class Place:
    """A small network with images, furnished for an editor, and corrections of some of its images."""

    def __init__(self, kind: str, edited_views: int = 1) -> None:
        make, layers = EDITORS[kind]
        editor = make()
        self.network = editor.furnish(small_network()).eval()
        self.images, self.labels = images_and_labels(NUM_IMAGES, seed=5)
        self.split = SplitNetwork(self.network, layers or list(editor.own_layers))
        references = images_and_labels(40, seed=6)
        self.editor = editor.at(EditSite(self.split, lambda number: loader(*(some[:number] for some in references))))
        self.names = list(self.split.names)
        predictions = predict(self.network, self.images)
        wrong = [i for i in range(0, NUM_IMAGES, 2) if predictions[i] != self.labels[i]][:NUM_EDITS]
        assert len(wrong) == NUM_EDITS
        noise = torch.Generator().manual_seed(0)

        def near(image, number):
            size = (number, *image.shape)
            return image + 0.2 * torch.randn(size, generator=noise, dtype=image.dtype)

        self.asked = [
            Asked(
                torch.cat([self.images[i][None], near(self.images[i], edited_views)]),
                near(self.images[i], NUM_VIEWS),
                near(self.images[i], NUM_CHANGES),
                int(self.labels[i]),
            )
            for i in wrong
        ]
        self.indices = torch.tensor(wrong)
        self.judged = torch.arange(1, NUM_IMAGES, 2)

    def evaluator(self) -> StreamEvaluator:
        evaluator = StreamEvaluator(self.split, self.editor)
        evaluator.measure_base(loader(self.images, self.labels), NUM_IMAGES)
        evaluator.expect(len(self.asked), NUM_VIEWS, NUM_CHANGES)
        for some in self.asked:
            evaluator.add(Correction(*some))
        return evaluator

    def figures(self, evaluator: StreamEvaluator, params, number: int) -> dict[str, float]:
        held, cost = evaluator.held(params, number), evaluator.cost(params, self.judged)
        size, right = cost.group_generality(
            evaluator.predictions[self.indices[:number]], self.labels[self.indices[:number]]
        )
        return {
            **{name: getattr(cost, name) for name in ("error_before", "error", "broken", "mended", "agreement")},
            "retention": held.images.double().mean().item(),
            "generality": held.views.double().mean().item(),
            "changed": held.changes.double().mean().item(),
            "group_size": float(size),
            "group_generality": right / size if size else math.nan,
        }

    def plain(self, corrected, number: int) -> dict[str, float]:
        judged = self.images[self.judged], self.labels[self.judged]
        return plain_figures(self.network, corrected, self.asked[:number], *judged)


@pytest.fixture(params=list(EDITORS))
def place(request) -> Place:
    return Place(request.param)


def test_a_stream_is_that_of_a_plain_loop(place):
    before = copy.deepcopy(place.split.network.state_dict())
    evaluator = place.evaluator()
    assert evaluator.predictions.tolist() == predict(place.network, place.images)
    networks = corrected_one_by_one(place.network, place.editor, place.names, place.asked)
    state, seen = evaluator.start, []
    for number, network in enumerate(networks, start=1):
        state, success, seconds = evaluator.correct(number - 1, state)
        assert seconds > 0
        asked = place.asked[number - 1]
        assert success == all(now == asked.label for now in predict(network, asked.samples))
        for name, param in state.params.items():
            torch.testing.assert_close(param, network.state_dict()[name], rtol=1e-6, atol=1e-9)
        found = place.figures(evaluator, state.params, number)
        assert found == pytest.approx(place.plain(network, number), nan_ok=True), number
        seen.append(success)
    assert any(seen)
    if isinstance(place.editor, MinimalHarmEditor | CodebookEditor):
        assert found["retention"] == 1  # a gradient editor forgets earlier ones
    torch.testing.assert_close(dict(place.split.network.state_dict()), dict(before), rtol=0, atol=0)


def test_together_is_one_edit_of_the_unedited_network(place):
    evaluator = place.evaluator()
    for number in (1, 3, NUM_EDITS):
        state, success, _ = evaluator.correct_together(number)
        network = corrected_together(place.network, place.editor, place.names, place.asked[:number])
        samples = [(some.samples, some.label) for some in place.asked[:number]]
        assert success == all(now == label for images, label in samples for now in predict(network, images))
        assert place.figures(evaluator, state.params, number) == pytest.approx(
            place.plain(network, number), nan_ok=True
        )
        assert state.editor == {}


def test_a_stream_goes_on_from_its_state_alone(place):
    """Bit for bit: nothing is remembered beside the state."""
    first, second = place.evaluator(), place.evaluator()
    state = first.start
    for number in range(NUM_EDITS):
        state, *_ = first.correct(number, state)
        if number == 2:
            half = type(state)(*({name: some.clone() for name, some in part.items()} for part in state))
    for number in range(3, NUM_EDITS):
        half, *_ = second.correct(number, half)
    for part, other in zip(state, half, strict=True):
        assert part.keys() == other.keys()
        assert all(torch.equal(part[name], other[name]) for name in part)


class Unwilling(Editor):
    """Says that it has succeeded, and gives back what it got."""

    def forward(self, forward, params, inputs, targets, differentiable=False):
        kept = {name: param.detach().clone() for name, param in params.items()}
        return EditResult(kept, torch.tensor(0.0), torch.tensor(True), torch.tensor(1))


def test_an_editor_that_returns_the_unedited_network_is_seen():
    place = Place("gradient")
    place.editor = Unwilling(RMSProp(0.1), 1)
    evaluator = place.evaluator()
    state, _, _ = evaluator.correct(0, evaluator.start)
    found = place.figures(evaluator, state.params, NUM_EDITS)
    assert (found["retention"], found["broken"], found["mended"], found["agreement"]) == (0, 0, 0, 1)
    assert found["error"] == found["error_before"]
    assert evaluator.num_bytes(state.params) == 0


class Diverging(BaseEditor):
    """Leaves a NaN among the weights."""

    def forward(self, forward, params, inputs, targets, differentiable=False):
        edited = {name: param.detach().clone() for name, param in params.items()}
        next(iter(edited.values())).view(-1)[3] = torch.nan
        return EditResult(edited, torch.tensor(torch.nan), torch.tensor(True), torch.tensor(1))


def test_weights_that_are_no_numbers_are_taken_back():
    place = Place("gradient")
    place.editor = Diverging()
    evaluator = place.evaluator()
    before = evaluator.start
    with pytest.warns(UserWarning, match="NaN or infinite, and was taken back"):
        after, success, _ = evaluator.correct(0, before)
    assert after is before
    assert not success
    with pytest.warns(UserWarning, match="NaN or infinite, and was taken back"):
        together, success, _ = place.evaluator().correct_together(3)
    assert together is None
    assert not success


def test_changed_weights_are_taken_for_the_unedited_ones():
    place = Place("gradient")
    evaluator, (name, param) = place.evaluator(), next(iter(place.split.params.items()))
    with torch.no_grad():
        param.mul_(-3)
    evaluator.take_weights()
    with torch.no_grad():
        assert evaluator.predictions.equal(place.network.eval()(place.images).argmax(dim=1))
    assert torch.equal(evaluator.start.params[name], param)
    assert evaluator.cost(evaluator.start.params, place.judged).num_changed == 0


def test_an_edit_without_effect_does_not_succeed():
    place = Place("gradient")
    place.editor = Editor(RMSProp(1e-12), 1).with_strict_success()
    evaluator = place.evaluator()
    _, success, _ = evaluator.correct(0, evaluator.start)
    assert not success


def test_bytes_are_those_of_changed_tensors_and_new_rows():
    place = Place("gradient of the last layer")
    evaluator = place.evaluator()
    state, *_ = evaluator.correct(0, evaluator.start)
    assert evaluator.num_bytes(evaluator.start.params) == 0
    assert evaluator.num_bytes(state.params) == 8 * (24 * NUM_CLASSES + NUM_CLASSES)
    place = Place("codebook")
    evaluator = place.evaluator()
    state, *_ = evaluator.correct(0, evaluator.start)
    assert evaluator.num_bytes(state.params) == 8 * 2 * (24 + 2 + NUM_CLASSES)  # an image and one view


def test_a_tie_is_no_label():
    """Where two classes lead alike, neither is predicted."""
    place = Place("gradient of the last layer")
    evaluator = place.evaluator()
    zero = {name: torch.zeros_like(param) for name, param in evaluator.start.params.items()}
    assert not evaluator.held(zero).images.any()


def test_without_views():
    place = Place("minimal harm", edited_views=0)
    evaluator = StreamEvaluator(place.split, place.editor)
    evaluator.measure_base(loader(place.images, place.labels), NUM_IMAGES)
    evaluator.expect(1, 0, 0)
    some = place.asked[0]
    evaluator.add(Correction(some.samples, some.views[:0], some.changes[:0], some.label))
    state, success, _ = evaluator.correct(0, evaluator.start)
    held = evaluator.held(state.params)
    assert success
    assert held.images.tolist() == [True]
    assert (held.views.shape, held.changes.shape) == ((1, 0), (1, 0))


def test_features_that_do_not_fit_into_memory_lie_on_disk(tmp_path, monkeypatch):
    place, folders = Place("gradient"), []
    make = tempfile.TemporaryDirectory
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda **named: folders.append(named["dir"]) or make(**named))
    place_evaluator = place.evaluator()
    evaluator = StreamEvaluator(place.split, place.editor, memory_budget=1e-9, folder=tmp_path)
    evaluator.measure_base(loader(place.images, place.labels), NUM_IMAGES)
    evaluator.expect(NUM_EDITS, NUM_VIEWS, NUM_CHANGES)
    for some in place.asked:
        evaluator.add(Correction(*some))
    state, *_ = evaluator.correct(0, evaluator.start)
    expected = place_evaluator.correct(0, place_evaluator.start)[0]
    assert place.figures(evaluator, state.params, 1) == pytest.approx(
        place.figures(place_evaluator, expected.params, 1), nan_ok=True
    )
    evaluator.close()
    assert folders == [tmp_path, tmp_path]  # of the judged images, and of what tells whether corrections hold
    assert not list(tmp_path.iterdir())


def test_logits_that_are_not_finite_are_refused():
    place = Place("gradient")
    images = place.images.clone()
    images[9] = math.nan
    evaluator = StreamEvaluator(place.split, place.editor)
    with pytest.raises(UserError, match=r"logits are NaN or infinite for images 8 to 15, before any correction"):
        evaluator.measure_base(loader(images, place.labels), NUM_IMAGES)


@pytest.mark.parametrize(
    ("number", "points"), [(1, [1]), (2, [1, 2]), (10, [1, 2, 5, 10]), (37, [1, 2, 5, 10, 20, 37])]
)
def test_moments(number, points):
    assert points_of(number) == points


@given(st.integers(1, 10_000))
def test_moments_ascend_to_the_last_correction(number):
    points = points_of(number)
    assert points == sorted(set(points))
    assert points[0] == 1
    assert points[-1] == number
    assert all(str(point).strip("0") in "125" for point in points[:-1])


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=30))
def test_shares_add_up(rows):
    cost = Cost(*(torch.tensor(column) for column in zip(*rows, strict=True)))
    assert cost.error - cost.error_before == pytest.approx(cost.broken - cost.mended)
    assert 1 - cost.agreement >= max(cost.broken, cost.mended) - 1e-12  # 1 - 2/3 rounds below 1/3
