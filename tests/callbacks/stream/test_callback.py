"""A stream comes to what a plain loop over copies of the network comes to, and says what it cannot do."""

import copy
import csv
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import TensorDataset

from editable.callbacks import CorrectionStream, DrawdownEvaluation
from editable.data import AugmentedViews, DigitsDataModule, NaturalMistakeEdits, RandomLabelEdits
from editable.data.modules.changed_views import ChangedViews
from editable.editing import GD, Editor, EditSite, RMSProp
from editable.errors import UserError
from editable.models import SplitNetwork, add_codebook, load_weights
from editable.tasks import ClassificationTask
from tests.callbacks.stream.streams import (
    NUM_EDITS,
    data,
    digits,
    editor_of,
    fitted,
    make_stream,
    run,
)
from tests.editing.evaluation.plain_stream import (
    Asked,
    corrected_one_by_one,
    corrected_together,
    plain_figures,
    predict,
)
from tests.quiet_trainer import quiet_trainer
from tests.tasks.reference import loader, small_network

CHANGES = ("brightness", "blur", "noise", "rotation", "jpeg")
POINTS = [1, 2, 5, 10, 12]
METRICS = {
    "stream_num_edits",
    "stream_error_before",
    "stream_error",
    "stream_broken",
    "stream_retention",
    "stream_generality",
    "stream_group_generality",
    "stream_seconds_per_edit",
}


class Plain:
    """The same corrections, network and images without the study."""

    def __init__(self, kind: str, edited_views: int = 1) -> None:
        editor, layers = editor_of(kind)
        self.network = editor.furnish(fitted())
        module = data()
        module.setup("test")
        images, labels = digits()
        images = images.double()
        predictions = predict(self.network, images)
        mistakes = [i for i in range(0, len(images), 2) if predictions[i] != labels[i]]
        order = torch.randperm(len(mistakes), generator=torch.Generator().manual_seed(0)).tolist()[:NUM_EDITS]
        self.index = [mistakes[i] for i in order]
        views, changes = AugmentedViews(module.test_dataset, 3 + edited_views), ChangedViews(module.test_dataset, 0)
        self.asked = [
            Asked(
                torch.cat([images[i][None], views[i][3:].double()]),
                views[i][:3].double(),
                changes[i].double(),
                int(labels[i]),
            )
            for i in self.index
        ]
        self.judged = images[1::2], labels[1::2]
        references = module.unaugmented_training_images()
        chosen = sorted(torch.randperm(len(references), generator=torch.Generator().manual_seed(0))[:100].tolist())
        shown = (
            torch.stack([references[i][0] for i in chosen]).double(),
            torch.tensor([references[i][1] for i in chosen]),
        )
        split = SplitNetwork(self.network, layers or list(editor.own_layers))
        self.names = list(split.names)
        self.editor = editor.with_strict_success().at(EditSite(split, lambda number: loader(*shown, batch_size=64)))

    def figures(self, corrected: nn.Module, number: int) -> dict[str, float]:
        return plain_figures(self.network, corrected, self.asked[:number], *self.judged)


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def assert_points(folder: Path, expected: dict[int, dict[str, float]]) -> None:
    rows = rows_of(folder, "stream.csv")
    assert [int(row["num_edits"]) for row in rows] == list(expected)
    for row, plain in zip(rows, expected.values(), strict=True):
        found = {name: float(row[name] or "nan") for name in plain if name in row}
        assert found == pytest.approx({name: plain[name] for name in found}, nan_ok=True)
        changed = sum(float(row[f"generality_{name}"]) for name in CHANGES) / len(CHANGES)
        assert changed == pytest.approx(plain["changed"])


