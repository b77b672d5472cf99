"""Settings of sampling out of their range are refused when they are made."""

import pytest

from editable.editing import SamplingSettings
from editable.errors import UserError


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "either half_width or forward_passes, got half_width=None, forward_passes=None"),
        ({"half_width": 0.1, "forward_passes": 3}, "either half_width or forward_passes, got half_width=0.1"),
        ({"half_width": 0.0}, r"half_width must be in \(0, 1\), got 0.0"),
        ({"half_width": 1.0}, r"half_width must be in \(0, 1\), got 1.0"),
        ({"forward_passes": 0}, "forward_passes must be at least 1, got 0"),
    ],
)
def test_sampling_out_of_range(bad: dict[str, float], message: str):
    with pytest.raises(UserError, match=message):
        SamplingSettings(**bad)
