"""What is told of rules from a few photographs, by counts made up here."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import beta

from editable.callbacks.few_shot import FewShotOutcome
from editable.callbacks.few_shot.outcome import FewShotTrial, KeptRule
from editable.callbacks.few_shot.report import summary, write
from editable.callbacks.run.outcome_file import read_outcome, write_outcome
from editable.callbacks.site.set_errors import SetErrors


def trial(way: str, draw: int, left_out: int, after: int, broken: int, shots: int | None = 3) -> FewShotTrial:
    others = SetErrors(200, 20, 20 + broken)
    return FewShotTrial(way, shots, draw, left_out, 2.0, SetErrors(8, 4, after), SetErrors(6, 3, 1), others, broken)


@pytest.fixture
def outcome() -> FewShotOutcome:
    careful = [trial("careful", 0, 0, 3, 0), trial("careful", 0, 1, 4, 0), trial("careful", 1, 0, 2, 1)]
    bold = [trial("bold", 0, 0, 0, 9, None), trial("bold", 0, 1, 1, 5, None)]
    return FewShotOutcome([*careful, trial("careful", 1, 1, 3, 0), *bold], ["bus", "tank"], [1.0, 2.0], 0.0025, 23)


def test_rows_sum_over_classes_and_then_average_over_draws(outcome: FewShotOutcome):
    careful, bold = outcome.rows
    assert (careful.before, careful.after, careful.num_rules) == (8, 6.0, 4)
    assert careful.corrected == pytest.approx((1 / 8 + 3 / 8) / 2)
    assert careful.spread == pytest.approx(((1 / 8) ** 2 * 2) ** 0.5)
    assert careful.makers_corrected == pytest.approx(2 / 3)
    assert careful.drop == pytest.approx(1 / 4 / 200)
    assert careful.bound == pytest.approx(beta.ppf(0.95, 2, 199))
    assert (bold.shots, bold.spread, bold.most_broken) == (None, None, 9)
    assert bold.corrected == pytest.approx(7 / 8)


def test_the_best_is_within_the_drop(outcome: FewShotOutcome):
    assert outcome.best.way == "careful"
    only = FewShotOutcome(outcome.trials[4:], outcome.classes, [1.0], 0.0025, 23)
    assert only.best.way == "bold"
    values = outcome.values()
    assert (values["errors_before"], values["errors"]) == (8.0, 6.0)
    assert values["num_report_images"] == 200


def test_the_kept_rule_is_told(outcome: FewShotOutcome, tmp_path: Path):
    (section,) = write(outcome, tmp_path)
    assert "No rule is kept: none that careful makes" in section
    kept = KeptRule("careful", 1.5, SetErrors(30, 12, 4), SetErrors(200, 20, 21), 3)
    (section,) = write(replace(outcome, kept=kept), tmp_path)
    bound = 100 * beta.ppf(0.95, 4, 197)
    assert "at strength 1.5: 12 → 4 of 30 are wrong" in section
    assert f"of 200 test images that have chosen nothing 3 are broken, at most {bound:.2f}% at 95%" in section
    assert "the drop is 0.50 points" in section
    values = replace(outcome, kept=kept).values()
    assert (values["kept_strength"], values["kept_drop"]) == (1.5, 1 / 200)


def test_without_errors_there_is_nothing_to_correct():
    perfect = trial("way", 0, 0, 0, 0)._replace(tested=SetErrors(5, 0, 0), makers=SetErrors(5, 0, 0))
    outcome = FewShotOutcome([perfect], ["bus"], [1.0], 0.0, 1)
    assert outcome.best.corrected is None
    assert "errors_corrected" not in outcome.values()
    assert summary(outcome).rows[0][4:6] == ["undefined", "undefined"]


def test_the_report_is_made_of_the_kept_outcome(outcome: FewShotOutcome, tmp_path: Path):
    write_outcome(tmp_path / "outcome.pt", outcome)
    (section,) = write(read_outcome(tmp_path / "outcome.pt", FewShotOutcome), tmp_path)
    assert summary(outcome).markdown() in section
    assert "each of 2 classes in turn" in section
    assert "The strength, one of 1, 2, is the one that corrects most" in section
    assert "at a drop of at most 0.25 points" in section
    first, second = summary(outcome).rows
    assert first[:6] == ["careful", "3", "2.00", "8 → 6", "25.0 ± 17.7 %", "66.7%"]
    assert first[6:8] == ["0.12", "1 of 200"]
    assert second[1] == "all"
    assert (tmp_path / "few_shot.png").stat().st_size > 0
    rows = list(csv.DictReader((tmp_path / "few_shot_rules.csv").open()))
    assert [row["left_out"] for row in rows] == ["bus", "tank"] * 3
    assert rows[4]["shots"] == ""
    assert rows[4]["broken"] == "9"
