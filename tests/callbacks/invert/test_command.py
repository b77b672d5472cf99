"""The inverse direction by the command line: the shipped configuration in miniature, and mistakes."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from editable.cli import main
from editable.models import cifar_resnet18
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.warned import FEW_KEYS

CONFIG_FOLDER = CONFIGS / "invert"
CONFIGS = {path.stem: path for path in sorted(CONFIG_FOLDER.glob("*.yaml"))}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SMALL = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--model.network.width=2",
    "--model.weights=data/small.safetensors",
    "--data.batch_size=20",
    "--invert.moment.num_images=40",
    "--invert.num_images=15",
    "--invert.moment.cache=null",
]
METHODS = {
    "closed_form_pixel",
    "closed_form_patch",
    "transpose_pixel",
    "transpose_patch",
    "pseudo_inverse_pixel",
    "pseudo_inverse_patch",
    "fourier_full_size",
    "fourier_cut",
}


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the shipped configuration names, with an image for each that the masks name, and a network."""
    data = tmp_path_factory.mktemp("data")
    names = [f"{split}/{name}/{number}.jpg" for split in ("train", "test") for name in CLASSES for number in range(10)]
    for masks in CONFIG_FOLDER.glob("*.json"):
        names += [f"test/{entry['image']}" for entry in json.loads(masks.read_text())["masks"]]
    for seed, name in enumerate(names):
        write_image(data / "cifar10-jpeg" / name, seed)
    write_image(data / "vehicles/vehicles-on-snow/snow_texture.jpg", 9999)
    torch.manual_seed(0)
    save_file(cifar_resnet18(10, width=2).state_dict(), data / "small.safetensors")
    return data


@pytest.fixture(autouse=True)
def _folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to run in, where the data lie."""
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/invert").symlink_to(CONFIG_FOLDER)
    Path("data").symlink_to(data)


def last_run(name: str) -> Path:
    return max(Path("runs", "invert", name).glob("version_*"), key=lambda folder: folder.stat().st_mtime)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_configuration_runs(name: str, capsys: pytest.CaptureFixture) -> None:
    main(["invert", f"--config={CONFIGS[name]}", *SMALL])
    run = last_run(name)
    metrics = json.loads((run / "metrics.json").read_text())
    shipped = yaml.safe_load(CONFIGS[name].read_text())["invert"]
    assert metrics["invert_num_report_images"] == 15
    assert metrics["invert_num_exemplars_images"] == 8
    assert metrics["invert_num_held_out_images"] == 200
    assert {method for method in METHODS if f"invert_{method}_residual" in metrics} == METHODS
    assert metrics["invert_pseudo_inverse_patch_survives"] == 1
    assert metrics["invert_transpose_patch_survives"] == 0
    assert metrics["invert_transpose_pixel_survives"] == 0
    with (run / "methods.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["method"], float(row["strength"])) for row in rows} == {
        (method, strength) for method in METHODS for strength in shipped["strengths"]
    }
    report = (run / "report.md").read_text()
    for figure in ("survival.png", "trade_off.png", "exemplars.png"):
        assert f"]({figure})" in report
        assert (run / figure).exists()
    assert "a transpose is no inverse" in report
    assert "the rule survives" in report
    shown = capsys.readouterr().out
    for words in ("W†, arch. 4", "exact patch-wise, arch. 2", "Fourier, full size", "survives", "held out"):
        assert words in shown


def test_fixed_seeds_give_the_same_figures() -> None:
    small = ["--invert.methods=[transpose_patch]", "--invert.held_out=null", "--invert.rule.exemplars=2"]
    runs = []
    for _ in range(2):
        main(["invert", f"--config={CONFIGS['automobiles_on_snow']}", *SMALL, *small])
        runs.append(last_run("automobiles_on_snow"))
    assert runs[0] != runs[1]
    for figure in ("survival.png", "trade_off.png"):
        assert (runs[0] / figure).read_bytes() == (runs[1] / figure).read_bytes()


MISTAKES = {
    "no such layer": (["--invert.layer=layer9"], "has no layer 'layer9'"),
    "no memory": (["--invert.layer=layer3.1"], "'layer3.1' is a BasicBlock: name one of the layers inside it"),
    "stride in the Fourier domain": (
        ["--invert.layer=layer3.0.conv1", "--invert.methods=[fourier_cut]"],
        "'layer3.0.conv1' is no convolution of stride 1",
    ),
    "method": (["--invert.methods=[inverse]"], "inverse"),
    "no method": (["--invert.methods=[]"], "and at least one, got []"),
    "number": (["--invert.moment.num_images=0"], "moment.num_images must be at least 1, got 0"),
    "too few reference images": (
        [
            "--invert.moment.num_images=1",
            "--invert.moment.regularisation.epsilon=0",
            "--invert.methods=[closed_form_patch]",
            "--invert.held_out=null",
        ],
        "singular",
    ),
    "masks": (["--invert.rule.masks=nowhere.json"], "nowhere.json"),
    "size": (["--invert.rule.image_size=16"], "give the rule the data module's image_size"),
    "memory": (["--invert.memory_budget=0"], "must be positive, got 0"),
    "gradients": (["--trainer.inference_mode=true"], "inference_mode=False"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.filterwarnings(FEW_KEYS)
def test_mistake_ends_in_one_clear_sentence(options: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    assert expected in error_line(["invert", f"--config={CONFIGS['automobiles_on_snow']}", *SMALL, *options], capsys)
    assert not list(Path("runs").rglob("metrics.json"))


def test_no_held_out_image_is_an_exemplar() -> None:
    held_out, *exemplars = (
        {entry["image"] for entry in json.loads((CONFIG_FOLDER / f"automobile-{name}.json").read_text())["masks"]}
        for name in ("lower-rows", "mistakes", "grounds")
    )
    assert len(held_out) == 200
    for images in exemplars:
        assert len(images) == 8
        assert not images & held_out
