"""Configurations that come with the package are found from anywhere, after one's own."""

import warnings
from pathlib import Path

import pytest

from editable.command_line.shipped import find_shipped, shipped_folder
from tests.command_line.parsing import OnlyParsed
from tests.paths import CONFIGS


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_in_a_clone_they_are_those_beside_the_package():
    assert shipped_folder() == CONFIGS


def test_it_is_said():
    with pytest.warns(UserWarning, match="there is no 'configs/digits/editable.yaml' here: the one that comes with"):
        assert find_shipped("configs/digits/editable.yaml") == str(CONFIGS / "digits" / "editable.yaml")


@pytest.mark.parametrize(
    "path",
    [
        "configs",
        "configs/",
        "configs/digits",
        "configs/digits/nowhere.yaml",
        "configs/../pyproject.toml",
        "digits/editable.yaml",
        "/configs/digits/editable.yaml",
        "configs/digits/editable.yaml\0",
        "",
        "fit",
    ],
)
def test_nothing_else_is_another_file(path: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_shipped(path) == path


def test_ones_own_goes_first():
    path = Path("configs/digits/editable.yaml")
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_shipped(str(path)) == str(path)


@pytest.mark.parametrize(
    "option", [["--config", "configs/see/cifar10_snow.yaml"], ["--config=configs/see/cifar10_snow.yaml"]]
)
@pytest.mark.filterwarnings("ignore:there is no 'configs/:UserWarning")
def test_files_that_a_configuration_names_are_found_too(option: list[str]):
    config = OnlyParsed(["see", *option]).config.see
    assert str(CONFIGS / "see" / "automobile-grounds.json") in str(config.as_dict())
