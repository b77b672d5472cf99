"""A scan for spurious correlations: against a plain loop over files, killed and resumed, and what is refused."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks.run.outcome_file import read_outcome
from editable.callbacks.scan import ScanOutcome, SpuriousScan
from editable.callbacks.scan import callback as spurious_scan
from editable.errors import UserError
from editable.rewriting.concepts.concept_replacement import ConceptReplacement
from editable.rewriting.concepts.patch_finder import PatchFinder
from editable.tasks import ClassificationTask
from tests.callbacks.scan.small_scan import (
    CLASSES,
    COUNT,
    GREY,
    MEAN,
    SIZE,
    STD,
    WITH_PATCH,
    TakesMagentaFor,
    make_concept,
    make_network,
    metrics_of,
    run,
    table_of,
)


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


def test_figures_equal_a_plain_loop(root, tmp_path):
    network = make_network(4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    callback = run(root, tmp_path, network)
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
    assert [CLASSES[label] for label in callback.outcome.order] == list(table) == by_error
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
def test_a_planted_cue_is_ranked_first(root, tmp_path, label, rank_by):
    outcome = run(root, tmp_path, TakesMagentaFor(label), rank_by=rank_by, report=False).outcome
    if rank_by == "error":
        assert outcome.order[0] == label
        figures = outcome.values()
        assert figures["target_error_before"] == 0
        assert figures["target_error_after"] == 1
        assert (figures["target_taken_before"], figures["target_taken_after"]) == (1, 0)
        assert figures["effect"] == 1
    else:  # of all images with the patch alike: e⁵/(e⁵ + 1 + e) with it, e/(e + 2) without
        changes = [outcome.network.by_class[some].top.change for some in outcome.order]
        e = np.e
        assert changes == pytest.approx([e / (e + 2) - e**5 / (e**5 + 1 + e)] * 3, abs=1e-6)
        assert outcome.order[0] == label


@pytest.mark.parametrize("target", ["car", 1, "1"])
def test_the_target_is_named_or_numbered(root, tmp_path, target):
    outcome = run(root, tmp_path, TakesMagentaFor(0), target=target, report=False).outcome
    assert outcome.classes[outcome.target] == "car"


def test_a_replacement_that_changes_nothing_changes_no_figure(root, tmp_path):
    save_file(make_network(1).state_dict(), tmp_path / "edited.safetensors")
    concept = make_concept(root, stylizer=lambda image, texture, mask, seed: image)
    settings = {"concept": concept, "edited": str(tmp_path / "edited.safetensors"), "target": "car"}
    run(root, tmp_path / "run", **settings)
    metrics = metrics_of(tmp_path / "run")
    pairs = [name for name in metrics if name.endswith("_before")]
    assert len(pairs) == 14
    assert all(metrics[name] == metrics[name.replace("_before", "_after")] for name in pairs)
    assert metrics["scan_effect"] == metrics["scan_edited_effect"] == 0
    assert "scan_effect_removed" not in metrics  # of no effect, no part can be removed
    for row in table_of(tmp_path / "run").values():
        assert {float(value) for name, value in row.items() if name.endswith("_change")} == {0.0}


def test_an_edited_network_is_put_beside(root, beside, tmp_path):
    """Its figures are those of a scan of it alone."""
    alone = run(root, tmp_path, TakesMagentaFor(2), target="boat", report=False).outcome.values()
    outcome = read_outcome(beside / "scan_outcome.pt", ScanOutcome)
    expected = {name: value for name, value in alone.items() if name.endswith(("_before", "_after"))}
    assert {name: outcome.values()[f"edited_{name}"] for name in expected} == expected
    assert outcome.edited.by_class[0].taken.before == 0
    metrics = metrics_of(beside)
    assert metrics == pytest.approx({f"scan_{name}": value for name, value in outcome.values().items()}, rel=1e-6)
    assert (metrics["scan_effect"], metrics["scan_edited_effect"], metrics["scan_effect_removed"]) == (1, 0, 1)
    report = (beside / "report.md").read_text()
    assert "edited: taken, %" in report
    assert "'boat' is number 1 of 2, and takes 100.00 → 0.00 of the other classes' images; by the edited" in report


def test_the_run_says_what_it_has_left(beside):
    report = (beside / "report.md").read_text()
    for words in ("## Spurious correlations", "found in 17 of 36 test images", "| boat | 8 of 12 | 0.00 → 100.00 |"):
        assert words in report
    assert "Not ranked: 1 with fewer than 5 such images" in report
    table = table_of(beside)
    assert list(table) == ["boat", "tram", "car"]
    assert (table["car"]["rank_by_error"], table["car"]["num_found"]) == ("", "4")
    with Image.open(beside / "scan.png") as image:
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


@pytest.mark.no_fake_cuda(reason="forks processes that use the device")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process to kill it")
@pytest.mark.parametrize("wait", [0, 1000], ids=["kept", "nothing kept yet"])
def test_killed_and_resumed_is_as_uninterrupted(root, whole, tmp_path, monkeypatch, wait):
    monkeypatch.setattr(spurious_scan, "SECONDS_BETWEEN_WRITES", wait)
    child = os.fork()
    if child == 0:
        run(root, tmp_path / "killed", concept=DiesAt(make_concept(root), 4))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    if wait:
        with pytest.raises(UserError, match="there is no scan in"):
            run(root, tmp_path / "resumed", resume=str(tmp_path / "killed"))
        return
    concept = Counts(make_concept(root))
    run(root, tmp_path / "resumed", concept=concept, resume=str(tmp_path / "killed"))
    assert len(concept.seen) == 36 - 3 * 7
    for name in ("scan.csv", "metrics.json"):
        assert (tmp_path / "resumed" / name).read_text() == (whole / name).read_text(), name
    # A finished scan can be looked at again in another way, without an image.
    concept = Counts(make_concept(root))
    run(root, tmp_path / "again", concept=concept, resume=str(tmp_path / "resumed"), min_found=5)
    assert concept.seen == []
    assert list(table_of(tmp_path / "again"))[-1] == "car"


def test_another_texture_in_the_same_file_is_another_scan(root, tmp_path):
    texture = tmp_path / "texture.png"
    shutil.copy(root / "grey.png", texture)
    run(root, tmp_path / "first", concept=ConceptReplacement(PatchFinder(size=3), str(texture)), report=False)
    Image.new("RGB", (8, 8), (250, 0, 0)).save(texture)
    concept = ConceptReplacement(PatchFinder(size=3), str(texture))
    with pytest.raises(UserError, match="was another one, with files "):
        run(root, tmp_path / "again", concept=concept, report=False, resume=str(tmp_path / "first"))


def test_another_scan_cannot_be_resumed(root, whole, tmp_path):
    resume = {"resume": str(whole)}
    save_file(make_network(1).state_dict(), tmp_path / "edited.safetensors")
    others = {
        "weights": {"network": make_network(1)},
        "edited": {"edited": str(tmp_path / "edited.safetensors")},
        "concept": {"concept": make_concept(root, size=2)},
        "images": {"data": {"mean": [0.3, 0.3, 0.3]}},
        "precision": {"parallel": {"precision": "bf16-mixed"}},
        "batch_size": {"data": {"batch_size": 6}},
    }
    for number, (name, settings) in enumerate(others.items()):
        with pytest.raises(UserError, match=f"was another one, with {name} "):
            run(root, tmp_path / str(number), **resume, **settings)
    (tmp_path / "scan.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not what a scan has left"):
        run(root, tmp_path / "damaged", resume=str(tmp_path))


@pytest.mark.no_fake_cuda(reason="forks processes that use the device")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks two processes")
def test_two_processes_have_the_figures_of_one(root, whole, tmp_path):
    run(root, tmp_path / "two", parallel={"devices": 2, "strategy": "ddp_fork"})
    assert metrics_of(tmp_path / "two") == pytest.approx(metrics_of(whole), abs=1e-5)
    assert list(table_of(tmp_path / "two")) == list(table_of(whole))
    assert (tmp_path / "two" / "scan-1.safetensors").exists()


MISTAKES = {
    "class": (
        {"target": "cra"},
        "scan.target has 'cra', which is none of the 3 classes of the data: near names are car",
    ),
    "edited": ({"edited": "nowhere.safetensors"}, "there is no weights file at 'nowhere.safetensors'"),
    "resume": ({"resume": "nowhere"}, "there is no scan in 'nowhere'"),
    "few": ({"min_found": 9}, "the class with most images of the concept, 'boat', has 8: lower it"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(root, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        run(root, tmp_path, **settings)


def test_a_concept_that_is_nowhere(root, tmp_path):
    with pytest.raises(UserError, match="the concept is found in none of the 36 test images"):
        run(root, tmp_path, concept=make_concept(root, size=5))


def test_an_edited_network_of_other_classes_is_refused(root, tmp_path):
    save_file(make_network(0, num_classes=5).state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(UserError, match="5 classes in the file and 3 in the network"):
        run(root, tmp_path / "run", edited=str(tmp_path / "five.safetensors"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_found": 0}, "min_found must be at least 1"),
        ({"rank_by": "accuracy"}, "scan.rank_by is 'accuracy', but must be one of error, top_probability, taken"),
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
