"""The report of a look: what is left of a run, the same drawn again from its file, and words of a made-up outcome."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editable.callbacks.run.outcome_file import read_outcome
from editable.callbacks.see.outcome import SeeingOutcome
from editable.callbacks.see.report import summary, write
from editable.visualize import drawing
from tests.callbacks.same_outcome import assert_same
from tests.callbacks.see.looks import make_network
from tests.callbacks.see.made_up import STEPS, made_up

FIGURES = {
    "curves",
    "exemplars",
    "inversions",
    "heat_maps",
    "key_maps",
    "similarity_maps",
    "feature_maps",
    "change_maps",
}


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for plot in ("plot_contact_sheet", "plot_stages", "plot_image_rows"):
        monkeypatch.setattr(f"editable.callbacks.see.report.{plot}", lambda *arguments: None)


def test_curves_figures_and_tables_are_left(looked):
    callback, folder, metrics = looked
    rows = list(csv.DictReader((folder / "seeing.csv").open()))
    last = [row for row in rows if (row["stage"], row["values_of"], row["network"]) == ("images", "original", "after")]
    steps = {int(row["step"]) for row in last}
    assert {0, 80} <= steps
    final = [row for row in last if row["step"] == "80"]
    assert len(final) == 2
    standin = np.mean([float(row["to_original"]) for row in final])
    assert standin == pytest.approx(metrics["see_images_original_standin"], rel=1e-5)
    first = [float(row["loss"]) for row in last if row["step"] == "0"]
    falls = [before / float(row["loss"]) for before, row in zip(first, final, strict=True)]
    assert metrics["see_images_loss_ratio"] == pytest.approx(float(np.exp(np.mean(np.log(falls)))), rel=1e-5)
    report = (folder / "report.md").read_text()
    assert set(re.findall(r"!\[[^\]]+\]\((\w+)\.png\)", report)) == FIGURES
    for figure in FIGURES:
        with Image.open(folder / f"{figure}.png") as image:
            assert min(image.size) > drawing.DPI, "an inch"
    assert "a stand-in for LPIPS" in report
    # A memory of pixels [filters · taps, channels]; the order of its rows makes no difference.
    weights = (make_network()[3].weight.detach(), callback.outcome.rewrite.weight)
    before, after = (np.linalg.cond(some.double().transpose(0, 1).flatten(1).T.numpy()) for some in weights)
    assert f"condition number is {before:.3g} before and {after:.3g} after" in report
    assert f"mean key {metrics['see_response_ratio']:.2g} times as much" in report
    assert len(callback.table().rows) == 3 * 2 * 2


def test_the_report_is_drawn_again_from_its_outcome(looked, tmp_path: Path):
    outcome = read_outcome(looked.folder / "see_outcome.pt", SeeingOutcome)
    assert_same(outcome, looked.callback.outcome)
    sections = write(outcome, tmp_path)
    assert (looked.folder / "report.md").read_text().endswith("\n".join(sections))
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"seeing.csv", *(f"{figure}.png" for figure in FIGURES)}
    for name in written:
        assert (tmp_path / name).read_bytes() == (looked.folder / name).read_bytes(), name


def test_a_row_for_each_stage_kind_of_exemplar_and_network():
    """The loss of the item at position i falls 10 ** (i + 1) times, and what was found turns to the manipulated."""
    table = summary(made_up())
    assert table.title == "Values of layer traced back"
    assert [row[:3] for row in table.rows] == [
        [stage, shown, when]
        for stage in ("keys", "features", "images")
        for shown in ("original", "manipulated")
        for when in ("before", "after")
    ]
    # Two originals, and two manipulated exemplars behind them: geometric means of 10, 100 and of 1000, 10 000.
    assert [row[3] for row in table.rows[:4]] == ["31.6 ×", "31.6 ×", "3.16e+03 ×", "3.16e+03 ×"]
    assert [row[4:] for row in table.rows[:2]] == [["1.000", "0.250"], ["0.250", "1.000"]]


@pytest.mark.usefixtures("_no_figures")
def test_the_curves_table_has_a_line_for_each_record(tmp_path: Path):
    outcome = replace(made_up(), maps=None)
    sections = write(outcome, tmp_path)
    assert len(sections) == 2
    assert "### Maps" not in "".join(sections)
    lines = list(csv.DictReader((tmp_path / "seeing.csv").open()))
    assert len(lines) == 3 * 2 * 2 * 2 * len(STEPS)
    for line in lines:
        loss = 10.0 ** -(
            (2 * (line["values_of"] == "manipulated") + int(line["item"]) + 1) * int(line["step"]) / STEPS[-1]
        )
        assert float(line["loss"]) == pytest.approx(loss)
    assert {line["step"] for line in lines} == {str(step) for step in STEPS}


SENTENCES = {
    "solver": (
        {"solver": "ClosedForm", "strength": 0.5},
        "rewritten by ClosedForm, strength 0.5: 25.00 % of the weight",
    ),
    "file": ({"edited": "some.ckpt"}, "rewritten by `some.ckpt`: 25.00 %"),
    "open": ({"num_open_dimensions": 1}, "Keys have 2 entries, in 1 dimensions of which the memory recalls the same"),
    "closed": ({"num_open_dimensions": 0}, "The memory recalls a different value for each key"),
    "condition": ({"condition_before": 12.345, "condition": 6.0}, "condition number is 12.3 before and 6 after"),
    "loss": ({"loss_before": 0.123456, "loss": 0.0}, "what is wanted 0.1235 → 0."),
    "block": ({"block": ["layer", "bn"]}, "Block `layer` → `bn`; "),
    "response": ({}, "mean key 0.5 times as much"),
}


@pytest.mark.parametrize(("rewrite", "sentence"), SENTENCES.values(), ids=SENTENCES.keys())
@pytest.mark.usefixtures("_no_figures")
def test_sentences_about_the_rewrite(rewrite, sentence, tmp_path: Path):
    outcome = replace(made_up(), rewrite=replace(made_up().rewrite, **rewrite), maps=None)
    text = write(outcome, tmp_path)[0]
    assert sentence in text
    assert "Values of the unedited network are traced back" in text
    assert "images by a made-up distance (lower is nearer)" in text
    own = write(replace(outcome, traced_values="own"), tmp_path)
    assert "Values of each network itself are traced back" in own[0]
    assert "the best of 3 random starts" in own[1]