def test_a_stream_is_that_of_a_plain_loop(whole):
    plain = Plain(whole.kind)
    networks = corrected_one_by_one(plain.network, plain.editor, plain.names, plain.asked)
    expected = {number: plain.figures(networks[number - 1], number) for number in POINTS}
    assert_points(whole.folder, expected)
    rows = rows_of(whole.folder, "corrections.csv")
    assert [int(row["index"]) for row in rows] == plain.index
    assert [int(row["new_label"]) for row in rows] == [some.label for some in plain.asked]
    assert [int(row["old_label"]) for row in rows] == predict(
        plain.network, torch.cat([a.samples[:1] for a in plain.asked])
    )
    for row, some, network in zip(rows, plain.asked, networks, strict=True):
        assert int(row["success"]) == all(now == some.label for now in predict(network, some.samples))
        held = [now == some.label for now in predict(networks[-1], torch.cat([some.samples[:1], some.views]))]
        assert int(row["holds"]) == held[0]
        assert float(row["generality"]) == pytest.approx(sum(held[1:]) / 3)
    last = expected[NUM_EDITS]
    assert whole.metrics.keys() >= METRICS
    for name in ("error_before", "error", "broken", "retention", "generality", "group_generality"):
        assert whole.metrics[f"stream_{name}"] == pytest.approx(last[name], rel=1e-6), name
    assert whole.metrics["stream_num_edits"] == NUM_EDITS
    seconds = sum(float(row["seconds"]) for row in rows) / NUM_EDITS
    assert whole.metrics["stream_seconds_per_edit"] == pytest.approx(seconds, rel=1e-5)


@pytest.mark.parametrize("kind", ["minimal harm", "codebook"])
def test_together_is_one_edit_of_the_unedited_network(kind, tmp_path):
    run(make_stream(kind, {"edited_views": 1}, protocol="together"), tmp_path)
    plain = Plain(kind)
    expected = {
        number: plain.figures(
            corrected_together(plain.network, plain.editor, plain.names, plain.asked[:number]), number
        )
        for number in POINTS
    }
    assert_points(tmp_path, expected)
    assert "together, from the unedited network" in (tmp_path / "report.md").read_text()


def test_weights_that_are_left_are_those_of_the_corrected_network(whole):
    """They load into the network, with a codebook where the editor has furnished one, and predict what was reported."""
    network = fitted(seed=1)
    network = add_codebook(network) if whole.kind == "codebook" else network
    load_weights(network, whole.folder / "corrected.safetensors")
    images, labels = digits()
    predictions = torch.tensor(predict(network, images.double()))
    judged = torch.arange(len(images)) % 2 == 1
    wrong = (predictions != labels)[judged].double().mean().item()
    assert whole.metrics["stream_error"] == pytest.approx(wrong, rel=1e-6)
    held = [int(row["holds"]) for row in rows_of(whole.folder, "corrections.csv")]
    assert (predictions == labels)[whole.stream.outcome.index].int().tolist() == held
    trainer = quiet_trainer(precision="64-true", default_root_dir=whole.folder / "again")
    (metrics,) = trainer.test(ClassificationTask(network), datamodule=data(), verbose=False)
    assert metrics["test_error"] == pytest.approx((predictions != labels).double().mean().item(), rel=1e-6)


def test_nothing_is_written_into_the_network(tmp_path):
    for kind in ("gradient", "minimal harm", "codebook"):
        network = fitted()
        before, names = copy.deepcopy(network.state_dict()), [name for name, _ in network.named_modules()]
        run(make_stream(kind, num_edits=2), tmp_path / kind, network, reported=False)
        assert [name for name, _ in network.named_modules()] == names
        torch.testing.assert_close(dict(network.state_dict()), dict(before), rtol=0, atol=0)
        corrected = load_file(tmp_path / kind / "corrected.safetensors")
        assert any(name not in before or not torch.equal(some, before[name]) for name, some in corrected.items())


class Nothing(Editor):
    """Gives back what it got; what it says of itself is looked at by nobody else."""

    def forward(self, forward, params, inputs, targets, differentiable=False):
        return (
            super()
            .forward(forward, params, inputs, targets)
            ._replace(params={name: param.detach().clone() for name, param in params.items()})
        )


class Diverging(Editor):
    """Leaves weights that are no numbers."""

    def forward(self, forward, params, inputs, targets):
        result = super().forward(forward, params, inputs, targets)
        return result._replace(params={name: param * math.nan for name, param in result.params.items()})


@pytest.mark.filterwarnings("ignore:.*NaN or infinite, and was taken back")
@pytest.mark.parametrize("protocol", ["stream", "together"])
@pytest.mark.parametrize("budget", [None, 0.5])
def test_corrections_that_leave_no_numbers_are_not_kept(protocol, budget, tmp_path):
    evaluation = {"editor": Diverging(GD(0.1), 3), "editable_layers": ["3"]}
    metrics = run(make_stream(evaluation=evaluation, num_edits=3, protocol=protocol, budget=budget), tmp_path)
    assert metrics["stream_error"] == metrics["stream_error_before"]
    assert [row["kept"] for row in csv.DictReader((tmp_path / "corrections.csv").open())] == ["0", "0", "0"]
    assert not (tmp_path / "corrections.safetensors").exists()
    assert metrics.get("stream_num_refused") == (None if budget is None else 3)


