"""Commands on networks with odd outputs or that cannot be traced, and in every precision: they work, or say why not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.callbacks.small_commands import CONCEPT, EDITOR, make_images, rule, run, settings
from tests.warned import BEING_TAKEN, ONE_AT_A_TIME, TAKEN_BACK, UNTRACED

NAMES = [f"class {letter}" for letter in "abcdefghij"]
COMMANDS = ("validate", "search", "stream", "rewrite", "scan")
ODD = ["TwoHeads", "InADict", "InAnObject", "Branching"]

pytestmark = pytest.mark.filterwarnings(BEING_TAKEN, ONE_AT_A_TIME, TAKEN_BACK, UNTRACED)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_images(root, NAMES)
    return root


@pytest.fixture(autouse=True)
def _own_folder(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(images)


def figures(command: str, name: str, precision: str | None = None) -> dict[str, float]:
    """Run a command; return its metrics."""
    sections: dict[str, dict[str, Any]] = {
        "search": {"lowest": 1e-2, "highest": 1e-2, "num_edits": 3, "min_success": 0, "split": "val"},
        "stream": {"num_edits": 3},
        "rewrite": {"rule": rule(NAMES[0], NAMES[1]), "layers": ["b"], "max_drop": 1.0},
        "scan": {"concept": CONCEPT, "min_found": 1},
    }
    network = {"class_path": f"tests.callbacks.colour_networks.{name}"}
    section = {} if command == "validate" else {command: sections[command]}
    content = settings(NAMES[0], network, **section)
    edits = {"val_num_edits": 3} if command == "validate" else {}
    content["evaluation"] |= {"editor": EDITOR, "editable_layers": ["c", "head"], **edits}
    if precision is not None:
        content["trainer"]["precision"] = precision
    folder = run(command, content)
    found = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in found.items() if "seconds" not in name and "time" not in name}


@pytest.mark.parametrize("command", COMMANDS)
def test_odd_networks_give_the_figures_of_the_plain_one(command: str) -> None:
    plain = figures(command, "Plain")
    for name in ODD:
        found = figures(command, name)
        if (command, name) == ("rewrite", "Branching"):  # its block ends behind the layer, so its loss is another one
            found |= {some: plain[some] for some in plain if "loss" in some}
        assert found == pytest.approx(plain, abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "16-true"])
@pytest.mark.parametrize("command", COMMANDS)
def test_precisions(command: str, precision: str, capsys: pytest.CaptureFixture) -> None:
    if command in ("rewrite", "scan"):
        with pytest.raises(SystemExit) as ended:
            figures(command, "Plain", precision)
        assert ended.value.code == 2
        assert (
            f"trainer.precision is {precision}, but {command} looks at a network in float32" in capsys.readouterr().err
        )
        assert not list(Path().rglob("version_*"))
    else:
        assert figures(command, "Plain", precision)
