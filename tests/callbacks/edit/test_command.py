"""Edits of one's own images by the command line: kept as patches and checkpoints, one on the other; and mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from editable.cli import main
from editable.editing import EditPatch
from tests.callbacks.edit.commands import CONFIG, LENIENT, QUIET, RUNS, digits, network, predictions, run
from tests.callbacks.edit.conftest import Edited
from tests.mistakes import error_line
from tests.paths import ROOT
from tests.warned import NOT_KEPT

TRAIN = ROOT / "train.py"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs log to ``runs/`` below the current folder."""
    monkeypatch.chdir(tmp_path)


def test_an_edit_is_kept_and_its_figures_are_those_of_the_edited_network(
    trained: Path, checkpoint_bytes: bytes, edited_11: Edited
) -> None:
    images, labels = digits()
    before = predictions(network(trained), images)
    asked, metrics, shown, folder = (
        edited_11.asked,
        edited_11.metrics,
        edited_11.shown,
        edited_11.here / edited_11.folder,
    )
    assert trained.read_bytes() == checkpoint_bytes
    for words in ("Edit of 1 image in ", f"asked for {asked}", "errors on 358 test images that", "Report and figures"):
        assert words in shown
    edited = predictions(network(folder / "edited.ckpt"), images)
    assert edited[11] == asked
    error = (before != labels).sum().item() / len(images)
    with_edited = (edited != labels).sum().item() / len(images) - error
    others = torch.arange(len(images)) != 11
    before, edited, labels = before[others], edited[others], labels[others]
    count = len(labels)
    expected = {
        "edit_num_images": 1,
        "edit_num_scoring_images": count,
        "edit_error_before": (before != labels).sum().item() / count,
        "edit_error": (edited != labels).sum().item() / count,
        "edit_agreement": (edited == before).sum().item() / count,
        "edit_num_corrected": ((before != labels) & (edited == labels)).sum().item(),
        "edit_num_broken": ((before == labels) & (edited != labels)).sum().item(),
        "test_error": error,
        "edit_num_edited_test_images": 1,
        "edit_drawdown_with_edited": with_edited,
    }
    expected["edit_drawdown"] = expected["edit_error"] - expected["edit_error_before"]
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name
    assert metrics["edit_generality_before"] <= metrics["edit_generality"]
    patch = EditPatch.load(folder / "edit.safetensors")
    assert patch.record.asked == [f"000011: {predictions(network(trained), images)[11]} → {asked}"]
    assert patch.record.outcome["drawdown"] == pytest.approx(expected["edit_drawdown"])
    assert all(name.startswith("layer3") for name in patch.names)
    report = (folder / "report.md").read_text()
    for words in ("](edit.png)", "](edit.safetensors)", "](edited.ckpt)", f"--patches {edited_11.folder}"):
        assert words in report
    Image.open(folder / "edit.png").verify()


def test_patches_in_a_test_and_an_edit_on_an_edit(trained: Path, edited_3: Edited) -> None:
    """A patched network has the test error of the edited one; the second edit holds on top of the first."""
    images, labels = digits()
    before = predictions(network(trained), images)
    second_label = int((before[8] + 5) % 10)
    one = edited_3.here / edited_3.folder / "edit.safetensors"
    second, _ = run("edit", trained, "--edit.images=8", f"--edit.labels={second_label}", LENIENT, f"--patches={one}")
    two = second / "edit.safetensors"
    folder, metrics = run("test", trained, "--evaluation.num_edits=0", "--patches", str(one), str(two))
    edited = predictions(network(second / "edited.ckpt"), images)
    assert edited[8] == second_label
    assert metrics["test_error"] == pytest.approx((edited != labels).float().mean().item(), abs=1e-6)
    report = (folder / "report.md").read_text()
    assert f"- `{one}`: 000003: {before[3]} → {edited_3.asked}" in report
    assert f"- `{two}`: 000008: " in report
    plain, own = run("test", trained, "--evaluation.num_edits=0")
    assert own["test_error"] == pytest.approx((before != labels).float().mean().item(), abs=1e-6)
    assert "Patches" not in (plain / "report.md").read_text()


def test_patches_in_a_prediction_and_a_validation(trained: Path, edited_3: Edited) -> None:
    images, _ = digits()
    folder = edited_3.here / edited_3.folder
    patch = f"--patches={folder / 'edit.safetensors'}"
    main(["predict", f"--config={CONFIG}", *QUIET, f"--ckpt_path={trained}", patch])
    (table,) = RUNS.glob("version_*/predictions.csv")
    predicted = [int(line.split(",")[1]) for line in table.read_text().splitlines()[1:]]
    assert predicted == predictions(network(folder / "edited.ckpt"), images).tolist()
    _, patched = run("validate", trained, patch)
    _, edited = run("validate", folder / "edited.ckpt")
    assert patched["val_error"] == edited["val_error"]


def test_several_images_and_views_are_edited_together(trained: Path) -> None:
    images, _ = digits()
    before = predictions(network(trained), images)
    positions = [int((before == label).nonzero()[0]) for label in (2, 4)]
    options = [f"--edit.images={positions}", "--edit.labels=[6, 6]", LENIENT]
    alone, metrics = run("edit", trained, *options)
    assert predictions(network(alone / "edited.ckpt"), images)[positions].tolist() == [6, 6]
    assert metrics["edit_num_images"] == 2
    with_views, wider = run("edit", trained, *options, "--evaluation.edited_views=8")
    assert predictions(network(with_views / "edited.ckpt"), images)[positions].tolist() == [6, 6]
    assert wider["edit_generality"] > metrics["edit_generality"], "views that were not edited follow those that were"
    assert wider["edit_generality_before"] == metrics["edit_generality_before"], "they are the same views"


