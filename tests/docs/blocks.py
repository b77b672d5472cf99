"""Blocks of code in the pages."""

import re
import shlex
from contextlib import suppress
from pathlib import Path

from tests.paths import CONFIGS, DOCS, ROOT

PAGES = sorted([ROOT / "README.md", CONFIGS / "README.md", *DOCS.glob("*.md")])
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *kinds: str) -> list[str]:
    """The blocks of some kinds, such as ``python``; a block that says none is of the kind ``""``."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, kind, text in found if kind in kinds]


PLACEHOLDERS = {
    "editor": "rmsprop",
    "option": "--seed_everything=0",
    "rate": "1e-4",
    "seed": "0",
    "steps": "100",
    "views": "8",
    "ε": "0.1",
    "…": "baseline",
}


def commands(page: Path) -> list[list[str]]:
    """The words of all of a page's commands ``python train.py …``, lines that go on joined."""
    return words_of("\n".join(blocks(page, "", "bash")))


def words_of(text: str) -> list[list[str]]:
    """The words of the commands ``python train.py …`` in some lines.

    ``<one|other>`` stands for the first, one of the `PLACEHOLDERS` for a value, and any other for a name.
    """
    found, begun = [], ""
    for line in text.replace("\\\n", " ").splitlines():
        begun += re.sub("<([^>]*)>", _meant, line)
        with suppress(ValueError):  # a quotation that the next line goes on with
            words = shlex.split(begun, comments=True)
            if "train.py" in words:
                found.append(words[words.index("train.py") + 1 :])
            begun = ""
    return found


def _meant(match: re.Match[str]) -> str:
    first = match[1].split("|")[0].strip()
    return PLACEHOLDERS.get(first, re.sub(r"\W", "_", first))
