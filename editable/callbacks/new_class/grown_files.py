"""The grown network as files: its weights, and a configuration that loads them."""

from pathlib import Path
from typing import Any

import yaml

from editable.atomic import write_atomically
from editable.models import GrownNetwork, LogitKind, Pooling, write_weights

__all__ = ["grown_configuration", "write_grown_network"]

WEIGHTS = "grown.safetensors"
CONFIGURATION = "grown.yaml"


def write_grown_network(
    folder: Path, grown: GrownNetwork, layer: str, pooling: Pooling, logit: LogitKind = "filter"
) -> str | None:
    """Write ``grown.safetensors`` and, where the run has a configuration, ``grown.yaml`` into the run's folder.

    Args:
        folder: The run's.
        grown: The network.
        layer: Beside which its new filter stands.
        pooling: Of the filter's map.
        logit: What its new logit is made of.

    Returns:
        Path of the configuration; none where there is none.
    """
    write_weights(folder / WEIGHTS, grown)
    content = grown_configuration(folder, layer, pooling, logit)
    if content is None:
        return None
    path = folder / CONFIGURATION
    with write_atomically(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return str(path)


def grown_configuration(
    folder: Path, layer: str, pooling: Pooling, logit: LogitKind = "filter"
) -> dict[str, Any] | None:
    """Return a configuration of the model of a run with the grown network in place of its network.

    Args:
        folder: The run's, with its ``config.yaml`` and ``grown.safetensors``.
        layer: Beside which the filter stands.
        pooling: Of its map.
        logit: What the new logit is made of.

    Returns:
        A section ``model``; none where the folder holds no configuration of a task that takes a network and weights.
    """
    path = folder / "config.yaml"
    model = (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}).get("model")
    if not isinstance(model, dict) or not model.get("init_args", {}).keys() >= {"network", "weights"}:
        return None
    settings = {"network": model["init_args"]["network"], "layer": layer, "num_new": 1, "pooling": pooling}
    if logit != "filter":
        settings["logit"] = logit
    network = {"class_path": "editable.models.grow_classes", "init_args": settings}
    changed = {"network": network, "weights": str(folder / WEIGHTS)}
    return {"model": {**model, "init_args": {**model["init_args"], **changed}}}
