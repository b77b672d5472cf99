"""Any image classifier of Hugging Face's transformers, from a local folder, from the hub, or with random weights."""

import importlib
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from editable.errors import UserError

__all__ = ["hugging_face_classifier"]

HUB = "hf-hub:"
"""What stands before the id of a model on the hub, as in timm."""

OF_CLASSES = ("num_labels", "id2label")
"""Settings by which a network gets another classifier than its weights have."""

LONGEST = 300
"""Characters of a reason: some list all kinds of models."""


def hugging_face_classifier(source: str, pretrained: bool = True, **settings: Any) -> nn.Module:
    """Build one of the image classifiers of Hugging Face's transformers.

    Weights are read from safetensors files, as data; code that comes with a model is never run. Nothing is asked of
    the hub unless ``source`` names it. Where another number of classes is asked for than the weights have, the
    classifier has random weights, which a warning says.

    Args:
        source: A folder that ``save_pretrained`` has written (``config.json`` and ``model.safetensors``);
            ``hf-hub:owner/name`` for a model on the hub, which is downloaded once; or, without ``pretrained``, a kind
            of model, such as ``vit`` or ``convnext``.
        pretrained: Load the weights; otherwise they are random.
        settings: Entries of the model's configuration that are to be other ones: ``num_labels``, ``image_size``, ….

    Returns:
        The network, in single precision, from images ``[N, C, H, W]`` to an object with ``logits`` ``[N, classes]``,
        which :func:`editable.models.logits_of` understands. Its ``config.id2label`` has the names of its classes.

    Raises:
        UserError: If there is no such model, its weights are no safetensors or do not fit its configuration, it is no
            image classifier, it has no such setting, or transformers is not installed.
    """
    transformers = _import("transformers")
    place, is_local = _place(source, pretrained)
    with _quiet(transformers):
        try:
            if place is None:
                config = transformers.AutoConfig.for_model(source, **settings)
            else:
                config = transformers.AutoConfig.from_pretrained(
                    place, local_files_only=is_local, trust_remote_code=False, **settings
                )
            _require_known(config, settings, source)
            if not pretrained:
                config.architectures = config.architectures or []  # of several classes for a kind, the first one
                return transformers.AutoModelForImageClassification.from_config(config, dtype=torch.float32)
            network, found = transformers.AutoModelForImageClassification.from_pretrained(
                place,
                config=config,
                local_files_only=is_local,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # looked at below
            )
        except UserError:
            raise
        except Exception as error:  # whatever its readers of files, and the hub, raise
            reason = textwrap.shorten(str(error), LONGEST, placeholder=" …") or type(error).__name__
            raise UserError(f"'{source}' cannot be read as an image classifier of transformers ({reason})") from error
    _look_at(found, source, any(name in settings for name in OF_CLASSES))
    return network


def _place(source: str, pretrained: bool) -> tuple[str | None, bool]:
    """Return what transformers is asked for, and whether that is a folder here; none of a kind of model."""
    if source.startswith(HUB):
        return source.removeprefix(HUB), False
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"the folder '{source}' has no config.json, which save_pretrained writes")
        if pretrained and not list(folder.glob("*.safetensors")):
            raise UserError(
                f"the folder '{source}' has no weights as safetensors, which save_pretrained writes; older files may "
                "hold code, and are not read"
            )
        return str(folder), True
    if pretrained or "/" in source:
        raise UserError(
            f"there is no folder '{source}': give one that save_pretrained has written, or {HUB}owner/name to ask the "
            "hub"
        )
    return None, True


def _require_known(config: Any, settings: dict[str, Any], source: str) -> None:
    """Refuse settings that a configuration keeps without knowing them."""
    usual = type(config)()
    for name in settings:
        if not hasattr(usual, name):
            raise UserError(f"the configuration of '{source}', a {type(config).__name__}, has no setting '{name}'")


def _look_at(found: dict[str, Any], source: str, has_other_classes: bool) -> None:
    """Refuse weights that do not fit; say which tensors are random, and which are left out."""
    reshaped = sorted(found["mismatched_keys"])
    if reshaped and not (has_other_classes and len({name.rpartition(".")[0] for name, *_ in reshaped}) == 1):
        name, theirs, ours = reshaped[0]
        raise UserError(
            f"the weights of '{source}' do not fit its configuration: {name} is {list(theirs)} in the file and "
            f"{list(ours)} in the network, as of {len(reshaped)} tensors"
        )
    missing = sorted({*found["missing_keys"], *(name for name, *_ in reshaped)})
    if missing:
        warnings.warn(f"{_some(missing)} of '{source}' are random, as its weights have none that fit", stacklevel=3)
    if found["unexpected_keys"]:
        others = _some(sorted(found["unexpected_keys"]))
        warnings.warn(f"{others} in the weights of '{source}' are left out, as the network has none", stacklevel=3)


def _some(names: list[str]) -> str:
    return f"{len(names)} tensors ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """Keep its reports and bars from the terminal: what they tell is said here."""
    logging = transformers.utils.logging
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _import(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"models of Hugging Face need the package {package}: pip install -e '.[hub]'") from error
