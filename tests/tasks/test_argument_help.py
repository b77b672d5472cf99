"""The command line explains each argument of a task and of an editor, also where a base class has the text."""

import inspect

import pytest
from jsonargparse import ArgumentParser

from editable.editing import BallEditor, Editor, HigherEditor, LowRankEditor, PreconditionedEditor, StrengthSearch
from editable.tasks import ClassificationTask, EditableFineTuningTask, EditableTrainingTask, GenerationTask

TASKS = [ClassificationTask, EditableTrainingTask, EditableFineTuningTask, GenerationTask]
EDITORS = [BallEditor, Editor, HigherEditor, LowRankEditor, PreconditionedEditor, StrengthSearch]


def help_texts(kind: type) -> dict[str, str | None]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    return {action.dest: action.help for action in parser._actions}


@pytest.mark.parametrize("kind", [*TASKS, *EDITORS])
def test_every_argument_is_explained(kind: type):
    texts = help_texts(kind)
    assert not [name for name in inspect.signature(kind).parameters if not texts[name]]


def test_a_task_may_say_it_in_its_own_words():
    base, fine_tuning = help_texts(EditableTrainingTask), help_texts(EditableFineTuningTask)
    assert base["c_edit"] == fine_tuning["c_edit"]
    assert "original" in fine_tuning["weights"]
    assert "original" not in base["weights"]
