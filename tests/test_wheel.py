"""What ``pip install`` of a wheel gives: the command, its configurations and the default run, without the clone."""

import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from sysconfig import get_paths

import pytest

from editable.command_line.table import COMMANDS
from tests.paths import CONFIGS, ROOT

SMALL = [
    "--trainer.fast_dev_run=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--model.network.width=4",
    "--data.train_limit=100",
]
Run = Callable[..., subprocess.CompletedProcess]


def quietly(*command: object, cwd: Path) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The archive of the sources, and the wheel that is built from nothing else."""
    folder = tmp_path_factory.mktemp("built")
    quietly(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    isolated = ("--no-build-isolation", "--no-deps", "--no-index")
    quietly(sys.executable, "-m", "pip", "wheel", *isolated, "--wheel-dir", folder, archive, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return {"sdist": archive, "wheel": wheel}


@pytest.fixture(scope="module")
def environment(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel; what it depends on is taken from the one that the tests run in."""
    folder = tmp_path_factory.mktemp("environment")
    quietly(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(get_paths()["purelib"] + "\n")
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    quietly(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", built["wheel"], cwd=folder)
    return folder


def variables() -> dict[str, str]:
    """The environment's variables without those that lead to the clone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Run:
    """Run one of the environment's commands in an empty folder."""

    def run(command: str, *arguments: str) -> subprocess.CompletedProcess:
        line = [environment / "bin" / command, *arguments]
        return subprocess.run(line, cwd=tmp_path, env=variables(), capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def shipped(environment: Path) -> Path:
    (folder,) = environment.glob("lib/python*/site-packages/editable/configs")
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_has_the_configurations_as_they_are(built: dict[str, Path]):
    with zipfile.ZipFile(built["wheel"]) as wheel:
        prefix = "editable/configs/"
        packed = {name.removeprefix(prefix): wheel.read(name) for name in wheel.namelist() if name.startswith(prefix)}
        assert packed == files_below(CONFIGS)
        assert "editable/py.typed" in wheel.namelist()
        assert {name.partition("/")[0].partition("-")[0] for name in wheel.namelist()} == {"editable"}


def test_the_archive_has_the_sources_and_no_data(built: dict[str, Path]):
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"train.py", "editable/cli.py", "configs/digits/editable.yaml", "tests/test_wheel.py", "LICENSE"} <= names
    assert not [name for name in names if name.startswith(("data", "runs"))]


@pytest.mark.parametrize(("tag", "version"), [("v1.2.3", "1.2.3"), (None, "0.1.0")])
def test_the_version_is_that_of_the_tag(tmp_path: Path, tag: str | None, version: str):
    """Sources without their history have the version that pyproject.toml falls back on."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    if tag is not None:
        git = ("git", "-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        for command in (["init"], ["add", "."], ["commit", "--message", "Sources"], ["tag", tag]):
            quietly(*git, *command, cwd=tmp_path)
    told = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.stdout.strip() == version, told.stderr


def test_the_page_of_the_app_is_in_it(environment: Path):
    (folder,) = environment.glob("lib/python*/site-packages/editable/app/page")
    assert files_below(folder) == files_below(ROOT / "editable" / "app" / "page")


def test_the_command_is_the_packages_own(run: Run, environment: Path):
    where = run("python", "-c", "import editable; print(editable.__file__)").stdout
    assert Path(where).is_relative_to(environment)
    for command in (["editable"], ["python", "-m", "editable"]):
        shown = run(*command, "--help")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.startswith(f"usage: {' '.join(command)} [command] [options]")
        assert all(f"\n    {name}" in shown.stdout for name in COMMANDS)
        misspelt = run(*command, "fti")
        assert (misspelt.returncode, misspelt.stderr) == (2, "error: there is no command 'fti': did you mean 'fit'?\n")


def test_types_are_seen_by_a_type_checker(run: Run, tmp_path: Path):
    (tmp_path / "own.py").write_text("from editable.errors import require_finite\nrequire_finite(1)\n")
    read = "[mypy-editable,editable.errors]\nfollow_imports = silent\n"  # and not torch, for the sake of time
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nfollow_imports = skip\n{read}")
    checked = run("python", "-m", "mypy", "own.py")
    assert "py.typed" not in checked.stdout
    assert "own.py:2: error: Too many" in checked.stdout


def test_the_board_is_known_without_the_clone(run: Run, built: dict[str, Path], tmp_path: Path):
    with zipfile.ZipFile(built["wheel"]) as wheel:
        results = [name for name in wheel.namelist() if name.startswith("editable/results/")]
        assert results == ["editable/results/board.yaml"]
        assert wheel.read(results[0]) == (ROOT / "results" / "board.yaml").read_bytes()
    done = run("editable", "board", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert "there is no 'results/board.yaml' here: the one that comes with editable is taken" in done.stderr
    assert " cells 0 are there, " in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_packaged_configuration_runs_from_anywhere(run: Run, shipped: Path, tmp_path: Path):
    done = run("editable", "fit", "--config", "configs/digits/baseline.yaml", *SMALL)
    assert done.returncode == 0, done.stderr
    path = shipped / "digits" / "baseline.yaml"
    said = (
        f"warning: there is no 'configs/digits/baseline.yaml' here: the one that comes with editable is taken, '{path}'"
    )
    assert done.stderr.splitlines().count(said) == 1
    assert not list(tmp_path.iterdir()), "a trial leaves nothing"


@pytest.mark.slow
def test_without_arguments_it_is_the_default_run(environment: Path, tmp_path: Path):
    """Until the first of its two networks is trained; the rest of it is a test in tests/test_cli.py."""
    started = subprocess.Popen(
        [environment / "bin" / "editable"], cwd=tmp_path, env=variables(), stderr=subprocess.PIPE, text=True
    )
    half = tmp_path / "runs" / "default" / "version_0" / "baseline"
    deadline = time.monotonic() + 240
    while not list(half.glob("checkpoints/*.ckpt")) and time.monotonic() < deadline:
        assert started.poll() is None, started.communicate()
        time.sleep(0.2)
    started.send_signal(signal.SIGTERM)
    said = started.communicate(timeout=120)[1]
    assert (half / "config.yaml").is_file()
    assert started.returncode == 128 + signal.SIGTERM, said
