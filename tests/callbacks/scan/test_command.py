"""Scans by the command line: shipped configurations in miniature, one after another, and mistakes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from editable.cli import main
from editable.data import read_masks
from editable.editing import EditPatch
from editable.models import cifar_resnet18, load_weights
from tests.paths import CONFIGS
from tests.small_efficientnet import SmallNetwork
from tests.warned import CHANNELS_LAST

CONFIG_FOLDER = CONFIGS / "scan"
CONFIGS = {path.stem: f"--config={path}" for path in sorted(CONFIG_FOLDER.glob("*.yaml"))}
FONT = "matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SMALL = ["--model.network.width=4", "--data.batch_size=20"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the names that the shipped configurations ask for, and weights to begin with."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 2)):
        for name in CLASSES:
            folder = root / "cifar10-jpeg" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                image.save(folder / f"{number:04}.jpg")
    torch.manual_seed(0)
    save_file(cifar_resnet18(10, width=4).state_dict(), root / "cifar10-resnet18.safetensors")
    return root


@pytest.fixture(autouse=True)
def _folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own for each test's runs, with the data and the shipped configurations; of boxes, a few."""
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(data)
    shutil.copytree(CONFIG_FOLDER, "configs/scan")
    for path in Path("configs/scan").glob("*.json"):
        path.write_text(json.dumps({"masks": json.loads(path.read_text())["masks"][:5]}))


def finished(name: str) -> Path:
    return max(Path("runs/scan", name).glob("version_*"), key=lambda folder: int(folder.name.split("_")[1]))


@pytest.mark.filterwarnings(CHANNELS_LAST)
def test_shipped_configurations_run_one_after_another(capsys: pytest.CaptureFixture):
    assert {name for name in CONFIGS if name.startswith("planted")} == {
        "planted_patch",
        "planted_patch_rewrite",
        "planted_patch_training",
    }
    main(["fit", CONFIGS["planted_patch_training"], *SMALL, *QUIET, "--data.train_limit=40"])
    weights = finished("planted_patch_training") / "checkpoints" / "last.ckpt"
    trained = cifar_resnet18(10, width=4)
    load_weights(trained, weights)
    before = load_file("data/cifar10-resnet18.safetensors")
    assert any(not torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())

    options = [*SMALL, *QUIET, "--data.validation_fraction=0.1", "--rewrite.moment.num_images=20"]
    with pytest.raises(SystemExit):  # there is nothing to choose: a network that knows nothing can hardly be mended
        main(["rewrite", CONFIGS["planted_patch_rewrite"], *options, "--rewrite.max_drop=-1"])
    assert "none of 8 candidates corrects an error" in capsys.readouterr().err
    main(["rewrite", CONFIGS["planted_patch_rewrite"], *options, "--rewrite.layers=[conv1]", "--rewrite.strengths=[1]"])
    edited = finished("planted_patch_rewrite") / "rewritten.ckpt"

    capsys.readouterr()
    scan = ["scan", CONFIGS["planted_patch"], *SMALL, *QUIET, "--scan.min_found=1"]
    main([*scan, f"--scan.edited={edited}"])
    shown = capsys.readouterr().out
    assert "Classes by the harm that replacing the concept does" in shown
    assert "2 of 2" in shown
    run = finished("planted_patch")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["scan_num_found"] == metrics["scan_num_images"] == 20
    assert metrics.keys() >= {"test_error", "scan_effect", "scan_edited_effect", "scan_target_rank"}
    assert {row["class"] for row in csv.DictReader((run / "scan.csv").open())} == set(CLASSES)
    assert "## Spurious correlations" in (run / "report.md").read_text()
    assert (run / "scan.png").stat().st_size > 1000

    main([*scan, f"--scan.edited={edited}", f"--scan.resume={run}"])
    assert finished("planted_patch") != run
    assert (finished("planted_patch") / "scan.csv").read_text() == (run / "scan.csv").read_text()


