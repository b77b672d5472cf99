"""Stacks of patches: a hundred there and back, merged, and freed of any one of them."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from editable.editing import EditPatch, EditRecord
from editable.editing.patches.on_states import with_patch, without_patch
from editable.editing.patches.stack import drop, merge, place_of
from editable.errors import UserError
from editable.models import Codebook, add_codebook
from tests.editing.patches.kinds import copy_of, correct, network, record, same

NAMES = [f"patch {number}" for number in range(200)]


def never(number: int, edits: Sequence[EditRecord], before: Sequence[EditPatch], state: dict[str, Tensor]) -> EditPatch:
    raise AssertionError(f"patch {number} needs not be made again")


def stacked(kinds: Sequence[str], base: nn.Module) -> tuple[list[EditPatch], list[Tensor]]:
    """Make one correction on the other; return the patches, and the images."""
    own, patches, images = copy.deepcopy(base), [], []
    for number, kind in enumerate(kinds):
        furnished, params, image = correct(kind, own, number)
        patches.append(EditPatch.of(furnished, params, record(number)))
        patches[-1].apply_(own)
        images.append(image)
    return patches, images


def labels(some: nn.Module, images: Sequence[Tensor]) -> list[int]:
    with torch.no_grad():
        return [int(some(image).argmax()) for image in images]


def test_a_hundred_patches_there_and_back() -> None:
    """Rows, single entries, low rank and whole tensors, in a mixed order; back in the reverse one."""
    generator = torch.Generator().manual_seed(0)
    own = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 10)).eval()
    before = copy_of(own)
    furnished = copy.deepcopy(own)
    book = Codebook(40, 10)
    patches, states = [], [before]
    furnished = add_codebook(furnished)
    params = {f"codebook.{part}": furnished.get_parameter(f"codebook.{part}") for part in Codebook.rows}
    more = {name: torch.rand(1, *some.shape[1:], generator=generator) for name, some in params.items()}
    first = {name: torch.cat([some.detach(), more[name]]) for name, some in params.items()}
    patches.append(EditPatch.of(furnished, first))
    patches[0].apply_(own)
    states.append(copy_of(own))
    for number in range(1, 120):
        name = ("base.0.weight", "base.2.weight", "base.2.bias")[number % 3]
        values = {name: own.get_parameter(name).detach().clone()}
        if number % 4 == 0:
            values = {
                f"codebook.{part}": torch.cat([some, torch.rand(1, *some.shape[1:], generator=generator)])
                for part in book.rows
                for some in [own.get_parameter(f"codebook.{part}").detach()]
            }
        elif number % 5 == 0 or name.endswith("bias"):
            values[name].view(-1)[number % 10] += 1
        elif number % 2:
            u, v = (torch.randn(size, generator=generator) for size in values[name].shape)
            values[name] += 0.01 * u[:, None] * v
        else:
            values[name] = torch.randn(values[name].shape, generator=generator)
        patches.append(EditPatch.of(own, values, record(number)))
        patches[-1].apply_(own)
        states.append(copy_of(own))
    for number in reversed(range(120)):
        wrong = patches[(number + 60) % 120]
        with pytest.raises(UserError, match="is not the last one"):
            wrong.revert_(own)
        assert same(own, states[number + 1]), "refused with nothing changed"
        patches[number].revert_(own)
        assert same(own, states[number])
    for number, patch in enumerate(patches[:30]):
        with pytest.raises(UserError, match="was made for other weights"):
            patches[number + 1].apply_(own)
        patch.apply_(own)
        assert same(own, states[number + 1])


def test_a_stack_without_a_network() -> None:
    base = network()
    patches, _ = stacked(["gd", "codebook", "codebook"], base)
    state, plain = base.state_dict(), copy_of(base)
    for patch in patches:
        state = with_patch(state, patch)
    own = copy.deepcopy(base)
    for patch in patches:
        patch.apply_(own)
    assert same(own, state)
    with pytest.raises(UserError, match=r"^the patch is not the last one in these weights"):
        without_patch(state, patches[0])
    for patch in reversed(patches):
        state = without_patch(state, patch)
    assert same(base, state)
    assert same(base, plain)
    with pytest.raises(UserError, match=r"^the patch was made for other weights"):
        with_patch(state, patches[1])


@pytest.mark.parametrize("kinds", [["gd", "gd", "rmsprop"], ["codebook"] * 4, ["gd", "neurons", "neurons"]])
def test_one_of_several(kinds: list[str]) -> None:
    base = network()
    patches, images = stacked(kinds, base)
    own, other, before = copy.deepcopy(base), copy.deepcopy(base), copy_of(base)
    for patch in patches:
        patch.apply_(own)
    merged = merge(patches, before, NAMES[: len(patches)])
    assert (merged.base, merged.edited) == (patches[0].base, patches[-1].edited)
    assert [edit.asked for edit in merged.edits] == [patch.record.asked for patch in patches]
    if kinds[-1] in ("codebook", "neurons"):
        (layer,) = merged.edits[-1].rows
        rows = [row for edit in merged.edits for row in edit.rows.get(layer, [])]
        assert rows == list(range(kinds.count(kinds[-1])))
    merged.apply_(other)
    assert same(other, copy_of(own))
    assert labels(other, images) == labels(own, images)
    merged.revert_(other)
    assert same(other, before)


def test_ten_mistakes_and_one_of_the_middle_ones_dropped() -> None:
    """Its rows are gone, and all others are what they were, bit for bit: as patches, and as one patch."""
    base = network()
    patches, images = stacked(["codebook"] * 10, base)
    own, plain, before = copy.deepcopy(base), labels(base, images), copy_of(base)
    for patch in patches:
        patch.apply_(own)
    state = copy_of(own)
    asked = labels(own, images)
    assert all(now != then for now, then in zip(asked, plain, strict=True))
    for dropped in (1, 5, 10):
        left = drop(patches, before, dropped, NAMES[:10], never)
        assert [some.how for some in left] == ["as it was"] * (dropped - 1) + ["on other weights"] * (10 - dropped)
        assert [some.patch.record.asked for some in left] == [
            patch.record.asked for number, patch in enumerate(patches, 1) if number != dropped
        ]
        fewer = copy.deepcopy(base)
        for some in left:
            some.patch.apply_(fewer)
        for name, value in fewer.state_dict().items():
            expected = state[name]
            if name.removeprefix("codebook.") in Codebook.rows:
                expected = torch.cat([expected[:dropped], expected[dropped + 1 :]])
            assert torch.equal(value, expected), name
        expected_labels = [label if number != dropped else plain[number - 1] for number, label in enumerate(asked, 1)]
        assert labels(fewer, images) == expected_labels
        (one,) = drop([merge(patches, before, NAMES[:10])], before, dropped, NAMES[:1], never)
        assert one.how == "without the edit"
        assert len(one.patch.edits) == 9
        together = copy.deepcopy(base)
        one.patch.apply_(together)
        assert same(together, copy_of(fewer))
        assert [edit.rows["codebook"] for edit in one.patch.edits] == [[number] for number in range(9)]
        for some in reversed(left):
            some.patch.revert_(fewer)
        assert same(fewer, before)


def test_ten_mistakes_by_gradient_steps_of_their_own_layers() -> None:
    """What the dropped edit had no part in keeps its values; what it had is made again, and that alone."""
    base = network()
    kinds = ["gd", "rmsprop", "gd", "minimal harm"]
    patches, _ = stacked(kinds, base)
    before, made = copy_of(base), []

    def again(
        number: int, edits: Sequence[EditRecord], earlier: Sequence[EditPatch], state: dict[str, Tensor]
    ) -> EditPatch:
        made.append((number, len(earlier)))
        own = copy.deepcopy(base)
        for patch in earlier:
            patch.apply_(own)
        assert same(own, dict(state))
        furnished, params, _ = correct(kinds[number], own, number)
        return EditPatch.of(furnished, params, edits)

    left = drop(patches, before, 1, NAMES[:4], again)
    assert [some.how for some in left] == ["on other weights", "made again", "on other weights"]
    assert made == [(2, 1)]
    own, whole = copy.deepcopy(base), copy.deepcopy(base)
    for some in left:
        some.patch.apply_(own)
    for patch in patches:
        patch.apply_(whole)
    for name, value in whole.state_dict().items():
        if name.startswith(("layer3.", "fc.")):
            assert torch.equal(own.state_dict()[name], value)
    made.clear()
    assert [some.how for some in drop(patches, before, 4, NAMES[:4], never)] == ["as it was"] * 3


def shifted(own: nn.Module, name: str, by: float) -> EditPatch:
    """Add to a tensor of a network, and put the patch into it."""
    patch = EditPatch.of(own, {name: own.state_dict()[name] + by}, EditRecord([f"{name}: {by:+}"]))
    patch.apply_(own)
    return patch


def test_what_was_made_again_makes_again_what_stands_on_it() -> None:
    """The second patch changes another bias than before, when it is made again: the third one's."""
    base = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    own, before = copy.deepcopy(base), copy_of(base)
    patches = [shifted(own, name, by) for name, by in [("0.bias", 1), ("0.bias", 2), ("1.bias", 4), ("2.bias", 8)]]

    def again(
        number: int, edits: Sequence[EditRecord], earlier: Sequence[EditPatch], state: dict[str, Tensor]
    ) -> EditPatch:
        there = copy.deepcopy(base)
        there.load_state_dict(state)
        name = "1.bias"
        return EditPatch.of(there, {name: state[name] + 16 * number}, edits)

    left = drop(patches, before, 1, NAMES[:4], again)
    assert [some.how for some in left] == ["made again", "made again", "on other weights"]
    for some in left:
        some.patch.apply_(base)
    for name, value in base.state_dict().items():
        expected = {"1.bias": 16 + 32, "2.bias": 8}.get(name, 0)
        torch.testing.assert_close(value, before[name] + expected)


