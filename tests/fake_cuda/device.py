"""Put the device in the place of CUDA: :func:`switch_on` before torch is imported, and it is there when torch is.

Nothing here imports torch or compiles anything by itself; a process that never imports torch pays nothing.
"""

import collections
import contextlib
import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.fake_cuda.building import NAME, SWITCH, library
from tests.fake_cuda.counting import tell

__all__ = ["fake_cuda", "limit_memory", "switch_on"]

CARD = "fake CUDA device"
MEMORY = 80 * 2**30


def switch_on(in_children: bool = True, instead_of_cpu: bool = False) -> None:
    """Give this process the device once it imports torch.

    Args:
        in_children: Give it to the Python processes that this one starts, too.
        instead_of_cpu: Make Lightning's trainers that ask for one device of the CPU use it.

    Raises:
        RuntimeError: If torch is imported already, or there can be no device here.
    """
    if "torch" in sys.modules:
        raise RuntimeError("the fake CUDA device has to be switched on before torch is imported")
    path = library()
    _at_import("torch", before=lambda: ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL), after=lambda: _take_over(path))
    if instead_of_cpu:
        _at_import("lightning.pytorch.trainer.connectors.accelerator_connector", after=_trainers_use_it)
    if in_children:
        os.environ[SWITCH] = "instead of cpu" if instead_of_cpu else "on"
        here, paths = Path(__file__).parent, os.environ.get("PYTHONPATH", "").split(os.pathsep)
        added = [str(here / "start"), str(here.parents[1])]
        os.environ["PYTHONPATH"] = os.pathsep.join([*added, *(path for path in paths if path and path not in added)])


def fake_cuda() -> types.ModuleType | None:
    """Return the compiled device's module where this process has switched it on, otherwise none."""
    return sys.modules.get(NAME)


@contextlib.contextmanager
def limit_memory(extra: int):
    """Let the device have ``extra`` bytes beyond what is taken now; more raises ``torch.OutOfMemoryError``."""
    module = sys.modules[NAME]
    module.limit_memory(module.memory_now() + extra)
    try:
        yield
    finally:
        module.limit_memory(MEMORY)


# ------------------------------------------------------------------------------------------ at the import of a module


def _nothing() -> None: ...


class _Hook(importlib.abc.MetaPathFinder):
    """Calls one function before a module's first line runs and another after its last."""

    def __init__(self, name: str, before: Callable[[], Any], after: Callable[[], Any]) -> None:
        self.name, self.before, self.after = name, before, after

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            self.before()
            run(module)
            self.after()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _at_import(name: str, before: Callable[[], Any] = _nothing, after: Callable[[], Any] = _nothing) -> None:
    sys.meta_path.insert(0, _Hook(name, before, after))


# --------------------------------------------------------------------------------------------- what Python sees of CUDA


class _Stream:
    """The one stream: everything in it has happened."""

    device_type, device_index, stream_id, cuda_stream, priority = 1, 0, 0, 0, 0

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None: ...
    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        tell("wait", "Stream.synchronize")

    def wait_stream(self, other: "_Stream") -> None: ...
    def wait_event(self, event: "_Event") -> None: ...
    def record_event(self, event: "_Event | None" = None) -> "_Event":
        return event or _Event()


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self, stream: _Stream | None = None) -> None: ...
    def wait(self, stream: _Stream | None = None) -> None: ...
    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        tell("wait", "Event.synchronize")

    def elapsed_time(self, end: "_Event") -> float:
        return 1.0


