"""The outcome of a rewrite, its metrics and its files, without Lightning."""

from pathlib import Path

import pytest
import torch
from torch.func import functional_call

from editable.callbacks import generator_metrics, write_generator_report
from editable.callbacks.rewrite_generator.of_rewrite import SHOWN, outcome_of
from editable.rewriting import ClosedForm
from editable.rewriting.generators.generator_rewrite import GeneratorRewrite, rewrite_generator
from tests.rewriting.generator_rules import planted, planted_rule


def made(num_unseen_images: int) -> GeneratorRewrite:
    return rewrite_generator(
        planted(),
        "conv",
        planted_rule(),
        solver=ClosedForm(),
        num_moment_images=200,
        num_unseen_images=num_unseen_images,
    )


@pytest.fixture(scope="module")
def rewrite() -> GeneratorRewrite:
    return made(60)


def test_pixels_are_told_as_fractions_of_their_range(rewrite: GeneratorRewrite):
    narrow, wide = generator_metrics(rewrite, (0, 1)), generator_metrics(rewrite, (-1, 3))
    for name in ("pixel_change_matched", "pixel_change_elsewhere", "pixel_change_unmatched_images"):
        assert narrow[f"rewrite_{name}"] == pytest.approx(getattr(rewrite.outcome, name))
        assert wide[f"rewrite_{name}"] == pytest.approx(getattr(rewrite.outcome, name) / 4)
    assert narrow["rewrite_feature_progress"] == wide["rewrite_feature_progress"] == rewrite.outcome.feature_progress


def test_the_report_is_the_same_for_the_same_seeds(tmp_path: Path):
    for folder in ("first", "second"):
        sections = write_generator_report(made(num_unseen_images=3), planted_rule(), tmp_path / folder)
        assert len(sections) == 2
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == ["first.png", "rewritten.safetensors", "rule.png", "strongest.png"]
    for name in files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_unseen_images_before_and_after_in_0_1(rewrite: GeneratorRewrite):
    """They are what the plain network makes of the same latent vectors, with the range of a pixel brought to 1."""
    outcome = outcome_of(rewrite, planted_rule(), (-1, 3))
    assert outcome.first.numbers == list(range(2 * SHOWN))
    strongest = rewrite.context.responses.flatten(1).max(dim=1).values
    assert outcome.strongest.numbers == strongest.argsort(descending=True)[:SHOWN].tolist()
    network = planted().eval()
    latents = rewrite.latents[outcome.first.numbers].double()
    with torch.no_grad():
        before = network(latents)
        after = functional_call(network, rewrite.result.params, (latents,))
    torch.testing.assert_close(outcome.first.before, (before + 1) / 4)
    torch.testing.assert_close(outcome.first.after, (after + 1) / 4)
    assert outcome.first.responses.shape == outcome.first.matched.shape == (2 * SHOWN, *before.shape[-2:])
    assert outcome.rule.titles == ["copy", "paste", "paste", *["context"] * 5, *["wanted"] * 2, *["got"] * 2]
    assert len(outcome.rule.images) == len(outcome.rule.masks) == len(outcome.rule.titles)
