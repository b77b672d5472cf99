"""The benchmarks run, at a size that says nothing about speed; what they count is what their pages say."""

import argparse
import contextlib
import gc
import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from editable.models.machine.precision import processor
from tests.fake_cuda.building import why_not
from tests.paths import DOCS, ROOT

BENCHMARKS = ROOT / "benchmarks"
pytestmark = pytest.mark.filterwarnings("ignore:the network stays contiguous in place of channels_last")
TINY = {
    "allocator.py": "--width 2 --size 8 --batch-size 4 --steps 2 --repeats 1",
    "edits_together.py": "--width 2 --size 8 --layers extra_layer layer4 --numbers 2 --steps 1 --repeats 0",
    "device.py": "--device cpu --width 2 --size 8 --images 24 --edits 2 --steps 2 --updates 3 --repeats 1",
    "unroll.py": "--width 2 --size 8 --steps 2 --repeats 1",
    "drawdown.py": "--width 2 --size 8 --images 20 --edits 4 --naive-edits 2 --steps 2 --repeats 1 --threads 1",
    "training_step.py": "--width 2 --size 8 --batch-size 4 --steps 2 --repeats 1 --threads 1",
    "growth.py": "--width 2 --size 8 --batch-size 4 --images 10 --steps 1 --repeats 1 --threads 1 --k 1 2 --edits 1 2 "
    "--layers fc layer4 --number 2 4",
    "low_rank_scoring.py": "--width 2 --size 8 --edits 6 --images 300 --naive-images 4 --repeats 1 --threads 1",
    "rewriting.py": "--size 32 --images 4 --batch-size 2 --repeats 1 --threads 1 --steps 5",
    "closed_form_edits.py": "--edits 4 --images 200 --width 100 --classes 3 --mistakes 3 --repeats 1 --threads 1",
    "image_folder.py": "--classes 3 --images 4 --repeats 1 --only labels",
    "scale.py": "",
    "patch_size.py": "--width 4",
    "start.py": "--repeats 1",
    "precision.py": "--width 2 --size 8 --batch-size 4 --steps 1 --repeats 1 --threads 1",
    "untraced.py": "--width 8 --size 8 --batch-size 2 --blocks 2 --steps 2 --repeats 1",
    "roofline.py": "--width 2 --size 8 --batch-size 2 --repeats 1 --threads 1 --product 16 --copy 1",
}

