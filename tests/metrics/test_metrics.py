"""Metrics of edits equal plain numpy, however the edits are dealt out over updates and processes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchmetrics import Metric

from editable.errors import UserError
from editable.metrics import (
    Agreement,
    Drawdown,
    DrawdownAbsolute,
    ErrorsCorrected,
    Generality,
    NumSteps,
    SuccessRate,
    functional,
)

NUM_IMAGES, NUM_VIEWS = 97, 8
METRICS = {
    "drawdown": (Drawdown, functional.drawdown),
    "drawdown_absolute": (DrawdownAbsolute, functional.drawdown_absolute),
    "success_rate": (SuccessRate, functional.success_rate),
    "num_steps": (NumSteps, functional.num_steps),
    "agreement": (Agreement, functional.agreement),
    "generality": (Generality, functional.generality),
    "errors_corrected": (ErrorsCorrected, functional.errors_corrected),
}
every_metric = pytest.mark.parametrize("name", METRICS)


def outcomes(number: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "before": random.integers(0, NUM_IMAGES, number),
        "after": random.integers(0, NUM_IMAGES, number),
        "success": random.random(number) < 0.7,
        "steps": random.integers(0, 11, number),
        "agreeing": random.integers(0, NUM_IMAGES + 1, number),
        "held": random.integers(0, NUM_VIEWS + 1, number),
        "wrong_before": random.random(number) < 0.6,
        "wrong_after": random.random(number) < 0.4,
    }


def arguments(name: str, edits: dict[str, np.ndarray], part: slice = slice(None)) -> tuple:
    tensors = {key: torch.from_numpy(values[part]) for key, values in edits.items()}
    if name.startswith("drawdown"):
        return tensors["before"], tensors["after"], NUM_IMAGES
    return {
        "success_rate": (tensors["success"],),
        "num_steps": (tensors["steps"],),
        "agreement": (tensors["agreeing"], NUM_IMAGES),
        "generality": (tensors["held"], NUM_VIEWS),
        "errors_corrected": (tensors["wrong_before"], tensors["wrong_after"]),
    }[name]


def by_hand(name: str, edits: dict[str, np.ndarray]) -> float:
    change = edits["after"] / NUM_IMAGES - edits["before"] / NUM_IMAGES
    return {
        "drawdown": change.mean(),
        "drawdown_absolute": np.abs(change).mean(),
        "success_rate": np.count_nonzero(edits["success"]) / len(edits["success"]),
        "num_steps": edits["steps"].sum() / len(edits["steps"]),
        "agreement": (edits["agreeing"] / NUM_IMAGES).mean(),
        "generality": (edits["held"] / NUM_VIEWS).mean(),
        "errors_corrected": 1 - edits["wrong_after"].sum() / edits["wrong_before"].sum()
        if edits["wrong_before"].any()
        else float("nan"),
    }[name]


@every_metric
@pytest.mark.parametrize("number", [1, 2, 1000])
def test_equals_numpy(name: str, number: int):
    metric_class, function = METRICS[name]
    edits = outcomes(number)
    metric = metric_class()
    metric.update(*arguments(name, edits))
    for value in (metric.compute(), function(*arguments(name, edits))):
        assert value.shape == ()
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(by_hand(name, edits), rel=1e-12, abs=1e-15, nan_ok=True)


@every_metric
def test_updates_add_up(name: str):
    edits = outcomes(50)
    metric = METRICS[name][0]()
    for part in (slice(0, 1), slice(1, 20), slice(20, 20), slice(20, 50)):
        metric.update(*arguments(name, edits, part))
    assert metric.compute().item() == pytest.approx(by_hand(name, edits), rel=1e-12)
    metric.reset()
    other = outcomes(8, seed=1)
    metric.update(*arguments(name, other))
    assert metric.compute().item() == pytest.approx(by_hand(name, other), rel=1e-12)


@every_metric
@pytest.mark.parametrize("shares", [(25, 25), (1, 49), (50, 0)])
def test_processes_are_merged(name: str, shares: tuple[int, int]):
    """Two processes with shares of different size, one of them perhaps empty: no mean of means."""
    edits = outcomes(50)
    first, second = METRICS[name][0](), METRICS[name][0]()
    first.update(*arguments(name, edits, slice(0, shares[0])))
    second.update(*arguments(name, edits, slice(shares[0], None)))
    synchronise(first, second)
    assert first.compute().item() == pytest.approx(by_hand(name, edits), rel=1e-12)


def synchronise(metric: Metric, other: Metric) -> None:
    """Let `compute` gather from a second process, as torch.distributed would."""
    remote = iter([getattr(other, state) for state in metric._defaults])
    metric.distributed_available_fn = lambda: True
    metric.dist_sync_fn = lambda tensor, group=None: [tensor, next(remote)]


def test_drawdown_is_signed_and_its_absolute_is_not():
    before, after = torch.tensor(10), torch.tensor([12, 7])
    assert functional.drawdown(before, after, 100).item() == pytest.approx(-0.005)
    assert functional.drawdown_absolute(before, after, 100).item() == pytest.approx(0.025)
    for metric, expected in ((Drawdown(), -0.005), (DrawdownAbsolute(), 0.025)):
        metric.update(before, after, num_images=100)
        assert metric.compute().item() == pytest.approx(expected)


def test_many_images_stay_exact():
    """Counts beyond the integers that float32 can hold."""
    metric = Drawdown()
    for _ in range(3):
        metric.update(torch.tensor(0), torch.full((1000,), 33_333), num_images=50_000)
    metric.update(torch.tensor(0), torch.tensor([33_334]), num_images=50_000)
    assert metric.compute().item() == (3000 * 33_333 + 33_334) / (3001 * 50_000)


@pytest.mark.parametrize("call", [functional.success_rate, functional.num_steps])
def test_functional_needs_an_edit(call: Callable):
    with pytest.raises(UserError, match="at least one edit"):
        call(torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("call", [functional.drawdown, functional.drawdown_absolute])
def test_functional_drawdown_needs_an_edit_and_an_image(call: Callable):
    with pytest.raises(UserError, match="at least one edit, got none"):
        call(torch.tensor(1), torch.zeros(0, dtype=torch.int64), 5)
    with pytest.raises(UserError, match="num_images must be at least 1, got 0"):
        call(torch.tensor(1), torch.tensor([1]), 0)


@pytest.mark.parametrize(("call", "what"), [(functional.agreement, "image"), (functional.generality, "view")])
def test_functional_shares_need_an_edit_and_something_to_look_at(call: Callable, what: str):
    with pytest.raises(UserError, match="at least one edit"):
        call(torch.zeros(0, dtype=torch.int64), 5)
    with pytest.raises(UserError, match=f"num_{what}s must be at least 1, got 0"):
        call(torch.tensor([1]), 0)


def test_shares_by_hand():
    assert functional.agreement(torch.tensor([98, 95]), 100).item() == pytest.approx(0.965)
    assert functional.generality(torch.tensor([8, 3, 1]), 8).item() == 0.5


def test_agreement_takes_estimates():
    metric = Agreement()
    metric.update(torch.tensor([98.5, 95.0], dtype=torch.float64), 100)
    assert metric.compute().item() == pytest.approx(0.9675)


@every_metric
def test_a_mean_over_no_edits_is_undefined(name: str):
    """Not zero, which would read as a perfect drawdown."""
    metric = METRICS[name][0]()
    metric.update(*arguments(name, outcomes(0)))
    assert metric.compute().isnan()


def test_direction():
    assert SuccessRate.higher_is_better
    assert Agreement.higher_is_better
    assert Generality.higher_is_better
    assert not Drawdown.higher_is_better
    assert not NumSteps.higher_is_better
    assert not any(metric.is_differentiable for metric, _ in METRICS.values())
