"""What is freed is used again without fresh pages, unless the user has set glibc otherwise."""

import os
import subprocess
import sys

import pytest

from editable import allocator, running
from tests.paths import ROOT

GLIBC = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())
SECOND_ROUND = """
import resource
from editable.allocator import keep_freed_memory

def fill():
    return [bytearray(8 * 2**20) for _ in range(20)]

for _ in range(2):  # after the first, glibc has such blocks in the heap, and would give them back at once
    fill()
{call}
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ALL_PAGES = 20 * 8 * 2**20 // os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


def faults(call: str, **environment: str) -> int:
    """Return how many fresh pages the second round of a process takes."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    done = subprocess.run(
        [sys.executable, "-c", SECOND_ROUND.format(call=call)],
        cwd=ROOT,
        env={**own, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_what_was_freed_is_used_again():
    assert faults("pass") > ALL_PAGES // 2, "glibc itself has changed: keep_freed_memory may be of no use any more"
    assert faults("keep_freed_memory()") < ALL_PAGES // 100


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
@pytest.mark.parametrize(
    "environment", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_settings_in_the_environment_stay(environment: dict[str, str]):
    assert faults("keep_freed_memory()", **environment) > ALL_PAGES // 2


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "confstr_names", {}, raising=False)
    opened: list[object] = []
    monkeypatch.setattr(allocator.ctypes, "CDLL", opened.append)
    allocator.keep_freed_memory()
    assert not opened


def test_commands_keep_freed_memory(monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    monkeypatch.setattr(running, "keep_freed_memory", lambda: calls.append("kept"))
    monkeypatch.setattr(running, "_run", lambda args: calls.append("run"))
    running.run(["fit"])
    assert calls == ["kept", "run"]
