"""Exports by the command line: what is left, what is told, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from editable.callbacks.export import NetworkExport, report
from editable.callbacks.export.outcome import ExportOutcome
from editable.callbacks.run.outcome_file import read_outcome
from editable.cli import main
from editable.errors import UserError
from editable.models.exporting import FORMATS
from tests.callbacks.edit.commands import QUIET, digits, network, predictions, run
from tests.callbacks.edit.conftest import Edited
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.warned import NOT_KEPT

CONFIG = CONFIGS / "digits" / "baseline.yaml"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_edited_network_on_its_own(trained: Path, edited_11: Edited):
    """With its patch, as weights of the same network; what they give is what the edited checkpoint gives."""
    patch = edited_11.here / edited_11.folder / "edit.safetensors"
    folder, metrics = run("export", trained, f"--patches={patch}")
    plain = network(trained)
    plain.load_state_dict(load_file(folder / "exported.safetensors"))
    images, labels = digits()
    found = predictions(plain, images)
    assert found[11] == edited_11.asked
    assert found.equal(predictions(network(edited_11.here / edited_11.folder / "edited.ckpt"), images))
    assert metrics["export_num_differing"] == 0
    assert metrics["export_difference"] == 0
    assert metrics["export_num_images"] == len(labels)
    assert metrics["export_error"] == pytest.approx(float((found != labels).double().mean()))
    assert metrics["export_bytes"] == (folder / "exported.safetensors").stat().st_size
    outcome = read_outcome(folder / "export_outcome.pt", ExportOutcome)
    assert report.write(outcome, folder)[0] in (folder / "report.md").read_text()
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_graph_at_a_place_of_ones_own(trained: Path):
    Path("served").mkdir()
    run("export", trained, "--export.format=torch_export", "--export.file=served/digits.pt2")
    images, _ = digits()
    graph = torch.export.load("served/digits.pt2").module()
    with torch.no_grad():
        assert graph(images).argmax(dim=1).equal(predictions(network(trained), images))
    assert [path.name for path in Path("served").iterdir()] == ["digits.pt2"]


def test_a_file_that_computes_something_else_is_not_left(
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    form, load = FORMATS["safetensors"], type(FORMATS["safetensors"]).load
    monkeypatch.setattr(type(form), "load", lambda *given: lambda images: load(*given)(images).flip(1))
    line = error_line(["export", f"--config={CONFIG}", *QUIET, f"--ckpt_path={trained}"], capsys)
    assert "computes other logits than itself" in line
    assert "nothing was left" in line
    assert not list(Path("runs").rglob("*.safetensors"))
    assert "nothing was left" in next(Path("runs").rglob("report.md")).read_text()


@pytest.mark.filterwarnings(NOT_KEPT)
def test_a_file_that_would_go_is_refused(capsys: pytest.CaptureFixture):
    options = ["export", f"--config={CONFIG}", *QUIET, "--trainer.logger=false"]
    assert "give export.file" in error_line(options, capsys)
    main([*options, "--export.file=own.safetensors"])
    assert [path.name for path in Path().iterdir()] == ["own.safetensors"]


SUFFIXES = {
    "state_dict": (".pt", ".pth", ".ckpt", ".PT"),
    "safetensors": (".safetensors",),
    "torch_export": (".pt2",),
    "onnx": (".onnx",),
}


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_suffix_of_another_format_is_refused(form):
    """A reader would take the file for something that it is not; a suffix of none is anybody's."""
    for other, suffixes in SUFFIXES.items():
        for name in (f"network{suffix}" for suffix in suffixes):
            if other == form:
                assert NetworkExport(form, name).file == Path(name)
                continue
            with pytest.raises(UserError, match=f"'{name}', whose suffix says {other}, but export.format is {form}: "):
                NetworkExport(form, name)
    for name in ("network", "network.bin"):
        assert NetworkExport(form, name).file == Path(name)


BAD = [
    (["--export.format=pickle"], "pickle"),
    (["--export.format"], "export.format"),
    (["--export.file=nowhere/some.safetensors"], "there is no folder 'nowhere'"),
    (["--export.file=there.bin"], "'there.bin' is there already and would be overwritten"),
    (["--export.file=."], "is there already"),
    (["--export.file=some.pt"], "export.format is safetensors: name the file ….safetensors, or set export.format to"),
    (["--export.fole=some.pt"], "fole"),
    (["--patches=none.safetensors"], "there is no edit patch at 'none.safetensors'"),
    (["--ckpt_path=none.ckpt"], "none.ckpt"),
    (["--trainer.precision=bf16-true"], "bf16-true"),
    (["--model.network.width=8"], "width|shape|size"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_mistakes_end_in_one_sentence(
    trained: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture,
):
    Path("there.bin").write_text("mine")
    line = error_line(["export", f"--config={CONFIG}", *QUIET, f"--ckpt_path={trained}", *options], capsys)
    assert any(some in line for some in message.split("|")), line
    assert Path("there.bin").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["there.bin"], "nothing is left"


def test_help(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = capsys.readouterr().out
    assert "--export.format" in shown
    assert "torch_export" in shown
