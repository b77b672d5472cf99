"""The table and the sentences of an outcome made by hand."""

from dataclasses import replace
from pathlib import Path

import torch

from editable.callbacks.rewrite_generator import GeneratorRewriteOutcome
from editable.callbacks.rewrite_generator.outcome import RewriteFigures, RulePictures, UnseenPictures
from editable.callbacks.rewrite_generator.report import summary, write
from editable.rewriting import GeneratorOutcome

MEASURED = GeneratorOutcome(
    num_images=50,
    matched_positions=0.01,
    matched_images=0.2,
    feature_progress=0.75,
    feature_distance_before=2.0,
    feature_distance=0.5,
    feature_change_matched=1.5,
    feature_change_elsewhere=0.25,
    pixel_progress=0.6,
    pixel_change_matched=0.4,
    pixel_change_elsewhere=0.02,
    pixel_change_unmatched_images=None,
    output_change_elsewhere=0.3,
    output_bound=0.9,
)


def pictures(number: int) -> torch.Tensor:
    return torch.rand(number, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def outcome(measured: GeneratorOutcome = MEASURED) -> GeneratorRewriteOutcome:
    masks = (pictures(3)[:, 0] > 0.5).float()
    unseen = UnseenPictures(pictures(3), pictures(3).flip(0), pictures(3)[:, 0] - 0.5, masks, [7, 0, 3])
    return GeneratorRewriteOutcome(
        "layer1.conv2",
        measured,
        RewriteFigures(1.25, 0.125, 1, 3.0, 0.05, 40, 1.5),
        (-1.0, 1.0),
        RulePictures(pictures(3), masks, ["copy", "paste", "context"]),
        unseen,
        unseen,
    )


def test_table() -> None:
    table = summary(outcome())
    assert table.title == "layer1.conv2"
    assert table.rows == [
        ["rank, change of the weight's norm", "1", "5.0 %"],
        ["exemplars' loss, before and after", "1.25", "0.125"],
        ["unseen images, positions that match the context", "50", "1.00 %"],
        ["progress of features, of pixels there", "75 %", "60 %"],
        ["change of features there, elsewhere", "1.5", "0.25"],
        ["change of pixels there, elsewhere, %", "20", "1"],
        ["… in images where nothing matches, %", "unknown", ""],
    ]
    unknown = summary(outcome(MEASURED._replace(pixel_progress=None, feature_change_elsewhere=None)))
    assert unknown.rows[3][2] == unknown.rows[4][2] == "unknown"


def test_sections_and_figures(tmp_path: Path) -> None:
    rewrite, unseen = write(outcome(), tmp_path)
    for words in (
        "`layer1.conv2` was changed by 5.0 % of its norm, at rank 1, in 40 steps",
        "differ from the target by 0.125 in place of 1.25",
        "On 50 unseen images the context matches at 1.00 % of positions, in 20.0 % of images",
        "Pixels made 60 % of the wanted change.",
        "in % of their range: 20, 1 elsewhere, and unknown in images where nothing matches",
        "it could not by more than 0.9.",
        "[rewritten.safetensors](rewritten.safetensors)",
    ):
        assert words in rewrite
    assert "](strongest.png)" in unseen
    assert {path.name for path in tmp_path.iterdir()} == {"rule.png", "strongest.png", "first.png"}


def test_figures_are_logged_as_parts_of_the_pixels_range_where_they_are_known() -> None:
    values = outcome().values()
    assert values["pixel_change_matched"] == 0.2
    assert values["pixel_change_elsewhere"] == 0.01
    assert "pixel_change_unmatched_images" not in values
    assert replace(outcome(), image_range=(0.0, 0.5)).values()["pixel_change_matched"] == 0.8
    assert [values[name] for name in ("loss", "rank", "num_steps", "seconds")] == [0.125, 1, 40, 1.5]
