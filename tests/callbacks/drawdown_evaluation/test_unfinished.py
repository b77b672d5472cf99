"""A test that was interrupted goes on from its finished edits, with the figures of an uninterrupted one."""

import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from editable.callbacks import DrawdownEvaluation, EvaluatedEdits, RunReport
from editable.callbacks.drawdown_evaluation.unfinished import NAME
from editable.data import DigitsDataModule
from editable.editing import BaseEditor, Editor, LearnedEditor, RMSProp, SamplingSettings
from editable.errors import Interrupted, UserError
from editable.tasks import ClassificationTask
from tests.callbacks.drawdown_evaluation.reference import ALPHA, MAX_STEPS, data_for, make_editor
from tests.quiet_trainer import quiet_trainer
from tests.tasks.reference import LAYERS, loader, small_network

SETTINGS = {"num_edits": 9, "edits_at_once": 2, "generality_views": 2}
SAMPLED = {**SETTINGS, "sampling": SamplingSettings(half_width=0.05), "num_edits": 20}


class StopsBehind(Editor):
    """Makes so many groups of edits, and then is interrupted."""

    groups_left = 3

    def edit_many(self, *args, **kwargs):
        if self.groups_left == 0:
            raise Interrupted(signal.SIGTERM)
        self.groups_left -= 1
        return super().edit_many(*args, **kwargs)

    def configuration(self):
        return make_editor().configuration()


def run(make_trainer, folder: Path, seed: int = 0, **settings) -> tuple[dict[str, float], EvaluatedEdits]:
    network = small_network()
    images, labels = data_for(network, 60)
    if seed:
        network = small_network(seed=seed)
    evaluation = DrawdownEvaluation(**{"editor": make_editor(), "editable_layers": LAYERS, **SETTINGS, **settings})
    trainer: Trainer = make_trainer(precision="64-true", callbacks=[evaluation, RunReport()], default_root_dir=folder)
    (metrics,) = trainer.test(ClassificationTask(network), loader(images, labels), verbose=False)
    return metrics, evaluation.results["test"]


@pytest.fixture(params=[SETTINGS, SAMPLED], ids=["all images", "sampled"])
def settings(request):
    return request.param


def interrupted(make_trainer, folder: Path, **settings) -> Interrupted:
    with pytest.raises(Interrupted) as stopped:
        run(make_trainer, folder, editor=StopsBehind(RMSProp(ALPHA), MAX_STEPS), **settings)
    return stopped.value


