"""Manipulated images by the command line: shipped configurations in miniature, and mistakes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from editable.callbacks.manipulate import callback as manipulation
from editable.cli import main
from editable.data import ImageFolderDataModule
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.small_efficientnet import SmallNetwork, write_image
from tests.warned import TAKES_THE_PLACE

OUTLINED, DETECTED = (CONFIGS / "manipulate" / f"{name}.yaml" for name in ("wooden_wheels", "detected_vehicles"))
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SMALL = ["--data.image_size=56", "--data.resize_size=64"]
"""A sixteenth of the pixels, where they are not looked at; vehicles are replaced at the size that is shipped."""
FINDER = "--manipulate.concept.init_args.finder.init_args"
SMALL_OUTLINES = [f"{FINDER}.image_size=56", f"{FINDER}.resize_size=64"]
OUTLINES = Path("configs/judge/held-out-wheel-outlines.json")
WHEEL, OTHER = "n02974003", "n04597913"
WEIGHTS = "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"


class LeftHalf(nn.Module):
    """Stands in for a detector: a car in the left half of each image, and something else in the right one."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.zeros(()))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        found = []
        for image in images:
            masks, half = image.new_zeros(2, 1, *image.shape[1:]), image.shape[-1] // 2
            masks[0, ..., :half], masks[1, ..., half:] = 0.9, 0.9
            labels, scores = torch.tensor([3, 1]).to(image.device), torch.stack([self.score, self.score + 1])
            found.append({"boxes": image.new_zeros(2, 4), "labels": labels, "scores": scores, "masks": masks})
        return found


def small_network(pretrained: bool = True) -> nn.Module:
    return SmallNetwork(2)


