"""With this folder on ``PYTHONPATH`` a Python process starts with the device, if the environment asks for it."""

import os

if os.environ.get("EDITABLE_FAKE_CUDA"):
    from tests.fake_cuda.device import switch_on

    switch_on(instead_of_cpu=os.environ["EDITABLE_FAKE_CUDA"] == "instead of cpu")
