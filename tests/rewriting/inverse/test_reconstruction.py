"""Descent on inputs against closed forms and a plain loop, one item at a time."""

import math

import pytest
import torch
from torch import Tensor

from editable.errors import UserError
from editable.rewriting.inverse.reconstruction import ReconstructionSettings, reconstruct
from tests.rewriting.problems import random


def matrix() -> Tensor:
    """Invertible, with singular values from 1 to 2."""
    left, right = (torch.linalg.qr(random(5, 5, seed=seed)).Q for seed in (0, 1))
    return (left * torch.linspace(1, 2, 5, dtype=torch.float64)) @ right.T


def wavy(inputs: Tensor) -> Tensor:
    """Has many local minima on the way to a value."""
    return torch.cat([torch.sin(3 * inputs) + inputs / 3, torch.cos(2 * inputs)], dim=1)


def test_an_invertible_map_is_inverted():
    true = random(3, 5, seed=2)
    settings = ReconstructionSettings(num_steps=600, learning_rate=0.1)
    found = reconstruct(lambda x: x @ matrix().T, true @ matrix().T, random(2, 3, 5, seed=3), settings)
    torch.testing.assert_close(found.found, true, rtol=0, atol=1e-5)
    assert (found.loss_ratios > 1e8).all()


def test_losses_are_squared_errors_relative_to_the_target():
    targets, starts = random(3, 5, seed=2), random(1, 3, 5, seed=3)
    targets[1] = 0
    found = reconstruct(lambda x: x @ matrix().T, targets, starts, ReconstructionSettings(num_steps=7, restarts=1))
    for item in range(3):
        for step, inputs in ((0, starts[0, item]), (7, found.found[item])):
            error = float(((matrix() @ inputs - targets[item]) ** 2).sum())
            length = float((targets[item] ** 2).sum()) or 1.0
            assert float(found.losses[step, item]) == pytest.approx(error / length, rel=1e-9)
    assert found.losses.shape == (8, 3)
    ratios = found.losses[0] / found.losses[-1]
    torch.testing.assert_close(found.loss_ratios, ratios)


