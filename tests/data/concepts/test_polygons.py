import numpy as np
import pytest
import torch
from matplotlib.path import Path as Outline

from editable.data.concepts.polygons import polygon_mask


def area(polygon: np.ndarray) -> float:
    """The shoelace formula."""
    x, y = polygon.T
    return abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


@pytest.mark.parametrize(
    "vertices",
    [
        [(1, 1), (13, 2), (4, 17)],
        [(2, 3), (10, 3), (10, 7), (6, 7), (6, 15), (2, 15)],
        [(0, 0), (20, 0), (20, 18), (0, 18)],
        [(3.5, 2.25), (17.125, 4.0625), (9.75, 16.5)],
    ],
    ids=["triangle", "L", "everything", "fractions"],
)
def test_sum_is_the_area(vertices):
    polygon = np.array(vertices, dtype=float)
    for one in (polygon, polygon[::-1], np.roll(polygon, 1, axis=0)):
        mask = polygon_mask([one], (18, 20))
        assert mask.shape == (18, 20)
        assert mask.dtype == torch.float32
        assert mask.double().sum().item() == pytest.approx(area(polygon), rel=1e-6)


def test_each_pixel_has_its_share():
    mask = polygon_mask([np.array([(0.25, 1.5), (2.75, 1.5), (2.75, 3), (0.25, 3)])], (4, 4))
    across, down = torch.tensor([0.75, 1, 0.75, 0]), torch.tensor([0, 0.5, 1, 0])
    assert torch.equal(mask, down[:, None] * across)


def test_diagonal_halves_the_pixels_that_it_crosses():
    mask = polygon_mask([np.array([(0, 0), (5, 5), (0, 5)], dtype=float)], (5, 5))
    torch.testing.assert_close(mask, torch.ones(5, 5).tril(-1) + 0.5 * torch.eye(5))


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_counting_points(seed):
    polygon = np.random.RandomState(seed).uniform(1, 13, (6, 2))  # it crosses itself, as a rule
    grid = (np.arange(14 * 32) + 0.5) / 32
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    # Outline.contains_points fills by winding number: the even-odd rule counts the edges to the right of each point
    inside = np.zeros(len(points), dtype=bool)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        between = (y1 <= points[:, 1]) != (y2 <= points[:, 1])
        inside ^= between & (points[:, 0] < x1 + (points[:, 1] - y1) * (x2 - x1) / (y2 - y1))
    expected = inside.reshape(14, 32, 14, 32).mean(axis=(1, 3))
    np.testing.assert_allclose(polygon_mask([polygon], (14, 14)).numpy(), expected, atol=1 / 16)


def test_convex_polygon_agrees_with_matplotlib():
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    polygon = np.stack([10 + 7.3 * np.cos(angles), 9 + 5.1 * np.sin(angles)], axis=1)
    grid = (np.arange(20 * 32) + 0.5) / 32
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    expected = Outline(polygon).contains_points(points).reshape(20, 32, 20, 32).mean(axis=(1, 3))
    np.testing.assert_allclose(polygon_mask([polygon], (20, 20)).numpy(), expected, atol=1 / 16)


def test_polygons_are_united():
    square = np.array([(2, 2), (8, 2), (8, 8), (2, 8)], dtype=float)
    halves = [square[[0, 1, 2]], square[[0, 2, 3]]]
    shifted = square + np.array([3.5, 1])
    whole = polygon_mask([square], (12, 14))
    assert torch.equal(polygon_mask(halves, (12, 14)), whole)
    assert torch.equal(polygon_mask([square, square], (12, 14)), whole)
    assert torch.equal(polygon_mask([halves[0], halves[0]], (12, 14)), polygon_mask(halves[:1], (12, 14)))
    assert polygon_mask([square, shifted], (12, 14)).sum().item() == 36 + 36 - 2.5 * 5
    assert torch.equal(polygon_mask([shifted, square], (12, 14)), polygon_mask([square, shifted], (12, 14)))


def test_what_is_outside_is_cut_off():
    mask = polygon_mask([np.array([(-5, -5), (3, -5), (3, 2), (-5, 2)], dtype=float)], (4, 6))
    assert mask.sum().item() == 6
    assert mask[:2, :3].min().item() == 1
    assert not polygon_mask([np.array([(7, 0), (9, 0), (9, 3)], dtype=float)], (4, 6)).any()


def test_tall_image():
    mask = polygon_mask([np.array([(1, 10), (3, 10), (3, 190), (1, 190)], dtype=float)], (200, 4))
    assert torch.equal(
        mask, ((torch.arange(200) >= 10) & (torch.arange(200) < 190))[:, None] * torch.tensor([0, 1.0, 1, 0])
    )
