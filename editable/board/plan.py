"""What is on the board: networks, protocols and editors of a file, and the cells that they make."""

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from editable.errors import UserError, require_at_least, require_within
from editable.mistakes import one_sentence
from editable.text_files import read_text, require_keys
from editable.yaml_text import load_yaml

__all__ = ["Board", "Cell", "merge", "with_constants"]

COMMANDS = ("test", "stream")
PAGES = ("harm", "trade")
KEYS = {
    "networks": {"title", "network", "weights", "made_by", "training", "data", "options", "search", "names"},
    "protocols": {"title", "command", "options", "search"},
    "editors": {"title", "editor", "layers", "around", "callbacks", "options", "search", "protocols", "networks"},
}
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("title", "weights", "made_by", "command", "around"), (str,)),
    **dict.fromkeys(("options", "training", "names"), (dict,)),
    **dict.fromkeys(("network", "data", "editor", "search"), (dict, str)),
    **dict.fromkeys(("protocols", "networks", "callbacks"), (list,)),
    "layers": (list, str),
}
IN_WORDS: dict[type, str] = {str: "text", dict: "names with something behind each", list: "a list"}
NEEDED = {
    "networks": ("title", "network", "data"),
    "protocols": ("title", "command", "options", "search"),
    "editors": ("title", "editor", "layers"),
}


