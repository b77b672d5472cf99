"""The files of a grown network: weights that load, and a configuration of the run's own model with them."""

from pathlib import Path

import pytest
import torch
import yaml

from editable.callbacks.new_class.grown_files import grown_configuration, write_grown_network
from editable.models import grow_classes, load_weights
from tests.callbacks.new_class.small_new_class import make_network

MODEL = {"class_path": "some.Task", "init_args": {"network": {"class_path": "some.network"}, "weights": "old", "x": 1}}


def test_weights_are_written_and_the_model_gets_them(tmp_path: Path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": MODEL, "data": {"root": "here"}}))
    grown = grow_classes(make_network(), "3")
    path = write_grown_network(tmp_path, grown, "3", "mean")
    assert path == str(tmp_path / "grown.yaml")
    assert yaml.safe_load(Path(path).read_text()) == {
        "model": {
            "class_path": "some.Task",
            "init_args": {
                "network": {
                    "class_path": "editable.models.grow_classes",
                    "init_args": {
                        "network": {"class_path": "some.network"},
                        "layer": "3",
                        "num_new": 1,
                        "pooling": "mean",
                    },
                },
                "weights": str(tmp_path / "grown.safetensors"),
                "x": 1,
            },
        }
    }
    again = grow_classes(make_network(), "3")
    load_weights(again, tmp_path / "grown.safetensors")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in grown.state_dict().items())


@pytest.mark.parametrize(
    "content", [None, {}, {"model": "some.Task"}, {"model": {**MODEL, "init_args": {"network": "some.network"}}}]
)
def test_without_a_model_of_network_and_weights_there_is_no_configuration(tmp_path: Path, content: dict | None):
    if content is not None:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert grown_configuration(tmp_path, "3", "mean") is None
    assert write_grown_network(tmp_path, grow_classes(make_network(), "3"), "3", "mean") is None
    assert (tmp_path / "grown.safetensors").is_file()
    assert not (tmp_path / "grown.yaml").exists()
