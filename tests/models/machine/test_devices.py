"""What is kept on a device: as asked for, or by what it has left."""

import pytest
import torch

from editable.editing.evaluation.feature_store import FeatureStore
from editable.models.machine.devices import budget_in_bytes, free_bytes, to_device
from tests.fake_cuda.device import fake_cuda

GIB = 2**30
CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """Let a device have so many bytes left."""

    def leave(number: int) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (number, 80 * GIB))

    return leave


def test_budgets(free):
    free(60 * GIB)
    assert budget_in_bytes(CPU, None) == 4 * GIB
    assert budget_in_bytes(CARD, None) == 30 * GIB
    assert budget_in_bytes(CPU, 0.5) == budget_in_bytes(CARD, 0.5) == GIB // 2
    assert free_bytes(CPU) is None
    assert free_bytes(CARD) == 60 * GIB


@pytest.mark.parametrize(("left", "spilled"), [(4000, False), (3999, True)])
def test_features_stay_on_a_device_as_far_as_its_memory_goes(left, spilled, monkeypatch, tmp_path):
    """Ten rows of a hundred float32 are 4000 bytes."""
    monkeypatch.setattr("editable.editing.evaluation.feature_store.free_bytes", lambda device: left)
    with FeatureStore(10, 2**40, CPU, tmp_path) as store:
        rows = torch.randn(10, 100)
        store.add((rows,), torch.zeros(10, dtype=torch.int64))
        assert store.spilled == spilled
        ((found,), _), *_ = store.batches(10)
        assert torch.equal(found, rows)


@pytest.mark.skipif(fake_cuda() is None, reason="needs --fake-cuda")
def test_expanded_tensors_go_to_a_device():
    """Torch cannot pin one whose elements share memory; an edit of several samples has such labels."""
    labels = torch.tensor([2, 0]).unsqueeze(1).expand(2, 3)
    assert to_device(labels, CARD).tolist() == [[2, 2, 2], [0, 0, 0]]
    images = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert to_device(images, CARD).is_contiguous(memory_format=torch.channels_last)
