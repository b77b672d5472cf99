"""The report of a study: drawn again from a run's file, and words and tables of a made-up outcome."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from editable.callbacks.invert.outcome import InverseDirectionOutcome
from editable.callbacks.invert.report import summary, write
from editable.callbacks.run.outcome_file import read_outcome
from tests.callbacks.invert.made_up import made_up
from tests.callbacks.same_outcome import assert_same


def test_the_report_is_drawn_again_from_its_outcome(studied, tmp_path: Path):
    outcome = read_outcome(studied.folder / "invert_outcome.pt", InverseDirectionOutcome)
    assert_same(outcome, studied.callback.outcome)
    sections = write(outcome, tmp_path)
    assert studied.report.endswith("\n".join(sections))
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"methods.csv", "exemplars.png", "survival.png", "trade_off.png"}
    for name in written:
        assert (tmp_path / name).read_bytes() == (studied.folder / name).read_bytes(), name


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple]:
    """What figures are given, which are not drawn."""
    given: dict[str, tuple] = {}

    def keep(path: Path, *arguments: object) -> None:
        given[path.name] = arguments

    for plot in ("plot_contact_sheet", "plot_survival", "plot_trade_off"):
        monkeypatch.setattr(f"editable.callbacks.invert.report.{plot}", keep)
    return given


def test_the_table_for_the_terminal():
    table = summary(made_up())
    assert table.title == "some.layer, accuracy in % at strength 1"
    assert table.columns == ["method", "survives", "residual", "test", "rule"]
    assert table.rows == [
        ["unedited", "", "", "90.00", "0.00"],
        ["method forwards", "", "1e-07", "85.00", "75.00"],
        ["method kept", "yes", "2e-09", "85.00", "75.00"],
        ["method lost", "no", "0.4", "85.00", "75.00"],
    ]


def test_sections(drawn: dict[str, tuple], tmp_path: Path):
    table, survival, strengths, exemplars = write(made_up(), tmp_path)
    assert "at most 123 other images" in table
    assert "strength 1, on 100 test images, 8 the exemplars with the new concept." in table
    assert "| unedited |  |  |  |  |  |  | 90.00 % | 0.00 % |" in table
    lost = "| method lost | 3.0e-12 | 0.5 → 0.4 | no | 0.25 → 0.125 | 1.50 % | 30.0 % | 85.00 % | 75.00 % |"
    assert lost in table
    assert "- method kept: the rule survives: ‖W V* − K*‖ / ‖K*‖ is 2e-09, and was 0.5 before." in survival
    assert "- method lost: the rule is lost on the way back." in survival
    assert "method forwards" not in survival
    assert "Strengths 0.5, 1, 2;" in strengths
    assert "8 exemplars." in exemplars
    residuals, accuracies, unedited = drawn["survival.png"]
    assert residuals == {"method forwards": 1e-7, "method kept": 2e-9, "method lost": 0.4}
    assert accuracies == {"test images": dict.fromkeys(residuals, 0.85)}
    assert unedited == {"test images": 0.9}
    gains, costs, *_ = drawn["trade_off.png"]
    assert gains["method kept"] == [0.5, 0.75, 1.0]
    assert costs["method kept"] == [0.02, 0.05, 0.5]


def test_every_figure_of_every_strength_is_in_a_csv_file(drawn: dict[str, tuple], tmp_path: Path):
    write(made_up(), tmp_path)
    rows = list(csv.DictReader((tmp_path / "methods.csv").open(encoding="utf-8", newline="")))
    assert [(row["method"], float(row["strength"])) for row in rows] == [
        (name, strength) for name in ("forwards", "kept", "lost") for strength in (0.5, 1, 2)
    ]
    assert [float(row["report_error"]) for row in rows] == 3 * [0.12, 0.15, 0.6]
    assert [row["survives"] for row in rows] == [*3 * [""], *3 * ["1.0"], *3 * ["0.0"]]


def test_one_strength_forwards(drawn: dict[str, tuple], tmp_path: Path):
    methods = {"forwards": made_up().methods["forwards"]}
    sections = write(replace(made_up(), methods=methods, strengths=[1.0]), tmp_path)
    assert len(sections) == 3
    assert "Nothing was rewritten in the inverse direction" in "".join(sections)
    assert set(drawn) == {"survival.png", "exemplars.png"}
