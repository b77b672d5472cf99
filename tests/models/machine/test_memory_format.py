"""Networks that torch's channels-last kernels would overrun stay contiguous, for as long as torch overruns them."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

from editable.models import cifar_resnet, cifar_resnet18, lay_out_channels_last
from editable.models.machine import memory_format
from editable.models.machine.memory_format import overruns_channels_last
from tests.warned import no_warning

needs_kernels = pytest.mark.skipif(
    sys.platform != "linux" or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="the kernels that overrun are those of oneDNN for AVX2 and AVX-512",
)
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
AVX512 = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}

OVERRUN = """
import resource, sys, torch
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
torch.set_num_threads(1)
name, inputs, outputs, settings, size = eval(sys.argv[1])
layer = getattr(torch.nn, name)(inputs, outputs, 1, 2, bias=False, **settings)
x = torch.randn(4, inputs, size, size).contiguous(memory_format=torch.channels_last)
for _ in range(50):
    layer(x).square().sum().backward()
"""

TRAINING = """
import torch
from editable.data import Edits
from editable.editing import Editor, RMSProp
from editable.models import cifar_resnet18
from editable.tasks import EditableTrainingTask

torch.set_num_threads(1)
for edits in (1, 2):
    task = EditableTrainingTask(
        cifar_resnet18(width=2), Editor(RMSProp(1e-3, learn_decay=True), 2, 1e4), ["layer3"], channels_last=True,
    ).train()
    images, labels = torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    edits = Edits(torch.arange(edits), torch.arange(edits) + 3)
    for low_precision in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
            logits, features = task.unedited_pass(images)
            loss = task.loss_terms(logits, features, (images, labels), edits).loss
        loss.backward()
"""


def run_checked(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run a program in a process whose allocator looks for overruns at each call, and fills what it gives and takes."""
    # From glibc 2.34 on, MALLOC_CHECK_ works only with the library for it.
    checks = {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", "LD_PRELOAD": "libc_malloc_debug.so.0"}
    environment = {**os.environ, **checks, **variables}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 1, stride=2),
        nn.Conv2d(15, 64, 1, stride=2, bias=False),
        nn.Conv2d(3, 1, 1, stride=(1, 2)),
        nn.Conv2d(4, 8, 1, stride=3, dilation=2, padding="valid"),
        nn.Conv2d(4, 8, 1, stride=2, padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(64, 2, 1, stride=2, output_padding=1),
    ],
    ids=str,
)
def test_narrow_strided_points_overrun(layer: nn.Module):
    assert overruns_channels_last(layer)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 4, 1, stride=2),  # one channel lies the same either way
        nn.Conv2d(16, 4, 1, stride=2),
        nn.Conv2d(2, 4, 1),
        nn.Conv2d(2, 4, 3, stride=2),
        nn.Conv2d(2, 4, 1, stride=2, padding=1),
        nn.Conv2d(4, 4, 1, stride=2, groups=4),
        nn.Conv2d(4, 4, 1, stride=2, groups=2),
        nn.ConvTranspose2d(2, 64, 1, stride=2),
        nn.Conv1d(2, 4, 1, stride=2),
        nn.Linear(2, 4),
    ],
    ids=str,
)
def test_other_layers_do_not(layer: nn.Module):
    assert not overruns_channels_last(layer)


def test_a_later_torch_is_trusted_from_the_version_that_is_mended(monkeypatch: pytest.MonkeyPatch):
    layer = nn.Conv2d(2, 4, 1, stride=2)
    monkeypatch.setattr(memory_format, "MENDED_IN", "99.1")
    assert overruns_channels_last(layer)
    monkeypatch.setattr(memory_format, "MENDED_IN", "2.6")
    assert not overruns_channels_last(layer)


@pytest.mark.parametrize("before", [torch.contiguous_format, torch.channels_last])
def test_a_network_with_such_a_layer_is_contiguous_and_says_why(before: torch.memory_format):
    network = cifar_resnet18(width=8).to(memory_format=before)
    with pytest.warns(UserWarning, match=r"stays contiguous .* layer2\.0\.downsample\.0, Conv2d\(8, 16,"):
        assert lay_out_channels_last(network) == torch.contiguous_format
    assert all(param.is_contiguous() for param in network.parameters())


def test_other_networks_lie_channels_last():
    network = cifar_resnet(10, width=16, layers=(1, 1, 1, 1))
    with no_warning():
        assert lay_out_channels_last(network) == torch.channels_last
    kernels = [param for param in network.parameters() if param.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@needs_kernels
@pytest.mark.parametrize(
    "case",
    [
        ("Conv2d", 2, 4, {}, 8),
        ("Conv2d", 7, 4, {}, 128),
        ("ConvTranspose2d", 16, 2, {"output_padding": 1}, 64),
    ],
    ids=str,
)
def test_torch_still_overruns(case: tuple):
    """Fails once torch is mended, so that the rule does not outlive its reason."""
    crashed = run_checked(OVERRUN, repr(case), **AVX2).returncode
    if memory_format.MENDED_IN is None:
        assert crashed < 0, (
            f"torch {torch.__version__} no longer crashes for {case}: if it is mended, and not only this shape spared, "
            "set editable.models.machine.memory_format.MENDED_IN to the first such version"
        )
    elif TorchVersion(torch.__version__) >= memory_format.MENDED_IN:
        assert crashed == 0


@needs_kernels
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="this machine has no AVX-512, whose blocks are of 16"
)
def test_torch_still_overruns_up_to_sixteen_channels():
    for channels, crashes in ((15, memory_format.MENDED_IN is None), (16, False)):
        result = run_checked(OVERRUN, repr(("Conv2d", channels, 4, {}, 128)), **AVX512)
        assert (result.returncode < 0) == crashes, f"{channels} channels: exit {result.returncode}, {result.stderr}"


@needs_kernels
@pytest.mark.parametrize("variables", [{}, AVX2], ids=["own", "AVX2"])
def test_training_a_narrow_network_channels_last_leaves_memory_alone(variables: dict[str, str]):
    result = run_checked(TRAINING, **variables)
    assert result.returncode == 0, result.stderr
    assert "stays contiguous" in result.stderr
