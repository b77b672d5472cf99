"""How a user's mistake ends on the command line."""

import pytest

from editable.cli import main


def error_line(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    """Run a command that must end with exit status 2 and, last of all, one sentence about the mistake; return that."""
    with pytest.raises(SystemExit) as exit_status:
        main(arguments)
    assert exit_status.value.code == 2
    last_line = capsys.readouterr().err.strip().splitlines()[-1]
    assert last_line.startswith("error: ")
    return last_line
