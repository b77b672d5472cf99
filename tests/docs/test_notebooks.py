"""The notebooks run from top to bottom, as they stand, on fewer epochs; what they show was made by them."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest
import torch

from tests.paths import DOCS
from tests.warned import ARRAY_WRAP

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_there_are_two():
    assert len(NOTEBOOKS) == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings(ARRAY_WRAP)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    torch.manual_seed(0)
    names: dict[str, object] = {}
    for cell in cells(path):
        source = "".join(cell["source"]).replace("EPOCHS = 12", "EPOCHS = 4").replace("num_edits=30", "num_edits=3")
        exec(compile(source, str(path), "exec"), names)
    assert "harm:" in capsys.readouterr().out
    assert list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_outputs_are_kept_in_order_and_without_an_error(path: Path):
    counts = [cell["execution_count"] for cell in cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output["output_type"] for cell in cells(path) for output in cell["outputs"]}
    assert kinds == {"stream", "display_data"}
