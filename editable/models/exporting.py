"""A network on its own in a file: as weights, or as a graph that runs without this package."""

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from editable.errors import UserError
from editable.models.logits import logits_of
from editable.models.state_dicts import tensors_of
from editable.models.weights import write_weights

__all__ = ["FORMATS", "ExportFormat", "format_of"]

CLASSES = "classes.json"


class ExportFormat(ABC):
    """How a network is written, and run again from the file alone.

    Attributes:
        suffix: Of the file's name.
        other_suffixes: Others by which readers take a file for one of this format.
        tolerance: Largest difference of a logit from the network's own, relative to the largest logit of its image or
            1, that is taken for rounding.
    """

    suffix: str
    other_suffixes: tuple[str, ...] = ()
    tolerance: float

    @abstractmethod
    def write(self, network: nn.Module, example: Tensor, path: Path, classes: Sequence[str] | None) -> None:
        """Write a network in evaluation mode.

        Args:
            network: The network, on the CPU.
            example: A batch of what it reads, [N, …] with N ≥ 2.
            path: The file.
            classes: Names of its classes by label, where the format has a place for them.

        Raises:
            UserError: If it cannot be written so.
        """

    @abstractmethod
    def load(self, path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return what the file computes, logits [N, classes] of images [N, …]; weights are put into a copy."""


class StateDict(ExportFormat):
    """Weights by name, as ``torch.save`` writes them and ``torch.load(…, weights_only=True)`` reads them."""

    suffix, tolerance = ".pt", 0.0
    other_suffixes = (".pth", ".ckpt")

    def write(self, network: nn.Module, example: Tensor, path: Path, classes: Sequence[str] | None) -> None:
        """Write the state dict."""
        tensors = {name: some.detach().clone() for name, some in tensors_of(network).items()}
        torch.save({**network.state_dict(), **tensors}, path)

    def load(self, path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Put the weights into a copy."""
        return _with_weights(network, torch.load(path, weights_only=True))


class Safetensors(ExportFormat):
    """Weights by name, with the classes' names in the metadata ``record``."""

    suffix, tolerance = ".safetensors", 0.0

    def write(self, network: nn.Module, example: Tensor, path: Path, classes: Sequence[str] | None) -> None:
        """Write the state dict."""
        write_weights(path, network, record={"classes": list(classes)} if classes else None)

    def load(self, path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Put the weights into a copy."""
        return _with_weights(network, load_file(path))


class TorchExport(ExportFormat):
    """A graph of ``torch.export``, run by ``torch.export.load(…).module()``, for any number of images."""

    suffix, tolerance = ".pt2", 1e-4

    def write(self, network: nn.Module, example: Tensor, path: Path, classes: Sequence[str] | None) -> None:
        """Write the graph."""
        batch = {0: torch.export.Dim("batch")}
        try:
            with torch.no_grad():
                program = torch.export.export(_Logits(network), (example,), dynamic_shapes=(batch,), strict=False)
        except Exception as error:  # whatever torch raises on a network that it cannot export
            raise _refused(network, "torch_export", error) from error
        torch.export.save(program, path, extra_files={CLASSES: json.dumps(classes)} if classes else None)

    def load(self, path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Read the graph."""
        return torch.export.load(path).module()


class Onnx(ExportFormat):
    """An ONNX graph with the input ``images`` and the output ``logits``; classes are in the metadata ``classes``."""

    suffix, tolerance = ".onnx", 1e-4

    def write(self, network: nn.Module, example: Tensor, path: Path, classes: Sequence[str] | None) -> None:
        """Write the graph."""
        onnx = _package("onnx")
        _package("onnxscript")
        batch = {0: torch.export.Dim("batch")}
        try:
            with torch.no_grad():
                program = torch.export.export(_Logits(network), (example,), dynamic_shapes=(batch,), strict=False)
                torch.onnx.export(
                    program,
                    f=str(path),
                    input_names=["images"],
                    output_names=["logits"],
                    external_data=False,
                    verbose=False,
                )
        except Exception as error:  # as above
            raise _refused(network, "onnx", error) from error
        if classes:
            model = onnx.load(path)
            onnx.helper.set_model_props(model, {"classes": json.dumps(list(classes))})
            onnx.save(model, path)

    def load(self, path: Path, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Open the graph by onnxruntime."""
        session = _package("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


FORMATS: dict[str, ExportFormat] = {
    "state_dict": StateDict(),
    "safetensors": Safetensors(),
    "torch_export": TorchExport(),
    "onnx": Onnx(),
}


def format_of(path: Path) -> str | None:
    """Return the name of the format that a file is taken for by its suffix; none where it is no format's."""
    suffix = path.suffix.lower()
    return next((name for name, form in FORMATS.items() if suffix in (form.suffix, *form.other_suffixes)), None)


class _Logits(nn.Module):
    """A network that gives logits alone, whatever it returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return logits_of(self.network(images))


def _with_weights(network: nn.Module, state: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    loaded = copy.deepcopy(network)
    for param in (*loaded.parameters(), *loaded.buffers()):
        param.detach().zero_()  # what the file lacks is not left as it was
    loaded.load_state_dict(state)
    return _Logits(loaded.eval())


def _refused(network: nn.Module, name: str, error: Exception) -> UserError:
    reason = str(error).strip().partition("\n")[0]
    return UserError(
        f"{type(network).__name__} cannot be exported as {name} ({type(error).__name__}: {reason}): "
        "take the format safetensors"
    )


def _package(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise UserError(
            f"the format onnx needs the package {name}, which is not installed: pip install 'editable[onnx]'"
        ) from error
