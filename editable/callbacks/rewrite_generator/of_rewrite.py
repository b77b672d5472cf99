"""From a rewrite of a generator, with its network and rule, to the plain outcome and the files that are left of it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from editable.callbacks.rewrite_generator.outcome import (
    GeneratorRewriteOutcome,
    RewriteFigures,
    RulePictures,
    UnseenPictures,
    metrics,
)
from editable.callbacks.rewrite_generator.report import WEIGHTS, write
from editable.models import generate, write_weights
from editable.rewriting import resize_mask
from editable.rewriting.generators.generator_rewrite import GeneratorRewrite
from editable.rewriting.keys.erase_problem import EraseRule
from editable.rewriting.keys.paste_problem import PasteRule
from editable.rewriting.keys.selections import Selection

__all__ = ["generator_metrics", "outcome_of", "write_generator_report", "write_rewritten"]

SHOWN = 8


def outcome_of(
    rewrite: GeneratorRewrite, rule: PasteRule | EraseRule, image_range: Sequence[float] = (-1.0, 1.0)
) -> GeneratorRewriteOutcome:
    """Return all that is told of a rewrite of a generator; the images that are shown are generated.

    Args:
        rewrite: The rewrite.
        rule: The rule.
        image_range: Least and greatest value of a pixel.
    """
    highest = rewrite.context.responses.flatten(1).amax(dim=1).cpu()  # where the latents are that it chooses from
    strongest = highest.argsort(descending=True, stable=True)[:SHOWN]
    first = torch.arange(min(2 * SHOWN, len(rewrite.latents)))
    return GeneratorRewriteOutcome(
        rewrite.problem.block.layer,
        rewrite.outcome,
        _figures(rewrite),
        (image_range[0], image_range[1]),
        _rule_pictures(rewrite, rule, image_range),
        _unseen_pictures(rewrite, strongest, image_range),
        _unseen_pictures(rewrite, first, image_range),
    )


def generator_metrics(rewrite: GeneratorRewrite, image_range: Sequence[float] = (-1.0, 1.0)) -> dict[str, float]:
    """Return the measures of a rewrite by name, those that are not known left out.

    They are those of :class:`~editable.rewriting.GeneratorOutcome`, with pixels as fractions of their range, and those
    of :class:`~editable.rewriting.RewriteResult`, all with ``rewrite_`` before the name.

    Args:
        rewrite: The rewrite.
        image_range: Least and greatest value of a pixel.
    """
    values = metrics(rewrite.outcome, _figures(rewrite), (image_range[0], image_range[1]))
    return {f"rewrite_{name}": value for name, value in values.items()}


def write_generator_report(
    rewrite: GeneratorRewrite,
    rule: PasteRule | EraseRule,
    folder: str | Path,
    image_range: Sequence[float] = (-1.0, 1.0),
) -> list[str]:
    """Write what a rewrite of a generator came to into a folder.

    ``rule.png`` shows the rule; ``strongest.png`` the unseen images where the context responds most, before and after;
    ``first.png`` the first unseen images, whatever they are; ``rewritten.safetensors`` holds the rewritten generator.

    Args:
        rewrite: The rewrite.
        rule: The rule.
        folder: Where the files shall be.
        image_range: Least and greatest value of a pixel.

    Returns:
        The report's sections in Markdown.
    """
    write_rewritten(rewrite, folder)
    return write(outcome_of(rewrite, rule, image_range), Path(folder))


def write_rewritten(rewrite: GeneratorRewrite, folder: str | Path) -> None:
    """Write the rewritten generator's weights as ``rewritten.safetensors`` into a folder."""
    write_weights(Path(folder) / WEIGHTS, rewrite.problem.block.network, rewrite.result.params)


def _figures(rewrite: GeneratorRewrite) -> RewriteFigures:
    return RewriteFigures(*(getattr(rewrite.result, name) for name in RewriteFigures._fields))


def _rule_pictures(
    rewrite: GeneratorRewrite, rule: PasteRule | EraseRule, image_range: Sequence[float]
) -> RulePictures:
    parts: list[tuple[str, Selection]] = [("context", rule.context)]
    exemplars = rule.context
    if isinstance(rule, PasteRule):
        parts = [("copy", rule.copy), ("paste", rule.paste), *parts]
        exemplars = rule.paste
    network = rewrite.problem.block.network
    pictures, masks, titles = [], [], []
    for name, selection in parts:
        pictures.append(generate(network, selection.latents))
        masks.append(selection.masks)
        titles += [name] * len(selection.latents)
    if rewrite.goal is not None:
        pictures.append(rewrite.goal)
        masks.append(torch.zeros_like(exemplars.masks))
        titles += ["wanted"] * len(rewrite.goal)
    pictures.append(rewrite.images(exemplars.latents)[1])
    masks.append(torch.zeros_like(exemplars.masks))
    titles += ["got"] * len(exemplars.latents)
    return RulePictures(_shown(torch.cat(pictures), image_range), torch.cat(masks), titles)


def _unseen_pictures(rewrite: GeneratorRewrite, numbers: Tensor, image_range: Sequence[float]) -> UnseenPictures:
    before, after = (_shown(images, image_range) for images in rewrite.images(rewrite.latents[numbers]))
    size = (before.shape[-2], before.shape[-1])
    responses = torch.nn.functional.interpolate(rewrite.context.responses[numbers][:, None], size, mode="nearest")
    matched = resize_mask(rewrite.context.matched[numbers], size).cpu()
    return UnseenPictures(before, after, responses[:, 0].cpu(), matched, numbers.tolist())


def _shown(images: Tensor, image_range: Sequence[float]) -> Tensor:
    """Return images [n, C, H, W] as they are drawn, in [0, 1]."""
    low, high = image_range
    return ((images - low) / (high - low)).clamp(0, 1).cpu()
