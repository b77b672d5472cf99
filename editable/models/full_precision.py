"""What CUDA devices do behind one's back for speed: switched off where figures rest on it, and on where it is safe."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["full_precision", "same_shapes"]


@contextmanager
def full_precision() -> Iterator[None]:
    """Let float32 be float32, as a context or a decorator; the settings are put back.

    Without it the tensor cores of recent CUDA devices round what convolutions read, and by a setting what matrix
    products read, to the 10 bits of TF32. Nothing changes on other devices, or for float64 and bfloat16.
    """
    flags = _flags()
    before = [getattr(owner, name) for owner, name, _ in flags]
    try:
        for owner, name, exact in flags:
            setattr(owner, name, exact)
        yield
    finally:
        for (owner, name, _), value in zip(flags, before, strict=True):
            setattr(owner, name, value)


@contextmanager
def same_shapes() -> Iterator[None]:
    """Let cuDNN try which of its algorithms is fastest, for code that runs the same shapes many times.

    Not where deterministic algorithms were asked for: which one is fastest is not the same in each run.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or not (
        torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
    )
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _flags() -> list[tuple[object, str, object]]:
    """Return whose attribute of which name allows TF32, and its value where it is not allowed.

    From torch 2.9 on there is one for each kind of operator. Torch refuses to read the older two while those disagree,
    so only the newer ones are touched where they are.
    """
    products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return [(part, "fp32_precision", "ieee") for part in (products, cudnn.conv, cudnn.rnn)]
    return [(part, "allow_tf32", False) for part in (products, cudnn)]
