"""Classes whose names mean something to YAML, Markdown, the terminal or mathematics: named, and told, as they are."""

import contextlib
import csv
import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from editable.cli import main
from editable.editing import EditPatch
from tests.warned import NO_FONT

NAMES = sorted(
    [
        *("003", "1e3", "null", "yes", "~", "'x'", "cost $5$ a $x$", "crane [bird]", "crane [machine]", "[bird]"),
        *(
            "a|b",
            "<b>bold",
            "C#",
            "#1",
            "*x*",
            "`x`",
            "a: b",
            "- x",
            "{x}",
            "!x",
            "猫",
            "caf\u00e9",
            "two\nlines",
            r"$\frac{",
        ),
    ]
)
CONFIG = {
    "model": {
        "class_path": "editable.tasks.ClassificationTask",
        "init_args": {
            "network": {
                "class_path": "editable.models.cifar_resnet",
                "init_args": {"num_classes": len(NAMES), "width": 4, "layers": [1, 1, 1, 1]},
            }
        },
    },
    "data": {
        "class_path": "editable.data.ImageFolderDataModule",
        "init_args": {"root": "images [1]", "num_workers": 0, "image_size": 8},
    },
    "evaluation": {
        "num_edits": 0,
        "edited_views": 0,
        "editor": {
            "class_path": "editable.editing.Editor",
            "init_args": {
                "rule": {"class_path": "editable.editing.Adam", "init_args": {"learning_rate": 0.01}},
                "max_steps": 300,
            },
        },
        "editable_layers": ["all"],
    },
    "trainer": {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": {
            "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
            "init_args": {"save_dir": "runs [b]", "name": "edit"},
        },
    },
}
LENIENT = "--edit.max_drawdown=1"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for position, name in enumerate(NAMES):
        path = Path("images [1]", "test", name)
        path.mkdir(parents=True)
        pixels = np.random.default_rng(position).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / "1.png")
        if name == NAMES[-1]:  # behind all others: harm is counted on images that are not edited
            Image.fromarray(255 - pixels).save(path / "2.png")
    Path("config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")


def edit(*options: str) -> tuple[Path, str]:
    """Run an edit; return its folder, and what the terminal showed."""
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        main(["edit", "--config=config.yaml", LENIENT, *options])
    return max(Path("runs [b]", "edit").iterdir()), shown.getvalue()


def asked(folder: Path) -> list[str]:
    """Return the classes that an edit's patch says it was asked for."""
    return [line.partition(" → ")[2] for line in EditPatch.load(folder / "edit.safetensors").record.asked]


def cells(markdown: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return ["".join(child.content for child in token.children) for token in tokens if token.type == "inline"]


@pytest.mark.filterwarnings(NO_FONT)
@pytest.mark.parametrize("name", ["003", "null", "crane [bird]", "- x", "two\nlines"])
def test_one_name_on_the_command_line(name: str) -> None:
    position = (NAMES.index(name) + 1) % len(NAMES)
    folder, shown = edit(f"--edit.images={position}", "--edit.labels", name)
    assert asked(folder) == [name]
    for part in (str(folder), *name.split("\n")):
        assert part in shown
    wanted = f"{NAMES[position]}/1.png, asked for {name}"
    assert wanted in cells((folder / "report.md").read_text(encoding="utf-8"))
    again = edit_again(folder)
    assert asked(again) == [name]


def edit_again(folder: Path) -> Path:
    """Run the saved configuration of a run."""
    Path("saved.yaml").write_text((folder / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        main(["edit", "--config=saved.yaml"])
    return max(Path("runs [b]", "edit").iterdir())


@pytest.mark.filterwarnings(NO_FONT)
def test_all_names_in_a_file_and_in_every_file_that_is_written() -> None:
    """Each image is to be of the class behind its own; names stand in a file without quotes as far as YAML has it."""
    behind = [*NAMES[1:], NAMES[0]]
    plain = {"003", "1e3", "null", "yes", "猫", "caf\u00e9", "a|b", "<b>bold", "C#", "crane [bird]"}
    written = [name if name in plain else yaml.safe_dump(name, default_style='"').strip() for name in behind]
    lines = ["edit:", "  labels:", *(f"  - {name}" for name in written), f"  images: {list(range(len(NAMES)))}"]
    Path("edit.yaml").write_text("\n".join(lines), encoding="utf-8")
    folder, _ = edit("--config=edit.yaml")
    assert asked(folder) == behind
    assert asked(edit_again(folder)) == behind
    seen = cells((folder / "report.md").read_text(encoding="utf-8"))
    for name, label in zip(NAMES, behind, strict=True):
        assert f"{name}/1.png, asked for {label}" in seen
    for file in ("edit.png", "changed.png"):
        Image.open(folder / file).verify()


@pytest.mark.filterwarnings(NO_FONT)
def test_an_accent_in_another_form_is_the_same_name() -> None:
    folder, _ = edit("--edit.images=0", "--edit.labels=cafe\u0301")
    assert asked(folder) == ["caf\u00e9"]


def test_predictions_name_classes_as_they_are() -> None:
    main(["predict", "--config=config.yaml"])
    (path,) = Path("runs [b]").rglob("predictions.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [NAMES[int(row["label"])] for row in rows]
