"""Parameters that are shared out over processes, as by FSDP2 and tensor parallelism: torch's distributed tensors."""

from torch import Tensor, nn

__all__ = ["gathered", "is_sharded"]


def is_sharded(network: nn.Module) -> bool:
    """Return whether processes hold a part each of some parameter, as by FSDP2 and tensor parallelism."""
    return any(hasattr(parameter, "full_tensor") for parameter in network.parameters())


def gathered(tensor: Tensor) -> Tensor:
    """Return a tensor whole; of one that is shared out, a collective operation, to be called on every process."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
