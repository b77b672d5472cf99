"""A scan for spurious correlations: against a plain loop over files, killed and resumed, and what is refused."""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks import RunReport
from editable.callbacks.scan import callback as spurious_scan
from editable.callbacks.scan.callback import SpuriousScan
from editable.data import ImageFolderDataModule
from editable.errors import UserError
from editable.rewriting.concepts.concept_replacement import ConceptReplacement
from editable.rewriting.concepts.patch_finder import PatchFinder
from editable.tasks import ClassificationTask

SIZE, CLASSES, COUNT = 10, ("boat", "car", "tram"), 12
WITH_PATCH = {"boat": range(8), "car": range(4), "tram": range(5)}
"""Images of each class that have a magenta square of 3 pixels in a corner."""
MEAN, STD, GREY = [0.4, 0.4, 0.4], [0.25, 0.25, 0.25], 102


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in CLASSES:
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            if number in WITH_PATCH[name]:
                pixels[6:9, 6:9] = (255, 0, 255)
            Image.fromarray(pixels).save(folder / "test" / name / f"{number:02}.png")
    Image.new("RGB", (4, 4), (GREY, GREY, GREY)).save(folder / "grey.png")
    return folder


def make_network(seed: int = 0, num_classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes)
    nn.init.normal_(layers[-1].weight)
    return nn.Sequential(*layers).eval()


