"""The house: what may import what, how large a room may be, and that every room says what it is for."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from editable.trainer import SUBCOMMANDS
from tests.imports import Graph, find_chain, find_circle, import_graph, imported_names, modules_of
from tests.paths import CONFIGS, DOCS, ROOT

PACKAGE = ROOT / "editable"
LAYERS = [
    {"__main__"},
    {"cli"},
    {"running"},
    {"board", "comparison", "default_run", "patches_command"},
    {"lightning_cli"},
    {"starting"},
    {"trainer"},
    {"app"},
    {"interruptions"},
    {"callbacks", "tasks"},
    {"calls"},
    {"visualize"},
    {"editing"},
    {"rewriting"},
    {"models", "metrics", "data"},
    {"command_line"},
    {"tables", "yaml_text", "mistakes", "reports"},
    {"allocator", "atomic", "text_files"},
    {"errors"},
]
"""Rooms, from the top down: a file imports files of its own room and of lower layers."""
NO_LIGHTNING = (
    "editing",
    "rewriting",
    "models",
    "metrics",
    "visualize",
    "reports",
    "tables",
    "yaml_text",
    "allocator",
    "atomic",
    "text_files",
    "errors",
)
STUDIES = sorted(SUBCOMMANDS)
MOST_LINES, MOST_FILES = 400, 15
DATA_KNOWS_NO_MODELS = {("data", "models"), ("models", "data"), ("metrics", "data"), ("metrics", "models")}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return import_graph(ROOT)


def arrows(chain: list[str]) -> str:
    return " → ".join(chain)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_no_file_imports_a_file_that_imports_it(graph: Graph):
    circle = find_circle(graph)
    assert circle is None, f"imports in a circle: {arrows(circle or [])}"


def test_imports_point_down(graph: Graph):
    level = {room: position for position, rooms in enumerate(LAYERS) for room in rooms}
    assert set(level) == {room_of(module) for module in graph} - {""}, "a room without a layer, or the other way round"
    wrong = [
        f"{module} → {imported}"
        for module, imports in graph.items()
        for imported in sorted(imports)
        if (here := room_of(module)) != (there := room_of(imported))
        and (level[there] <= level[here] or (here, there) in DATA_KNOWS_NO_MODELS)
    ]
    assert not wrong, wrong


def test_plain_rooms_know_nothing_of_lightning(graph: Graph):
    files = modules_of(ROOT, "editable")
    knows = {
        module
        for module, path in files.items()
        if any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in imported_names(path, module))
    }
    for module in sorted(graph):
        if room_of(module) in NO_LIGHTNING and room_of(module) != "":
            assert module not in knows, f"{module} imports lightning"
            own_rooms = {some for some in knows if room_of(some) != "data"}  # a data module is one of Lightning's
            chain = find_chain(graph, module, own_rooms)
            assert chain is None, f"lightning is reached by {arrows(chain or [])}"


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_understood_by_opening_its_folder_alone(graph: Graph, study: str):
    """Its report is made of its outcome alone, and what it shares with another study lies outside both."""
    here = f"editable.callbacks.{study}"
    others = [f"editable.callbacks.{other}" for other in STUDIES if other != study]
    for module in (some for some in graph if some == here or some.startswith(f"{here}.")):
        foreign = [some for some in graph[module] for other in others if f"{some}.".startswith(f"{other}.")]
        assert not foreign, f"{module} imports another study's {foreign}"
    for name in ("report", "outcome"):
        chain = find_chain(graph, f"{here}.{name}", {some for some in graph if some.endswith(".callback")})
        assert chain is None, f"the {name} reaches a callback: {arrows(chain or [])}"
        names = list(imported_names(PACKAGE / "callbacks" / study / f"{name}.py", f"{here}.{name}"))
        assert not [some for some in names if some.startswith(("lightning", "torch.nn", "torch.utils.data"))], names


def test_nothing_is_imported_for_type_checkers_alone():
    for path in PACKAGE.rglob("*.py"):
        assert "TYPE_CHECKING" not in path.read_text(encoding="utf-8"), path.relative_to(ROOT)


def test_rooms_and_files_are_small():
    for folder in (PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())):
        files = list(folder.glob("*.py"))
        assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)} has {len(files)} files"
        for path in files:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines"


def test_every_room_says_what_lives_there():
    for path in PACKAGE.rglob("__init__.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        where = path.parent.relative_to(ROOT)
        assert len(text.splitlines()) > 1, f"{where} does not say what lives there, and what does not"
        for name in re.findall(r"``([\w/]+\.py)``", text):
            assert list(path.parent.rglob(name)), f"{where} speaks of {name}, which is not there"


def test_file_names_do_not_repeat_their_study():
    for study in STUDIES:
        for path in (PACKAGE / "callbacks" / study).glob("*.py"):
            assert not f"{path.stem}_".startswith(f"{study}_"), path.relative_to(ROOT)


def test_tests_mirror_the_package():
    """A folder of tests stands for a folder of the package, or for the pages."""
    for folder in (path for path in (ROOT / "tests").rglob("*") if path.is_dir() and list(path.glob("test_*.py"))):
        mirrored = folder.relative_to(ROOT / "tests")
        assert (PACKAGE / mirrored).is_dir() or mirrored == Path("docs"), folder.relative_to(ROOT)


def class_paths(content: object) -> list[str]:
    if isinstance(content, dict):
        own = [content["class_path"]] if isinstance(content.get("class_path"), str) else []
        return own + [path for value in content.values() for path in class_paths(value)]
    return [path for value in content for path in class_paths(value)] if isinstance(content, list) else []


def test_configurations_name_classes_by_their_room():
    """``editable.rewriting.MaskFinder``, never the file that has it: so files may move."""
    for path in CONFIGS.rglob("*.yaml"):
        for name in class_paths(yaml.safe_load(path.read_text(encoding="utf-8"))):
            assert not name.startswith("editable.") or name.count(".") == 2, f"{path.relative_to(ROOT)} has {name}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package with a circle over three files, one link of which only type checkers see."""
    texts = {
        "__init__": "",
        "a": "from toy.b import x\nfrom toy.room import name",
        "b": "def f():\n    import toy.c",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import X",
        "room/__init__": "from toy.room.inner import name",
        "room/inner": "import os",
    }
    for name, text in texts.items():
        path = tmp_path / "toy" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_circle_is_found_and_named(tree: Path):
    graph = import_graph(tree, "toy")
    assert graph["toy.a"] == {"toy.b", "toy.room"}
    assert find_circle(graph) == ["toy.a", "toy.b", "toy.c", "toy.a"]
    assert find_chain(graph, "toy.b", {"toy.room.inner"}) == ["toy.b", "toy.c", "toy.a", "toy.room", "toy.room.inner"]
    graph["toy.c"] = set()
    assert find_circle(graph) is None
    for first, second in pairwise(["toy.a", "toy.room", "toy.room.inner"]):
        assert second in graph[first]


def test_files_named_in_documents_are_there():
    """``memory/memory.py`` of a room, or of a room's folder that the same line names."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", CONFIGS / "README.md", *DOCS.glob("*.md")):
        for name in re.findall(r"`(?:editable/)?([\w/]+\.py)`", page.read_text(encoding="utf-8")):
            there = [*ROOT.glob(name), *PACKAGE.rglob(name), *(ROOT / "benchmarks").glob(name)]
            assert there, f"{page.relative_to(ROOT)} speaks of {name}, which is not there"