def test_copies_of_corrected_images_do_not_judge(tmp_path):
    """The digits at even positions stand at the odd ones behind them, too; what judges is none of the corrected."""
    images, labels = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(80) % 10
    images[1::2] = images[::2]
    images[41:60:2] = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    class Twice(DigitsDataModule):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.test_dataset = TensorDataset(images, labels)

    metrics = run(make_stream(num_edits=5), tmp_path, module=Twice(train_limit=150, augmentation="none"))
    assert metrics["stream_num_judged"] == 10
    assert "30 further images judge nothing: the same picture" in (tmp_path / "report.md").read_text()


def test_an_editor_that_returns_the_unedited_network_is_seen(tmp_path):
    evaluation = {"editor": Nothing(RMSProp(0.1), 0), "editable_layers": ["3"]}
    metrics = run(make_stream(evaluation=evaluation, num_edits=5), tmp_path)
    assert (metrics["stream_retention"], metrics["stream_success_rate"], metrics["stream_broken"]) == (0, 0, 0)
    assert metrics["stream_error"] == metrics["stream_error_before"]
    assert "0 succeeded, and 0 hold at the end" in (tmp_path / "report.md").read_text()


def test_the_same_seed_gives_the_same_and_a_shorter_one_is_its_beginning(minimal, tmp_path):
    shorter = make_stream("minimal harm", {"edited_views": 1}, num_edits=5)
    run(shorter, tmp_path, reported=False)
    ours, theirs = shorter.outcome, minimal.stream.outcome
    assert torch.equal(ours.index, theirs.index[:5])
    assert torch.equal(ours.success, theirs.success[:5])
    for own, other in zip(ours.points, theirs.points[:3], strict=True):
        assert repr(own._replace(seconds=0.0)) == repr(other._replace(seconds=0.0))


def seen_references(monkeypatch, stream: CorrectionStream, folder: Path) -> list[int]:
    """Return positions in the test set of the images that an editor was given beside those to be corrected."""
    seen: list[torch.Tensor] = []
    batches = EditSite.image_batches

    def watched(site, number):
        for images, labels in batches(site, number):
            seen.append(images.cpu())
            yield images, labels

    with monkeypatch.context() as patch:
        patch.setattr(EditSite, "image_batches", watched)
        run(stream, folder, reported=False)
    images = digits()[0].double().flatten(1)
    return [
        int(row) for image in torch.cat(seen).flatten(1) for row in (images == image).all(dim=1).nonzero().flatten()
    ]


@pytest.mark.parametrize("halves", ["even", "random"])
def test_references_are_neither_corrected_nor_judged(halves, tmp_path, monkeypatch):
    stream = make_stream(references="rest", halves=halves)
    stream.evaluation.editor.num_references = 1000
    found = seen_references(monkeypatch, stream, tmp_path / "rest")
    half = (359 + 1) // 2
    assert len(set(found)) == half - NUM_EDITS
    assert not set(found) & set(stream.outcome.index.tolist())
    assert stream.outcome.num_judged == 359 - half
    if halves == "even":
        assert not [position for position in found if position % 2]
    assert not seen_references(monkeypatch, make_stream(halves=halves), tmp_path / "train")


def test_edits_with_random_labels(tmp_path):
    stream = make_stream("codebook", edits=RandomLabelEdits(), num_edits=8)
    metrics = run(stream, tmp_path, reported=False)
    assert metrics["stream_retention"] == 1
    labels = digits()[1][stream.outcome.index]
    assert (labels != stream.outcome.new_label).any()


def test_all_mistakes_without_a_number(tmp_path):
    stream = make_stream("codebook", num_edits=None)
    run(stream, tmp_path, reported=False)
    images, labels = digits()
    wrong = torch.tensor(predict(fitted(), images.double())) != labels
    assert sorted(stream.outcome.index.tolist()) == [i for i in wrong.nonzero().flatten().tolist() if i % 2 == 0]


def test_without_views_what_they_would_tell_is_left_out(tmp_path):
    stream = make_stream(evaluation={"generality_views": 0}, num_edits=2)
    metrics = run(stream, tmp_path)
    assert "stream_generality" not in metrics
    assert "stream_generality_blur" in metrics
    assert math.isnan(stream.outcome.points[-1].generality)
    assert "further views" not in (tmp_path / "report.md").read_text()


