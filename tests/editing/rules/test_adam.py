"""Arguments of Adam; what it has in common with other rules is tested in `test_update_rule.py`."""

import pytest

from editable.editing import Adam
from editable.errors import UserError


@pytest.mark.parametrize("bad", [-0.1, 1.0, float("nan")])
def test_square_decay_of_adam_must_be_below_one(bad: float):
    with pytest.raises(UserError, match=f"square_decay must be .*{bad}"):
        Adam(0.1, square_decay=bad)
