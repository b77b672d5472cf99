"""Two processes compute what one does. They run in a process group of their own: one that hangs is ended."""

import json
import sys

import pytest
import torch

from tests.paths import ROOT
from tests.process_groups import run_group
from tests.tasks import two_processes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork"),
    pytest.mark.no_fake_cuda(reason="forked processes may not use the device, and there is one"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one and two processes leave behind."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    run_group([sys.executable, "-m", "tests.tasks.two_processes", str(two)], ROOT, seconds=120)
    two_processes.main(one, num_processes=1)
    return one, two


@pytest.mark.parametrize("kind", ["training", "fine_tuning"])
def test_training_on_two_processes_is_training_on_one(folders, kind):
    one, two = folders
    single = torch.load(one / kind / "rank0.pt", weights_only=True)
    ranks = [torch.load(two / kind / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for rank in ranks:
        torch.testing.assert_close(rank["state"], single["state"], rtol=1e-7, atol=1e-10)
    start = two_processes.make_network().double().state_dict()
    assert not any(torch.equal(single["state"][f"network.{name}"], value) for name, value in start.items())
    # The ranks stopped at different steps, and so did the edits of one process.
    steps = [[first, second] for (first,), (second,) in zip(*(rank["steps"] for rank in ranks), strict=True)]
    assert steps == single["steps"]
    assert len(steps) == two_processes.NUM_STEPS
    assert all((first == 0) != (second == 0) for first, second in steps)
    assert max(map(max, steps)) > 1


@pytest.mark.parametrize("num_edits", two_processes.NUM_EDITS)
def test_evaluation_on_two_processes_is_evaluation_on_one(folders, num_edits):
    one, two = (folder / f"{num_edits}_edits" for folder in folders)
    metrics, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (two, one))
    assert metrics.keys() == expected.keys()
    for name in metrics.keys() - {"test_loss", "test_error"}:  # these see an image twice where numbers are odd
        assert metrics[name] == expected[name], name
    assert metrics["drawdown"] != 0
    assert (two / "edits.csv").read_text() == (one / "edits.csv").read_text()
    assert len((two / "edits.csv").read_text().splitlines()) == 1 + num_edits


@pytest.mark.parametrize("num_edits", two_processes.NUM_EDITS)
def test_sampled_drawdown_on_two_processes_agrees_with_the_exact_one(folders, num_edits):
    """Each rank draws its own images, so the figures differ, within their intervals; one rank may have no edit."""
    exact = json.loads((folders[0] / f"{num_edits}_edits" / "metrics.json").read_text())
    for folder in folders:
        sampled = json.loads((folder / f"{num_edits}_sampled" / "metrics.json").read_text())
        assert "drawdown_absolute" not in sampled
        assert 0 < sampled["num_sampled_images"] <= 60 * num_edits
        assert abs(sampled["drawdown"] - exact["drawdown"]) < 2 * sampled["drawdown_half_width"]
        for name in ("success_rate", "num_steps", "num_edits", "scoring_error"):
            assert sampled[name] == exact[name], name


def test_search_on_two_processes_is_search_on_one(folders):
    one, two = (folder / "search" for folder in folders)
    for name in ("search.csv", "editor.yaml"):
        assert (two / name).read_text() == (one / name).read_text(), name
    assert len((one / "search.csv").read_text().splitlines()) == 1 + 3
    assert json.loads((two / "search.json").read_text())["settings"]["processes"] == 2
