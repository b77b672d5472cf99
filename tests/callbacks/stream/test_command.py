"""Streams by the command line: shipped configurations in miniature, corrected weights taken up again, and tables."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from editable.cli import main
from editable.editing import EditEvaluator, StreamEvaluator
from editable.errors import Interrupted
from editable.models import cifar_resnet, cifar_resnet18
from tests.callbacks.stream.streams import StopsBehind
from tests.paths import CONFIGS
from tests.test_cli import options_in_miniature
from tests.warned import TAKES_THE_PLACE

SHIPPED = {path.stem: path for path in sorted((CONFIGS / "cifar10").glob("stream_*.yaml"))}
CONFIG = f"--config={CONFIGS / 'digits' / 'baseline.yaml'}"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SMALL = [CONFIG, *QUIET, "--model.network.width=4", "--evaluation.editor=CodebookEditor", "--stream.num_edits=6"]
RUNS = Path("runs/digits/baseline")
NETWORK = ("num_classes=10", "width=4", "layers=[1,1,1,1]", "in_channels=1")

pytestmark = pytest.mark.filterwarnings(TAKES_THE_PLACE)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs log to ``runs/`` below the current folder."""
    monkeypatch.chdir(tmp_path)


def run(command: str, *options: str) -> tuple[Path, dict[str, float]]:
    """Run a command; return its folder and its metrics."""
    before = set(RUNS.glob("version_*"))
    main([command, *options])
    (folder,) = set(RUNS.glob("version_*")) - before
    path = folder / "metrics.json"
    return folder, json.loads(path.read_text()) if path.is_file() else {}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    save_file(cifar_resnet(10, 4, (1, 1, 1, 1), 1).state_dict(), tmp_path / "own.safetensors")
    return str(tmp_path / "own.safetensors")


def test_corrected_weights_are_taken_up_by_other_commands(weights, capsys):
    folder, metrics = run("stream", *SMALL, f"--model.weights={weights}")
    assert "Corrections by CodebookEditor" in capsys.readouterr().out
    assert metrics["stream_retention"] == 1
    assert "Corrections" in (folder / "report.md").read_text()
    grown = [
        *(CONFIG, *QUIET, "--evaluation.num_edits=0", f"--model.weights={folder / 'corrected.safetensors'}"),
        "--model.network=editable.models.add_codebook",
        "--model.network.network=editable.models.cifar_resnet",
        *(f"--model.network.network.{option}" for option in NETWORK),
    ]
    predicted, _ = run("predict", *grown)
    labels = [int(row["label"]) for row in read(predicted / "predictions.csv")]
    corrections = read(folder / "corrections.csv")
    assert [int(row["new_label"]) for row in corrections] == [labels[int(row["index"])] for row in corrections]
    _, tested = run("test", *grown)
    before = [int(row["old_label"]) for row in corrections]
    assert tested["test_error"] < metrics["test_error"] or before == [int(row["new_label"]) for row in corrections]
    # Corrections go on where they ended: the first ones are made already.
    again, further = run("stream", *grown, "--evaluation.editor=CodebookEditor", "--stream.num_edits=3")
    assert further["stream_retention"] == 1
    rows = [len(load_file(some / "corrected.safetensors")["codebook.thresholds"]) for some in (folder, again)]
    assert rows[1] == rows[0] + 3


def test_an_interrupted_stream_says_where_it_goes_on(weights, monkeypatch, capsys):
    options = [*SMALL, f"--model.weights={weights}"]
    stops = StopsBehind(2, "correct")
    with monkeypatch.context() as patch:
        patch.setattr(StreamEvaluator, "correct", lambda *arguments: stops(*arguments))
        with pytest.raises(SystemExit) as ended:
            main(["stream", *options])
    (killed,) = RUNS.glob("version_*")
    assert ended.value.code == Interrupted(signal.SIGTERM).status == 143
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence == f"interrupted by SIGTERM: go on with --stream.resume {killed}"
    resumed, metrics = run("stream", *options, f"--stream.resume={killed}")
    whole, expected = run("stream", *options)
    assert {name: value for name, value in metrics.items() if "seconds" not in name} == {
        name: value for name, value in expected.items() if "seconds" not in name
    }
    name = "corrected.safetensors"
    assert (resumed / name).read_bytes() == (whole / name).read_bytes()


def test_a_table_is_corrected_in_its_order(weights):
    Path("fixes.csv").write_text("image,label\n10,7\n000003,2\n11,0\n")
    table = ["--stream.edits=TableEdits", "--stream.edits.table=fixes.csv", f"--model.weights={weights}"]
    small = [option for option in SMALL if "num_edits" not in option]
    folder, metrics = run("stream", *small, *table)
    rows = read(folder / "corrections.csv")
    assert [(int(row["index"]), int(row["new_label"])) for row in rows] == [(10, 7), (3, 2), (11, 0)]
    assert metrics["stream_retention"] == 1
    folder, _ = run("stream", *small, *table, "--stream.num_edits=2")
    assert len(read(folder / "corrections.csv")) == 2
    _, tested = run(
        "test", CONFIG, *QUIET, "--model.network.width=4", *(some.replace("stream", "evaluation") for some in table)
    )
    assert tested["table_num_edits"] == 3
    assert "drawdown" not in tested


def test_a_search_holds_its_edits_out_of_a_table(monkeypatch):
    Path("fixes.csv").write_text("image,label\n" + "".join(f"{position},1\n" for position in range(0, 359, 2)))
    options = ["--evaluation.edits=TableEdits", "--evaluation.edits.table=fixes.csv", "--search.num_edits=3"]
    options += ["--search.lowest=1e-3", "--search.highest=1e-3", "--evaluation.image_stride=20"]
    seen: list[int] = []
    score = EditEvaluator.score
    monkeypatch.setattr(
        EditEvaluator, "score", lambda *args, **named: seen.extend(args[2].tolist()) or score(*args, **named)
    )
    run("search", CONFIG, *QUIET, "--model.network.width=4", "--search.min_success=0", *options)
    assert len(seen) == 3
    assert all(position % 2 for position in seen)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_runs(name, tmp_path):
    random = np.random.RandomState(0)
    for split, count in (("train", 12), ("test", 3)):
        for label in range(10):
            folder = tmp_path / "images" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.randint(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    torch.manual_seed(0)
    save_file(cifar_resnet18(width=4).state_dict(), tmp_path / "weights.safetensors")
    options = options_in_miniature(SHIPPED[name], tmp_path / "images", tmp_path / "weights.safetensors")
    main(["stream", f"--config={SHIPPED[name]}", *options, "--stream.num_edits=2"])
    (metrics,) = Path("runs").rglob("metrics.json")
    found = json.loads(metrics.read_text())
    assert found["stream_num_edits"] == 2
    assert found.keys() >= {"stream_error_before", "stream_error", "stream_broken", "stream_retention"}
