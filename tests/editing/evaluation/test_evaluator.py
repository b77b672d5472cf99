"""`EditEvaluator` gives the figures of the naive procedure: copy, edit, run the whole data set, count."""

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from editable.data.turns import Turns
from editable.editing import (
    GD,
    BaseEditor,
    EditEvaluator,
    Editor,
    EditOutcomes,
    HigherEditor,
    RMSProp,
    SamplingSettings,
)
from editable.editing.evaluation import evaluator as evaluation
from editable.errors import UserError
from editable.models import ScoringSettings, SplitNetwork
from editable.models.split.agreement import ROWS
from tests.editing import reference
from tests.editing.reference import Step, conv_network, images_of, textbook_edit

CPU = torch.device("cpu")
NUM_IMAGES = 60
NUM_VIEWS = 3
SENSITIVE_MARGIN = 0.2
TINY = 1e-9  # GiB: one byte
RULES = {
    "GD": (GD(0.05), partial(reference.gd, lr=0.05)),
    "RMSProp": (RMSProp(0.02), partial(reference.rmsprop, lr=0.02)),
}

Data = list[tuple[Tensor, int]]


class CountingSplit(SplitNetwork):
    """Counts the images that the prefix has seen."""

    seen = 0

    def prefix(self, x: Tensor) -> tuple[Tensor, ...]:
        self.seen += len(x)
        return super().prefix(x)


@pytest.fixture
def network() -> nn.Module:
    return conv_network()


