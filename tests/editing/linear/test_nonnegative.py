"""The quadratic program over the nonnegative numbers: the optimum's conditions hold, and coordinate descent agrees."""

import pytest
import torch
from torch import Tensor

from editable.editing.linear.nonnegative import solve_nonnegative
from editable.errors import UserError


def coordinate_descent(matrix: Tensor, vector: Tensor, sweeps: int = 3000) -> Tensor:
    """Minimise along one coordinate after the other, cut off at zero."""
    x = [0.0] * len(vector)
    rows, g = matrix.tolist(), vector.tolist()
    for _ in range(sweeps):
        moved = 0.0
        for i, row in enumerate(rows):
            slope = sum(a * b for a, b in zip(row, x, strict=True)) - g[i]
            new = max(0.0, x[i] - slope / row[i])
            moved, x[i] = max(moved, abs(new - x[i])), new
        if moved < 1e-14:
            break
    return torch.tensor(x, dtype=torch.float64)


def random_problem(seed: int, size: int, rank: int, ridge: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, rank, generator=generator, dtype=torch.float64)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    return root @ root.T / rank + ridge * torch.eye(size, dtype=torch.float64), vector


def assert_optimal(matrix: Tensor, vector: Tensor, x: Tensor, tolerance: float) -> None:
    """Karush, Kuhn and Tucker's conditions, which decide on the optimum of a convex program."""
    slope = matrix @ x - vector
    scale = float(matrix.abs().max() * x.abs().max() + vector.abs().max())
    assert x.isfinite().all()
    assert (x >= 0).all()
    assert slope.min() >= -tolerance * scale
    assert float((x * slope).abs().max()) <= tolerance * scale * max(1.0, float(x.max()))


@pytest.mark.parametrize("seed", range(20))
def test_coordinate_descent_finds_the_same(seed: int):
    matrix, vector = random_problem(seed, 3 + seed % 9, 12, 0.1)
    x = solve_nonnegative(matrix, vector)
    torch.testing.assert_close(x, coordinate_descent(matrix, vector), rtol=0, atol=1e-9)
    assert_optimal(matrix, vector, x, 1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_wherever_it_starts(seed: int):
    matrix, vector = random_problem(seed, 60, 70, 1e-3)
    expected = solve_nonnegative(matrix, vector)
    assert_optimal(matrix, vector, expected, 1e-12)
    generator = torch.Generator().manual_seed(seed)
    for start in (expected > 0, expected == 0, torch.rand(60, generator=generator) < 0.5):
        kept = start.clone()
        torch.testing.assert_close(solve_nonnegative(matrix, vector, start), expected, rtol=1e-9, atol=1e-11)
        assert torch.equal(start, kept), "the start is not written to"


def test_known_solutions():
    vector = torch.tensor([3.0, -1.0, 0.0], dtype=torch.float64)
    assert solve_nonnegative(torch.eye(3, dtype=torch.float64), vector).tolist() == [3.0, 0.0, 0.0]
    assert solve_nonnegative(4 * torch.eye(3, dtype=torch.float64), vector).tolist() == [0.75, 0.0, 0.0]
    assert solve_nonnegative(torch.zeros(0, 0, dtype=torch.float64), vector[:0]).tolist() == []
    # Both ask against each other: x = (g₁ + g₂ρ)/(1 − ρ²) were they equalities.
    pair = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(
        solve_nonnegative(pair, vector[[0, 0]]), torch.full((2,), 6.0, dtype=torch.float64), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("ridge", [1e-8, 1e-12, 0.0])
@pytest.mark.parametrize("seed", range(6))
def test_nearly_singular_matrices_come_to_an_end(seed: int, ridge: float):
    """Forty constraints on twelve directions, of a vector that can be reached, and twelve of them twice."""
    matrix, vector = random_problem(seed, 40, 12, 0.0)
    vector = matrix @ vector.abs() + 0.1 * (matrix @ vector)
    twice = torch.cat([torch.arange(40), torch.arange(12)])
    matrix, vector = matrix[twice][:, twice] + ridge * torch.eye(52, dtype=torch.float64), vector[twice]
    for start in (None, torch.ones(52, dtype=torch.bool)):
        assert_optimal(matrix, vector, solve_nonnegative(matrix, vector, start), 1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_what_contradicts_itself_is_softened(seed: int):
    """With a singular matrix and a vector that nothing reaches, there is no optimum but by the ridge that is there."""
    matrix, vector = random_problem(seed, 30, 8, 1e-8)
    x = solve_nonnegative(matrix, vector)
    assert_optimal(matrix, vector, x, 1e-10)
    assert x.max() > 1e4, "one constraint at least is missed by its multiplier's part"


def test_degenerate_vectors():
    """Pairs of which both are zero at the optimum."""
    matrix, vector = random_problem(0, 20, 25, 0.1)
    wanted = vector.clamp(min=0)
    x = solve_nonnegative(matrix, matrix @ wanted)
    torch.testing.assert_close(x, wanted, rtol=0, atol=1e-12)
    assert solve_nonnegative(matrix, torch.zeros(20, dtype=torch.float64)).tolist() == [0.0] * 20
    assert solve_nonnegative(matrix, -vector.abs()).tolist() == [0.0] * 20


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_end_it(bad: float):
    matrix, vector = random_problem(0, 5, 6, 0.1)
    for wrong in ((matrix * bad, vector), (matrix, vector * bad)):
        with pytest.raises(UserError, match="NaN or infinite"):
            solve_nonnegative(*wrong)
