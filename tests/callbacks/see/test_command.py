"""Seeing a rewrite by the command line: shipped configurations in miniature, rewritten files, and mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from editable.cli import main
from editable.models import cifar_resnet18
from tests.paths import CONFIGS
from tests.warned import FEW_KEYS

CONFIG_FOLDER = CONFIGS / "see"
CONFIGS = {path.stem: path for path in sorted(CONFIG_FOLDER.glob("*.yaml"))}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DESCENTS = [
    f"--see.{stage}_descent.{name}=2" for stage in ("key", "feature", "image") for name in ("num_steps", "restarts")
]
SMALL = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--model.network.width=4",
    "--see.perceptual=standin",
    "--see.rule.exemplars=2",
    *DESCENTS,
]


@pytest.fixture(autouse=True)
def _images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the configurations name: a network, training images, those that are outlined, and the texture."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CONFIG_FOLDER, "configs/see")
    names = [f"train/{name}/{number}.png" for name in CLASSES for number in range(2)]
    names += [f"test/{name}/0000.jpg" for name in CLASSES]
    for masks in CONFIG_FOLDER.glob("*.json"):
        names += [f"test/{entry['image']}" for entry in json.loads(masks.read_text())["masks"]]
    random = np.random.RandomState(0)
    for path in [
        Path("data/vehicles/vehicles-on-snow/snow_texture.jpg"),
        *(Path("data/cifar10-jpeg", name) for name in names),
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    torch.manual_seed(0)
    save_file(cifar_resnet18(10, width=4).state_dict(), "data/cifar10-resnet18.safetensors")


def last_run(name: str) -> Path:
    return max(Path("runs", "see", name).glob("version_*"), key=lambda folder: folder.stat().st_mtime)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_configuration_runs(
    name: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    before = Path("data/cifar10-resnet18.safetensors").read_bytes()
    main(["see", f"--config={CONFIGS[name]}", *SMALL])
    run = last_run(name)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["see_num_exemplars"] == 2
    assert metrics.keys() >= {"test_error", "see_keys_loss_ratio", "see_images_original_standin"}
    report = (run / "report.md").read_text()
    for figure in ("curves", "inversions", "heat_maps", "similarity_maps", "change_maps"):
        assert f"]({figure}.png)" in report
        assert (run / f"{figure}.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    for words in ("traced back", "loss fell by", "manipulated", "Report and figures: runs/see"):
        assert words in shown
    assert Path("data/cifar10-resnet18.safetensors").read_bytes() == before


@pytest.mark.filterwarnings(FEW_KEYS)
def test_a_rewritten_file_takes_the_place_of_the_solver() -> None:
    """Of the classifier, of which there are fewer figures to be drawn than of a convolution."""
    state = load_file("data/cifar10-resnet18.safetensors")
    state["fc.weight"] = 1.5 * state["fc.weight"]
    save_file(state, "edited.safetensors")
    options = ["--see.layer=fc", "--see.num_exemplars=1", "--see.edited=edited.safetensors"]
    main(["see", f"--config={CONFIGS['cifar10_snow']}", *SMALL, *options])
    metrics = json.loads((last_run("cifar10_snow") / "metrics.json").read_text())
    assert metrics["see_relative_norm"] == pytest.approx(0.5, rel=1e-5)


MISTAKES = {
    "layer": (["--see.layer=layer9.conv1"], "CifarResNet has no layer 'layer9.conv1'"),
    "size": (["--see.rule.image_size=16"], "give the rule the data module's image_size and resize_size"),
    "restarts": (["--see.image_descent.restarts=0"], "restarts must be at least 1, got 0"),
    "steps": (["--see.key_descent.num_steps=0"], "num_steps must be at least 1, got 0"),
    "edited": (["--see.edited=nowhere.ckpt"], "there is no weights file at 'nowhere.ckpt'"),
    "unedited": (["--see.edited=data/cifar10-resnet18.safetensors"], "nothing was rewritten"),
    "perceptual": (["--see.perceptual=ssim"], "ssim"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_ends_in_one_clear_sentence(options: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["see", f"--config={CONFIGS['cifar10_snow']}", *SMALL, *options])
    assert ended.value.code == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert expected in shown
    assert "Traceback" not in shown
