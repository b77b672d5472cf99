"""Rewriting by the command line: shipped configurations in miniature, the short way for one rule, and mistakes."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml
from torch import nn

from editable.cli import main
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.small_efficientnet import SmallNetwork, write_image

CONFIG_FOLDER = CONFIGS / "rewrite"
CONFIGS = {path.stem: path for path in sorted(CONFIG_FOLDER.glob("*.yaml"))}
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
CLOSED_FORM = {"class_path": "editable.rewriting.ClosedForm"}
"""The solver where a configuration names none."""
LAYER = "--rewrite.layers=[_blocks.8._expand_conv]"


@pytest.fixture(autouse=True)
def _vehicles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders that the shipped configurations name, with an image for each that the masks name, and a network."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CONFIG_FOLDER, "configs/rewrite")
    shutil.copytree(CONFIG_FOLDER.parent / "judge", "configs/judge")
    root = Path("data/vehicles")
    names = [f"imagenet-samples/n{number:08}/a.jpg" for number in range(6)]
    polygon = [[0, 150], [223, 120], [223, 223], [0, 223]]
    for masks in sorted(Path("configs").rglob("*.json")):
        names += [entry["image"] for entry in json.loads(masks.read_text())["masks"]]
    for seed, name in enumerate(names):
        write_image(root / name, seed)
    (root / "test").symlink_to("imagenet-samples")
    write_image(root / "vehicles-on-snow" / "snow_texture.jpg", 99)
    write_image(root / "wood_texture.png", 98)
    for seed, name in enumerate(names[:4]):
        write_image(root / "vehicles-on-snow" / Path(name).parent.name / "photograph.jpg", 100 + seed)
    exemplars = {"resize": 256, "crop": 224, "masks": [{"image": name, "polygon": polygon} for name in names[:4]]}
    (root / "road-masks.json").write_text(json.dumps(exemplars))
    num_classes = len(list((root / "imagenet-samples").iterdir()))

    def small(pretrained: bool = True) -> nn.Module:
        return SmallNetwork(num_classes)

    monkeypatch.setattr("editable.models.efficientnet_lite0", small)


def last_run(name: str) -> Path:
    return max(Path("runs", "rewrite", name).glob("version_*"), key=lambda folder: folder.stat().st_mtime)


def small_solvers(config: Path) -> list[str]:
    """The configuration's solvers with few steps."""
    solvers = yaml.safe_load(config.read_text())["rewrite"].get("solvers")
    if solvers is None:
        return []
    for solver in solvers:
        if not solver["class_path"].endswith("ClosedForm"):
            solver.setdefault("init_args", {})["max_steps"] = 2
    return [f"--rewrite.solvers={json.dumps(solvers)}"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.filterwarnings("ignore")
def test_every_shipped_configuration_runs(name: str) -> None:
    main(["test", f"--config={CONFIGS[name]}", *QUIET, LAYER, *small_solvers(CONFIGS[name]), "--data.batch_size=10"])
    run, rewrite = last_run(name), yaml.safe_load(CONFIGS[name].read_text())["rewrite"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics.keys() >= {"test_error", "rewrite_num_candidates"}
    assert "drawdown" not in metrics
    assert "## Rewrite" in (run / "report.md").read_text()
    if "strengths" not in rewrite:
        assert metrics.keys() >= {"rewrite_report_error", "rewrite_drop", "rewrite_photographs_error"}
        return
    solvers = [solver["class_path"].rpartition(".")[2] for solver in rewrite.get("solvers", [CLOSED_FORM])]
    routes = len(rewrite.get("routes", ["images"]))
    ways = {"ClosedForm": routes, "FineTuning": 1, "LambdaDescent": routes * len(rewrite.get("ranks", [1]))}
    rewrites = sum(ways[solver.replace("Projected", "Lambda")] for solver in solvers)
    assert metrics["rewrite_num_candidates"] == rewrites * len(rewrite["strengths"])
    assert len((run / "candidates.csv").read_text().splitlines()) == 1 + metrics["rewrite_num_candidates"]


@pytest.mark.filterwarnings("ignore")
def test_routes_are_compared_in_two_tables() -> None:
    config = CONFIGS["routes"]
    options = [*small_solvers(config), LAYER, "--rewrite.strengths=[1.0]", "--data.batch_size=10"]
    main(["test", f"--config={config}", *QUIET, *options])  # `rewrite` would fail: chance corrects nothing here
    run = last_run("routes")
    report = (run / "report.md").read_text()
    for words in ("| Target class |", "| Other classes |", "ClosedForm by features", "](routes.png)"):
        assert words in report
    rows = list(csv.DictReader((run / "routes.csv").open()))
    assert [row["judged_by"] for row in rows[:5]] == ["truth", "prediction", "truth", "prediction", "truth"]
    assert {row["num_images"] for row in rows if row["images"] == "target" and row["judged_by"] == "truth"} == {"26"}
    assert len({row["rewrite"] for row in rows}) == 5


@pytest.mark.filterwarnings("ignore")
def test_the_short_way_for_one_rule(capsys: pytest.CaptureFixture) -> None:
    main(["rewrite", f"--config={CONFIGS['vehicles_on_snow']}", *QUIET, "--data.batch_size=10"])
    shown = capsys.readouterr().out
    for words in ("ClosedForm", "_blocks.8._expand_conv", "photographs"):
        assert words in shown
    metrics = json.loads((last_run("vehicles_on_snow") / "metrics.json").read_text())
    photographs = Path("data/vehicles/vehicles-on-snow").glob("*/*.jpg")
    assert metrics["rewrite_num_photographs_images"] == len(list(photographs))
    report = (last_run("vehicles_on_snow") / "report.md").read_text()
    assert "](heat_maps.png)" in report


@pytest.mark.filterwarnings("ignore")
def test_a_rewritten_checkpoint_is_tested_like_any_other() -> None:
    config = f"--config={CONFIGS['vehicles_on_snow']}"
    main(["rewrite", config, *QUIET, "--data.batch_size=10"])
    first = last_run("vehicles_on_snow")
    before = json.loads((first / "metrics.json").read_text())
    plain = ["--rewrite=null", f"--ckpt_path={first / 'rewritten.ckpt'}"]
    main(["test", config, *QUIET, "--data.batch_size=10", *plain])
    after = json.loads((last_run("vehicles_on_snow") / "metrics.json").read_text())
    assert last_run("vehicles_on_snow") != first
    assert after["test_error"] == before["rewrite_report_error"]
    assert not [name for name in after if name.startswith("rewrite")]


MISTAKES = {
    "layer": (["--rewrite.layers=[_blocks.8]"], "'_blocks.8' is a SmallBlock: name one of the layers inside it"),
    "masks": (["--rewrite.rule.masks=nowhere.json"], "nowhere.json"),
    "texture": (["--rewrite.rule.texture=nowhere.jpg"], "The texture nowhere.jpg does not exist"),
    "size": (["--rewrite.rule.image_size=64"], "give the rule the data module's image_size"),
    "photographs": (["--rewrite.photographs=nowhere"], "nowhere does not exist"),
    "route": (["--rewrite.routes=[video]"], "video"),
    "regularisation": (["--rewrite.regularisation.floor=0.1", "--rewrite.regularisation.epsilon=0.1"], "either floor"),
    "no training images": (["--rewrite.moment_split=train"], "has no sub-folder train"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.filterwarnings("ignore")
def test_mistake_ends_in_one_clear_sentence(options: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    config = f"--config={CONFIGS['vehicles_on_snow']}"
    assert expected in error_line(["rewrite", config, *QUIET, "--data.batch_size=10", *options], capsys)
    assert not list(Path("runs").rglob("metrics.json"))
