"""The evaluation gives what a plain loop over edits gives, in test and in validation."""

import copy
import csv
import json
import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks import DrawdownEvaluation, RunReport
from editable.callbacks.drawdown_evaluation.report import describe
from editable.data import AugmentedViews, DigitsDataModule, NaturalMistakeEdits, RandomLabelEdits, TableEdits
from editable.editing import Editor, RMSProp, SamplingSettings
from editable.errors import UserError
from editable.models import ScoringSettings
from editable.tasks import ClassificationTask, EditableTrainingTask
from tests.callbacks.drawdown_evaluation.reference import (
    ALPHA,
    MAX_STEPS,
    data_for,
    make_editor,
    make_evaluation,
    naive,
    published_edits,
)
from tests.tasks.reference import LAYERS, images_and_labels, loader, small_network


def assert_logged(metrics, expected, start=""):
    for name, value in expected.items():
        assert metrics[f"{start}{name}"] == pytest.approx(value, rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("edits_at_once", [1, 4])
def test_figures_are_those_of_a_naive_loop(make_trainer, stride, edits_at_once):
    network = small_network()
    images, labels = data_for(network)
    pairs = published_edits(40, 9)
    expected, columns = naive(network, images, labels, pairs, stride, sensitive_margin=0.2)
    assert expected["drawdown_absolute"] > 0
    assert 0 in columns["num_steps"]
    assert max(columns["num_steps"]) > 1
    assert expected["num_sensitive_images"] > 1
    assert len(set(columns["generality"])) > 2
    evaluation = make_evaluation(image_stride=stride, edits_at_once=edits_at_once, sensitive_margin=0.2)
    before = copy.deepcopy(network.state_dict())
    trainer = make_trainer(precision="64-true", callbacks=[evaluation])
    (metrics,) = trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)

    assert_logged(metrics, expected)
    assert metrics["num_test_images"] == 40
    assert metrics["num_scoring_images"] == math.ceil(40 / stride)
    predictions = copy.deepcopy(network).eval()(images).argmax(dim=1)
    assert metrics["test_error"] == pytest.approx((predictions != labels).double().mean().item())
    result = evaluation.results["test"]
    assert list(zip(result.index.tolist(), result.new_label.tolist(), strict=True)) == pairs
    assert result.old_label.tolist() == [predictions[index] for index, _ in pairs]
    assert result.drawdown.tolist() == pytest.approx(columns["drawdown"])
    assert result.outcomes.success.tolist() == columns["success"]
    assert result.outcomes.num_steps.tolist() == columns["num_steps"]
    assert result.shares.keys() == {"agreement", "sensitive_agreement", "generality_before", "generality"}
    for name, shares in result.shares.items():
        assert shares.tolist() == pytest.approx(columns[name]), name
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert all(param.grad is None for param in network.parameters())


@pytest.mark.parametrize("memory_budget", [4.0, 1e-9])
def test_low_precision_with_a_second_look_gives_the_same_figures(make_trainer, tmp_path, memory_budget):
    network = small_network()
    images, labels = data_for(network)
    expected, _ = naive(network, images, labels, published_edits(40, 9))
    settings = ScoringSettings(precision="bfloat16", recheck=3.0)
    evaluation = make_evaluation(scoring=settings, memory_budget=memory_budget, features_folder=str(tmp_path))
    trainer = make_trainer(precision="64-true", callbacks=[evaluation])
    (metrics,) = trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)
    assert_logged(metrics, expected)
    assert not list(tmp_path.iterdir())


