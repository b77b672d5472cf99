"""The search gives what a plain loop over learning rates gives, and goes on where it was interrupted."""

import copy
import csv
import math
import re
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule
from torch import nn

from editable.callbacks import DrawdownEvaluation, LearningRateSearch
from editable.callbacks.search.reported import ReportedEdits
from editable.data import DigitsDataModule, NaturalMistakeEdits, RandomLabelEdits
from editable.editing import (
    BaseEditor,
    EditEvaluator,
    Editor,
    HigherEditor,
    PreconditionedEditor,
    RMSProp,
    SamplingSettings,
    learning_rate_grid,
)
from editable.errors import UserError
from editable.tasks import ClassificationTask, EditableTrainingTask
from tests.callbacks.search.searches import (
    HIGHEST,
    LOWEST,
    MAX_STEPS,
    MIN_SUCCESS,
    NUM_EDITS,
    PER_DECADE,
    data_for,
    interrupted,
    loader_of,
    make_evaluation,
    make_search,
    run,
)
from tests.data.modules.test_image_data_module import GreyLevels
from tests.editing.reference import gd, rmsprop, textbook_edit
from tests.quiet_trainer import quiet_trainer
from tests.tasks.reference import LAYERS, NUM_CLASSES, small_network

NAMES = ["3.weight", "3.bias", "4.weight", "4.bias"]


def random_edits(inputs, num_edits, seed, num_drawn=None):
    """Inputs of a permutation and uniformly random labels, by numpy's legacy generator."""
    random = np.random.RandomState(seed)
    order = random.permutation(len(inputs))[: num_drawn or num_edits]
    labels = random.randint(0, NUM_CLASSES, len(order))
    return [(inputs[position], int(label)) for position, label in zip(order, labels, strict=True)][:num_edits]


def held_out_edits(num_images, num_edits, seed=0):
    published = np.random.RandomState(9).permutation(num_images)[:1000].tolist()
    return random_edits(sorted(set(range(num_images)) - set(published)), num_edits, seed)


def plain_loop(network, images, labels, pairs, step, stride=1):
    """Success rate, mean steps and mean drawdown at each rate: copy the network, edit it, run all images."""

    others = torch.arange(len(images))[::stride]

    def error(edited, own):
        wrong = edited.eval()(images).argmax(dim=1) != labels
        return wrong[others[others != own]].sum().item() / len(others)

    rows = {}
    for rate in learning_rate_grid(LOWEST, HIGHEST, PER_DECADE):
        edited = [
            textbook_edit(network, NAMES, partial(step, lr=rate), images[i : i + 1], torch.tensor([label]), MAX_STEPS)
            for i, label in pairs
        ]
        changes = [
            error(copied, i) - error(copy.deepcopy(network), i)
            for (copied, _, _), (i, _) in zip(edited, pairs, strict=True)
        ]
        drawdown = np.mean(changes)
        rows[rate] = np.mean([success for _, success, _ in edited]), np.mean([s for _, _, s in edited]), drawdown
    return rows


def best_of(rows, min_success):
    best = None
    for rate, (success, _, drawdown) in rows.items():
        if success >= min_success and (best is None or drawdown < rows[best][2]):
            best = rate
    return best


def rows_of(search):
    return {row.learning_rate: (row.success_rate, row.num_steps, row.drawdown) for row in search.outcome.rates}


def assert_outcome(search, metrics, folder, expected, num_scoring_images):
    """Outcome, metrics and files are those of the plain loop; the editor itself is not changed."""
    assert rows_of(search).keys() == expected.keys()
    for rate, row in rows_of(search).items():
        assert row == pytest.approx(expected[rate]), rate
    best = best_of(expected, MIN_SUCCESS)
    assert any(success < MIN_SUCCESS for success, _, _ in expected.values())
    assert metrics["search_learning_rate"] == pytest.approx(best)
    found = [metrics[f"search_{name}"] for name in ("success_rate", "num_steps", "drawdown")]
    assert found == pytest.approx(expected[best], rel=1e-6)
    assert metrics["search_num_edits"] == NUM_EDITS
    assert metrics["search_num_rates"] == len(expected)
    assert metrics["search_num_scoring_images"] == num_scoring_images
    assert search.evaluation.editor.rule.learning_rate == 0.05

    with (folder / "search.csv").open() as file:
        table = {float(row["learning_rate"]): row for row in csv.DictReader(file)}
    assert table.keys() == expected.keys()
    assert all(float(row["drawdown"]) == pytest.approx(expected[rate][2]) for rate, row in table.items())
    report = (folder / "report.md").read_text()
    assert f"Chosen: {best:g}" in report
    assert "](search.png)" in report
    assert (folder / "search.png").stat().st_size > 0


