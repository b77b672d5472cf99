"""Questions are answered at once: without torch, and with the name that was meant."""

import gc
import io
import subprocess
import sys
from inspect import getdoc

import pytest

import editable.running
from editable.cli import main
from editable.command_line.first_word import named, program
from editable.command_line.table import COMMANDS
from editable.trainer import SUBCOMMANDS, EditableTrainer
from tests.mistakes import error_line
from tests.paths import ROOT

HEAVY = ("torch", "lightning", "numpy", "matplotlib", "rich")


def imported_by(*arguments: str) -> tuple[set[str], subprocess.CompletedProcess]:
    """Run ``python train.py`` in a process of its own; return the top-level packages that it has imported."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}, done


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--help"], 0, "board"),
        (["-h"], 0, "Without a command: the default run"),
        (["compare", "--help"], 0, "95 % intervals"),
        (["board", "--help"], 0, "--page_only"),
        (["fot"], 2, "error: there is no command 'fot': did you mean 'fit'?"),
        (["compare", "--ouput", "a.png", "a=b"], 2, "error: there is no option '--ouput': did you mean '--output'?"),
        (["board", "--dryrun"], 2, "error: there is no option '--dryrun': did you mean '--dry_run'?"),
        (["compare"], 2, "error: the following arguments are required: runs"),
        (["fit", "--modle=x"], 2, "error: there is no option '--modle': did you mean '--model'?"),
        (["test", "--config", "a.yaml", "--modle", "x"], 2, "'--modle': did you mean '--model'?"),
        (["fit", "--trainer.max_epoch", "3"], 2, "'--trainer.max_epoch': did you mean '--trainer.max_epochs'?"),
        (["edit", "--edit.image=12"], 2, "'--edit.image': did you mean '--edit.images'?"),
        (["predict", "--predict.image=a.png"], 2, "did you mean '--predict.images'?"),
    ],
)
def test_nothing_heavy_is_imported_for_an_answer(arguments: list[str], status: int, says: str):
    packages, done = imported_by(*arguments)
    assert "editable" in packages, "the list of imports is empty"
    assert not packages & set(HEAVY)
    assert done.returncode == status
    assert says in " ".join((done.stdout + done.stderr).split())


def test_modules_are_frozen_when_they_are_imported_and_nothing_is_afterwards(monkeypatch: pytest.MonkeyPatch):
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    monkeypatch.setattr(editable, "running", editable.running)  # it is imported anew below, and put back
    for expected in ([], [False]):
        with pytest.raises(SystemExit):
            main(["test", "--config=nowhere.yaml"])
        assert frozen == expected
        assert gc.isenabled()
        monkeypatch.delitem(sys.modules, "editable.running")


def test_every_command_is_listed_with_its_line(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"\n    {name}" in shown
        assert command.summary in " ".join(shown.split())


def test_the_table_says_of_studies_what_their_docstrings_say():
    studies = {name: command.summary for name, command in COMMANDS.items() if name in SUBCOMMANDS}
    first_sentences = {name: (getdoc(kind) or "").partition("\n\n")[0] for name, kind in SUBCOMMANDS.items()}
    plain = {name: " ".join(text.replace("``", "").split()) for name, text in first_sentences.items()}
    assert studies == plain


def test_every_command_can_be_run():
    """It is a method of the trainer, or a function that is there, with options that are there."""
    for name, command in COMMANDS.items():
        if command.run is None:
            assert callable(getattr(EditableTrainer, name))
        else:
            assert callable(named(command.run))
        assert (command.run is None) == (command.options is None)
        if command.options is not None:
            assert named(command.options)().prog == f"{program()} {name}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tset"], "there is no command 'tset': did you mean 'test'?"),
        (["Edit"], "there is no command 'Edit': did you mean 'edit'?"),
        (["rewrite-generator"], "did you mean 'rewrite_generator'?"),
        (["xyzzy"], "there is no command 'xyzzy': commands are fit, validate, test,"),
        ([""], "there is no command ''"),
        (["configs/digits/editable.yaml"], "there is no command 'configs/digits/editable.yaml': commands are"),
        (["--hepl"], "there is no option '--hepl' before a command: begin with a command"),
        (["--confg", "a.yaml", "fit"], "there is no option '--confg' before a command: did you mean '--config'?"),
        (
            ["--trainer.max_epochs=3"],
            "there is no option '--trainer.max_epochs' before a command: begin with a command",
        ),
        (["-x"], "there is no option '-x' before a command"),
    ],
)
def test_a_first_word_that_means_nothing(arguments: list[str], says: str, capsys: pytest.CaptureFixture):
    assert says in error_line(arguments, capsys)


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ("/usr/bin/editable", "editable"),
        ("train.py", "python train.py"),
        ("/a/editable/__main__.py", "python -m editable"),
        ("-c", "editable"),
    ],
)
def test_help_speaks_of_what_was_typed(first: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", [first, "--help"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.startswith(f"usage: {name} [command] [options]")


def test_python_m_editable_is_the_same():
    command = [sys.executable, "-m", "editable", "fot"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (2, "error: there is no command 'fot': did you mean 'fit'?\n")


def test_an_interruption_while_torch_is_imported_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def interrupted(args: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("editable.cli.answer_at_once", interrupted)
    with pytest.raises(SystemExit) as status:
        main(["fit"])
    assert status.value.code == 130
    assert capsys.readouterr().err == "interrupted by SIGINT: there is nothing to go on from\n"


@pytest.mark.parametrize(("encoding", "written"), [("latin-1", b"3 \\u2192 2 \xb1 1"), ("utf-8", "3 → 2 ± 1".encode())])
def test_any_encoding_of_the_output_will_do(encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch):
    bytes_written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_written, encoding=encoding))
    monkeypatch.setattr("editable.cli.answer_at_once", lambda args: None)
    monkeypatch.setattr("editable.running.run", lambda args: print("3 → 2 ± 1", end=""))
    main([])
    sys.stdout.flush()
    assert bytes_written.getvalue() == written
