"""A calibrated logit takes at most the allowed part of the old classes' images, and as many as it may."""

import pytest
import torch
from torch import nn

from editable.errors import UserError
from editable.models import grow_classes
from editable.rewriting.new_class.logit_calibration import calibrate_logit


@pytest.mark.parametrize("max_loss", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("height", [1e-3, 1.0, 1e3])
def test_at_most_the_allowed_part_is_lost(max_loss, height):
    generator = torch.Generator().manual_seed(0)
    old = 5 * torch.randn(1000, 4, generator=generator)
    pooled = height * torch.randn(1000, generator=generator) - 3 * height
    scale, bias = calibrate_logit(pooled, old, max_loss)
    new = (pooled * scale + bias)[:, None]  # in single precision, as a network computes it
    lost = (torch.cat([old, new], dim=1).argmax(1) == 4).sum().item()
    assert lost == round(1000 * max_loss)
    assert (scale * pooled).std(correction=0).item() == pytest.approx(old.amax(1).std(correction=0).item(), rel=1e-5)


def test_log_odds_keep_their_scale():
    generator = torch.Generator().manual_seed(0)
    old = torch.randn(1000, 4, generator=generator).double().log_softmax(1)
    odds = 30 * torch.randn(1000, generator=generator).double()
    scale, bias = calibrate_logit(odds, old, 0.02, scale=1.0)
    assert scale == 1
    assert int((odds + bias > old.amax(1)).sum()) == 20


def test_in_a_grown_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    grown = grow_classes(network, "0")
    images = torch.randn(200, 3, 6, 6)
    logits = grown(images).detach()
    calibration = calibrate_logit(logits[:, 3], logits[:, :3], 0.05)
    with torch.no_grad():
        grown.new_logits[0].scale.fill_(calibration.scale)
        grown.new_logits[0].bias.fill_(calibration.bias)
    assert (grown(images).argmax(1) == 3).sum() == 10


def test_mistakes():
    old, pooled = torch.randn(10, 3), torch.randn(10)
    for wrong in (-0.1, 1.0):
        with pytest.raises(UserError, match=rf"max_loss must be in \[0, 1\), got {wrong}"):
            calibrate_logit(pooled, old, wrong)
    for alike in (torch.ones(10), torch.zeros(10)):
        with pytest.raises(UserError, match="responds alike to all 10 images"):
            calibrate_logit(alike, old)
    with pytest.raises(UserError, match="logits must be finite"):
        calibrate_logit(pooled / 0, old)
