"""The four tests by the command line: the shipped configuration in miniature, and mistakes."""

import csv
import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from editable.callbacks.judge import callback as four_tests
from editable.cli import main
from editable.rewriting.concepts.concept_replacement import ConceptReplacement, Replaced
from tests.mistakes import error_line
from tests.paths import CONFIGS
from tests.small_efficientnet import SmallNetwork, write_image

CONFIG = CONFIGS / "judge" / "wooden_wheels.yaml"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--data.batch_size=10"]
RUNS = Path("runs/judge/wooden_wheels")
OUTLINES = "held-out-wheel-outlines.json", "car-wheel-outlines.json"
WHEEL, SPOON = "n02974003", "n04597913"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the configuration names: an image for each outline, and test images of six classes."""
    root = tmp_path_factory.mktemp("files")
    for folder in ("judge", "rewrite"):
        shutil.copytree(CONFIGS / folder, root / "configs" / folder)
    masks = [path for name in OUTLINES for path in (root / "configs").rglob(name)]
    images = [entry["image"] for path in masks for entry in json.loads(path.read_text())["masks"]]
    for seed, name in enumerate(images):
        write_image(root / "data/vehicles" / name, seed)
    held_out = json.loads((root / "configs/judge" / OUTLINES[0]).read_text())["masks"]
    test = root / "data/wooden-wheels/test"
    for entry in held_out:
        write_image(test / WHEEL / Path(entry["image"]).name, len(entry["image"]))
    for seed, name in enumerate([SPOON, *(f"n{number:08}" for number in range(4))]):
        for number in range(2):
            write_image(test / name / f"{number}.jpg", 100 + 2 * seed + number)
    write_image(root / "data/vehicles/wood_texture.png", 99)
    return root


@pytest.fixture(autouse=True)
def _files(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the files, and a small network in place of the one that the configuration names."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(four_tests, "MOST_SHOWN", 1)  # a contact sheet takes longer than the figures
    monkeypatch.setattr("editable.models.efficientnet_lite0", small)


def small(pretrained: bool = True) -> nn.Module:
    return SmallNetwork(6)


def edited(path: str = "edited.safetensors") -> str:
    """Leave an edited network, whose head is another one."""
    network = SmallNetwork(6)
    with torch.no_grad():
        network._fc.weight.neg_()
    save_file(network.state_dict(), path)
    return path


def judged(*options: str, version: int = 0) -> dict[str, float]:
    main(["judge", f"--config={CONFIG}", *QUIET, *options])
    metrics = json.loads((RUNS / f"version_{version}" / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name.startswith("judge_")}


def test_shipped_configuration_runs(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    figures = judged(f"--judge.edited={edited()}")
    assert figures["judge_random_num_images"] == 23
    assert figures["judge_mislabelled_num_images"] == 13 + 2
    assert figures["judge_random_normal_same_num_images"] == 13
    assert figures["judge_random_manipulated_same_num_images"] == 13, "all of them are outlined"
    assert figures["judge_confusing_num_images"] <= 2  # 0.05 · 23
    run = RUNS / "version_0"
    report = (run / "report.md").read_text()
    for words in ("## Four tests", "The edit edited.safetensors", "](four_tests_roc.png)", "](manipulated.png)"):
        assert words in report
    rows = list(csv.DictReader((run / "four_tests.csv").open()))
    assert len(rows) == 3 * 4 + 1
    assert float(rows[-1]["accuracy"]) == pytest.approx(figures["judge_accuracy"], abs=1e-6)
    shown = capsys.readouterr().out
    for words in ("mislabelled", "manipulated,", "same class", "other", " → ", "Report and figures"):
        assert words in shown
    assert "…" not in shown, "80 columns do"


def test_an_edit_that_changes_nothing_changes_no_figure_and_runs_repeat() -> None:
    save_file(SmallNetwork(6).state_dict(), "zero.safetensors")
    zero = judged("--judge.edited=zero.safetensors")
    assert zero["judge_drop"] == 0
    before = {name for name in zero if name.endswith("_before")}
    assert len(before) > 10
    assert all(zero[name] == zero[name.removesuffix("_before")] for name in before)
    assert judged(version=1) == zero


def test_a_signal_and_what_it_says_to_go_on_with(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--judge.edited={edited()}", "--data.batch_size=4"]
    replace, batches = ConceptReplacement.__call__, []

    def stops(self: ConceptReplacement, images: Tensor, names: Sequence[str]) -> Replaced:
        batches.append(names)
        if len(batches) == 3:
            signal.raise_signal(signal.SIGTERM)
        return replace(self, images, names)

    monkeypatch.setattr(ConceptReplacement, "__call__", stops)
    with pytest.raises(SystemExit) as ended:
        judged(*options)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 143
    assert said == f"interrupted by SIGTERM: go on with --judge.resume {RUNS / 'version_0'}"
    resumed = judged(*options, f"--judge.resume={RUNS / 'version_0'}", version=1)
    assert resumed == judged(*options, version=2)
    for name in ("four_tests.csv", "roc_areas.csv"):
        first, second = ((RUNS / version / name).read_bytes() for version in ("version_1", "version_2"))
        assert first == second
    # The first two batches are not looked at again; the last one is that of the examples.
    assert len(batches) == 3 + (6 - 2 + 1) + (6 + 1)


MISTAKES = {
    "resume": (["--judge.resume=nowhere"], "judge.resume: there is no judgement in 'nowhere', which has no judge.safe"),
    "class": (["--judge.target=n0297400"], "judge.target has 'n0297400', which is none of the 6 classes of the data"),
    "noise": (["--judge.noise=spoon"], "judge.noise has 'spoon', which is none of the 6 classes of the data"),
    "noise is the target": ([f"--judge.noise={WHEEL}"], f"judge.noise is '{WHEEL}', which is one of the target"),
    "no concept": (["--judge.concept.init_args.min_share=1.0"], "the concept is found in none of the"),
    "edited": (["--judge.edited=nowhere.ckpt"], "there is no weights file at 'nowhere.ckpt'"),
    "share": (["--judge.confusing_share=0"], "confusing_share must be in (0, 1], got 0"),
    "texture": (["--judge.concept.init_args.texture=nowhere.png"], "The texture nowhere.png does not exist"),
}


@pytest.mark.parametrize(("options", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_ends_in_one_clear_sentence(options: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    assert expected in error_line(["judge", f"--config={CONFIG}", *QUIET, *options], capsys)
    assert not list(Path("runs").rglob("metrics.json"))


def test_images_of_one_class_alone_are_refused(capsys: pytest.CaptureFixture) -> None:
    for folder in Path("data/wooden-wheels/test").iterdir():
        if folder.name != WHEEL:
            shutil.rmtree(folder)
    assert "all of the 13 test images are of the target classes" in error_line(
        ["judge", f"--config={CONFIG}", *QUIET, "--judge.noise=null"], capsys
    )
    assert not list(Path("runs").rglob("metrics.json"))
