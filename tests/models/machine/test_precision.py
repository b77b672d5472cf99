"""The processor is asked, and the table decides."""

import os
import subprocess
import sys

import pytest
import torch

from editable.models.machine.precision import PROCESSORS, bfloat16_speed, fastest_scoring, fastest_training, processor
from tests.paths import ROOT

KINDS = [  # what torch says: capability, AVX-512 BF16, AMX; and oneDNN's limit
    (("AVX512", True, False), "", "AVX-512 BF16"),
    (("AVX512", False, True), "", "AMX"),
    (("AVX512", True, True), "", "AMX"),
    (("AVX512", True, True), "default", "AMX"),
    (("AVX512", True, True), "AVX512_CORE_AMX", "AMX"),
    (("AVX512", True, True), "AVX10_1_512_AMX_FP16", "AMX"),
    (("AVX512", True, True), "AVX512_CORE_BF16", "AVX-512 BF16"),
    (("AVX512", True, True), "AVX512_CORE_FP16", "AVX-512 BF16"),
    (("AVX2", False, True), "", "AVX2"),
    (("AVX512", False, False), "", "AVX-512"),
    (("AVX512", True, True), "AVX512_CORE", "AVX-512"),
    (("AVX512", True, True), "avx2", "AVX-512"),
    (("AVX512", True, False), "AVX512_CORE_BF16", "AVX-512 BF16"),
    (("AVX2", True, True), "", "AVX2"),
    (("DEFAULT", False, False), "", "DEFAULT"),
]


@pytest.mark.parametrize(("says", "limit", "kind"), KINDS)
def test_kinds(says: tuple[str, bool, bool], limit: str, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: says[0])
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: says[1])
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: says[2])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert processor() == kind


@pytest.mark.parametrize("kind", [*PROCESSORS, "DEFAULT", "SVE256"])
@pytest.mark.parametrize("supported", [True, False])
def test_what_is_faster_is_taken(kind: str, supported: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("editable.models.machine.precision.processor", lambda: kind)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    faster = kind in ("AMX", "AVX-512 BF16")
    assert fastest_training("cpu") == ("bf16-mixed" if faster else "32-true")
    assert fastest_scoring("cpu") == ("bfloat16" if faster else "full")
    assert fastest_training("meta") == "32-true"
    assert fastest_scoring("meta") == fastest_scoring("cuda") == "full"
    assert (bfloat16_speed() is None) == (kind not in PROCESSORS and supported)


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_is_asked_for_instructions(supported: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert fastest_training("cuda") == ("bf16-mixed" if supported else "32-true")


def test_avx2_is_known_where_torch_is_kept_to_it():
    """As on a processor that has no more; a processor of another make has another name in any case."""
    limits = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    imports = "from editable.models.machine.precision import *"
    code = f"{imports}; print(processor(), fastest_training('cpu'), fastest_scoring('cpu'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **limits}, capture_output=True, text=True, check=True
    )
    kind, training, scoring = done.stdout.split()
    assert kind == "AVX2" or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512")
    assert (training, scoring) == ("32-true", "full")