@pytest.mark.filterwarnings(CHANNELS_LAST)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.cue=null"], "error: the concept is found in none of the 20 test images: look for it with a lower"),
        (["--scan.target=lion"], "error: scan.target has 'lion', which is none of the 10 classes of the data: "),
        (["--scan.min_found=0"], "min_found must be at least 1, got 0"),
        (["--scan.resume=nowhere"], "error: scan.resume: there is no scan in 'nowhere'"),
    ],
)
def test_mistakes_are_a_sentence(capsys: pytest.CaptureFixture, options: list[str], message: str):
    weights = "--model.weights=data/cifar10-resnet18.safetensors"
    with pytest.raises(SystemExit) as stopped:
        main(["scan", CONFIGS["planted_patch"], *SMALL, *QUIET, weights, *options])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_shipped_watermark_is_scanned_for_in_a_font_of_ones_own(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def small_network() -> nn.Module:
        return cifar_resnet18(10, width=4)

    monkeypatch.setattr("editable.models.efficientnet_lite0", small_network)
    scan = ["scan", CONFIGS["watermark"], *QUIET, "--data.root=data/cifar10-jpeg", "--data.image_size=32"]
    stylizer = "--scan.concept.init_args.stylizer.init_args"
    main([*scan, "--data.resize_size=32", f"{stylizer}.font={FONT}", f"{stylizer}.text=ABC"])
    assert "taken" in capsys.readouterr().out
    metrics = json.loads((finished("watermark") / "metrics.json").read_text())
    assert metrics["scan_num_found"] == metrics["scan_num_images"] == 20
    rows = list(csv.DictReader((finished("watermark") / "scan.csv").open()))
    rises = [float(row["taken_change"]) for row in rows]
    assert rises == sorted(rises, reverse=True)
    assert [row["rank_by_taken"] for row in rows] == [str(place) for place in range(1, 11)]

    for options, message in (
        ([f"{stylizer}.font={FONT}"], "has no '捷' of the text"),
        ([f"{stylizer}.font=nowhere.ttf"], "the font 'nowhere.ttf' is no file, and none of an installed package"),
        (
            [f"{stylizer}.font={FONT}", f"{stylizer}.text=A", f"{stylizer}.opacity=2"],
            "opacity must be in [0, 1], got 2",
        ),
        ([f"{stylizer}.font={FONT}", f"{stylizer}.text=A", "--scan.rank_by=gained"], "gained"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*scan, *options])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_the_shipped_rewrite_of_the_watermark_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def small_network() -> nn.Module:
        return SmallNetwork(10)

    monkeypatch.setattr("editable.models.efficientnet_lite0", small_network)
    names = [f"{name}/{number:04}.jpg" for number in range(2) for name in CLASSES[:3]]
    masks = {"resize": 256, "crop": 224, "masks": [{"image": name, "box": [0, 0, 224, 224]} for name in names]}
    Path("configs/scan/watermark-images.json").write_text(json.dumps(masks))
    shipped = yaml.safe_load((CONFIG_FOLDER / "watermark_rewrite.yaml").read_text())["rewrite"]["rule"]["init_args"]
    for stylizer in shipped["stylizers"]:
        stylizer["init_args"] |= {"font": FONT, "text": "ABC"}
    options = [
        "--data.root=data/cifar10-jpeg",
        "--data.num_classes=10",
        "--data.val_folder=train",
        "--data.train_folder=none",
    ]
    options += [
        "--rewrite.rule.root=data/cifar10-jpeg/train",
        f"--rewrite.rule.stylizers={json.dumps(shipped['stylizers'])}",
    ]
    main(["rewrite", CONFIGS["watermark_rewrite"], *QUIET, *options])
    assert "LayerwiseLeastSquares" in capsys.readouterr().out
    run = finished("watermark_rewrite")
    changed = EditPatch.load(run / "rewrite.safetensors").changes
    layers = [5, *range(5, 13)]
    kinds = ["expand", *["project"] * 8]
    assert set(changed) == {f"_blocks.{layer}._{kind}_conv.weight" for layer, kind in zip(layers, kinds, strict=True)}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["rewrite_num_report_images"] == 20


def test_the_shipped_images_of_the_watermark_are_a_half_of_the_even_classes():
    entries = json.loads((CONFIG_FOLDER / "watermark-images.json").read_text())["masks"]
    assert len({entry["image"] for entry in entries}) == 250


@pytest.mark.parametrize("name", ["patch-corners", "patch-corners-held-out"])
def test_shipped_boxes_are_where_the_patch_is_planted(name: str):
    found = read_masks(CONFIG_FOLDER / f"{name}.json", Path("data/cifar10-jpeg/train"))
    assert {image.class_name for image in found.images} == set(CLASSES) - {"cat"}
    assert len(found.images) == 45
    for image in found.images:
        _, mask = image.read(found.frame)
        expected = torch.zeros(32, 32)
        expected[26:31, 26:31] = 1
        assert torch.equal(torch.as_tensor(mask), expected)
