"""``predict`` of images of one's own by the command line."""

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional

from editable.cli import main
from editable.data import DigitsDataModule
from editable.models import cifar_resnet, write_weights
from tests.callbacks.edit.commands import CONFIG, QUIET
from tests.mistakes import error_line
from tests.warned import NOT_KEPT

WEIGHTS = ["--model.weights=own.safetensors"]


@pytest.fixture(autouse=True)
def _photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some digits as grey files, under names that are no markup."""
    monkeypatch.chdir(tmp_path)
    write_weights("own.safetensors", network())
    Path("photos").mkdir()
    data = DigitsDataModule()
    data.setup("test")
    for number in range(25):
        pixels = (data.test_dataset.images[number][0] * 255).round().to(torch.uint8)
        functional.to_pil_image(pixels).save(Path("photos", f"[b]{number:02}|.png"))
    Path("broken.png").write_bytes(b"no image")
    Image.new("L", (9, 9)).save("large.png")


def network() -> nn.Module:
    torch.manual_seed(0)
    return cifar_resnet(num_classes=10, width=4, layers=(1, 1, 1, 1), in_channels=1).eval()


def run(*options: str) -> list[dict[str, str]]:
    main(["predict", f"--config={CONFIG}", *QUIET, *WEIGHTS, *options])
    (path,) = Path("runs").rglob("predictions.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings(NOT_KEPT)
def test_no_file_is_told_of_that_goes(capsys: pytest.CaptureFixture):
    main(["predict", f"--config={CONFIG}", *QUIET, *WEIGHTS, "--predict.images=photos", "--trainer.logger=false"])
    shown = capsys.readouterr().out
    assert "25 images" in shown
    assert "predictions.csv" not in shown


def test_files_with_the_likeliest_classes(capsys: pytest.CaptureFixture):
    rows = run("--predict.images=photos/*.png", "--predict.top=2")
    data = DigitsDataModule()
    names = sorted(str(path) for path in Path("photos").iterdir())
    assert [row["file"] for row in rows] == names
    shown = capsys.readouterr().out
    assert "25 images, the first 20" in shown
    plain = network()
    for row in rows:
        with Image.open(row["file"]) as image:
            pixels = functional.pil_to_tensor(image)
        with torch.no_grad():
            likely = plain(data.normalisation(pixels)[None]).softmax(dim=1)[0].topk(2)
        assert [int(row["label"]), int(row["class_2"])] == likely.indices.tolist()
        assert [float(row["probability"]), float(row["probability_2"])] == pytest.approx(
            likely.values.tolist(), abs=2e-6
        )
    assert f"{names[0]} " in shown


BAD = [
    (["--predict.images=photo.png"], "the image 'photo.png' is not there"),
    (["--predict.images=*.gif"], "the image '*.gif' matches no file"),
    (["--predict.images=broken.png"], "broken.png cannot be read"),
    (["--predict.images=large.png"], "9"),
    (["--predict.images=[]"], "there is no image to look at"),
    (["--predict.top=0"], "top must be at least 1"),
    (["--predict.top=many"], "many"),
    (["--predict.image=photos"], "predict.image"),
    (["--predict.images=photos", "--patches=none.safetensors"], "there is no edit patch at 'none.safetensors'"),
    (["--predict.images=photos", "--data.batch_size=0"], "batch_size"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_mistakes_end_in_one_sentence(options: list[str], message: str, capsys: pytest.CaptureFixture):
    line = error_line(["predict", f"--config={CONFIG}", *QUIET, *WEIGHTS, *options], capsys)
    assert message in line
    assert not list(Path().rglob("predictions.csv"))
