"""Rules from a few photographs by the command line: the shipped configuration in miniature, and mistakes."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from torch import nn

from editable.cli import main
from editable.editing import EditPatch
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.small_efficientnet import SmallNetwork, write_image

CONFIG = CONFIGS / "few_shot" / "vehicles_on_snow.yaml"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
PHOTOGRAPHED = ("n00000001", "n00000002", "n00000003")


@pytest.fixture(autouse=True)
def _vehicles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders that the configuration names, with small images, and a small network."""
    shutil.copytree(CONFIGS / "rewrite", tmp_path / "configs/rewrite")
    root = tmp_path / "data/vehicles"
    masks = json.loads((CONFIGS / "rewrite/vehicle-surroundings.json").read_text())["masks"]
    names = [entry["image"] for entry in masks] + [f"imagenet-samples/{name}/a.jpg" for name in PHOTOGRAPHED]
    for seed, name in enumerate(names):
        write_image(root / name, seed)
    (root / "test").symlink_to("imagenet-samples")
    write_image(root / "vehicles-on-snow/snow_texture.jpg", 99)
    for seed, name in enumerate(PHOTOGRAPHED * 2):
        write_image(root / "vehicles-on-snow" / name / f"{seed}.jpg", 100 + seed)
    num_classes = len(list((root / "imagenet-samples").iterdir()))

    def small(pretrained: bool = True) -> nn.Module:
        return SmallNetwork(num_classes)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editable.models.efficientnet_lite0", small)


def test_every_shipped_configuration_runs(capsys: pytest.CaptureFixture) -> None:
    main(["few_shot", f"--config={CONFIG}", *QUIET, "--few_shot.shots=[1,null]", "--few_shot.draws=2"])
    assert "Rules from a few labelled photographs" in capsys.readouterr().out
    (run,) = Path("runs/few_shot/vehicles_on_snow").glob("version_*")
    with (run / "few_shot.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["way"], row["shots"], row["num_rules"]) for row in rows] == [
        ("rewriting _fc", "1", "6"),
        ("rewriting _fc", "", "3"),
    ]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["few_shot_num_rules"] == 9
    assert (run / "few_shot.png").is_file()
    assert "## Rules from a few labelled photographs" in (run / "report.md").read_text()


def test_the_kept_rule_is_a_patch() -> None:
    """That of an editor, which gives photographs their labels in a random network, too."""
    way = ["--few_shot.layers=[]", "--few_shot.editors=[MinimalHarmEditor]", "--few_shot.strengths=[1.0]"]
    main(["few_shot", f"--config={CONFIG}", *QUIET, "--few_shot.shots=[null]", "--few_shot.max_drop=1", *way])
    (run,) = Path("runs/few_shot/vehicles_on_snow").glob("version_*")
    assert (run / "few_shot.ckpt").is_file()
    assert "few_shot_kept_drop" in json.loads((run / "metrics.json").read_text())
    (record,) = EditPatch.load(run / "few_shot.safetensors").edits
    assert record.sentence.startswith("what the photographs in data/vehicles/vehicles-on-snow have in common (6 of th")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--few_shot.shots=[0]", "few_shot.shots"),
        ("--few_shot.layers=[[_fcc]]", "_fcc"),
        ("--few_shot.photographs=data/nowhere", "data/nowhere does not exist"),
    ],
)
def test_mistakes_end_in_one_sentence(option: str, sentence: str, capsys: pytest.CaptureFixture) -> None:
    assert sentence in error_line(["few_shot", f"--config={CONFIG}", *QUIET, option], capsys)
    assert not list(Path().glob("runs/**/few_shot*"))
