"""What solvers and editors are called in tables."""

import pytest

from editable.callbacks.run.titles import title_of
from editable.editing import GD, Editor, MinimalHarmEditor, RMSProp, StrengthSearch
from editable.rewriting import ClosedForm, ProjectedDescent


@pytest.mark.parametrize(
    ("made", "title"),
    [
        (ClosedForm(), "ClosedForm"),
        (ProjectedDescent(learning_rate=0.5), "ProjectedDescent(learning_rate=0.5)"),
        (MinimalHarmEditor(), "MinimalHarmEditor"),
        (MinimalHarmEditor(epsilon=0.3), "MinimalHarmEditor(epsilon=0.3)"),
        (Editor(GD(0.25), max_steps=3), "Editor(rule=GD(learning_rate=0.25), max_steps=3)"),
        (Editor(RMSProp(0.25, learn_learning_rate=True)), "Editor(rule=RMSProp(learning_rate=0.25))"),
        (StrengthSearch(Editor(GD(0.5))), "StrengthSearch(editor=Editor(rule=GD(learning_rate=0.5)))"),
    ],
)
def test_it_has_what_differs_from_the_default(made: object, title: str):
    assert title_of(made) == title
