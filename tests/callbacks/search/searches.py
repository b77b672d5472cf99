"""Searches on a small network as the command line makes them, whole or killed in the middle."""

import copy
import json

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from editable.callbacks import DrawdownEvaluation, LearningRateSearch, RunReport
from editable.editing import EditEvaluator, Editor, RMSProp
from editable.tasks import ClassificationTask
from tests.quiet_trainer import quiet_trainer
from tests.tasks.reference import LAYERS, images_and_labels

LOWEST, HIGHEST, PER_DECADE = 0.003, 3.0, 1
NUM_EDITS, MAX_STEPS, MIN_SUCCESS = 12, 4, 0.55


def data_for(network, number, seed=3):
    """Images of which the network gets about a quarter wrong."""
    images, random = images_and_labels(number, seed=seed)
    predictions = copy.deepcopy(network).eval()(images).argmax(dim=1)
    return images, torch.where(torch.arange(number) % 4 == 1, random, predictions)


def loader_of(images, labels):
    return DataLoader(TensorDataset(images, labels), batch_size=100)


def make_evaluation(**settings):
    editor = Editor(RMSProp(0.05), MAX_STEPS)
    return DrawdownEvaluation(**{"editor": editor, "editable_layers": LAYERS, **settings})


def make_search(evaluation=None, **settings):
    defaults = {
        "lowest": LOWEST,
        "highest": HIGHEST,
        "per_decade": PER_DECADE,
        "num_edits": NUM_EDITS,
        "min_success": MIN_SUCCESS,
        "half_width": None,
        "split": "val",
    }
    return LearningRateSearch(evaluation or make_evaluation(), **{**defaults, **settings})


def run(search, network, images, labels, folder, task=None, reported=True):
    """Search as the command line does, or without its report, whose figure takes longest; the metrics."""
    callbacks = [search, RunReport()] if reported else [search]
    trainer = quiet_trainer(precision="64-true", default_root_dir=folder, callbacks=callbacks)
    loop = trainer.test if search.split == "test" else trainer.validate
    loop(task or ClassificationTask(network), loader_of(images, labels), verbose=False)
    if not reported:
        return {name: value.item() for name, value in trainer.callback_metrics.items()}
    return json.loads((folder / "metrics.json").read_text())


class Killed(Exception):
    """What ends a search in the middle."""


def interrupted(folder, network, images, labels, finished=2, **settings):
    """Leave the folder of a search that was killed after some of its rates."""
    score = EditEvaluator.score
    calls = []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) > finished:
            raise Killed
        return score(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EditEvaluator, "score", killed)
        with pytest.raises(Killed):
            run(make_search(**settings), network, images, labels, folder)
    assert len(json.loads((folder / "search.json").read_text())["outcomes"]) == finished
    assert not (folder / "metrics.json").exists()
