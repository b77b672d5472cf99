"""The command line as a user meets it: shipped configurations, saved configurations, and mistakes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.models.vision_transformer import VisionTransformer

from editable.cli import main
from editable.default_run import default_run
from editable.models import cifar_densenet, cifar_resnet18
from tests.paths import CONFIGS, ROOT
from tests.small_efficientnet import SmallNetwork
from tests.warned import AVERAGING, CHANNELS_LAST, TAKES_THE_PLACE

CONFIG_FOLDER = CONFIGS
CONFIGS = {path.relative_to(CONFIG_FOLDER).with_suffix("").as_posix(): path for path in CONFIG_FOLDER.rglob("*.yaml")}
ROWS_BY_OPTION = {  # rows of configs/README.md that are another row's file with options
    "cifar10/baseline": (
        "--evaluation.editor.rule GD --evaluation.editor.rule.learning_rate 1.0e-2 --evaluation.editable_layers [all]"
    ),
    "imagenet/vit_b_16/pretrained_rmsprop_encoder_layer_11": (
        "--evaluation.editable_layers [encoder_layer_10,encoder_layer_11]"
    ),
}
EDITING = [
    name
    for name, path in CONFIGS.items()
    if yaml.safe_load(path.read_text()).get("evaluation", {}).get("num_edits") != 0 and "stream_" not in path.name
]  # the others have tests of their own: of rewrites in tests/callbacks/rewrite/test_command.py
RUNS = [(name, "") for name in sorted(EDITING)] + sorted(ROWS_BY_OPTION.items())
DIGITS = str(CONFIGS["digits/editable"])
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SMALL = [
    *QUIET,
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_test_batches=1",
    "--evaluation.num_edits=2",
    "--evaluation.image_stride=20",
]
SMALL_DIGITS = [*SMALL, "--model.network.width=4", "--data.train_limit=200"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs log to ``runs/`` below the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of ten classes with random 32×32 images: twelve for training, three for testing."""
    random = np.random.RandomState(0)
    for split, count in (("train", 12), ("test", 3)):
        for label in range(10):
            folder = tmp_path / "images" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.randint(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return tmp_path / "images"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Random weights of a narrow ResNet-18."""
    torch.manual_seed(0)
    save_file(cifar_resnet18(width=4).state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def last_run(name: str) -> Path:
    versions = Path("runs", name).glob("version_*")
    return max(versions, key=lambda folder: int(folder.name.removeprefix("version_")))


def small_torchvision_model(name: str, weights: WeightsEnum | None = None, num_classes: int = 1000) -> nn.Module:
    """Stands in for ``torchvision.models.get_model``: small, of random weights, with the layers that are edited."""
    assert weights is None or weights.name == ("IMAGENET1K_V2" if name == "resnet50" else "IMAGENET1K_V1")
    if name in ("resnet18", "resnet50"):
        return cifar_resnet18(num_classes, width=4)
    if name == "densenet169":
        return cifar_densenet(num_classes, growth_rate=2, layers=(1, 1, 1, 1), width=4)
    assert name == "vit_b_16"
    return VisionTransformer(32, 16, num_layers=12, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=num_classes)


def small_efficientnet() -> nn.Module:
    return SmallNetwork(10)


def options_in_miniature(config: Path, images: Path, weights: Path) -> list[str]:
    """What makes a shipped configuration small, and independent of data that have to be fetched."""
    if config.parent.name == "digits":
        return SMALL_DIGITS
    content = yaml.safe_load(config.read_text())
    model, place = content["model"]["init_args"], "--model.network"
    network, options = model["network"], [f"--data.root={images}", "--data.batch_size=20", "--data.num_workers=0"]
    if network["class_path"] == "editable.models.add_extra_layer":
        if "weights" in network["init_args"]:
            options.append(f"{place}.weights={weights}")
        network, place = network["init_args"]["network"], f"{place}.network"
    if network["class_path"] == "editable.models.cifar_densenet169":
        sizes = {"growth_rate": 2, "layers": "[1,1,1,1]", "width": 4}
        options += [f"{place}=editable.models.cifar_densenet", *(f"{place}.{size}={n}" for size, n in sizes.items())]
    elif network["class_path"] == "editable.models.torchvision_model":
        options += [f"{place}.num_classes=10", "--data.num_classes=10", "--data.image_size=32", "--data.resize_size=36"]
    elif network["class_path"] == "editable.models.efficientnet_lite0":
        options += ["--data.num_classes=10", "--data.image_size=32", "--data.resize_size=36"]
    elif network["class_path"] == "editable.models.cifar_whitened_convnet":
        options.append(f"{place}.widths=[4,4,4]")
    else:
        options.append(f"{place}.width=4")
    if "weights" in model:
        options.append(f"--model.weights={weights}")
    if "train_size" in content["data"]["init_args"]:
        options.append("--data.train_size=24")
    if content["data"]["class_path"] == "editable.data.CIFAR10DataModule":
        options = ["--data=editable.data.ImageFolderDataModule", *options, "--data.augmentation=crop_flip"]
    return [*SMALL, *options]


@pytest.mark.parametrize(("name", "row"), RUNS, ids=[" ".join(filter(None, run)) for run in RUNS])
@pytest.mark.filterwarnings(AVERAGING, CHANNELS_LAST, TAKES_THE_PLACE)
def test_every_shipped_configuration_runs(
    name: str, row: str, images: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.models.get_model", small_torchvision_model)
    monkeypatch.setattr("editable.models.efficientnet_lite0", small_efficientnet)
    if name.startswith("imagenet-samples"):
        (images / "train").rename(images / "val")  # the half that is not edited
    elif name.startswith("imagenet"):
        (images / "test").rename(images / "val")  # ImageNet has no labelled test images
    content = yaml.safe_load(CONFIGS[name].read_text())
    trainer = content["trainer"]
    assert trainer["logger"]["init_args"]["name"] == name
    options = [f"--config={CONFIGS[name]}", *options_in_miniature(CONFIGS[name], images, weights)]
    checkpoint = []
    if "max_epochs" in trainer:
        main(["fit", *options])
        run = last_run(name)
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics.keys() >= {"train_loss", "train_error"}
        if content["data"]["init_args"].get("validation_fraction") != 0:
            assert metrics.keys() >= {"val_loss", "val_error"}
        checkpoints = list((run / "checkpoints").glob("*.ckpt"))
        assert checkpoints
        if "callbacks" in trainer:
            settings = [callback["init_args"] for callback in trainer["callbacks"]]
            named = {f"{setting['filename']}.ckpt" for setting in settings if "filename" in setting}
            assert {path.name for path in checkpoints} == named
        checkpoint = [f"--ckpt_path={checkpoints[0]}"]
    main(["test", *options, *checkpoint, *row.split()])
    run = last_run(name)
    metrics = json.loads((run / "metrics.json").read_text())
    spread = "drawdown_half_width" if "sampling" in content["evaluation"] else "drawdown_absolute"
    assert metrics.keys() >= {"test_error", "drawdown", spread, "success_rate", "num_steps"}
    assert metrics["num_edits"] == 2
    assert (run / "config.yaml").exists()
    assert "drawdown" in (run / "report.md").read_text()


def test_every_configuration_has_its_row_in_the_table_of_published_results() -> None:
    table = (CONFIG_FOLDER / "README.md").read_text()
    assert [name for name in CONFIGS if f"({name}.yaml)" not in table] == []
    assert [row for row in ROWS_BY_OPTION.values() if f"`{row}`" not in table] == []


PUBLISHED = [
    name for name in CONFIGS if name.startswith("imagenet/") and "resnet50" not in name and "baseline" not in name
]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_imagenet_configurations_have_the_published_settings(name: str) -> None:
    """RMSProp α 1e-4 from β 0.5, ten steps; SGD 1e-5 (new 1e-3), momentum 0.9, decay 1e-4; c 0.03; batch 128."""
    content = yaml.safe_load(CONFIGS[name].read_text())
    model, data, evaluation = content["model"]["init_args"], content["data"]["init_args"], content["evaluation"]
    editor = {**evaluation, **model}["editor"]["init_args"]
    rule = {"learning_rate": 1e-4, "decay": 0.5, "epsilon": 1e-6}
    assert editor["max_steps"] == 10
    assert editor["rule"]["init_args"].items() >= rule.items()
    assert data.items() >= {"root": "data/imagenet", "num_classes": 1000, "image_size": 224, "resize_size": 256}.items()
    assert (data["batch_size"], evaluation["num_edits"], evaluation["image_stride"]) == (128, 1000, 10)
    if "pretrained" in name:
        return
    c = 0 if "distillation" in name else 0.03
    assert (model["c_edit"], model["c_loc"], model["edits_per_batch"]) == (c, c, 1)
    assert model["optimizer"]["init_args"] == {"lr": 1e-5, "momentum": 0.9, "weight_decay": 1e-4}
    assert model.get("learning_rates") == ({"extra_layer": 1e-3} if "extra_layer" in name else None)
    assert data["augmentation"] == "resized_crop_flip"


RECIPES = {
    "imagenet/resnet50/baseline": {
        "model": {"label_smoothing": 0.1, "mixup_alpha": 0.2, "cutmix_alpha": 1.0, "norm_weight_decay": 0.0},
        "optimizer": {"lr": 0.5, "momentum": 0.9, "weight_decay": 2e-5},
        "lr_scheduler": {"length": 600, "warmup": 5, "start": 0.01},
        "data": {"train_size": 176, "image_size": 224, "resize_size": 232, "augmentation": "trivial_augment"},
        "images": 1024,
    },
    "imagenet/vit_b_16/baseline": {
        "model": {"label_smoothing": 0.11, "mixup_alpha": 0.2, "cutmix_alpha": 1.0},
        "optimizer": {"lr": 3e-3, "weight_decay": 0.3},
        "lr_scheduler": {"length": 300, "warmup": 30, "start": 0.033},
        "data": {"image_size": 224, "resize_size": 256, "augmentation": "rand_augment"},
        "images": 4096,
    },
}
"""Of torchvision 0.21, references/classification: the commands of its weights ResNet50 V2 and ViT-B/16 V1."""


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_torchvisions(name: str) -> None:
    content, recipe = yaml.safe_load(CONFIGS[name].read_text()), RECIPES[name]
    model, trainer = content["model"]["init_args"], content["trainer"]
    assert model.items() >= recipe["model"].items()
    for part in ("optimizer", "lr_scheduler"):
        assert model[part]["init_args"] == recipe[part]
    assert content["data"]["init_args"].items() >= recipe["data"].items()
    assert trainer["max_epochs"] == recipe["lr_scheduler"]["length"]
    average = trainer["callbacks"][0]["init_args"]
    every, steps_per_epoch = 32, 1281167 // recipe["images"]
    assert average["update_every_n_steps"] == every
    assert average["update_starting_at_step"] == steps_per_epoch * recipe["lr_scheduler"]["warmup"]
    expected = 1 - (1 - 0.99998) * recipe["images"] * every / trainer["max_epochs"]
    assert average["decay"] == pytest.approx(expected, abs=1e-4)


def test_saved_configuration_starts_the_same_run_again() -> None:
    main(["fit", f"--config={DIGITS}", *SMALL_DIGITS, "--seed_everything=3"])
    first = last_run("digits/editable")
    main(["fit", f"--config={first / 'config.yaml'}"])
    second = last_run("digits/editable")
    assert second != first
    states = [torch.load(next((run / "checkpoints").glob("*.ckpt")), weights_only=True) for run in (first, second)]
    assert states[0]["state_dict"].keys() == states[1]["state_dict"].keys()
    for name, tensor in states[0]["state_dict"].items():
        assert torch.equal(tensor, states[1]["state_dict"][name]), name
    assert (first / "metrics.json").read_text() == (second / "metrics.json").read_text()


def test_options_win_over_what_a_checkpoint_remembers() -> None:
    main(["fit", f"--config={DIGITS}", *SMALL_DIGITS])
    checkpoint = next((last_run("digits/editable") / "checkpoints").glob("*.ckpt"))
    steps = "--model.init_args.editor.init_args.max_steps=1"
    main(["test", f"--config={DIGITS}", *SMALL_DIGITS, f"--ckpt_path={checkpoint}", steps])
    assert json.loads((last_run("digits/editable") / "metrics.json").read_text())["num_steps"] <= 1


def test_scoring_and_sampling_by_option() -> None:
    options = ["--evaluation.scoring.precision=bfloat16", "--evaluation.sampling.half_width=0.2"]
    main(["test", f"--config={DIGITS}", *SMALL_DIGITS, "--evaluation.image_stride=1", *options])
    metrics = json.loads((last_run("digits/editable") / "metrics.json").read_text())
    assert metrics.keys() >= {"drawdown", "drawdown_half_width", "num_sampled_images"}
    assert "drawdown_absolute" not in metrics


def test_predict_leaves_a_table() -> None:
    main(["predict", f"--config={DIGITS}", *QUIET, "--model.network.width=4", "--trainer.limit_predict_batches=1"])
    lines = (last_run("digits/editable") / "predictions.csv").read_text().splitlines()
    assert lines[0] == "index,label,class,probability"
    assert len(lines) == 1 + 64


def test_print_config_shows_overrides(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["test", f"--config={DIGITS}", "--evaluation.num_edits=7", "--print_config"])
    assert exit_status.value.code in (0, None)
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["evaluation"]["num_edits"] == 7
    assert config["model"]["class_path"] == "editable.tasks.EditableTrainingTask"


def test_appended_callback_leaves_those_of_the_configuration(capsys: pytest.CaptureFixture) -> None:
    config = CONFIGS["cifar10/editable_rmsprop_layer3"]
    monitor = "lightning.pytorch.callbacks.LearningRateMonitor"
    with pytest.raises(SystemExit):
        main(["fit", f"--config={config}", f"--trainer.callbacks+={monitor}", "--print_config"])
    callbacks = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    names = [callback["class_path"].rpartition(".")[2] for callback in callbacks]
    assert names == ["ModelCheckpoint", "ModelCheckpoint", "LearningRateMonitor"]


@pytest.mark.parametrize("pattern", ["{step}", "{step:03d}", "{epoch}-{val_loss:.2f}", "a{step}"])
def test_names_of_checkpoints_are_patterns(pattern: str, capsys: pytest.CaptureFixture) -> None:
    callback = ["--trainer.callbacks+=ModelCheckpoint", f"--trainer.callbacks.filename={pattern}"]
    with pytest.raises(SystemExit):
        main(["fit", f"--config={DIGITS}", *callback, "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["trainer"]["callbacks"][-1]["init_args"]["filename"] == pattern


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["fit", "test", "default run"]),
        (["test", "--help"], ["NaturalMistakeEdits", "--evaluation.num_edits", "published protocol"]),
        (["fit", "--model.help=EditableTrainingTask"], ["locality", "c_loc", "Chain 3"]),
    ],
)
def test_help_explains_in_the_words_of_the_field(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    shown = " ".join(capsys.readouterr().out.split())
    for word in words:
        assert word in shown


def break_an_image(images: Path) -> str:
    path = images / "test" / "class3" / "01.png"
    path.write_bytes(path.read_bytes()[:100])
    return str(path)


def checkpoint_of_another_network(images: Path) -> str:
    weights = {f"network.{name}": tensor for name, tensor in cifar_resnet18(width=8).state_dict().items()}
    torch.save({"state_dict": weights, "pytorch-lightning_version": "2.6.0", "loops": {}}, "other.ckpt")
    return "do not fit"


def weights_in_place_of_a_checkpoint(images: Path) -> str:
    torch.save(cifar_resnet18(width=4).state_dict(), "weights.pt")
    return "model.weights"


def checkpoint_with_code(images: Path) -> str:
    torch.save({"state_dict": {}, "callback": print}, "code.ckpt")
    return "code.ckpt"


MISTAKES: dict[str, tuple[list[str], str | Callable[[Path], str]]] = {
    "no such config": (["--config=nowhere.yaml"], "nowhere.yaml"),
    "no such option": (["--evaluation.num_editz=3"], "num_editz"),
    "not a number": (["--evaluation.num_edits=many"], "many"),
    "no such data module": (["--data=NoSuchData"], "NoSuchData"),
    "no such network": (["--model.network.class_path=torch.nn.NoSuch"], "NoSuch"),
    "unknown layer": (["--evaluation.editable_layers=[layr3]"], "near names are layer3"),
    "missing data root": (["--data.root=nowhere"], "nowhere"),
    "missing weights": (["--model.weights=nowhere.safetensors"], "nowhere.safetensors"),
    "missing checkpoint": (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
    "broken image": ([], break_an_image),
    "class count": (["--data.num_classes=7"], "7"),
    "network with other classes": (["--model.network.num_classes=7", "--model.weights=null"], "7"),
    "weights of another architecture": (["--model.network.width=8"], "of another shape"),
    "checkpoint of another architecture": (["--ckpt_path=other.ckpt"], checkpoint_of_another_network),
    "weights in place of a checkpoint": (["--ckpt_path=weights.pt"], weights_in_place_of_a_checkpoint),
    "checkpoint with code": (["--ckpt_path=code.ckpt"], checkpoint_with_code),
    "negative steps": (["--evaluation.editor.init_args.max_steps=-1"], "-1"),
    "negative learning rate": (["--evaluation.editor.init_args.rule.init_args.learning_rate=-1"], "-1"),
    "too many edits": (["--evaluation.num_edits=1001"], "1001"),
    "sampling in two ways": (["--evaluation.sampling.half_width=0.01", "--evaluation.sampling.forward_passes=9"], "9"),
    "unknown precision": (["--evaluation.scoring.precision=float8"], "float8"),
    "batch of zero": (["--evaluation.scoring.batch_size=0"], "batch_size must be at least 1, got 0"),
    "no such folder": (["--evaluation.features_folder=nowhere"], "'nowhere' is not a folder"),
    "stride of zero": (["--evaluation.image_stride=0"], "0"),
    "inference mode left on": (["--trainer.inference_mode=true"], "inference_mode=False"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_ends_in_one_clear_sentence(
    options: list[str],
    expected: str | Callable[[Path], str],
    images: Path,
    weights: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    expected = expected if isinstance(expected, str) else expected(images)
    config = CONFIGS["cifar10/pretrained_rmsprop_layer3"]
    with pytest.raises(SystemExit) as exit_status:
        main(["test", f"--config={config}", *options_in_miniature(config, images, weights), *options])
    assert exit_status.value.code == 2
    last_line = capsys.readouterr().err.strip().splitlines()[-1]
    assert last_line.startswith("error: ")
    assert expected in last_line
    assert not list(Path("runs").rglob("metrics.json"))
    runs = Path("runs").rglob("version_*")
    assert all((run / "config.yaml").exists() for run in runs)  # of what ended before that nothing is left


def test_mistake_shows_no_traceback_in_a_process_of_its_own() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "train.py", "test", "--config=nowhere.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines() == [f"error: {result.stderr.removeprefix('error: ').strip()}"]
    assert "nowhere.yaml" in result.stderr


def test_default_run_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = default_run(tmp_path / "runs", [*SMALL, "--model.network.width=4"])
    metrics = json.loads((folder / "metrics.json").read_text())
    report = (folder / "report.md").read_text()
    shown = capsys.readouterr().out
    for name in ("baseline", "editable"):
        half = json.loads((folder / name / "metrics.json").read_text())
        for metric in ("test_error", "drawdown", "success_rate", "num_steps"):
            assert metrics[f"{name}_{metric}"] == pytest.approx(half[metric], rel=1e-6)
        assert name in shown
    for figure in ("drawdown.png", "success.png", "editable/edits.png"):
        assert f"]({figure})" in report
        assert (folder / figure).stat().st_size > 0
    assert default_run(tmp_path / "runs", [*SMALL, "--model.network.width=4"]) != folder
