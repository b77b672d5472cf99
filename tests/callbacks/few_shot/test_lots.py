"""Which photographs make a rule, and which test it."""

import torch

from editable.callbacks.few_shot.lots import lots

LABELS = torch.tensor([4, 4, 4, 7, 7, 9, 9, 9, 9])


def test_each_class_is_left_out_in_turn_and_makes_nothing():
    drawn = list(lots(LABELS, [2, None], 3, 0))
    assert [(lot.shots, lot.draw, lot.left_out) for lot in drawn] == [
        *((2, draw, label) for draw in range(3) for label in (4, 7, 9)),
        *((None, 0, label) for label in (4, 7, 9)),
    ]
    for lot in drawn:
        counts = LABELS[lot.makers].bincount(minlength=10).tolist()
        assert counts[lot.left_out] == 0
        assert sum(counts) == len(lot.makers.unique()) == (4 if lot.shots else int((lot.left_out != LABELS).sum()))
    assert set(drawn[0].without(7, LABELS).tolist()) == set(drawn[0].makers.tolist()) - {3, 4}


def test_a_class_is_drawn_alike_whichever_other_is_left_out_and_by_seed():
    first, second, third = list(lots(LABELS, [2], 1, 5))
    nines = [lot.makers[LABELS[lot.makers] == 9].tolist() for lot in (first, second)]
    assert nines[0] == nines[1]
    again = [lot.makers.tolist() for lot in lots(LABELS, [2], 1, 5)]
    assert again == [lot.makers.tolist() for lot in (first, second, third)]
    assert {tuple(lot.makers.tolist()) for lot in lots(LABELS, [2], 6, 0) if lot.left_out == 4} != {tuple(again[0])}


def test_a_class_with_too_few_gives_all_that_it_has():
    assert [len(lot.makers) for lot in lots(LABELS, [3], 1, 0)] == [2 + 3, 3 + 3, 3 + 2]
