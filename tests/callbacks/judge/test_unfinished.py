"""An interrupted judgement goes on from what it has kept, bit for bit as an uninterrupted one, or not at all."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from editable.callbacks.judge import unfinished
from editable.callbacks.judge.unfinished import NAME, SeenImages, UnfinishedJudgement, read_judgement
from editable.errors import Interrupted, UserError
from editable.interruptions import StopSignals
from tests.callbacks.judge.runs import BlueQuarter, Grey, make_data, make_network, run

IDENTITY = {"weights": "abc", "target": [1]}
TABLES = ("metrics.json", "four_tests.csv", "roc_areas.csv")


class Stops:
    """A concept's replacement that a signal comes in; each batch that it looked at before is counted."""

    def __init__(self, batches: int, signum: int) -> None:
        self._replace, self.finder = Grey(BlueQuarter()), BlueQuarter()
        self.settings, self._left, self._signum = self._replace.settings, batches, signum

    def __call__(self, images, names):
        if not self._left:
            os.kill(os.getpid(), self._signum)
        self._left -= 1
        return self._replace(images, names)


class Sees(BlueQuarter):
    """Ranks images, and stops where it is asked of another batch."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    def activation(self, images, names):
        if not self._left:
            signal.raise_signal(signal.SIGTERM)
        self._left -= 1
        return super().activation(images, names)


@pytest.fixture(scope="module")
def whole(root: Path, edited: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(root, folder=folder, edited=str(edited), noise="tram")
    return folder


def same_as(whole: Path, folder: Path) -> None:
    for name in TABLES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    outcomes = [torch.load(some / "judge_outcome.pt", weights_only=True) for some in (whole, folder)]
    shown = [some["examples"] for some in outcomes]
    assert shown[0]["names"] == shown[1]["names"]
    assert all(torch.equal(shown[0][name], shown[1][name]) for name in ("originals", "manipulated", "masks"))


@pytest.mark.parametrize("batches", [0, 2, 4])
def test_a_signal_keeps_what_is_done_and_the_resumed_run_is_the_same(root, edited, whole, tmp_path, batches):
    settings = {"edited": str(edited), "noise": "tram"}
    with StopSignals().installed(), pytest.raises(Interrupted) as interrupted:
        run(root, folder=tmp_path / "killed", concept=Stops(batches, signal.SIGTERM), **settings)
    assert interrupted.value.status == 143
    assert interrupted.value.advice == f"--judge.resume {tmp_path / 'killed'}"
    kept = load_file(tmp_path / "killed" / NAME)
    assert len(kept["seen.positions"]) == 36
    assert len(kept.get("manipulated.positions", [])) == 7 * batches
    finder = BlueQuarter()
    run(root, folder=tmp_path / "resumed", finder=finder, resume=str(tmp_path / "killed"), **settings)
    same_as(whole, tmp_path / "resumed")
    # A finished judgement needs no image but those that it shows.
    finder = BlueQuarter()
    run(root, folder=tmp_path / "again", finder=finder, resume=str(tmp_path / "resumed"), **settings)
    assert len(finder.seen) == 8
    same_as(whole, tmp_path / "again")


def test_a_signal_while_images_are_ranked(root, edited, whole, tmp_path):
    settings = {"edited": str(edited), "noise": "tram"}
    with StopSignals().installed(), pytest.raises(Interrupted):
        run(root, folder=tmp_path / "killed", activation=Sees(3), **settings)
    assert set(load_file(tmp_path / "killed" / NAME)) == {"seen.activations", "seen.positions"}
    # Ranked by another finder, which is another judgement, ...
    with pytest.raises(UserError, match="was another one, with activation "):
        run(root, folder=tmp_path / "other", resume=str(tmp_path / "killed"), **settings)
    # ... and by the same one.
    run(root, folder=tmp_path / "resumed", activation=Sees(3), resume=str(tmp_path / "killed"), **settings)
    same_as(whole, tmp_path / "resumed")


@pytest.mark.no_fake_cuda(reason="forks processes that use the device")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process to kill it")
@pytest.mark.parametrize("wait", [0, 1000], ids=["kept", "nothing kept yet"])
def test_killed_without_a_word(root, edited, whole, tmp_path, monkeypatch, wait):
    monkeypatch.setattr(unfinished, "SECONDS_BETWEEN_WRITES", wait)
    settings = {"edited": str(edited), "noise": "tram"}
    child = os.fork()
    if child == 0:
        run(root, folder=tmp_path / "killed", concept=Stops(3, signal.SIGKILL), **settings)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    resume = {"resume": str(tmp_path / "killed"), **settings}
    if wait:
        with pytest.raises(UserError, match="there is no judgement in"):
            run(root, folder=tmp_path / "resumed", **resume)
        return
    finder = BlueQuarter()
    run(root, folder=tmp_path / "resumed", finder=finder, **resume)
    same_as(whole, tmp_path / "resumed")


def test_another_judgement_cannot_be_resumed(root, edited, whole, tmp_path):
    save_file(make_network(2).state_dict(), tmp_path / "edited.safetensors")
    settings = {"edited": str(edited), "noise": "tram", "resume": str(whole)}
    others = {
        "weights": {"network": make_network(3)},
        "edited": {"edited": str(tmp_path / "edited.safetensors")},
        "target": {"target": "boat"},
        "noise": {"noise": None},
        "concept": {"finder": BlueQuarter(0.4)},
        "num_random_images": {"num_random_images": 19},
        "confusing_share": {"confusing_share": 0.3},
        "seed": {"seed": 1},
        "images": {"data": make_data(root, mean=[0.3, 0.3, 0.3])},
        "batch_size": {"data": make_data(root, batch_size=8)},
    }
    for number, (name, other) in enumerate(others.items()):
        with pytest.raises(UserError, match=f"judge.resume: the judgement in '.*' was another one, with {name} "):
            run(root, folder=tmp_path / str(number), **{**settings, **other})


def test_what_is_no_judgement(root, edited, whole, tmp_path):
    settings = {"edited": str(edited), "noise": "tram"}
    with pytest.raises(UserError, match=r"judge\.resume: there is no judgement in 'nowhere', which has no judge.safe"):
        run(root, resume="nowhere", **settings)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    stored = bytearray((whole / NAME).read_bytes())
    stored[-3] ^= 1
    (damaged / NAME).write_bytes(bytes(stored))
    with pytest.raises(UserError, match=r"judge.safetensors' is not what a judgement has left \(it is not as it was"):
        run(root, resume=str(damaged), **settings)
    shutil.copy(whole / NAME, damaged / NAME)
    shutil.copy(whole / NAME, damaged / "judge-1.safetensors")
    with pytest.raises(UserError, match="is damaged: it has 36 images twice"):
        run(root, resume=str(damaged), **settings)


def test_parts_of_processes_come_back_sorted(tmp_path):
    images = torch.tensor([5, 1, 3, 0])
    for rank, some in enumerate((images[:2], images[2:])):
        kept = UnfinishedJudgement(tmp_path, rank, IDENTITY, {})
        kept.keep("seen", SeenImages(some, some.double() / 10))
        kept.write()
    read = read_judgement(tmp_path, IDENTITY)
    assert list(read) == ["seen"]
    assert read["seen"].positions.tolist() == [0, 1, 3, 5]
    assert read["seen"].activations.tolist() == [0, 0.1, 0.3, 0.5]
    # The first process takes over what all have done, the others do nothing twice.
    first, second = (UnfinishedJudgement(tmp_path, rank, IDENTITY, read) for rank in range(2))
    assert first.own("seen") == [read["seen"]]
    assert second.own("seen") == []
    assert second.finished("seen") == [0, 1, 3, 5]
    assert second.finished("normal") == []
