"""Where a run's curves go, by configuration: TensorBoard, CSV, W&B without a network, MLflow in a file."""

import csv
import sqlite3
from pathlib import Path

import pytest

from editable.cli import main
from tests.test_cli import DIGITS, SMALL_DIGITS

RUN = Path("runs", "digits", "editable", "version_0")
OFTEN = [*SMALL_DIGITS, "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_csv_in_the_place_of_tensorboard():
    place = ["--trainer.logger.save_dir=runs", "--trainer.logger.name=digits/editable"]
    main(["fit", f"--config={DIGITS}", *OFTEN, "--trainer.logger=CSVLogger", *place])
    assert left(RUN) >= {"config.yaml", "metrics.json", "report.md", "checkpoints", "metrics.csv"}
    rows = list(csv.DictReader((RUN / "metrics.csv").open()))
    assert [row["step"] for row in rows if row["train_loss_step"]] == ["0", "1"]


def test_weights_and_biases_beside_tensorboard(monkeypatch: pytest.MonkeyPatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    offline = ["--trainer.logger.offline=true", "--trainer.logger.save_dir=runs", "--trainer.logger.project=editable"]
    main(["fit", f"--config={DIGITS}", *OFTEN, "--trainer.logger+=WandbLogger", *offline])
    wandb.finish()
    assert left(RUN) >= {"config.yaml", "metrics.json", "report.md", "checkpoints"}
    (kept,) = Path("runs", "wandb").glob("offline-run-*/run-*.wandb")
    assert b"train_loss_step" in kept.read_bytes()


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # MLflow and one of its own
def test_mlflow_beside_tensorboard():
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    there = ["--trainer.logger.tracking_uri=sqlite:///mlflow.db", "--trainer.logger.experiment_name=digits"]
    main(["fit", f"--config={DIGITS}", *OFTEN, "--trainer.logger+=MLFlowLogger", *there])
    assert left(RUN) >= {"config.yaml", "metrics.json", "report.md", "checkpoints"}
    with sqlite3.connect("mlflow.db") as database:
        steps = database.execute("select step from metrics where key = 'train_loss_step' order by step").fetchall()
    assert steps == [(0,), (1,)]
