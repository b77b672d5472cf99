"""What pages repeat of results that are stored elsewhere is what is stored there."""

import re

import pytest

from tests.docs.test_tables import FILES, SCRIPT
from tests.paths import ROOT

LAYER3, EXTRA, CODEBOOK = ("results.fine_tuning", 0), ("results.extra_layer", 0), ("many-corrections.editors", 6)
TUNED, WHITE, VIEWS = ("results.fine_tuning", 3), ("results.whitened_extra_layer", 4), ("results.edited_views", 2)
WHEELS = ("four-tests.tests", 2)
MISTAKES, WHITE_MISTAKES = ("results.natural_mistakes", 0), ("results.natural_mistakes", 2)
SAID = [  # the page, its words, and for each number of these the table, its row and the value
    ("README.md", "all hold, {:.1p} % of other views too", [(*CODEBOOK, "generality")]),
    ("README.md", "→ {:.2p} % wrong of 5000 other images", [(*CODEBOOK, "error")]),
    (
        "README.md",
        "drawdown {:.2p} → {:.2p} ± {:.2p} points, {:.0p} % success",
        [(*EXTRA, "drawdown"), (*WHITE, "drawdown"), (*WHITE, "drawdown_half_width"), (*WHITE, "success_rate")],
    ),
    (
        "README.md",
        "drawdown of layer3 {:.1p} → {:.1p} points at {:.2p} → {:.2p} % test error",
        [(*row, name) for name in ("drawdown", "test_error") for row in (LAYER3, TUNED)],
    ),
    (
        "README.md",
        "drawdown {:.2p} and {:.1p} points, {:.0p} % success both",
        [("results.first_fifty", row, "drawdown") for row in (0, 1)] + [("results.first_fifty", 0, "success_rate")],
    ),
    ("README.md", "{:.0p} → {:.0p} % right", [(*WHEELS, "accuracy_before"), (*WHEELS, "accuracy")]),
    ("docs/index.md", "{:.1p} in place of {:.1p} points", [(*TUNED, "drawdown"), (*LAYER3, "drawdown")]),
    ("docs/index.md", "{:.2p} ± {:.2p} points", [(*WHITE, "drawdown"), (*WHITE, "drawdown_half_width")]),
    ("docs/index.md", "→ {:.2p} % wrong", [(*CODEBOOK, "error")]),
    *(
        (
            "docs/editable-training.md",
            "{:.2p} % | {:.2p} ± {:.2p} points | {:.1p~} %",
            [(*row, name) for name in ("test_error", "drawdown", "drawdown_half_width", "success_rate")],
        )
        for row in (LAYER3, TUNED)
    ),
    *(
        (
            "docs/editable-training.md",
            "{:.2p} % | {:.2p} ± {:.2p} points | {:.0p} % | {:.2f} |",
            [
                ("results.whitened_extra_layer", row, name)
                for name in ("test_error", "drawdown", "drawdown_half_width", "success_rate", "num_steps")
            ],
        )
        for row in (1, 2, 3, 4)
    ),
    (
        "docs/editable-training.md",
        "{:.0p} to {:.0p} %, above that of the layer that is not whitened, at {:.2p} ± {:.2p} points",
        [(*WHITE, "generality"), *((*VIEWS, name) for name in ("generality", "drawdown", "drawdown_half_width"))],
    ),
    (
        "docs/editable-training.md",
        "at {:.2p} ± {:.2p} points of drawdown in place of {:.2p}",
        [(*WHITE_MISTAKES, "drawdown"), (*WHITE_MISTAKES, "drawdown_half_width"), (*MISTAKES, "drawdown")],
    ),
    (
        "docs/results.md",
        "{:.1p} → {:.1p} % (published {:.2p} → {:.2p} %)",
        [
            *((*WHEELS, name) for name in ("accuracy_before", "accuracy")),
            *((*WHEELS, name) for name in ("published_accuracy_before", "published_accuracy")),
        ],
    ),
    (
        "docs/results.md",
        "images {:.0p} %, 1.2 points; features {:.0p} %, 0.8 points; fine-tuning {:.0p} %",
        [("rewriting.routes_target", row, "truth_corrected") for row in (1, 2, 3)],
    ),
    (
        "docs/results.md",
        "with the watermark {:.1p} → {:.1p} % wrong ({:.1p} % without it), carton takes {:.1p} → {:.1p} %",
        [
            ("watermark.rewrite", 0, name)
            for name in ("error_before", "error", "clean_error_before", "taken_before", "taken")
        ],
    ),
    (
        "docs/results.md",
        "AUC {:.3f}, {:.3f}, {:.3f}; the best of three baselines {:.3f}, {:.3f}, {:.3f}",
        [("new-classes.filter", row, name) for name in ("filter_auc", "class_vector_auc") for row in (0, 1, 2)],
    ),
    (
        "docs/results.md",
        "pixels change by {:.1p} % of their range where the rule applies, by {:.1p} % elsewhere",
        [("generators.solvers", 3, name) for name in ("pixels_matching", "pixels_elsewhere")],
    ),
]


@pytest.mark.parametrize(("page", "words", "places"), SAID)
def test_it_is_what_the_store_has(page: str, words: str, places: list[tuple[str, int, str]]):
    rows = [FILES[table]["rows"][row] for table, row, _ in places]
    values = [(row | row.get("metrics", {}))[name] for row, (_, _, name) in zip(rows, places, strict=True)]
    text = re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8").replace("**", ""))
    assert SCRIPT.Cells().format(words, *values) in text


def test_a_loss_is_the_difference_of_what_is_stored():
    row = FILES["four-tests.tests"]["rows"][4]
    loss = 100 * (row["accuracy_before"] - row["accuracy"])
    assert f"at {loss:.1f} points over 1012 images" in (ROOT / "README.md").read_text(encoding="utf-8")
