"""Masks on a map of keys, mean keys and directions against plain loops and numpy, and sentences for unfit masks."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.nn import functional

from editable.errors import UserError
from editable.rewriting.keys.context_keys import key_directions, mean_key, resize_mask, span_directions
from editable.rewriting.memory.inverse_moment import InverseMoment, Regularisation

NONE = Regularisation(epsilon=0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_moment(size: int, seed: int = 0) -> torch.Tensor:
    keys = random(size, 10 * size, seed=seed) * torch.logspace(-1, 1, size, dtype=torch.float64)[:, None] + 0.3
    return keys @ keys.T / keys.shape[1]


def random_weights(n: int, positions: int, seed: int = 0) -> torch.Tensor:
    """Weights of a mask, half of them zero."""
    return random(n, positions, seed=seed + 100).clamp(min=0)


def area_mean(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mean over each cell by a sum over pixels, each by the area that it shares with the cell."""
    result = np.zeros(size)
    cell = [old / new for old, new in zip(mask.shape, size, strict=True)]
    for (i, j), (y, x) in ((cells, pixel) for cells in np.ndindex(*size) for pixel in np.ndindex(*mask.shape)):
        height = max(0.0, min(y + 1, (i + 1) * cell[0]) - max(y, i * cell[0]))
        width = max(0.0, min(x + 1, (j + 1) * cell[1]) - max(x, j * cell[1]))
        result[i, j] += mask[y, x] * height * width / (cell[0] * cell[1])
    return result


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 5), (7, 9), (8, 3), (11, 20)])
def test_masks_are_resized_by_area(size: tuple[int, int]):
    masks = torch.rand(2, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.stack([area_mean(mask, size) for mask in masks.numpy()])
    resized = resize_mask(masks, size)
    np.testing.assert_allclose(resized.numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(resized.mean((1, 2)), masks.mean((1, 2)), rtol=1e-12, atol=0)


def test_whole_cells_are_averaged_as_by_pooling():
    mask = (torch.rand(2, 224, 224, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    torch.testing.assert_close(resize_mask(mask, (14, 14)), functional.avg_pool2d(mask, 16))


def test_the_smallest_mask_is_not_lost():
    mask = torch.zeros(1, 224, 224)
    mask[0, 100, 50] = 1
    resized = resize_mask(mask, (7, 7))
    assert resized.count_nonzero() == 1
    assert resized.max().item() == pytest.approx(1 / 32**2)


def test_a_full_mask_stays_full():
    assert resize_mask(torch.ones(1, 225, 223), (13, 17)).max() <= 1
    torch.testing.assert_close(resize_mask(torch.ones(1, 225, 223), (13, 17)), torch.ones(1, 13, 17))


def test_types_of_masks():
    mask = torch.tensor([[[True, False], [True, True]]])
    assert resize_mask(mask, (1, 1)).item() == 0.75
    assert resize_mask(mask.double(), (1, 1)).dtype == torch.float64
    with pytest.raises(UserError, match=r"floating \[n, H, W\], got shape \[1, 2, 2\] of torch.uint8"):
        resize_mask(mask.to(torch.uint8), (1, 1))


def test_unfit_masks():
    with pytest.raises(UserError, match=r"floating \[n, H, W\], got shape \[2, 2\]"):
        resize_mask(torch.zeros(2, 2), (1, 1))
    with pytest.raises(UserError, match="between 0 and 1, got values from 0 to 255"):
        resize_mask(torch.tensor([[[0.0, 255.0]]]), (1, 1))
    with pytest.raises(UserError, match="between 0 and 1"):
        resize_mask(torch.tensor([[[0.0, float("nan")]]]), (1, 1))
    with pytest.raises(UserError, match="height must be at least 1, got 0"):
        resize_mask(torch.zeros(1, 2, 2), (0, 1))


def test_mean_key_is_the_weighted_mean_of_all_positions():
    keys, weights = random(3, 4, 6), random_weights(3, 6)
    total, sum_of_weights = torch.zeros(4, dtype=torch.float64), 0.0
    for n in range(3):
        for p in range(6):
            total += weights[n, p] * keys[n, :, p]
            sum_of_weights += weights[n, p].item()
    mean = mean_key(keys, weights)
    assert mean.shape == (4, 1)
    torch.testing.assert_close(mean[:, 0], total / sum_of_weights, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(mean_key(keys, 5 * weights), mean, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("num_keys", [1, 3])
def test_spanned_directions(num_keys: int):
    """Orthonormal, in the span of C⁻¹K, the first parallel to C⁻¹k₁."""
    moment, keys = random_moment(6), random(6, num_keys, seed=1)
    found = span_directions(keys, InverseMoment(moment, NONE))
    solved = np.linalg.solve(moment.numpy(), keys.numpy())
    vectors = found.vectors.numpy()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(num_keys), rtol=0, atol=1e-12)
    basis = scipy.linalg.orth(solved)
    np.testing.assert_allclose(vectors @ vectors.T, basis @ basis.T, rtol=0, atol=1e-10)
    first = solved[:, 0] / np.linalg.norm(solved[:, 0])
    assert abs(vectors[:, 0] @ first) == pytest.approx(1, abs=1e-12)
    assert (vectors.T @ keys.numpy().sum(axis=1) > 0).all()
    white = np.linalg.solve(np.real(scipy.linalg.sqrtm(moment.numpy())), keys.numpy())
    np.testing.assert_allclose(found.singular_values, np.linalg.svd(white, compute_uv=False), rtol=1e-10)


def test_the_mean_direction_of_one_exemplar_is_parallel_to_its_key():
    moment, keys, weights = random_moment(5), random(1, 5, 9), random_weights(1, 9)
    direction = span_directions(mean_key(keys, weights), InverseMoment(moment, NONE)).vectors
    wanted = np.linalg.solve(moment.numpy(), (keys[0] @ weights[0]).numpy())
    np.testing.assert_allclose(direction[:, 0].numpy(), wanted / np.linalg.norm(wanted), rtol=0, atol=1e-12)


def test_one_key_under_the_mask_gives_its_direction():
    """The rank-r way agrees with the mean one where they must: one position, or the same key at all of them."""
    moment, key = random_moment(5), random(5, 1)
    inverse = InverseMoment(moment, NONE)
    wanted = span_directions(key, inverse).vectors
    one = random(2, 5, 4, seed=1)
    one[1, :, 2] = key[:, 0]
    weights = torch.zeros(1, 4, dtype=torch.float64)
    weights[0, 2] = 0.3
    torch.testing.assert_close(key_directions(one[1:], weights, inverse, 1).vectors, wanted, rtol=0, atol=1e-12)
    same = key[None].expand(2, -1, 4)
    found = key_directions(same, random_weights(2, 4) + 0.1, inverse, 1).vectors
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def plain_key_directions(keys: np.ndarray, weights: np.ndarray, moment: np.ndarray, rank: int) -> np.ndarray:
    """Rows one by one, eigenvectors of their products in place of an SVD, Gram and Schmidt in place of QR."""
    unwhitened = np.real(scipy.linalg.inv(scipy.linalg.sqrtm(moment)))
    rows = [weights[n, p] * unwhitened @ keys[n, :, p] for n, p in np.ndindex(*weights.shape)]
    _, vectors = np.linalg.eigh(sum(np.outer(row, row) for row in rows))
    summed = sum(weights[n, p] * keys[n, :, p] for n, p in np.ndindex(*weights.shape))
    basis: list[np.ndarray] = []
    for i in range(rank):
        direction = unwhitened @ vectors[:, -1 - i]
        for earlier in basis:
            direction = direction - (earlier @ direction) * earlier
        direction = direction / np.linalg.norm(direction)
        basis.append(direction * np.sign(direction @ summed))
    return np.stack(basis, axis=1)


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("regularisation", [NONE, Regularisation(epsilon=0.1)], ids=str)
def test_directions_against_a_plain_loop(rank: int, regularisation: Regularisation):
    keys, weights, moment = random(3, 6, 8) + 0.5, random_weights(3, 8), random_moment(6)
    found = key_directions(keys, weights, InverseMoment(moment, regularisation), rank)
    changed = moment + regularisation.epsilon * moment.diag().mean() * torch.eye(6, dtype=torch.float64)
    expected = plain_key_directions(keys.numpy(), weights.numpy(), changed.numpy(), rank)
    np.testing.assert_allclose(found.vectors.numpy(), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(rank), rtol=0, atol=1e-12)
    assert found.singular_values.shape == (rank,)
    assert (found.singular_values.diff() <= 0).all()


def test_all_directions_and_their_singular_values():
    """The squares of all singular values add up to the whitened keys' squares, Σ w² kᵀC⁻¹k."""
    keys, weights, moment = random(2, 4, 6), random_weights(2, 6), random_moment(4)
    found = key_directions(keys, weights, InverseMoment(moment, NONE), 4)
    total = sum(
        weights[n, p] ** 2 * keys[n, :, p] @ np.linalg.solve(moment, keys[n, :, p])
        for n, p in np.ndindex(*weights.shape)
    )
    assert found.singular_values.square().sum().item() == pytest.approx(float(total), rel=1e-10)


def test_fewer_keys_than_entries():
    """As for patches: many more entries of a key than positions under the mask."""
    keys, moment = random(1, 40, 5), random_moment(40)
    weights = torch.tensor([[0.2, 0, 1, 0.5, 0]], dtype=torch.float64)
    found = key_directions(keys, weights, InverseMoment(moment, NONE), 3).vectors
    basis = scipy.linalg.orth(np.linalg.solve(moment.numpy(), keys[0][:, [0, 2, 3]].numpy()))
    np.testing.assert_allclose((found @ found.T).numpy(), basis @ basis.T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("factor", [1e-100, 0.3, 1e100])
def test_the_scale_of_the_second_moment_does_not_matter(factor: float):
    keys, weights, moment = random(2, 6, 8), random_weights(2, 8), random_moment(6)
    moment[:, 0] = moment[0, :] = 0  # a dead channel, where the regularisation decides
    one, other = (InverseMoment(scale * moment) for scale in (1.0, factor))
    torch.testing.assert_close(
        key_directions(keys, weights, one, 3).vectors,
        key_directions(keys, weights, other, 3).vectors,
        rtol=0,
        atol=1e-9,
    )
    mean = mean_key(keys, weights)
    torch.testing.assert_close(
        span_directions(mean, one).vectors, span_directions(mean, other).vectors, rtol=0, atol=1e-9
    )


def test_signs_do_not_depend_on_the_order_of_positions():
    keys, weights, inverse = random(2, 6, 8), random_weights(2, 8), InverseMoment(random_moment(6))
    found = key_directions(keys, weights, inverse, 4).vectors
    for seed in range(5):
        order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
        again = key_directions(keys[:, :, order].flip(0), weights[:, order].flip(0), inverse, 4).vectors
        torch.testing.assert_close(again, found, rtol=0, atol=1e-10)


def test_the_largest_entry_decides_where_the_keys_cancel():
    """Keys k and −k, whose sum is zero."""
    key = torch.tensor([1.0, -5.0, 2.0], dtype=torch.float64)
    keys = torch.stack([key, -key], dim=1)[None]
    for order in (keys, keys.flip(2)):
        direction = key_directions(order, torch.ones(1, 2), InverseMoment(torch.eye(3)), 1).vectors[:, 0]
        torch.testing.assert_close(direction, -key / key.norm(), rtol=0, atol=1e-12)


def test_float32_keys_are_taken_in_float64():
    keys, weights, inverse = random(2, 4, 6).float(), random_weights(2, 6).float(), InverseMoment(random_moment(4))
    found = key_directions(keys, weights, inverse, 2)
    assert found.vectors.dtype == found.singular_values.dtype == mean_key(keys, weights).dtype == torch.float64
    torch.testing.assert_close(found, key_directions(keys.double(), weights.double(), inverse, 2), rtol=0, atol=0)


def test_unfit_keys_and_masks():
    inverse, keys, weights = InverseMoment(torch.eye(4)), random(3, 4, 6), random_weights(3, 6)
    for use in (mean_key, lambda keys, weights: key_directions(keys, weights, inverse, 1)):
        for unfit in (weights[:2], weights[:, :5], weights[0], weights[..., None]):
            with pytest.raises(UserError, match=r"as many exemplars and positions.*resize_mask"):
                use(keys, unfit)
        empty = weights.clone()
        empty[1] = 0
        with pytest.raises(UserError, match=r"mask of exemplar 1 .* is empty: mark where the concept is"):
            use(keys, empty)
        with pytest.raises(UserError, match="of which there are none"):
            use(keys[:0], weights[:0])
        with pytest.raises(UserError, match="keys hold NaN or infinite"):
            use(keys.log(), weights)
        for value in (-1.0, float("nan"), float("inf")):
            wrong = weights.clone()
            wrong[0, 0] = value
            with pytest.raises(UserError, match="no negative, NaN or infinite weights"):
                use(keys, wrong)


def test_too_many_directions():
    inverse, keys = InverseMoment(torch.eye(4)), random(1, 4, 6)
    weights = torch.tensor([[1.0, 1, 0, 0, 0, 0]])
    with pytest.raises(UserError, match=r"rank 3 needs as many independent keys.*has 2 of rank 2"):
        key_directions(keys, weights, inverse, 3)
    with pytest.raises(UserError, match="has 6 of rank 1"):
        key_directions(keys[:, :, :1].expand(-1, -1, 6), torch.ones(1, 6), inverse, 2)
    with pytest.raises(UserError, match="rank must be at least 1, got 0"):
        key_directions(keys, weights, inverse, 0)


def test_zero_and_dependent_keys():
    inverse = InverseMoment(torch.eye(4))
    with pytest.raises(UserError, match="every key under the mask is zero"):
        key_directions(torch.zeros(1, 4, 6), torch.ones(1, 6), inverse, 1)
    key = random(4, 1)
    for keys in (torch.zeros(4, 1), torch.cat([key, 2 * key], dim=1), random(4, 5), random(4, 0)):
        with pytest.raises(UserError, match="do not span as many directions"):
            span_directions(keys, inverse)
