"""Memory that a step has freed stays with the process for the next step, in place of fresh pages each time."""

import ctypes
import os

__all__ = ["keep_freed_memory"]

# Of malloc.h: what a process holds at the top of its heap beyond this many bytes goes back to the system (-1: nothing
# does), and blocks of at least this many bytes are mapped one by one, and go back as soon as they are freed.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

# glibc by itself goes up to this, as blocks are freed. Beyond it, blocks that lie in the heap can cost much memory: a
# small one that settles behind a large one keeps it from being used again for its like.
LARGEST_IN_HEAP = 32 * 2**20


def keep_freed_memory() -> None:
    """Have glibc keep what is freed at the top of its heap, where it gives back what goes beyond 64 MiB.

    The activations of a training step are freed at its end; in fresh pages, which the system fills with zeros one by
    one, the next step takes up to a third longer. The process so keeps the most that its heap ever had, which does not
    change. Other C libraries are left as they are, and so is glibc where the environment has settings for it
    (``MALLOC_TRIM_THRESHOLD_`` and its like, ``GLIBC_TUNABLES``).
    """
    set_by_user = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if set_by_user or "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()):
        return
    library = ctypes.CDLL(None)
    library.mallopt(M_MMAP_THRESHOLD, LARGEST_IN_HEAP)
    library.mallopt(M_TRIM_THRESHOLD, -1)
