"""Compile the device on first use into a folder of the user's cache; nothing here imports torch but the compilation.

Run as a program it compiles into the folder that it is given.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

__all__ = ["NAME", "TRIED_WITH", "library", "why_not"]

NAME = "editable_fake_cuda"
TRIED_WITH = "2.14.1"
"""The version of torch whose internals ``device.cpp`` is written against."""
SOURCE = Path(__file__).with_name("device.cpp")
SWITCH = "EDITABLE_FAKE_CUDA"
"""Environment variable that gives child processes the device; see ``start/sitecustomize.py``."""


def why_not() -> str | None:
    """Say in one sentence why there is no fake device here, or return none where there is one."""
    version = importlib.metadata.version("torch").partition("+")[0]
    if version != TRIED_WITH:
        return f"the fake CUDA device was tried with torch {TRIED_WITH}, and this is torch {version}"
    if not sys.platform.startswith("linux") or not (_torch() / "lib" / "libtorch_cuda.so").exists():
        return "the fake CUDA device takes the place of CUDA in a torch for Linux that is built with it, as this is not"
    if not _folder().exists() and shutil.which(_compiler()) is None:
        return f"the fake CUDA device has to be compiled, and there is no C++ compiler {_compiler()!r}"
    return None


def library() -> Path:
    """Return the compiled device, beside which ``operators.json`` lies; it is compiled first where there is none.

    Raises:
        RuntimeError: If there can be none here, or the compiler fails.
    """
    reason = why_not()
    if reason is not None:
        raise RuntimeError(reason)
    folder = _folder()
    if not folder.exists():
        import fcntl  # only where there can be such a device

        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one compiles, and the others wait
            if not folder.exists():
                _make(folder)
    return folder / _file_name()


def _make(folder: Path) -> None:
    """Compile in a process of its own, into a folder that is there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        environment = {name: value for name, value in os.environ.items() if name != SWITCH}
        command = [sys.executable, str(Path(__file__).resolve()), made]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the fake CUDA device could not be compiled:\n{done.stdout}{done.stderr}")
        Path(made, "whole").rename(folder)


def _torch() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _compiler() -> str:
    return os.environ.get("CXX", "c++")


def _file_name() -> str:
    return f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"


def _folder() -> Path:
    made_of = [SOURCE.read_bytes(), Path(__file__).read_bytes(), importlib.metadata.version("torch").encode()]
    key = hashlib.sha256(b"\0".join([*made_of, _file_name().encode()])).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "editable" / "fake_cuda" / key


def _compile(folder: Path) -> None:
    """Compile into ``folder/whole``, and list what the device has kernels for."""
    from setuptools import Distribution
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    options = ["-std=c++20", "-O1", "-g0"]
    libraries = str(_torch() / "lib")  # found when the device is loaded, which is before torch
    extension = CppExtension(NAME, [str(SOURCE)], extra_compile_args=options, runtime_library_dirs=[libraries])
    distribution = Distribution({"name": NAME, "ext_modules": [extension]})
    command = BuildExtension(distribution, use_ninja=False)
    command.build_lib, command.build_temp = str(folder / "whole"), str(folder / "parts")
    command.ensure_finalized()
    command.run()
    (folder / "whole" / "operators.json").write_text(json.dumps(_operators()), encoding="utf-8")


def _operators() -> dict[str, list[str]]:
    """List what has a CUDA kernel, and which of it leaves the check of devices to the kernel (numbers may mix)."""
    import torch
    import torchgen
    import yaml

    listed = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    functions = yaml.load(listed.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    unchecked = [
        f"aten::{some['func'].partition('(')[0]}" for some in functions if some.get("device_check") == "NoCheck"
    ]
    names = (name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::"))
    ours = {name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")}
    # these ask for the device themselves, and would call a library of the vendor
    ours |= {"aten::convolution", "aten::convolution_backward", "aten::_fused_sdp_choice"}
    return {"operators": sorted(name.removeprefix("aten::") for name in ours), "left_to_iterator": sorted(unchecked)}


if __name__ == "__main__":
    _compile(Path(sys.argv[1]))
