"""Single edits by editors that need reference images or a layer of their own: the same as in a plain loop."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch.func import functional_call

from editable.callbacks import DrawdownEvaluation, ImageEdit
from editable.data import NaturalMistakeEdits
from editable.editing import (
    BaseEditor,
    CodebookEditor,
    EditPatch,
    EditSite,
    MinimalHarmEditor,
    NeuronEditor,
    RidgeEditor,
)
from editable.editing.patches.correction_log import read_log
from editable.models import SplitNetwork
from editable.tasks import ClassificationTask
from tests.callbacks.stream.streams import data, digits, fitted
from tests.quiet_trainer import quiet_trainer
from tests.tasks.reference import loader

NUM_EDITS = 6
EDITORS: dict[str, Callable[[], BaseEditor]] = {
    "minimal harm": lambda: MinimalHarmEditor(num_references=100),
    "ridge": lambda: RidgeEditor(num_references=100),
    "codebook": lambda: CodebookEditor(num_references=100),
    "neuron": lambda: NeuronEditor(num_references=100),
}


def evaluated(editor: BaseEditor, folder) -> DrawdownEvaluation:
    evaluation = DrawdownEvaluation(
        NUM_EDITS, edits=NaturalMistakeEdits(), editor=editor, editable_layers=["3"], generality_views=0
    )
    trainer = quiet_trainer(precision="64-true", default_root_dir=folder, callbacks=[evaluation])
    trainer.test(ClassificationTask(fitted()), datamodule=data(), verbose=False)
    return evaluation


@pytest.mark.parametrize("kind", list(EDITORS))
def test_drawdown_is_that_of_a_plain_loop(kind, tmp_path):
    result = evaluated(EDITORS[kind](), tmp_path).results["test"]

    editor = EDITORS[kind]()
    network = editor.furnish(copy.deepcopy(fitted()))
    module = data()
    module.setup("test")
    images = module.unaugmented_training_images()
    chosen = sorted(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:100].tolist())
    shown = (torch.stack([images[i][0] for i in chosen]).double(), torch.tensor([images[i][1] for i in chosen]))
    split = SplitNetwork(network, list(editor.own_layers or ["3"]))
    placed = editor.at(EditSite(split, lambda number: loader(*shown, batch_size=64)))
    tested, labels = digits()
    tested = tested.double()
    unedited = fitted()
    wrong = (unedited(tested).argmax(dim=1) != labels).sum()
    drawdowns = []
    for index, label in zip(result.index.tolist(), result.new_label.tolist(), strict=True):
        features = split.prefix(tested[index][None])
        params = placed(split.suffix, dict(split.params), features, torch.tensor([label])).params
        with torch.no_grad():
            after = functional_call(network, params, (tested,)).argmax(dim=1)
        drawdowns.append(float((after != labels).sum() - wrong) / len(labels))
    assert result.outcomes.success.all()
    assert result.drawdown.tolist() == pytest.approx(drawdowns, abs=1e-12)


def edited(editor: BaseEditor, folder) -> ImageEdit:
    evaluation = DrawdownEvaluation(0, editor=editor, editable_layers=["3"], generality_views=0)
    edit = ImageEdit(evaluation, 3, "1", max_drawdown=1.0)
    trainer = quiet_trainer(default_root_dir=folder, callbacks=[edit])
    trainer.test(ClassificationTask(fitted().float()), datamodule=data(), verbose=False)
    return edit


def test_one_image_is_edited_and_kept(tmp_path):
    outcome = edited(MinimalHarmEditor(num_references=100), tmp_path).outcome
    assert outcome is not None
    assert outcome.edited.after.argmax(dim=1).tolist() == [1]
    patch = EditPatch.load(tmp_path / "edit.safetensors")
    network = fitted().float()
    with patch.applied(network):
        assert network(digits()[0][3:4]).argmax(dim=1).tolist() == [1]


@pytest.mark.parametrize("editor", [CodebookEditor, NeuronEditor])
def test_an_edit_that_adds_a_layer_is_a_patch_that_brings_it(editor, tmp_path):
    outcome = edited(editor(num_references=100), tmp_path).outcome
    assert outcome.edited.after.argmax(dim=1).tolist() == [1]
    patch, network = EditPatch.load(tmp_path / "edit.safetensors"), fitted().float()
    assert patch.record.harm.number == outcome.values()["num_broken"]
    before = {name: some.clone() for name, some in network.state_dict().items()}
    with patch.applied(network):
        assert network(digits()[0][3:4]).argmax(dim=1).tolist() == [1]
        furnished = {name: some.clone() for name, some in network.state_dict().items()}
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(some, before[name]) for name, some in network.state_dict().items())
    checkpoint = torch.load(tmp_path / "edited.ckpt", "cpu", weights_only=True)["state_dict"]
    own = {name.removeprefix("network."): some for name, some in checkpoint.items() if name.startswith("network.")}
    assert own.keys() == furnished.keys()
    assert all(torch.equal(some, furnished[name]) for name, some in own.items())
    (log,) = (tmp_path / "corrections").iterdir()
    (line,) = read_log(log)
    assert (log.stem, line["by"], line["patch"]) == (
        patch.base,
        editor.__name__,
        str(tmp_path / "edit.safetensors"),
    )
