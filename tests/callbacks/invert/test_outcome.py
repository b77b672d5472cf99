"""What is logged of a study is computed from its outcome alone."""

from dataclasses import replace
from pathlib import Path

from editable.callbacks.invert.outcome import InverseDirectionOutcome
from editable.callbacks.run.outcome_file import read_outcome, write_outcome
from tests.callbacks.invert.made_up import made_up
from tests.callbacks.same_outcome import assert_same


def test_values():
    values = made_up().values()
    sets = {name: value for name, value in values.items() if not name.startswith(("forwards", "kept", "lost"))}
    assert sets == {
        "num_report_images": 100,
        "report_error_before": 0.1,
        "num_exemplars_images": 8,
        "exemplars_error_before": 1,
    }
    assert {name: value for name, value in values.items() if name.startswith("lost")} == {
        "lost_residual_before": 0.5,
        "lost_residual": 0.4,
        "lost_inverse_residual": 3e-12,
        "lost_survives": 0,
        "lost_loss_before": 0.25,
        "lost_loss": 0.125,
        "lost_output_change": 0.015,
        "lost_relative_norm": 0.3,
        "lost_seconds": 1.5,
        "lost_report_error": 0.15,
        "lost_exemplars_error": 0.25,
    }
    assert values["kept_survives"] == 1
    assert not {"forwards_survives", "forwards_inverse_residual"} & set(values)


def test_errors_are_those_of_full_strength_or_of_the_last():
    outcome = made_up()
    assert outcome.reported_strength == 1
    weak = replace(outcome, strengths=[0.25, 0.5])
    assert weak.reported_strength == 0.5
    assert weak.values()["kept_exemplars_error"] == 0.5


def test_it_is_plain_data(tmp_path: Path):
    write_outcome(tmp_path / "invert_outcome.pt", made_up())
    assert_same(read_outcome(tmp_path / "invert_outcome.pt", InverseDirectionOutcome), made_up())
