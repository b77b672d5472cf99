"""Tensors in a file come back as they were, or not at all."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from editable.models.tensor_file import DIGEST, read_tensors, write_tensors


def test_what_is_written_is_read(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    strided = torch.arange(6.0).view(2, 3).T.requires_grad_()
    write_tensors(path, {"a": strided, "b": torch.tensor([True])}, {"says": "שלום", "empty": ""})
    tensors, texts = read_tensors(path)
    assert texts == {"says": "שלום", "empty": ""}
    assert tensors.keys() == {"a", "b"}
    assert torch.equal(tensors["a"], strided)
    assert not tensors["a"].requires_grad


def test_its_digest_is_that_of_the_format(tmp_path: Path):
    """As docs/patch-format.md has it, with nothing but a hash."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"b": torch.tensor([1, 2], dtype=torch.int16)}, {"says": "é"})
    expected = hashlib.sha256(b"b torch.int16 [2]\n\x01\x00\x02\x00" + b"text says torch.uint8 [2]\n" + "é".encode())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"says": "é", DIGEST: expected.hexdigest()[:16]}


def test_what_is_no_such_file(tmp_path: Path):
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(ValueError, match="no complete safetensors file"):
        read_tensors(tmp_path / "text.safetensors")
    with pytest.raises(OSError, match=r"."):
        read_tensors(tmp_path / "nowhere.safetensors")
