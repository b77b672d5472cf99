"""The CUDA device that computes on the CPU behaves as one: what a card refuses it refuses, what waits is counted.

The tests of the device run where it is, in a process of their own: ``pytest --fake-cuda tests/test_fake_cuda.py``. In
a plain run one test does that.
"""

import copy
import io
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from editable.models.machine.devices import to_device
from tests.fake_cuda import building
from tests.fake_cuda.counting import Count, counting
from tests.fake_cuda.device import fake_cuda, limit_memory, switch_on
from tests.paths import ROOT

on_it = pytest.mark.skipif(fake_cuda() is None, reason="needs --fake-cuda")
without_it = pytest.mark.skipif(fake_cuda() is not None, reason="starts a process with the device itself")
CARD = torch.device("cuda", 0)


@without_it
@pytest.mark.skipif(building.why_not() is not None, reason=str(building.why_not()))
def test_it_behaves_as_a_card():
    command = [sys.executable, "-m", "pytest", "--fake-cuda", "-n", "0", "-q", str(Path(__file__))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@without_it
def test_another_torch_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.9.0+cu128")
    assert building.why_not() == "the fake CUDA device was tried with torch 2.14.1, and this is torch 2.9.0"
    with pytest.raises(RuntimeError, match=r"and this is torch 2\.9\.0"):
        building.library()


@without_it
def test_without_a_compiler_it_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: building.TRIED_WITH)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = building.why_not()
    assert reason is not None
    assert "'no-such-compiler'" in reason or "built with it" in reason


@without_it
def test_it_comes_too_late_once_torch_is_there():
    with pytest.raises(RuntimeError, match="before torch is imported"):
        switch_on()


@on_it
@pytest.mark.parametrize(
    "mixed",
    [
        lambda: torch.ones(2, device=CARD) + torch.ones(2),
        lambda: torch.ones(2, 2, device=CARD) @ torch.ones(2, 2),
        lambda: torch.cat([torch.ones(2, device=CARD), torch.ones(2)]),
        lambda: torch.ones(2, 2, device=CARD).index_select(0, torch.tensor([0])),
        lambda: torch.ones(4)[torch.tensor([1], device=CARD)],
        lambda: nn.functional.linear(torch.ones(1, 2, device=CARD), torch.ones(3, 2)),
        lambda: nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3, device=CARD)),
        lambda: torch.ones(2, device=CARD).add_(torch.ones(2)),
        lambda: torch.randn(2, device=CARD, generator=torch.Generator()),
        lambda: torch.randperm(2, device=CARD, generator=torch.Generator()),
        lambda: torch.randn(2, generator=torch.Generator(CARD)),
        lambda: torch.ones(2, device=CARD).numpy(),
    ],
)
def test_what_a_card_refuses(mixed: Callable[[], object]):
    with pytest.raises((RuntimeError, TypeError), match=r"same device|cuda"):
        mixed()


@on_it
def test_what_a_card_allows():
    assert (torch.ones(2, device=CARD) + torch.tensor(2.0)).tolist() == [3.0, 3.0]
    assert torch.arange(4.0, device=CARD)[torch.tensor([1, 2])].tolist() == [1.0, 2.0]
    assert torch.ones(2, device=CARD).is_cuda
    assert torch.ones(2, device=CARD).cpu().numpy().tolist() == [1.0, 1.0]


@on_it
def test_views_share_memory_and_results_keep_their_place():
    table = torch.zeros(4, 3, device=CARD)
    table[1] = 2
    table[:, 1:].mul_(2)
    table.t()[0].add_(1)
    table[table > 3] = 7
    assert table.tolist() == [[1, 0, 0], [3, 7, 7], [1, 0, 0], [1, 0, 0]]
    assert table.view(12)._is_view()
    out = torch.empty(0, device=CARD)
    assert torch.mul(torch.ones(3, device=CARD), 2, out=out) is out
    assert out.tolist() == [2, 2, 2]


@on_it
def test_draws_follow_the_devices_own_generator():
    torch.manual_seed(3)
    first, state = torch.randn(3, device=CARD), torch.cuda.get_rng_state()
    second = torch.randn(2, device=CARD)
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.randn(2, device=CARD), second)
    torch.manual_seed(3)
    assert torch.equal(torch.randn(3, device=CARD), first)
    torch.manual_seed(3)
    assert not torch.equal(torch.randn(3), first.cpu())


@on_it
def test_gradients_of_gradients_are_the_processors_own():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    images, labels = torch.randn(8, 3, 8, 8), torch.randint(5, (8,))

    def second_order(module: nn.Module, device: torch.device) -> list[torch.Tensor]:
        module = copy.deepcopy(module).to(device)
        loss = nn.functional.cross_entropy(module(images.to(device)), labels.to(device))
        gradients = torch.autograd.grad(loss, list(module.parameters()), create_graph=True)
        sum((some**2).sum() for some in gradients).backward()
        return [param.grad.cpu() for param in module.parameters()]

    for ours, plain in zip(second_order(network, CARD), second_order(network, torch.device("cpu")), strict=True):
        assert torch.equal(ours, plain)


