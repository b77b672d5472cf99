"""The command ``app``: its options, what is computed before the page opens, and the end by a signal."""

import copy
import warnings
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from threading import Event, RLock, Thread

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from editable.app.album import Album, draw_images
from editable.app.bench import SEED, Bench
from editable.app.concept import BATCH, ConceptLayer, find_layer
from editable.app.desk import Desk
from editable.app.guard import is_loopback
from editable.app.ledger import Ledger
from editable.app.server import MEGABYTE, Server
from editable.callbacks.drawdown_evaluation import DrawdownEvaluation
from editable.callbacks.run.context import (
    image_data,
    leaves_nothing,
    network_of,
    require_float32,
    require_gradients,
    run_folder,
)
from editable.callbacks.run.edit_loop import progress_bars
from editable.callbacks.run.kept_edit import first_base, log_folder
from editable.calls.running import logits_on
from editable.data import ImageDataModule
from editable.editing import EditPatch
from editable.editing.choosing.candidates import Candidate, candidates_for
from editable.editing.patches.correction_log import append_corrections, entries_of, log_path
from editable.errors import Interrupted, UserError, require_at_least, require_positive, require_whole
from editable.models import fingerprint
from editable.models.logits import require_logits, require_num_classes

__all__ = ["App"]

WHAT = "a page of corrections"
COMMAND = "app"
SHARE_OF_REFERENCES = 3
"""Of the images that are drawn, one in so many is a reference, and the others judge."""
LEAST_IMAGES = 2 * SHARE_OF_REFERENCES


