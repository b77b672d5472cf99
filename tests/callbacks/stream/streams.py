"""Streams of corrections of a small network of digits, as the command line makes them."""

import json
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editable.callbacks import CorrectionStream, DrawdownEvaluation, RunReport
from editable.data import DigitsDataModule
from editable.editing import BaseEditor, CodebookEditor, Editor, MinimalHarmEditor, RMSProp, StreamEvaluator
from editable.errors import Interrupted
from editable.tasks import ClassificationTask
from tests.quiet_trainer import quiet_trainer

__all__ = ["EDITORS", "data", "digits", "editor_of", "figures", "fitted", "interrupted", "make_stream", "run"]

NUM_EDITS = 12
EDITORS: dict[str, tuple[Any, list[str] | None]] = {
    "gradient": (lambda: Editor(RMSProp(0.02), 20), ["3"]),
    "minimal harm": (lambda: MinimalHarmEditor(num_references=100), ["3"]),
    "codebook": (lambda: CodebookEditor(num_references=100), None),
}


def data(**settings: Any) -> DigitsDataModule:
    return DigitsDataModule(**{"train_limit": 150, "augmentation": "none", **settings})


def all_of(dataset: Any, number: int | None = None) -> tuple[Tensor, Tensor]:
    pairs = [dataset[index] for index in range(len(dataset) if number is None else number)]
    return torch.stack([torch.as_tensor(image) for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def digits() -> tuple[Tensor, Tensor]:
    """All 359 test images as the network gets them, and their labels."""
    module = data()
    module.setup("test")
    return all_of(module.test_dataset)


def fitted(seed: int = 0, ridge: float = 1e-2) -> nn.Module:
    """A convolution of random weights and a linear layer by least squares on 150 images: wrong on one in four."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 10)).double()
    images, labels = all_of(data(train_limit=None).unaugmented_training_images(), 150)
    with torch.no_grad():
        features = network[:3](images.double())
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        asked = nn.functional.one_hot(labels, 10).double()
        solved = torch.linalg.solve(features.T @ features + ridge * torch.eye(37), features.T @ asked)
        network[3].weight.copy_(10 * solved[:-1].T)
        network[3].bias.copy_(10 * solved[-1])
    return network.eval()


def editor_of(kind: str) -> tuple[BaseEditor, list[str] | None]:
    make, layers = EDITORS[kind]
    return make(), layers


def make_stream(
    kind: str = "minimal harm", evaluation: dict[str, Any] | None = None, **settings: Any
) -> CorrectionStream:
    editor, layers = editor_of(kind)
    given = {"editor": editor, "editable_layers": layers, "generality_views": 3, "num_edits": 0, "val_num_edits": 0}
    return CorrectionStream(
        DrawdownEvaluation(**{**given, **(evaluation or {})}), **{"num_edits": NUM_EDITS, "halves": "even", **settings}
    )


def run(
    stream: CorrectionStream,
    folder: Path,
    network: nn.Module | None = None,
    module: DigitsDataModule | None = None,
    reported: bool = True,
    **settings: Any,
) -> dict[str, float]:
    """Run a stream as the command line does, or without its report; return the metrics."""
    callbacks = [stream, RunReport()] if reported else [stream]
    trainer = quiet_trainer(precision="64-true", default_root_dir=folder, callbacks=callbacks, **settings)
    trainer.test(ClassificationTask(network or fitted()), datamodule=module or data(), verbose=False)
    if not reported:
        return {name: value.item() for name, value in trainer.callback_metrics.items()}
    return json.loads((folder / "metrics.json").read_text())


class StopsBehind:
    """Lets so many corrections be made, and then interrupts; used in place of an evaluator's method."""

    def __init__(self, number: int, name: str) -> None:
        self.left, self.method = number, getattr(StreamEvaluator, name)

    def __call__(self, *arguments: Any) -> Any:
        if self.left == 0:
            raise Interrupted(signal.SIGTERM)
        self.left -= 1
        return self.method(*arguments)


def interrupted(stream: CorrectionStream, folder: Path, number: int, monkeypatch: Any, **settings: Any) -> Interrupted:
    """Leave the folder of a stream that was interrupted behind some of its corrections."""
    name = "correct" if stream.protocol == "stream" else "correct_together"
    stops = StopsBehind(number, name)
    with monkeypatch.context() as patch:
        patch.setattr(StreamEvaluator, name, lambda *arguments: stops(*arguments))
        try:
            run(stream, folder, **settings)
        except Interrupted as stopped:
            return stopped
    raise AssertionError("it was not interrupted")


def figures(metrics: dict[str, float]) -> dict[str, float]:
    """Return all but seconds."""
    return {name: value for name, value in metrics.items() if "seconds" not in name}
