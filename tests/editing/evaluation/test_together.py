"""Out of memory: half as many are computed together from then on, the figures stay, and it is said once."""

import gc
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from editable.editing import RMSProp
from editable.editing.editors.editor import Editor
from editable.editing.evaluation.evaluator import EditEvaluator
from editable.editing.evaluation.together import Together
from editable.errors import UserError
from editable.models import ScoringForm, ScoringSettings, SplitNetwork, cifar_resnet
from tests.fake_cuda.device import fake_cuda, limit_memory
from tests.warned import whatever_is_warned


def parts(together: Together, count: int, most: int) -> tuple[list[int], list[slice]]:
    """Sum numbers of which at most ``most`` fit; return what was seen and what was tried."""
    tried, seen = [], []

    def work(part: slice) -> list[int]:
        tried.append(part)
        if part.stop - part.start > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return list(range(count))[part]

    for part, result in together.run(work, count):
        assert result == list(range(part.start, part.stop))
        seen += result
    return seen, tried


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 30])
@pytest.mark.parametrize("most", [1, 2, 3, 8, 100])
def test_all_are_computed_once_and_in_order(count: int, most: int):
    together = Together(8, "edits", "edits_at_once")
    with whatever_is_warned() as caught:
        seen, tried = parts(together, count, most)
        assert parts(together, count, most)[0] == seen == list(range(count))
    assert len(caught) == (1 if any(some.stop - some.start > most for some in tried) else 0)
    assert together.number <= max(most, 8 if not caught else most)
    assert len(tried) <= -(-count // max(1, together.number)) + 3  # 8, 4, 2, 1


def test_what_is_said():
    with pytest.warns(UserWarning, match="no memory for 8 edits at once: from here on at most 4 .*edits_at_once=4"):
        parts(Together(8, "edits", "edits_at_once"), 8, 4)
    with pytest.warns(UserWarning, match="no memory for 8 images at once: .* whenever that is too much$"):
        parts(Together(8, "images"), 8, 4)


def test_one_alone_for_which_there_is_no_memory_is_an_error():
    with pytest.warns(UserWarning, match="no memory for 2"), pytest.raises(torch.OutOfMemoryError):
        parts(Together(2, "edits", "edits_at_once"), 3, 0)


def test_other_errors_are_left_alone():
    def work(part: slice) -> None:
        raise RuntimeError("vmap: no")

    with pytest.raises(RuntimeError, match="vmap: no"):
        list(Together(4, "edits", "edits_at_once").run(work, 4))
    with pytest.raises(UserError, match="number must be at least 1, got 0"):
        Together(0, "edits", "edits_at_once")


SCORINGS = [ScoringSettings(), ScoringSettings(edits_together=4), ScoringSettings(precision="bfloat16", recheck=1e3)]


def outcomes(
    scoring: ScoringSettings, device: torch.device, at_once: int = 6, memory_budget: float | None = 4.0
) -> list[list]:
    torch.manual_seed(0)
    network = cifar_resnet(5, 4, (1, 1, 1, 1), 1).to(device).eval()
    images, labels = torch.randn(40, 1, 16, 16), torch.randint(5, (40,))
    split = SplitNetwork(network, ["layer3"])
    dataset = TensorDataset(images, labels)
    settings = {"scoring": scoring, "edits_at_once": at_once, "memory_budget": memory_budget}
    evaluator = EditEvaluator(split, Editor(RMSProp(0.02)), DataLoader(dataset, 20), 40, device, **settings)
    evaluator.measure_base()
    found = evaluator.score(dataset, torch.arange(6), (labels[:6] + 1) % 5)
    return [field.tolist() for field in found]


@pytest.mark.filterwarnings("ignore:the device has no memory for .* (images|edited networks) at once")
@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("edits", [1, 2])
@pytest.mark.parametrize("images", [3, 100])
def test_figures_stay_where_memory_does_not_suffice(
    scoring: ScoringSettings, edits: int, images: int, monkeypatch: pytest.MonkeyPatch
):
    """Stand-ins that have no memory for more than so many edits or images at once."""
    expected = outcomes(scoring, torch.device("cpu"))
    make, one, several = Editor.edit_many, ScoringForm.__call__, ScoringForm.run_together

    def require(number: int, most: int) -> None:
        if number > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def edit_many(self, forward, params, inputs, targets, differentiable=False):
        require(len(targets), edits)
        return make(self, forward, params, inputs, targets, differentiable)

    def call(self, features, weights):
        require(len(features[0]), images)
        return one(self, features, weights)

    def run_together(self, features, weights):
        require(len(weights), edits)
        return several(self, features, weights)

    monkeypatch.setattr(Editor, "edit_many", edit_many)
    monkeypatch.setattr(ScoringForm, "__call__", call)
    monkeypatch.setattr(ScoringForm, "run_together", run_together)
    with pytest.warns(UserWarning, match="no memory for 6 edits at once"):
        assert outcomes(scoring, torch.device("cpu")) == expected


@pytest.mark.skipif(fake_cuda() is None, reason="needs --fake-cuda")
def test_a_device_whose_memory_is_small():
    """As kernels are started one by one: a graph has memory of its own, and is not made where there is none for it."""
    card, scoring = torch.device("cuda"), ScoringSettings(graphs="never")
    expected = outcomes(scoring, card)
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    outcomes(scoring, card, at_once=1)
    least = torch.cuda.max_memory_allocated() - before
    gc.collect()
    with limit_memory(2 * least), pytest.warns(UserWarning, match="no memory for"):
        assert outcomes(scoring, card) == expected


@pytest.mark.skipif(fake_cuda() is None, reason="needs --fake-cuda")
def test_by_default_no_more_is_begun_with_than_finds_room():
    card, scoring = torch.device("cuda"), ScoringSettings(graphs="never")
    expected = outcomes(scoring, card)
    gc.collect()
    with limit_memory(2**20), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert outcomes(scoring, card, memory_budget=None) == expected
