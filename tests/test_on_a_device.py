"""What is run on the CUDA device that computes on the CPU: ``python -m tests.fake_cuda.miniatures``, or ``make device``."""

from editable.command_line.table import COMMANDS
from tests.fake_cuda.miniatures import MINIATURES, NO_DEVICE, tests_on_the_device
from tests.paths import ROOT


def test_each_command_is_run():
    assert MINIATURES.keys() | NO_DEVICE == COMMANDS.keys()


def test_all_are_there():
    for name in tests_on_the_device():
        path, _, test = name.partition("::")
        assert (ROOT / path).is_file(), name
        assert not test or f"def {test.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8"), name
