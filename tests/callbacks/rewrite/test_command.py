"""Rewriting by the command line: shipped configurations in miniature, the short way for one rule, and mistakes."""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from torch import nn

from editable.cli import main
from editable.tasks import ClassificationTask
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.small_efficientnet import SmallNetwork, write_image

CONFIG_FOLDER = CONFIGS / "rewrite"
CONFIGS = {path.stem: path for path in sorted(CONFIG_FOLDER.glob("*.yaml"))}
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
CLOSED_FORM = {"class_path": "editable.rewriting.ClosedForm"}
"""The solver where a configuration names none."""
LAYER = "--rewrite.layers=[_blocks.8._expand_conv]"


@pytest.fixture(scope="module")
def vehicles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders that the shipped configurations name, with an image for each that the masks name."""
    folder = tmp_path_factory.mktemp("vehicles")
    shutil.copytree(CONFIG_FOLDER, folder / "configs/rewrite")
    shutil.copytree(CONFIG_FOLDER.parent / "judge", folder / "configs/judge")
    root = folder / "data/vehicles"
    names = [f"imagenet-samples/n{number:08}/a.jpg" for number in range(6)]
    polygon = [[0, 150], [223, 120], [223, 223], [0, 223]]
    for masks in sorted((folder / "configs").rglob("*.json")):
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
    return folder


@contextlib.contextmanager
def working_in(folder: Path, vehicles: Path) -> Iterator[None]:
    """Work in a folder from which the data, the configurations and a small network are seen as users see theirs."""
    for name in ("configs", "data"):
        (folder / name).symlink_to(vehicles / name)
    num_classes = len(list((vehicles / "data/vehicles/imagenet-samples").iterdir()))

    def small(pretrained: bool = True) -> nn.Module:
        return SmallNetwork(num_classes)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("editable.models.efficientnet_lite0", small)
        yield


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, vehicles: Path) -> Iterator[None]:
    with working_in(tmp_path, vehicles):
        yield


@pytest.fixture(scope="module")
def routes(vehicles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the shipped comparison of routes."""
    folder = tmp_path_factory.mktemp("routes")
    with working_in(folder, vehicles):
        # `rewrite` would fail: chance corrects nothing here
        main(["test", f"--config={CONFIGS['routes']}", *QUIET, LAYER, *small_solvers(CONFIGS["routes"])])
        return folder / last_run("routes")


@pytest.fixture(scope="module")
def snow(vehicles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run of the short way for one rule, and what it has shown."""
    folder = tmp_path_factory.mktemp("snow")
    with working_in(folder, vehicles), contextlib.redirect_stdout(io.StringIO()) as shown:
        main(["rewrite", f"--config={CONFIGS['vehicles_on_snow']}", *QUIET])
        return folder / last_run("vehicles_on_snow"), shown.getvalue()


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
def test_every_shipped_configuration_runs(name: str, request: pytest.FixtureRequest) -> None:
    if name == "routes":
        run = request.getfixturevalue("routes")
    else:
        main(["test", f"--config={CONFIGS[name]}", *QUIET, LAYER, *small_solvers(CONFIGS[name])])
        run = last_run(name)
    rewrite = yaml.safe_load(CONFIGS[name].read_text())["rewrite"]
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


def test_routes_are_compared_in_two_tables(routes: Path) -> None:
    report = (routes / "report.md").read_text()
    for words in ("| Target class |", "| Other classes |", "ClosedForm by features", "](routes.png)"):
        assert words in report
    rows = list(csv.DictReader((routes / "routes.csv").open()))
    assert [row["judged_by"] for row in rows[:5]] == ["truth", "prediction", "truth", "prediction", "truth"]
    assert {row["num_images"] for row in rows if row["images"] == "target" and row["judged_by"] == "truth"} == {"26"}
    assert len({row["rewrite"] for row in rows}) == 5


def test_the_short_way_for_one_rule(snow: tuple[Path, str]) -> None:
    run, shown = snow
    for words in ("ClosedForm", "_blocks.8._expand_conv", "photographs"):
        assert words in shown
    metrics = json.loads((run / "metrics.json").read_text())
    photographs = Path("data/vehicles/vehicles-on-snow").glob("*/*.jpg")
    assert metrics["rewrite_num_photographs_images"] == len(list(photographs))
    report = (run / "report.md").read_text()
    assert "](heat_maps.png)" in report


def test_a_rewritten_checkpoint_is_tested_like_any_other(snow: tuple[Path, str]) -> None:
    run, _ = snow
    before = json.loads((run / "metrics.json").read_text())
    plain = ["--rewrite=null", f"--ckpt_path={run / 'rewritten.ckpt'}"]
    main(["test", f"--config={CONFIGS['vehicles_on_snow']}", *QUIET, *plain])
    after = json.loads((last_run("vehicles_on_snow") / "metrics.json").read_text())
    assert after["test_error"] == before["rewrite_report_error"]
    assert not [name for name in after if name.startswith("rewrite")]


MISTAKES = {
    "layer": (["--rewrite.layers=[_blocks.8]"], "'_blocks.8' is a SmallBlock: name one of the layers inside it"),
    "masks": (["--rewrite.rule.masks=nowhere.json"], "nowhere.json"),
    "texture": (["--rewrite.rule.texture=nowhere.jpg"], "The texture nowhere.jpg does not exist"),
    "size": (["--rewrite.rule.image_size=64"], "give the rule the data module's image_size"),
    "photographs": (["--rewrite.photographs=nowhere"], "nowhere does not exist"),
    "route": (["--rewrite.routes=[video]"], "video"),
    "regularisation": (
        ["--rewrite.moment.regularisation.floor=0.1", "--rewrite.moment.regularisation.epsilon=0.1"],
        "either floor",
    ),
    "no training images": (["--rewrite.moment.split=train"], "has no sub-folder train"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_ends_in_one_clear_sentence(options: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    config = f"--config={CONFIGS['vehicles_on_snow']}"
    assert expected in error_line(["rewrite", config, *QUIET, *options], capsys)
    assert not list(Path("runs").rglob("metrics.json"))


def test_a_broken_photograph_ends_it_before_any_work(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (name, *_) = (path.name for path in sorted(Path("data/vehicles/vehicles-on-snow").iterdir()) if path.is_dir())
    (tmp_path / "photographs" / name).mkdir(parents=True)
    (tmp_path / "photographs" / name / "broken.jpg").write_bytes(b"no image")
    monkeypatch.setattr(ClassificationTask, "test_step", lambda *args: pytest.fail("a batch was computed"))
    config = f"--config={CONFIGS['vehicles_on_snow']}"
    line = error_line(["rewrite", config, *QUIET, f"--rewrite.photographs={tmp_path / 'photographs'}"], capsys)
    assert "broken.jpg" in line
