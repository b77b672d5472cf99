"""The options of commands that run the trainer, as far as sources tell that are read and not imported.

A misspelt name is answered by them at once. Names inside classes (``--model.network.…``) are known to the parser alone.
"""

import ast
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from editable.command_line.near import did_you_mean
from editable.command_line.table import COMMANDS
from editable.errors import UserError

__all__ = ["known_options", "refuse_unknown"]

EVERY_RUN_HAS = ("help", "config", "print_config", "seed_everything", "model", "data", "trainer", "evaluation")
SECTIONS = ("patches", *COMMANDS)
"""What only some commands have: a wrong one is for the parser to refuse."""
CALLBACKS = Path(__file__).parents[1] / "callbacks"
EVALUATION = CALLBACKS / "drawdown_evaluation" / "callback.py"
OTHER_FILES = {"predict": CALLBACKS / "prediction_table.py"}
"""Commands whose options are not those of the ``callback.py`` in a folder of their name."""
TRAINER = Path("pytorch", "trainer", "trainer.py")
STUDY = "Subcommand"
"""The base class of what has a study's options, in a file with several classes."""


def refuse_unknown(command: str, args: Sequence[str]) -> None:
    """Raise a :class:`UserError` with the near name if an option's first name, or the second, is none that is known.

    Args:
        command: A command that runs the trainer.
        args: What stands behind it.
    """
    given = [some.partition("=")[0] for some in args if some.startswith("--")]
    if "-h" in args or any(option.endswith(("--", "help")) for option in given):
        return  # help comes first, and behind ``--`` stands no option
    known = known_options(command)
    options = [f"--{name}" for name in known if name not in SECTIONS or name in (command, "patches")]
    options += [f"--{name}.{inner}" for name, inners in known.items() for inner in inners or ()]
    for option in given:
        name, _, inside = option.removeprefix("--").removesuffix("+").partition(".")
        inner = inside.partition(".")[0].removesuffix("+")
        names = known.get(name)
        if name not in known or (inner and names is not None and inner not in names):
            raise UserError(f"there is no option '{option}'{did_you_mean(option, options)}")


def known_options(command: str) -> dict[str, set[str] | None]:
    """Return the names that options of a command may begin with, each with those behind its dot.

    These are none where sources do not tell them.
    """
    trainer = _lightnings(TRAINER)
    own = OTHER_FILES.get(command, CALLBACKS / command / "callback.py")
    run = trainer.get(("Trainer", command), set()) | {"ckpt_path", "weights_only"}
    known: dict[str, set[str] | None] = dict.fromkeys([*EVERY_RUN_HAS, *SECTIONS, *sorted(run)])
    known["trainer"] = trainer.get(("Trainer", "__init__"))
    known["evaluation"] = _arguments(EVALUATION).get(("DrawdownEvaluation", "__init__"))
    if own.is_file():
        known[command] = _of_the_callback(own)
    return known


def _of_the_callback(path: Path) -> set[str] | None:
    """Return the arguments of the only class in a file that has some, or of the study's; none where there are more."""
    bases = {kind.name: {some.id for some in kind.bases if isinstance(some, ast.Name)} for kind in _classes(path)}
    made = {kind: names for (kind, method), names in _arguments(path).items() if method == "__init__"}
    studies = [names for kind, names in made.items() if len(made) == 1 or STUDY in bases[kind]]
    return studies[0] if len(studies) == 1 else None


def _lightnings(path: Path) -> Mapping[tuple[str, str], set[str]]:
    spec = find_spec("lightning")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return _arguments(Path(folders[0]) / path) if folders else {}


def _arguments(path: Path) -> dict[tuple[str, str], set[str]]:
    """Return the names of arguments of the methods in a file, by class and method; of none that takes any name."""
    found = {}
    for kind in _classes(path):
        for method in kind.body:
            if isinstance(method, ast.FunctionDef) and method.args.kwarg is None:
                given = (*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs)
                found[kind.name, method.name] = {some.arg for some in given} - {"self"}
    return found


def _classes(path: Path) -> list[ast.ClassDef]:
    if not path.is_file():
        return []
    return [some for some in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(some, ast.ClassDef)]