@on_it
def test_files_come_back_where_they_are_wanted():
    file = io.BytesIO()
    torch.save(torch.arange(3.0, device=CARD), file)
    file.seek(0)
    assert torch.load(file, weights_only=True).device == CARD
    file.seek(0)
    assert torch.load(file, map_location="cpu", weights_only=True).device.type == "cpu"


def differentiate(connection: object) -> None:
    try:
        torch.ones(1, device=CARD)
        connection.send("went on")
    except RuntimeError as error:
        connection.send(str(error))


@on_it
def test_a_forked_process_may_not_use_it():
    torch.ones(1, device=CARD)
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=differentiate, args=(theirs,))
    child.start()
    assert "Cannot re-initialize CUDA in forked subprocess" in ours.recv()
    child.join()


@on_it
def test_what_repeats_its_elements_is_brought_to_it():
    """Labels that are given to several samples; memory in which elements share a place cannot be pinned."""
    labels = torch.arange(3).unsqueeze(1).expand(3, 4)
    there = to_device(labels, CARD)
    assert there.device == CARD
    assert torch.equal(there.cpu(), labels)


@on_it
@pytest.mark.parametrize("num_workers", [0, 1])
def test_loaders_pin_their_batches(num_workers: int):
    loader = DataLoader(TensorDataset(torch.randn(8, 3)), 4, pin_memory=True, num_workers=num_workers)
    assert [batch[0].is_pinned() for batch in loader] == [True, True]


@on_it
def test_out_of_memory_comes_at_the_limit_and_what_goes_is_given_back():
    before = torch.cuda.memory_allocated()
    with limit_memory(2**20):
        held = torch.ones(2**17, device=CARD)
        assert torch.cuda.memory_allocated() - before == held.nbytes
        with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
            held.repeat(2)
        del held
        assert torch.cuda.memory_allocated() == before
        torch.ones(2**17, device=CARD)


def counted(work: Callable[[torch.Tensor], object], tensor: torch.Tensor) -> Count:
    with counting(under=(Path(__file__).name,)) as count:
        work(tensor)
    return count


@on_it
@pytest.mark.parametrize(
    ("work", "waits", "pageable"),
    [
        (lambda some: some * 2 + 1, 0, 0),
        (lambda some: bool((some > 0).all()), 1, 0),
        (lambda some: some.sum().item(), 1, 0),
        (lambda some: some.nonzero(), 1, 0),
        (lambda some: some[some > 0], 1, 0),
        (lambda some: some.cpu(), 1, 0),
        (lambda some: some.to("cpu", non_blocking=True), 0, 0),  # torch pins what it copies to
        (lambda some: torch.empty(4, pin_memory=True).copy_(some, non_blocking=True), 0, 0),
        (lambda some: some.tolist(), 1, 0),
        (lambda some: some.argsort(stable=True), 0, 0),
        (lambda some: some.index_select(0, torch.arange(2, device=CARD)), 0, 0),
        (lambda some: some.copy_(torch.ones(4)), 0, 1),
        (lambda some: some.copy_(torch.ones(4, pin_memory=True), non_blocking=True), 0, 0),
        (lambda some: some.copy_(torch.ones(4, pin_memory=True)), 1, 0),
        (lambda some: some[torch.tensor([1])], 0, 1),
        (lambda some: torch.tensor(1.0, device=CARD), 0, 1),
        (lambda some: torch.full((), 1.0, device=CARD), 0, 0),
        (lambda some: torch.where(some > 0, some, 0.0), 0, 0),
        (lambda some: torch.cuda.synchronize(), 1, 0),
    ],
)
def test_what_makes_the_host_wait(work: Callable[[torch.Tensor], object], waits: int, pageable: int):
    count = counted(work, torch.ones(4, device=CARD))
    assert (count.waits.total(), count.pageable.total()) == (waits, pageable), count.lines()


@on_it
def test_waits_are_told_by_line_and_kernels_counted():
    some = torch.ones(4, device=CARD)
    count = counted(lambda tensor: (tensor + 1).sum().item(), some)
    assert count.kernels == 3  # the sum of two, the sum of all, and its reading
    ((operator, place),) = count.waits
    assert operator == "aten::_local_scalar_dense"
    assert place.startswith("test_fake_cuda.py:")
    assert count.at("test_fake_cuda.py") == 1


@on_it
def test_processes_of_its_own_start_with_it():
    line = "import torch; print(torch.cuda.get_device_name(), torch.ones(1).cuda().is_cuda)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "fake CUDA device True\n"
