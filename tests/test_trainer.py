"""The subcommands that Lightning lacks, as a user meets them."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn

from editable.callbacks import DrawdownEvaluation, NetworkExport, RunReport
from editable.cli import main
from editable.data import DigitsDataModule
from editable.editing import Editor, RMSProp
from editable.errors import UserError
from editable.models import cifar_resnet
from editable.tasks import ClassificationTask
from editable.trainer import EditableTrainer
from tests.mistakes import error_line
from tests.models.machine.test_full_precision import EXACT, flags
from tests.test_cli import DIGITS, QUIET, ROOT, last_run
from tests.warned import TAKES_THE_PLACE

BASELINE = str(ROOT / "configs" / "digits" / "baseline.yaml")
SMALL = [*QUIET, "--model.network.width=4"]
SEARCH = [
    f"--config={DIGITS}",
    *SMALL,
    "--trainer.limit_val_batches=1",
    "--evaluation.image_stride=4",
    "--search.split=val",
    "--search.num_edits=4",
    "--search.lowest=1e-4",
    "--search.highest=1",
    "--search.per_decade=1",
    "--search.min_success=0.5",
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs log to ``runs/`` below the current folder."""
    monkeypatch.chdir(tmp_path)


def test_search_by_command_line_and_its_editor_in_a_test(capsys: pytest.CaptureFixture) -> None:
    main(["search", *SEARCH])
    run = last_run("digits/editable")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["search_num_rates"] == 5
    assert len((run / "search.csv").read_text().splitlines()) == 1 + 5
    assert metrics.keys() >= {"val_error", "search_learning_rate", "search_drawdown", "search_drawdown_half_width"}
    assert "drawdown" not in metrics  # the evaluation of reported edits did not run
    assert {"config.yaml", "report.md", "search.png", "search.json"} <= {path.name for path in run.iterdir()}
    shown = capsys.readouterr().out
    for words in ("learning rate", "success", f"{metrics['search_success_rate']:.1%}", str(run)):
        assert words in shown

    # A network of another task, tested with the editor found, and nothing else of the search.
    small = ["--evaluation.num_edits=2", "--evaluation.image_stride=40", "--trainer.limit_test_batches=1"]
    main(["test", f"--config={BASELINE}", f"--config={run / 'editor.yaml'}", *SMALL, *small])
    found = yaml.safe_load((run / "editor.yaml").read_text())["evaluation"]
    tested = yaml.safe_load((last_run("digits/baseline") / "config.yaml").read_text())["evaluation"]
    assert tested["editor"] == found["editor"]
    assert tested["editable_layers"] == found["editable_layers"] == ["layer3"]
    rule = found["editor"]["init_args"]["rule"]
    assert rule["class_path"] == "editable.editing.RMSProp"
    assert rule["init_args"]["learning_rate"] == pytest.approx(metrics["search_learning_rate"])

    # The configuration that the search has left starts it again, here with its finished rates.
    main(["search", f"--config={run / 'config.yaml'}", f"--search.resume={run}"])
    again = last_run("digits/editable")
    assert again != run
    for name in ("search.csv", "editor.yaml", "metrics.json"):
        assert (again / name).read_text() == (run / name).read_text(), name


def test_search_without_a_good_rate_leaves_its_table_and_fails(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["search", *SEARCH, "--search.lowest=1e-9", "--search.highest=1e-8", "--search.min_success=1"])
    assert exit_status.value.code == 2
    assert "no learning rate from 1e-09 to 1e-08" in capsys.readouterr().err.strip().splitlines()[-1]
    names = {path.name for path in last_run("digits/editable").iterdir()}
    assert {"search.csv", "search.png", "report.md", "metrics.json"} <= names
    assert "editor.yaml" not in names


