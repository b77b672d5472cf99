"""Configurations that come with the package are found from anywhere, after one's own."""

from pathlib import Path

import pytest

from editable.command_line.shipped import find_shipped, shipped_folder
from tests.command_line.parsing import OnlyParsed
from tests.paths import CONFIGS, ROOT
from tests.warned import no_warning


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_in_a_clone_they_are_those_beside_the_package():
    assert shipped_folder() == CONFIGS
    assert shipped_folder("results") == ROOT / "results"


def test_it_is_said():
    with pytest.warns(UserWarning, match="there is no 'configs/digits/editable.yaml' here: the one that comes with"):
        assert find_shipped("configs/digits/editable.yaml") == str(CONFIGS / "digits" / "editable.yaml")


def test_the_boards_file_is_found_too():
    with pytest.warns(UserWarning, match="there is no 'results/board.yaml' here: the one that comes with editable is"):
        assert find_shipped("results/board.yaml") == str(ROOT / "results" / "board.yaml")


@pytest.mark.parametrize(
    "path",
    [
        "configs",
        "configs/",
        "configs/digits",
        "configs/digits/nowhere.yaml",
        "configs/../pyproject.toml",
        "results/README.md",
        "results/cifar10/stream/ridge.json",
        "digits/editable.yaml",
        "/configs/digits/editable.yaml",
        "configs/digits/editable.yaml\0",
        "",
        "fit",
    ],
)
def test_nothing_else_is_another_file(path: str):
    with no_warning():
        assert find_shipped(path) == path


def test_ones_own_goes_first():
    path = Path("configs/digits/editable.yaml")
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_shipped(str(path)) == str(path)


@pytest.mark.parametrize("command", ["see", "judge", "rewrite", "manipulate", "invert"])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.filterwarnings("ignore:there is no 'configs/:UserWarning")
def test_files_that_a_configuration_names_are_found_too(command: str, joined: bool):
    path = {
        "see": "configs/see/cifar10_snow.yaml",
        "judge": "configs/judge/wooden_wheels.yaml",
        "rewrite": "configs/scan/planted_patch_rewrite.yaml",
        "manipulate": "configs/manipulate/wooden_wheels.yaml",
        "invert": "configs/invert/automobiles_on_snow.yaml",
    }[command]
    option = [f"--config={path}"] if joined else ["--config", path]
    shown = str(OnlyParsed([command, *option]).config[command].as_dict())
    assert f"{CONFIGS}/" in shown
    assert "'configs/" not in shown.replace(f"'{path}'", "")