class App(Callback):
    """Opens a page in the browser on which the tested network is corrected, and corrections are taken back.

    An image is picked among test images or dropped onto the page; asked for is its label, or, by painting a part of it,
    that this part behaves as the same part of images of a class does. The page shows the image before and after, where
    the network sees what it takes it for, what the correction costs with its bound, and which images it would break.
    What is kept is a patch and a line in the log of corrections, and has a switch; the tested network never changes. A
    start with the same weights finds the corrections again. It ends by Ctrl-C.

    Corrections of a label are made by the evaluation's editor, or, without one, by the one of least harm among several.

    Args:
        evaluation: Whose editor, editable layers and ``edited_views`` are taken; it does not run itself.
        host: Address to listen on. Any other than this machine's own, such as 0.0.0.0, asks visitors for a token.
        port: To listen on; 0 takes any that is free.
        token: That visitors have to know, 8 or more letters and digits; by default there is none for this machine
            alone, and else one is made and printed.
        open_browser: Open the page.
        num_images: Number of test images that are drawn by seed, of which two thirds are shown and judge corrections,
            and one third tells the editor what images are like.
        layer: Convolution that looks at parts of images; by default the last one that tells positions apart.
        max_upload_megabytes: Largest file that is taken from a visitor.
        max_pixels: Largest height times width of an image in it.
        folder: Where corrections are kept: by default, by the network's weights, in ``corrections`` beside the runs.

    Raises:
        UserError: If an option cannot be meant; when it runs, if nobody can listen there, the folder has corrections of
            another network, or the network cannot be edited.
    """

    def __init__(
        self,
        evaluation: DrawdownEvaluation,
        host: str = "127.0.0.1",
        port: int = 8765,
        token: str | None = None,
        open_browser: bool = False,
        num_images: int = 600,
        layer: str | None = None,
        max_upload_megabytes: float = 20.0,
        max_pixels: int = 40_000_000,
        folder: str | None = None,
    ) -> None:
        require_whole(0, 2**16 - 1, port=port)
        require_at_least(LEAST_IMAGES, num_images=num_images)
        require_positive(max_upload_megabytes=max_upload_megabytes)
        require_at_least(1, max_pixels=max_pixels)
        self.evaluation, self.host, self.port, self.token = evaluation, host, port, token
        self.open_browser, self.num_images, self.layer = open_browser, num_images, layer
        self.max_upload_megabytes, self.max_pixels, self.folder = max_upload_megabytes, max_pixels, folder
        self._desk: Desk | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the page, and answer visitors until a signal ends it."""
        if trainer.world_size > 1:
            raise UserError(f"{WHAT} is shown by one process: set trainer.devices to 1")
        require_float32(trainer, COMMAND)
        require_gradients(trainer.test_loop.inference_mode, "an edit needs gradients")
        if self.folder is None and leaves_nothing(trainer):
            raise UserError(
                "corrections would not be kept, as trainer.logger is false or trainer.fast_dev_run is set: give "
                "app.folder, where they go"
            )
        data = image_data(trainer, WHAT)
        network = copy.deepcopy(network_of(pl_module)).eval()
        own = fingerprint(network.state_dict())
        logs = log_folder(trainer, run_folder(trainer))
        folder = logs / own if self.folder is None else Path(self.folder).expanduser()
        base = first_base(trainer) or own

        def tell(patch: EditPatch, path: Path) -> None:
            there = log_path(logs, base)
            try:
                append_corrections(there, entries_of(patch, path, COMMAND, base))
            except OSError as error:
                raise UserError(
                    f"the correction is kept as '{path}', but cannot be told of in the log '{there}' ({error.strerror})"
                ) from error

        with ExitStack() as ending:
            server = Server(self.host, self.port, self.token, round(self.max_upload_megabytes * MEGABYTE))
            ending.callback(server.server_close)
            ledger = Ledger(folder, own)
            ending.callback(ledger.close)
            Thread(target=server.serve_forever, daemon=True, name="server").start()
            ending.callback(server.shutdown)
            with progress_bars(trainer) as bars:
                bench, album, alone = self._prepare(network, data, ledger, pl_module, bars)
            self._desk = server.desk = Desk(bench, album, ledger, network, tell, alone)
            ending.callback(self._desk.close)
            self._say(server, folder)
            Event().wait()  # for a signal

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say that corrections are found again."""
        if isinstance(exception, Interrupted) and self._desk is not None:
            exception.advice = "the same command, which finds what was kept again"

    def _prepare(
        self, network: nn.Module, data: ImageDataModule, ledger: Ledger, pl_module: LightningModule, bars: Progress
    ) -> tuple[Bench, Album, RLock]:
        """Read images and run them through the network, once for all corrections."""
        task = bars.add_task("test images", total=min(self.num_images, len(data.test_dataset)))
        images, labels, names = draw_images(data, self.num_images, SEED, lambda done: bars.advance(task, done))
        if len(images) < LEAST_IMAGES:
            raise UserError(f"{WHAT} needs {LEAST_IMAGES} test images, and there are {len(images)}: give more data")
        logits = logits_on(network, images[:2])
        require_logits(logits, 2)
        require_num_classes(logits.shape[1], data.num_classes)
        candidates = self._candidates(network, pl_module)
        is_reference = torch.arange(len(images)) % SHARE_OF_REFERENCES == 0
        references, judge = ((images[some], labels[some]) for some in (is_reference, ~is_reference))
        alone = RLock()
        concept = self._concept(network, references, bars)
        task = bars.add_task("judging images", total=len(judge[1]))

        def progress(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total)

        views = self.evaluation.edited_views
        bench = Bench(network, candidates, judge, references, data.classes, views, concept, progress, alone)
        if ledger.patches:
            bench.go_to(ledger.patches)
            bench.prepare()
        shown = [name for name, some in zip(names, is_reference.tolist(), strict=True) if not some]
        return bench, Album(data, *judge, shown, self.max_pixels), alone

    def _candidates(self, network: nn.Module, pl_module: LightningModule) -> list[Candidate]:
        """Return the configured editor, or all that fit the network where there is none."""
        editor = self.evaluation.editor_for(pl_module)
        if editor is None:
            return candidates_for(network)
        self.evaluation.check(pl_module, inference_mode=False)
        return [Candidate(editor, tuple(self.evaluation.editable_layers_for(pl_module)))]

    def _concept(self, network: nn.Module, references: tuple[Tensor, Tensor], bars: Progress) -> ConceptLayer | None:
        """Return what looks at parts of images; none where the network has no convolution for that."""
        images, labels = references
        layer = self.layer or find_layer(network, images[0])
        if layer is None:
            warnings.warn(
                f"{type(network).__name__} has no convolution that tells parts of an image apart: nothing can be "
                "painted, and the page does not show where the network looks",
                UserWarning,
                stacklevel=2,
            )
            return None
        task = bars.add_task(f"reference images, at {layer}", total=2 * len(labels))
        predicted = []
        for batch in images.split(BATCH):
            predicted.append(logits_on(network, batch).argmax(dim=1))
            bars.advance(task, len(batch))
        found = torch.cat(predicted)
        right = torch.where(found == labels, found, -1)
        return ConceptLayer(network, layer, images, right, lambda done: bars.advance(task, done))

    def _say(self, server: Server, folder: Path) -> None:
        """Say where the page is."""
        console = Console()
        for line in (
            f"The page is at {server.address}",
            f"What is kept lies in {folder}; Ctrl-C ends the page, and the same command finds it again",
        ):
            console.print(line, soft_wrap=True, markup=False, highlight=False)
        if not is_loopback(self.host):
            rank_zero_warn(
                f"app.host '{self.host}' can be reached from other machines, and nothing on the way is encrypted: let "
                "only those who may know the images use that network"
            )
        if self.open_browser:
            webbrowser.open(server.address)