def test_every_nth_test_image(trained: Path) -> None:
    images, labels = digits()
    before = predictions(network(trained), images)
    label = int((before[0] + 1) % 10)
    options = ["--edit.images=0", f"--edit.labels={label}", LENIENT, "--evaluation.image_stride=7"]
    folder, metrics = run("edit", trained, *options, "--data.batch_size=50")
    edited = predictions(network(folder / "edited.ckpt"), images)
    assert metrics["edit_num_scoring_images"] == len(labels[7::7])
    assert metrics["edit_error"] == pytest.approx((edited != labels)[7::7].float().mean().item(), abs=1e-6)
    assert metrics["edit_error_before"] == pytest.approx((before != labels)[7::7].float().mean().item(), abs=1e-6)


def test_two_processes_share_the_test_images(trained: Path, edited_11: Edited) -> None:
    """The same figures and the same patch as by one process, and the command ends as it should."""
    options = ["--edit.images=11", f"--edit.labels={edited_11.asked}", LENIENT]
    one, expected = edited_11.here / edited_11.folder, edited_11.metrics
    arguments = edit(trained, *options, "--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp")
    ended = subprocess.run([sys.executable, TRAIN, *arguments], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    (two,) = RUNS.glob("version_*")
    metrics = json.loads((two / "metrics.json").read_text())
    edited = {name for name in expected if name.startswith("edit_")}
    assert {name: metrics[name] for name in edited} == pytest.approx({name: expected[name] for name in edited})
    patches = [EditPatch.load(folder / "edit.safetensors") for folder in (one, two)]
    assert patches[0].edited == patches[1].edited


def edit(trained: Path, *options: str) -> list[str]:
    return ["edit", f"--config={CONFIG}", *QUIET, f"--ckpt_path={trained}", *options]


def test_an_edit_that_costs_too_much_is_measured_and_not_kept(trained: Path, capsys: pytest.CaptureFixture) -> None:
    label = int((predictions(network(trained), digits()[0])[11] + 1) % 10)
    options = ["--edit.images=11", f"--edit.labels={label}", "--edit.max_drawdown=-1"]
    line = error_line(edit(trained, *options), capsys)
    assert "points where edit.max_drawdown allows -100, and was not kept" in line
    (folder,) = RUNS.glob("version_*")
    assert json.loads((folder / "metrics.json").read_text())["edit_num_images"] == 1
    assert "was not kept" in (folder / "report.md").read_text()
    assert not list(Path().rglob("*.safetensors"))
    assert not list(Path().rglob("edited.ckpt"))


MISTAKES = {
    "two labels": (
        ["--edit.images=[0,0]", "--edit.labels=[1,2]", "--evaluation.editor.max_steps=2"],
        "the images 000000 and 000000 are the same image, but 1 and 2 were asked for",
    ),
    "few steps": (
        ["--edit.images=[0,1]", "--edit.labels=[2,2]", "--evaluation.editor.max_steps=0"],
        "the editor made no step: allow more steps",
    ),
    "label": (["--edit.images=0", "--edit.labels=cat"], "'cat' is none of the 10 classes"),
    "position": (["--edit.images=1000"], "there is no test image 1000: positions are 0 … 358"),
    "folder": (
        ["--edit.images=folder", "--edit.labels=1"],
        "'folder' is a folder: name the images in it that are meant",
    ),
    "file": (["--edit.images=nowhere.png", "--edit.labels=1"], "there is no image at 'nowhere.png'"),
    "patch": (["--edit.images=0", "--patches=nowhere.safetensors"], "there is no edit patch at 'nowhere.safetensors'"),
    "views": (["--edit.images=0", "--evaluation.edited_views=-1"], "edited_views must be at least 0, got -1"),
    "layers": (["--edit.images=0", "--evaluation.editable_layers=[layer9]"], "layer9"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_ends_in_one_clear_sentence(
    options: list[str], expected: str, trained: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("folder").mkdir()
    assert expected in error_line(edit(trained, *options), capsys)
    assert not list(Path().rglob("metrics.json"))


def test_nothing_to_edit_and_a_foreign_patch(trained: Path, capsys: pytest.CaptureFixture) -> None:
    images, labels = digits()
    right = int((predictions(network(trained), images) == labels).nonzero()[0])
    assert "there is nothing to edit" in error_line(edit(trained, f"--edit.images={right}"), capsys)
    EditPatch.of(nn.Linear(2, 2), {"bias": torch.ones(2)}).save("foreign.safetensors")
    line = error_line(edit(trained, "--edit.images=0", "--patches=foreign.safetensors"), capsys)
    assert "the patch 'foreign.safetensors' was made for other weights" in line


@pytest.mark.parametrize("option", ["--trainer.fast_dev_run=true", "--trainer.logger=false"])
@pytest.mark.filterwarnings(NOT_KEPT)
def test_files_of_others_in_the_current_folder_are_kept(
    option: str, trained: Path, capsys: pytest.CaptureFixture
) -> None:
    label = int((predictions(network(trained), digits()[0])[11] + 1) % 10)
    options = [*edit(trained, "--edit.images=11", f"--edit.labels={label}", LENIENT), option]
    others = ("edit.safetensors", "edited.ckpt", "edit_outcome.pt")
    for name in others:
        Path(name).write_text("somebody's")
    main(options)
    assert "Report and figures" not in capsys.readouterr().out
    assert sorted(path.name for path in Path().iterdir()) == sorted(others)
    assert all(Path(name).read_text() == "somebody's" for name in others)
