import csv
import json
import math
import re
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger

from editable.callbacks import DrawdownEvaluation, RunReport, write_metrics
from editable.data import DigitsDataModule
from editable.editing import Editor, RMSProp
from editable.errors import UserError
from editable.models import cifar_resnet
from editable.tasks import ClassificationTask
from tests.paths import DOCS
from tests.quiet_trainer import quiet_trainer
from tests.tasks.reference import images_and_labels, loader, small_network


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small_task():
    return ClassificationTask(small_network(torch.float32))


def small_data():
    return loader(*images_and_labels(16, torch.float32))


@pytest.fixture(scope="module")
def digits_test(tmp_path_factory):
    """A test of an untrained network on digits with edits: the callback, what was returned, and the folder."""
    torch.manual_seed(0)
    network = cifar_resnet(width=2, layers=[1, 1, 1, 1], in_channels=1)
    evaluation = DrawdownEvaluation(
        6, editor=Editor(RMSProp(0.01), 3), editable_layers=["layer4"], image_stride=5, edits_at_once=2
    )
    folder = tmp_path_factory.mktemp("run")
    trainer = quiet_trainer(default_root_dir=folder, callbacks=[evaluation, RunReport()])
    (metrics,) = trainer.test(ClassificationTask(network), DigitsDataModule(), verbose=False)
    return evaluation, metrics, folder


def test_metrics_are_flat_numbers(digits_test):
    _, metrics, folder = digits_test
    written = json.loads((folder / "metrics.json").read_text())
    assert written.keys() == metrics.keys()
    assert {"test_error", "drawdown", "drawdown_absolute", "success_rate", "num_steps"} <= written.keys()
    for name, value in written.items():
        assert type(value) in (int, float)
        assert value == pytest.approx(metrics[name], rel=1e-6)
    assert written["num_edits"] == 6
    assert type(written["num_edits"]) is int


def test_every_metric_is_defined_in_the_documentation(digits_test):
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    defined = set(re.findall(r"`(\w+)`", page))
    assert digits_test[1].keys() <= defined


def test_report_has_every_metric_and_figures_that_exist(digits_test):
    _, metrics, folder = digits_test
    report = (folder / "report.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| ([-\d.e]+) \|$", report, re.MULTILINE))
    assert rows.keys() == metrics.keys()
    for name, value in rows.items():
        assert float(value) == pytest.approx(metrics[name], rel=1e-4, abs=1e-9)
    figures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", report)
    assert len(figures) == 3
    for figure in figures:
        assert (folder / figure).read_bytes().startswith(b"\x89PNG")
    links = re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", report)
    assert links == ["edits.csv"]


def test_table_of_edits_has_a_line_for_each(digits_test):
    evaluation, metrics, folder = digits_test
    with (folder / "edits.csv").open() as file:
        rows = list(csv.DictReader(file))
    result = evaluation.results["test"]
    assert [int(row["index"]) for row in rows] == result.index.tolist()
    assert [int(row["old_label"]) for row in rows] == result.old_label.tolist()
    assert [int(row["new_label"]) for row in rows] == result.new_label.tolist()
    assert sum(float(row["drawdown"]) for row in rows) / 6 == pytest.approx(metrics["drawdown"], abs=1e-7)
    assert sum(int(row["success"]) for row in rows) / 6 == pytest.approx(metrics["success_rate"])
    assert sum(int(row["num_steps"]) for row in rows) / 6 == pytest.approx(metrics["num_steps"])


def test_fit_leaves_metrics_and_report(make_trainer, tmp_path):
    trainer = make_trainer(callbacks=[RunReport()], max_epochs=2, num_sanity_val_steps=1)
    trainer.fit(small_task(), small_data(), small_data())
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"train_loss", "train_error", "val_loss", "val_error"} <= metrics.keys()
    assert metrics["val_error"] == pytest.approx(trainer.callback_metrics["val_error"].item())
    report = (tmp_path / "run" / "report.md").read_text()
    assert report.startswith("# ClassificationTask, Sequential\n")
    assert "val_error" in report


def test_validation_inside_a_fit_writes_nothing_yet(make_trainer, tmp_path):
    class Look(Callback):
        found: ClassVar[list] = []

        def on_train_epoch_end(self, trainer, pl_module):
            self.found.append((tmp_path / "run" / "metrics.json").exists())

    trainer = make_trainer(callbacks=[RunReport(), Look()], max_epochs=2, num_sanity_val_steps=1)
    trainer.fit(small_task(), small_data(), small_data())
    assert Look.found == [False, False]
    assert (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.parametrize("loop", ["validate", "test"])
def test_evaluation_leaves_metrics(make_trainer, tmp_path, loop):
    getattr(make_trainer(callbacks=[RunReport()]), loop)(small_task(), small_data(), verbose=False)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics.keys() == {f"{loop[:3] if loop == 'validate' else loop}_{name}" for name in ("loss", "error")}


def test_files_lie_in_the_log_folder(make_trainer, tmp_path):
    make_trainer(callbacks=[RunReport()], logger=CSVLogger(tmp_path, name="runs")).test(
        small_task(), small_data(), verbose=False
    )
    assert (tmp_path / "runs" / "version_0" / "metrics.json").exists()
    assert (tmp_path / "runs" / "version_0" / "report.md").exists()


def test_later_stages_of_the_same_run_may_write_again(make_trainer, tmp_path):
    trainer, task = make_trainer(callbacks=[RunReport()]), small_task()
    trainer.fit(task, small_data())
    trainer.test(task, small_data(), verbose=False)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()).keys() >= {"train_error", "test_error"}


@pytest.mark.parametrize("loop", ["fit", "validate", "test", "predict"])
def test_folder_of_another_run_is_refused_and_left_alone(make_trainer, tmp_path, loop):
    make_trainer(callbacks=[RunReport()]).fit(small_task(), small_data())
    before = contents(tmp_path)
    task = small_task()
    state = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    with pytest.raises(UserError, match="holds the metrics of another run, which would be overwritten") as error:
        getattr(make_trainer(callbacks=[RunReport()]), loop)(task, small_data())
    assert str(tmp_path / "run") in str(error.value)
    assert contents(tmp_path) == before
    torch.testing.assert_close(task.state_dict(), state, rtol=0, atol=0)


def test_fast_dev_run_leaves_nothing(make_trainer, tmp_path):
    make_trainer(callbacks=[RunReport()], fast_dev_run=True).fit(small_task(), small_data(), small_data())
    assert contents(tmp_path) == {}


def test_written_metrics_keep_seven_digits_and_whole_numbers(tmp_path):
    write_metrics(tmp_path / "metrics.json", {"third": 1 / 3, "count": 1000.0, "small": -1.25e-9})
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == {"third": 0.3333333, "count": 1000, "small": -1.25e-9}
    assert type(written["count"]) is int


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_run_still_leaves_its_metrics(tmp_path, value):
    write_metrics(tmp_path / "metrics.json", {"train_loss": value, "test_error": 0.9})
    written = (tmp_path / "metrics.json").read_text()
    assert json.loads(written) == {"train_loss": None, "test_error": 0.9}
    assert "NaN" not in written
    assert "Infinity" not in written
