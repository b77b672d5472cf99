"""Correct a trained network: an edit of one's own images, kept as a patch where it costs little elsewhere."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import Dataset

import editable.callbacks.edit.report as report
from editable.callbacks.drawdown_evaluation import DrawdownEvaluation
from editable.callbacks.edit.asked import AskedEdits, logits_of_images
from editable.callbacks.edit.cause import refuse_impossible
from editable.callbacks.edit.choosing import AUTO, ImagesThatChose, check_choice, choose_editor
from editable.callbacks.edit.outcome import MOST_CHANGED, Choice, EditedImages, ImageEditOutcome, ScoredImages
from editable.callbacks.run.context import image_data, network_of
from editable.callbacks.run.edit_loop import all_ranks
from editable.callbacks.run.kept_edit import config_of, put_edited, write_edit
from editable.callbacks.run.placed import place
from editable.callbacks.run.subcommand import Subcommand
from editable.calls.running import logits_on
from editable.data import AskedImages, ImageDataModule, denormalise
from editable.data.classes import ClassNames, is_none
from editable.data.edits.asked_table import read_asked_table
from editable.data.images.same_images import SameImages
from editable.data.modules.image_names import image_names
from editable.editing import BaseEditor, EditRecord, Harm, needs_place, split_for, upper_bound
from editable.editing.editors.objective import is_predicted
from editable.editing.patches.owners import rows_of
from editable.errors import UserError, require_seed, require_within
from editable.models import SplitNetwork
from editable.models.logits import require_logits, require_num_classes

__all__ = ["ImageEdit"]

WHAT = "an edit of images"
MOST_DRAWN = 12


class ImageEdit(Subcommand):
    """Edits the tested network so that images get the labels asked for, and keeps the edit if it costs little.

    All images are edited together: the editor goes on until each has its label, with ``evaluation.edited_views`` views
    of it; or one after the other, each on top of the last. An image has its label where that is predicted, strictly
    above all others. An edit that does not succeed ends the run; of several one after the other, one that does not is
    left out, and the report tells which of the earlier ones still hold in the end. One that does is measured on the
    test images, each ``evaluation.image_stride``-th. Where its drawdown on those that are neither edited nor edited
    views, nor the same as one of these, is at most ``max_drawdown``, it is left as ``edit.safetensors``, a patch for
    the tested weights (``--patches`` of other subcommands), and as the whole checkpoint ``edited.ckpt``. The tested
    network itself never changes, and ``test_error`` is that of the unedited one.

    Logs ``edit_num_steps``, ``edit_num_images`` and, on ``edit_num_scoring_images`` such test images,
    ``edit_error_before``, ``edit_error``, ``edit_drawdown``, ``edit_agreement``, ``edit_num_corrected`` and
    ``edit_num_broken``; with the ``edit_num_edited_test_images`` that were left out, ``edit_drawdown_with_edited``;
    one after the other, ``edit_num_made`` and ``edit_num_holding``;
    besides ``edit_generality_before`` and ``edit_generality``, on ``evaluation.generality_views``
    views of each image that are no part of the edit.

    With the editor ``auto``, those that fit the network make the edit one after the other, each from the unedited
    network: closed forms of the classifier, gradients on the block before it at several learning rates, and the
    evaluation's own with its layers. The one is taken that leaves the fewest images wrong of one half of the test
    images; harm is counted on the other half, which has chosen nothing.

    Args:
        evaluation: Whose editor, editable layers and views are taken; it does not run itself.
        images: Image files, or positions of test images (from 0, in the order of the data set); one or several.
        table: In place of images and labels, a table (CSV or Parquet) with the columns image and label; an image is a
            file, the name of a test image, or its position.
        editor: ``auto`` chooses the editor and its layers by harm; by default it is the evaluation's.
        mode: ``together``, or as a ``stream``, one after the other, each of which ``patches drop`` can drop alone.
        labels: For each image the label asked for: the name of a class, or its number where no class has that name. By
            default the true labels, which only test images have.
        max_drawdown: Largest rise of the error rate on test images that are not edited, as a fraction, at which the
            edit is kept.
        log: Folder of the log of corrections, to which an edit that is kept adds a line: by default ``corrections``
            beside the runs (docs/patch-format.md); ``false`` for none.
        seed: Of the half of the test images that chooses an editor.

    Attributes:
        outcome: What came out; none before the run.

    Raises:
        UserError: When it runs, if there is nothing to edit with, an image or label is not
            there, or the edit does not succeed; at the end, if it costs too much to be kept.
    """

    command = "edit"
    leaves = (report.PATCH, report.CHECKPOINT)
    in_any_precision = True
    summary, write = staticmethod(report.summary), staticmethod(report.write)

    def __init__(
        self,
        evaluation: DrawdownEvaluation,
        images: list[str | int] | str | int | None = None,
        labels: ClassNames | None = None,
        table: str | None = None,
        mode: Literal["together", "stream"] = "together",
        max_drawdown: float = 0.01,
        log: bool | str = True,
        editor: Literal["auto"] | None = None,
        seed: int = 0,
    ) -> None:
        require_within("[-1, 1]", max_drawdown=max_drawdown)
        require_seed(seed=seed)
        self.evaluation, self.editor, self.seed = evaluation, editor, seed
        if (images is None) == (table is None):
            raise UserError("edit needs images, or a table that has them with their labels: give one of the two")
        if table is not None and not is_none(labels, ()):
            raise UserError("edit.labels go with edit.images: a table has the label of each image in its line")
        self.images = images if isinstance(images, list) or images is None else [images]
        self.labels, self.table_file, self.mode = labels, table, mode
        self.max_drawdown, self.kept_log = max_drawdown, log
        self.outcome: ImageEditOutcome | None = None
        self._by, self._chose = evaluation, ImagesThatChose()
        self._choice: Choice | None = None
        self._split: SplitNetwork | None = None
        self._edited: EditedImages | None = None
        self._params: dict[str, Tensor] = {}
        self._owners = torch.zeros(0, dtype=torch.int64)
        self._same = SameImages(torch.zeros(0, 0))
        self._scored: list[ScoredImages] = []
        self._num_seen = 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the edit, which is a matter of seconds, before the test images are run."""
        self._by, self._choice, self._chose = self.evaluation, None, ImagesThatChose()
        if self.editor == AUTO:
            check_choice(trainer, pl_module, self.evaluation)
        else:
            self.evaluation.check(pl_module, trainer.test_loop.inference_mode)
        data = image_data(trainer, WHAT)
        if self.table_file is None:
            asked = AskedImages(self.images or [], self.labels, data)
        else:
            images, labels = read_asked_table(self.table_file, image_names(data.test_dataset))
            asked = AskedImages(images, list(labels), data)
        self._edited, self._params = self._edit(trainer, pl_module, asked, data)
        self._scored, self._num_seen = [], 0

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Run both networks on the scoring images of a batch of test images."""
        assert self._split is not None, "the edit is made when the test starts"
        stride = self.evaluation.image_stride  # over all batches: 0, s, 2s, …
        images, labels = (some[-self._num_seen % stride :: stride] for some in batch)
        self._num_seen += len(batch[1])
        edited = self._same(images)
        told = (edited | ~self._chose(images)).to(images.device)  # what has chosen the editor tells nothing of it
        images, labels, edited = images[told], labels[told], edited[told.cpu()]
        if not len(labels):
            return
        with torch.no_grad(), trainer.precision_plugin.test_step_context():
            features = self._split.prefix(images)
            before, after = (
                self._split.suffix(features, params).argmax(dim=-1).cpu()
                for params in (self._split.params, self._params)
            )
        data = image_data(trainer, WHAT)
        changed = images.cpu()[(before != after) & ~edited][:MOST_CHANGED].float()
        shown = denormalise(changed, data.mean, data.std)
        self._scored.append(ScoredImages(labels.cpu(), before, after, edited, shown))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count what the edit has changed, and keep it if it costs little."""
        assert self._edited is not None, "the edit is made when the test starts"
        scored = ScoredImages.join([some for own in all_ranks(self._scored, trainer.world_size) for some in own])
        self.outcome = ImageEditOutcome(self._edited, scored, self.max_drawdown, self._choice)
        pl_module.log_dict({f"edit_{name}": value for name, value in self.outcome.values().items()}, sync_dist=True)
        if self.failure() is not None:
            return
        assert self._split is not None, "the edit is made when the test starts"
        records, command = self._records(trainer, pl_module, self.outcome), self.command
        names = report.PATCH, report.CHECKPOINT
        write_edit(trainer, self._split.network, self._params, records, *names, command, self.kept_log)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the edited network in place of the task's own, in the checkpoint alone."""
        assert self._split is not None, "the edit is made when the test starts"
        put_edited(checkpoint, self._split.network, self._params)

    def failure(self) -> str | None:
        """Return why the edit was not kept, and what to do."""
        assert self.outcome is not None, "an edit is kept or not once it has run"
        return self.outcome.refusal

    def _edit(
        self, trainer: Trainer, pl_module: LightningModule, asked: AskedImages, data: ImageDataModule
    ) -> tuple[EditedImages, dict[str, Tensor]]:
        """Make the edit, and look at what it does to its images and to other views; return the parameters besides."""
        dataset, labels, names = data.evaluated(asked), asked.labels, list(asked.names or [])
        images = torch.stack([dataset[index][0] for index in range(len(dataset))])
        judged, learnt = self._views(trainer, dataset, images)
        edits = AskedEdits(images, learnt, labels, self.mode == "stream")
        self._refuse(network_of(pl_module), names, edits, data)
        if self.editor == AUTO:
            self._by, self._choice, self._chose = choose_editor(trainer, pl_module, self.evaluation, edits, self.seed)
        editor: BaseEditor = self._by.editor_for(pl_module).to(pl_module.device).with_strict_success()
        split = self._split = split_for(editor, network_of(pl_module), self._by.editable_layers_for(pl_module))
        if editor.own_layers is None:
            split.require_gradients()
        params = {name: param.detach() for name, param in split.params.items()}
        before = logits_of_images(split, images, params)
        if needs_place(editor):
            editor = place(editor, split, data.unaugmented_training_images(), data.batch_size, pl_module.device)
        made = torch.zeros(0) > 0
        if edits.one_by_one:
            edited_params, made, steps, self._owners = edits.in_turn(editor, split)
            if not made.any():
                raise UserError(f"none of the {len(labels)} edits succeeds: take another editor or learning rate")
        else:
            result = edits.at_once(editor, split)
            edited_params, steps = result.params, int(result.num_steps)
            if not result.success:
                raise UserError(edits.failure(split, result))
        after = logits_of_images(split, images, edited_params)
        self._same = SameImages(edits.together)
        edited = EditedImages(
            names,
            data.classes,
            denormalise(images[:MOST_DRAWN], data.mean, data.std),
            labels,
            before.float().softmax(dim=-1),
            after.float().softmax(dim=-1),
            _held(split, judged, labels, params),
            _held(split, judged, labels, edited_params),
            steps,
            made,
        )
        return edited, edited_params

    def _refuse(self, network: nn.Module, names: list[str], edits: AskedEdits, data: ImageDataModule) -> None:
        """Raise a :class:`UserError` where there is nothing to edit, or no edit can do what is asked."""
        logits, number = logits_on(network, edits.together), len(names)
        require_logits(logits, len(edits.together))
        require_num_classes(logits.shape[1], data.num_classes)
        refuse_impossible(names, edits.images, edits.labels, logits[:number], data.classes)
        if is_predicted(logits, edits.targets).all():
            raise UserError("the network gives all images the labels asked for already: there is nothing to edit")

    def _views(self, trainer: Trainer, dataset: Dataset, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the views of images [N, C, H, W] that judge their edit, and those that are part of it."""
        views = self.evaluation.make_views(trainer, dataset)
        if views is None:
            none = images.new_zeros(len(images), 0, *images.shape[1:])
            return none, none
        made = torch.stack([views[index] for index in range(len(views))])
        judged, edited = made.tensor_split([self.evaluation.generality_views], dim=1)
        return judged, edited

    def _records(self, trainer: Trainer, pl_module: LightningModule, outcome: ImageEditOutcome) -> list[EditRecord]:
        """Return what the patch tells of each of its edits: one of all images, or one of each that was made."""
        editor, edited = self._by.editor_for(pl_module), outcome.edited
        try:
            made_by = editor.configuration()
        except UserError:  # a user's own editor need not be one that can be written down
            made_by = {"class_path": f"{type(editor).__module__}.{type(editor).__qualname__}"}
        others = outcome.scored.others
        number, level = len(others.labels), 0.95
        bound = upper_bound(others.num_broken, number, level).item()
        layers = editor.own_layers or self._by.editable_layers_for(pl_module)
        asked, labels = edited.asked(), edited.labels.tolist()
        groups = [list(range(len(labels)))]
        if self.mode == "stream":
            groups = [[some] for some in edited.made.nonzero().flatten().tolist()]
        records = []
        for group in groups:
            last = group is groups[-1]
            records.append(
                EditRecord(
                    [asked[some] for some in group],
                    {"editor": made_by, "editable_layers": layers if layers is None else list(layers)},
                    _measured_on(number, outcome) if last else "",
                    outcome.values() if last else {},
                    list(edited.classes),
                    [edited.names[some] for some in group],
                    [labels[some] for some in group],
                    Harm("broken", others.num_broken, number, bound, level) if last else None,
                    rows_of(group, self._owners, self._params) if self.mode == "stream" else {},
                    config=config_of(trainer),
                )
            )
        return records


@torch.no_grad()
def _held(split: SplitNetwork, views: Tensor, labels: Tensor, params: Mapping[str, Tensor]) -> Tensor:
    """Return which views [N, V, C, H, W] of images have their labels [N], bool [N, V]."""
    if not views.shape[1]:
        return torch.zeros(len(labels), 0) > 0
    each = zip(views, labels, strict=True)
    return torch.stack([is_predicted(logits_of_images(split, some, params), label) for some, label in each])


def _measured_on(number: int, outcome: ImageEditOutcome) -> str:
    chose = "" if outcome.choice is None else ", and have not chosen the editor"
    return f"{number} test images that are not edited{chose}"
