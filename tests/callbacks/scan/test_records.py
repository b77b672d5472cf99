"""What a scan keeps of images: against softmax by hand, and what cannot be read."""

import json
from math import exp
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from editable.callbacks.scan.records import ScanRecords, look_at, read_records, write_records
from editable.errors import UserError

IDENTITY = {"weights": "abc", "concept": {"colour": (1.0, 0.0)}}


def make_records() -> ScanRecords:
    logits = torch.tensor([[[[0.0, 1.0], [3.0, 1.0]]], [[[2.0, 0.0], [0.0, 0.0]]]])  # two images, one network
    labels, found = torch.tensor([1, 0, 0]), torch.tensor([True, False, True])
    return look_at(logits, labels, torch.tensor([5, 2, 9]), found)


def test_probabilities_by_hand():
    records = make_records()
    assert records.predictions.tolist() == [[[1, 0]], [[0, 0]], [[0, 0]]]
    first = [1 / (1 + exp(-1)), 1 / (1 + exp(-2))]
    assert records.top[0, 0].tolist() == pytest.approx(first)
    assert records.true[0, 0].tolist() == pytest.approx([first[0], 1 - first[1]])
    assert records.true[2, 0].tolist() == pytest.approx([1 / (1 + exp(-2)), 0.5])
    assert records.top[1].tolist() == [[0, 0]]
    assert records.of_found.positions.tolist() == [5, 9]


def test_parts_come_back_sorted(tmp_path: Path):
    records = make_records()
    parts = [ScanRecords(*(field[some] for field in records)) for some in (slice(0, 2), slice(2, 3))]
    for rank, part in enumerate(parts):
        write_records(tmp_path, rank, IDENTITY, part)
    read = read_records(tmp_path, IDENTITY)
    assert read.positions.tolist() == [2, 5, 9]
    order = [1, 0, 2]
    assert all(torch.equal(there, here[order]) for there, here in zip(read, records, strict=True))


def test_what_cannot_be_read(tmp_path: Path):
    with pytest.raises(UserError, match=r"no scan in .* which has no scan.safetensors"):
        read_records(tmp_path, IDENTITY)
    write_records(tmp_path, 0, IDENTITY, make_records())
    with pytest.raises(UserError, match="was another one, with weights 'abc' in place of 'xyz'"):
        read_records(tmp_path, {**IDENTITY, "weights": "xyz"})
    save_file({"positions": torch.zeros(1)}, tmp_path / "scan-1.safetensors", {"identity": json.dumps(IDENTITY)})
    with pytest.raises(UserError, match=r"scan-1.safetensors' is not what a scan has left"):
        read_records(tmp_path, IDENTITY)
    save_file({"positions": torch.zeros(1)}, tmp_path / "scan-1.safetensors")
    with pytest.raises(UserError, match=r"scan-1.safetensors' is not what a scan has left"):
        read_records(tmp_path, IDENTITY)