COUNTED = ("patch_size.py", "scale.py")
"""These time nothing, or nothing that depends on the kind of processor."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a benchmark as its own program, in this process; return what it prints."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(gc, "collect", lambda: 0)  # which looks through all that other tests have left
    threads = torch.get_num_threads()

    def run(script: str, arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments.split()])
        with contextlib.suppress(SystemExit):
            runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        shown = capsys.readouterr().out
        said = shown.count(f"processor: {processor()} (torch computes with")
        timed = script not in COUNTED and "--help" not in arguments
        assert said == int(timed), "figures that depend on it name their processor"
        return shown

    yield run
    torch.set_num_threads(threads)


@pytest.mark.parametrize("script", TINY)
def test_help(script: str, run):
    text = run(script, "--help")
    assert "usage:" in text
    assert ("--repeats" in text) == (script != "scale.py")


def test_unroll(run):
    text = run("unroll.py", f"{TINY['unroll.py']} --rules GD RMSProp")
    assert text.count("ours (suffix)") == text.count("higher (whole)") == 2


def test_edits_together(run):
    text = run("edits_together.py", TINY["edits_together.py"])
    for words in ("extra_layer", "layer4"):
        assert words in text
    assert text.count("training") == text.count("evaluation") == 2


def test_rewriting(run):
    text = run("rewriting.py", TINY["rewriting.py"])
    for words in ("second moment", "closed form, second moment at hand", "plateau stop"):
        assert words in text


@pytest.mark.parametrize("row", ["exact", "fastest", "sampled", "extra-layer"])
def test_drawdown(row: str, run):
    text = run("drawdown.py", f"{row} {TINY['drawdown.py']} --learning-rate 1e-2")
    for figure in ("success", "number of steps", *([] if row == "sampled" else ["errors after"])):
        assert f"{figure}: 2 of 2 edits agree" in text
    assert ("images an edit" in text) == (row == "sampled")


@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_scoring(rank: int, run):
    text = run("low_rank_scoring.py", f"{TINY['low_rank_scoring.py']} --rank {rank}")
    assert "counts: 6 of 6 edits agree with a plain loop" in text
    assert "naive (scaled up)" in text


@pytest.mark.parametrize("views", [0, 2])
def test_closed_form_edits(views: int, run):
    text = run("closed_form_edits.py", f"{TINY['closed_form_edits.py']} --views {views}")
    assert f"{1 + views} samples an edit, 100 features" in text
    for editor in ("minimalharm", "ridge", "nullspace", "codebook", "neuron"):
        assert editor in text
    assert text.count("100.0 %") >= 3


def test_closed_form_edits_of_a_file(run, tmp_path: Path):
    h, y = torch.randn(300, 20), torch.randint(3, (300,))
    torch.save({"h": h, "y": y, "W": torch.randn(3, 20), "b": torch.zeros(3)}, tmp_path / "features.pt")
    files = f"--features {tmp_path / 'features.pt'} --references {tmp_path / 'features.pt'}"
    text = run("closed_form_edits.py", f"{TINY['closed_form_edits.py']} {files} --editors minimalharm --no-naive")
    assert "1 samples an edit, 20 features, 3 classes, 300 references" in text
    assert "100.0 %" in text


def test_training_step(run):
    text = run("training_step.py", TINY["training_step.py"])
    assert text.count("bfloat16") == 3
    assert text.count("naive editable") == 1


def test_training_step_of_the_package_is_the_naive_one(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    training_step = importlib.import_module("training_step")
    options = argparse.Namespace(layer="layer3", steps=3, batch_size=4, width=4, size=8, device="cpu", seed=1)
    naive, ours = (training_step.step_of(row, options)() for row in ("naive editable", "editable, float32"))
    plain = training_step.step_of("plain, float32", options)()
    torch.testing.assert_close(ours, naive)
    assert abs(naive - plain) > 1e-3


@pytest.mark.parametrize("law", ["k", "edits", "layers", "number"])
def test_growth(law: str, run, tmp_path: Path):
    text = run("growth.py", f"{TINY['growth.py']} --only {law} --output {tmp_path}")
    assert "expected: linear" in text
    assert "a / b =" in text
    assert [path.name for path in tmp_path.iterdir()] == [f"growth_{law}.png"]


def test_law_is_fitted_to_relative_deviations(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    growth = importlib.import_module("growth")
    assert growth.fit({1.0: 5.0, 10.0: 23.0, 1000.0: 2003.0})[:2] == pytest.approx((3, 2))
    assert growth.fit({2.0: 3 * 2**1.5, 8.0: 3 * 8**1.5, 18.0: 3 * 18**1.5}).exponent == pytest.approx(1.5)


def test_roofline(run, tmp_path: Path):
    text = run("roofline.py", f"{TINY['roofline.py']} --output {tmp_path}")
    for part in ("stem", "layer4", "prefix", "suffix, plain", "bfloat16 arithmetic", "plain step, channels last"):
        assert part in text
    assert [path.name for path in tmp_path.iterdir()] == ["roofline.png"]


def test_precision(run):
    text = run("precision.py", TINY["precision.py"])
    for word in ("training", "vision", "scoring", "bfloat16 to float32"):
        assert word in text


def test_untraced(run):
    text = run("untraced.py", TINY["untraced.py"])
    assert text.count("2 images by an edited network") == text.count("an edit of 2 steps") == 2


def test_fourier_truncation(run):
    text = run("fourier_truncation.py", "--channels 2 --filters 2 --size 6 --samples 50")
    assert text.count("full, Fourier") == text.count("cut to 3×3") == 6
    assert text.count("3×3, zeros") == 3


@pytest.mark.parametrize("training", [False, True])
def test_work_of_two_convolutions(training: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    roofline = importlib.import_module("roofline")
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).requires_grad_(training)
    x = torch.randn(5, 3, 6, 7)

    def once() -> None:
        y = network(x).sum()
        if training:
            y.backward()

    products = (5 * 6 * 7 * 4 * 3 * 9, 5 * 6 * 7 * 2 * 4)
    tensors = (5 * 3 * 6 * 7 + 5 * 4 * 6 * 7 + 4 * 3 * 9, 5 * 4 * 6 * 7 + 5 * 2 * 6 * 7 + 2 * 4)
    passes = (2, 3) if training else (1, 1)  # the images need no gradient
    flops = sum(2 * number * product for number, product in zip(passes, products, strict=True))
    moved = sum(4 * number * count for number, count in zip(passes, tensors, strict=True))
    assert roofline.work(network, once) == (flops, moved)


def test_device_in_miniature(run):
    text = run("device.py", TINY["device.py"])
    for work in ("2 edits together, 2 steps", "editable training", "descent, 3 updates", "class filter", "inversion"):
        assert work in text
    assert "TF32 allowed: ratio" in text
    for words in (
        "2 edits together by a graph",
        "images through an edited network by a graph",
        "products pay for 1 edit",
    ):
        assert words in text


def test_products_pay_up_to_the_first_shape_at_which_they_do_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    forms = importlib.import_module("device_forms")
    ratios = {
        (4, 2, 1): (0.5, 0.9),
        (8, 4, 1): (0.7, 0.8),
        (4, 4, 1): (0.2, 0.9),
        (4, 8, 1): (0.5, 1.1),
        (4, 9, 1): (0, 0),
    }
    cases = {forms.Case(*shape, way): found[way] for shape, found in ratios.items() for way in (False, True)}
    assert forms.most_positions(cases, 1) == 16
    assert forms.most_positions(cases, 8) == 0


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_waits_and_kernels_stay_within_their_bounds():
    """On the CUDA device that computes on the CPU, in a process that begins with it."""
    command = [sys.executable, str(BENCHMARKS / "device.py"), "--device", "fake"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("edits") >= 2


def test_image_folder(run):
    text = run("image_folder.py", TINY["image_folder.py"])
    assert "of 12 images in 3 folders" in text
    assert text.count("listed") == 1
    assert "a photograph of 500×375" in text


def test_all_work_on_an_image_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    image_folder = importlib.import_module("image_folder")
    image_folder.make_tree(tmp_path, 3, 4, image_folder.Console(quiet=True))
    for work in image_folder.WORK.values():
        assert work(str(tmp_path))


def test_scale_prints_the_tables_of_its_page(run):
    """Counts of kernels may differ by a little between versions of torch."""
    rows = [line for line in run("scale.py", "").splitlines() if re.match(r"\| \d+ \|", line)]
    page = [line for line in (DOCS / "scale.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(rows) == len(page) == 6
    for found, told in zip(rows, page, strict=True):
        *numbers, bound = found.strip("| ").split(" | ")
        *expected, expected_bound = told.strip("| ").split(" | ")
        assert [float(number) for number in numbers] == pytest.approx([float(number) for number in expected], rel=0.1)
        assert bound == expected_bound
