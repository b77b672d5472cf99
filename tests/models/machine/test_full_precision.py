"""No TF32 where full precision is promised: by the flags, which no card is needed for, and on a card by the result."""

import contextlib
import subprocess
import sys

import pytest
import torch
from torch import nn

from editable.editing import GD, Editor
from editable.models.machine.full_precision import full_precision, same_shapes
from tests.fake_cuda.device import fake_cuda
from tests.paths import ROOT

NEW = hasattr(torch.backends.cudnn, "conv")


def flags() -> list[object]:
    """What a user sees; torch refuses to tell it where the older and the newer way were mixed."""
    return [
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    ]


EXACT = ["highest", False, False]


@pytest.fixture(params=["highest", "high", "medium"])
def setting(request: pytest.FixtureRequest):
    """What a user has asked for, by the way that all versions know."""
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision("highest")


def test_set_and_put_back(setting: str):
    before = flags()
    assert before == [setting, setting != "highest", True]  # cuDNN takes TF32 unless it is told not to
    with contextlib.suppress(KeyError), full_precision():
        assert flags() == EXACT
        if NEW:
            assert "tf32" not in (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision)
        raise KeyError
    assert flags() == before


NEWER = """
import torch
from editable.models.machine.full_precision import full_precision
parts = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
parts[1].fp32_precision = "ieee"
parts[0].fp32_precision = "tf32"
before = [part.fp32_precision for part in parts]
with full_precision():
    print([part.fp32_precision for part in parts])
print(before == [part.fp32_precision for part in parts])
"""


@pytest.mark.skipif(not NEW, reason="this torch has one way to set it")
def test_the_newer_way_is_gone_on_with_where_a_user_has_begun_it():
    """In a process of its own, for there is no way back to the older one."""
    done = subprocess.run([sys.executable, "-c", NEWER], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["['ieee', 'ieee', 'ieee']", "True"]


def test_what_torch_reads_itself_can_be_read():
    with full_precision(), torch.backends.cudnn.flags(enabled=True):
        program = torch.export.export(nn.Conv2d(1, 2, 3), (torch.ones(1, 1, 4, 4),))
    assert program.module()(torch.ones(1, 1, 4, 4)).shape == (1, 2, 2, 2)


def test_as_a_decorator_and_within_itself():
    before = flags()

    @full_precision()
    def inner() -> list[object]:
        with full_precision():
            pass
        return flags()

    assert inner() == inner() == EXACT
    assert flags() == before


@pytest.mark.parametrize("autocast", [False, True])
def test_edits_are_made_in_it_unless_they_may_be_rough(autocast: bool):
    seen = []

    def forward(inputs, params):
        seen.append(flags() == EXACT)
        return torch.func.functional_call(network, params, inputs)

    network = nn.Linear(4, 3)
    editor = Editor(GD(learning_rate=1.0), autocast=autocast)
    editor(forward, dict(network.named_parameters()), torch.randn(1, 4), torch.tensor([2]))
    assert set(seen) == {not autocast}


def test_algorithms_are_tried_unless_runs_shall_repeat():
    assert not torch.backends.cudnn.benchmark
    with same_shapes():
        assert torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    try:
        with same_shapes():
            assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
    assert not torch.backends.cudnn.benchmark


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or fake_cuda() is not None, reason="needs a CUDA device of its own")
def test_convolutions_and_products_are_exact_to_float32():
    images, kernel = torch.randn(2, 64, 16, 16, device="cuda"), torch.randn(64, 64, 3, 3, device="cuda")
    matrix = torch.randn(256, 256, device="cuda")
    with full_precision():
        found = nn.functional.conv2d(images, kernel), matrix @ matrix
    exact = nn.functional.conv2d(images.double(), kernel.double()), matrix.double() @ matrix.double()
    for ours, wanted in zip(found, exact, strict=True):
        assert float((ours - wanted).abs().max() / wanted.abs().max()) < 1e-5  # of TF32: about 3e-4
