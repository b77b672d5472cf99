"""A configuration written from an editor makes the same editor again, through the parser of the command line."""

import json
from functools import partial

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from editable.editing import (
    GD,
    Adam,
    AdaptiveRProp,
    BallEditor,
    BaseEditor,
    CodebookEditor,
    Editor,
    HigherEditor,
    Momentum,
    RMSProp,
    RProp,
    ScaledGD,
    StrengthSearch,
    UpdateRule,
)
from editable.editing.editors.configuration import class_path_of
from editable.errors import UserError
from tests.editing.evaluation.test_learning_rates import edit

EDITORS = [
    Editor(GD(0.3), max_steps=3, margin=0.25, autocast=True),
    Editor(ScaledGD(0.3, epsilon=1e-3)),
    Editor(Momentum(0.3, 0.75)),
    Editor(RMSProp(0.3, 0.25, 1e-4, learn_learning_rate=True, learn_decay=True)),
    Editor(RProp(3.2e-05)),
    Editor(AdaptiveRProp(0.3, 0.25, 2.0, 1e-3, 1.5)),
    Editor(Adam(0.3, 0.5, 0.75, 1e-12, learn_decay=True)),
    HigherEditor(partial(torch.optim.SGD, lr=0.3, momentum=0.5, nesterov=True), 3, 0.25),
    HigherEditor(torch.optim.Adam, 4),
    BallEditor(GD(0.3), 0.25, "linf", 3, 0.5),
    StrengthSearch(HigherEditor(partial(torch.optim.SGD, lr=0.3)), 0.25, 7),
]


@pytest.mark.parametrize("editor", EDITORS, ids=lambda editor: str(editor.configuration()["init_args"])[:60])
def test_configuration_makes_the_same_editor(editor: BaseEditor) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(BaseEditor, "editor")
    text = yaml.safe_dump({"editor": editor.configuration()})
    made = parser.instantiate(parser.parse_string(text)).editor
    assert type(made) is type(editor)
    assert (made.max_steps, made.margin) == (editor.max_steps, editor.margin)
    assert torch.equal(edit(made), edit(editor))
    assert made.configuration() == editor.configuration()
    assert json.loads(json.dumps(editor.configuration()))["class_path"] == f"editable.editing.{type(editor).__name__}"


def test_learnt_constants_are_written_as_learnt() -> None:
    rule = RMSProp(1e-3, 0.5, learn_decay=True)
    with torch.no_grad():
        rule.logit_decay.fill_(1.0)
    arguments = Editor(rule).configuration()["init_args"]["rule"]["init_args"]
    assert arguments["decay"] == pytest.approx(0.7310585786)
    assert arguments["learn_decay"] is False


class Forgetful(GD):
    """Does not keep its argument."""

    def __init__(self, learning_rate: float, secret: int) -> None:
        super().__init__(learning_rate)


class Odd(UpdateRule):
    """Keeps an argument that no file can hold."""

    def __init__(self, learning_rate: float, function=print) -> None:
        super().__init__(learning_rate)
        self.function = function

    def update(self, grads, state, params):
        return params, state


@pytest.mark.parametrize(
    ("rule", "message"),
    [(Forgetful(0.1, 3), "Forgetful cannot .* argument 'secret'"), (Odd(0.1), "Odd.function cannot be written")],
)
def test_what_cannot_be_written_is_a_user_error(rule: UpdateRule, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Editor(rule).configuration()


def test_each_of_several_values_is_written() -> None:
    editor = CodebookEditor(layers=["layer4.0.conv1", "avgpool"])
    assert editor.configuration()["init_args"]["layers"] == ["layer4.0.conv1", "avgpool"]


def test_an_editor_that_cannot_be_written_is_described_by_what_it_looks_like() -> None:
    assert Editor(GD(0.1)).description() == Editor(GD(0.1)).configuration()
    odd = Editor(Forgetful(0.1, 3), max_steps=7)
    assert odd.description() == repr(odd)
    assert "max_steps=7" in odd.description()


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (GD, "editable.editing.GD"),
        (torch.optim.SGD, "torch.optim.SGD"),
        (torch.nn.Linear, "torch.nn.Linear"),
        (Forgetful, f"{__name__}.Forgetful"),
        (dict, "builtins.dict"),
    ],
)
def test_the_shortest_path_of_a_class(kind: type, path: str) -> None:
    assert class_path_of(kind) == path