def test_sampled_drawdown_comes_with_its_interval(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    pairs = published_edits(40, 9)
    expected, _ = naive(network, images, labels, pairs)
    evaluation = make_evaluation(sampling=SamplingSettings(forward_passes=9 * 25))
    trainer = make_trainer(precision="64-true", callbacks=[evaluation])
    (metrics,) = trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)
    assert "drawdown_absolute" not in metrics
    assert 0 < metrics["drawdown_half_width"] < 0.2
    assert abs(metrics["drawdown"] - expected["drawdown"]) < 2 * metrics["drawdown_half_width"]
    assert 0 < metrics["num_sampled_images"] <= 9 * 25
    assert metrics["num_scoring_images"] == 40
    for name in ("agreement", "sensitive_agreement"):  # of 9 edits, each an estimate from at most 25 of 40 images
        assert abs(metrics[name] - expected[name]) < 0.2
    exact = ("success_rate", "num_steps", "generality", "generality_before", "num_sensitive_images", "scoring_error")
    assert_logged(metrics, {name: expected[name] for name in exact})
    told = " ".join(describe(evaluation.results["test"]))
    half_width = f"{100 * metrics['drawdown']:.3f} ± {100 * metrics['drawdown_half_width']:.3f} points"
    assert half_width in told
    assert f"{metrics['num_sampled_images']:.0f} looked at" in told


def test_a_sample_of_everything_is_the_exact_drawdown(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    expected, _ = naive(network, images, labels, published_edits(40, 9))
    evaluation = make_evaluation(sampling=SamplingSettings(half_width=1e-9))
    trainer = make_trainer(precision="64-true", callbacks=[evaluation])
    (metrics,) = trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)
    del expected["drawdown_absolute"]
    assert_logged(metrics, expected)
    assert metrics["drawdown_half_width"] == 0


def test_features_folder_that_is_none(tmp_path):
    with pytest.raises(UserError, match="nowhere' is not a folder"):
        make_evaluation(features_folder=str(tmp_path / "nowhere"))


