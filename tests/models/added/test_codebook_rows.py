"""A codebook's rows in a file: as many as there are come back, by weights and by a checkpoint's state."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editable.errors import UserError
from editable.models import Codebook, Neurons, add_codebook, add_neurons, load_weights, write_weights
from editable.models.added.row_layer import row_counts
from tests.tasks.reference import NUM_CLASSES, images_and_labels, small_network


def with_rows(number: int, seed: int = 0) -> torch.nn.Module:
    """A network whose codebook has some rows, which fire at some images."""
    network = add_codebook(small_network(seed=seed)).eval()
    codebook = next(module for module in network.modules() if isinstance(module, Codebook))
    codebook.resize(1 + number)
    features = network.base[:7](images_and_labels(number, seed=7)[0])
    with torch.no_grad():
        codebook.match.weight[1:] = codebook.query(features)
        codebook.thresholds[0] = 1
        codebook.thresholds[1:] = 0.9
        codebook.values[1:] = torch.eye(NUM_CLASSES, dtype=torch.float64)[torch.arange(number) % NUM_CLASSES]
    return network


@pytest.mark.parametrize("number", [0, 1, 5])
@pytest.mark.parametrize("there", [0, 3])
def test_weights_bring_their_rows(number, there, tmp_path: Path):
    source, network = with_rows(number), with_rows(there, seed=1)
    save_file({name: some.contiguous() for name, some in source.state_dict().items()}, tmp_path / "w.safetensors")
    load_weights(network, tmp_path / "w.safetensors")
    images = torch.cat([images_and_labels(5, seed=7)[0], images_and_labels(20)[0]])
    assert torch.equal(network(images), source(images))
    assert all(param.requires_grad for param in network.parameters())


@pytest.mark.parametrize("part", ["match.weight", "thresholds", "values", "strengths"])
def test_parts_that_do_not_agree_are_refused_and_nothing_is_changed(part, tmp_path: Path):
    state = {name: some.clone() for name, some in with_rows(4).state_dict().items()}
    state[f"codebook.{part}"] = state[f"codebook.{part}"][:2].clone()
    save_file(state, tmp_path / "w.safetensors")
    network = with_rows(1)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UserError, match=r"do not fit CodebookNetwork: .* of another shape") as error:
        load_weights(network, tmp_path / "w.safetensors")
    assert "\n" not in str(error.value)
    torch.testing.assert_close(dict(network.state_dict()), dict(before), rtol=0, atol=0)


@pytest.mark.parametrize("damage", [{"values": torch.zeros(0, NUM_CLASSES)}, {"values": torch.zeros(5, 3)}])
def test_no_rows_and_other_classes_are_refused(damage, tmp_path: Path):
    state = {name: some.clone() for name, some in with_rows(4).state_dict().items()}
    for part, value in damage.items():
        state[f"codebook.{part}"] = value.double()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="of another shape"):
        load_weights(with_rows(1), tmp_path / "w.safetensors")


def test_rows_are_counted_by_name():
    assert row_counts(with_rows(2), with_rows(4).state_dict()) == {"codebook": 5}
    assert row_counts(with_rows(2), small_network().state_dict()) == {}
    assert row_counts(small_network(), with_rows(4).state_dict()) == {}


def test_rows_of_neurons_load_as_well(tmp_path: Path):
    grown, loaded = add_neurons(small_network()), add_neurons(small_network())
    (neurons,) = (module for module in grown.modules() if isinstance(module, Neurons))
    neurons.resize(4)
    torch.nn.init.normal_(neurons.values)
    write_weights(tmp_path / "grown.safetensors", grown)
    load_weights(loaded, tmp_path / "grown.safetensors")
    state = loaded.state_dict()
    assert state.keys() == grown.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in grown.state_dict().items())
