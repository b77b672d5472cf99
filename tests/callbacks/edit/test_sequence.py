"""Edits one after the other: a table of them, which of them hold, and one that is dropped."""

from pathlib import Path

import pytest
import torch
from torch import nn

from editable.callbacks.edit import report
from editable.callbacks.edit.outcome import EditedImages, ImageEditOutcome
from editable.callbacks.edit.sequence import edit_one_by_one
from editable.cli import main
from editable.editing import GD, Editor, EditPatch
from editable.models import SplitNetwork
from tests.callbacks.edit.commands import CONFIG, LENIENT, QUIET, digits, network, predictions, run
from tests.callbacks.edit.outcomes import edited_images, scored_images
from tests.mistakes import error_line
from tests.warned import TAKES_THE_PLACE

CODEBOOK = ["--evaluation.editor=CodebookEditor", "--evaluation.editor.num_references=200"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_is_made_on_top_of_the_last_and_what_fails_is_left_out():
    torch.manual_seed(0)
    plain = nn.Linear(6, 4)
    split = SplitNetwork(plain, ["weight", "bias"])
    editor = Editor(GD(0.5), max_steps=6).with_strict_success()
    x, labels = torch.randn(5, 1, 6), torch.tensor([0, 1, 2, 3, 1])
    edits = [(split.prefix(image), label.expand(1)) for image, label in zip(x, labels, strict=True)]
    edits.insert(2, (split.prefix(torch.zeros(2, 6)), torch.tensor([0, 3])))  # one image, two labels
    found = edit_one_by_one(editor, split.suffix, split.params, edits)
    weight, steps = {name: param.detach() for name, param in plain.named_parameters()}, 0
    for number, (features, asked) in enumerate(edits):
        result = editor(split.suffix, weight, features, asked)
        if number != 2:
            assert result.success
            weight, steps = result.params, steps + int(result.num_steps)
    assert found.made.tolist() == [True, True, False, True, True, True]
    assert found.num_steps == steps
    for name, value in weight.items():
        assert torch.equal(found.params[name], value)
    assert len(found.owners) == 0


@pytest.mark.filterwarnings(TAKES_THE_PLACE)
def test_ten_mistakes_of_a_table_and_one_dropped(trained: Path, capsys: pytest.CaptureFixture):
    """By a codebook; the others' labels and all other predictions stay as they were."""
    images, labels = digits()
    before = predictions(network(trained), images)
    wrong = (before != labels).nonzero().flatten().tolist()[:10]
    assert len(wrong) == 10
    lines = [f"{image},{int(labels[image])}" for image in wrong]
    Path("fixes.csv").write_text("\n".join(["image,label", *lines]))
    folder, metrics = run("edit", trained, "--edit.table=fixes.csv", "--edit.mode=stream", *CODEBOOK, LENIENT)
    assert (metrics["edit_num_made"], metrics["edit_num_holding"]) == (10, 10)
    assert "10 of 10" in capsys.readouterr().out
    assert "All 10 edits hold after the last." in (folder / "report.md").read_text()
    patch = EditPatch.load(folder / "edit.safetensors")
    assert [edit.labels for edit in patch.edits] == [[int(labels[image])] for image in wrong]
    corrected = network(trained)
    patch.apply_(corrected)
    after = predictions(corrected, images)
    assert after[wrong].equal(labels[wrong])
    main(["patches", "drop", "5", str(folder / "edit.safetensors"), f"--weights={trained}", "--out=without"])
    (left,) = Path("without").glob("*.safetensors")
    fewer = network(trained)
    EditPatch.load(left).apply_(fewer)
    found = predictions(fewer, images)
    others = [image for image in wrong if image != wrong[4]]
    assert found[others].equal(labels[others])
    Path("fewer.csv").write_text("\n".join(["image,label", *lines[:4], *lines[5:]]))
    folder, _ = run("edit", trained, "--edit.table=fewer.csv", "--edit.mode=stream", *CODEBOOK, LENIENT)
    never = network(trained)
    EditPatch.load(folder / "edit.safetensors").apply_(never)
    assert list(never.state_dict()) == list(fewer.state_dict())
    for name, value in never.state_dict().items():
        assert torch.equal(value, fewer.state_dict()[name]), f"{name} is as if the edit had never been made"


def test_the_report_tells_what_was_lost_and_left_out(tmp_path: Path):
    together = edited_images()
    edited = EditedImages(*together[:-1], torch.tensor([True, False]))
    after = edited.after.clone()
    after[0] = torch.tensor([0.9, 0.1, 0.0])
    outcome = ImageEditOutcome(edited._replace(after=after), scored_images(), 1.0)
    (text,) = report.write(outcome, tmp_path)
    assert text.startswith("## 1 of 2 edits, one after the other, in 3 steps\n")
    both = edited._replace(made=torch.tensor([True, True]))
    title = report.summary(ImageEditOutcome(both, scored_images(), 1.0)).title
    assert title == "2 edits, one after the other, in 3 steps"
    assert "|  | before all edits | after the last |" in text
    assert "Edits that no longer hold after the last: a.png." in text
    assert "Edits that did not succeed, and were left out: b.png." in text
    assert outcome.values()["num_made"] == 1
    assert "num_made" not in ImageEditOutcome(together, scored_images(), 1.0).values()


BAD = [
    (["--edit.table=fixes.csv", "--edit.images=3"], "give one of the two"),
    ([], "give one of the two"),
    (["--edit.table=fixes.csv", "--edit.labels=3"], "a table has the label of each image in its line"),
    (["--edit.table=none.csv"], "there is no table of edits at 'none.csv'"),
    (["--edit.table=fixes.csv", "--edit.mode=streem"], "streem"),
    (["--edit.table=other.csv"], "'x' is none of the 10 classes"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_mistakes_end_in_one_sentence(trained: Path, options: list[str], message: str, capsys: pytest.CaptureFixture):
    Path("fixes.csv").write_text("image,label\n3,1\n")
    Path("other.csv").write_text("image,label\n3,x\n")
    line = error_line(["edit", f"--config={CONFIG}", *QUIET, f"--ckpt_path={trained}", *options], capsys)
    assert message in line
    assert not list(Path().rglob("*.safetensors"))
