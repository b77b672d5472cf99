"""Corrections in files: switches that are exact, and what a start finds again or refuses."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from editable.app.bench import Asked, Bench
from editable.app.ledger import Ledger
from editable.editing import Editor, EditPatch, RMSProp
from editable.editing.choosing.candidates import Candidate
from editable.errors import UserError
from editable.models import fingerprint
from tests.app.small import PAINTABLE, bench, mistakes, painted, shared, trained

BASE = fingerprint(trained().state_dict())
STATE = {name: value.clone() for name, value in trained().state_dict().items()}


class Kept:
    """Three corrections that were kept on a bench, the middle one by its painted part."""

    def __init__(self, folder: Path, place: Bench, masks: Sequence[Tensor | None] = (None, painted(), None)) -> None:
        self.ledger, self.place, self.again = Ledger(folder, BASE), place, 0
        x, y = shared()[0]
        for position, mask in zip((mistakes()[0], PAINTABLE, mistakes()[1]), masks, strict=True):
            trial = place.correct(Asked(x[position], f"digit {position}", int(y[position]), mask))
            place.go_to([*place.patches, trial.patch])
            self.ledger.keep(trial.asked, trial.by, trial.patch)

    def make(self, before: Sequence[EditPatch], asked: Asked) -> EditPatch:
        self.again += 1
        self.place.go_to(before)
        return self.place.correct(asked).patch

    def switch(self, number: int, on: bool) -> dict[str, Tensor]:
        """Set a switch; return the weights then."""
        patches = self.ledger.stack_for(number, on, STATE, self.make)
        self.place.go_to(patches)
        self.ledger.switch(number, on)
        return self.weights()

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.place.network.state_dict().items()}


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "kept", bench())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_middle_one_goes_and_comes_back_bit_for_bit(kept: Kept):
    """It changes another layer than the others, which stay as they are to the last bit."""
    before = kept.weights()
    without = kept.switch(2, False)
    assert kept.ledger.on == (1, 3)
    assert torch.equal(without["2.weight"], STATE["2.weight"])
    assert torch.equal(without["5.weight"], before["5.weight"])
    assert kept.again == 0
    assert same(kept.switch(2, True), before)
    assert same(kept.switch(2, False), without)


def test_what_rests_on_the_one_that_goes_is_made_again(kept: Kept):
    before = kept.weights()
    without = kept.switch(1, False)
    assert kept.again == 1, "the third has changed the same layer"
    asked = kept.ledger.asked(3)
    with torch.no_grad():
        assert int(kept.place.network(asked.image[None]).argmax()) == asked.label
    assert same(kept.switch(1, True), before)
    assert same(kept.switch(1, False), without)
    assert kept.again == 1


def test_every_setting_of_the_switches_is_reached_and_left(kept: Kept):
    seen: dict[tuple[int, ...], dict[str, Tensor]] = {kept.ledger.on: kept.weights()}
    for number, on in ((1, False), (2, False), (3, False), (2, True), (1, True), (3, True), (3, False), (2, False)):
        weights = kept.switch(number, on)
        assert same(seen.setdefault(kept.ledger.on, weights), weights), kept.ledger.on
    assert same(seen[()], STATE)
    assert len(seen) == 7


def test_what_is_kept_while_one_is_off_stands_on_the_others(tmp_path: Path):
    kept = Kept(tmp_path / "kept", bench())
    kept.switch(1, False)
    x, y = shared()[0]
    position = next(
        place for place in mistakes()[2:] if int(kept.place.predictions[place]) != int(y[place]) and place != PAINTABLE
    )
    trial = kept.place.correct(Asked(x[position], "a digit", int(y[position])))
    kept.place.go_to([*kept.place.patches, trial.patch])
    kept.ledger.keep(trial.asked, trial.by, trial.patch)
    assert kept.ledger.on == (2, 3, 4)
    kept.switch(1, True)
    assert kept.ledger.on == (1, 2, 3, 4)
    for number in (1, 3, 4):
        asked = kept.ledger.asked(number)
        with torch.no_grad():
            assert int(kept.place.network(asked.image[None]).argmax()) == asked.label, number


def test_gradient_edits_of_one_layer(tmp_path: Path):
    place = bench()
    place.candidates = [Candidate(Editor(RMSProp(3e-3), max_steps=50), ("2",))]
    kept = Kept(tmp_path / "kept", place, (None, None, None))
    before = kept.weights()
    kept.switch(2, False)
    assert kept.again == 1
    assert same(kept.switch(2, True), before)


def test_a_start_finds_all_again(kept: Kept):
    without, folder = kept.switch(2, False), kept.ledger.folder
    kept.ledger.close()
    again = Ledger(folder, BASE)
    assert again.corrections == kept.ledger.corrections
    assert again.on == (1, 3)
    place = bench()
    place.go_to(again.patches)
    assert same({name: value.clone() for name, value in place.network.state_dict().items()}, without)
    asked = again.asked(2)
    assert torch.equal(asked.mask, painted())
    assert torch.equal(asked.image, shared()[0][0][PAINTABLE])
    place.go_to(again.stack_for(2, True, STATE, kept.make))
    assert all(some.number == number for number, some in enumerate(again.corrections, 1))


def test_nobody_else_gets_at_the_folder_meanwhile(kept: Kept):
    with pytest.raises(UserError, match="another app is at"):
        Ledger(kept.ledger.folder, BASE)
    kept.ledger.close()
    Ledger(kept.ledger.folder, BASE).close()


def test_corrections_of_another_network_are_refused(kept: Kept):
    kept.ledger.close()
    with pytest.raises(UserError, match="corrections of another network"):
        Ledger(kept.ledger.folder, "0" * 16)
    Ledger(kept.ledger.folder, BASE).close()


def damaged(content: dict[str, Any]) -> list[Any]:
    stacks = content["stacks"]
    return [
        {**content, "format": "editable.app 2"},
        {**content, "corrections": None},
        {**content, "corrections": [{"number": 1}]},
        {**content, "corrections": [{**some, "number": str(some["number"])} for some in content["corrections"]]},
        {**content, "corrections": [{**some, "is_on": 1} for some in content["corrections"]]},
        {**content, "stacks": [{"on": [], "patches": []}]},
        {**content, "stacks": [some for some in stacks if some["on"]]},
        {**content, "stacks": [*stacks[:-1], {**stacks[-1], "patches": ["../../etc/passwd", "a", "b"]}]},
        {**content, "corrections": content["corrections"][::-1]},
        {name: value for name, value in content.items() if name != "network"},
        [],
        "corrections",
    ]


@pytest.mark.parametrize("number", range(12))
def test_a_damaged_list_is_refused_in_a_sentence(kept: Kept, number: int):
    kept.ledger.close()
    path = kept.ledger.folder / "corrections.json"
    path.write_text(json.dumps(damaged(json.loads(path.read_text()))[number]))
    with pytest.raises(UserError, match="no list of corrections that an app has left, or it is damaged"):
        Ledger(kept.ledger.folder, BASE)


def test_what_is_no_json_or_gone_is_refused(kept: Kept):
    folder = kept.ledger.folder
    (folder / "asked-1.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="is not what a correction was asked for"):
        kept.ledger.asked(1)
    kept.ledger.close()
    (folder / "patch-1.safetensors").unlink()
    again = Ledger(folder, BASE)
    with pytest.raises(UserError, match=r"patch-1\.safetensors"):
        _ = again.patches
    again.close()
    (folder / "corrections.json").write_text("{")
    with pytest.raises(UserError, match=r"corrections\.json"):
        Ledger(folder, BASE)
    with pytest.raises(UserError, match="there is no correction 9"):
        kept.ledger.stack_for(9, True, STATE, kept.make)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"app\.folder: .* cannot be made or written to"):
        Ledger(tmp_path / "file" / "kept", BASE)


def test_a_correction_that_cannot_be_made_again_leaves_the_switches(kept: Kept):
    def fails(before: Sequence[EditPatch], asked: Asked) -> EditPatch:
        raise UserError("it does not succeed")

    before, text = kept.ledger.on, (kept.ledger.folder / "corrections.json").read_text()
    with pytest.raises(UserError, match="it does not succeed"):
        kept.ledger.stack_for(1, False, STATE, fails)
    assert kept.ledger.on == before
    assert (kept.ledger.folder / "corrections.json").read_text() == text
