"""What is logged of the four tests: what is defined, under names that say the set."""

import pytest
import torch

from editable.callbacks.judge.outcome import FourTestsOutcome, SetOutcome
from editable.metrics import TargetCurve

NAN = float("nan")


def curve(area: float) -> TargetCurve:
    return TargetCurve(torch.zeros(0), torch.zeros(0), torch.tensor(area, dtype=torch.float64))


def test_values_are_those_that_are_defined():
    figures = {"normal_same_num_images": 2.0, "normal_same_accuracy": 0.5, "normal_other_accuracy": NAN}
    curves = {"normal": (curve(0.5), curve(0.75)), "manipulated": (curve(NAN), curve(NAN))}
    outcome = FourTestsOutcome(
        target=["car"],
        noise=None,
        edited=None,
        confusing_share=0.1,
        seed=0,
        num_images=8,
        accuracy_before=0.75,
        accuracy=0.5,
        sets={"random": SetOutcome(3, figures, curves)},
        examples=None,
    )
    assert outcome.values() == {
        "accuracy_before": 0.75,
        "accuracy": 0.5,
        "drop": pytest.approx(0.25),
        "random_num_images": 3.0,
        "random_normal_same_num_images": 2.0,
        "random_normal_same_accuracy": 0.5,
        "random_normal_auc_before": 0.5,
        "random_normal_auc": 0.75,
    }