def test_names_of_a_shared_tensor_are_kept_where_an_edit_before_it_is_dropped() -> None:
    base = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    base[1].weight = base[0].weight
    own, before = copy.deepcopy(base), copy_of(base)
    patches = [shifted(own, name, by) for name, by in [("0.bias", 1), ("1.weight", 2)]]
    assert patches[1].tied == {"0.weight": ["1.weight"]}
    (left,) = drop(patches, before, 1, NAMES[:2], never)
    assert (left.how, left.patch.tied) == ("on other weights", {"0.weight": ["1.weight"]})
    state = with_patch(before, left.patch)
    assert torch.equal(state["0.weight"], before["0.weight"] + 2)
    assert torch.equal(state["1.weight"], state["0.weight"])
    merged = merge(patches, before, NAMES[:2])
    assert merged.tied == patches[1].tied


def test_an_edit_of_a_patch_of_several_without_rows_is_made_again() -> None:
    base = network()
    patches, _ = stacked(["gd", "gd"], base)
    merged = merge(patches, base.state_dict(), NAMES[:2])

    def refuse(
        number: int, edits: Sequence[EditRecord], earlier: Sequence[EditPatch], state: dict[str, Tensor]
    ) -> EditPatch:
        assert [edit.asked for edit in edits] == [["image 1: a → b"]]
        raise UserError("it cannot")

    with pytest.raises(UserError, match="it cannot"):
        drop([merged], base.state_dict(), 1, NAMES[:1], refuse)


