"""The package's imports as a graph of files, read from the source: nothing is imported for it."""

import ast
from collections.abc import Iterator
from pathlib import Path

Graph = dict[str, set[str]]
"""From a module to the modules of the package that its file names in imports, wherever in the file they stand."""


def modules_of(root: Path, package: str) -> dict[str, Path]:
    """Return the files of a package by module name; a folder's is that of its ``__init__.py``."""
    files = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imported_names(path: Path, module: str) -> Iterator[str]:
    """Yield all that a file imports, as ``module`` or ``module.name``; relative imports are made absolute."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            yield base  # a name is taken through its folder's door, also where it is that of a file
            yield from (f"{base}.{alias.name}" for alias in node.names)


def import_graph(root: Path, package: str = "editable") -> Graph:
    """Return what imports what: a name out of a folder's ``__init__.py`` is an import of that file."""
    files = modules_of(root, package)
    graph: Graph = {}
    for module, path in files.items():
        graph[module] = set()
        for name in imported_names(path, module):
            found = name
            while found and found not in files:
                found = found.rpartition(".")[0]
            if found and found != module:
                graph[module].add(found)
    return graph


def find_circle(graph: Graph) -> list[str] | None:
    """Return a chain of modules, each importing the next, that ends where it began; none where there is none."""
    finished: set[str] = set()
    for start in sorted(graph):
        chain: list[str] = []
        waiting = [iter([start])]
        while waiting:
            module = next(waiting[-1], None)
            if module is None:
                waiting.pop()
                if chain:
                    finished.add(chain.pop())
            elif module in chain:
                return [*chain[chain.index(module) :], module]
            elif module not in finished:
                chain.append(module)
                waiting.append(iter(sorted(graph[module])))
    return None


def find_chain(graph: Graph, start: str, ends: set[str]) -> list[str] | None:
    """Return the shortest chain of imports from a module to one of some others; none where there is none."""
    chains = [[start]]
    seen = {start}
    for chain in chains:
        for module in sorted(graph[chain[-1]] - seen):
            if module in ends:
                return [*chain, module]
            seen.add(module)
            chains.append([*chain, module])
    return None
