"""ROC curves before and after an edit are drawn from one set or several."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from editable.metrics import TargetCurve
from editable.visualize.four_tests import RocPanel, plot_roc_before_and_after


@pytest.mark.parametrize("panels", [1, 2, 5])
def test_roc_panels(tmp_path: Path, panels: int):
    line = torch.tensor([0.0, 0.2, 1.0], dtype=torch.float64)
    before, after = TargetCurve(line, line, torch.tensor(0.5)), TargetCurve(line, line.sqrt(), torch.tensor(0.7))
    plot_roc_before_and_after(tmp_path / "roc.png", [RocPanel("random, normal", before, after)] * panels)
    with Image.open(tmp_path / "roc.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 20
        assert image.height >= -(-panels // 2) * image.width / 2 * 0.9
