"""C⁻¹ and C^{-1/2} against numpy and scipy, regularised in proportion to C, and sentences where there is no inverse."""

import numpy as np
import pytest
import scipy.linalg
import torch

from editable.errors import UserError
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation
from editable.rewriting.memory.second_moment import SecondMoment

NONE = Regularisation(epsilon=0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_eigenvalues(*eigenvalues: float) -> torch.Tensor:
    basis = torch.linalg.qr(random(len(eigenvalues), len(eigenvalues))).Q
    matrix = (basis * torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T
    return (matrix + matrix.T) / 2


def regularised(matrix: torch.Tensor, regularisation: Regularisation) -> np.ndarray:
    """The definition, on the matrix itself where there is one."""
    array = matrix.numpy()
    scale = np.diag(array).mean()
    if regularisation.epsilon is not None:
        return array + regularisation.epsilon * scale * np.eye(len(array))
    values, vectors = np.linalg.eigh(array)
    return vectors @ np.diag(np.maximum(values, regularisation.floor * scale)) @ vectors.T


@pytest.mark.parametrize(
    "regularisation",
    [NONE, Regularisation(floor=0), Regularisation(epsilon=0.03), Regularisation(floor=0.4), Regularisation(floor=9)],
    ids=str,
)
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e15])
def test_against_numpy_and_scipy(regularisation: Regularisation, scale: float):
    matrix, keys = scale * with_eigenvalues(0.01, 0.3, 1, 2, 7), random(5, 3, seed=1)
    inverse = InverseMoment(matrix, regularisation)
    expected = regularised(matrix, regularisation)
    solved = np.linalg.solve(expected, keys.numpy())
    np.testing.assert_allclose(inverse.solve(keys).numpy(), solved, rtol=0, atol=1e-12 * np.abs(solved).max())
    white = np.linalg.solve(np.real(scipy.linalg.sqrtm(expected)), keys.numpy())
    np.testing.assert_allclose(inverse.whiten(keys).numpy(), white, rtol=0, atol=1e-12 * np.abs(white).max())
    np.testing.assert_allclose(inverse.eigenvalues.numpy(), np.linalg.eigvalsh(expected), rtol=1e-11)


def test_whitened_keys_have_the_unit_matrix_for_their_second_moment():
    keys = with_eigenvalues(0.1, 1, 3, 9) @ random(4, 50)
    moment = SecondMoment(4)
    moment.update(keys)
    white = InverseMoment(moment, NONE).whiten(keys)
    torch.testing.assert_close(white @ white.T / 50, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)


def test_whitening_twice_is_solving():
    inverse, keys = InverseMoment(with_eigenvalues(0.1, 1, 4)), random(3, 2, seed=1)
    torch.testing.assert_close(inverse.whiten(inverse.whiten(keys)), inverse.solve(keys), rtol=1e-12, atol=1e-14)


def test_a_matrix_and_a_stream_give_the_same():
    keys = random(4, 50)
    moment = SecondMoment(4)
    moment.update(keys)
    one, other = InverseMoment(moment), InverseMoment(keys @ keys.T / 50)
    torch.testing.assert_close(one.solve(keys), other.solve(keys), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("regularisation", [Regularisation(epsilon=1e-2), Regularisation(floor=1e-2)], ids=str)
@pytest.mark.parametrize("factor", [1e-150, 3e-7, 2.0, 1e9, 1e150])
def test_a_constant_factor_only_scales(regularisation: Regularisation, factor: float):
    """Also where C is singular, so that the regularisation matters."""
    matrix, keys = with_eigenvalues(0, 0.005, 1, 3), random(4, 2, seed=1)
    solved = InverseMoment(matrix, regularisation).solve(keys)
    scaled = InverseMoment(factor * matrix, regularisation).solve(keys) * factor
    torch.testing.assert_close(scaled, solved, rtol=1e-10, atol=1e-10)


def test_the_default_bounds_dead_channels_and_leaves_live_ones():
    matrix = torch.diag(torch.tensor([0, 0.05, 1, 3], dtype=torch.float64))
    keys = torch.eye(4, dtype=torch.float64)
    solved = InverseMoment(matrix).solve(keys).diag()
    mean = 4.05 / 4
    assert solved[0].item() == pytest.approx(1e4 / mean, rel=1e-10)
    torch.testing.assert_close(solved[1:], 1 / matrix.diag()[1:], rtol=3e-3, atol=0)


def test_types_of_keys():
    inverse = InverseMoment(with_eigenvalues(1, 2, 3))
    keys = random(3, 2).float()
    assert inverse.solve(keys).dtype == torch.float64
    torch.testing.assert_close(inverse.solve(keys), inverse.solve(keys.double()), rtol=0, atol=0)
    assert inverse.solve(keys[:, :0]).shape == (3, 0)
    assert inverse.key_size == 3


@pytest.mark.parametrize("arguments", [{}, {"floor": 0.1, "epsilon": 0.1}], ids=["neither", "both"])
def test_exactly_one_regularisation(arguments: dict):
    with pytest.raises(UserError, match="either floor or epsilon"):
        Regularisation(**arguments)


@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf")])
def test_regularisation_out_of_range(value: float):
    for name in ("floor", "epsilon"):
        with pytest.raises(UserError, match=r"(floor|epsilon) must be (at least 0|finite), got"):
            Regularisation(**{name: value})


@pytest.mark.parametrize("regularisation", [NONE, Regularisation(floor=0), Regularisation(epsilon=1e-20)], ids=str)
@pytest.mark.parametrize("num_keys", [1, 4])
def test_singular_without_regularisation(regularisation: Regularisation, num_keys: int):
    """Fewer keys than they have entries; rounding leaves eigenvalues that are not quite zero."""
    moment = SecondMoment(6)
    moment.update(random(6, num_keys))
    with pytest.raises(UserError, match=rf"singular: {6 - num_keys} of its 6 eigenvalues.*regularise it"):
        InverseMoment(moment, regularisation)
    InverseMoment(moment)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(3, 3), "nothing but zeros"),
        (torch.full((3, 3), float("nan")), "finite"),
        (torch.diag(torch.tensor([1.0, float("inf")])), "finite"),
        (torch.diag(torch.tensor([3.0, -1.0])), "no negative eigenvalues"),
        (torch.diag(torch.tensor([1.0, -3.0])), "positive, finite diagonal"),
        (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (torch.zeros(3, 2), r"\[c, c\], got shape \[3, 2\]"),
        (torch.zeros(0, 0), r"\[c, c\], got shape \[0, 0\]"),
    ],
)
def test_what_is_no_second_moment(matrix: torch.Tensor, message: str):
    with pytest.raises(UserError, match=message):
        InverseMoment(matrix)


def test_a_moment_without_keys():
    with pytest.raises(UserError, match="no second moment of no keys"):
        InverseMoment(SecondMoment(3))


def test_unfit_keys():
    inverse = InverseMoment(torch.eye(3))
    for operation in (inverse.solve, inverse.whiten):
        for keys in (torch.zeros(2, 1), torch.zeros(3), torch.zeros(1, 3, 1)):
            with pytest.raises(UserError, match=r"columns \[3, S\], got shape"):
                operation(keys)
        with pytest.raises(UserError, match="NaN or infinite"):
            operation(torch.tensor([[1.0], [float("nan")], [0.0]]))
