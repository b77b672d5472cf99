"""What cannot be taken out of the middle is made again by its own run, from what was asked."""

import json
from pathlib import Path

import pytest
import yaml

from editable.cli import main
from editable.editing import EditPatch
from editable.editing.patches.correction_log import read_log
from editable.models import fingerprint
from editable.patches_command.again import _own_place
from tests.callbacks.edit.commands import CONFIG, LENIENT, QUIET, digits, network, predictions, run
from tests.command_line.parsing import parsed
from tests.warned import TAKES_THE_PLACE

CODEBOOK = [
    "--evaluation.editor=CodebookEditor",
    "--evaluation.editor.num_references=100",
    "--evaluation.editor.threshold=0.99",
]
STREAM = [f"--config={CONFIG}", *QUIET[:3], "--evaluation.generality_views=0", "--evaluation.edited_views=0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network, trained for two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    options = [f"--trainer.default_root_dir={folder}", "--trainer.logger=false", "--trainer.max_epochs=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", f"--config={CONFIG}", *QUIET, *options, "--model.optimizer.lr=0.01", "--evaluation.num_edits=0"])
    (path,) = folder.rglob("last.ckpt")
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked(trained: Path, image: int) -> int:
    return int((predictions(network(trained), digits()[0])[image] + 1) % 10)


@pytest.mark.slow
def test_an_edit_of_the_same_layers_is_made_again_without_the_dropped_one(
    trained: Path, capsys: pytest.CaptureFixture
) -> None:
    images, files = (3, 11), []
    for image in images:
        options = [f"--edit.images={image}", f"--edit.labels={asked(trained, image)}", LENIENT]
        folder, _ = run("edit", trained, *options, *(["--patches", *files] if files else []))
        files.append(str(folder / "edit.safetensors"))
    first, second = map(EditPatch.load, files)
    assert second.base == first.edited
    assert second.record.labels == [asked(trained, 11)]
    capsys.readouterr()
    main(["patches", "drop", "1", *files, "--weights", str(trained), "--out", "left"])
    out = capsys.readouterr().out
    assert f"made again from what was asked: {files[1]}, as it changes tensors that have changed" in out
    (left,) = Path("left").iterdir()
    patch, plain = EditPatch.load(left), network(trained)
    assert patch.base == first.base
    assert patch.record.asked == second.record.asked
    with patch.applied(plain):
        assert predictions(plain, digits()[0])[11] == asked(trained, 11)
    log = read_log(Path("runs/corrections") / f"{first.base}.jsonl")
    assert [line["images"] for line in log] == [["000003"], ["000011"], ["000011"]]
    assert [line["network"] for line in log] == [first.base] * 3
    assert [line["before"] for line in log] == [first.base, first.edited, first.base]
    assert log[0]["patch"] == files[0]
    assert log[0]["harm"]["images"] == len(digits()[1]) - 1


LOGGER = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "runs", "version": "e2"}}


@pytest.mark.filterwarnings(TAKES_THE_PLACE)
@pytest.mark.parametrize("several", [False, True])
def test_a_run_is_made_again_in_another_version(several: bool) -> None:
    Path("run.yaml").write_text(
        yaml.safe_dump({"trainer": {"logger": [LOGGER, LOGGER] if several else LOGGER}, "edit": {"images": [3]}})
    )
    asked = parsed("edit", "--config=run.yaml", *_own_place("run.yaml", "edit")).trainer.logger
    for logger in asked if several else [asked]:
        assert logger.class_path == LOGGER["class_path"]
        assert (logger.init_args.save_dir, logger.init_args.version) == ("runs", None)


@pytest.mark.parametrize("log", [True, False, "logs"])
def test_a_run_without_a_logger_is_made_again_in_a_folder_of_its_own(log: bool | str) -> None:
    trainer = {"logger": False, "default_root_dir": "run"}
    Path("run.yaml").write_text(yaml.safe_dump({"trainer": trainer, "edit": {"images": [3], "log": log}}))
    for number in (1, 2):
        asked = parsed("edit", "--config=run.yaml", *_own_place("run.yaml", "edit"))
        assert asked.trainer.default_root_dir == f"run/again_{number}"
        assert asked.edit.log == ("run/corrections" if log is True else log)
        Path(asked.trainer.default_root_dir).mkdir(parents=True)


@pytest.mark.slow
def test_a_run_of_a_version_of_ones_own_is_made_again(trained: Path) -> None:
    files: list[str] = []
    for image, version in ((3, "e1"), (11, "e2")):
        options = [f"--edit.images={image}", f"--edit.labels={asked(trained, image)}", LENIENT]
        options.append(f"--trainer.logger.version={version}")
        there = {*Path().rglob("edit.safetensors")}
        main(["edit", f"--config={CONFIG}", *QUIET, f"--ckpt_path={trained}", *options, "--patches", *files])
        files += map(str, {*Path().rglob("edit.safetensors")} - there)
    main(["patches", "drop", "1", *files, "--weights", str(trained), "--out", "left"])
    patch = EditPatch.load("left/1.safetensors")
    assert patch.base == EditPatch.load(files[0]).base
    assert Path(patch.record.config or "").is_file()
    (log,) = Path().rglob("corrections")
    assert len(read_log(log / f"{patch.base}.jsonl")) == 3


