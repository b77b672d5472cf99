"""Edits of one linear layer are scored as one product, with the counts of a plain loop over edited networks."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from editable.editing import GD, EditEvaluator, Editor, Momentum, RMSProp
from editable.editing.evaluation.feature_store import FeatureStore
from editable.editing.evaluation.low_rank_scoring import _edited_logits, _rounding_of, low_rank_changes
from editable.editing.evaluation.scoring import BaseScores, Scorer, leads, margins
from editable.models import ScoringSettings, SplitNetwork, add_extra_layer, linear_tail
from tests.fake_cuda.device import fake_cuda

CPU = torch.device("cpu")
NUM_IMAGES, SENSITIVE_MARGIN = 1500, 0.2
Params = dict[str, Tensor]


def network_of(classes: int, seed: int = 0, extra: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, classes))
    if extra:
        network = add_extra_layer(network, hidden=40)
        nn.init.normal_(network[2].extra_layer.contract.weight, std=0.1)
    return network.eval()


class Scene:
    """A network with images and labels, of which it gets about two thirds right, and its scorer."""

    def __init__(self, network: nn.Module, patterns: str, settings: ScoringSettings | None = None, **store) -> None:
        self.network, self.split = network, SplitNetwork(network, patterns)
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(NUM_IMAGES, 6, generator=generator)
        with torch.no_grad():
            placed = self.images.to(next(network.parameters()).device)
            logits = network(placed).cpu()
            features = self.split.prefix(placed)
        self.predictions = logits.argmax(dim=1)
        wrong = torch.rand(NUM_IMAGES, generator=generator) < 1 / 3
        self.labels = torch.where(wrong, (self.predictions + 1) % logits.shape[1], self.predictions)
        self.sensitive = ~wrong & (leads(logits) < SENSITIVE_MARGIN)
        kept = FeatureStore(NUM_IMAGES, **{"memory_budget": 2**30, "device": CPU} | store)
        kept.add(features, self.labels)
        base = BaseScores(self.labels, self.predictions, margins(logits, self.labels), leads(logits))
        self.scorer = Scorer(self.split, kept, settings or ScoringSettings(), base, SENSITIVE_MARGIN)

    def edits(self, number: int, rank: int, scale: float = 0.3, seed: int = 4) -> list[Params]:
        """Edits that add a matrix of this rank to weight and bias."""
        generator, made = torch.Generator().manual_seed(seed), []
        for _ in range(number):
            names = sorted(self.split.params)  # bias, weight
            bias, weight = (self.split.params[name].detach() for name in names)
            left = torch.randn(len(weight), rank, generator=generator)
            right = torch.randn(rank, weight.shape[1] + 1, generator=generator)
            change = scale * (left @ right).to(weight)
            made.append({names[0]: bias + change[:, -1], names[1]: weight + change[:, :-1]})
        return made

    def plain_counts(self, edits: list[Params]) -> list[list[int]]:
        """Errors, agreeing and sensitive agreeing images, by a loop over deep copies of the whole network."""
        counts = []
        for params in edits:
            edited = copy.deepcopy(self.network)
            edited.load_state_dict(params, strict=False)
            with torch.no_grad():
                found = edited(self.images).argmax(dim=1)
            agrees = found == self.predictions
            counts.append([int(some.sum()) for some in (found != self.labels, agrees, agrees & self.sensitive)])
        return [list(some) for some in zip(*counts, strict=True)]

    def score(self, edits: list[Params]) -> list[list[int]]:
        done: list[float] = []
        scores = self.scorer.score(edits, done.append)
        assert sum(done) == pytest.approx(len(edits))
        return [field.tolist() for field in scores]


def refuse_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Scorer, edited: list[Params], progress: Callable[[float], object]) -> Tensor:
        assert not edited, "edits were run one by one"
        return torch.zeros(0, NUM_IMAGES, dtype=torch.int64)

    monkeypatch.setattr(Scorer, "_predict_by_running", fail)


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize(("classes", "rank"), [(2, 1), (5, 1), (5, 3), (5, 5), (40, 1), (40, 20)])
def test_counts_equal_a_plain_loops(classes: int, rank: int, extra: bool, monkeypatch: pytest.MonkeyPatch):
    scene = Scene(network_of(classes, extra=extra), "*contract*" if extra else "2")
    edits = scene.edits(30, rank)
    refuse_running(monkeypatch)
    found = scene.score(edits)
    assert found == scene.plain_counts(edits)
    assert len(set(found[0])) > 5
    assert scene.scorer.num_rechecked < 0.05 * 30 * NUM_IMAGES, "most are decided by the product"


def test_blocks_of_edits(monkeypatch: pytest.MonkeyPatch):
    """Of different ranks, cut anywhere, with the features on disk."""
    monkeypatch.setattr("editable.editing.evaluation.low_rank_scoring.BLOCK", 7 * 1024)
    monkeypatch.setattr("editable.editing.evaluation.low_rank_scoring.IMAGES_AT_ONCE", 700)
    scene = Scene(network_of(5), "2", memory_budget=1)
    edits = [edit for rank in (1, 4, 2) for edit in scene.edits(13, rank, seed=rank)]
    refuse_running(monkeypatch)
    assert scene.score(edits) == scene.plain_counts(edits)


def test_ties_are_decided_by_running_the_network():
    """Two classes with the same weights tie on every image; of a tie, the first class is predicted."""
    network = network_of(4)
    with torch.no_grad():
        network[2].weight[3], network[2].bias[3] = network[2].weight[1], network[2].bias[1]
    scene = Scene(network, "2")
    edits = [{name: param.clone() for name, param in edit.items()} for edit in scene.edits(12, 1)]
    for edit in edits:  # the same change for both
        for param in edit.values():
            param[3] = param[1]
    assert scene.score(edits) == scene.plain_counts(edits)
    assert scene.scorer.num_rechecked > 100


def test_a_change_within_rounding_agrees():
    scene = Scene(network_of(5), "2")
    edits = scene.edits(5, 2, scale=1e-8)
    assert scene.score(edits) == scene.plain_counts(edits)
    assert scene.score(edits)[1] == [NUM_IMAGES] * 5


def test_high_ranks_and_low_ones_together():
    scene = Scene(nn.Sequential(nn.Linear(6, 60), nn.Tanh(), nn.Linear(60, 40)).eval(), "2")
    edits = scene.edits(3, 40) + scene.edits(3, 1) + scene.edits(2, 39)
    tail = linear_tail(scene.split, scene.split.prefix(scene.images[:2]))
    assert tail is not None
    changes, fits = low_rank_changes(tail, edits)
    assert fits.tolist() == [False] * 3 + [True] * 3 + [False] * 2
    assert len(changes.left) == 3
    assert scene.score(edits) == scene.plain_counts(edits)


@pytest.mark.parametrize("rank", [1, 2, 6])
def test_the_rank_is_found_in_the_change(rank: int):
    """As by a singular value decomposition in double precision."""
    scene = Scene(network_of(12), "2")
    edits = scene.edits(4, rank)
    tail = linear_tail(scene.split, scene.split.prefix(scene.images[:2]))
    assert tail is not None
    changes, _ = low_rank_changes(tail, edits)
    assert changes.right.shape[1] == rank
    for edit, left, right in zip(edits, changes.left, changes.right, strict=True):
        difference = (edit["2.weight"] - scene.split.params["2.weight"].detach()).double()
        u, s, v = torch.linalg.svd(difference)
        expected = u[:, :rank] * s[:rank] @ v[:rank]
        torch.testing.assert_close((left @ right).double()[:, :-1], expected, atol=1e-5, rtol=0)
    assert len(low_rank_changes(tail, [{}])[0].right[0]) == 0


def test_nan_is_counted_as_a_plain_loop_does():
    scene = Scene(network_of(5), "2")
    edits = scene.edits(3, 1)
    edits[1]["2.weight"][2, 3] = torch.nan
    assert scene.score(edits) == scene.plain_counts(edits)


def test_plain_settings_run_every_network(monkeypatch: pytest.MonkeyPatch):
    scene = Scene(network_of(5), "2", ScoringSettings.plain())
    monkeypatch.setattr("editable.editing.evaluation.scoring.low_rank_changes", None)
    edits = scene.edits(4, 1)
    assert scene.score(edits) == scene.plain_counts(edits)


def test_bfloat16_counts_as_full_precision_here():
    scene = Scene(network_of(5), "2", ScoringSettings(precision="bfloat16", recheck=0.0))
    edits = scene.edits(10, 1)
    assert scene.score(edits) == scene.plain_counts(edits)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("classes", "rank", "scale"), [(5, 1, 0.3), (5, 3, 0.03), (40, 20, 0.01), (5, 1, 30.0)])
def test_products_in_half_precision_have_the_same_counts(low, classes: int, rank: int, scale: float):
    """What half precision could decide is looked at again, and that is not all."""
    scene = Scene(network_of(classes), "2")
    edits = scene.edits(20, rank, scale)
    expected = scene.plain_counts(edits)
    assert scene.score(edits) == expected
    before, scene.scorer._low = scene.scorer.num_rechecked, low
    assert scene.score(edits) == expected
    assert before < scene.scorer.num_rechecked - before < 20 * NUM_IMAGES


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_what_half_precision_changes_stays_within_its_bound(low):
    """Against float64: rounding at its worst, where the entries of a row and of a key all round up."""
    generator = torch.Generator().manual_seed(0)
    right = torch.nn.functional.normalize(torch.rand(3, 2, 50, generator=generator) + 0.5, dim=2)
    left = torch.randn(3, 7, 2, generator=generator)
    columns, base = torch.rand(50, 90, generator=generator) + 0.5, torch.zeros(7, 90)
    exact = left.double() @ (right.double().flatten(0, 1) @ columns.double()).unflatten(0, (3, 2))
    found = (_edited_logits(left, right, columns, base, low) - exact).abs().amax(dim=1)
    bound = _rounding_of(low) * left.abs().sum(dim=2).amax(dim=1)[:, None] * columns.norm(dim=0)
    assert (found < bound).all()
    assert found.max() > 0.05 * bound.max()
    assert _rounding_of(None) == 0
    assert _rounding_of(torch.bfloat16) == pytest.approx(5 / 256, rel=0.01)


def test_half_precision_is_for_cuda_and_where_it_is_asked_for():
    assert Scene(network_of(5), "2", ScoringSettings(precision="bfloat16")).scorer._low is None
    if fake_cuda() is not None:
        for precision, low in (("bfloat16", torch.bfloat16), ("full", None), ("auto", None)):
            scene = Scene(network_of(5).cuda(), "2", ScoringSettings(precision=precision), device=torch.device("cuda"))
            assert scene.scorer._low is low


@pytest.mark.parametrize("rule", [GD(0.3), Momentum(0.1), RMSProp(0.05)], ids=["GD", "Momentum", "RMSProp"])
@pytest.mark.parametrize("leave_out_edited", [False, True])
def test_an_evaluation_chooses_it_by_itself(rule: object, leave_out_edited: bool, monkeypatch: pytest.MonkeyPatch):
    scene = Scene(network_of(5), "2")
    data = list(zip(scene.images, scene.labels.tolist(), strict=True))
    indices, labels = torch.arange(20) * 7, (scene.predictions[torch.arange(20) * 7] + 1) % 5

    def outcomes(settings: ScoringSettings):
        batches = zip(scene.images.split(100), scene.labels.split(100), strict=True)
        evaluator = EditEvaluator(
            SplitNetwork(scene.network, "2"), Editor(rule, 20), batches, NUM_IMAGES, CPU, scoring=settings
        )
        evaluator.measure_base()
        return evaluator.score(data, indices, labels, leave_out_edited=leave_out_edited)

    expected = outcomes(ScoringSettings.plain())
    refuse_running(monkeypatch)
    found = outcomes(ScoringSettings())
    assert len(set(expected.errors_after.tolist())) > 3
    for field, other in zip(found, expected, strict=True):
        assert field.tolist() == other.tolist()
