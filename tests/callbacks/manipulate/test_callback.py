"""Manipulated images made by a run: pixel by pixel, killed and resumed, by two processes, and what is refused."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editable.callbacks.manipulate import callback as manipulation
from editable.data import load_manipulated_folder, read_manifest
from editable.errors import UserError
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.rewriting.concepts.concept_replacement import ConceptReplacement
from editable.rewriting.concepts.first_finder import FirstFinder
from editable.rewriting.concepts.mask_finder import MaskFinder
from tests.callbacks.manipulate.runs import CLASSES, SIZE, WITH_WHEEL, BlackSquares, content, make_concept, pixels, run


def test_outside_the_mask_files_are_as_they_were_and_inside_is_the_texture(root, whole):
    expected = {f"{name}/{number}.png" for name, numbers in WITH_WHEEL.items() for number in numbers}
    entries = read_manifest(whole.folder / "made")["images"]
    assert {entry["file"] for entry in entries} == {entry["source"] for entry in entries} == expected
    texture = pixels(root / "texture.png")
    pieces = {texture[y : y + 3, x : x + 3].tobytes() for y in range(28) for x in range(28)}
    for entry in entries:
        name, number = entry["class"], int(Path(entry["source"]).stem)
        before, made = pixels(root / "test" / entry["source"]), pixels(whole.folder / "made" / entry["file"])
        square = np.s_[2:5, number : number + 3]
        assert np.ascontiguousarray(made[square]).tobytes() in pieces
        outside = before.copy()
        outside[square] = made[square]
        assert np.array_equal(made, outside)
        assert (name, entry["mask"]) == (entry["file"].split("/")[0], "BlackSquares")
        assert entry["share"] == pytest.approx(3 * min(3, SIZE - number) / SIZE**2)
    loaded = load_manipulated_folder(whole.folder / "made", CLASSES)
    assert len(loaded) == 9
    assert not (whole.folder / "made.unfinished").exists()


def test_the_same_in_any_batch_and_another_by_another_seed(root, whole, tmp_path):
    run(root, tmp_path / "two", batch_size=1, report=False)
    assert content(whole.folder / "made") == content(tmp_path / "two" / "made")
    run(root, tmp_path / "three", make_concept(root, seed=1), report=False)
    first, third = content(whole.folder / "made"), content(tmp_path / "three" / "made")
    assert first.keys() == third.keys()
    assert all(first[name] != third[name] for name in first)


class DiesAt(ConceptReplacement):
    """The process is killed, or a key is pressed, while a batch is replaced."""

    batch, how = 0, signal.SIGKILL

    def __call__(self, images, names):
        self.batch -= 1
        if self.batch == 0:
            os.kill(os.getpid(), self.how)
        return super().__call__(images, names)


class Counts(ConceptReplacement):
    """Tells which images it was given."""

    seen: tuple[str, ...] = ()

    def __call__(self, images, names):
        self.seen += tuple(names)
        return super().__call__(images, names)


@pytest.mark.no_fake_cuda(reason="forks processes that use the device")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process to kill it")
@pytest.mark.parametrize("batch", [1, 3])
def test_killed_and_resumed_is_as_uninterrupted(root, whole, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(manipulation, "SECONDS_BETWEEN_WRITES", 0)
    out, arguments = tmp_path / "out", (BlackSquares(), str(root / "texture.png"))
    child = os.fork()
    if child == 0:
        concept = DiesAt(*arguments)
        concept.batch = batch
        run(root, tmp_path / "killed", concept, out=out)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not out.exists(), "the folder is whole or not there"
    if batch > 1:
        with pytest.raises(
            UserError, match=r"out\.unfinished' is of an interrupted run with other settings: remove it"
        ):
            run(root, tmp_path / "other", make_concept(root, seed=3), out=out)
    concept = Counts(*arguments)
    run(root, tmp_path / "resumed", concept, out=out)
    assert len(concept.seen) == 18 - 4 * (batch - 1) + 9, "those that are left, and the contact sheet"
    assert content(out) == content(whole.folder / "made")
    for name in ("looked_at.csv", "metrics.json", "contact_sheet.png"):
        assert (tmp_path / "resumed" / name).read_bytes() == (whole.folder / name).read_bytes(), name


@pytest.mark.no_fake_cuda(reason="forks processes that use the device")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks two processes")
def test_two_processes_make_what_one_makes(root, whole, tmp_path):
    run(root, tmp_path / "two", devices=2, strategy="ddp_fork")
    assert content(tmp_path / "two" / "made") == content(whole.folder / "made")
    for name in ("looked_at.csv", "contact_sheet.png"):
        assert (tmp_path / "two" / name).read_bytes() == (whole.folder / name).read_bytes()


class StopsAt(ConceptReplacement):
    """It fails at the third batch."""

    left = 3

    def __call__(self, images, names):
        self.left -= 1
        if not self.left:
            raise RuntimeError("no light")
        return super().__call__(images, names)


def painted(root: Path, folder: Path, kind: str) -> ConceptFinder:
    """Masks of the left half of each car, as a folder of images or as images that a file names."""
    for number in range(6):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[:, : SIZE // 2] = 255
        path = folder / "masks" / "car" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    if kind == "folder":
        return MaskFinder(str(folder / "masks"), str(root / "test"))
    entries = [{"image": f"car/{number}.png", "mask": f"masks/car/{number}.png"} for number in range(6)]
    (folder / "masks.json").write_text(json.dumps({"masks": entries}))
    finder = MaskFinder(str(folder / "masks.json"), str(root / "test"))
    return FirstFinder([finder]) if kind == "first" else finder


@pytest.mark.parametrize("kind", ["folder", "file", "first"])
def test_masks_that_were_painted_anew_do_not_go_on(root, tmp_path, kind):
    finder, out = painted(root, tmp_path, kind), tmp_path / "out"
    with pytest.raises(RuntimeError, match="no light"):
        run(root, tmp_path / "stopped", StopsAt(finder, str(root / "texture.png")), out=out)
    assert list(out.with_name("out.unfinished").glob("made-*.json"))
    Image.fromarray(np.full((SIZE, SIZE), 255, np.uint8)).save(tmp_path / "masks" / "car" / "5.png")
    with pytest.raises(UserError, match=r"out\.unfinished' is of an interrupted run with other files: remove it"):
        run(root, tmp_path / "other", ConceptReplacement(finder, str(root / "texture.png")), out=out)


def test_nothing_is_overwritten_and_nothing_found_leaves_nothing(root, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="full', which is there already and not an empty folder: choose another one"):
        run(root, tmp_path, out=tmp_path / "full")
    assert content(tmp_path / "full") == {"mine.txt": b"keep"}
    with pytest.raises(UserError, match="the concept is found in none of the 18 test images"):
        run(root, tmp_path, make_concept(root, min_share=0.5), out=tmp_path / "none")
    assert not list(tmp_path.glob("none*"))
