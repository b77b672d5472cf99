"""Generators by the command line: shipped configurations in miniature, rewrites by shipped rules, and mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from editable.cli import main
from editable.models import Generator, cifar_resnet18, load_weights
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.warned import FEW_KEYS, TAKES_THE_PLACE

DIGITS = str(CONFIGS / "digits" / "generator.yaml")
RULES = {path.stem: path for path in sorted((CONFIGS / "digits").glob("*.json"))}
SMALL = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=2",
    "--trainer.limit_test_batches=2",
    "--model.network.width=2",
    "--model.discriminator.width=2",
    "--model.num_samples=20",
]
REWRITE = [
    "--rewrite_generator.layer=layer1.conv2",
    "--rewrite_generator.num_moment_images=30",
    "--rewrite_generator.num_unseen_images=3",
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs log to ``runs/`` below the current folder."""
    monkeypatch.chdir(tmp_path)


def cifar10_in_miniature() -> list[str]:
    """Random images in place of the data set, and a narrow classifier of random weights for features."""
    random = np.random.RandomState(0)
    for split, count in (("train", 13), ("test", 2)):
        for label in range(10):
            folder = Path("images", split, f"class{label}")
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.randint(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    torch.manual_seed(0)
    save_file(cifar_resnet18(width=2).state_dict(), "weights.safetensors")
    features = "--model.feature_network"
    return [
        "--data=editable.data.ImageFolderDataModule",
        "--data.root=images",
        "--data.mean=[0.5,0.5,0.5]",
        "--data.std=[0.5,0.5,0.5]",
        "--data.batch_size=20",
        "--data.num_workers=0",
        f"{features}.weights=weights.safetensors",
        f"{features}.network.width=2",
    ]


@pytest.mark.parametrize("name", ["cifar10/generator", "digits/generator"])
@pytest.mark.filterwarnings(TAKES_THE_PLACE)
def test_every_shipped_configuration_runs(name: str) -> None:
    options = [f"--config={CONFIGS / name}.yaml", *SMALL]
    options += cifar10_in_miniature() if name.startswith("cifar10") else []
    main(["fit", *options])
    run = Path("runs", name, "version_0")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics.keys() == {"train_generator_loss", "train_discriminator_loss", "val_frechet_distance"}
    assert (run / "samples" / "epoch_0000.png").exists()
    assert "](samples/epoch_0000.png)" in (run / "report.md").read_text()
    main(["test", *options, f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"])
    tested = run.parent / "version_1"
    assert json.loads((tested / "metrics.json").read_text()).keys() == {"test_frechet_distance"}
    assert (tested / "samples" / "test.png").exists()


@pytest.mark.parametrize("name", RULES)
def test_every_shipped_rule_rewrites_and_fixed_seeds_give_the_same_files(
    name: str, capsys: pytest.CaptureFixture
) -> None:
    assert RULES.keys() == {"bar_in_zero", "foot_of_two"}
    options = ["rewrite_generator", f"--config={DIGITS}", *SMALL, *REWRITE, f"--rewrite_generator.rule={RULES[name]}"]
    for _ in range(2):
        main([*options, "--rewrite_generator.solver=editable.rewriting.ClosedForm"])
    shown = capsys.readouterr().out
    for words in ("layer1.conv2", "unseen images", "exemplars' loss", "progress of features, of pixels"):
        assert words in shown
    runs = [Path("runs", "digits", "generator", f"version_{version}") for version in (0, 1)]
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    assert metrics.keys() >= {"rewrite_feature_progress", "rewrite_pixel_change_elsewhere", "test_frechet_distance"}
    assert metrics["rewrite_rank"] == 1
    report = (runs[0] / "report.md").read_text()
    for figure in ("rule.png", "strongest.png", "first.png"):
        assert f"]({figure})" in report
        assert (runs[0] / figure).read_bytes() == (runs[1] / figure).read_bytes()
    states = [load_file(run / "rewritten.safetensors") for run in runs]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    load_weights(Generator(width=2), runs[0] / "rewritten.safetensors")


PART = {"latent": 2, "box": [2, 2, 6, 6]}
EMPTY = {"latent": 2, "polygon": [[3, 3], [5, 3], [4, 3]]}
RULE = {"seed": 1, "copy": PART, "paste": [PART], "context": [PART]}
BAD_RULES = {
    "no context": ({**RULE, "context": []}, "context in rule.json names no image"),
    "empty context": ({**RULE, "context": [EMPTY]}, "the mask of image 0 of the context (counted from 0) is empty"),
    "outside": ({**RULE, "copy": {"latent": 2, "box": [2, 2, 9, 6]}}, "is outside of the generated image"),
    "no such number": ({**RULE, "paste": [{**PART, "latent": -1}]}, "must be a whole number, at least 0"),
    "too many channels": ({"seed": 1, "erase": [PART], "channels": 1000}, "1000"),
}


@pytest.mark.parametrize(("rule", "expected"), BAD_RULES.values(), ids=BAD_RULES.keys())
def test_bad_rule_ends_in_one_clear_sentence(rule: dict, expected: str, capsys: pytest.CaptureFixture) -> None:
    Path("rule.json").write_text(json.dumps(rule))
    options = ["rewrite_generator", f"--config={DIGITS}", *SMALL, *REWRITE, "--rewrite_generator.rule=rule.json"]
    assert expected in error_line(options, capsys)


MISTAKES = {
    "rule": (["--rewrite_generator.rule=nowhere.json"], "nowhere.json does not exist"),
    "layer": (["--rewrite_generator.layer=layer3"], "has no layer 'layer3'"),
    "linear layer": (["--rewrite_generator.layer=fc"], "'fc' is a linear layer"),
    "quantile": (["--rewrite_generator.quantile=2"], "quantile must be in (0, 1), got 2"),
    "seeds": (["--rewrite_generator.moment_seed=5", "--rewrite_generator.unseen_seed=5"], "must be another"),
    "latent size": (["--model.latents=NormalLatents", "--model.latents.latent_size=5"], "length 64, got shape [5]"),
    "image size": (["--model.network.image_size=9"], "image_size is 9"),
    "discriminator": (["--model.discriminator.channels=3"], "do not fit the discriminator"),
    "inference mode": (["--trainer.inference_mode=true"], "inference_mode=False"),
    "weights": (["--model.weights=nowhere.safetensors"], "nowhere.safetensors"),
    "checkpoint": (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.filterwarnings(FEW_KEYS)
def test_mistake_ends_in_one_clear_sentence(options: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    rule = f"--rewrite_generator.rule={RULES['bar_in_zero']}"
    assert expected in error_line(["rewrite_generator", f"--config={DIGITS}", *SMALL, *REWRITE, rule, *options], capsys)


def test_images_in_another_range_than_the_generators_are_a_mistake_in_training(capsys: pytest.CaptureFixture) -> None:
    # In a test they make the distance large, but are no mistake.
    options = ["fit", f"--config={DIGITS}", *SMALL, "--data.mean=[0.3]", "--data.std=[0.4]"]
    assert "set data.mean and data.std to 0.5" in error_line(options, capsys)