@dataclass(frozen=True)
class Cell:
    """One editor on one network by one protocol.

    Attributes:
        network: Its name.
        protocol: Its name.
        editor: Its name.
        titles: What the page calls the three, in this order.
        command: Subcommand of ``train.py``.
        config: Configuration of the run that is reported, before constants are chosen.
        search: That of the runs by which they are chosen.
        search_command: Their subcommand.
        candidates: Constants to choose among, each by dotted names in ``evaluation.editor``; none that nothing is
            searched for.
        success: Share of edits that has to hold: of the candidates by which it does, the least harm is chosen.
        weights: File of the network's weights, if it has one.
        made_by: Configuration that trains them, if one does.
        training: Options that are added to it.
    """

    network: str
    protocol: str
    editor: str
    titles: tuple[str, str, str]
    command: str
    config: dict[str, Any]
    search: dict[str, Any]
    search_command: str
    candidates: tuple[dict[str, Any], ...]
    success: float
    weights: str | None = None
    made_by: str | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the cell is called on the terminal."""
        return f"{self.network} · {self.protocol} · {self.editor}"

    @property
    def has_weights(self) -> bool:
        """Whether the file of the weights is there, or the network needs none."""
        return self.weights is None or Path(self.weights).is_file()

    def path(self, results: str | Path) -> Path:
        """Return where its result is kept."""
        return Path(results) / self.network / self.protocol / f"{self.editor}.json"

    def asked(self) -> dict[str, Any]:
        """Return all that the outcome depends on, but for code and machine, as JSON holds it.

        Raises:
            UserError: If the weights are not there.
        """
        return {**self.asked_without_weights(), "weights": self._fingerprint()}

    def asked_without_weights(self) -> dict[str, Any]:
        """Return the same without the fingerprint of the weights, which may be elsewhere."""
        return {
            "command": self.command,
            "config": self.config,
            "search": self.search if self.candidates else None,
            "search_command": self.search_command if self.candidates else None,
            "candidates": list(self.candidates),
            "success": self.success,
            "weights": None,
        }

    def _fingerprint(self) -> str | None:
        if self.weights is None:
            return None
        if not self.has_weights:
            how = f", made by python train.py fit --config {self.made_by}" if self.made_by else ""
            how += f" with {self.training}: --train does it" if self.training else ""
            raise UserError(f"the weights of {self.network} are not there: '{self.weights}'{how}")
        digest = hashlib.sha256()
        with Path(self.weights).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()


@dataclass(frozen=True)
class Board:
    """What is on the board.

    Attributes:
        cells: In the order of the file: by network, protocol, editor.
        most: Largest number of candidates that an editor may choose its constants among.
        success: As in :class:`Cell`.
        protocols: Title of each protocol by name.
        page: What its page is: ``harm``, a table for each network and protocol, in which editors are ranked; ``trade``,
            one table and a figure of test error against drawdown.
        title: Of the page.
        source: The file.
    """

    cells: tuple[Cell, ...]
    most: int
    success: float
    protocols: dict[str, str]
    page: str = PAGES[0]
    title: str = "The board"
    source: str = ""

    def holds(self, success: float) -> bool:
        """Whether as many edits hold as an editor needs to be compared by its harm."""
        return success >= self.success

    @classmethod
    def read(cls, path: str | Path) -> "Board":
        """Read it from a YAML file; ``docs/board.md`` says what is in one.

        Raises:
            UserError: If the file is not there or not what a board is.
        """
        try:
            content = load_yaml(read_text(path))
        except FileNotFoundError as error:
            raise UserError(f"there is no board at '{path}'") from error
        except yaml.YAMLError as error:
            raise UserError(f"'{path}' cannot be read as YAML ({one_sentence(str(error))})") from error
        sections = _mapping(content, f"'{path}'")
        require_keys(sections, {*KEYS, "candidates", "success", "page", "title"}, f"'{path}'")
        most, success = sections.get("candidates", 1), sections.get("success", 0.95)
        require_at_least(1, candidates=most)
        require_within("(0, 1]", success=success)
        entries = {kind: _entries(sections, kind, path) for kind in KEYS}
        page = sections.get("page", PAGES[0])
        if page not in PAGES:
            raise UserError(f"'{path}' has the page {page!r}: known are {', '.join(PAGES)}")
        names = [name for some in entries.values() for name in some]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"'{path}' has two entries '{name}': each name stands once, so that --only can tell")
        cells = [
            _cell(names, entries, most, success)
            for names in product(entries["networks"], entries["protocols"], entries["editors"])
            if names[1] in (entries["editors"][names[2]].get("protocols") or entries["protocols"])
            and names[0] in (entries["editors"][names[2]].get("networks") or entries["networks"])
        ]
        titles = {name: some["title"] for name, some in entries["protocols"].items()}
        return cls(tuple(cells), most, success, titles, page, str(sections.get("title", cls.title)), str(path))

    def only(self, names: Sequence[str]) -> list[Cell]:
        """Return the cells of some networks, protocols and editors; of a kind that none is named of, all.

        Raises:
            UserError: If a name is none of the board's; it tells the near one.
        """
        kinds = [{cell.network for cell in self.cells}, set(self.protocols), {cell.editor for cell in self.cells}]
        for name in names:
            if not any(name in kind for kind in kinds):
                known = sorted(set.union(*kinds))
                near = get_close_matches(name, known, n=1) or known
                raise UserError(f"the board has no network, protocol or editor '{name}': did you mean {near[0]}?")
        wanted = [kind & set(names) or kind for kind in kinds]
        return [
            cell
            for cell in self.cells
            if all(name in some for name, some in zip((cell.network, cell.protocol, cell.editor), wanted, strict=True))
        ]


def _cell(
    names: tuple[str, str, str], entries: Mapping[str, Mapping[str, Mapping[str, Any]]], most: int, success: float
) -> Cell:
    network, protocol, editor = (
        entries[kind][name] for kind, name in zip(("networks", "protocols", "editors"), names, strict=True)
    )
    where = f"'{names[2]}' on '{names[0]}'"
    editor = {key: _filled(value, network.get("names") or {}, where) for key, value in editor.items()}
    config = _config(network, protocol, editor)
    searching = entries["protocols"].get(protocol["search"], {}) if isinstance(protocol["search"], str) else protocol
    if not isinstance(searching.get("search"), dict):
        raise UserError(
            f"'{names[1]}' among the protocols must have the options of its search, or name a protocol that has some, "
            f"got {protocol['search']!r}"
        )
    search = _config(network, searching, editor)
    for options in (searching["search"], network.get("search") or {}):
        search = merge(search, _of_command(options, searching["command"]))
    grid = _mapping(editor.get("search") or {}, f"the search of {where}")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"the search of {where} needs a list of values of {name}, got {values!r}")
    number = math.prod(map(len, grid.values()))
    if number > most:
        raise UserError(f"{where} has {number} candidates, but the board lets every editor try {most} at most")
    candidates = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []
    for candidate in candidates:
        with_constants(config, candidate)  # raises for names of nothing
    titles = (network["title"], protocol["title"], editor["title"])
    weights = network.get("weights")
    return Cell(
        *names,
        titles,
        protocol["command"],
        config,
        search,
        searching["command"],
        tuple(candidates),
        success,
        weights,
        network.get("made_by"),
        _mapping(network.get("training") or {}, f"the training of '{names[0]}'"),
    )


def _config(network: Mapping[str, Any], protocol: Mapping[str, Any], editor: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a run, with the editor's constants as they stand in the file."""
    model: dict[str, Any] = {"network": network["network"], "weights": network.get("weights")}
    if editor.get("around"):
        model = {"network": {"class_path": editor["around"], "init_args": model}}
    config = {
        "seed_everything": 0,
        "model": {"class_path": "editable.tasks.ClassificationTask", "init_args": model},
        "data": network["data"],
        "evaluation": {"editor": editor["editor"], "editable_layers": editor["layers"]},
    }
    if editor.get("callbacks"):
        config["trainer"] = {"callbacks": editor["callbacks"]}
    for options in (protocol["options"] or {}, network.get("options") or {}, editor.get("options") or {}):
        config = merge(config, _of_command(options, protocol["command"]))
    return config


