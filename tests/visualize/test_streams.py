"""The figure of a stream is a whole PNG file, also of a single moment, and where shares are missing."""

from pathlib import Path

import pytest

from editable.visualize import plot_stream
from tests.visualize.test_edits import assert_picture

NAN = float("nan")


@pytest.mark.parametrize("number", [1, 2, 11])
@pytest.mark.parametrize("missing", [[], [0], "all"])
def test_stream(number: int, missing: list[int] | str, tmp_path: Path):
    shares = [NAN if missing == "all" or i in missing else 1 - i / 20 for i in range(number)]
    plot_stream(
        tmp_path / "stream.png",
        [2**i for i in range(number)],
        {"corrected images": [1.0] * number, "other views of them": shares},
        {"error, change": [i / 40 - 0.1 for i in range(number)], "broken": [i / 40 for i in range(number)]},
    )
    assert_picture(tmp_path / "stream.png")