def test_resumed_is_as_uninterrupted(make_trainer, tmp_path, settings):
    whole_metrics, whole = run(make_trainer, tmp_path / "whole", **settings)
    stopped = interrupted(make_trainer, tmp_path / "killed", **settings)
    assert stopped.advice == f"--evaluation.resume {tmp_path / 'killed'}"
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {NAME}
    left: list[int] = []
    count_left = make_editor()
    edit_many = count_left.edit_many
    count_left.edit_many = lambda *args, **kwargs: left.append(1) or edit_many(*args, **kwargs)  # type: ignore[method-assign]
    metrics, resumed = run(
        make_trainer, tmp_path / "resumed", editor=count_left, resume=str(tmp_path / "killed"), **settings
    )
    assert len(left) == -(-settings["num_edits"] // 2) - 3
    assert metrics == whole_metrics
    for field, values in zip(resumed.outcomes, whole.outcomes, strict=True):
        assert torch.equal(field, values)
    assert resumed.estimate == whole.estimate
    assert not (tmp_path / "resumed" / NAME).exists()  # it is done
    for name in ("edits.csv", "metrics.json"):
        assert (tmp_path / "resumed" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_resumed_one_can_be_interrupted_again(make_trainer, tmp_path):
    whole_metrics, _ = run(make_trainer, tmp_path / "whole")
    interrupted(make_trainer, tmp_path / "0")
    editor = StopsBehind(RMSProp(ALPHA), MAX_STEPS)
    editor.groups_left = 1
    with pytest.raises(Interrupted):
        run(make_trainer, tmp_path / "1", editor=editor, resume=str(tmp_path / "0"))
    metrics, _ = run(make_trainer, tmp_path / "2", resume=str(tmp_path / "1"))
    assert metrics == whole_metrics


DIFFERENT = {
    "weights": {"seed": 1},
    "edits": {"num_edits": 8},
    "editor": {"editor": Editor(RMSProp(ALPHA), MAX_STEPS + 1)},
    "editable_layers": {"editable_layers": ["all"]},
    "image_stride": {"image_stride": 2},
    "sampling": {"sampling": SamplingSettings(half_width=0.1)},
    "generality_seed": {"generality_seed": 1},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_another_evaluation_cannot_be_resumed(make_trainer, tmp_path, name):
    interrupted(make_trainer, tmp_path / "killed")
    with pytest.raises(UserError, match=rf"was another one, with {name} .* in place of"):
        run(make_trainer, tmp_path / "other", resume=str(tmp_path / "killed"), **DIFFERENT[name])


def learned_editor(learnt: float) -> LearnedEditor:
    """A trained editor, whose settings do not tell what it has learnt."""
    torch.manual_seed(0)
    editor = LearnedEditor(rank=2, max_steps=MAX_STEPS)
    editor.prepare({name: param for name, param in small_network().named_parameters() if name.startswith("7.")})
    nn.init.constant_(editor.transforms["7/weight"].expand.weight, learnt)
    return editor


def test_another_checkpoint_of_a_learned_editor_is_another_evaluation(make_trainer, tmp_path, monkeypatch):
    groups = []

    def edit_many(*args, **kwargs):
        groups.append(1)
        if len(groups) > 2:
            raise Interrupted(signal.SIGTERM)
        return BaseEditor.edit_many(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LearnedEditor, "edit_many", edit_many)
        with pytest.raises(Interrupted):
            run(make_trainer, tmp_path / "killed", editor=learned_editor(0.0), editable_layers=["7"])
    resume = {"resume": str(tmp_path / "killed"), "editable_layers": ["7"]}
    with pytest.raises(UserError, match=r"was another one, with constants .* in place of"):
        run(make_trainer, tmp_path / "other", editor=learned_editor(0.1), **resume)
    run(make_trainer, tmp_path / "resumed", editor=learned_editor(0.0), **resume)


def run_digits(folder: Path, augmentation: str, editor: Editor, **settings) -> None:
    """Evaluate three edits, each judged by two views as the data module augments where nothing is given."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    settings = {"edits_at_once": 1, "editable_layers": ["1"], "generality_views": 2, **settings}
    evaluation = DrawdownEvaluation(3, editor=editor, **settings)
    trainer = quiet_trainer(precision="64-true", callbacks=[evaluation], default_root_dir=folder)
    data = DigitsDataModule(test_limit=20, augmentation=augmentation)
    trainer.test(ClassificationTask(network), data, verbose=False)


def test_views_of_another_augmentation_are_another_evaluation(tmp_path):
    editor = StopsBehind(RMSProp(ALPHA), MAX_STEPS)
    editor.groups_left = 1
    with pytest.raises(Interrupted):
        run_digits(tmp_path / "killed", "shift", editor)
    resume = {"resume": str(tmp_path / "killed")}
    with pytest.raises(UserError, match="with generality_augmentation 'shift' in place of 'crop_flip'"):
        run_digits(tmp_path / "other", "none", make_editor(), **resume)
    run_digits(tmp_path / "named", "none", make_editor(), generality_augmentation="shift", **resume)


@pytest.mark.parametrize("content", [None, b"", b"no tensors"])
def test_a_folder_without_an_unfinished_evaluation_cannot_be_resumed(make_trainer, tmp_path, content):
    if content is not None:
        (tmp_path / NAME).write_bytes(content)
    with pytest.raises(UserError, match=r"^evaluation\.resume: "):
        run(make_trainer, tmp_path / "run", resume=str(tmp_path))
