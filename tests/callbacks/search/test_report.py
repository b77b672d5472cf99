"""A report of a search is made of the outcome alone, and again from the file that a run keeps of it."""

import csv
from pathlib import Path

import pytest
import yaml

from editable.callbacks.run.outcome_file import read_outcome
from editable.callbacks.search import SearchOutcome, report
from editable.callbacks.search.report import summary, write
from tests.callbacks.search.outcomes import RATES, search_outcome


@pytest.fixture
def _no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest and is looked at elsewhere."""
    monkeypatch.setattr(report, "plot_learning_rates", lambda *args: None)


def test_a_row_for_each_rate_and_the_chosen_one_stands_out() -> None:
    table = summary(search_outcome())
    assert table.columns == ["learning rate", "success", "steps", "drawdown, points"]
    assert table.rows[0] == ["1e-05", "50.0%", "7.25", "0.10"]
    assert table.rows[1] == ["0.0001", "95.0%", "3.50", "2.00"]
    assert [row.style for row in table.terminal().rows] == [None, "bold green", None]
    assert [row.style for row in summary(search_outcome(RATES[:1])).terminal().rows] == [None]


def test_section_and_files(tmp_path: Path) -> None:
    (section,) = write(search_outcome(), tmp_path)
    assert "20 held-out edits with random labels (seed 3), none of them reported, on the val images" in section
    assert "scored on all scoring images. The least drawdown among rates with a success rate of at least" in section
    assert "Chosen: 0.0001. [editor.yaml](editor.yaml) is the editor at this rate" in section
    assert f"to be added to the options of a test: `--config {tmp_path / 'editor.yaml'}`." in section
    assert summary(search_outcome()).markdown() in section
    assert yaml.safe_load((tmp_path / "editor.yaml").read_text()) == search_outcome().editor
    with (tmp_path / "search.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["drawdown"]) for row in rows] == [0.001, 0.02, 0.3]
    assert {row["half_width"] for row in rows} == {""}


@pytest.mark.usefixtures("_no_figure")
def test_sampled_images_come_with_intervals_and_their_numbers(tmp_path: Path) -> None:
    rates = [rate._replace(half_width=0.002, num_sampled_images=50 + i) for i, rate in enumerate(RATES)]
    (section,) = write(search_outcome(rates), tmp_path)
    assert "on a random part of the scoring images, 50 to 52 looked at for a rate, which gives the intervals" in section
    assert "| 0.0001 | 95.0% | 3.50 | 2.00 ± 0.20 |" in section


@pytest.mark.usefixtures("_no_figure")
@pytest.mark.parametrize("rates", [RATES[:1], RATES[:2], RATES[1:]], ids=["none", "highest", "lowest"])
def test_advice_is_in_the_report_and_without_a_chosen_rate_there_is_no_editor(rates: list, tmp_path: Path) -> None:
    outcome = search_outcome(rates)
    (section,) = write(outcome, tmp_path)
    assert f"**{outcome.advice}**" in section
    assert (tmp_path / "editor.yaml").exists() == ("Chosen" in section) == (len(rates) > 1)


def test_drawn_again_from_the_outcomes_file(whole, tmp_path: Path) -> None:
    outcome = read_outcome(whole.folder / "search_outcome.pt", SearchOutcome)
    assert outcome == whole.search.outcome
    (section,) = write(outcome, tmp_path)
    assert section.replace(str(tmp_path), str(whole.folder)) in (whole.folder / "report.md").read_text()
    for name in ("search.csv", "search.png", "editor.yaml"):
        assert (tmp_path / name).read_bytes() == (whole.folder / name).read_bytes(), name
