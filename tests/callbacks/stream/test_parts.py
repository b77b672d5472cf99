"""Which images are corrected, and which judge: disjoint, decided by the seed, and a shorter stream begins a longer."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from editable.callbacks.stream.parts import Parts, divide
from editable.data import Edits, EditStream, NaturalMistakeEdits, RandomLabelEdits
from editable.editing import BasePredictions
from editable.errors import UserError


def base(number: int, seed: int = 0, wrong: float = 0.4) -> BasePredictions:
    """Predictions of which a part is wrong, in three classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (number,), generator=generator)
    shift = (torch.rand(number, generator=generator) < wrong).long()
    return BasePredictions(labels, (labels + shift) % 3, 3)


def all_of(parts: Parts) -> list[list[int]]:
    return [some.tolist() for some in (parts.edits.indices, parts.rest, parts.certifying, parts.judged)]


SETTINGS = {
    "number": st.integers(30, 120),
    "seed": st.integers(0, 2**31 - 1),
    "halves": st.sampled_from(["random", "even"]),
    "certify": st.booleans(),
    "stream": st.sampled_from([NaturalMistakeEdits(), RandomLabelEdits()]),
}


@given(**SETTINGS)
def test_parts_are_disjoint_and_all_that_there_is(number, seed, halves, certify, stream):
    parts = divide(base(number), stream, None, halves, seed, certify)
    corrected, rest, certifying, judged = all_of(parts)
    together = corrected + rest + certifying + judged
    assert sorted(together) == list(range(number))
    assert len(corrected) + len(rest) == (number + 1) // 2
    assert bool(certifying) == certify
    assert judged
    if halves == "even":
        assert all(position % 2 == 0 for position in corrected + rest)
        assert all(position % 2 == 1 for position in certifying + judged)


@given(**SETTINGS)
def test_the_seed_decides(number, seed, halves, certify, stream):
    random = torch.random.get_rng_state()
    first, again = (divide(base(number), stream, None, halves, seed, certify) for _ in range(2))
    assert all_of(first) == all_of(again)
    assert first.edits.labels.tolist() == again.edits.labels.tolist()
    assert torch.equal(torch.random.get_rng_state(), random)


@given(**SETTINGS, data=st.data())
def test_a_shorter_stream_is_the_beginning_of_a_longer_one(number, seed, halves, certify, stream, data):
    longer = divide(base(number), stream, None, halves, seed, certify)
    fewer = data.draw(st.integers(1, len(longer.edits.indices)))
    shorter = divide(base(number), stream, fewer, halves, seed, certify)
    assert shorter.edits.indices.tolist() == longer.edits.indices[:fewer].tolist()
    assert shorter.edits.labels.tolist() == longer.edits.labels[:fewer].tolist()
    assert shorter.judged.tolist() == longer.judged.tolist()
    assert shorter.certifying.tolist() == longer.certifying.tolist()


@given(**SETTINGS, data=st.data())
def test_held_out_corrections_share_nothing_with_what_is_reported(number, seed, halves, certify, stream, data):
    whole = divide(base(number), stream, None, halves, seed, certify)
    reported = data.draw(st.integers(1, len(whole.edits.indices) - 1))
    shown = divide(base(number), stream, reported, halves, seed, certify)
    try:
        held_out = divide(base(number), stream, None, halves, seed, certify, reported)
    except UserError:  # all images of the half are mistakes
        assume(False)
    corrected, rest, certifying, judged = all_of(held_out)
    assert corrected == whole.edits.indices[reported:].tolist()
    assert held_out.edits.labels.tolist() == whole.edits.labels[reported:].tolist()
    apart = {*shown.edits.indices.tolist(), *shown.certifying.tolist(), *shown.judged.tolist()}
    together = corrected + rest + certifying + judged
    assert len(set(together)) == len(together)
    assert apart.isdisjoint(together)
    assert len(apart) + len(together) == number
    assert judged
    assert abs(len(rest) - len(certifying) - len(judged)) <= 1


