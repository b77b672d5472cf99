"""An edited network is judged beside the unedited one: against a plain loop over files, and what is refused."""

import copy
import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks import RunReport
from editable.callbacks.judge.callback import FourTests
from editable.callbacks.run.image_shares import ImageShares
from editable.data import ImageFolderDataModule
from editable.errors import UserError
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.tasks import ClassificationTask

SIZE, CLASSES = 10, ("boat", "car", "tram")
MEAN, STD = [0.4, 0.4, 0.4], [0.25, 0.25, 0.25]
BLUE = 0.5
"""An image whose mean blue is above this has the concept; it is in the upper left quarter."""


class BlueQuarter(ConceptFinder):
    """Finds the concept by a rule that a test can write down."""

    network: nn.Module | None = None

    def __init__(self, threshold: float = BLUE) -> None:
        self.threshold, self.seen = threshold, []

    def prepare(self, network, *arguments) -> None:
        self.network = network

    def find(self, images: Tensor, names) -> Tensor:
        self.seen += names
        masks = torch.zeros(len(images), SIZE, SIZE)
        masks[images[:, 2].mean(dim=(1, 2)) > self.threshold, : SIZE // 2, : SIZE // 2] = 1
        return masks

    def activation(self, images: Tensor, names) -> Tensor:
        assert self.network is not None, "a finder is prepared before it is asked"
        return images[:, 2].mean(dim=(1, 2))


class Replaced(NamedTuple):
    images: Tensor
    masks: Tensor
    found: Tensor


class Grey:
    """Puts grey in the concept's place."""

    def __init__(self, finder: ConceptFinder) -> None:
        self.finder = finder

    def __call__(self, images: Tensor, names) -> Replaced:
        masks = self.finder.find(images, names)
        return Replaced(torch.where(masks[:, None] > 0, 0.5, images), masks, masks.flatten(1).any(dim=1))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in CLASSES:
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3)) // 2
            pixels[..., 2] += 10 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "test" / name / f"{number:02}.png")
    return folder


def make_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(16, 3))
    for parameter in network[-1].parameters():
        nn.init.normal_(parameter)
    return network.eval()


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    save_file(make_network(1).state_dict(), tmp_path / "edited.safetensors")
    return tmp_path / "edited.safetensors"


def make_data(root: Path, **settings) -> ImageFolderDataModule:
    defaults = {"mean": MEAN, "std": STD, "batch_size": 7, "num_workers": 0}
    return ImageFolderDataModule(str(root), **{**defaults, **settings})


def run(make_trainer, root, network=None, folder=None, data=None, **settings):
    finder = settings.pop("finder", None) or BlueQuarter()
    defaults = {"target": "car", "concept": Grey(finder), "num_random_images": 20, "confusing_share": 0.2}
    callback = FourTests(**{**defaults, **settings})
    place = {} if folder is None else {"default_root_dir": folder}
    trainer = make_trainer(callbacks=[callback, *([] if folder is None else [RunReport()])], **place)
    trainer.test(ClassificationTask(network or make_network()), data or make_data(root), verbose=False)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return callback, {name: value for name, value in metrics.items() if name.startswith("judge_")}


def read(root: Path) -> tuple[Tensor, list[int], list[str]]:
    """All test images in [0, 1], their labels and names, by hand."""
    names = [f"{name}/{number:02}.png" for name in CLASSES for number in range(12)]
    stored = np.stack([np.asarray(Image.open(root / "test" / name)) for name in names])
    images = torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 255
    return images, [CLASSES.index(name.split("/")[0]) for name in names], names


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
def test_figures_equal_a_plain_loop(make_trainer, root, edited, target):
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    callback, metrics = run(make_trainer, root, network, edited=str(edited), target=target, noise="tram")
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
    assert callback.outcomes.keys() == {"random", "confusing", "mislabelled"}


def test_no_edit_changes_no_figure(make_trainer, root):
    callback, metrics = run(make_trainer, root, noise="tram")
    changed = [name for name in metrics if f"{name}_before" in metrics and metrics[name] != metrics[f"{name}_before"]]
    assert not changed
    assert metrics["judge_drop"] == 0
    for outcome in callback.outcomes.values():
        for before, after in outcome.curves.values():
            assert all(torch.equal(*both) for both in zip(before, after, strict=True))


def test_figures_hang_on_the_seed_and_not_on_batches_or_memory(make_trainer, root, edited):
    _, first = run(make_trainer, root, edited=str(edited))
    _, again = run(make_trainer, root, edited=str(edited), data=make_data(root, batch_size=36, cache=True))
    assert again == pytest.approx(first, abs=1e-6)
    _, other = run(make_trainer, root, edited=str(edited), seed=1)
    names = [name for name in first if name.startswith("judge_random_normal")]
    assert [first[name] for name in names] != [other[name] for name in names]


def test_finder_is_given_names_and_confusing_images_without_the_concept_are_left_out(make_trainer, root):
    finder, threshold = BlueQuarter(threshold=0.6), 0.6
    _, metrics = run(make_trainer, root, finder=finder, confusing_share=1.0, num_random_images=5)
    images, _, names = read(root)
    assert sorted(finder.seen) == sorted(names)
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


