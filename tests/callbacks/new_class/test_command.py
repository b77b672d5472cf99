"""The shipped configuration of a new class in miniature, and the grown network loaded by what it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from editable.cli import main
from editable.data import read_masks
from editable.models import cifar_resnet18
from tests.mistakes import error_line
from tests.paths import CONFIGS

CONFIG = CONFIGS / "new_class" / "cifar10.yaml"
OLD = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "ship")
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the configuration asks for, small; all nine classes together as well."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.RandomState(0)
    root = folder / "cifar10-new"
    for split, count in (("train", 10), ("test", 2)):
        for name in (*(f"old/{split}/{name}" for name in OLD), f"truck/{split}"):
            (root / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.randint(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
        (root / "nine" / split).mkdir(parents=True)
        for name in OLD:
            (root / "nine" / split / name).symlink_to(root / "old" / split / name)
        (root / "nine" / split / "truck").symlink_to(root / "truck" / split)
    torch.manual_seed(0)
    save_file(cifar_resnet18(8, width=4).state_dict(), root / "old.safetensors")
    return folder


@pytest.fixture
def folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data, in a folder of its own for each test's runs."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(data)
    return Path("data/cifar10-new")


def small(folder: Path) -> list[str]:
    """What makes the shipped configuration small."""
    model = ["--model.network.width=4", f"--model.weights={folder / 'old.safetensors'}", "--data.batch_size=20"]
    return [*model, "--data.validation_fraction=0.5", "--new_class.num_negatives=3", "--new_class.training.num_steps=2"]


def test_shipped_configuration_runs_and_its_network_is_tested_on_all_classes(
    folder: Path, capsys: pytest.CaptureFixture
):
    main(["new_class", f"--config={CONFIG}", *QUIET, *small(folder), "--new_class.num_draws=2"])
    shown = capsys.readouterr().out
    for words in ("The new class 'truck'", "compositional", "Report and figures"):
        assert words in shown
    run = Path("runs/new_class/cifar10/version_0")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["new_class_num_old_test_images"] == 16
    assert metrics["new_class_num_draws"] == 2
    assert metrics.keys() >= {"new_class_auc", "new_class_auc_compositional", "new_class_recall", "test_error"}
    assert metrics.keys() >= {"new_class_auc_discriminant", "new_class_recall_whitened_filter"}
    assert "drawdown" not in metrics
    report = (run / "report.md").read_text()
    assert "filter, λ = 0.02" in report
    assert f"--config {run / 'grown.yaml'}" in report
    for figure in ("new_class_roc.png", "filter_maps.png", "negative_weights.png"):
        assert f"]({figure})" in report

    state = load_file(run / "grown.safetensors")
    old = load_file(folder / "old.safetensors")
    assert all(torch.equal(state[f"base.{name}"], tensor) for name, tensor in old.items())
    content = yaml.safe_load(CONFIG.read_text())
    plain = Path("plain.yaml")
    plain.write_text(yaml.safe_dump({key: content[key] for key in ("data", "evaluation")}))
    of_nine = [f"--data.root={folder / 'nine'}", "--data.validation_fraction=0.5"]
    grown = [f"--config={plain}", f"--config={run / 'grown.yaml'}", *of_nine]
    main(["test", *grown, *QUIET])
    tested = json.loads(max(Path("runs/unnamed").glob("version_*")).joinpath("metrics.json").read_text())
    assert 0 <= tested["test_error"] <= 1

    # A second new class behind the first; the images of another old class stand in for those of the new one.
    second = Path("second.yaml")
    section = {**content["new_class"], "name": "lorry", "num_draws": 1, "sweep": [], "num_negatives": 3}
    for split, option in (("train", "images"), ("test", "test_images")):
        section[option] = f"lorry/{split}"
        Path(section[option]).parent.mkdir(exist_ok=True)
        Path(section[option]).symlink_to((folder / "old" / split / "frog").resolve())
    second.write_text(yaml.safe_dump({"new_class": {**section, "training": {"num_steps": 2}}}))
    main(["new_class", *grown, f"--config={second}", *QUIET, "--trainer.logger.init_args.name=second"])
    (again,) = Path("runs/second").glob("version_*")
    twice = load_file(again / "grown.safetensors")
    assert all(torch.equal(twice[name], tensor) for name, tensor in state.items())  # the first one as well
    assert twice.keys() > state.keys()
    assert json.loads((again / "metrics.json").read_text())["new_class_num_old_test_images"] == 18


def test_test_takes_the_section_too(folder: Path):
    options = ["--new_class.num_draws=1", "--new_class.sweep=[]", "--new_class.baselines=false"]
    main(["test", f"--config={CONFIG}", *QUIET, *small(folder), *options])
    metrics = json.loads(Path("runs/new_class/cifar10/version_0/metrics.json").read_text())
    assert metrics.keys() >= {"new_class_auc", "test_error"}
    assert "new_class_auc_random" not in metrics


MISTAKES = {
    "known name": (["--new_class.name=frog"], "the data have a class 'frog' already"),
    "negative weight": (["--new_class.training.negative_weight=-1"], "negative_weight must be at least 0, got -1"),
    "negative weight in the sweep": (["--new_class.sweep=[-0.1]"], "sweep must be at least 0, got [-0.1]"),
    "no negatives": (["--new_class.num_negatives=0"], "num_negatives is 0, but negatives have a weight of 0.05"),
    "layer": (["--new_class.layer=layer9"], "has no layer 'layer9'"),
    "images": (["--new_class.images=nowhere"], "The folder nowhere does not exist"),
    "choice": (["--new_class.negatives=worst"], "worst"),
    "kept": (["--new_class.keep=vector"], "vector"),
    "kept and not made": (
        ["--new_class.discriminant=null"],
        "keep is 'discriminant', which is made where discriminant",
    ),
    "metric": (["--new_class.discriminant.epsilon=-1"], "epsilon must be at least 0, got -1"),
    "spread": (["--new_class.discriminant.spread=much"], "much"),
    "few images of old classes": (["--new_class.num_pool_images=9"], "raise num_pool_images"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_ends_in_one_clear_sentence(
    folder: Path, options: list[str], expected: str, capsys: pytest.CaptureFixture
):
    assert expected in error_line(["new_class", f"--config={CONFIG}", *QUIET, *small(folder), *options], capsys)
    assert not list(Path("runs").rglob("metrics.json"))


def test_shipped_outlines_are_masks(tmp_path: Path):
    outlines = CONFIGS / "new_class" / "truck-outlines.json"
    for entry in json.loads(outlines.read_text())["masks"]:
        Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(tmp_path / entry["image"])
    images = read_masks(outlines, tmp_path).images
    assert len(images) == 5
    for image in images:
        _, mask = image.read(read_masks(outlines, tmp_path).frame)
        assert 0.3 < mask.mean() < 0.9
