"""What a test draws is the same in every run: the order of tests is random, their inputs are not.

Python, numpy and torch are seeded by a test's file, so that what a fixture of the file draws does not depend on the
test that comes first either.
"""

import random
from zlib import crc32

import numpy as np
import pytest
import torch

__all__ = ["pytest_runtest_setup"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    seed = crc32(item.nodeid.partition("::")[0].encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
