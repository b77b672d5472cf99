"""The state of a process's random generators as tensors and numbers, which a checkpoint holds as data."""

import random
from typing import Any

import numpy as np
import torch

__all__ = ["random_state", "set_random_state"]


def random_state() -> dict[str, Any]:
    """Return the state of the generators of torch (CPU and CUDA), numpy and Python."""
    kind, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "python": [version, list(internal), gauss],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set what :func:`random_state` has returned; CUDA devices that are not there are left out."""
    torch.set_rng_state(state["torch"].cpu())
    for device, some in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(some.cpu(), device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