def data_for(network: nn.Module, dtype: torch.dtype = torch.float64) -> Data:
    """Images of which the network gets about two thirds right."""
    images = images_of(NUM_IMAGES, dtype=dtype)
    labels = predict(network, images)
    wrong = torch.randperm(NUM_IMAGES, generator=torch.Generator().manual_seed(3))[: NUM_IMAGES // 3]
    labels[wrong] = (labels[wrong] + 1) % 5
    return list(zip(images, labels.tolist(), strict=True))


def predict(network: nn.Module, images: Tensor) -> Tensor:
    mode = network.training
    with torch.no_grad():
        predictions = network.eval()(images).argmax(dim=-1)
    network.train(mode)
    return predictions


def batches_of(data: Data, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    parts = [data[start : start + batch_size] for start in range(0, len(data), batch_size)]
    return [(torch.stack([x for x, _ in part]), torch.tensor([y for _, y in part])) for part in parts]


def edits_of(network: nn.Module, data: Data, number: int = 7) -> tuple[Tensor, Tensor]:
    """Which inputs get which labels; the first two get the label that the network gives them already."""
    indices = torch.arange(number) * 8 % NUM_IMAGES
    own = predict(network, torch.stack([data[index][0] for index in indices.tolist()]))
    return indices, (own + torch.tensor([0, 0, 1, 2, 3, 4, 1])[:number]) % 5


def count_errors(network: nn.Module, data: Data, stride: int) -> int:
    scoring = data[::stride]
    images, labels = torch.stack([x for x, _ in scoring]), torch.tensor([y for _, y in scoring])
    return int((predict(network, images) != labels).sum())


def views_of(data: Data) -> list[Tensor]:
    """Views of each image: rolled by a few columns, the last one also upside down."""
    rolled = [[image.roll(columns, dims=-1) for columns in range(1, NUM_VIEWS + 1)] for image, _ in data]
    return [torch.stack([*views[:-1], views[-1].flip(1)]) for views in rolled]


def find_sensitive(network: nn.Module, data: Data) -> list[bool]:
    """Which images the network gets right with its two best probabilities close together."""
    with torch.no_grad():
        probabilities = copy.deepcopy(network).eval()(torch.stack([image for image, _ in data])).softmax(dim=1)
    rows = [sorted(zip(row, range(len(row)), strict=True), reverse=True) for row in probabilities.tolist()]
    return [
        best == label and p - q < SENSITIVE_MARGIN
        for ((p, best), (q, _), *_), (_, label) in zip(rows, data, strict=True)
    ]


def naive_outcomes(
    network: nn.Module,
    step: Step,
    data: Data,
    indices: Tensor,
    labels: Tensor,
    stride: int,
    max_steps: int,
    num_edited_views: int = 0,
) -> EditOutcomes:
    names = [name for name, _ in network.named_parameters() if name.startswith(("3.", "8."))]
    sensitive, views = find_sensitive(network, data[::stride]), views_of(data)
    images = torch.stack([image for image, _ in data[::stride]])
    before = predict(network, images).tolist()
    rows = []
    for index, label in zip(indices.tolist(), labels, strict=True):
        judged, others = views[index][: NUM_VIEWS - num_edited_views], views[index][NUM_VIEWS - num_edited_views :]
        samples = torch.cat([data[index][0].unsqueeze(0), others])
        edited, success, num_steps = textbook_edit(network, names, step, samples, label.repeat(len(samples)), max_steps)
        agrees = [old == new for old, new in zip(before, predict(edited, images).tolist(), strict=True)]
        held = [int((predict(each, judged) == label).sum()) if len(judged) else 0 for each in (network, edited)]
        counts = (sum(agrees), sum(agree for agree, counts in zip(agrees, sensitive, strict=True) if counts), *held)
        rows.append((success, num_steps, count_errors(edited, data, stride), *counts))
    return EditOutcomes(*map(torch.tensor, zip(*rows, strict=True)))


def evaluator_of(network: nn.Module, editor: BaseEditor, data: Data, batch_size: int = 16, **options) -> EditEvaluator:
    options = {"sensitive_margin": SENSITIVE_MARGIN, **options}
    return EditEvaluator(
        CountingSplit(network, ["3", "8"]), editor, batches_of(data, batch_size), len(data), CPU, **options
    )


def assert_outcomes(found: EditOutcomes, expected: EditOutcomes) -> None:
    for name in EditOutcomes._fields:
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name


@pytest.mark.parametrize("edits_at_once", [1, 3])
@pytest.mark.parametrize("num_edited_views", [1, 2, 3])
def test_views_are_edited_with_their_input(num_edited_views: int, edits_at_once: int, network: nn.Module):
    """One edit of the input and its last views together; the others judge it."""
    ours, by_hand = RULES["RMSProp"]
    data = data_for(network)
    indices, labels = edits_of(network, data)
    evaluator = evaluator_of(network, Editor(ours, 20), data, edits_at_once=edits_at_once)
    evaluator.measure_base()
    expected = naive_outcomes(network, by_hand, data, indices, labels, 1, 20, num_edited_views)
    found = evaluator.score(data, indices, labels, views=views_of(data), num_edited_views=num_edited_views)
    assert_outcomes(found, expected)
    alone = evaluator.score(data, indices, labels, views=views_of(data))
    assert alone.num_steps.tolist() != found.num_steps.tolist()


@pytest.mark.parametrize("memory_budget", [4.0, TINY, 3e-5])
@pytest.mark.parametrize("edits_at_once", [1, 3, 8])
@pytest.mark.parametrize(("stride", "batch_size"), [(1, 16), (1, 60), (3, 7), (10, 7), (7, 1), (100, 16)])
@pytest.mark.parametrize("rule", RULES)
def test_equals_the_naive_procedure(
    rule: str, stride: int, batch_size: int, edits_at_once: int, memory_budget: float, network: nn.Module
):
    ours, by_hand = RULES[rule]
    data = data_for(network)
    indices, labels = edits_of(network, data)
    options = {"image_stride": stride, "edits_at_once": edits_at_once, "memory_budget": memory_budget}
    evaluator = evaluator_of(network, Editor(ours, 4), data, batch_size, **options)
    base = evaluator.measure_base()
    assert evaluator.num_rechecked == 0
    assert base.num_classes == 5
    assert base.labels.tolist() == [label for _, label in data]
    assert torch.equal(base.predictions, predict(network, torch.stack([image for image, _ in data])))
    assert evaluator.num_images == len(data[::stride])
    assert evaluator.errors_before == count_errors(network, data, stride)
    expected = naive_outcomes(network, by_hand, data, indices, labels, stride, 4)
    assert_outcomes(evaluator.score(data, indices, labels, views=views_of(data)), expected)
    assert evaluator.num_sensitive == sum(find_sensitive(network, data[::stride]))
    if stride == 1:
        assert expected.num_steps[:2].tolist() == [0, 0]
        for field in (expected.errors_after, expected.agreeing, expected.sensitive_agreeing, expected.views_after):
            assert len(set(field.tolist())) > 2
        assert evaluator.num_sensitive > 5
        assert evaluator.spilled == (memory_budget != 4.0)


@pytest.mark.parametrize(("stride", "batch_size"), [(1, 16), (3, 7), (7, 59), (1, 60), (1, 100)])
@pytest.mark.parametrize(("rank", "number"), [(0, 1), (0, 2), (1, 2), (2, 3)])
def test_several_processes_read_the_data_set_in_turns(
    rank: int, number: int, stride: int, batch_size: int, network: nn.Module, monkeypatch: pytest.MonkeyPatch
):
    """What the others tell of their batches is computed by hand, and so is what this one has to tell."""
    data, turns = data_for(network), []
    batches, split = batches_of(data, batch_size), SplitNetwork(network, ["3", "8"])

    def by_hand(batch: int) -> tuple[Tensor, ...]:
        images, labels = batches[batch]
        kept = [place for place in range(len(labels)) if (batch * batch_size + place) % stride == 0]
        with torch.no_grad():
            logits = copy.deepcopy(network).eval()(images)
            return labels, logits, *(feature[kept] for feature in split.prefix(images))

    def told(own: tuple[Tensor, ...] | None, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        turn = range(len(turns) * number, min((len(turns) + 1) * number, len(batches)))
        turns.append(turn)
        assert (own is not None) == (len(turn) > rank)
        if own is not None:
            torch.testing.assert_close(own, by_hand(turn[rank]))
        yield from (own if place == rank and own is not None else by_hand(batch) for place, batch in enumerate(turn))

    monkeypatch.setattr(evaluation, "told", told)
    evaluator = evaluator_of(network, Editor(GD(0.05), 4), data, image_stride=stride)
    evaluator.batches, evaluator.turns = batches[rank::number], Turns(rank, number, batch_size)
    base = evaluator.measure_base()
    assert [batch for turn in turns for batch in turn] == list(range(len(batches)))
    assert base.labels.tolist() == [label for _, label in data]
    assert torch.equal(base.predictions, predict(network, torch.stack([image for image, _ in data])))
    assert evaluator.num_images == len(data[::stride])
    assert evaluator.errors_before == count_errors(network, data, stride)


class RecordingEditor(Editor):
    """Notes how many edits it is asked for together."""

    def edit_many(self, forward, params, inputs, targets, differentiable=False):
        self.groups = [*getattr(self, "groups", []), len(targets)]
        return super().edit_many(forward, params, inputs, targets, differentiable)


@pytest.mark.parametrize(("size", "groups"), [(1000, [3, 1]), (13 * 2**18, [1, 1, 1, 1])])
def test_edits_of_many_parameters_are_made_one_by_one_on_a_cpu(size: int, groups: list[int]):
    network = nn.Linear(1, size)
    data = [(torch.ones(1), 0)] * 4
    editor = RecordingEditor(GD(0.1), 1)
    evaluator = EditEvaluator(SplitNetwork(network, "weight"), editor, batches_of(data, 4), 4, CPU, edits_at_once=3)
    evaluator.measure_base()
    evaluator.score(data, torch.arange(4), torch.arange(1, 5))
    assert editor.groups == groups


@pytest.mark.parametrize("keep", [False, True])
def test_single_precision_counts_the_same_one_by_one(keep: bool):
    network = conv_network(dtype=torch.float32)
    data = data_for(network, torch.float32)
    indices, labels = edits_of(network, data)
    budget = 4.0 if keep else TINY
    evaluator = evaluator_of(network, Editor(GD(0.05), 4), data, edits_at_once=1, memory_budget=budget)
    evaluator.measure_base()
    expected = naive_outcomes(network, RULES["GD"][1], data, indices, labels, 1, 4)
    assert_outcomes(evaluator.score(data, indices, labels, views=views_of(data)), expected)


@pytest.mark.parametrize(("recheck", "part"), [(1e9, 1), (0.0, 0)])
def test_what_low_precision_leaves_in_doubt_is_looked_at_again(recheck: float, part: int, network: nn.Module):
    """With so many deviations in doubt, each image of each edit that has changed anything."""
    data = data_for(network)
    indices, labels = edits_of(network, data)
    scoring = ScoringSettings(precision="bfloat16", recheck=recheck)
    evaluator = evaluator_of(network, Editor(GD(0.05), 4), data, scoring=scoring)
    evaluator.measure_base()
    found = evaluator.score(data, indices, labels, views=views_of(data))
    assert evaluator.num_rechecked == part * int((found.num_steps > 0).sum()) * NUM_IMAGES
    if part:
        assert_outcomes(found, naive_outcomes(network, RULES["GD"][1], data, indices, labels, 1, 4))


def test_an_optimizer_through_higher(network: nn.Module):
    data = data_for(network)
    indices, labels = edits_of(network, data)
    evaluator = evaluator_of(network, HigherEditor(partial(torch.optim.SGD, lr=0.05), 4), data)
    evaluator.measure_base()
    expected = naive_outcomes(network, RULES["GD"][1], data, indices, labels, 1, 4)
    assert_outcomes(evaluator.score(data, indices, labels, views=views_of(data)), expected)


@pytest.mark.parametrize("memory_budget", [4.0, TINY])
def test_features_are_computed_once(memory_budget: float, network: nn.Module, tmp_path: Path):
    data = data_for(network)
    indices, labels = edits_of(network, data)
    evaluator = evaluator_of(network, Editor(GD(0.05)), data, memory_budget=memory_budget, folder=tmp_path)
    evaluator.measure_base()
    assert evaluator.spilled == (memory_budget == TINY)
    assert evaluator.split.seen == NUM_IMAGES + ROWS  # those on which both forms of the network are compared
    evaluator.score(data, indices, labels)
    assert evaluator.split.seen == NUM_IMAGES + ROWS + len(indices)
    evaluator.close()
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room(network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    evaluator = evaluator_of(network, Editor(GD(0.05)), data_for(network), memory_budget=TINY, folder=tmp_path)
    with pytest.raises(UserError, match="raise the memory budget, or choose a folder with more room"):
        evaluator.measure_base()


SETTINGS = {
    "plain": ScoringSettings.plain(7),
    "folded": ScoringSettings(channels_last=False, winograd=False),
    "default": ScoringSettings(),
    "bfloat16": ScoringSettings(precision="bfloat16", recheck=3.0, batch_size=13),
    "together": ScoringSettings(edits_together=3, batch_size=25),
    "bfloat16 together": ScoringSettings(precision="bfloat16", recheck=3.0, edits_together=2),
}


@pytest.mark.parametrize("memory_budget", [4.0, TINY])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_way_of_scoring_counts_the_same(name: str, memory_budget: float):
    network = conv_network(dtype=torch.float32)
    data = data_for(network, torch.float32)
    indices, labels = edits_of(network, data)
    options = {"scoring": SETTINGS[name], "memory_budget": memory_budget}
    evaluator = evaluator_of(network, Editor(GD(0.05), 4), data, **options)
    evaluator.measure_base()
    expected = naive_outcomes(network, RULES["GD"][1], data, indices, labels, 1, 4)
    edits: list[float] = []
    assert_outcomes(evaluator.score(data, indices, labels, edits.append, views=views_of(data)), expected)
    assert sum(edits) == pytest.approx(len(indices))
    assert len(set(expected.errors_after.tolist())) > 2


def test_low_precision_alone_is_near(network: nn.Module):
    """Without the second look, bfloat16 may miscount images whose two best logits nearly tie, and no others."""
    data = data_for(network)
    indices, labels = edits_of(network, data)
    settings = ScoringSettings(precision="bfloat16", recheck=0.0)
    evaluator = evaluator_of(network, Editor(GD(0.05), 4), data, scoring=settings)
    evaluator.measure_base()
    expected = naive_outcomes(network, RULES["GD"][1], data, indices, labels, 1, 4)
    found = evaluator.score(data, indices, labels)
    assert found.num_steps.tolist() == expected.num_steps.tolist()
    assert (found.errors_after - expected.errors_after).abs().max() <= 3


def test_a_sample_of_all_images_is_exact(network: nn.Module):
    data = data_for(network)
    indices, labels = edits_of(network, data)
    sampling = SamplingSettings(half_width=1e-6)
    evaluator = evaluator_of(network, Editor(GD(0.05), 4), data, sampling=sampling, edits_at_once=3)
    evaluator.measure_base()
    found = evaluator.score(data, indices, labels)
    expected = naive_outcomes(network, RULES["GD"][1], data, indices, labels, 1, 4)
    for name in ("errors_after", "agreeing", "sensitive_agreeing"):
        assert getattr(found, name).tolist() == pytest.approx(getattr(expected, name).tolist(), abs=1e-9), name
    assert evaluator.estimate is not None
    drawdown = (expected.errors_after - evaluator.errors_before).double().mean() / NUM_IMAGES
    assert evaluator.estimate.drawdown == pytest.approx(drawdown.item(), abs=1e-12)
    assert evaluator.estimate.half_width == 0
    assert evaluator.estimate.num_edits == len(indices)


def test_sampled_drawdown_lies_in_its_interval(network: nn.Module):
    """The interval fails for one seed in twenty: of 40, at least 33 must hold (probability of fewer: 0.2 %)."""
    data = data_for(network)
    indices, labels = edits_of(network, data)
    expected = naive_outcomes(network, RULES["GD"][1], data, indices, labels, 1, 4)
    held, widths, agreements = 0, [], []
    for seed in range(40):
        sampling = SamplingSettings(forward_passes=len(indices) * 24, seed=seed)
        evaluator = evaluator_of(network, Editor(GD(0.05), 4), data, sampling=sampling)
        errors_before = [evaluator.measure_base(), evaluator.errors_before][1]
        outcomes = evaluator.score(data, indices, labels)
        estimate = evaluator.estimate
        assert estimate is not None
        drawdown = (expected.errors_after - errors_before).double().mean().item() / NUM_IMAGES
        assert outcomes.num_steps.tolist() == expected.num_steps.tolist()
        assert outcomes.errors_after[:2].tolist() == [errors_before] * 2  # edits of 0 steps
        mean = (outcomes.errors_after - errors_before).mean().item() / NUM_IMAGES
        assert estimate.drawdown == pytest.approx(mean, abs=1e-12)
        assert 0 < estimate.forward_passes <= len(indices) * 24
        held += abs(estimate.drawdown - drawdown) <= estimate.half_width
        widths.append(estimate.half_width)
        assert outcomes.agreeing[:2].tolist() == [NUM_IMAGES] * 2
        assert outcomes.sensitive_agreeing[:2].tolist() == [evaluator.num_sensitive] * 2
        agreements.append(torch.stack([outcomes.agreeing.mean(), outcomes.sensitive_agreeing.mean()]))
    assert held >= 33
    assert max(widths) < 0.5
    found, exact = torch.stack(agreements), torch.stack([expected.agreeing, expected.sensitive_agreeing], dim=1)
    bias, deviation = found.mean(dim=0) - exact.double().mean(dim=0), found.std(dim=0)
    assert (deviation > 0).all()
    assert (bias.abs() < 4 * deviation / 40**0.5).all()


def test_the_same_seed_samples_the_same_and_ranks_differ(network: nn.Module):
    data = data_for(network)
    indices, labels = edits_of(network, data)

    def errors_after(seed: int, rank: int) -> list[float]:
        sampling = SamplingSettings(forward_passes=150, seed=seed)
        evaluator = evaluator_of(network, Editor(GD(0.05), 4), data, sampling=sampling)
        evaluator.measure_base()
        return evaluator.score(data, indices, labels, rank=rank).errors_after.tolist()

    assert errors_after(0, 0) == errors_after(0, 0)
    assert errors_after(0, 0) != errors_after(1, 0)
    assert errors_after(0, 0) != errors_after(0, 1)


def test_kept_features_do_not_follow_later_changes_of_the_images(network: nn.Module):
    data = data_for(network)
    batches = batches_of(data, 16)
    indices, labels = edits_of(network, data)
    for editable in (["3", "8"], "all"):  # with everything editable the features are the images themselves
        evaluator = EditEvaluator(SplitNetwork(network, editable), Editor(GD(0.05)), batches, len(data), CPU)
        evaluator.measure_base()
        expected = evaluator.score(data, indices, labels)
        kept = [images.clone() for images, _ in batches]
        for images, _ in batches:
            images.zero_()  # a loader may reuse its memory
        assert_outcomes(evaluator.score(data, indices, labels), expected)
        for images, before in zip(batches, kept, strict=True):
            images[0].copy_(before)


def test_the_order_of_edits_does_not_matter(network: nn.Module):
    data = data_for(network)
    indices, labels = edits_of(network, data)
    evaluator = evaluator_of(network, Editor(RMSProp(0.02)), data, edits_at_once=3)
    evaluator.measure_base()
    forwards = evaluator.score(data, indices, labels)
    backwards = evaluator.score(data, indices.flip(0), labels.flip(0))
    assert_outcomes(EditOutcomes(*(field.flip(0) for field in backwards)), forwards)


def test_no_edits_give_empty_outcomes(network: nn.Module):
    """As on a rank of a distributed run that has fewer edits than ranks."""
    data = data_for(network)
    evaluator = evaluator_of(network, Editor(GD(0.05)), data)
    evaluator.measure_base()
    none = torch.zeros(0, dtype=torch.int64)
    outcomes = evaluator.score(data, none, none)
    assert {len(field) for field in outcomes} == {0}
    assert outcomes.success.dtype == torch.bool
    assert outcomes.errors_after.dtype == torch.int64


def test_progress_adds_up(network: nn.Module):
    data = data_for(network)
    indices, labels = edits_of(network, data)
    images, edits = [], []
    evaluator = evaluator_of(network, Editor(GD(0.05)), data, image_stride=3)
    evaluator.measure_base(images.append)
    evaluator.score(data, indices, labels, edits.append)
    assert sum(images) == NUM_IMAGES
    assert sum(edits) == pytest.approx(len(indices))


def test_the_network_is_untouched(network: nn.Module):
    data = data_for(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluator = evaluator_of(network, Editor(GD(0.05)), data)
    evaluator.measure_base()
    evaluator.score(data, *edits_of(network, data))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert all(param.grad is None for param in network.parameters())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"image_stride": 0}, "image_stride must be at least 1, got 0"),
        ({"edits_at_once": -2}, "edits_at_once must be at least 1, got -2"),
        ({"memory_budget": 0.0}, "memory_budget must be positive, got 0"),
        ({"memory_budget": float("nan")}, "memory_budget must be finite, got nan"),
        ({"sensitive_margin": 5.0}, r"sensitive_margin must be in \[0, 1\], got 5"),
        ({"sensitive_margin": -0.1}, "sensitive_margin must be in"),
    ],
)
def test_numbers_out_of_range(bad: dict[str, float], message: str, network: nn.Module):
    with pytest.raises(UserError, match=message):
        evaluator_of(network, Editor(GD(0.05)), data_for(network), **bad)


def test_mistakes_when_scoring(network: nn.Module):
    data = data_for(network)
    evaluator = evaluator_of(network, Editor(GD(0.05)), data)
    with pytest.raises(UserError, match="measure_base before score"):
        evaluator.score(data, torch.tensor([0]), torch.tensor([1]))
    evaluator.measure_base()
    with pytest.raises(UserError, match="label 9 was asked for"):
        evaluator.score(data, torch.tensor([0]), torch.tensor([9]))
    with torch.inference_mode(), pytest.raises(UserError, match="inference mode"):
        evaluator.score(data, torch.tensor([0]), torch.tensor([1]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sampling", [None, SamplingSettings(half_width=1e-6)], ids=["all", "sampled"])
def test_harm_on_images_that_are_not_edited(stride: int, sampling: SamplingSettings | None, network: nn.Module):
    """The edited input counts as unchanged where it is a scoring image; whatever is sampled, here all of them."""
    ours, by_hand = RULES["RMSProp"]
    data = data_for(network)
    indices, labels = edits_of(network, data)
    evaluator = evaluator_of(network, Editor(ours, 20), data, image_stride=stride, sampling=sampling)
    evaluator.measure_base()
    found = evaluator.score(data, indices, labels, leave_out_edited=True)
    names = [name for name, _ in network.named_parameters() if name.startswith(("3.", "8."))]
    expected = []
    for index, label in zip(indices.tolist(), labels, strict=True):
        edited, *_ = textbook_edit(network, names, by_hand, data[index][0].unsqueeze(0), label.view(1), 20)
        networks = [network if place == index else edited for place in range(0, len(data), stride)]
        expected.append(
            sum(int(predict(one, x.unsqueeze(0))) != y for one, (x, y) in zip(networks, data[::stride], strict=True))
        )
    assert found.errors_after.tolist() == pytest.approx(expected)
    with_own = evaluator.score(data, indices, labels)
    assert (with_own.agreeing <= found.agreeing).all()


def test_logits_that_are_no_numbers(network: nn.Module):
    data = data_for(network)
    data[20] = (torch.full_like(data[20][0], float("nan")), data[20][1])
    evaluator = evaluator_of(network, Editor(GD(0.05)), data)
    with pytest.raises(UserError, match=r"logits are NaN or infinite from image 16 on, .* before any edit"):
        evaluator.measure_base()
