"""The editor ``auto``: which one costs least is found on one half of the test images, and told of the other half."""

import copy
from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from editable.callbacks.drawdown_evaluation import DrawdownEvaluation
from editable.callbacks.edit.asked import AskedEdits
from editable.callbacks.edit.outcome import Choice
from editable.callbacks.run.context import image_data, network_of, require_float32, require_gradients
from editable.callbacks.run.edit_loop import progress_bars
from editable.callbacks.run.placed import place, training_images
from editable.calls.judge import halves
from editable.data.images.same_images import SameImages, digest
from editable.editing import BaseEditor
from editable.editing.choosing.candidates import Candidate, candidates_for
from editable.editing.choosing.trials import JudgingImages, Trials
from editable.editing.choosing.tried import least_harmful, tell
from editable.errors import UserError
from editable.models import SplitNetwork
from editable.models.split.split_network import require_splittable

__all__ = ["AUTO", "ChosenEditor", "ImagesThatChose", "check_choice", "choose_editor"]

AUTO = "auto"
LEVEL = 0.95


class ImagesThatChose:
    """Finds, in batches, images that are the same as one by which an editor was chosen; they are kept as digests."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, images: Tensor) -> None:
        """Take images [N, C, H, W], as the network gets them."""
        self._digests.update(map(digest, images))

    def __call__(self, batch: Tensor) -> Tensor:
        """Return which images of a batch [N, C, H, W] have chosen, bool [N], on the CPU."""
        return torch.tensor([bool(self._digests) and digest(image) in self._digests for image in batch])


class ChosenEditor(NamedTuple):
    """What was chosen.

    Attributes:
        evaluation: The settings, with the chosen editor and its layers in place of its own.
        choice: What is told of it.
        images: Finds those that have chosen it.
    """

    evaluation: DrawdownEvaluation
    choice: Choice
    images: ImagesThatChose


def check_choice(trainer: Trainer, pl_module: LightningModule, evaluation: DrawdownEvaluation) -> None:
    """Raise a :class:`UserError` where no editor could be chosen, before anything is computed."""
    require_float32(trainer, f"edit.editor {AUTO}")
    require_gradients(trainer.test_loop.inference_mode, "an edit needs gradients")
    require_splittable(network_of(pl_module))
    if evaluation.editor_for(pl_module) is not None and evaluation.editable_layers_for(pl_module) is not None:
        evaluation.check(pl_module, inference_mode=False)


def choose_editor(
    trainer: Trainer, pl_module: LightningModule, evaluation: DrawdownEvaluation, asked: AskedEdits, seed: int
) -> ChosenEditor:
    """Let all editors that fit a task's network make what is asked, and take the one that breaks least.

    Args:
        trainer: Of the run.
        pl_module: The task.
        evaluation: Whose editor, where there is one, is tried too.
        asked: What is asked.
        seed: Of the half of the test images that chooses, each ``evaluation.image_stride``-th of it.

    Raises:
        UserError: If nothing in the network can be edited, or no editor succeeds.
    """
    data, network = image_data(trainer, "an edit of images"), network_of(pl_module)
    candidates = [*candidates_for(network), *_own(pl_module, evaluation)]
    number = len(data.test_dataset)
    judged = halves(number, True, seed)[0][:: evaluation.image_stride]
    chose = ImagesThatChose()

    def batches() -> Iterable[tuple[Tensor, Tensor]]:
        for images, labels in DataLoader(Subset(data.test_dataset, judged.tolist()), batch_size=data.batch_size):
            chose.add(images)
            yield images, labels

    def placed(editor: BaseEditor, split: SplitNetwork) -> BaseEditor:
        return place(editor, split, training_images(trainer), data.batch_size, pl_module.device)

    judging = JudgingImages(batches, len(judged), SameImages(asked.together))
    enough = 1 if asked.one_by_one else len(asked.labels)
    budget, folder = evaluation.memory_budget, evaluation.features_folder
    trials = Trials(network, asked.make, placed, enough, judging, budget, folder)
    with closing(trials), progress_bars(trainer) as progress:
        found = []
        for candidate in progress.track(candidates, description="editors that fit the network"):
            found.append(trials.run(candidate)._replace(made=None))  # it is made again by the one that is chosen
        tried = tell(found, judged[trials.others], LEVEL)
    chosen = least_harmful(tried)
    if chosen is None:
        raise UserError(
            f"edit.editor {AUTO}: none of {len(tried)} editors gives all images the labels asked for: "
            f"{'; '.join(map(str, tried[:6]))}"
        )
    by = copy.copy(evaluation)
    by.editor, by.editable_layers = candidates[chosen].editor, list(candidates[chosen].layers)
    return ChosenEditor(by, Choice(tried, chosen, len(asked.labels)), chose)


def _own(pl_module: LightningModule, evaluation: DrawdownEvaluation) -> list[Candidate]:
    """Return the editor of the settings or the task, where there is one with layers that it may change."""
    editor, layers = evaluation.editor_for(pl_module), evaluation.editable_layers_for(pl_module)
    if editor is None or layers is None:
        return []
    return [Candidate(editor, tuple([layers] if isinstance(layers, str) else layers))]
