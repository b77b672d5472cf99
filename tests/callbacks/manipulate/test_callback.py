"""Manipulated images made by a run: pixel by pixel, killed and resumed, by two processes, and what is refused."""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from editable.callbacks import RunReport
from editable.callbacks.manipulate import callback as manipulation
from editable.callbacks.manipulate.callback import Manipulation
from editable.callbacks.manipulate.unfinished_folder import MadeImage, UnfinishedFolder, file_stems
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.data import ImageFolderDataModule, load_manipulated_folder, read_manifest
from editable.errors import UserError
from editable.rewriting.concepts.concept_finder import ConceptFinder
from editable.rewriting.concepts.concept_replacement import ConceptReplacement
from editable.tasks import ClassificationTask

SIZE, COUNT, CLASSES = 10, 6, ("boat", "car", "tram")
WITH_WHEEL = {"boat": (), "car": range(6), "tram": (0, 3, 5)}
"""Images of each class that have a black square of 3 pixels."""


class BlackSquares(ConceptFinder):
    """Finds black pixels."""

    def find(self, images: Tensor, names) -> Tensor:
        return (images.amax(dim=1) == 0).to(images)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in CLASSES:
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = random.integers(1, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            if number in WITH_WHEEL[name]:
                pixels[2:5, number : number + 3] = 0
            Image.fromarray(pixels).save(folder / "test" / name / f"{number}.png")
    Image.fromarray(random.integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(folder / "texture.png")
    return folder


def make_concept(root: Path, **settings) -> ConceptReplacement:
    return ConceptReplacement(BlackSquares(), str(root / "texture.png"), **settings)


def run(make_trainer, root: Path, folder: Path, concept=None, batch_size: int = 4, out=None, **parallel):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 3))
    callback = Manipulation(concept or make_concept(root), str(out or folder / "made"))
    trainer = make_trainer(callbacks=[callback, RunReport()], default_root_dir=folder, **parallel)
    images = ImageFolderDataModule(
        str(root), mean=[0.4] * 3, std=[0.3] * 3, batch_size=batch_size, num_workers=0, cache=False
    )
    trainer.test(ClassificationTask(network), images, verbose=False)
    return callback


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_outside_the_mask_files_are_as_they_were_and_inside_is_the_texture(make_trainer, root, tmp_path):
    run(make_trainer, root, tmp_path)
    expected = {f"{name}/{number}.png" for name, numbers in WITH_WHEEL.items() for number in numbers}
    entries = read_manifest(tmp_path / "made")["images"]
    assert {entry["file"] for entry in entries} == {entry["source"] for entry in entries} == expected
    texture = pixels(root / "texture.png")
    pieces = {texture[y : y + 3, x : x + 3].tobytes() for y in range(28) for x in range(28)}
    for entry in entries:
        name, number = entry["class"], int(Path(entry["source"]).stem)
        before, made = pixels(root / "test" / entry["source"]), pixels(tmp_path / "made" / entry["file"])
        square = np.s_[2:5, number : number + 3]
        assert np.ascontiguousarray(made[square]).tobytes() in pieces
        outside = before.copy()
        outside[square] = made[square]
        assert np.array_equal(made, outside)
        assert (name, entry["mask"]) == (entry["file"].split("/")[0], "BlackSquares")
        assert entry["share"] == pytest.approx(3 * min(3, SIZE - number) / SIZE**2)
    loaded = load_manipulated_folder(tmp_path / "made", CLASSES)
    assert len(loaded) == 9
    assert not (tmp_path / "made.unfinished").exists()


