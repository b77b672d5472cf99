"""Graphs for tests without a CUDA device: recorded by a stand-in, on the CPU."""

from collections.abc import Callable

import torch

from editable.models.machine.graphs import Graphs
from tests.fake_cuda.graphs import CUDAGraph, graph

__all__ = ["RecordedGraphs"]


class RecordedGraphs(Graphs):
    """Graphs on the CPU; ``number`` of them were made."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.on, self.number = True, 0

    def _record(self, function: Callable[[], object]) -> Callable[[], object]:
        function()
        recording = CUDAGraph()
        with graph(recording):
            function()
        self.number += 1
        return recording.replay