def test_outcomes_and_choice_are_those_of_a_plain_loop(whole):
    network, images, labels = small_network(), whole.images, whole.labels
    expected = plain_loop(
        network, images, labels, random_edits(range(60), NUM_EDITS, 0, 60), partial(rmsprop, beta=0.5)
    )
    assert_outcome(whole.search, whole.metrics, whole.folder, expected, 60)
    torch.testing.assert_close(whole.network.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("split", "stride", "seed"), [("val", 3, 5), ("test", 7, 2)])
def test_outcomes_with_a_stride_are_those_of_a_plain_loop(tmp_path, split, stride, seed):
    network = small_network()
    number = 60 if split == "val" else 1040
    images, labels = data_for(network, number)
    pairs = random_edits(range(60), NUM_EDITS, seed, 60) if split == "val" else held_out_edits(1040, NUM_EDITS, seed)
    expected = plain_loop(network, images, labels, pairs, partial(rmsprop, beta=0.5), stride)
    search = make_search(make_evaluation(image_stride=stride), split=split, seed=seed)
    before = copy.deepcopy(network.state_dict())
    metrics = run(search, network, images, labels, tmp_path)
    assert_outcome(search, metrics, tmp_path, expected, math.ceil(number / stride))
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_the_unedited_network_is_measured_once(whole):
    assert whole.num_base_measurements == 1


@pytest.mark.filterwarnings("ignore:the chosen learning rate, .* is the lowest one searched")
def test_any_optimizer_can_be_searched(tmp_path):
    network = small_network()
    images, labels = data_for(network, 40)
    editor = HigherEditor(partial(torch.optim.SGD, lr=123.0), MAX_STEPS)
    search = make_search(make_evaluation(editor=editor), num_edits=5, min_success=0.0)
    run(search, network, images, labels, tmp_path)
    pairs = random_edits(range(40), 5, 0, 40)
    for rate, row in plain_loop(network, images, labels, pairs, gd).items():
        assert rows_of(search)[rate] == pytest.approx(row), rate
    made = yaml.safe_load((tmp_path / "editor.yaml").read_text())["evaluation"]["editor"]
    assert made["init_args"]["optimizer"]["class_path"] == "torch.optim.SGD"
    assert made["init_args"]["optimizer"]["init_args"]["lr"] == search.outcome.chosen.learning_rate


def test_written_editor_has_the_constants_that_the_task_has_learnt(tmp_path):
    network = small_network()
    images, labels = data_for(network, 60)
    editor = Editor(RMSProp(0.05, 0.5, learn_learning_rate=True, learn_decay=True), MAX_STEPS)
    with torch.no_grad():
        editor.rule.logit_decay.fill_(-1.5)
    before = copy.deepcopy(editor.state_dict())
    search = make_search(DrawdownEvaluation())
    task = EditableTrainingTask(network, editor, LAYERS)
    run(search, network, images, labels, tmp_path / "first", task)
    assert editor.state_dict() == before
    text = (tmp_path / "first" / "editor.yaml").read_text()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DrawdownEvaluation, "evaluation", sub_configs=True)
    evaluation = parser.instantiate(parser.parse_string(text)).evaluation
    assert evaluation.editable_layers == LAYERS
    assert isinstance(evaluation.editor, BaseEditor)
    assert evaluation.editor.rule.learning_rate == search.outcome.chosen.learning_rate
    # Without the task's own editor, at this rate alone: the same outcome.
    rate = search.outcome.chosen.learning_rate
    again = make_search(evaluation, lowest=rate, highest=rate)
    run(again, network, images, labels, tmp_path / "again", reported=False)
    assert again.outcome.rates == [search.outcome.chosen]