def test_help_names_each_option(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    options = ["lowest", "highest", "per_decade", "num_edits", "min_success", "half_width", "split", "seed", "resume"]
    for option in (*(f"--search.{name} " for name in options), "--ckpt_path", "--evaluation.editor", "held-out"):
        assert option in shown


MISTAKES = {
    "grid upside down": (
        ["--search.lowest=1", "--search.highest=0.1"],
        "lowest must be at most highest, which is 0.1",
    ),
    "no edits": (["--search.num_edits=0"], "num_edits must be at least 1, got 0"),
    "more than all": (["--search.min_success=2"], "min_success must be in [0, 1], got 2.0"),
    "no such split": (["--search.split=train"], "train"),
    "too few test images": (["--search.split=test"], "search.split=val"),
    "too few validation images": (["--search.num_edits=1000"], "search.num_edits"),
    "nothing to resume": (["--search.resume=nowhere"], "no search in 'nowhere'"),
    "missing checkpoint": (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt"),
    "no editor": ([f"--config={BASELINE}", "--evaluation.editor=null"], "brings no editor"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.filterwarnings(TAKES_THE_PLACE)
def test_mistake_ends_in_one_clear_sentence(options: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["search", *SEARCH, *options])
    assert exit_status.value.code == 2
    last_line = capsys.readouterr().err.strip().splitlines()[-1]
    assert last_line.startswith("error: ")
    assert expected in last_line
    assert not list(Path("runs").rglob("metrics.json"))


def test_a_trainer_without_the_callback_is_a_user_error(tmp_path: Path) -> None:
    trainer = EditableTrainer(logger=False, callbacks=[RunReport()], default_root_dir=tmp_path, accelerator="cpu")
    with pytest.raises(UserError, match="no LearningRateSearch among its callbacks"):
        trainer.search(None)


@pytest.mark.parametrize("loop", ["fit", "validate", "test", "predict"])
def test_what_is_measured_is_measured_in_full_precision(loop: str, tmp_path: Path) -> None:
    inside, outside = [], []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, *_):
            outside.append(flags())

        def on_test_batch_start(self, trainer, *_):
            inside.append(flags())

        on_predict_batch_start = on_test_batch_start
        on_validation_batch_start = on_test_batch_start

    before = flags()
    settings = {"limit_train_batches": 1, "limit_val_batches": 1, "limit_test_batches": 1, "limit_predict_batches": 1}
    trainer = EditableTrainer(
        logger=False, default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, num_sanity_val_steps=0,
        callbacks=[Watch()], enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    getattr(trainer, loop)(ClassificationTask(cifar_resnet(10, 2, (1, 1, 1, 1), 1)), DigitsDataModule())
    assert flags() == before
    if loop == "fit":
        assert outside == [before]
    else:
        assert inside == [EXACT]


def test_edits_in_a_fit_are_of_the_averaged_weights_that_are_validated_and_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, data = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), DigitsDataModule()
    evaluation = DrawdownEvaluation(1, val_num_edits=1, editor=Editor(RMSProp(1e-3), 1), editable_layers=["1"])
    trainer = EditableTrainer(
        logger=False, default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, limit_train_batches=3,
        num_sanity_val_steps=0, callbacks=[EMAWeightAveraging(decay=0.999), evaluation], enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(ClassificationTask(network, optimizer=lambda params: torch.optim.SGD(params, lr=1.0)), data)
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=False)

    batches = data.val_dataloader()

    def error(entry: str) -> float:
        network.load_state_dict({name.removeprefix("network."): value for name, value in saved[entry].items()})
        images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        return (network.eval()(images).argmax(1) != labels).float().mean().item()

    assert error("state_dict") != error("current_model_state")
    assert trainer.callback_metrics["val_error"].item() == pytest.approx(error("state_dict"))
    assert trainer.callback_metrics["val_scoring_error"].item() == pytest.approx(error("state_dict"))


@pytest.mark.parametrize(
    ("command", "loop"),
    [("export", "test"), ("edit", "test"), ("search", "val"), ("test", "test"), ("predict", "predict")],
)
def test_no_batches_are_refused_and_leave_nothing(command: str, loop: str, capsys: pytest.CaptureFixture) -> None:
    options = {"edit": ["--edit.images=[3]", "--edit.labels=[1]"], "search": ["--search.split=val"]}.get(command, [])
    line = error_line([command, f"--config={BASELINE}", *SMALL, *options, f"--trainer.limit_{loop}_batches=0"], capsys)
    assert f"trainer.limit_{loop}_batches is 0" in line
    assert not list(Path().iterdir())


def test_a_study_without_images_is_told_so() -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = EditableTrainer(accelerator="cpu", default_root_dir="run", callbacks=[NetworkExport()], **quiet)
    task = ClassificationTask(cifar_resnet(width=2, layers=[1, 1, 1, 1], in_channels=1))
    with pytest.raises(UserError, match="export had no batch of images to test on"):
        trainer._run_subcommand(NetworkExport, task, dataloaders=[])
