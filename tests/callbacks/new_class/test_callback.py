"""A new class is added to a tested network: what is trained, judged, kept, and refused."""

import csv
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from editable.errors import UserError
from editable.models import GrownNetwork, grow_classes, load_weights
from editable.rewriting.new_class.class_discriminant import ClassDiscriminant, class_statistics
from editable.rewriting.new_class.class_filter import ClassFilterTraining
from editable.rewriting.new_class.class_vectors import random_vector
from editable.tasks import ClassificationTask
from tests.callbacks.new_class.small_new_class import (
    NEW,
    OLD,
    SIZE,
    make_callback,
    make_data,
    make_network,
    read,
    run,
)


def over_pairs(scores, labels) -> float:
    """The area under the ROC curve of class 2, classes 0 and 1 counting the same."""
    positives = scores[labels == 2]
    shares = [
        (
            (positives[:, None] > scores[labels == old]).double() + (positives[:, None] == scores[labels == old]) / 2
        ).mean()
        for old in (0, 1)
    ]
    return (sum(shares) / 2).item()


def test_figures_are_those_of_the_grown_network_in_a_plain_loop(root, first_run):
    callback, metrics, folder, network = first_run
    before = make_network().state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    grown = grow_classes(make_network(), "3").eval()
    load_weights(grown, folder / "grown.safetensors")
    images = torch.cat([*(read(root / "old/test" / name) for name in OLD), read(root / "new/judge")])
    labels = torch.tensor([0] * 8 + [1] * 8 + [2] * 6)
    logits = grown(images).detach()
    assert torch.equal(logits[:, :2], network(images))
    predictions, old = logits.argmax(1), labels < 2
    expected = {
        "auc": over_pairs(logits[:, 2], labels),
        "auc_probability": over_pairs(logits.softmax(1)[:, 2], labels),
        "recall": (predictions == 2)[~old].double().mean().item(),
        "lost": (predictions == 2)[old].double().mean().item(),
        "accuracy": (predictions == labels)[old].double().mean().item(),
        "accuracy_before": (network(images).argmax(1) == labels)[old].double().mean().item(),
        "num_old_test_images": 16,
        "num_new_test_images": 6,
        "num_positives": 2,
        "num_negatives": 6,
        "num_draws": 1,
        "negative_weight": 0.05,
    }
    for name, value in expected.items():
        assert metrics[f"new_class_{name}"] == pytest.approx(value, rel=1e-5), name
    features = network[:-1](images).detach().double()
    assert metrics["new_class_auc_random"] == pytest.approx(
        over_pairs(features @ random_vector(8, 0), labels), rel=1e-5
    )
    drawn = torch.randperm(4, generator=torch.Generator().manual_seed(0))[:2]
    learnt = read(root / "new/learn")[drawn]
    class_vector = network[:-1](learnt).detach().double().mean(0)
    assert metrics["new_class_auc_class_vector"] == pytest.approx(over_pairs(features @ class_vector, labels), rel=1e-5)
    torch.testing.assert_close(callback.trials[0].positives, learnt)
    assert 0 <= metrics["new_class_auc_compositional"] <= 1


def test_at_most_the_allowed_part_of_the_pool_is_lost(root, tmp_path):
    callback = run(root, tmp_path, max_loss=0.25).callback
    data = make_data(root)
    data.setup("validate")
    pool = torch.stack([image for image, _ in data.val_dataset])
    unseen = torch.ones(len(pool), dtype=torch.bool)
    unseen[callback.trials[0].negatives] = False
    grown = callback.grown(make_network()).eval()
    assert (len(pool), int(unseen.sum())) == (20, 14)
    assert int((grown(pool[unseen]).argmax(1) == 2).sum()) == 3  # a quarter of 14, rounded down
    assert torch.equal(callback.trials[0].negative_images, pool[callback.trials[0].negatives])