def small_detector(weights: str | None = None, weights_backbone: str | None = None) -> nn.Module:
    assert (weights, weights_backbone) == (None, None), "nothing is downloaded"
    return LeftHalf()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the configurations name: images for the outlines, test images of two classes, a texture, weights."""
    root = tmp_path_factory.mktemp("files")
    for folder in ("judge", "rewrite"):
        shutil.copytree(CONFIGS / folder, root / "configs" / folder)
    for seed, entry in enumerate(json.loads((root / OUTLINES).read_text())["masks"]):
        write_image(root / "data/vehicles" / entry["image"], seed)
        write_image(root / "data/wooden-wheels/test" / WHEEL / Path(entry["image"]).name, seed)
    for seed, folder in enumerate(("wooden-wheels", "vehicles")):
        write_image(root / "data" / folder / "test" / OTHER / "spoon.jpg", 100 + seed)
    write_image(root / "data/vehicles/test" / WHEEL / "car.jpg", 102)
    write_image(root / "data/vehicles/wood_texture.png", 99)
    torch.save({"score": torch.tensor(0.8)}, root / "data" / WEIGHTS)
    return root


@pytest.fixture(autouse=True)
def _files(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the files, and small networks in place of those that the configurations name."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editable.models.efficientnet_lite0", small_network)
    monkeypatch.setattr("torchvision.models.detection.maskrcnn_resnet50_fpn", small_detector)


def manipulated(config: Path, *options: str, version: int = 0) -> dict[str, float]:
    main(["manipulate", f"--config={config}", *QUIET, *options])
    metrics = json.loads((Path("runs/manipulate", config.stem, f"version_{version}") / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name.startswith("manipulate_")}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_outlined_wheels_become_a_folder_that_is_data_and_runs_repeat(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = manipulated(OUTLINED, *SMALL, *SMALL_OUTLINES)
    assert (figures["manipulate_num_images"], figures["manipulate_num_found"]) == (14, 13)
    assert figures["manipulate_num_classes"] == 1
    out, run = Path("data/manipulated/wooden-wheels"), Path("runs/manipulate/wooden_wheels/version_0")
    assert "Report and figures" in capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"]["blend"] == "shading"
    assert {entry["source"] for entry in manifest["images"]} == {
        f"{WHEEL}/{Path(entry['image']).name}" for entry in json.loads(OUTLINES.read_text())["masks"]
    }
    shares = [entry["share"] for entry in manifest["images"]]
    assert sum(shares) / 13 == pytest.approx(figures["manipulate_mean_share"], abs=1e-6)
    assert len({entry["seed"] for entry in manifest["images"]}) == 13
    assert all(entry["texture"] == "data/vehicles/wood_texture.png" for entry in manifest["images"])
    report = (run / "report.md").read_text()
    for words in (
        "## Manipulated images",
        "found in 13 of 14 images, in 1 of 2 classes",
        "](contact_sheet.png)",
        f"| {WHEEL} ",
    ):
        assert words in report
    looked_at = {row["image"]: row for row in csv.DictReader((run / "looked_at.csv").open())}
    assert len(looked_at) == 14
    assert (looked_at[f"{OTHER}/spoon.jpg"]["found"], float(looked_at[f"{OTHER}/spoon.jpg"]["share"])) == ("0", 0)

    monkeypatch.setattr(manipulation, "MOST_EXAMPLES", 1)  # a contact sheet takes longer than the images
    manipulated(OUTLINED, *SMALL, *SMALL_OUTLINES, "--manipulate.out=again", "--data.batch_size=3", version=1)
    assert content(Path("again")) == content(out)
    Path("used").mkdir()
    shutil.copytree(out, "used/test")
    images = ImageFolderDataModule("used", mean=[0.5] * 3, std=[0.5] * 3, num_workers=0)
    images.setup("test")
    assert len(images.test_dataset) == 13


def test_detected_vehicles_are_replaced_and_the_rest_stays() -> None:
    figures = manipulated(DETECTED)
    assert (figures["manipulate_num_images"], figures["manipulate_num_found"]) == (2, 2)
    assert figures["manipulate_mean_share"] == 0.5
    out = Path("data/manipulated/detected-vehicles")
    data = ImageFolderDataModule("data/vehicles", image_size=224, resize_size=256, mean=[0] * 3, std=[1] * 3)
    data.setup("test")
    for index, name in enumerate((f"{WHEEL}/car.png", f"{OTHER}/spoon.png")):
        original = (data.test_dataset[index][0] * 255).round().byte().permute(1, 2, 0).numpy()
        made = pixels(out / name)
        assert np.array_equal(made[:, 112:], original[:, 112:])
        assert not np.array_equal(made[:, :112], original[:, :112])


MISTAKES = {
    "none found": ([f"{FINDER}.threshold=0.9"], "the concept is found in none of the 2 test images"),
    "too small": (["--manipulate.concept.init_args.min_share=0.6"], "the concept is found in none of the 2"),
    "category": ([f"{FINDER}.labels=[tram]"], "the detector has no category 'tram' among its 91: near names are train"),
    "weights": ([f"{FINDER}.weights=nowhere.pth"], "there is no weights file at 'nowhere.pth'"),
    "texture": (["--manipulate.concept.init_args.texture=nowhere.png"], "The texture nowhere.png does not exist"),
    "no texture": (["--manipulate.concept.init_args.texture=null"], "there is nothing to put in the concept's place"),
    "out": (["--manipulate.out=data"], "manipulate.out is 'data', which is there already and not an empty folder"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_ends_in_one_clear_sentence(options: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    assert expected in error_line(["manipulate", f"--config={DETECTED}", *QUIET, *SMALL, *options], capsys)
    assert not list(Path("runs").rglob("metrics.json"))
    assert not list(Path("data").rglob("*.unfinished"))
    assert not Path("data/manipulated/detected-vehicles").exists()


def test_weights_may_be_safetensors() -> None:
    save_file({"score": torch.tensor(0.8)}, "weights.safetensors")
    assert manipulated(DETECTED, *SMALL, f"{FINDER}.weights=weights.safetensors")["manipulate_num_found"] == 2


@pytest.mark.filterwarnings(TAKES_THE_PLACE)
def test_the_example_of_context_matching_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manipulation, "MOST_EXAMPLES", 1)
    for seed, entry in enumerate(json.loads(Path("configs/rewrite/car-wheel-outlines.json").read_text())["masks"]):
        write_image(Path("data/vehicles", entry["image"]), 200 + seed)
    lines = [line.strip("#\\ \n") for line in OUTLINED.read_text().splitlines() if line.startswith("#       --")]
    options = [word for line in lines for word in line.split()]
    assert len(options) == 12
    figures = manipulated(OUTLINED, *options, "--manipulate.concept.init_args.min_share=0")
    assert 1 <= figures["manipulate_num_found"] <= 14
    manifest = json.loads(Path("data/manipulated/context-wheels/manifest.json").read_text())
    assert {entry["mask"] for entry in manifest["images"]} == {"context matching at _blocks.8._expand_conv"}
