"""The figure of a scan has a row for each class and a panel for each measure, with one network or two."""

from math import nan
from pathlib import Path

import pytest
from PIL import Image

from editable.visualize.spurious_scan import Bars, plot_scan


@pytest.mark.parametrize("networks", [("network",), ("network", "edited")])
def test_bars(tmp_path: Path, networks: tuple[str, ...]):
    sizes = {}
    for count in (1, 20):
        values = {name: [0.1 * position - 0.5 for position in range(count)] for name in networks}
        values[networks[-1]][0] = nan  # undefined: no bar
        panels = [Bars(title, values, {name: [nan] * count for name in networks}) for title in ("error", "taken")]
        path = tmp_path / f"{count}.png"
        plot_scan(path, [f"class {position}" for position in range(count)], panels)
        with Image.open(path) as image:
            sizes[count] = image.size
            assert len(image.convert("RGB").getcolors(maxcolors=2**24)) > 20
    assert sizes[1][0] == sizes[20][0]
    assert sizes[20][1] > 2 * sizes[1][1]