def test_it_is_tried_out_on_few_batches(tmp_path):
    """``limit_test_batches`` is for the error of the test; corrections are of all test images, as in other studies."""
    stream = make_stream(num_edits=2)
    run(stream, tmp_path / "limited", reported=False, limit_test_batches=1)
    assert stream.outcome.num_judged == 179
    run(make_stream(num_edits=2), tmp_path / "tried", reported=False, fast_dev_run=True)
    assert not (tmp_path / "tried").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_edits": 0}, "num_edits must be at least 1, got 0"),
        ({"num_edits": -3}, "num_edits must be at least 1, got -3"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_options_out_of_range_are_user_errors(settings, message):
    with pytest.raises(UserError, match=message):
        make_stream(**settings)


@pytest.mark.parametrize(
    ("settings", "evaluation", "message"),
    [
        ({"num_edits": 1000}, {}, r"stream\.num_edits is 1000, but \d+ corrections are there to be made"),
        ({}, {"editor": None}, "brings no editor: name one in evaluation.editor"),
        ({}, {"editable_layers": None}, "brings no editable layers: name them"),
        ({}, {"editable_layers": ["layer3"]}, "no parameter of Sequential matches 'layer3'"),
        ({}, {"editable_layers": ["0"]}, "changes one linear layer, but the editable layers are"),
        ({"resume": "nowhere"}, {}, r"stream\.resume: there is no unfinished stream in 'nowhere'"),
    ],
)
def test_what_cannot_be_corrected_is_one_sentence(settings, evaluation, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        run(make_stream(evaluation=evaluation, **settings), tmp_path, reported=False)
    assert "\n" not in str(error.value)


class Wise(nn.Module):
    """Knows the label of each test image: it makes no mistake."""

    def __init__(self) -> None:
        super().__init__()
        images, labels = digits()
        self.fc = nn.Linear(64, 10, bias=False).double()
        keys = images.double().flatten(1)
        self.register_buffer("keys", keys / keys.norm(dim=1, keepdim=True))
        self.register_buffer("asked", 10 * nn.functional.one_hot(labels, 10).double())
        nn.init.zeros_(self.fc.weight)

    def forward(self, x):
        x = x.flatten(1)
        near = (x / x.norm(dim=1, keepdim=True)) @ self.keys.T
        return self.fc(x) + torch.softmax(1e4 * near, dim=1) @ self.asked


def test_a_network_without_mistakes_has_nothing_to_be_corrected(tmp_path):
    stream = make_stream(evaluation={"editable_layers": ["fc"]})
    with pytest.raises(UserError, match=r"makes no mistake on these 180 inputs, so there is none to correct") as error:
        run(stream, tmp_path, Wise(), reported=False)
    assert "\n" not in str(error.value)


class Few(type(data())):
    """Digits of which few are tested."""

    number = 1

    def setup(self, stage):
        super().setup(stage)
        if stage == "test":
            self.test_dataset.images = torch.utils.data.Subset(self.test_dataset.images, range(self.number))


def test_one_image_is_too_few(tmp_path):
    stream = make_stream("codebook", edits=RandomLabelEdits(), num_edits=1)
    with pytest.raises(UserError, match="of 1 test images none is left to judge corrections by"):
        run(stream, tmp_path, module=Few(), reported=False)


def test_two_processes_are_refused(tmp_path):
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[make_stream()])
    stream, task = trainer.callbacks[0], ClassificationTask(fitted())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(trainer), "world_size", 2)
        with pytest.raises(
            UserError, match=r"is made by one process, as each depends on the last: set trainer\.devices"
        ):
            stream.on_test_start(trainer, task)


def test_loaders_alone_are_no_data_module(make_trainer):
    stream = CorrectionStream(DrawdownEvaluation(editor=editor_of("gradient")[0], editable_layers=["3"]))
    trainer = make_trainer(precision="64-true", callbacks=[stream])
    batches = loader(torch.randn(8, 2, 6, 6).double(), torch.zeros(8, dtype=torch.int64))
    with pytest.raises(UserError, match="a stream of corrections needs a data module of images"):
        trainer.test(ClassificationTask(small_network()), batches, verbose=False)


def test_natural_mistakes_are_the_default():
    assert isinstance(CorrectionStream(DrawdownEvaluation()).edits, NaturalMistakeEdits)