def test_rows_that_a_dropped_edit_had_replaced_come_back() -> None:
    """The same image is corrected twice: without the second correction, the first holds again."""
    base = network()
    own = copy.deepcopy(base)
    patches = []
    for number in (0, 1, 0, 2):
        furnished, params, image = correct("codebook", own, number)
        patches.append(EditPatch.of(furnished, params, record(number)))
        patches[-1].apply_(own)
        if len(patches) == 2:
            both = copy_of(own)
    assert "removed" in patches[2].changes["codebook.values"]
    left = drop(patches, base.state_dict(), 3, NAMES[:4], never)
    fewer = copy.deepcopy(base)
    for some in left[:2]:
        some.patch.apply_(fewer)
    assert same(fewer, both)
    left[2].patch.apply_(fewer)
    assert len(fewer.codebook.thresholds) == 4
    left = drop(patches, base.state_dict(), 1, NAMES[:4], never)
    assert "removed" not in left[1].patch.changes["codebook.values"]
    del image


def test_edits_are_numbered_over_all_patches() -> None:
    base = network()
    patches, _ = stacked(["codebook"] * 3, base)
    merged = merge(patches[:2], base.state_dict(), NAMES[:2])
    stack = [merged, patches[2]]
    assert [place_of(stack, number) for number in (1, 2, 3)] == [(0, 0), (0, 1), (1, 0)]
    for number in (0, 4, -1):
        with pytest.raises(UserError, match=f"there is no edit {number}: the patches have 3"):
            place_of(stack, number)


def test_patches_that_do_not_stack_are_refused_by_name() -> None:
    base = network()
    patches, _ = stacked(["codebook"] * 3, base)
    for some in (
        lambda: merge(patches[1:], base.state_dict(), NAMES[:2]),
        lambda: drop(patches[::-1], base.state_dict(), 1, NAMES[:3], never),
    ):
        with pytest.raises(UserError, match=r"^patch 0 was made for other weights"):
            some()
