"""Two processes that share the parameters out evaluate edits of the last layer as one does, and gather it alone."""

import json
import os
import sys

import pytest
import torch

from tests.callbacks.drawdown_evaluation import sharded
from tests.paths import ROOT
from tests.process_groups import run_group

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed"),
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="ends groups of processes"),
    pytest.mark.no_fake_cuda(reason="each process needs a device of its own, and there is one"),
]
STRATEGIES = ("fsdp", "tensor")
LAST = [[10, sharded.HIDDEN], [10]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one and two processes leave behind."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    run_group([sys.executable, "-m", sharded.__name__, str(two)], ROOT, seconds=300)
    sharded.by_one(one)
    return one, two


def ranks(folder):
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", sharded.EVALUATIONS)
def test_figures_are_those_of_one_process(folders, strategy, name):
    one, two = folders[0] / name, folders[1] / strategy / name
    metrics, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (two, one))
    assert metrics.keys() == expected.keys()
    for name in metrics.keys() - {"test_loss", "test_error"}:  # these see an image twice where numbers are odd
        assert metrics[name] == pytest.approx(expected[name], rel=1e-6), name
    assert metrics["success_rate"] > 0
    assert metrics["drawdown"] != 0
    assert (two / "edits.csv").read_text() == (one / "edits.csv").read_text()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", sharded.EVALUATIONS)
def test_the_last_layer_alone_is_gathered(folders, strategy, name):
    """And what it reads, [N, hidden], and flags of weights that are looked at for NaN."""
    for left in ranks(folders[1] / strategy / name):
        shapes = [shape for shape in left["gathered"] if shape]
        assert all(some in shapes for some in LAST)
        assert [sharded.HIDDEN, 64] not in shapes
        assert [sharded.HIDDEN] not in shapes
        assert left["held"]["1.weight"] == [sharded.HIDDEN // 2, 64]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "not_last",
            "edits may change the linear layer alone that gives the logits, which '1' is not: name that, such",
        ),
        ("several", "edits may change the linear layer alone that gives the logits, which '1' is not: name that, such"),
        ("codebook", "CodebookEditor changes a layer of its own in a copy of the network"),
    ],
)
def test_what_needs_more_than_the_last_layer_is_refused_by_all(folders, strategy, name, message):
    for left in ranks(folders[1] / strategy / name):
        assert message in left["message"]
        assert left["message"].count("\n") == 0
