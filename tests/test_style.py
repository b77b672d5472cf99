"""Lint, format, types and imports, checked with the settings in pyproject.toml."""

import ast
import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["lint", "format", "types"]
)
def test_tool_is_content(command: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("editing", ("lightning", "editable.tasks", "editable.callbacks", "editable.cli")),
        ("models", ("lightning", "editable.editing", "editable.tasks", "editable.callbacks", "editable.data")),
        ("metrics", ("lightning", "editable.editing", "editable.tasks", "editable.callbacks", "editable.data")),
        ("data", ("editable.models", "editable.editing", "editable.tasks", "editable.callbacks")),
        ("tasks", ("editable.callbacks", "editable.cli")),
    ],
)
def test_imports_point_one_way(room: str, forbidden: tuple[str, ...]) -> None:
    for path in (ROOT / "editable" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert not module.startswith(forbidden), f"{path.relative_to(ROOT)} imports {module}"
