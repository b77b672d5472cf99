"""What torch draws in a test follows ``--randomly-seed``, as what Python and numpy draw does by pytest-randomly."""

from zlib import crc32

import pytest
import torch

__all__ = ["pytest_runtest_setup"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    torch.manual_seed((item.config.getoption("randomly_seed", 0) + crc32(item.nodeid.encode())) % 2**32)