def test_sampled_by_default_with_an_interval_around_the_exact_drawdown(whole, tmp_path):
    network = small_network()
    images, labels = data_for(network, 400)
    exact, sampled = make_search(), make_search(half_width=0.02)
    run(exact, network, images, labels, tmp_path / "exact", reported=False)
    metrics = run(sampled, network, images, labels, tmp_path / "sampled")
    for estimate, truth in zip(sampled.outcome.rates, exact.outcome.rates, strict=True):
        assert (estimate.success_rate, estimate.num_steps) == (truth.success_rate, truth.num_steps)
        assert abs(estimate.drawdown - truth.drawdown) <= 2 * estimate.half_width
        assert estimate.num_sampled_images < 400 * NUM_EDITS
    assert max(estimate.half_width for estimate in sampled.outcome.rates) > 0.005
    assert metrics["search_drawdown_half_width"] == pytest.approx(sampled.outcome.chosen.half_width)
    assert "random part" in (tmp_path / "sampled" / "report.md").read_text()
    assert "all scoring images" in (whole.folder / "report.md").read_text()


def test_sampling_of_the_evaluation_wins():
    sampling = SamplingSettings(forward_passes=2000)
    assert make_search(make_evaluation(sampling=sampling), half_width=0.1).sampling == sampling
    assert LearningRateSearch(make_evaluation()).sampling == SamplingSettings(half_width=0.002)


def assert_resumed(killed, whole, folder, monkeypatch, **settings):
    """A search that goes on where another was killed comes to what an uninterrupted one comes to."""
    score, calls = EditEvaluator.score, []
    monkeypatch.setattr(EditEvaluator, "score", lambda *args, **named: calls.append(1) or score(*args, **named))
    resumed = make_search(**settings, resume=str(killed))
    found = run(resumed, small_network(), whole.images, whole.labels, folder / "resumed")
    assert len(calls) == len(resumed.rates) - 2
    assert found == whole.metrics
    assert resumed.outcome.rates == whole.search.outcome.rates
    for name in ("search.csv", "editor.yaml", "search.json"):
        assert (folder / "resumed" / name).read_text() == (whole.folder / name).read_text(), name
    # A wider grid takes over what there is, and a resumed search can itself be resumed.
    calls.clear()
    wider = make_search(**settings, highest=300.0, resume=str(folder / "resumed"))
    run(wider, small_network(), whole.images, whole.labels, folder / "wider", reported=False)
    assert len(calls) == 2
    assert wider.outcome.rates[: len(whole.search.outcome.rates)] == whole.search.outcome.rates


def test_resumed_is_as_uninterrupted(killed, whole, tmp_path, monkeypatch):
    assert_resumed(killed, whole, tmp_path, monkeypatch)


def test_resumed_is_as_uninterrupted_where_images_are_sampled(whole, tmp_path, monkeypatch):
    settings = {"half_width": 0.05, "num_edits": 6}
    network, images, labels = small_network(), whole.images, whole.labels
    interrupted(tmp_path / "killed", network, images, labels, **settings)
    search = make_search(**settings)
    metrics = run(search, network, images, labels, tmp_path / "whole")
    sampled = whole._replace(search=search, metrics=metrics, folder=tmp_path / "whole")
    assert_resumed(tmp_path / "killed", sampled, tmp_path, monkeypatch, **settings)


