"""The report of manipulated images: what a run leaves, the same drawn again, and counts by hand."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from editable.callbacks.manipulate.outcome import ManipulationOutcome
from editable.callbacks.manipulate.report import summary, write
from editable.callbacks.run.outcome_file import read_outcome
from tests.callbacks.drawn_again import assert_drawn_again
from tests.callbacks.manipulate.runs import CLASSES, COUNT, pixels


def test_what_is_counted(root, whole):
    callback, folder = whole
    shares = [
        float((pixels(root / "test" / name / f"{number}.png").max(axis=2) == 0).mean())
        for name in CLASSES
        for number in range(COUNT)
    ]
    found = [share for share in shares if share]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["manipulate_num_images"] == 18
    assert metrics["manipulate_num_found"] == len(found) == 9
    assert metrics["manipulate_num_classes"] == 2
    assert metrics["manipulate_mean_share"] == pytest.approx(np.mean(found), abs=1e-6)
    looked_at = list(csv.DictReader((folder / "looked_at.csv").open()))
    assert [float(row["share"]) for row in looked_at] == pytest.approx(shares, abs=1e-6)
    assert [row["found"] for row in looked_at] == [str(int(share > 0)) for share in shares]
    counts = {row["class"]: row for row in csv.DictReader((folder / "manipulated.csv").open())}
    assert [counts[name]["with the concept"] for name in CLASSES] == ["0", "6", "3"]
    assert counts["boat"]["mean part replaced"] == "–"
    assert counts["car"]["mean part replaced"] == f"{100 * np.mean(shares[6:12]):.1f} %"
    report = (folder / "report.md").read_text()
    for words in (
        "found in 9 of 18 images, in 2 of 3 classes",
        "| car | 6 | 6 |",
        "9 of them: original, mask, manipulated",
    ):
        assert words in report
    assert len(callback.table().rows) == 3
    with Image.open(folder / "contact_sheet.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 100


def test_the_report_is_drawn_again_from_the_outcome_alone(whole, tmp_path):
    outcome = read_outcome(whole.folder / "manipulate_outcome.pt", ManipulationOutcome)
    assert outcome.values() == whole.callback.outcome.values()
    assert_drawn_again(write(outcome, tmp_path), tmp_path, whole.folder)
    assert {path.name for path in tmp_path.iterdir()} == {"manipulated.csv", "looked_at.csv", "contact_sheet.png"}


def by_hand(found: list[list[float]]) -> ManipulationOutcome:
    """Make an outcome of classes whose images have the given parts replaced."""
    labels = [label for label, shares in enumerate(found) for _ in shares]
    return ManipulationOutcome(
        out="somewhere",
        classes=[f"class {label}" for label in range(len(found))],
        labels=torch.tensor(labels),
        names=[f"{label}/{position}.png" for position, label in enumerate(labels)],
        shares=torch.tensor([share for shares in found for share in shares], dtype=torch.float64),
        examples=None,
    )


def test_classes_with_most_images_come_first_and_further_ones_are_summed():
    found = [[0.0]] + [[0.25, 0.0]] * 21 + [[0.5, 0.5]]
    rows = summary(by_hand(found)).rows
    assert rows[0] == ["class 22", "2", "2", "50.0 %"]
    assert [row[0] for row in rows[1:20]] == [f"class {label}" for label in range(1, 20)]
    assert rows[20:] == [["2 further ones", "4", "2", "25.0 %"], ["all", "45", "23", "27.2 %"]]  # 6.25 / 23


def test_without_examples_there_is_no_contact_sheet(tmp_path):
    (text,) = write(by_hand([[0.0], [0.125, 0.0]]), tmp_path)
    assert "found in 1 of 3 images, in 1 of 2 classes. They are in `somewhere`" in text
    assert "Contact sheet" not in text
    assert {path.name for path in tmp_path.iterdir()} == {"manipulated.csv", "looked_at.csv"}
    assert list(csv.reader((tmp_path / "looked_at.csv").open())) == [
        ["image", "class", "found", "share"],
        ["0/0.png", "class 0", "0", "0.000000"],
        ["1/1.png", "class 1", "1", "0.125000"],
        ["1/2.png", "class 1", "0", "0.000000"],
    ]