def test_what_is_counted(make_trainer, root, tmp_path):
    callback = run(make_trainer, root, tmp_path)
    shares = [
        float((pixels(root / "test" / name / f"{number}.png").max(axis=2) == 0).mean())
        for name in CLASSES
        for number in range(COUNT)
    ]
    found = [share for share in shares if share]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["manipulate_num_images"] == 18
    assert metrics["manipulate_num_found"] == len(found) == 9
    assert metrics["manipulate_num_classes"] == 2
    assert metrics["manipulate_mean_share"] == pytest.approx(np.mean(found), abs=1e-6)
    looked_at = list(csv.DictReader((tmp_path / "looked_at.csv").open()))
    assert [float(row["share"]) for row in looked_at] == pytest.approx(shares, abs=1e-6)
    assert [row["found"] for row in looked_at] == [str(int(share > 0)) for share in shares]
    counts = {row["class"]: row for row in csv.DictReader((tmp_path / "manipulated.csv").open())}
    assert [counts[name]["with the concept"] for name in CLASSES] == ["0", "6", "3"]
    assert counts["boat"]["mean part replaced"] == "–"
    assert counts["car"]["mean part replaced"] == f"{100 * np.mean(shares[6:12]):.1f} %"
    report = (tmp_path / "report.md").read_text()
    for words in (
        "found in 9 of 18 images, in 2 of 3 classes",
        "| car | 6 | 6 |",
        "9 of them: original, mask, manipulated",
    ):
        assert words in report
    assert callback.table().row_count == 3
    with Image.open(tmp_path / "contact_sheet.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 100


def test_the_same_in_any_batch_and_another_by_another_seed(make_trainer, root, tmp_path):
    run(make_trainer, root, tmp_path / "one")
    run(make_trainer, root, tmp_path / "two", batch_size=1)
    assert content(tmp_path / "one" / "made") == content(tmp_path / "two" / "made")
    run(make_trainer, root, tmp_path / "three", make_concept(root, seed=1))
    first, third = content(tmp_path / "one" / "made"), content(tmp_path / "three" / "made")
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process to kill it")
@pytest.mark.parametrize("batch", [1, 3])
def test_killed_and_resumed_is_as_uninterrupted(make_trainer, root, tmp_path, monkeypatch, batch):
    monkeypatch.setattr(manipulation, "SECONDS_BETWEEN_WRITES", 0)
    run(make_trainer, root, tmp_path / "whole")
    out, arguments = tmp_path / "out", (BlackSquares(), str(root / "texture.png"))
    child = os.fork()
    if child == 0:
        concept = DiesAt(*arguments)
        concept.batch = batch
        run(make_trainer, root, tmp_path / "killed", concept, out=out)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not out.exists(), "the folder is whole or not there"
    if batch > 1:
        with pytest.raises(
            UserError, match=r"out\.unfinished' is of an interrupted run with other settings: remove it"
        ):
            run(make_trainer, root, tmp_path / "other", make_concept(root, seed=3), out=out)
    concept = Counts(*arguments)
    run(make_trainer, root, tmp_path / "resumed", concept, out=out)
    assert len(concept.seen) == 18 - 4 * (batch - 1) + 9, "those that are left, and the contact sheet"
    assert content(out) == content(tmp_path / "whole" / "made")
    for name in ("looked_at.csv", "metrics.json", "contact_sheet.png"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks two processes")
def test_two_processes_make_what_one_makes(make_trainer, root, tmp_path):
    run(make_trainer, root, tmp_path / "one")
    run(make_trainer, root, tmp_path / "two", devices=2, strategy="ddp_fork")
    assert content(tmp_path / "two" / "made") == content(tmp_path / "one" / "made")
    for name in ("looked_at.csv", "contact_sheet.png"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_nothing_is_overwritten_and_nothing_found_leaves_nothing(make_trainer, root, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="full', which is there already and not an empty folder: choose another one"):
        run(make_trainer, root, tmp_path, out=tmp_path / "full")
    assert content(tmp_path / "full") == {"mine.txt": b"keep"}
    with pytest.raises(UserError, match="the concept is found in none of the 18 test images"):
        run(make_trainer, root, tmp_path, make_concept(root, min_share=0.5), out=tmp_path / "none")
    assert not list(tmp_path.glob("none*"))


def test_damaged_records_are_named(tmp_path):
    unfinished = UnfinishedFolder(tmp_path / "out", {"settings": 1})
    unfinished.put(3, torch.zeros(3, 2, 2))
    unfinished.write(0, [MadeImage(3, 0.5), MadeImage(4, 0.5), MadeImage(5, 0.0)])
    assert unfinished.read() == [(3, 0.5), (5, 0.0)], "the file of 4 is not there"
    with pytest.raises(UserError, match="of an interrupted run with other settings"):
        UnfinishedFolder(tmp_path / "out", {"settings": 2}).read()
    (tmp_path / "out.unfinished" / "made-0.json").write_text("{")
    with pytest.raises(UserError, match=r"made-0\.json' is damaged .*: remove '.*out\.unfinished' to begin anew"):
        unfinished.read()


def test_names_are_of_their_own_in_a_class():
    names = ["cat/1.jpg", "cat/1.png", "dog/1.jpg", "cat/2.jpg", "dog/a/3.jpg", "000007"]
    classes = ["cat", "cat", "dog", "cat", "dog", "dog"]
    assert file_stems(names, classes) == ["1.jpg", "1.png", "1", "2", "a-3", "000007"]


def test_examples_are_joined_and_taken_in_order():
    pictures = torch.arange(3.0)[:, None, None, None].expand(3, 3, 2, 2)
    parts = [
        ReplacedExamples(pictures[:2], pictures[:2] + 10, pictures[:2, 0] / 10, ["a", "b"]),
        ReplacedExamples(pictures[2:], pictures[2:] + 10, pictures[2:, 0] / 10, ["c"]),
    ]
    joined = ReplacedExamples.join(parts).take([2, 0])
    assert joined.names == ["c", "a"]
    assert joined.originals[:, 0, 0, 0].tolist() == [2, 0]
    assert joined.manipulated[:, 0, 0, 0].tolist() == [12, 10]
    assert joined.masks[:, 0, 0].tolist() == pytest.approx([0.2, 0])
