import pytest
import torch

from editable.data import fit_texture, paste_image, paste_texture, shade
from editable.errors import UserError


def random(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def numbered(height, width):
    """A texture in which each pixel tells where it was."""
    return torch.arange(height * width, dtype=torch.float64).view(1, height, width)


def test_larger_texture_is_cut_without_a_seam():
    texture, corners = numbered(11, 13), set()
    for seed in range(200):
        part = fit_texture(texture, (5, 6), seed)
        top, left = divmod(int(part[0, 0, 0]), 13)
        assert torch.equal(part, texture[:, top : top + 5, left : left + 6])
        corners.add((top, left))
    assert len({top for top, _ in corners}) == 7  # each of the corners that there are
    assert len({left for _, left in corners}) == 8


def test_smaller_texture_is_tiled():
    texture = numbered(3, 4)
    for seed in range(20):
        tiled = fit_texture(texture, (8, 9), seed)
        top, left = divmod(int(tiled[0, 0, 0]), 4)
        rows, columns = [(top + i) % 3 for i in range(8)], [(left + j) % 4 for j in range(9)]
        assert tiled.tolist() == [[[4.0 * row + column for column in columns] for row in rows]]


def test_each_side_is_treated_by_itself():
    texture = numbered(2, 20)
    part = fit_texture(texture, (5, 6), 1)
    assert (part[0, 2:] == part[0, :-2]).all()
    assert (part[0, :, 1:] - part[0, :, :-1] == 1).all()


def test_texture_of_the_size_is_kept():
    assert torch.equal(fit_texture(numbered(5, 6), (5, 6), 7), numbered(5, 6))


def test_seed_decides():
    texture = random(3, 40, 40)
    assert torch.equal(fit_texture(texture, (8, 8), 3), fit_texture(texture, (8, 8), 3))
    assert not torch.equal(fit_texture(texture, (8, 8), 3), fit_texture(texture, (8, 8), 4))
    state = torch.get_rng_state()
    fit_texture(texture, (8, 8), 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_paste_is_a_mixture_by_the_mask():
    image, pasted, mask = random(3, 5, 6), random(3, 5, 6, seed=1), random(5, 6, seed=2)
    mask[:2], mask[3:] = 0, 1
    result = paste_image(image, pasted, mask)
    for channel in range(3):
        for i in range(5):
            for j in range(6):
                expected = mask[i, j] * pasted[channel, i, j] + (1 - mask[i, j]) * image[channel, i, j]
                assert result[channel, i, j].item() == pytest.approx(expected.item(), abs=1e-15)
    assert torch.equal(result[:, :2], image[:, :2])
    assert torch.equal(result[:, 3:], pasted[:, 3:])


def test_paste_into_a_batch():
    images, pasted, masks = random(2, 3, 5, 6), random(3, 5, 6, seed=1), random(2, 5, 6, seed=2)
    result = paste_image(images, pasted, masks)
    for i in range(2):
        assert torch.equal(result[i], paste_image(images[i], pasted, masks[i]))


def test_paste_texture_is_fit_and_paste():
    image, texture, mask = random(3, 8, 8), random(3, 20, 5, seed=1), random(8, 8, seed=2)
    expected = paste_image(image, fit_texture(texture, (8, 8), 5), mask)
    assert torch.equal(paste_texture(image, texture, mask, seed=5), expected)


def test_pixelwise_shading_of_grey():
    """texture · L / the 0.9-quantile of L, written out for a grey image."""
    level, mask = 0.2 + 0.3 * random(6, 6), torch.zeros(6, 6, dtype=torch.float64)
    mask[2:, 1:5] = 1
    texture = 0.1 + 0.3 * random(3, 6, 6, seed=1)
    shaded = shade(texture, level.expand(3, 6, 6), mask, sigma=0)
    full_light = sorted(level[2:, 1:5].flatten().tolist())[14]  # of 16 values, it is the 14.4th in order
    torch.testing.assert_close(shaded[:, 2:, 1:5], (texture * level / full_light)[:, 2:, 1:5], rtol=1e-12, atol=0)
    assert torch.equal(shaded[:, :2], texture[:, :2])


def test_shading_weighs_the_channels_as_the_eye_does():
    image, mask = torch.zeros(3, 1, 6, dtype=torch.float64), torch.ones(1, 6, dtype=torch.float64)
    for channel in range(3):
        image[channel, 0, channel] = 1
    texture = torch.full((3, 1, 6), 0.1, dtype=torch.float64)
    shaded = shade(texture, image, mask, sigma=0)[0, 0]
    expected = [0.1 * weight / 0.587 for weight in (0.299, 0.587, 0.114, 0, 0, 0)]
    assert shaded.tolist() == pytest.approx(expected, rel=1e-2)


def test_shadow_stays_and_old_texture_goes():
    """Half of the region lies in shadow; stripes of one pixel are texture."""
    light = torch.where(torch.arange(64) < 32, 0.3, 0.6)
    stripes = 1 + 0.4 * (-1.0) ** torch.arange(64)
    image = (light * stripes[:, None]).expand(3, 64, 64)
    shaded = shade(torch.full((3, 64, 64), 0.5), image, torch.ones(64, 64), sigma=3)
    gain = shaded[0] / 0.5
    torch.testing.assert_close(gain[16:48, :20], torch.full((32, 20), 0.5), rtol=1e-3, atol=0)
    torch.testing.assert_close(gain[16:48, 44:], torch.full((32, 20), 1.0), rtol=1e-3, atol=0)


def test_highlight_does_not_set_the_light():
    """One pixel in twenty is a highlight; the partly covered pixels count by their share."""
    image, mask = torch.full((3, 20, 20), 0.4), torch.ones(20, 20)
    image[:, 0] = 1
    torch.testing.assert_close(shade(torch.full_like(image, 0.5), image, mask, sigma=0)[:, 1:], image[:, 1:] * 0 + 0.5)
    image[:, :8], mask[:8] = 1, 0.1  # 8 bright rows of weight 0.1 in 12.8: less than a tenth of the light
    torch.testing.assert_close(shade(torch.full_like(image, 0.5), image, mask, sigma=0)[:, 8:], image[:, 8:] * 0 + 0.5)


def test_shading_ignores_what_is_outside_and_the_exposure():
    image, texture = 0.5 * random(3, 32, 32), random(3, 32, 32, seed=1)
    mask = torch.zeros(32, 32, dtype=torch.float64)
    mask[8:24, 8:24] = 1
    expected = shade(texture, image, mask)
    other = torch.where(mask > 0, image, random(3, 32, 32, seed=2))
    torch.testing.assert_close(shade(texture, other, mask), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(shade(texture, image / 4, mask), expected, rtol=1e-12, atol=1e-12)
    assert expected.max() <= 1


def test_evenly_lit_region_changes_nothing():
    image = torch.full((3, 32, 32), 0.4, dtype=torch.float64)
    texture, mask = random(3, 32, 32), random(32, 32, seed=1)
    torch.testing.assert_close(shade(texture, image, mask), texture, rtol=1e-12, atol=1e-12)
    assert torch.equal(shade(texture, torch.zeros_like(image), mask), texture)


def test_shaded_paste():
    image, texture, mask = random(3, 16, 16), random(3, 20, 20, seed=1), random(16, 16, seed=2)
    expected = paste_image(image, shade(fit_texture(texture, (16, 16), 5), image, mask), mask)
    assert torch.equal(paste_texture(image, texture, mask, 5, blend="shading"), expected)


def test_small_mask_values_are_no_division_by_zero():
    image, mask = random(3, 32, 32, dtype=torch.float32), torch.zeros(32, 32)
    mask[5, 5] = 1e-30
    assert shade(random(3, 32, 32, seed=1, dtype=torch.float32), image, mask).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": torch.ones(5, 7)}, "the mask is 5×7 pixels .* as large as the image, 5×6"),
        ({"mask": torch.ones(5, 6, dtype=torch.uint8)}, "mask must be floats from 0 to 1, got torch.uint8"),
        ({"mask": torch.full((5, 6), 255.0)}, "mask's values must be from 0 to 1, got 255 to 255"),
        ({"mask": torch.full((5, 6), torch.nan)}, "mask's values must be from 0 to 1, got nan"),
        ({"image": torch.zeros(3, 5, 6, dtype=torch.uint8)}, "image must be floats from 0 to 1, got torch.uint8"),
        ({"pasted": torch.zeros(3, 6, 6)}, r"as large as the image, \[3, 5, 6\], got \[3, 6, 6\]"),
        ({"pasted": torch.zeros(1, 5, 6)}, r"as large as the image, \[3, 5, 6\], got \[1, 5, 6\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"image": torch.zeros(3, 5, 6), "pasted": torch.ones(3, 5, 6), "mask": torch.ones(5, 6), **change}
    with pytest.raises(UserError, match=message):
        paste_image(**arguments)


def test_textures_and_seeds_that_are_none():
    with pytest.raises(UserError, match=r"a texture must be an image \[C, h, w\], got shape \[4, 4\]"):
        fit_texture(torch.ones(4, 4), (2, 2), 0)
    with pytest.raises(UserError, match="seed must be at least 0, got -1"):
        fit_texture(torch.ones(3, 4, 4), (2, 2), -1)


@pytest.mark.parametrize("sigma", [-1.0, 11.0])
def test_sigma_out_of_range(sigma):
    with pytest.raises(UserError, match=f"sigma is {sigma:g} pixels, but must be from 0 to a third .* which is 32"):
        shade(torch.ones(3, 32, 32), torch.ones(3, 32, 32), torch.ones(32, 32), sigma)


def test_shading_of_an_empty_mask():
    with pytest.raises(UserError, match="the mask is empty: no region to take the shading from"):
        shade(torch.ones(3, 32, 32), torch.ones(3, 32, 32), torch.zeros(32, 32))