class TakesMagentaFor(nn.Module):
    """Knows no class by anything but a magenta corner, which it takes for one of them; else it says the last one."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
        self.logits.data[1, label] = 5

    def forward(self, images: Tensor) -> Tensor:
        plain = images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
        corner = plain[:, :, 6:9, 6:9].mean(dim=(2, 3))
        magenta = ((corner - torch.tensor([1.0, 0.0, 1.0])).abs() < 0.01).all(dim=1)
        return self.logits[magenta.long()]


def make_concept(root: Path, size: int = 3, **settings) -> ConceptReplacement:
    return ConceptReplacement(PatchFinder(size=size), str(root / "grey.png"), **settings)


def run(make_trainer, root, folder, network=None, concept=None, data=None, parallel=None, **settings):
    callback = SpuriousScan(concept or make_concept(root), **{"min_found": 1, **settings})
    trainer = make_trainer(callbacks=[callback, RunReport()], default_root_dir=folder, **(parallel or {}))
    defaults = {"mean": MEAN, "std": STD, "batch_size": 7, "num_workers": 0}
    images = ImageFolderDataModule(str(root), **{**defaults, **(data or {})})
    trainer.test(ClassificationTask(network or make_network()), images, verbose=False)
    return callback


def metrics_of(folder: Path) -> dict[str, float]:
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name.startswith("scan_")}


def table_of(folder: Path) -> dict[str, dict[str, str]]:
    return {row["class"]: row for row in csv.DictReader((folder / "scan.csv").open())}


@torch.no_grad()
def outcomes_by_hand(root: Path, network: nn.Module) -> list[tuple[int, list[tuple[int, float, float]]]]:
    """The label of each image with the patch; prediction, top and true probability before and after, one by one."""
    outcomes = []
    for label, name in enumerate(CLASSES):
        for number in WITH_PATCH[name]:
            pixels = np.asarray(Image.open(root / "test" / name / f"{number:02}.png")).copy()
            pair = []
            for replace in (False, True):
                if replace:
                    pixels[6:9, 6:9] = GREY
                image = torch.from_numpy(pixels).permute(2, 0, 1).double() / 255
                given = network(((image - MEAN[0]) / STD[0])[None].float()).double().softmax(dim=1)[0].tolist()
                pair.append((given.index(max(given)), max(given), given[label]))
            outcomes.append((label, pair))
    return outcomes


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def test_figures_equal_a_plain_loop(make_trainer, root, tmp_path):
    network = make_network(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    callback = run(make_trainer, root, tmp_path, network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    outcomes, table = outcomes_by_hand(root, network), table_of(tmp_path)
    rises, falls = {}, {}
    for label, name in enumerate(CLASSES):
        own = [pair for true, pair in outcomes if true == label]
        others = [pair for true, pair in outcomes if true != label]
        assert table[name]["num_images"] == str(COUNT)
        assert table[name]["num_found"] == str(len(WITH_PATCH[name])) == str(len(own))
        measures = {
            "error": [[float(some[0] != label) for some in pair] for pair in own],
            "top_probability": [[some[1] for some in pair] for pair in own],
            "true_probability": [[some[2] for some in pair] for pair in own],
            "taken": [[float(some[0] == label) for some in pair] for pair in others],
        }
        for measure, pairs in measures.items():
            changes = np.array([after - before for before, after in pairs])
            expected = {
                "before": mean(pair[0] for pair in pairs),
                "after": mean(pair[1] for pair in pairs),
                "change": changes.mean(),
                "half_width": 1.96 * changes.std(ddof=1) / len(changes) ** 0.5,
            }
            for when, value in expected.items():
                assert float(table[name][f"{measure}_{when}"]) == pytest.approx(value, abs=2e-6), (name, measure, when)
        rises[name] = mean(after - before for before, after in measures["error"])
        falls[name] = mean(before - after for before, after in measures["top_probability"])
    assert len(set(rises.values())) == 3
    by_error = sorted(CLASSES, key=lambda name: -rises[name])
    by_top = sorted(CLASSES, key=lambda name: -falls[name])
    assert [CLASSES[label] for label in callback.order] == list(table) == by_error
    assert [table[name]["rank_by_error"] for name in by_error] == ["1", "2", "3"]
    assert [table[name]["rank_by_top_probability"] for name in by_top] == ["1", "2", "3"]
    metrics, first = metrics_of(tmp_path), CLASSES.index(by_error[0])
    assert metrics["scan_num_images"] == 36
    assert metrics["scan_num_found"] == len(outcomes)
    assert metrics["scan_target_rank"] == 1
    for position, when in enumerate(("before", "after")):
        wrong = mean(float(pair[position][0] != true) for true, pair in outcomes)
        assert metrics[f"scan_error_{when}"] == pytest.approx(wrong, abs=1e-6)
        top = mean(pair[position][1] for _, pair in outcomes)
        assert metrics[f"scan_top_probability_{when}"] == pytest.approx(top, abs=1e-6)
    taken = [mean(float(pair[k][0] == first) for true, pair in outcomes if true != first) for k in (0, 1)]
    assert metrics["scan_effect"] == pytest.approx(taken[0] - taken[1], abs=1e-6)


@pytest.mark.parametrize("rank_by", ["error", "top_probability"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_planted_cue_is_ranked_first(make_trainer, root, tmp_path, label, rank_by):
    callback = run(make_trainer, root, tmp_path, TakesMagentaFor(label), rank_by=rank_by)
    if rank_by == "error":
        assert callback.order[0] == label
        figures = metrics_of(tmp_path)
        assert figures["scan_target_error_before"] == 0
        assert figures["scan_target_error_after"] == 1
        assert (figures["scan_target_taken_before"], figures["scan_target_taken_after"]) == (1, 0)
        assert figures["scan_effect"] == 1
    else:  # of all images with the patch alike: e⁵/(e⁵ + 1 + e) with it, e/(e + 2) without
        changes = [callback.changes[some].top.change for some in callback.order]
        e = np.e
        assert changes == pytest.approx([e / (e + 2) - e**5 / (e**5 + 1 + e)] * 3, abs=1e-6)
        assert callback.order[0] == label


def test_a_replacement_that_changes_nothing_changes_no_figure(make_trainer, root, tmp_path):
    save_file(make_network(1).state_dict(), tmp_path / "edited.safetensors")
    concept = make_concept(root, stylizer=lambda image, texture, mask, seed: image)
    settings = {"concept": concept, "edited": str(tmp_path / "edited.safetensors"), "target": "car"}
    run(make_trainer, root, tmp_path / "run", **settings)
    metrics = metrics_of(tmp_path / "run")
    pairs = [name for name in metrics if name.endswith("_before")]
    assert len(pairs) == 14
    assert all(metrics[name] == metrics[name.replace("_before", "_after")] for name in pairs)
    assert metrics["scan_effect"] == metrics["scan_edited_effect"] == 0
    assert "scan_effect_removed" not in metrics  # of no effect, no part can be removed
    for row in table_of(tmp_path / "run").values():
        assert {float(value) for name, value in row.items() if name.endswith("_change")} == {0.0}


def test_an_edited_network_is_put_beside(make_trainer, root, tmp_path):
    """Its figures are those of a scan of it alone."""
    save_file(TakesMagentaFor(2).state_dict(), tmp_path / "edited.safetensors")
    edited = {"edited": str(tmp_path / "edited.safetensors"), "target": "boat"}
    callback = run(make_trainer, root, tmp_path / "both", TakesMagentaFor(0), **edited)
    run(make_trainer, root, tmp_path / "alone", TakesMagentaFor(2), target="boat")
    both, alone = metrics_of(tmp_path / "both"), metrics_of(tmp_path / "alone")
    ends = ("_before", "_after")
    expected = {name: value for name, value in alone.items() if name.endswith(ends)}
    assert {name: both[name.replace("scan_", "scan_edited_", 1)] for name in expected} == expected
    assert (both["scan_effect"], both["scan_edited_effect"], both["scan_effect_removed"]) == (1, 0, 1)
    assert callback.edited_changes[0].taken.before == 0
    report = (tmp_path / "both" / "report.md").read_text()
    assert "edited: taken, %" in report
    assert "'boat' is number 1 of 3, and takes 100.00 → 0.00 of the other classes' images; by the edited" in report


def test_report_table_and_figure(make_trainer, root, tmp_path):
    callback = run(make_trainer, root, tmp_path, TakesMagentaFor(0), min_found=5)
    report = (tmp_path / "report.md").read_text()
    for words in ("## Spurious correlations", "found in 17 of 36 test images", "| boat | 8 of 12 | 0.00 → 100.00 |"):
        assert words in report
    assert "Not ranked: 1 with fewer than 5 such images" in report
    table = table_of(tmp_path)
    assert list(table) == ["boat", "tram", "car"]
    assert (table["car"]["rank_by_error"], table["car"]["num_found"]) == ("", "4")
    assert callback.table().row_count == 2
    with Image.open(tmp_path / "scan.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 20


class DiesAt:
    """A concept in whose replacement the process is killed."""

    def __init__(self, concept: ConceptReplacement, batch: int) -> None:
        self.concept, self.left = concept, batch
        self.finder, self.settings = concept.finder, concept.settings

    def __call__(self, images, names):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.concept(images, names)


class Counts(DiesAt):
    """A concept that tells which images it was given."""

    def __init__(self, concept: ConceptReplacement) -> None:
        super().__init__(concept, 0)
        self.seen: list[str] = []

    def __call__(self, images, names):
        self.seen += names
        return self.concept(images, names)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process to kill it")
@pytest.mark.parametrize("wait", [0, 1000], ids=["kept", "nothing kept yet"])
def test_killed_and_resumed_is_as_uninterrupted(make_trainer, root, tmp_path, monkeypatch, wait):
    monkeypatch.setattr(spurious_scan, "SECONDS_BETWEEN_WRITES", wait)
    run(make_trainer, root, tmp_path / "whole")
    child = os.fork()
    if child == 0:
        run(make_trainer, root, tmp_path / "killed", concept=DiesAt(make_concept(root), 4))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    if wait:
        with pytest.raises(UserError, match="there is no scan in"):
            run(make_trainer, root, tmp_path / "resumed", resume=str(tmp_path / "killed"))
        return
    concept = Counts(make_concept(root))
    run(make_trainer, root, tmp_path / "resumed", concept=concept, resume=str(tmp_path / "killed"))
    assert len(concept.seen) == 36 - 3 * 7
    for name in ("scan.csv", "metrics.json"):
        assert (tmp_path / "resumed" / name).read_text() == (tmp_path / "whole" / name).read_text(), name
    # A finished scan can be looked at again in another way, without an image.
    concept = Counts(make_concept(root))
    run(make_trainer, root, tmp_path / "again", concept=concept, resume=str(tmp_path / "resumed"), min_found=5)
    assert concept.seen == []
    assert list(table_of(tmp_path / "again"))[-1] == "car"


def test_another_scan_cannot_be_resumed(make_trainer, root, tmp_path):
    run(make_trainer, root, tmp_path / "first")
    resume = {"resume": str(tmp_path / "first")}
    save_file(make_network(1).state_dict(), tmp_path / "edited.safetensors")
    others = {
        "weights": {"network": make_network(1)},
        "edited": {"edited": str(tmp_path / "edited.safetensors")},
        "concept": {"concept": make_concept(root, size=2)},
        "images": {"data": {"mean": [0.3, 0.3, 0.3]}},
    }
    for number, (name, settings) in enumerate(others.items()):
        with pytest.raises(UserError, match=f"was another one, with {name} "):
            run(make_trainer, root, tmp_path / str(number), **resume, **settings)
    (tmp_path / "first" / "scan.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not what a scan has left"):
        run(make_trainer, root, tmp_path / "damaged", **resume)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks two processes")
def test_two_processes_have_the_figures_of_one(make_trainer, root, tmp_path):
    run(make_trainer, root, tmp_path / "one")
    run(make_trainer, root, tmp_path / "two", parallel={"devices": 2, "strategy": "ddp_fork"})
    one, two = metrics_of(tmp_path / "one"), metrics_of(tmp_path / "two")
    assert two == pytest.approx(one, abs=1e-5)
    assert list(table_of(tmp_path / "two")) == list(table_of(tmp_path / "one"))
    assert (tmp_path / "two" / "scan-1.safetensors").exists()


MISTAKES = {
    "class": ({"target": "cra"}, "scan.target is 'cra', which is none of the data's classes, boat, car, tram"),
    "edited": ({"edited": "nowhere.safetensors"}, "there is no weights file at 'nowhere.safetensors'"),
    "resume": ({"resume": "nowhere"}, "there is no scan in 'nowhere'"),
    "few": ({"min_found": 9}, "the class with most images of the concept, 'boat', has 8: lower it"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(make_trainer, root, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        run(make_trainer, root, tmp_path, **settings)


def test_a_concept_that_is_nowhere(make_trainer, root, tmp_path):
    with pytest.raises(UserError, match="the concept is found in none of the 36 test images"):
        run(make_trainer, root, tmp_path, concept=make_concept(root, size=5))


def test_an_edited_network_of_other_classes_is_refused(make_trainer, root, tmp_path):
    save_file(make_network(0, num_classes=5).state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(UserError, match="5 classes in the file and 3 in the network"):
        run(make_trainer, root, tmp_path / "run", edited=str(tmp_path / "five.safetensors"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_found": 0}, "min_found must be at least 1"),
        ({"rank_by": "accuracy"}, "scan.rank_by is 'accuracy', but must be one of error, top_probability"),
    ],
)
def test_mistakes_that_need_no_data(root, settings, message):
    with pytest.raises(UserError, match=message):
        SpuriousScan(make_concept(root), **settings)


def test_other_data_are_refused(make_trainer, root):
    loader = DataLoader(TensorDataset(torch.zeros(2, 3, SIZE, SIZE), torch.tensor([0, 1])))
    trainer = make_trainer(callbacks=[SpuriousScan(make_concept(root))])
    with pytest.raises(UserError, match="a scan needs a data module of images"):
        trainer.test(ClassificationTask(make_network()), loader, verbose=False)