def _of_command(options: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Return options without those of another command."""
    return {key: value for key, value in options.items() if key not in COMMANDS or key == command}


def with_constants(config: Mapping[str, Any], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with other constants of its editor.

    Args:
        config: Of a run.
        constants: By names from the editor on: ``rule.learning_rate`` is ``init_args.rule.init_args.learning_rate``.

    Raises:
        UserError: If a name leads nowhere.
    """
    changed = copy.deepcopy(dict(config))
    for name, value in constants.items():
        node = changed["evaluation"]["editor"]
        *way, last = name.split(".")
        for step in way:
            node = _arguments(node, name).get(step)
        _arguments(node, name)[last] = value
    return changed


def _arguments(node: Any, name: str) -> dict[str, Any]:
    if not isinstance(node, dict) or "class_path" not in node:
        raise UserError(f"the search names the constant '{name}', but the editor has no part of that name")
    arguments: dict[str, Any] = node.get("init_args") or {}
    node["init_args"] = arguments
    return arguments


def _filled(value: Any, names: Mapping[str, Any], where: str) -> Any:
    """Put what a network calls so in the place of ``$name``."""
    if isinstance(value, str) and value.startswith("$"):
        if value[1:] not in names:
            raise UserError(f"{where} needs '{value[1:]}' among the network's names, which has {sorted(names)}")
        return copy.deepcopy(names[value[1:]])
    if isinstance(value, dict):
        return {key: _filled(part, names, where) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, names, where) for part in value]
    return value


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, the second winning; arguments of a class go when another takes its place."""
    merged = copy.deepcopy(dict(first))
    for key, value in second.items():
        before = merged.get(key)
        merged[key] = copy.deepcopy(value)
        if isinstance(before, dict) and isinstance(value, dict):
            kind = before.get("class_path")
            if value.get("class_path", kind) == kind:
                merged[key] = merge(before, value)
    return merged


def _entries(sections: Mapping[str, Any], kind: str, path: str | Path) -> dict[str, dict[str, Any]]:
    entries = _mapping(sections.get(kind), f"'{kind}' in '{path}'")
    for name, entry in entries.items():
        where = f"'{name}' among the {kind} of '{path}'"
        if not name.replace("_", "").replace("-", "").isalnum():
            raise UserError(f"{where} must be called by letters, digits, - and _: it names a file")
        require_keys(_mapping(entry, where), KEYS[kind], where)
        for key, value in entry.items():
            if value is not None and not isinstance(value, TYPES[key]):
                right = " or ".join(IN_WORDS[some] for some in TYPES[key])
                raise UserError(f"{where} has {value!r:.80} as its {key}, which must be {right}")
        missing = [key for key in NEEDED[kind] if key not in entry]
        if missing:
            raise UserError(f"{where} has no '{missing[0]}'")
        if kind == "protocols" and entry["command"] not in COMMANDS:
            raise UserError(f"{where} has the command {entry['command']!r}: known are {', '.join(COMMANDS)}")
        for kept in ("protocols", "networks") if kind == "editors" else ():
            for known in entry.get(kept) or ():
                if known not in sections[kept]:
                    raise UserError(f"{where} has the {kept[:-1]} '{known}', which is none of the board's")
    return entries


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{where} must have names with something behind each, got {value!r:.80}")
    return value
