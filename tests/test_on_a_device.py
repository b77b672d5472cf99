"""What ``make device`` runs on the CUDA device that computes on the CPU."""

from editable.command_line.table import COMMANDS
from tests.fake_cuda.miniatures import MINIATURES, NO_DEVICE, named_tests
from tests.paths import ROOT


def test_each_command_is_run():
    assert MINIATURES.keys() | NO_DEVICE == COMMANDS.keys()


def test_all_are_there():
    for name in named_tests():
        path, _, test = name.partition("::")
        assert (ROOT / path).is_file(), name
        assert not test or f"def {test.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8"), name
