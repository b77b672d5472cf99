"""A rewrite is looked at: what comes out before and after it, what is left behind, and what is left alone."""

import copy
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from editable.callbacks import RunReport
from editable.callbacks.see.callback import Seeing
from editable.data import ImageFolderDataModule, RewriteRule
from editable.errors import UserError
from editable.rewriting import ClosedForm, FineTuning, ReconstructionSettings
from editable.tasks import ClassificationTask
from tests.paths import DOCS
from tests.rewriting.problems import Untouched

SIZE, CLASSES = 12, ("dark", "light")
FIGURES = {
    "curves",
    "exemplars",
    "inversions",
    "heat_maps",
    "key_maps",
    "similarity_maps",
    "feature_maps",
    "change_maps",
}
SHORT = ReconstructionSettings(num_steps=10, restarts=2)


def make_network() -> nn.Module:
    """Random weights; the memory of its second convolution, [54, 5], tells all keys apart, also once rewritten."""
    torch.manual_seed(6)
    layers = [nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1, bias=False)]
    head = [nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 2)]
    return nn.Sequential(*layers, *head).eval()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images, masks of the lower half of three of them, and a blue texture."""
    root, random = tmp_path_factory.mktemp("seeing"), np.random.RandomState(0)
    for split, count in (("train", 8), ("test", 2)):
        for level, name in zip((60, 160), CLASSES, strict=True):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = (level + random.randint(0, 60, (SIZE, SIZE, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    lower_half = [[0, SIZE // 2], [SIZE, SIZE // 2], [SIZE, SIZE], [0, SIZE]]
    files = ["train/dark/0.png", "train/light/1.png", "train/dark/2.png"]
    (root / "masks.json").write_text(json.dumps({"masks": [{"image": file, "polygon": lower_half} for file in files]}))
    blue = np.array([10, 25, 225]) + random.randint(-10, 11, (3 * SIZE, 3 * SIZE, 3))
    Image.fromarray(blue.astype(np.uint8)).save(root / "blue.png")
    return root


def rule(root: Path, **settings) -> RewriteRule:
    return RewriteRule(str(root / "masks.json"), texture=str(root / "blue.png"), **{"image_size": SIZE, **settings})


def seeing(root: Path, **settings) -> Seeing:
    descents = {f"{stage}_descent": SHORT for stage in ("key", "feature", "image")}
    defaults = {"layer": "3", "cache": None, "perceptual": "standin", **descents}
    return Seeing(settings.pop("rule", None) or rule(root), **{**defaults, **settings})


def look(make_trainer, network: nn.Module, root: Path, callback: Seeing, **settings) -> dict[str, float]:
    """Run the callback alone, without a report; what is logged."""
    trainer = make_trainer(callbacks=[callback, *settings.pop("callbacks", [])], **settings)
    data = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, mean=(0.5,) * 3, std=(0.25,) * 3)
    with Untouched(network):
        return trainer.test(ClassificationTask(network), data, verbose=False)[0]


def run(make_trainer, network: nn.Module, root: Path, folder: Path, callback: Seeing) -> dict[str, float]:
    """Run it with a report; what is in metrics.json."""
    look(make_trainer, network, root, callback, callbacks=[RunReport()], default_root_dir=folder)
    return json.loads((folder / "metrics.json").read_text())


def quiet_trainer(**settings) -> Trainer:
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary", "inference_mode")
    return Trainer(accelerator="cpu", devices=1, **dict.fromkeys(off, False), **settings)


LONG = {
    "key_descent": ReconstructionSettings(num_steps=700),
    "feature_descent": ReconstructionSettings(num_steps=100),
    "image_descent": ReconstructionSettings(num_steps=80, learning_rate=0.05),
}


@pytest.fixture(scope="module")
def looked(root: Path, tmp_path_factory: pytest.TempPathFactory):
    """One look at the closed form, long enough to find something: the callback, its folder and the metrics."""
    callback, folder = seeing(root, **LONG), tmp_path_factory.mktemp("run")
    return callback, folder, run(quiet_trainer, make_network(), root, folder, callback)


def test_the_layers_keys_are_the_originals_before_and_the_manipulated_ones_after(looked):
    _, _, metrics = looked
    assert metrics["see_keys_original_similarity_before"] > 0.999
    assert metrics["see_keys_manipulated_similarity"] > 0.999
    assert metrics["see_keys_original_similarity_before"] > metrics["see_keys_manipulated_similarity_before"]
    assert metrics["see_keys_manipulated_similarity"] > metrics["see_keys_original_similarity"]


def test_all_losses_fall_at_least_tenfold(looked):
    ratios = {name: value for name, value in looked[2].items() if "loss_ratio" in name}
    assert len(ratios) == 6
    assert min(ratios.values()) >= 10


def test_logged_figures_are_those_of_plain_formulas(looked, root):
    """Mean keys over the lower half, and what the rewritten weight recalls for them at each tap of the kernel."""
    callback, _, metrics = looked
    network, rules = make_network().double(), rule(root)
    with torch.no_grad():
        read = [network[:3]((some.double() - 0.5) / 0.25) for some in (rules.originals, rules.manipulated)]
    old, new = (features[:, :, SIZE // 2 :].mean((0, 2, 3)) for features in read)
    problem = callback.seen.problem
    torch.testing.assert_close(problem.target_keys[:, 0], old, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(problem.keys[:, 0], new, rtol=1e-4, atol=1e-5)
    weight, rewritten = problem.weight.double(), callback.seen.weight.double()
    # W₁ k* = W₀ k
    recalled = [torch.einsum("fcmn,c->fmn", some, key) for some, key in ((rewritten, new), (weight, old))]
    torch.testing.assert_close(*recalled, rtol=1e-3, atol=1e-4)
    assert metrics["see_relative_norm"] == pytest.approx(float((rewritten - weight).norm() / weight.norm()), rel=1e-5)
    direction = problem.directions[:, 0]
    assert metrics["see_response_ratio"] == pytest.approx(float((direction @ old / (direction @ new)).abs()), rel=1e-4)
    assert metrics["see_loss"] < metrics["see_loss_before"]
    assert metrics["see_num_exemplars"] == 3


def test_curves_figures_and_tables_are_left(looked):
    callback, folder, metrics = looked
    rows = list(csv.DictReader((folder / "seeing.csv").open()))
    last = [row for row in rows if (row["stage"], row["values_of"], row["network"]) == ("images", "original", "after")]
    steps = {int(row["step"]) for row in last}
    assert {0, 80} <= steps
    final = [row for row in last if row["step"] == "80"]
    assert len(final) == 3
    standin = np.mean([float(row["to_original"]) for row in final])
    assert standin == pytest.approx(metrics["see_images_original_standin"], rel=1e-5)
    first = [float(row["loss"]) for row in last if row["step"] == "0"]
    falls = [before / float(row["loss"]) for before, row in zip(first, final, strict=True)]
    assert metrics["see_images_loss_ratio"] == pytest.approx(float(np.exp(np.mean(np.log(falls)))), rel=1e-5)
    report = (folder / "report.md").read_text()
    assert set(re.findall(r"!\[[^\]]+\]\((\w+)\.png\)", report)) == FIGURES
    for figure in FIGURES:
        with Image.open(folder / f"{figure}.png") as image:
            assert min(image.size) > 200
    assert "a stand-in for LPIPS" in report
    problem = callback.seen.problem
    matrices = (problem.matrix, problem.memory.matrix(callback.seen.weight.double()))
    before, after = (np.linalg.cond(matrix.numpy()) for matrix in matrices)
    assert f"condition number is {before:.3g} before and {after:.3g} after" in report
    assert f"mean key {metrics['see_response_ratio']:.2g} times as much" in report
    assert callback.table().row_count == 3 * 2 * 2


def test_every_metric_is_defined_in_the_documentation(looked):
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    section = page.partition("`see.…`")[2].partition("\n## ")[0]
    defined = " ".join(re.findall(r"`([^`]+)`", section))
    for name in looked[2]:
        if name.startswith("see_"):
            stage = name.removeprefix("see_").partition("_")[0]
            assert name.replace(f"see_{stage}_", "see_<stage>_") in defined or name in defined, name


def test_a_fixed_seed_gives_the_same_arrays_and_figures(looked, root, tmp_path):
    callback = seeing(root, **LONG)
    run(quiet_trainer, make_network(), root, tmp_path, callback)
    for stage in ("keys", "features", "images"):
        for first, second in zip(*(some.seen.stages[stage] for some in (looked[0], callback)), strict=True):
            assert torch.equal(first.found, second.found)
            assert torch.equal(first.losses, second.losses)
            assert all(torch.equal(first.watched[name], second.watched[name]) for name in first.watched)
    for file in (*(f"{figure}.png" for figure in FIGURES), "seeing.csv", "metrics.json", "report.md"):
        assert (tmp_path / file).read_bytes() == (looked[1] / file).read_bytes()


def test_a_rewritten_network_is_read_from_a_file(make_trainer, root, tmp_path):
    made, network = seeing(root), make_network()
    look(make_trainer, network, root, made)
    edited = copy.deepcopy(network)
    with torch.no_grad():
        edited[3].weight.copy_(made.seen.weight)
    save_file(edited.state_dict(), tmp_path / "edited.safetensors")
    read = seeing(root, edited=str(tmp_path / "edited.safetensors"))
    look(make_trainer, network, root, read)
    assert torch.equal(read.seen.weight, made.seen.weight)
    assert torch.equal(read.seen.stages["images"].after.found, made.seen.stages["images"].after.found)


def test_a_linear_layer_has_no_maps(make_trainer, root, tmp_path):
    callback = seeing(root, layer="8", num_exemplars=2, values="own")
    metrics = run(make_trainer, make_network(), root, tmp_path, callback)
    report = (tmp_path / "report.md").read_text()
    assert set(re.findall(r"!\[[^\]]+\]\((\w+)\.png\)", report)) == {"curves", "exemplars", "inversions"}
    assert "in 2 dimensions of which the memory recalls the same" in report  # [4, 6]
    assert "Values of each network itself are traced back" in report
    assert metrics["see_num_exemplars"] == 2


@pytest.mark.parametrize("options", [{"moment_split": "test"}, {"moment_split": "val"}, {"route": "features"}])
def test_other_ways_to_ask(make_trainer, root, options):
    callback = seeing(root, architecture="patch", keys="exemplar", num_exemplars=1, **options)
    metrics = look(make_trainer, make_network(), root, callback)
    assert callback.seen.stages["keys"].before.found.shape == (2 * 3, 5 * 9)
    assert metrics["see_num_exemplars"] == 1


MISTAKES = {
    "layer": ({"layer": "11"}, "no layer '11'"),
    "not a layer": ({"layer": "1"}, "but '1' is a"),
    "file": ({"edited": "nowhere.safetensors"}, "there is no weights file at 'nowhere.safetensors'"),
    "stand-in": ({"perceptual_layers": ["9"]}, r"'9' puts out no map"),
    "others": ({"solver": FineTuning("global", max_steps=1)}, "FineTuning changes 2 other parameters"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_what_does_not_fit_the_network_is_refused(make_trainer, root, options, message):
    with pytest.raises(UserError, match=message):
        look(make_trainer, make_network(), root, seeing(root, **options))


def test_exemplars_of_another_size_are_refused(make_trainer, root):
    small = rule(root, image_size=SIZE - 4)
    with pytest.raises(UserError, match=r"exemplars are \[3, 8, 8\] .*the data module's images \[3, 12, 12\]"):
        look(make_trainer, make_network(), root, seeing(root, rule=small))


def test_inference_mode_is_refused(make_trainer, root):
    with pytest.raises(UserError, match="tracing values back needs gradients"):
        look(make_trainer, make_network(), root, seeing(root), inference_mode=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edited": "a.ckpt", "solver": ClosedForm()}, r"see\.edited is a rewritten network, and see\.solver"),
        ({"num_exemplars": 0}, "num_exemplars must be at least 1, got 0"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"num_moment_images": 0}, "num_moment_images must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"total_variation": -0.1}, r"see\.total_variation must not be negative, got -0\.1"),
    ],
)
def test_settings_out_of_range_are_refused(root, options, message):
    with pytest.raises(UserError, match=message):
        seeing(root, **options)
