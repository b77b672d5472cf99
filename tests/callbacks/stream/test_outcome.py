"""Which figures are logged of a stream, of outcomes made by hand."""

import pytest

from tests.callbacks.stream.outcomes import NAN, POINTS, stream_outcome

CHANGES = ("brightness", "blur", "noise", "rotation", "jpeg")


def test_logged_figures_are_those_after_the_last_correction() -> None:
    assert stream_outcome().values() == {
        "num_edits": 4.0,
        "num_judged": 200.0,
        "error_before": 0.12,
        "error": 0.25,
        "broken": 0.14,
        "mended": 0.01,
        "agreement": 0.8,
        "success_rate": 0.75,
        "retention": 0.75,
        "generality_before": 0.25,
        "generality": 0.625,
        "group_size": 8.0,
        "group_generality": 0.25,
        "seconds_per_edit": 0.25,
        "patch_bytes": 800.0,
        **{f"generality_{name}": share for name, share in zip(CHANGES, [0.5, 0.25, 1.0, 0.0, 1.0], strict=True)},
    }


@pytest.mark.parametrize(
    ("fields", "left_out"),
    [
        ({"points": POINTS[:1]}, "group_generality"),
        ({"generality_before": NAN}, "generality_before"),
        ({"points": [POINTS[2]._replace(generality=NAN)]}, "generality"),
    ],
)
def test_a_share_of_nothing_is_left_out(fields: dict, left_out: str) -> None:
    assert left_out in stream_outcome().values()
    assert left_out not in stream_outcome(**fields).values()
