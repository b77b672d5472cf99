"""An edited network is judged beside the unedited one: against a plain loop over files, and what is refused."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks import FourTests, RunReport
from editable.errors import UserError
from editable.tasks import ClassificationTask
from tests.callbacks.judge.runs import (
    BLUE,
    CLASSES,
    MEAN,
    SIZE,
    STD,
    BlueQuarter,
    Grey,
    make_data,
    make_network,
    read,
    run,
)
from tests.quiet_trainer import quiet_trainer


@torch.no_grad()
def probabilities(network: nn.Module, image: Tensor) -> list[float]:
    return network(((image - MEAN[0]) / STD[0])[None]).double().softmax(dim=1)[0].tolist()


def area(scores: list[float], positive: list[bool]) -> float:
    pairs = [
        (p, n)
        for p, yes in zip(scores, positive, strict=True)
        if yes
        for n, no in zip(scores, positive, strict=True)
        if not no
    ]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


def judged_by_hand(root: Path, networks, targets: list[int], noise: int, positions: dict[str, list[int]]):
    """All figures of sets given by positions, image by image."""
    images, labels, _ = read(root)
    figures: dict[str, float] = {}
    for name, chosen in positions.items():
        figures[f"judge_{name}_num_images"] = len(chosen)
        for version in ("normal", "manipulated"):
            shown = [i for i in chosen if version == "normal" or images[i, 2].mean() > BLUE]
            for end, network in zip(("_before", ""), networks, strict=True):
                outcomes: dict[str, list[tuple[float, float]]] = {"same": [], "other": []}
                scores = []
                for i in shown:
                    image = images[i].clone()
                    if version == "manipulated":
                        image[:, : SIZE // 2, : SIZE // 2] = 0.5
                    given = probabilities(network, image)
                    label = noise if name == "mislabelled" else labels[i]
                    outcomes["same" if labels[i] in targets else "other"].append(
                        (float(given.index(max(given)) == label), given[label])
                    )
                    scores.append(sum(given[target] for target in targets))
                figures[f"judge_{name}_{version}_auc{end}"] = area(scores, [labels[i] in targets for i in shown])
                for group, pairs in outcomes.items():
                    figures[f"judge_{name}_{version}_{group}_num_images"] = len(pairs)
                    for number, quantity in enumerate(("accuracy", "confidence")):
                        mean = sum(pair[number] for pair in pairs) / len(pairs)
                        figures[f"judge_{name}_{version}_{group}_{quantity}{end}"] = mean
    return figures


@pytest.mark.parametrize("target", ["car", ["car", "boat"]])
def test_figures_equal_a_plain_loop(root, edited, target):
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    callback, metrics = run(root, network, edited=str(edited), target=target, noise="tram")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    images, labels, _ = read(root)
    targets = [1] if target == "car" else [1, 0]
    blue = images[:, 2].mean(dim=(1, 2)).tolist()
    most = sorted(range(36), key=lambda i: -blue[i])[:8]  # 0.2 · 36 = 7.2
    positions = {
        "random": sorted(torch.randperm(36, generator=torch.Generator().manual_seed(0))[:20].tolist()),
        "confusing": sorted(i for i in most if blue[i] > BLUE),
        "mislabelled": [i for i in range(36) if labels[i] in (*targets, 2)],
    }
    networks = network, make_network(1)
    expected = judged_by_hand(root, networks, targets, 2, positions)
    for end, one in zip(("_before", ""), networks, strict=True):
        given = [probabilities(one, image) for image in images]
        right = [float(some.index(max(some)) == label) for some, label in zip(given, labels, strict=True)]
        expected[f"judge_accuracy{end}"] = sum(right) / 36
    expected["judge_drop"] = expected["judge_accuracy_before"] - expected["judge_accuracy"]
    assert metrics.keys() == expected.keys()
    assert metrics == pytest.approx(expected, abs=1e-6)
    assert callback.outcome.sets.keys() == {"random", "confusing", "mislabelled"}


def test_no_edit_changes_no_figure(root):
    callback, metrics = run(root, noise="tram")
    changed = [name for name in metrics if f"{name}_before" in metrics and metrics[name] != metrics[f"{name}_before"]]
    assert not changed
    assert metrics["judge_drop"] == 0
    for outcome in callback.outcome.sets.values():
        for before, after in outcome.curves.values():
            assert all(torch.equal(*both) for both in zip(before, after, strict=True))


def test_figures_hang_on_the_seed_and_not_on_batches_or_memory(root, edited, judged):
    _, first = judged
    _, again = run(root, edited=str(edited), noise="tram", data=make_data(root, batch_size=36, cache=True))
    assert again == pytest.approx(first, abs=1e-6)
    _, other = run(root, edited=str(edited), noise="tram", seed=1)
    names = [name for name in first if name.startswith("judge_random_normal")]
    assert [first[name] for name in names] != [other[name] for name in names]


def test_finder_is_given_names_and_confusing_images_without_the_concept_are_left_out(root):
    finder, threshold = BlueQuarter(threshold=0.6), 0.6
    _, metrics = run(root, finder=finder, confusing_share=1.0, num_random_images=5)
    images, _, names = read(root)
    assert sorted(finder.seen[:36]) == sorted(names)
    assert len(finder.seen[36:]) == 8, "examples are looked at again"
    there = int((images[:, 2].mean(dim=(1, 2)) > threshold).sum())
    assert 0 < there < 36
    assert metrics["judge_confusing_num_images"] == there
    groups = [
        metrics[f"judge_confusing_{version}_{group}_num_images"]
        for version in ("normal", "manipulated")
        for group in ("same", "other")
    ]
    assert groups[:2] == groups[2:]
    assert sum(groups[:2]) == there


def test_another_finder_can_rank_confusing_images(root):
    class Red(BlueQuarter):
        def activation(self, images, names):
            return images[:, 0].mean(dim=(1, 2))

    callback, _ = run(root, activation=Red(), finder=BlueQuarter(-1.0), confusing_share=0.05)
    images, labels, _ = read(root)
    first = images[:, 0].mean(dim=(1, 2)).argsort(descending=True)[:2].tolist()
    same = sum(labels[i] == 1 for i in first)
    assert callback.outcome.sets["confusing"].figures["normal_same_num_images"] == same


def test_examples_are_of_the_target_and_of_others(root):
    callback, _ = run(root, num_random_images=36, data=make_data(root, batch_size=5))
    shown = [name.split("/")[0] for name in callback.outcome.examples.names]
    assert len(shown) == 8
    # Five of the twelve images of each class have the concept, the most blue ones.
    assert 3 <= shown.count("car") <= 5


@pytest.mark.no_fake_cuda(reason="forks processes that use the device")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks two processes")
def test_two_processes_have_the_figures_of_one(root, edited, tmp_path):
    options = {"edited": str(edited), "target": "car", "noise": "tram", "num_random_images": 3, "confusing_share": 0.01}
    trainers = []
    # Only a file comes back from forked processes; the report that it belongs to takes longer than the figures.
    for reports, parallel in (([], {}), ([RunReport()], {"devices": 2, "strategy": "ddp_fork"})):
        callback = FourTests(concept=Grey(BlueQuarter()), **options)
        folder = tmp_path / str(len(reports))
        trainer = quiet_trainer(callbacks=[callback, *reports], default_root_dir=folder, **parallel)
        trainer.test(ClassificationTask(make_network()), make_data(root), verbose=False)
        trainers.append(trainer)
    one = {name: value.item() for name, value in trainers[0].callback_metrics.items()}
    two = json.loads((tmp_path / "1" / "metrics.json").read_text())
    assert len(one) > 30
    assert two == pytest.approx(one, abs=1e-5)


MISTAKES = {
    "class": (
        {"target": "cra"},
        "judge.target has 'cra', which is none of the 3 classes of the data: near names are car",
    ),
    "no class": ({"target": []}, "judge.target is empty"),
    "noise class": ({"noise": "noise"}, "judge.noise has 'noise', which is none of the 3 classes"),
    "one class": ({"target": list(CLASSES)}, "all of the 36 test images are of the target classes"),
    "no concept": ({"finder": BlueQuarter(2.0)}, "the concept is found in none of the [0-9]+ images"),
    "missing": ({"edited": "nowhere.safetensors"}, "there is no weights file at 'nowhere.safetensors'"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(root, settings, message):
    with pytest.raises(UserError, match=message):
        run(root, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "car"}, "judge.noise is 'car', which is one of the target classes"),
        ({"num_random_images": 0}, "num_random_images must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"confusing_share": 0.0}, r"confusing_share must be in \(0, 1\]"),
    ],
)
def test_mistakes_that_need_no_data(settings, message):
    with pytest.raises(UserError, match=message):
        FourTests("car", Grey(BlueQuarter()), **settings)


def test_a_foreign_network_is_refused(root, tmp_path):
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"do not fit Sequential: .* missing"):
        run(root, edited=str(tmp_path / "other.safetensors"))
    network = nn.Sequential(*make_network()[:-1], nn.Linear(16, 5))
    save_file(network.state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(UserError, match="5 classes in the file and 3 in the network"):
        run(root, edited=str(tmp_path / "five.safetensors"))


def test_other_data_are_refused(make_trainer):
    loader = DataLoader(TensorDataset(torch.zeros(2, 3, SIZE, SIZE), torch.tensor([0, 1])))
    trainer = make_trainer(callbacks=[FourTests("car", Grey(BlueQuarter()))])
    with pytest.raises(UserError, match="a judgement of an edit needs a data module of images"):
        trainer.test(ClassificationTask(make_network()), loader, verbose=False)
