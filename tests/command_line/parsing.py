"""A command line that is parsed, and no more."""

from jsonargparse import Namespace

from editable.lightning_cli import EditableCLI
from tests.paths import CONFIGS

DIGITS = f"--config={CONFIGS / 'digits' / 'editable.yaml'}"


class OnlyParsed(EditableCLI):
    """Parses a command line, and makes and runs nothing."""

    def instantiate_classes(self) -> None:
        """Make nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def parsed(command: str, *options: str) -> Namespace:
    """Return the configuration that a command with a shipped file and some options comes to."""
    return OnlyParsed([command, DIGITS, *options]).config[command]
