"""Which precision a processor computes fastest in, by one table that was measured."""

import os
import platform
from pathlib import Path
from typing import Literal, NamedTuple

import torch

__all__ = [
    "PROCESSORS",
    "Speed",
    "bfloat16_speed",
    "fastest_scoring",
    "fastest_training",
    "processor",
    "processor_name",
]

Training = Literal["32-true", "bf16-mixed"]
Scoring = Literal["full", "bfloat16"]


class Speed(NamedTuple):
    """Seconds that bfloat16 takes to those that float32 takes; below 1 it is faster.

    Attributes:
        training: Of a step of editable training of a ResNet-18, channels last.
        scoring: Of edited networks on many images, ResNet-18 from layer3 on, in the form that is fastest for each.
    """

    training: float
    scoring: float


PROCESSORS: dict[str, Speed] = {
    "AMX": Speed(0.48, 0.39),
    "AVX-512 BF16": Speed(0.6, 0.63),
    "AVX-512": Speed(2.6, 3.6),
    "AVX2": Speed(10, 7.6),
}
"""By kind of processor; ``python benchmarks/precision.py`` measures a row, docs/performance.md has the figures."""

LIMITS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA by which oneDNN, which multiplies, leaves instructions for bfloat16 alone."""


def processor() -> str:
    """Return the kind of this processor: a row of the table where one was measured.

    ``AMX`` and ``AVX-512 BF16`` have instructions for bfloat16, the former for whole tiles of a matrix; ``AVX-512`` and
    ``AVX2`` have none; others are called as torch calls them.
    """
    capability, limit = torch.backends.cpu.get_cpu_capability(), os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if capability != "AVX512":
        return capability
    if torch.cpu._is_amx_tile_supported() and (limit in ("", "ALL", "DEFAULT") or "AMX" in limit):
        return "AMX"
    # _is_mkldnn_bf16_supported alone is true also where AVX-512 only emulates it, at a third of float32's speed.
    has_instructions = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "AVX-512 BF16" if has_instructions and limit not in LIMITS else "AVX-512"


def processor_name() -> str:
    """Return the processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def bfloat16_speed() -> Speed | None:
    """Return what bfloat16 costs on this processor; none where it may be fast, and was not measured."""
    if processor() in PROCESSORS:
        return PROCESSORS[processor()]
    return None if torch.ops.mkldnn._is_mkldnn_bf16_supported() else PROCESSORS["AVX2"]  # emulated as there


def fastest_training(device: torch.device | str) -> Training:
    """Return the precision of the trainer that is fastest; full where nothing was measured.

    Args:
        device: That is trained on. A GPU with instructions for bfloat16 is taken to be faster by them, as all are.
    """
    kind, speed = torch.device(device).type, bfloat16_speed()
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if kind == "cpu" and speed is not None and speed.training < 1 else "32-true"


def fastest_scoring(device: torch.device | str) -> Scoring:
    """Return the precision of scoring that is fastest; full where nothing was measured, as on a GPU."""
    speed = bfloat16_speed()
    on_cpu = torch.device(device).type == "cpu"
    return "bfloat16" if on_cpu and speed is not None and speed.scoring < 1 else "full"