DIFFERENT = {
    "weights": ({}, {}, {"seed": 1}),
    "labels": ({}, {}, {"labels": True}),
    "edits": ({}, {}, {"images": True}),
    "seed": ({"seed": 1}, {}, {}),
    "num_edits": ({"num_edits": 11}, {}, {}),
    "sampling": ({"half_width": 0.1}, {}, {}),
    "editor": ({}, {"editor": Editor(RMSProp(0.05), MAX_STEPS + 1)}, {}),
    "editable_layers": ({}, {"editable_layers": ["3"]}, {}),
    "image_stride": ({}, {"image_stride": 2}, {}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_another_search_cannot_be_resumed(killed, tmp_path, name):
    settings, evaluation, changes = DIFFERENT[name]
    images, labels = data_for(small_network(), 60)
    network = small_network(seed=changes.get("seed", 0))
    labels = labels.flip(0) if "labels" in changes else labels
    images = images + 1e-6 if "images" in changes else images
    search = make_search(make_evaluation(**evaluation), resume=str(killed), **settings)
    with pytest.raises(UserError, match=rf"was another one, with {name} .* in place of .*") as error:
        run(search, network, images, labels, tmp_path / "other")
    assert "\n" not in str(error.value)


def test_edited_views_of_another_augmentation_are_another_search(tmp_path):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def search(name, augmentation, **settings):
        evaluation = make_evaluation(editable_layers=["1"], generality_views=0, edited_views=1)
        callback = make_search(evaluation, lowest=0.1, highest=1.0, num_edits=2, min_success=0.0, **settings)
        trainer = quiet_trainer(callbacks=[callback], default_root_dir=tmp_path / name)
        data = DigitsDataModule(train_limit=64, validation_fraction=0.02, augmentation=augmentation)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the best of two rates is at an end
            trainer.validate(ClassificationTask(network), data, verbose=False)
        return callback.outcome.rates

    rates = search("whole", "shift")
    assert search("resumed", "shift", resume=str(tmp_path / "whole")) == rates
    with pytest.raises(UserError, match=r"with views .*'generality_augmentation': 'shift'.* in place of .*'crop_flip'"):
        search("other", "none", resume=str(tmp_path / "whole"))


def test_references_of_another_number_are_another_search(tmp_path):
    """An editor that is put at its place by training images does other edits where these are others."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    def search(name, train_limit, **settings):
        editor = PreconditionedEditor(Editor(RMSProp(0.05), 2))
        evaluation = make_evaluation(editor=editor, editable_layers=["1"], generality_views=0)
        callback = make_search(evaluation, lowest=0.1, highest=1.0, num_edits=2, min_success=0.0, **settings)
        trainer = quiet_trainer(callbacks=[callback], default_root_dir=tmp_path / name)
        data = DigitsDataModule(train_limit=train_limit, validation_fraction=0.02)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the best of two rates is at an end
            trainer.validate(ClassificationTask(network), data, verbose=False)
        return callback.outcome.rates

    rates = search("whole", 64)
    assert search("resumed", 64, resume=str(tmp_path / "whole")) == rates
    with pytest.raises(UserError, match=r"with references .* in place of"):
        search("other", 48, resume=str(tmp_path / "whole"))


@pytest.mark.parametrize("content", [None, "no JSON", "[]"])
def test_a_folder_without_a_search_cannot_be_resumed(tmp_path, content):
    if content is not None:
        (tmp_path / "search.json").write_text(content)
    with pytest.raises(UserError, match=r"search\.resume: .*"):
        make_search(resume=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"highest": 0.03}, "highest one .*search.highest"), ({"lowest": 0.03}, "lowest one .*search.lowest")],
)
def test_a_best_rate_at_an_end_asks_for_a_wider_grid(tmp_path, settings, words):
    network = small_network()
    images, labels = data_for(network, 60)
    search = make_search(**settings)
    with pytest.warns(UserWarning, match=words):
        run(search, network, images, labels, tmp_path, reported=False)
    assert re.search(words, search.outcome.advice)


def test_no_rate_with_enough_successes_leaves_a_table_but_no_editor(tmp_path):
    network = small_network()
    images, labels = data_for(network, 60)
    search = make_search(lowest=1e-9, highest=1e-8, min_success=1.0)
    metrics = run(search, network, images, labels, tmp_path)
    assert search.outcome.chosen is None
    assert "no learning rate from 1e-09 to 1e-08 has a success rate of 1" in search.outcome.advice
    assert search.outcome.advice in (tmp_path / "report.md").read_text()
    assert "search_learning_rate" not in metrics
    assert metrics["search_num_rates"] == 2
    assert {"search.csv", "search.png"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "editor.yaml").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lowest": 0.0}, "lowest must be positive, got 0.0"),
        ({"highest": 1e-9}, "lowest must be at most highest, which is 1e-09"),
        ({"per_decade": 0}, "per_decade must be at least 1, got 0"),
        ({"num_edits": 0}, "num_edits must be at least 1, got 0"),
        ({"min_success": 1.5}, "min_success .* got 1.5"),
        ({"half_width": 2.0}, "half_width .* got 2.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"resume": "nowhere"}, "no search in 'nowhere'"),
    ],
)
def test_options_out_of_range_are_user_errors(settings, message):
    with pytest.raises(UserError, match=message):
        make_search(**settings)


@pytest.mark.parametrize(
    ("settings", "evaluation", "message"),
    [
        ({"split": "test"}, {}, r"of these 60 inputs 0 are left .*search\.split=val"),
        ({"num_edits": 61}, {}, r"num_edits is 61, .* lower search\.num_edits"),
        ({}, {"editor": None}, "brings no editor"),
        ({}, {"editable_layers": ["layer3"]}, "no parameter of Sequential matches 'layer3'"),
    ],
)
def test_what_cannot_be_searched_is_a_user_error(tmp_path, settings, evaluation, message):
    network = small_network()
    images, labels = data_for(network, 60)
    search = make_search(make_evaluation(**evaluation), **settings)
    with pytest.raises(UserError, match=message):
        run(search, network, images, labels, tmp_path)


def test_validation_images_that_are_test_images_keep_the_reported_edits_apart(make_trainer):
    class TestedOnValidation(LightningDataModule):
        tests_on_validation = True

        def val_dataloader(self):
            return loader_of(*images)

    network = small_network()
    images = data_for(network, 60)
    trainer = make_trainer(precision="64-true", callbacks=[make_search()])
    with pytest.raises(UserError, match=r"of these 60 inputs 0 are left .* lower search\.num_edits"):
        trainer.validate(ClassificationTask(network), datamodule=TestedOnValidation(), verbose=False)


def test_of_validation_images_some_of_which_are_the_test_images_only_others_are_edited(make_trainer, monkeypatch):
    data = GreyLevels(own=("train", "val"), count=60, test_limit=20)  # image i has the value i, the network's classes
    data.setup("test")
    reported = {int(image[0, 0, 0]) for image, _ in data.test_dataset}
    edited = []
    score = EditEvaluator.score

    def watched(self, images, indices, *rest, **named):
        edited.append({int(images[index][0][0, 0, 0]) for index in indices.tolist()})
        return score(self, images, indices, *rest, **named)

    monkeypatch.setattr(EditEvaluator, "score", watched)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    search = make_search(make_evaluation(editable_layers=["1"]), num_edits=40, min_success=0, lowest=1, highest=1)
    make_trainer(callbacks=[search]).validate(ClassificationTask(network), datamodule=data, verbose=False)
    assert edited == [set(range(60)) - reported]


def test_reported_edits_are_those_of_the_test_images():
    positions = torch.arange(1, 3000, 2)  # 1500 test images among 3000
    labels = torch.arange(3000) % NUM_CLASSES
    random = np.random.RandomState(9)
    expected = [positions[place].item() for place in random.permutation(1500)[:1000]]
    edits = ReportedEdits(RandomLabelEdits(), positions)(labels, labels, NUM_CLASSES, 1000)
    assert edits.indices.tolist() == expected
    assert edits.labels.tolist() == random.randint(0, NUM_CLASSES, 1000).tolist()
    mistakes = ReportedEdits(NaturalMistakeEdits(), positions)(labels, 0 * labels, NUM_CLASSES)
    assert mistakes.indices.tolist() == [place for place in positions.tolist() if labels[place]]


def test_held_out_from_whatever_is_reported(tmp_path, monkeypatch):
    network = small_network()
    images, labels = data_for(network, 60)
    seen = []
    score = EditEvaluator.score
    monkeypatch.setattr(EditEvaluator, "score", lambda *args, **named: seen.append(args[2]) or score(*args, **named))
    evaluation = make_evaluation(edits=NaturalMistakeEdits())
    run(make_search(evaluation, split="test"), network, images, labels, tmp_path, reported=False)
    predictions = copy.deepcopy(network).eval()(images).argmax(dim=1)
    assert (predictions != labels).any()
    assert all((predictions[indices] == labels[indices]).all() for indices in seen)
    assert all(torch.equal(indices, seen[0]) for indices in seen)