@given(**SETTINGS, held_out=st.sampled_from([0, 2]))
def test_the_same_image_is_not_on_two_sides(number, seed, halves, certify, stream, held_out):
    """Whatever is corrected or chooses, and whatever judges, are different images."""
    first = torch.randint(number // 2, (number,), generator=torch.Generator().manual_seed(seed))
    try:
        parts = divide(base(number), stream, 3, halves, seed, certify, held_out, first)
    except UserError:  # nothing is left
        assume(False)
    corrected, rest, certifying, judged = ({int(first[i]) for i in some} for some in all_of(parts))
    assert judged.isdisjoint(corrected | rest | certifying)
    assert corrected.isdisjoint(rest | certifying)
    together = [i for some in all_of(parts) for i in some]
    assert len(set(together)) == len(together)
    if not held_out:
        assert sorted(together + parts.copies.tolist()) == list(range(number))
    assert all(int(first[i]) in corrected | rest | certifying for i in parts.copies.tolist()) or held_out


def test_copies_of_corrected_images_do_not_judge():
    some = base(40)
    plain = divide(some, NaturalMistakeEdits(), 4, "even", 0, False)
    image, other = int(plain.edits.indices[0]), int(plain.judged[0])
    first = torch.arange(40)
    first[[image, other]] = min(image, other)
    parts = divide(some, NaturalMistakeEdits(), 4, "even", 0, False, first=first)
    assert parts.copies.tolist() == [other]
    assert parts.judged.tolist() == plain.judged[1:].tolist()
    assert parts.edits.indices.tolist() == plain.edits.indices.tolist()


def test_ten_of_forty():
    longer, shorter = (divide(base(300), NaturalMistakeEdits(), n, "random", 7, False) for n in (40, 10))
    assert shorter.edits.indices.tolist() == longer.edits.indices[:10].tolist()
    other = divide(base(300), NaturalMistakeEdits(), 40, "random", 8, False)
    assert other.edits.indices.tolist() != longer.edits.indices.tolist()
    assert other.judged.tolist() != longer.judged.tolist()


def test_mistakes_have_their_true_labels():
    some = base(101)
    edits = divide(some, NaturalMistakeEdits(), None, "even", 0, False).edits
    wrong = [i for i in range(0, 101, 2) if some.labels[i] != some.predictions[i]]
    assert sorted(edits.indices.tolist()) == wrong
    assert edits.indices.tolist() != wrong  # the order is drawn
    assert edits.labels.tolist() == some.labels[edits.indices].tolist()


class Anywhere(EditStream):
    """Corrects these images in this order, wherever they are."""

    anywhere = True

    def __init__(self, *positions: int) -> None:
        self.positions = torch.tensor(positions)

    def __call__(self, labels, predictions, num_classes, num_edits=None):
        return Edits(self.positions[:num_edits], labels[self.positions[:num_edits]])


def test_corrections_of_a_table_are_where_and_in_the_order_it_says():
    parts = divide(base(20), Anywhere(13, 2, 7, 1), None, "even", 0, False)
    assert parts.edits.indices.tolist() == [13, 2, 7, 1]
    corrected, rest, _, judged = all_of(parts)
    assert judged == [3, 5, 9, 11, 15, 17, 19]
    assert rest == [0, *range(4, 20, 2)]
    assert sorted(corrected + rest + judged) == list(range(20))
    assert divide(base(20), Anywhere(13, 2, 7, 1), 2, "even", 0, False).edits.indices.tolist() == [13, 2]


@pytest.mark.parametrize(
    ("number", "stream", "num_edits", "message"),
    [
        (1, RandomLabelEdits(), 1, "of 1 test images none is left to judge corrections by"),
        (4, Anywhere(1, 3), None, "of 4 test images none is left to judge corrections by"),
        (
            40,
            NaturalMistakeEdits(),
            41,
            r"stream\.num_edits is 41, but \d+ corrections are there to be made, of the 20",
        ),
        (40, RandomLabelEdits(), 21, "num_edits is 21, but must be from 1 to 20"),
    ],
)
def test_nothing_to_judge_by_or_too_few_corrections(number, stream, num_edits, message):
    with pytest.raises(UserError, match=message):
        divide(base(number), stream, num_edits, "even", 0, False)


@pytest.mark.parametrize(
    ("stream", "num_edits", "held_out", "message"),
    [
        (
            NaturalMistakeEdits(),
            None,
            30,
            r"stream.held_out is 30, but \d+ corrections are there to be made: hold",
        ),
        (NaturalMistakeEdits(), 30, 3, r"num_edits is 30 behind the 3 of stream.held_out, but .* of the 20 .* fewer"),
        (Anywhere(1, 3), None, 2, r"stream.held_out is 2, but 2 corrections"),
        (Anywhere(1, 3), 2, 1, r"num_edits is 2 behind the 1 of stream.held_out, but 2 corrections"),
        (RandomLabelEdits(), 19, 1, r"of 40 test images none is left to judge"),
    ],
)
def test_more_held_out_than_there_are(stream, num_edits, held_out, message):
    with pytest.raises(UserError, match=message):
        divide(base(40), stream, num_edits, "even", 0, False, held_out)


def test_no_mistakes():
    with pytest.raises(UserError, match="makes no mistake on these 20 inputs"):
        divide(base(40, wrong=0.0), NaturalMistakeEdits(), None, "even", 0, False)
