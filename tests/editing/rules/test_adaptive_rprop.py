"""Arguments of classical RProp; what it has in common with other rules is tested in `test_update_rule.py`."""

import pytest

from editable.editing import AdaptiveRProp
from editable.errors import UserError


@pytest.mark.parametrize("bad", [{"shrink": 0.0}, {"shrink": 1.0}, {"grow": 1.0}, {"min_step": 1.0, "max_step": 0.1}])
def test_factors_and_limits_of_adaptive_rprop(bad: dict[str, float]):
    with pytest.raises(UserError, match=f"^{next(iter(bad))} must be "):
        AdaptiveRProp(0.1, **bad)