@pytest.mark.slow
def test_what_is_left_is_kept_whatever_its_harm(trained: Path, capsys: pytest.CaptureFixture) -> None:
    """Else an edit could not be taken back where those that are left break more than all of them did."""
    labels = [asked(trained, image) for image in (3, 11)]
    folder, _ = run("edit", trained, "--edit.images=[3,11]", f"--edit.labels={labels}", "--edit.mode=stream", LENIENT)
    config = folder / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["edit"]["max_drawdown"] = -1.0  # less than whatever is left
    config.write_text(yaml.safe_dump(content))
    main(["patches", "drop", "1", str(folder / "edit.safetensors"), "--weights", str(trained), "--out", "left"])
    (left,) = Path("left").glob("*.safetensors")
    assert EditPatch.load(left).record.labels == labels[1:]
    assert "errors on" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings(TAKES_THE_PLACE)
def test_codebooks_by_edit_and_patches_in_a_test(trained: Path, capsys: pytest.CaptureFixture) -> None:
    """What no patch could hold: two edits by rows, one on the other, tested, and the first one dropped exactly."""
    files = []
    for image in (3, 11):
        options = [f"--edit.images={image}", f"--edit.labels={asked(trained, image)}", LENIENT, *CODEBOOK]
        folder, _ = run("edit", trained, *options, *(["--patches", *files] if files else []))
        files.append(str(folder / "edit.safetensors"))
    images, labels = digits()
    plain = network(trained)
    before = predictions(plain, images)
    for file in files:
        EditPatch.load(file).apply_(plain)
    both = predictions(plain.eval(), images)
    assert both[[3, 11]].tolist() == [asked(trained, 3), asked(trained, 11)]
    _, metrics = run("test", trained, "--evaluation.num_edits=0", "--patches", *files)
    assert metrics["test_error"] == pytest.approx((both != labels).float().mean().item(), abs=1e-6)
    main(["patches", "drop", "1", *files, "--weights", str(trained), "--out", "left"])
    assert "on other weights" in capsys.readouterr().out
    one = network(trained)
    EditPatch.load("left/1.safetensors").apply_(one)
    assert predictions(one.eval(), images)[[3, 11]].tolist() == [before[3], asked(trained, 11)]
    key = plain.codebook.match.weight
    assert (one.codebook.match.weight == key[[0, 2]]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings(TAKES_THE_PLACE)
@pytest.mark.parametrize("editor", ["codebook", "minimal harm"])
def test_a_stream_leaves_a_patch_of_which_an_edit_can_be_dropped(
    editor: str, trained: Path, capsys: pytest.CaptureFixture
) -> None:
    options = CODEBOOK
    if editor == "minimal harm":
        options = ["--evaluation.editor=MinimalHarmEditor", "--evaluation.editor.num_references=100"]
        options.append("--evaluation.editable_layers=[fc]")
    main(["stream", *STREAM, f"--ckpt_path={trained}", "--stream.num_edits=5", *options])
    (folder,) = Path("runs/digits/baseline").glob("version_*")
    patch, plain = EditPatch.load(folder / "corrections.safetensors"), network(trained)
    assert len(patch.edits) == 5
    base = fingerprint(plain.state_dict())
    assert patch.base == base
    patch.apply_(plain)
    positions = [int(edit.images[0]) for edit in patch.edits]
    labels = [edit.labels[0] for edit in patch.edits]
    assert predictions(plain.eval(), digits()[0])[positions].tolist() == labels
    assert patch.edits[-1].harm is not None
    assert json.loads((folder / "metrics.json").read_text())["stream_num_edits"] == 5
    main(["patches", "drop", "3", str(folder / "corrections.safetensors"), "--weights", str(trained), "--out", "left"])
    out = capsys.readouterr().out
    fewer, left = network(trained), EditPatch.load("left/1.safetensors")
    left.apply_(fewer)
    found = predictions(fewer.eval(), digits()[0])
    assert [edit.images for edit in left.edits] == [edit.images for edit in patch.edits if edit is not patch.edits[2]]
    rest = [place for place in range(5) if place != 2]
    assert found[[positions[place] for place in rest]].tolist() == [labels[place] for place in rest]
    if editor == "codebook":
        assert "without the edit" in out
        assert (fewer.codebook.match.weight == plain.codebook.match.weight[[0, 1, 2, 4, 5]]).all()
    else:
        assert "made again from what was asked" in out
        assert "as the edit has no rows of its own" in out