def test_updates_are_those_of_adam_annealed_along_a_cosine():
    rate, steps, target = 0.2, 5, random(1, 5, seed=2)
    start = random(1, 1, 5, seed=3)
    x, m, s = start[0, 0].clone(), torch.zeros(5).double(), torch.zeros(5).double()
    for step in range(steps):
        gradient = 2 * matrix().T @ (matrix() @ x - target[0]) / (target**2).sum()
        m, s = 0.9 * m + 0.1 * gradient, 0.999 * s + 0.001 * gradient**2
        annealed = rate * (1 + math.cos(math.pi * step / steps)) / 2
        x = x - annealed * (m / (1 - 0.9 ** (step + 1))) / ((s / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    settings = ReconstructionSettings(num_steps=steps, learning_rate=rate, restarts=1)
    found = reconstruct(lambda inputs: inputs @ matrix().T, target, start, settings)
    torch.testing.assert_close(found.found[0], x, rtol=1e-9, atol=1e-12)


def test_items_do_not_influence_one_another():
    targets, starts = wavy(random(3, 2, seed=4)), random(4, 3, 2, seed=5)
    settings = ReconstructionSettings(num_steps=40, restarts=4)
    together = reconstruct(wavy, targets, starts, settings)
    for item in range(3):
        alone = reconstruct(wavy, targets[item : item + 1], starts[:, item : item + 1], settings)
        torch.testing.assert_close(together.found[item], alone.found[0])
        torch.testing.assert_close(together.losses[:, item], alone.losses[:, 0])
        torch.testing.assert_close(together.final_losses[:, item], alone.final_losses[:, 0])


def test_the_best_start_is_kept():
    targets, starts = wavy(random(3, 2, seed=4)), 3 * random(6, 3, 2, seed=5)
    settings = ReconstructionSettings(num_steps=60, restarts=6)
    found = reconstruct(wavy, targets, starts, settings)
    assert found.final_losses.shape == (6, 3)
    assert (found.final_losses.max(dim=0).values > 2 * found.final_losses.min(dim=0).values).all()
    torch.testing.assert_close(found.losses[-1], found.final_losses.min(dim=0).values)
    errors = (wavy(found.found) - targets).square().sum(dim=1) / targets.square().sum(dim=1)
    torch.testing.assert_close(errors, found.losses[-1])


def test_the_penalty_counts_in_the_choice_but_not_in_the_loss():
    starts = torch.tensor([[[3.0]], [[-3.0]]], dtype=torch.float64)  # both lead to a root of x² = 4
    settings = ReconstructionSettings(num_steps=300, restarts=2)

    def penalty(inputs: Tensor) -> Tensor:
        return 0.01 * (inputs[:, 0] + 2).abs()  # nothing at −2

    found = reconstruct(torch.square, torch.tensor([[4.0]]).double(), starts, settings, penalty=penalty)
    assert float(found.found) == pytest.approx(-2, abs=1e-3)
    assert float(found.losses[-1]) < 1e-6


def test_bounds_are_never_left():
    seen: list[Tensor] = []

    def function(inputs: Tensor) -> Tensor:
        seen.append(inputs.detach().clone())
        return inputs

    targets = torch.tensor([[-1.0, 0.5, 2.0]], dtype=torch.float64)
    starts = torch.full((1, 1, 3), 0.4, dtype=torch.float64)
    settings = ReconstructionSettings(num_steps=200, restarts=1)
    found = reconstruct(function, targets, starts, settings, bounds=(0.0, 1.0))
    assert all(((inputs >= 0) & (inputs <= 1)).all() for inputs in seen)
    torch.testing.assert_close(found.found, torch.tensor([[0, 0.5, 1]]).double(), rtol=0, atol=1e-3)


def test_distances_are_recorded_of_the_start_that_is_kept():
    targets, starts = wavy(random(2, 2, seed=4)), 3 * random(5, 2, 2, seed=5)
    settings = ReconstructionSettings(num_steps=25, restarts=5, record_every=10)
    found = reconstruct(wavy, targets, starts, settings, watch=lambda inputs: {"first": inputs[:, 0]})
    assert found.recorded.tolist() == [0, 10, 20, 25]
    torch.testing.assert_close(found.watched["first"][-1], found.found[:, 0])
    kept = found.final_losses.argmin(dim=0)
    torch.testing.assert_close(found.watched["first"][0], starts[kept, torch.arange(2), 0])


def test_items_can_be_looked_at_alone():
    settings = ReconstructionSettings(num_steps=3, restarts=2)
    found = reconstruct(
        wavy, wavy(random(3, 2, seed=4)), random(2, 3, 2, seed=5), settings, watch=lambda x: {"a": x[:, 0]}
    )
    some = found.items(slice(1, 3))
    torch.testing.assert_close(some.found, found.found[1:])
    torch.testing.assert_close(some.losses, found.losses[:, 1:])
    torch.testing.assert_close(some.watched["a"], found.watched["a"][:, 1:])
    torch.testing.assert_close(some.final_losses, found.final_losses[:, 1:])


def test_a_loss_of_zero_is_as_far_as_float64_tells():
    same = random(1, 5, seed=0)
    found = reconstruct(lambda x: x, same, same[None], ReconstructionSettings(num_steps=1, restarts=1))
    assert found.loss_ratios.isfinite().all() or float(found.losses[0]) == 0
    far = found._replace(losses=torch.tensor([[2.0], [0.0]], dtype=torch.float64))
    assert float(far.loss_ratios) == pytest.approx(2**52)


def test_progress_counts_updates():
    counted: list[int] = []
    settings = ReconstructionSettings(num_steps=9, restarts=1)
    reconstruct(lambda x: x, random(1, 5, seed=0), random(1, 1, 5, seed=1), settings, progress=counted.append)
    assert sum(counted) == 9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"restarts": 0}, "restarts must be at least 1, got 0"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"record_every": 0}, "record_every must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": math.inf}, "must be finite, got inf"),
        ({"learning_rate": math.nan}, "must be finite, got nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ReconstructionSettings(**settings)


@pytest.mark.parametrize(
    ("targets", "starts", "message"),
    [
        (random(2, 4, seed=0), random(1, 2, 5, seed=1), r"no inputs \[5\] have values \[4\]: theirs are \[5\]"),
        (random(2, 5, seed=0), random(1, 2, 3, seed=1), r"inputs \[3\] are not what values are given for"),
        (random(2, 5, seed=0), random(0, 2, 5, seed=1), r"starts must be \[restarts, 2, …\], at least one of them"),
        (random(2, 5, seed=0), random(1, 3, 5, seed=1), r"starts must be \[restarts, 2, …\].*got \[1, 3, 5\]"),
        (random(2, 5, seed=0) / 0, random(1, 2, 5, seed=1), "values that are traced back must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(targets, starts, message):
    with pytest.raises(UserError, match=message):
        reconstruct(lambda x: x @ matrix().T, targets, starts, ReconstructionSettings(num_steps=1))


def test_a_diverging_descent_is_refused():
    settings = ReconstructionSettings(num_steps=20, restarts=1)
    object.__setattr__(settings, "learning_rate", 1e200)  # which the constructor refuses
    with pytest.raises(UserError, match=r"not finite after \d+ updates: take a smaller learning rate than 1e\+200"):
        reconstruct(lambda x: x**3, random(1, 5, seed=0), random(1, 1, 5, seed=1), settings)
