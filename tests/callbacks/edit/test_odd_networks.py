"""Edits and tests of networks as people have them, by the command line: they work, or end in one sentence."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from editable.cli import main
from editable.editing import EditEvaluator
from tests.callbacks.edit import odd_networks
from tests.callbacks.edit.commands import LENIENT, digits
from tests.mistakes import error_line
from tests.warned import BEING_TAKEN, ONE_AT_A_TIME, UNTRACED

QUIET = [
    "--data=DigitsDataModule",
    "--trainer.logger=CSVLogger",
    "--trainer.logger.save_dir=runs",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
    "--seed_everything=0",
]
EDITOR = [
    "--evaluation.editor=Editor",
    "--evaluation.editor.rule=RMSProp",
    "--evaluation.editor.rule.learning_rate=0.02",
    "--evaluation.editor.max_steps=50",
    "--evaluation.generality_views=0",
]

pytestmark = pytest.mark.filterwarnings(BEING_TAKEN, ONE_AT_A_TIME, UNTRACED)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arguments(command: str, network: str, *options: str) -> list[str]:
    made = f"--model.network=tests.callbacks.edit.odd_networks.{network}"
    return [command, "--model=ClassificationTask", made, *QUIET, *EDITOR, *options]


def run(command: str, network: str, *options: str) -> tuple[Path, dict[str, float]]:
    main(arguments(command, network, *options))
    folder = max(Path("runs").rglob("metrics.json"), key=lambda path: path.stat().st_mtime_ns).parent
    return folder, json.loads((folder / "metrics.json").read_text())


def asked(network: str) -> list[str]:
    """Image 11, and a label that it has not."""
    with torch.no_grad():
        output = getattr(odd_networks, network)()(digits()[0][11:12])
    label = (output[0] if isinstance(output, tuple) else output).argmax().item()
    return ["--edit.images=11", f"--edit.labels={(label + 1) % 10}", LENIENT, "--evaluation.editable_layers=[c]"]


@pytest.mark.parametrize("network", ["TwoHeads", "Branching", "Shared"])
def test_an_edit_and_its_checkpoint(network: str) -> None:
    folder, metrics = run("edit", network, *asked(network))
    assert metrics["edit_num_steps"] > 0
    by_patch = run("test", network, "--evaluation.num_edits=0", f"--patches={folder / 'edit.safetensors'}")[1]
    by_checkpoint = run("test", network, "--evaluation.num_edits=0", f"--ckpt_path={folder / 'edited.ckpt'}")[1]
    assert by_patch == by_checkpoint
    count = metrics["edit_num_scoring_images"] + metrics["edit_num_edited_test_images"]
    errors_before, errors = (metrics["test_error"] * count, by_patch["test_error"] * count)
    assert metrics["edit_drawdown_with_edited"] == pytest.approx((errors - errors_before) / count, abs=1e-6)


@pytest.mark.parametrize("network", ["TwoHeads", "Branching"])
def test_edits_of_a_test(network: str) -> None:
    _, metrics = run("test", network, "--evaluation.num_edits=4", "--evaluation.editable_layers=[c]")
    assert metrics["num_edits"] == 4
    assert metrics["success_rate"] > 0


def test_in_bfloat16() -> None:
    folder, metrics = run("edit", "Plain", *asked("Plain"), "--trainer.precision=bf16-true")
    assert metrics["edit_num_images"] == 1
    assert (folder / "edit.png").is_file()


def test_a_tie_is_no_success(capsys: pytest.CaptureFixture) -> None:
    options = ["--edit.images=11", "--edit.labels=3", LENIENT]
    line = error_line(arguments("edit", "zero_head", *options, "--evaluation.editable_layers=[c]"), capsys)
    assert "no gradient of what is asked reaches the editable layers" in line
    _, metrics = run("edit", "zero_head", *options, "--evaluation.editable_layers=[fc]")
    assert metrics["edit_num_steps"] >= 1
    _, published = run("test", "zero_head", "--evaluation.num_edits=2", "--evaluation.editable_layers=[fc]")
    assert (published["success_rate"], published["num_steps"]) == (1, 0), "by the published rule a tie is enough"


def test_other_shapes(capsys: pytest.CaptureFixture) -> None:
    layers = ["--evaluation.editable_layers=[c]", "--evaluation.num_edits=0"]
    for command, options in (("test", []), ("edit", ["--edit.images=11", "--edit.labels=3"])):
        line = error_line(arguments(command, "Scores", *options, *layers), capsys)
        assert "but a classifier's logits are" in line


@pytest.mark.parametrize("network", ["TwoHeads", "BranchingTwoHeads"])
def test_what_is_taken_is_said_once(
    network: str, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where somebody touches the filters in between, as `warnings.catch_warnings` does on its way in and out."""
    warnings.simplefilter("default")
    measure_base, make = EditEvaluator.measure_base, EditEvaluator._make

    def touched(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "nothing of the kind")
            return function(*given, **named)

        return wrapped

    monkeypatch.setattr(EditEvaluator, "measure_base", touched(measure_base))
    monkeypatch.setattr(EditEvaluator, "_make", touched(make))
    run("test", network, "--evaluation.num_edits=4", "--evaluation.editable_layers=[c]")
    said = [str(warning.message) for warning in recwarn if network in str(warning.message)]
    assert sum("returns a tuple: its element 0, of 2, is taken for the logits" in sentence for sentence in said) == 1
    assert len(said) == len(set(said))