def test_another_finder_can_rank_confusing_images(make_trainer, root):
    class Red(BlueQuarter):
        def activation(self, images, names):
            return images[:, 0].mean(dim=(1, 2))

    callback, _ = run(make_trainer, root, activation=Red(), finder=BlueQuarter(-1.0), confusing_share=0.05)
    images, labels, _ = read(root)
    first = images[:, 0].mean(dim=(1, 2)).argsort(descending=True)[:2].tolist()
    same = sum(labels[i] == 1 for i in first)
    assert callback.outcomes["confusing"].figures["normal_same_num_images"] == same


def test_examples_are_of_the_target_and_of_others(make_trainer, root):
    callback, _ = run(make_trainer, root, num_random_images=36, data=make_data(root, batch_size=5))
    shown = [name.split("/")[0] for name in callback.examples.names]
    assert len(shown) == 8
    # Five of the twelve images of each class have the concept, the most blue ones.
    assert 3 <= shown.count("car") <= 5


def test_report_has_table_curves_and_a_sentence_where_there_is_none(make_trainer, root, edited, tmp_path):
    _, metrics = run(make_trainer, root, folder=tmp_path / "run", edited=str(edited), num_random_images=1)
    folder = tmp_path / "run"
    report = (folder / "report.md").read_text()
    for words in ("## Four tests", "](four_tests_roc.png)", "](manipulated.png)", "`random`: 1 images"):
        assert words in report
    assert "There is no ROC curve of normal images of the set `random`, which has" in report
    for name in ("four_tests_roc.png", "manipulated.png"):
        assert (folder / name).stat().st_size > 1000
    rows = list(csv.DictReader((folder / "four_tests.csv").open()))
    assert [(row["set"], row["test"]) for row in rows[4:]] == [
        ("confusing", "normal_same"),
        ("confusing", "normal_other"),
        ("confusing", "manipulated_same"),
        ("confusing", "manipulated_other"),
        ("all", "normal"),
    ]
    assert float(rows[4]["accuracy"]) == pytest.approx(metrics["judge_confusing_normal_same_accuracy"], abs=1e-6)
    assert rows[0]["num_images"] in "01"
    areas = {(row["set"], row["version"]): row for row in csv.DictReader((folder / "roc_areas.csv").open())}
    assert areas["random", "normal"]["auc"] == ""
    assert float(areas["confusing", "normal"]["auc"]) == pytest.approx(metrics["judge_confusing_normal_auc"], abs=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks two processes")
def test_two_processes_have_the_figures_of_one(make_trainer, root, edited, tmp_path):
    options = {"edited": str(edited), "target": "car", "noise": "tram", "num_random_images": 3, "confusing_share": 0.01}
    figures = []
    for number, parallel in enumerate(({}, {"devices": 2, "strategy": "ddp_fork"})):
        callback, folder = FourTests(concept=Grey(BlueQuarter()), **options), tmp_path / str(number)
        trainer = make_trainer(callbacks=[callback, RunReport()], default_root_dir=folder, **parallel)
        trainer.test(ClassificationTask(make_network()), make_data(root), verbose=False)
        figures.append(json.loads((folder / "metrics.json").read_text()))
    one, two = figures
    assert len(one) > 30
    assert two == pytest.approx(one, abs=1e-5)


def test_every_image_is_with_one_process(root):
    data = make_data(root)
    data.setup("test")
    _, labels, names = read(root)
    seen: dict[int, str] = {}
    for rank in range(3):
        trainer, progress = (
            SimpleNamespace(global_rank=rank, world_size=3),
            SimpleNamespace(add_task=lambda *a, **k: 0, advance=lambda *a: None, remove_task=lambda *a: None),
        )
        shares = ImageShares(trainer, data, torch.device("cpu"), progress)
        assert shares.labels.tolist() == labels
        for _, some, positions in shares.batches(range(36), ""):
            assert not seen.keys() & set(positions.tolist())
            seen |= dict(zip(positions.tolist(), some, strict=True))
    assert [seen[position] for position in range(36)] == names


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
def test_mistakes(make_trainer, root, settings, message):
    with pytest.raises(UserError, match=message):
        run(make_trainer, root, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "car"}, "judge.noise is 'car', which is one of the target classes"),
        ({"num_random_images": 0}, "num_random_images must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"confusing_share": 0.0}, "confusing_share must be above 0"),
    ],
)
def test_mistakes_that_need_no_data(settings, message):
    with pytest.raises(UserError, match=message):
        FourTests("car", Grey(BlueQuarter()), **settings)


def test_a_foreign_network_is_refused(make_trainer, root, tmp_path):
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"do not fit Sequential: .* missing"):
        run(make_trainer, root, edited=str(tmp_path / "other.safetensors"))
    network = nn.Sequential(*make_network()[:-1], nn.Linear(16, 5))
    save_file(network.state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(UserError, match="5 classes in the file and 3 in the network"):
        run(make_trainer, root, edited=str(tmp_path / "five.safetensors"))


def test_other_data_are_refused(make_trainer):
    loader = DataLoader(TensorDataset(torch.zeros(2, 3, SIZE, SIZE), torch.tensor([0, 1])))
    trainer = make_trainer(callbacks=[FourTests("car", Grey(BlueQuarter()))])
    with pytest.raises(UserError, match="a judgement of an edit needs a data module of images"):
        trainer.test(ClassificationTask(make_network()), loader, verbose=False)
