"""The editor that is chosen by harm: the right one, by images that tell nothing else; and mistakes."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from editable.callbacks.edit import ImageEditOutcome
from editable.callbacks.edit.choosing import ImagesThatChose
from editable.callbacks.run.outcome_file import read_outcome
from editable.calls.judge import halves
from editable.cli import main
from editable.editing import EditPatch
from tests.callbacks.edit.commands import CONFIG, LENIENT, QUIET, RUNS, digits, network, predictions, run
from tests.mistakes import error_line
from tests.warned import TAKES_THE_PLACE

AUTO = "--edit.editor=auto"
HARMFUL = [  # far too large steps on all layers: the edit succeeds, and little else is left
    "--evaluation.editor=Editor",
    "--evaluation.editor.rule=GD",
    "--evaluation.editor.rule.learning_rate=30",
    "--evaluation.editable_layers=[fc]",
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked(trained: Path, image: int) -> list[str]:
    label = int((predictions(network(trained), digits()[0])[image] + 1) % 10)
    return [f"--edit.images={image}", f"--edit.labels={label}"]


@pytest.mark.filterwarnings(TAKES_THE_PLACE)
def test_the_least_harmful_is_taken_and_what_chose_it_tells_nothing(
    trained: Path, capsys: pytest.CaptureFixture
) -> None:
    images, labels = digits()
    folder, metrics = run("edit", trained, *asked(trained, 11), AUTO, LENIENT, *HARMFUL)
    outcome = read_outcome(folder / "edit_outcome.pt", ImageEditOutcome)
    choice = outcome.choice
    assert choice is not None
    chose = [image for image in halves(len(images), True, 0)[0].tolist() if image != 11]
    before = predictions(network(trained), images)
    after = predictions(network(folder / "edited.ckpt"), images)
    own = choice.tried[-1]
    assert own.title == "Editor(GD 30) at fc"
    assert own.success
    harms = [one.harm for one in choice.tried if one.harm is not None]
    taken = choice.tried[choice.chosen].harm
    assert taken is not None
    assert {harm.num_images for harm in harms} == {len(chose)}
    assert taken.error_after == min(harm.error_after for harm in harms) < own.harm.error_after
    assert taken.error_after == pytest.approx((after[chose] != labels[chose]).double().mean().item())
    told = [image for image in range(len(images)) if image != 11 and image not in chose]
    assert metrics["edit_num_scoring_images"] == len(told)
    assert metrics["edit_error_before"] == pytest.approx((before[told] != labels[told]).double().mean().item())
    assert metrics["edit_error"] == pytest.approx((after[told] != labels[told]).double().mean().item())
    broken = ((before[told] == labels[told]) & (after[told] != labels[told])).sum().item()
    assert metrics["edit_num_broken"] == broken
    patch = EditPatch.load(folder / "edit.safetensors")
    assert patch.record.harm.images == len(told)
    assert "have not chosen the editor" in patch.record.measured_on
    title = choice.tried[choice.chosen].title
    assert f" by {title}" in capsys.readouterr().out
    words = (folder / "report.md").read_text()
    assert f"Of {len(choice.tried)} editors" in words
    assert "Editor(GD 30) at fc" in words
    again, same = rerun(folder)
    assert same == {name: value for name, value in metrics.items() if name.startswith("edit_")}
    assert EditPatch.load(again / "edit.safetensors").record.made_by == patch.record.made_by


def rerun(folder: Path) -> tuple[Path, dict[str, float]]:
    """Run a saved configuration; return the folder and the edit's metrics."""
    Path("saved.yaml").write_text((folder / "config.yaml").read_text())
    assert yaml.safe_load(Path("saved.yaml").read_text())["edit"]["editor"] == "auto"
    main(["edit", "--config=saved.yaml"])
    (again,) = set(RUNS.glob("version_*")) - {folder}
    metrics = json.loads((again / "metrics.json").read_text())
    return again, {name: value for name, value in metrics.items() if name.startswith("edit_")}


@pytest.mark.filterwarnings(TAKES_THE_PLACE)
def test_one_after_the_other_by_the_one_that_keeps_most(trained: Path) -> None:
    """All of three mistakes hold; and one of them is dropped, made again by the editor that was chosen."""
    images, labels = digits()
    before = predictions(network(trained), images)
    wrong = (before != labels).nonzero().flatten().tolist()[:3]
    lines = [f"{image},{int(labels[image])}" for image in wrong]
    Path("fixes.csv").write_text("\n".join(["image,label", *lines]))
    folder, metrics = run("edit", trained, "--edit.table=fixes.csv", "--edit.mode=stream", AUTO, LENIENT)
    choice = read_outcome(folder / "edit_outcome.pt", ImageEditOutcome).choice
    assert choice is not None
    most = max(one.num_right for one in choice.tried)
    taken = choice.tried[choice.chosen]
    assert taken.num_right == most == metrics["edit_num_holding"] == 3
    assert taken.harm.error_after == min(
        one.harm.error_after for one in choice.tried if one.harm is not None and one.num_right == most
    )
    patch = EditPatch.load(folder / "edit.safetensors")
    main(["patches", "drop", "2", str(folder / "edit.safetensors"), f"--weights={trained}", "--out=without"])
    (left,) = Path("without").glob("*.safetensors")
    fewer = EditPatch.load(left)
    assert [edit.labels for edit in fewer.edits] == [[int(labels[image])] for image in (wrong[0], wrong[2])]
    assert fewer.record.made_by == patch.record.made_by


def test_images_that_chose_are_found_wherever_they_are():
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    chose = ImagesThatChose()
    assert not chose(images).any()
    chose.add(images[2:4])
    chose.add(images[:1])
    assert chose(torch.cat([images, images[2:3]])).tolist() == [True, False, True, True, False, False, True]


BAD = [
    (["--edit.editor=best"], "best"),
    (["--edit.editor=MinimalHarmEditor"], "MinimalHarmEditor"),
    (["--edit.editor=Auto"], "Auto"),
    ([AUTO, "--edit.seed=-1"], "seed must be at least 0"),
    ([AUTO, "--edit.seed=x"], "seed"),
    ([AUTO, "--trainer.precision=bf16-true"], "edit.editor auto looks at a network in float32"),
    ([AUTO, "--evaluation.editable_layers=[layer9]"], "layer9"),
    ([AUTO, "--trainer.inference_mode=true"], "an edit needs gradients"),
    ([AUTO, "--edit.labels=12"], "12"),
    ([AUTO, "--edit.table=fixes.csv"], "give one of the two"),
    ([AUTO, "--edit.mode=streem"], "streem"),
    ([AUTO, "--edit.labels=here"], "'here' is none of the 10 classes"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_mistakes_end_in_one_sentence(trained: Path, options: list[str], message: str, capsys: pytest.CaptureFixture):
    line = error_line(
        ["edit", f"--config={CONFIG}", *QUIET, f"--ckpt_path={trained}", "--edit.images=0", *options], capsys
    )
    assert message in line
    assert not list(Path().rglob("*.safetensors"))


def test_nothing_to_edit_is_said_before_any_editor_is_tried(trained: Path, capsys: pytest.CaptureFixture):
    images, labels = digits()
    right = int((predictions(network(trained), images) == labels).nonzero()[0])
    options = ["edit", f"--config={CONFIG}", *QUIET, f"--ckpt_path={trained}", f"--edit.images={right}", AUTO]
    assert "there is nothing to edit" in error_line(options, capsys)
