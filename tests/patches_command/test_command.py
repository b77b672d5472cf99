"""``python train.py patches``: shown, listed, verified, merged, freed of an edit; and mistakes in one sentence."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editable.cli import main
from editable.editing import EditPatch, EditRecord
from editable.models import Codebook, write_weights
from tests.editing.patches.kinds import copy_of, correct, made, network, record, same
from tests.mistakes import error_line

FILES = [f"{number}.safetensors" for number in range(1, 11)]


@pytest.fixture(scope="module")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten mistakes corrected, one on the other, each a file; and the weights."""
    folder, base = tmp_path_factory.mktemp("ten"), network()
    write_weights(folder / "weights.safetensors", base)
    torch.save({"state_dict": {f"network.{name}": some for name, some in base.state_dict().items()}}, folder / "a.ckpt")
    own = copy.deepcopy(base)
    for number, file in enumerate(FILES):
        furnished, params, _ = correct("codebook", own, number)
        patch = EditPatch.of(furnished, params, record(number))
        patch.save(folder / file)
        patch.apply_(own)
    return folder


@pytest.fixture(autouse=True)
def folder(made_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    for path in made_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def shown(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    main(["patches", *arguments])
    return capsys.readouterr().out


def test_each_edit_has_a_line_and_a_number(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = shown(["list", *FILES[:3]], capsys)
    for number in range(3):
        (line,) = [line for line in out.splitlines() if f"image {number}: a → b" in line]
        assert f" {number + 1} " in line
        assert FILES[number] in line
        assert "0 of 3 images broken, at most 63.16 % at a level of 95 %" in line


def test_all_that_a_patch_tells_is_shown(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out, patch = shown(["show", FILES[0]], capsys), EditPatch.load(FILES[0])
    for words in (
        patch.base,
        patch.edited,
        "codebook at 'the whole network'",
        "codebook.match.weight",
        "1 rows",
        "torch",
    ):
        assert words in out
    made("rank one").patch.save("one.safetensors")
    assert "rank 1 and rounding" in shown(["show", "one.safetensors"], capsys)


@pytest.mark.parametrize("weights", ["weights.safetensors", "a.ckpt"])
def test_a_stack_is_verified(weights: str, capsys: pytest.CaptureFixture) -> None:
    out = shown(["verify", *FILES, "--weights", weights], capsys)
    assert "10 patches with 10 edits: put in and taken out bit for bit" in out
    assert "each was made on the one before; --weights looks at every value" in shown(["verify", *FILES], capsys)


def test_one_of_several(capsys: pytest.CaptureFixture) -> None:
    assert "all.safetensors: 10 edits" in shown(
        ["merge", "all.safetensors", *FILES, "--weights", "weights.safetensors"], capsys
    )
    own, other = network(), network()
    for file in FILES:
        EditPatch.load(file).apply_(own)
    EditPatch.load("all.safetensors").apply_(other)
    assert same(other, copy_of(own))
    assert "10 edits: put in and taken out" in shown(
        ["verify", "all.safetensors", "--weights", "weights.safetensors"], capsys
    )


@pytest.mark.parametrize("files", [FILES, ["all.safetensors"]])
def test_one_of_the_middle_is_dropped_and_the_rest_is_bit_for_bit(
    files: list[str], capsys: pytest.CaptureFixture
) -> None:
    shown(["merge", "all.safetensors", *FILES, "--weights", "weights.safetensors"], capsys)
    out = shown(["drop", "5", *files, "--weights", "weights.safetensors", "--out", "left"], capsys)
    assert "dropped: edit 5, image 4: a → b" in out
    assert ("without the edit" in out) == (len(files) == 1)
    own, fewer = network(), network()
    for file in FILES:
        EditPatch.load(file).apply_(own)
    left = sorted(Path("left").iterdir(), key=lambda path: int(path.stem))
    assert len(left) == (9 if len(files) == 10 else 1)
    for path in left:
        EditPatch.load(path).apply_(fewer)
    for name, value in fewer.state_dict().items():
        expected = own.state_dict()[name]
        if name.removeprefix("codebook.") in Codebook.rows:
            expected = torch.cat([expected[:5], expected[6:]])
        assert torch.equal(value, expected), name
    shown(["verify", *map(str, left), "--weights", "weights.safetensors"], capsys)


def test_nothing_is_left_of_a_single_edit(capsys: pytest.CaptureFixture) -> None:
    out = shown(["drop", "1", FILES[0], "--weights", "a.ckpt", "--out", "left"], capsys)
    assert "no edit is left" in out
    assert list(Path("left").iterdir()) == []


W = ["--weights", "weights.safetensors"]
MISTAKES = {
    "nothing": ([], "patches: the following arguments are required"),
    "another word": (["shwo", "a"], "invalid choice: 'shwo'"),
    "no file": (["show"], "patches show: the following arguments are required: FILE"),
    "another option": (["list", FILES[0], "--weihgts", "a"], "unrecognized arguments: --weihgts"),
    "a missing file": (["show", "nowhere.safetensors"], "there is no edit patch at 'nowhere.safetensors'"),
    "a folder": (["show", "."], "'.' is a folder, but must be a file"),
    "weights for a patch": (
        ["list", "weights.safetensors"],
        "'weights.safetensors' is no edit patch that this",
    ),
    "twice": (["verify", FILES[0], FILES[0]], "'1.safetensors' is given twice"),
    "another order": (["verify", FILES[1], FILES[0]], "'1.safetensors' was not made on '2.safetensors'"),
    "one left out": (["verify", FILES[0], FILES[2]], "'3.safetensors' was not made on '1.safetensors'"),
    "other weights": (["verify", FILES[1], *W], "'weights.safetensors' has other weights than the patch was made for"),
    "no weights": (["merge", "out", FILES[0]], "the following arguments are required: --weights"),
    "missing weights": (["merge", "out", FILES[0], "--weights", "w.pt"], "there is no weights file at 'w.pt'"),
    "weights of text": (["merge", "out", FILES[0], "--weights", "w.txt"], "give a .safetensors, .pt, .pth or .ckpt"),
    "a taken place": (["merge", FILES[1], FILES[0], *W], "'2.safetensors' is there already and would be overwritten"),
    "no number": (["drop", "five", FILES[0], *W, "--out", "left"], "invalid int value: 'five'"),
    "edit 0": (["drop", "0", FILES[0], *W, "--out", "left"], "there is no edit 0: the patches have 1, numbered from 1"),
    "edit 11": (["drop", "11", *FILES, *W, "--out", "left"], "there is no edit 11: the patches have 10"),
    "no place": (["drop", "1", FILES[0], *W], "the following arguments are required: --out"),
    "a taken folder": (["drop", "1", FILES[0], *W, "--out", "."], "'.' is there already and would be overwritten"),
}


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_ends_in_one_sentence_and_nothing_is_written(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    Path("w.txt").write_text("text")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    assert sentence in error_line(["patches", *arguments], capsys)
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_a_damaged_file_is_named(capsys: pytest.CaptureFixture) -> None:
    content = bytearray(Path(FILES[0]).read_bytes())
    content[-20] ^= 1
    Path(FILES[0]).write_bytes(content)
    line = error_line(["patches", "verify", *FILES[:2], *W], capsys)
    assert "cannot read '1.safetensors': it is not as it was written" in line
    Path(FILES[0]).write_bytes(content[:-7])
    assert "it is no complete safetensors file" in error_line(["patches", "show", FILES[0]], capsys)


def test_what_has_to_be_made_again_and_cannot_leaves_nothing(capsys: pytest.CaptureFixture) -> None:
    own = network()
    for number, file in enumerate(("a.safetensors", "b.safetensors")):
        furnished, params, _ = correct("gd", own, number)
        patch = EditPatch.of(furnished, params, EditRecord(["x"], config="gone/config.yaml" if number else None))
        patch.save(file)
        patch.apply_(own)
    line = error_line(["patches", "drop", "1", "a.safetensors", "b.safetensors", *W, "--out", "left"], capsys)
    assert "the patch 'b.safetensors' has to be made again, but the configuration of its run 'gone/config.yaml'" in line
    assert not Path("left").exists()
    own = network()
    for file in ("a.safetensors", "b.safetensors"):
        EditPatch.load(file).apply_(own)


def test_files_of_format_1_are_written_anew(capsys: pytest.CaptureFixture) -> None:
    path = Path(__file__).parents[1] / "editing" / "patches" / "files" / "format_1.safetensors"
    weights = {"weight": torch.arange(6).view(2, 3) / 8, "bias": torch.tensor([1.0, 2.0])}
    save_file(weights, "linear.safetensors")
    assert "put in and taken out" in shown(["verify", str(path), "--weights", "linear.safetensors"], capsys)
    shown(["merge", "anew.safetensors", str(path), "--weights", "linear.safetensors"], capsys)
    assert EditPatch.load("anew.safetensors").record.asked == ["a.png: cat → dog"]
    assert EditPatch.load("anew.safetensors").versions
    shown(["verify", "anew.safetensors", "--weights", "linear.safetensors"], capsys)


def test_its_options_are_known_without_torch() -> None:
    code = (
        "import sys; from editable.command_line.options.patches import options; text = options().format_help();"
        "assert 'torch' not in sys.modules; print(text)"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    for word in ("show", "list", "verify", "merge", "drop", "--weights"):
        assert word in ended.stdout
