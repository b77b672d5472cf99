"""CUDA graphs: what is run many times in memory that stays where it is, recorded once and started by one call."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Graphs"]


class Graphs:
    """Records functions on a CUDA device; where that is impossible they are run as ever, and the reason is said once.

    A function that is recorded takes and returns nothing, and reads and writes tensors that are the same at each call,
    of the same shapes, such as a network's parameters and buffers made for it. It never waits for the device. What else
    it makes is memory that all graphs of one object share, so their results have to be written into such buffers.

    Args:
        device: Where they run.
        wanted: Whether any are recorded where they can be.

    Attributes:
        on: Whether there are graphs: on CUDA, where they are wanted, until one cannot be made.
    """

    def __init__(self, device: torch.device, wanted: bool = True) -> None:
        self.device = device
        self.on = wanted and device.type == "cuda"
        self._pool: Any = None

    def capture(self, function: Callable[[], object], what: str) -> Callable[[], object] | None:
        """Return what runs a function again, or none where no graph can be made of it.

        It is run twice meanwhile, and what its buffers hold after that is not to be relied on.

        Args:
            function: See above.
            what: Its kind, for the message: ``edits``.
        """
        try:
            return self._record(function) if self.on else None
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
        self.on = False  # what the error's frames held is free behind that block
        warnings.warn(
            f"{what} are computed without CUDA graphs, kernel by kernel, which is slower where kernels are short, as "
            f"none can be made here ({reason})",
            UserWarning,
            stacklevel=2,
        )
        return None

    def _record(self, function: Callable[[], object]) -> Callable[[], object]:
        with torch.cuda.device(self.device):
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            side, current = torch.cuda.Stream(), torch.cuda.current_stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):
                function()  # libraries choose kernels and take workspaces now, which is forbidden while recording
            current.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as a loader's that pins memory, may go on meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                function()

        def replay(_keeps: Callable[[], object] = function) -> None:  # the buffers live as long as the graph
            graph.replay()

        return replay
