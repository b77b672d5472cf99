"""What CUDA devices do behind one's back for speed: switched off where figures rest on it, and on where it is safe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch

__all__ = ["full_precision", "same_shapes"]

Switch: TypeAlias = tuple[Callable[[], Any], Callable[[Any], None], Any]


@contextmanager
def full_precision() -> Iterator[None]:
    """Let float32 be float32, as a context or a decorator; the settings are put back.

    Without it the tensor cores of recent CUDA devices round what convolutions read, and by a setting what matrix
    products read, to the 10 bits of TF32. Nothing changes on other devices, or for float64 and bfloat16.
    """
    switches = _switches()
    before = [read() for read, _, _ in switches]
    try:
        for (_, write, exact), value in zip(switches, before, strict=True):
            if value != exact:
                write(exact)
        yield
    finally:
        for (_, write, exact), value in zip(switches, before, strict=True):
            if value != exact:
                write(value)


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


def _switches() -> list[Switch]:
    """Return what reads and writes each setting that allows TF32, and its value where it is not allowed.

    Torch has two sets of them, and refuses to read the older one, as parts of it do, once the newer one was written. So
    the older is taken unless somebody has written the newer.
    """
    products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    older: list[Switch] = [
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        (partial(getattr, cudnn, "allow_tf32"), partial(setattr, cudnn, "allow_tf32"), False),
    ]
    try:
        products.allow_tf32, cudnn.allow_tf32  # noqa: B018  (they raise where they are not to be read)
    except RuntimeError:
        newer: tuple[Any, ...] = (products, getattr(cudnn, "conv"), getattr(cudnn, "rnn"))  # noqa: B009  (torch ≥ 2.9)
        return [
            (partial(getattr, part, "fp32_precision"), partial(setattr, part, "fp32_precision"), "ieee")
            for part in newer
        ]
    return older