def test_draws_and_sweep_have_their_rows_and_files(swept):
    callback, metrics, folder, _ = swept
    with (folder / "new_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    filters = [row for row in rows if row["method"] == "filter"]
    assert [(float(row["negative_weight"]), row["draw"]) for row in filters] == [
        (weight, draw) for draw in "01" for weight in (0.0, 0.01, 0.05)
    ]
    assert sorted({row["method"] for row in rows}) == ["class vector", "compositional", "filter", "random"]
    assert len(rows) == 6 + 6
    for draw in "01":
        active = [float(row["negative_activation"]) for row in filters if row["draw"] == draw]
        assert active[0] > active[1] > active[2]
    mean = np.mean([float(row["auc"]) for row in filters if float(row["negative_weight"]) == 0.05])
    assert metrics["new_class_auc"] == pytest.approx(mean, rel=1e-5)
    assert not torch.equal(callback.trials[0].filters[0].initial_weight, callback.trials[1].filters[0].initial_weight)
    report = (folder / "report.md").read_text()
    for figure in ("new_class_roc.png", "filter_maps.png", "negative_weights.png"):
        assert f"]({figure})" in report
        assert (folder / figure).stat().st_size > 0
    assert "2 times" in report
    assert "filter, λ = 0.01" in report
    assert not (folder / "grown.yaml").exists()  # there is no configuration of this run


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("keep", ["discriminant", "whitened_filter"])
def test_discriminants_are_judged_and_kept_as_a_network_whose_old_logits_are_untouched(root, tmp_path, keep, mirrored):
    settings = {"keep": keep, "mirrored": mirrored, "num_positives": 3, "max_loss": 0.25}
    callback, metrics, folder, network = run(root, tmp_path, discriminant=ClassDiscriminant(), **settings)
    layer = "8" if keep == "discriminant" else "3"
    grown = grow_classes(make_network(), layer, logit="discriminant").eval()
    load_weights(grown, folder / "grown.safetensors")
    images = torch.cat([*(read(root / "old/test" / name) for name in OLD), read(root / "new/judge")])
    labels = torch.tensor([0] * 8 + [1] * 8 + [2] * 6)
    logits = grown(images).detach()
    assert torch.equal(logits[:, :2], network(images))

    # By hand: densities of Gaussians about the classes' means, of what the layer reads on average.
    data = make_data(root)
    data.setup("validate")
    pool = torch.stack([image for image, _ in data.val_dataset])
    of_pool = torch.tensor([label for _, label in data.val_dataset])
    drawn = torch.randperm(4, generator=torch.Generator().manual_seed(0))[:3]

    def keys(some):
        if keep == "discriminant":
            return network[:-1](some).detach()
        patches = functional.unfold(network[:3](some).detach(), 3, padding=1, stride=2)
        return patches.mean(2)

    old = class_statistics(keys(pool), of_pool, 2)
    learnt = read(root / "new/learn")[drawn]
    sides = [learnt, learnt.flip(-1)] if mirrored else [learnt]
    odds = ClassDiscriminant()(torch.stack([keys(side) for side in sides]).mean(0), old).odds(keys(images))
    assert callback.trials[0].discriminants.keys() == {"discriminant", "whitened filter"}
    shift = (logits[:, 2] - logits[:, :2].logsumexp(1)) - odds
    torch.testing.assert_close(shift, shift[:1].expand(22), rtol=1e-3, atol=1e-3)
    probability = logits.softmax(1)[:, 2]
    torch.testing.assert_close(probability, (odds + shift.mean()).sigmoid().float(), rtol=1e-2, atol=1e-4)
    assert metrics[f"new_class_auc_{keep}"] == pytest.approx(over_pairs(odds, labels), rel=1e-5)
    assert metrics[f"new_class_auc_probability_{keep}"] == metrics[f"new_class_auc_{keep}"]
    recall = (logits.argmax(1) == 2)[labels == 2].double().mean().item()
    assert metrics[f"new_class_recall_{keep}"] == pytest.approx(recall)
    assert int((grown(pool).argmax(1) == 2).sum()) == 5  # a quarter of 20
    # A third new class behind it, against all before.
    twice = grow_classes(grown, layer, logit="discriminant")
    assert torch.equal(twice(images)[:, :3], logits)
    assert twice.new_logits[1].discriminants.weight.shape[0] == 4


def test_images_of_the_new_class_are_made_grey_where_the_data_are(root, tmp_path):
    """By the luma of Pillow, those to learn from, to make parts of and to judge by."""
    network = make_network()
    network[0] = nn.Conv2d(1, 6, 3, padding=1)
    data = make_data(root, mean=[0.4], std=[0.25])
    done = run(root, tmp_path, network.eval(), data, num_positives=None, component_masks=str(root / "parts.json"))

    def by_hand(folder):
        pixels = [np.asarray(Image.open(path).convert("L")) for path in sorted((root / folder).glob("*.png"))]
        return (torch.from_numpy(np.stack(pixels))[:, None].double() / 255 - 0.4) / 0.25

    (trial,) = done.callback.trials
    half_a_level = 0.51 / 255 / 0.25  # Pillow rounds to levels
    torch.testing.assert_close(trial.positives.double(), by_hand("new/learn"), rtol=0, atol=half_a_level)
    loaders = SimpleNamespace(datamodule=data, test_dataloaders=data.test_dataloader())
    *_, new = done.callback._test_images(loaders, 2).datasets
    judged = torch.stack([image for image, _ in new])
    torch.testing.assert_close(judged.double(), by_hand("new/judge"), rtol=0, atol=1e-5)
    assert {"new_class_auc", "new_class_auc_compositional"} <= done.metrics.keys()


def test_the_same_seed_gives_the_same_outcome(root, first_run, tmp_path):
    first = first_run.callback
    again, other = (run(root, tmp_path / name, seed=seed).callback for name, seed in (("again", 0), ("other", 3)))
    assert first.outcome.figures == again.outcome.figures
    assert torch.equal(first.trials[0].filters[0].weight, again.trials[0].filters[0].weight)
    assert not torch.equal(first.trials[0].filters[0].weight, other.trials[0].filters[0].weight)
    assert not torch.equal(first.trials[0].negatives, other.trials[0].negatives)


def test_top_false_positives_are_what_a_filter_without_negatives_responds_to_most(root, tmp_path):
    callback = run(root, tmp_path, negatives="top", num_negatives=3).callback
    alone = run(
        root,
        tmp_path / "alone",
        num_negatives=0,
        training=replace(callback.settings.training, negative_weight=0),
    ).callback
    weight = alone.trials[0].filters[0].weight.cpu()
    data = make_data(root)
    data.setup("validate")
    pool = torch.stack([image for image, _ in data.val_dataset])
    maps = functional.conv2d(make_network()[:3](pool), weight, stride=2, padding=1)
    assert callback.trials[0].negatives.tolist() == maps.mean((1, 2, 3)).topk(3).indices.tolist()


def test_masks_are_the_silhouettes_and_parts_may_have_masks_too(root, tmp_path):
    callback = run(
        root,
        tmp_path,
        masks=str(root / "outlines.json"),
        num_positives=None,
        component_masks=str(root / "parts.json"),
    ).callback
    (silhouette,) = callback.trials[0].examples.silhouettes
    expected = torch.zeros(6, 6)
    expected[:3] = 1
    torch.testing.assert_close(silhouette.cpu(), expected)
    torch.testing.assert_close(callback.trials[0].positives.cpu(), read(root / "new/learn")[2:3])
    network = make_network()
    maps = network[:6](read(root / "old/train/red")[:1]).detach()[0]
    mask = torch.zeros(12, 12)
    mask[3:9, 3:9] = 1
    weights = functional.avg_pool2d(mask[None], 2)[0]
    vector = (maps * weights).sum((1, 2)).double()
    torch.testing.assert_close(
        callback.trials[0].vectors["compositional"].cpu(), vector / vector.norm(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("components", [["red"], [1], ["1"]])
def test_components_are_named_or_numbered(root, swept, tmp_path, components):
    callback = run(root, tmp_path, components=components, training=ClassFilterTraining(0.05, num_steps=1)).callback
    expected = swept.callback.trials[0].vectors["compositional"]
    assert torch.equal(callback.trials[0].vectors["compositional"], expected)


def test_a_grown_network_grows_on(root, tmp_path):
    """After a first new class, data with three classes: the fourth stands behind."""
    folder = tmp_path / "three"
    (folder / "new").mkdir(parents=True)
    for split in ("train", "test"):
        for name, place in (
            *((name, root / "old" / split / name) for name in OLD),
            ("yellow", root / "old" / split / "red"),
        ):
            (folder / "old" / split).mkdir(parents=True, exist_ok=True)
            shutil.copytree(place, folder / "old" / split / name)
    network = grow_classes(make_network(), "0").eval()
    callback, metrics, *_ = run(root, tmp_path / "run", network, make_data(folder))
    grown = callback.grown(network)
    images = read(root / "new/judge")
    assert isinstance(grown, GrownNetwork)
    assert grown(images).shape == (6, 4)
    assert torch.equal(grown(images)[:, :3], network(images))
    again = grow_classes(grow_classes(make_network(), "0"), "3").eval()
    load_weights(again, tmp_path / "run" / "grown.safetensors")
    assert torch.equal(again(images), grown(images))
    assert metrics["new_class_num_old_test_images"] == 24


def test_training_images_may_be_the_pool_and_baselines_be_left_out(root, tmp_path):
    network = nn.Sequential(*make_network()[:3], nn.Conv2d(6, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    data = make_data(root, validation_fraction=0.0)
    with pytest.raises(UserError, match=r"not linear.*leave the baselines out"):
        run(root, tmp_path / "a", network, data, pool="train")
    callback, metrics, *_ = run(root, tmp_path / "b", network, data, pool="train", baselines=False)
    assert len(callback.outcome.figures) == 1
    assert "new_class_auc_random" not in metrics
    assert callback.trials[0].negatives.max() < 40


MISTAKES = {
    "known class": ({}, "the data have a class 'red' already", "red"),
    "unknown layer": ({"layer": "conv9"}, "has no layer 'conv9'", NEW),
    "linear layer": ({"layer": "8"}, "'8' is a linear layer", NEW),
    "unknown component": (
        {"components": ["mauve"]},
        "new_class.components has 'mauve', which is none of the 2 classes of the data: they begin with green, red",
        NEW,
    ),
    "learn and judge": ({"test_images": "new/learn"}, "is to learn from and to judge by", NEW),
    "too many negatives": ({"num_negatives": 21}, "21 negatives are wanted, but there are only 20", NEW),
    "all are negatives": ({"num_negatives": 20}, "all 20 images of old classes are negatives", NEW),
}


@pytest.mark.parametrize(("settings", "message", "name"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_seen_when_it_runs(make_trainer, root, tmp_path, settings, message, name):
    settings = {key: str(root / value) if key == "test_images" else value for key, value in settings.items()}
    callback = make_callback(root, **settings)
    callback.class_name = name
    trainer = make_trainer(callbacks=[callback])
    with pytest.raises(UserError, match=message):
        trainer.test(ClassificationTask(make_network()), make_data(root), verbose=False)


def test_a_copy_of_an_image_to_learn_from_is_none_to_judge_by(root, tmp_path):
    shutil.copytree(root / "new/judge", tmp_path / "judge")
    shutil.copy(sorted((root / "new/learn").glob("*.png"))[-1], tmp_path / "judge/another_name.png")
    with pytest.raises(UserError, match=r"is to learn from and to judge by, as .*another_name.png: it can be only one"):
        run(root, tmp_path / "run", test_images=str(tmp_path / "judge"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": "nowhere"}, "The folder nowhere does not exist"),
        ({"num_positives": 5}, "5 images of the class are wanted, but there are only 4"),
        ({"num_positives": 0}, "num_positives must be at least 1, got 0"),
        ({"num_draws": 0}, "num_draws must be at least 1, got 0"),
        ({"num_negatives": -1}, "num_negatives must be at least 0, got -1"),
        ({"num_negatives": 0}, "num_negatives is 0, but negatives have a weight of 0.05"),
        ({"sweep": [-0.1]}, r"sweep must be at least 0, got \[-0.1\]"),
        ({"negatives": "worst"}, "negatives is 'worst', but must be one of random, top"),
        ({"pool": "test"}, "pool is 'test', but must be one of val, train"),
        ({"pooling": "sum"}, "pooling is 'sum', but must be one of mean, max"),
        ({"keep": "vector"}, "keep is 'vector', but must be one of filter, discriminant, whitened_filter"),
        ({"keep": "discriminant"}, "keep is 'discriminant', which is made where discriminant is given: give it"),
        ({"max_loss": 1.0}, r"max_loss must be in \[0, 1\), got 1.0"),
        ({"components": ["red"], "component_masks": "a.json"}, "give one of the two"),
    ],
)
def test_settings_out_of_range(root, settings, message):
    with pytest.raises(UserError, match=message):
        make_callback(root, **settings)


def test_inference_mode_other_data_and_a_pool_that_is_tested_on(make_trainer, root, tmp_path):
    task = ClassificationTask(make_network())
    with pytest.raises(UserError, match=r"use Trainer\(inference_mode=False\)"):
        make_trainer(callbacks=[make_callback(root)], inference_mode=True).test(task, make_data(root), verbose=False)
    loader = DataLoader(TensorDataset(torch.zeros(2, 3, SIZE, SIZE), torch.zeros(2, dtype=torch.int64)))
    with pytest.raises(UserError, match="needs a data module of images"):
        make_trainer(callbacks=[make_callback(root)]).test(task, loader, verbose=False)
    only_train = tmp_path / "images" / "old"
    only_train.mkdir(parents=True)
    (only_train / "train").symlink_to(root / "old/train")
    data = make_data(tmp_path / "images")
    with pytest.raises(UserError, match="negatives must not be taken from: set pool to train"):
        make_trainer(callbacks=[make_callback(root)]).test(task, data, verbose=False)