def test_validate_logs_under_its_own_names(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    trainer = make_trainer(precision="64-true", callbacks=[make_evaluation(0, val_num_edits=5)])
    (metrics,) = trainer.validate(ClassificationTask(network), loader(images, labels), verbose=False)
    assert_logged(metrics, naive(network, images, labels, published_edits(40, 5))[0], "val_")
    assert metrics["val_num_images"] == 40
    assert "drawdown" not in metrics


def test_edits_in_validation_at_intervals(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    evaluation = make_evaluation(0, val_num_edits=5, val_every_n_epochs=2)
    runs = []
    evaluate = evaluation._evaluate
    evaluation._evaluate = lambda trainer, *rest: (runs.append(trainer.current_epoch), evaluate(trainer, *rest))
    trainer = make_trainer(precision="64-true", max_epochs=4, callbacks=[evaluation], num_sanity_val_steps=1)
    task = ClassificationTask(network, optimizer=lambda params: torch.optim.SGD(params, lr=0.01))
    trainer.fit(task, loader(*images_and_labels(16)), loader(images, labels))
    assert runs == [1, 3]
    expected = naive(network, images, labels, published_edits(40, 5))[0]
    assert_logged(trainer.callback_metrics, expected, "val_")
    assert network[1].num_batches_tracked == 4 * 2, "the evaluation must not touch running statistics"


def test_training_is_the_same_with_and_without_edits_in_validation(make_trainer):
    states = []
    for val_num_edits in (0, 3):
        network = small_network(torch.float32)
        task = EditableTrainingTask(network, Editor(RMSProp(ALPHA, learn_decay=True), MAX_STEPS), LAYERS)
        data = loader(*images_and_labels(16, torch.float32))
        evaluation = DrawdownEvaluation(0, val_num_edits)
        make_trainer(max_epochs=2, callbacks=[evaluation]).fit(task, data, data)
        states.append(task.state_dict())
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_own_editor_and_layers_win_over_those_of_the_task(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    task = EditableTrainingTask(network, make_editor(max_steps=0), ["7"])
    data, pairs = loader(images, labels), published_edits(40, 9)
    trainer = make_trainer(precision="64-true", callbacks=[make_evaluation()])
    assert_logged(trainer.test(task, data, verbose=False)[0], naive(network, images, labels, pairs)[0])
    trainer = make_trainer(precision="64-true", callbacks=[make_evaluation(editor=None)])
    (metrics,) = trainer.test(task, data, verbose=False)
    assert_logged(metrics, naive(network, images, labels, pairs, max_steps=0)[0])
    assert metrics["num_steps"] == 0


def test_task_brings_editor_and_layers(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    task = EditableTrainingTask(network, make_editor(), LAYERS)
    trainer = make_trainer(precision="64-true", callbacks=[DrawdownEvaluation(9)])
    (metrics,) = trainer.test(task, loader(images, labels), verbose=False)
    assert_logged(metrics, naive(network, images, labels, published_edits(40, 9))[0])


def test_natural_mistakes_are_corrected_to_their_true_labels(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    predictions = copy.deepcopy(network).eval()(images).argmax(dim=1)
    mistakes = [i for i in range(40) if predictions[i] != labels[i]]
    pairs = [(i, labels[i].item()) for i in mistakes]
    evaluation = make_evaluation(100, edits=NaturalMistakeEdits())
    trainer = make_trainer(precision="64-true", callbacks=[evaluation])
    (metrics,) = trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)
    assert evaluation.results["test"].index.tolist() == mistakes
    expected, _ = naive(network, images, labels, pairs)
    of_images = {name: expected.pop(name) for name in ("scoring_error", "num_sensitive_images")}
    assert_logged(metrics, expected, "mistake_")
    assert_logged(metrics, of_images)
    assert metrics["mistake_num_edits"] == len(mistakes) < 100
    assert not metrics.keys() & expected.keys(), "figures of mistakes must not be taken for those of random labels"
    assert f"{len(mistakes)} edits" in describe(evaluation.results["test"])[0]


def test_natural_mistakes_in_validation(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    evaluation = make_evaluation(0, val_num_edits=3, edits=NaturalMistakeEdits())
    trainer = make_trainer(precision="64-true", callbacks=[evaluation])
    (metrics,) = trainer.validate(ClassificationTask(network), loader(images, labels), verbose=False)
    assert metrics.keys() >= {"val_mistake_drawdown", "val_mistake_generality", "val_scoring_error", "val_num_images"}


def test_a_validation_without_a_mistake_does_not_end_a_fit(make_trainer):
    """Mistakes of the first epoch alone: the other two go without figures of edits, and say so once."""
    network = small_network()
    images, labels = data_for(network)
    evaluation = make_evaluation(0, val_num_edits=3, edits=NaturalMistakeEdits())
    trainer = make_trainer(precision="64-true", max_epochs=3, callbacks=[evaluation])
    task = ClassificationTask(network, optimizer=lambda params: torch.optim.SGD(params, lr=0.0))
    seen = []
    evaluate = evaluation._evaluate

    def in_turn(trainer, pl_module, stage, dataloaders, number):
        if trainer.current_epoch >= 1:
            dataloaders = loader(images, network.eval()(images).argmax(dim=1))
        evaluate(trainer, pl_module, stage, dataloaders, number)
        seen.append("val" in evaluation.results)

    evaluation._evaluate = in_turn
    with pytest.warns(UserWarning, match="makes no mistake on the 40 validation images, so there is none") as warned:
        trainer.fit(task, loader(*images_and_labels(16)), loader(images, labels))
    assert sum("makes no mistake" in str(one.message) for one in warned) == 1
    assert seen == [True, False, False]
    assert "val_mistake_drawdown" in trainer.callback_metrics
    with pytest.raises(UserError, match="makes no mistake on these 40 inputs"):
        trainer.validate(task, loader(images, network.eval()(images).argmax(dim=1)), verbose=False)


@pytest.mark.parametrize("sanity", [0, 1])
@pytest.mark.parametrize("edits", [RandomLabelEdits(), "table"])
def test_edits_that_cannot_be_had_end_a_fit_before_it_trains(make_trainer, sanity, edits, tmp_path):
    message = r"^evaluation\.val_num_edits is 360, but must be from 1 to 359, the number of inputs$"
    if edits == "table":
        (tmp_path / "edits.csv").write_text("image,label\n359,1\n")
        edits, message = TableEdits(str(tmp_path / "edits.csv")), "has the image '359', which is none of the 359 images"
    evaluation = make_evaluation(0, val_num_edits=360, edits=edits, editable_layers=["1"])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    before = copy.deepcopy(network.state_dict())
    trainer = make_trainer(callbacks=[evaluation], num_sanity_val_steps=sanity)
    with pytest.raises(UserError, match=message):
        trainer.fit(ClassificationTask(network), DigitsDataModule(validation_fraction=0.25))
    assert trainer.global_step == 0
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_views_are_of_stored_images_under_the_augmentation_of_training(make_trainer):
    """On digits: shifted by a pixel and then normalised, as in training; another augmentation gives other figures."""
    data = DigitsDataModule()
    data.setup("test")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    results = {}
    for augmentation in (None, "shift", "crop_flip"):
        evaluation = DrawdownEvaluation(
            12, editor=make_editor(), editable_layers=["1"], generality_augmentation=augmentation, generality_views=20
        )
        trainer = make_trainer(callbacks=[evaluation])
        trainer.test(ClassificationTask(network), DigitsDataModule(), verbose=False)
        results[augmentation] = evaluation.results["test"]
        told = " ".join(describe(results[augmentation]))
        assert f"20 views of each edited input ({augmentation or 'shift'})" in told
    views = AugmentedViews(data.test_dataset, 20, "shift")
    found = results[None]
    with torch.no_grad():
        held = [
            (network(views[index]).argmax(dim=1) == label).double().mean().item()
            for index, label in zip(found.index.tolist(), found.new_label.tolist(), strict=True)
        ]
    assert found.shares["generality_before"].tolist() == held
    assert max(held) > 0
    assert torch.equal(found.outcomes.views_after, results["shift"].outcomes.views_after)
    assert not torch.equal(found.outcomes.views_after, results["crop_flip"].outcomes.views_after)


def test_a_mean_over_nothing_is_left_out(make_trainer, tmp_path):
    network = small_network()
    images, labels = data_for(network)
    evaluation = make_evaluation(editor=make_editor(0), sensitive_margin=0.0)
    evaluation.edits = NaturalMistakeEdits()  # in no step, none succeeds
    trainer = make_trainer(precision="64-true", callbacks=[evaluation, RunReport()])
    trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert None not in metrics.values()
    assert metrics["num_sensitive_images"] == 0
    assert metrics["mistake_success_rate"] == 0
    assert metrics["mistake_agreement"] == 1
    assert metrics["mistake_generality"] == metrics["mistake_generality_before"]
    assert not [name for name in metrics if "sensitive_agreement" in name or "of_successes" in name]
    assert "No image is sensitive, so that there is no sensitive_agreement" in (tmp_path / "run/report.md").read_text()
    with (tmp_path / "run" / "edits.csv").open() as file:
        assert "sensitive_agreement" not in next(csv.reader(file))


def test_views_that_are_edited_with_their_input(make_trainer):
    """The judging views are those of an evaluation that edits inputs alone; edited with others, more of them hold."""
    network = small_network()
    images, labels = data_for(network)
    found = {}
    for number in (0, 4):
        evaluation = make_evaluation(editor=make_editor(50), edited_views=number)
        trainer = make_trainer(precision="64-true", callbacks=[evaluation])
        trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)
        found[number] = evaluation.results["test"]
    assert torch.equal(found[0].outcomes.views_before, found[4].outcomes.views_before)
    assert found[4].outcomes.views_after.sum() > found[0].outcomes.views_after.sum()
    assert "edits of an input and 4 further views of it" in " ".join(describe(found[4]))
    assert "further" not in " ".join(describe(found[0]))


def test_no_views(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    trainer = make_trainer(precision="64-true", callbacks=[make_evaluation(generality_views=0)])
    (metrics,) = trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)
    assert not [name for name in metrics if "generality" in name]
    assert "agreement" in metrics


def test_inputs_that_are_no_images_are_evaluated_without_views(make_trainer):
    torch.manual_seed(0)
    data = loader(torch.randn(20, 7), torch.randint(4, (20,)))
    task = ClassificationTask(torch.nn.Linear(7, 4))
    with pytest.raises(UserError, match=r"got inputs of shape \[7\]: set generality_views to 0"):
        make_trainer(callbacks=[make_evaluation(editable_layers="all")]).test(task, data, verbose=False)
    evaluation = make_evaluation(editable_layers="all", generality_views=0)
    (metrics,) = make_trainer(callbacks=[evaluation]).test(task, data, verbose=False)
    assert "drawdown" in metrics


@pytest.mark.parametrize("loop", ["test", "validate"])
def test_inference_mode_is_refused(make_trainer, loop):
    network = small_network(torch.float32)
    trainer = make_trainer(inference_mode=True, callbacks=[make_evaluation(val_num_edits=2)])
    with pytest.raises(UserError, match=r"use Trainer\(inference_mode=False\)") as error:
        getattr(trainer, loop)(ClassificationTask(network), loader(*images_and_labels(8, torch.float32)))
    assert "\n" not in str(error.value)


def test_inference_mode_is_no_matter_in_a_fit(make_trainer):
    task = ClassificationTask(small_network(torch.float32))
    data = loader(*images_and_labels(8, torch.float32))
    trainer = make_trainer(inference_mode=True, callbacks=[make_evaluation(val_num_edits=2)], num_sanity_val_steps=1)
    trainer.fit(task, data, data)
    assert "val_drawdown" in trainer.callback_metrics


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"editor": None}, "ClassificationTask brings no editor: name one in evaluation.editor"),
        ({"editable_layers": None}, "ClassificationTask brings no editable layers"),
        ({"editable_layers": ["layer3"]}, "no parameter of Sequential matches 'layer3'"),
        ({"num_edits": 9}, "num_edits is 9, but must be from 1 to 8"),
    ],
)
def test_what_is_missing_is_a_user_error(make_trainer, settings, message):
    trainer = make_trainer(callbacks=[make_evaluation(**{"num_edits": 2, **settings})])
    with pytest.raises(UserError, match=message):
        trainer.test(ClassificationTask(small_network(torch.float32)), loader(*images_and_labels(8, torch.float32)))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_edits": -1},
        {"val_num_edits": -1},
        {"val_every_n_epochs": 0},
        {"image_stride": 0},
        {"edits_at_once": 0},
        {"memory_budget": 0.0},
        {"sensitive_margin": 1.5},
        {"generality_views": -1},
        {"generality_seed": -1},
    ],
)
def test_numbers_out_of_range_are_user_errors(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        DrawdownEvaluation(**settings)


def test_no_edits_evaluates_nothing_and_needs_nothing(make_trainer):
    evaluation = DrawdownEvaluation(num_edits=0)
    task = ClassificationTask(small_network(torch.float32))
    trainer = make_trainer(inference_mode=True, callbacks=[evaluation])
    (metrics,) = trainer.test(task, loader(*images_and_labels(8, torch.float32)), verbose=False)
    assert metrics.keys() == {"test_loss", "test_error"}
    assert evaluation.results == {}


@pytest.mark.filterwarnings("ignore:Your `test_dataloader`'s sampler has shuffling enabled")
def test_a_loader_in_another_order_does_not_change_the_edits(make_trainer):
    network = small_network()
    images, labels = data_for(network)
    trainer = make_trainer(precision="64-true", callbacks=[make_evaluation()])
    shuffled = DataLoader(TensorDataset(images, labels), batch_size=7, shuffle=True)
    (metrics,) = trainer.test(ClassificationTask(network), shuffled, verbose=False)
    assert_logged(metrics, naive(network, images, labels, published_edits(40, 9))[0])


def test_a_test_after_a_fit_reports_both(fitted_and_tested):
    run = fitted_and_tested
    for start, number in (("val_", 4), ("", 9)):
        with (run.folder / f"{start}edits.csv").open() as file:
            rows = list(csv.DictReader(file))
        pairs = published_edits(40, number)
        _, columns = naive(run.network, run.images, run.labels, pairs)
        assert [(int(row["index"]), int(row["new_label"])) for row in rows] == pairs
        for name, values in columns.items():
            assert [float(row[name]) for row in rows] == pytest.approx(values), name
