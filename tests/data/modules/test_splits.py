import pytest
import torch

from editable.data.modules.splits import hold_out, limit
from editable.errors import UserError

LABELS = torch.tensor([0] * 20 + [1] * 10 + [2] * 2 + [3])


def test_hold_out_takes_its_part_of_each_class():
    kept, held_out = hold_out(LABELS, 0.2, seed=0)
    assert LABELS[held_out].bincount(minlength=4).tolist() == [4, 2, 1, 0]
    assert torch.cat([kept, held_out]).sort().values.tolist() == list(range(33))
    assert kept.tolist() == sorted(kept.tolist())


def test_hold_out_leaves_an_image_in_each_class():
    kept, _ = hold_out(LABELS, 0.99, seed=0)
    assert LABELS[kept].bincount(minlength=4).tolist() == [1, 1, 1, 1]


def test_hold_out_depends_on_the_seed_only():
    first, again, other = (hold_out(LABELS, 0.2, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_hold_out_nothing():
    kept, held_out = hold_out(LABELS, 0.0, seed=0)
    assert kept.tolist() == list(range(33))
    assert len(held_out) == 0


def test_limit_is_nested_and_ordered():
    positions = torch.arange(0, 200, 2)
    few, more = limit(positions, 10, seed=1), limit(positions, 50, seed=1)
    assert len(few) == 10
    assert few.tolist() == sorted(few.tolist())
    assert set(few.tolist()) < set(more.tolist()) < set(positions.tolist())
    assert torch.equal(limit(positions, None, seed=1), positions)
    assert not torch.equal(limit(positions, 10, seed=2), few)


def test_limit_beyond_what_there_is():
    with pytest.raises(UserError, match=r"train_limit is 11, but there are only 10"):
        limit(torch.arange(10), 11, seed=0)