def _take_over(path: Path) -> None:
    """Register the device's kernels, and answer for ``torch.cuda``."""
    import torch

    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[NAME] = module
    if not module.hooks_are_ours():
        raise RuntimeError("torch has asked for its CUDA hooks before the fake CUDA device was there")
    listed = json.loads(path.with_name("operators.json").read_text(encoding="utf-8"))
    with _quiet():  # torch warns of each kernel that is registered twice
        module.switch_on(listed["operators"], listed["left_to_iterator"])

    def always(answer: Any) -> Callable[..., Any]:
        return lambda *_, **__: answer

    def refuse_forks(*_: Any, **__: Any) -> None:
        if module.forked_after_use():
            raise RuntimeError(
                "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
                "'spawn' start method"
            )

    properties = types.SimpleNamespace(
        name=CARD, major=9, minor=0, total_memory=MEMORY, multi_processor_count=132, is_integrated=False,
        is_multi_gpu_board=False, warp_size=32, max_threads_per_multi_processor=2048, regs_per_multiprocessor=65536,
        shared_memory_per_multiprocessor=2**17, L2_cache_size=2**25, gcnArchName="", uuid="fake",
    )  # fmt: skip
    stream = _Stream()
    face: dict[str, Any] = {
        "_initialized": True,
        "_is_compiled": always(True),
        "_is_in_bad_fork": module.forked_after_use,
        "_lazy_init": refuse_forks,
        "_lazy_call": lambda call, **_: call(),
        "_device_count_nvml": always(1),
        "_exchange_device": always(0),
        "_maybe_exchange_device": always(0),
        "init": refuse_forks,
        "is_available": always(True),
        "is_initialized": always(True),
        "is_bf16_supported": always(True),
        "is_current_stream_capturing": always(False),
        "can_device_access_peer": always(False),
        "device_count": always(1),
        "current_device": always(0),
        "set_device": always(None),
        "get_device_name": always(CARD),
        "get_device_capability": always((9, 0)),
        "get_device_properties": always(properties),
        "get_arch_list": always(["sm_90"]),
        "synchronize": lambda device=None: tell("wait", "torch.cuda.synchronize"),
        "empty_cache": always(None),
        "ipc_collect": always(None),
        "memory_allocated": lambda device=None: module.memory_now(),
        "memory_reserved": lambda device=None: module.memory_now(),
        "max_memory_allocated": lambda device=None: module.memory_peak(),
        "max_memory_reserved": lambda device=None: module.memory_peak(),
        "reset_peak_memory_stats": lambda device=None: module.forget_peak(),
        "memory_stats": lambda device=None: collections.OrderedDict(),
        "mem_get_info": lambda device=None: (module.memory_total() - module.memory_now(), module.memory_total()),
        "default_generators": (module.default_generator(),),
        "Stream": _Stream,
        "Event": _Event,
        "stream": lambda stream: contextlib.nullcontext(),
        "set_stream": always(None),
        "current_stream": always(stream),
        "default_stream": always(stream),
    }
    for name, answer in face.items():
        for place in (torch.cuda, torch.cuda.random, torch.cuda.memory):
            if place is torch.cuda or hasattr(place, name):
                setattr(place, name, answer)
    below = {
        "_cuda_getDeviceCount": always(1), "_cuda_getDevice": always(0), "_cuda_setDevice": always(None),
        "_cuda_exchangeDevice": always(0), "_cuda_maybeExchangeDevice": always(0), "_cuda_init": always(None),
        "_cuda_isInBadFork": module.forked_after_use, "_cuda_synchronize": always(None),
        "_cuda_emptyCache": always(None), "_cuda_clearCublasWorkspaces": always(None),
        "_cuda_isCurrentStreamCapturing": always(False), "_cuda_getCurrentStream": always((0, 0, 1)),
    }  # fmt: skip
    for name, answer in below.items():
        setattr(torch._C, name, answer)
    _move_storages_as_tensors(torch)
    _record_graphs(torch)


def _record_graphs(torch: Any) -> None:
    """Graphs are computed again; torch's own would ask the vendor's library to."""
    from tests.fake_cuda.graphs import CUDAGraph, graph

    torch.cuda.CUDAGraph, torch.cuda.graph, torch.cuda.graph_pool_handle = CUDAGraph, graph, lambda: (0, 0)


def _move_storages_as_tensors(torch: Any) -> None:
    """Torch moves and copies a storage by CUDA's own allocator; here it goes as a tensor of bytes."""
    base, plain_to, plain_clone = torch.UntypedStorage, torch.UntypedStorage.to, torch.UntypedStorage.clone

    def as_tensor(storage: Any) -> Any:
        return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)

    def to(self: Any, *, device: Any, non_blocking: bool = False) -> Any:
        if torch.device(device).type != "cuda" or self.device.type == "cuda":
            return plain_to(self, device=device, non_blocking=non_blocking)
        return as_tensor(self).to("cuda").untyped_storage()

    def clone(self: Any) -> Any:
        return as_tensor(self).clone().untyped_storage() if self.device.type == "cuda" else plain_clone(self)

    base.to, base.clone = to, clone
    base.cuda = lambda self, device=None, non_blocking=False: to(self, device="cuda")


def _trainers_use_it() -> None:
    from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector

    choose = _AcceleratorConnector.__init__

    def init(self: Any, devices: Any = "auto", num_nodes: int = 1, accelerator: Any = "auto", **others: Any) -> None:
        if accelerator == "cpu" and devices in (1, "1", "auto") and num_nodes == 1:
            accelerator, devices = "gpu", 1
        choose(self, devices=devices, num_nodes=num_nodes, accelerator=accelerator, **others)

    _AcceleratorConnector.__init__ = init  # type: ignore[method-assign]


@contextlib.contextmanager
def _quiet():
    """Send what is written to the error stream, by C++ too, nowhere."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
