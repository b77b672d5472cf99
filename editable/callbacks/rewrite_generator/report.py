"""What a rewrite of a generator leaves for its reader: figures of the rule and of images, and its measures in words."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor

from editable.atomic import write_atomically
from editable.models import generate
from editable.rewriting import resize_mask
from editable.rewriting.generators.generator_rewrite import GeneratorRewrite
from editable.rewriting.keys.erase_problem import EraseRule
from editable.rewriting.keys.paste_problem import PasteRule
from editable.rewriting.keys.selections import Selection
from editable.tables import terminal_table
from editable.visualize import plot_generated, plot_outlined

__all__ = ["generator_metrics", "generator_table", "write_generator_report"]

WEIGHTS = "rewritten.safetensors"
SHOWN = 8


def generator_metrics(rewrite: GeneratorRewrite, image_range: Sequence[float] = (-1.0, 1.0)) -> dict[str, float]:
    """Return the measures of a rewrite by name, those that are not known left out.

    They are those of :class:`~editable.rewriting.GeneratorOutcome`, with pixels as fractions of their range, and those
    of :class:`~editable.rewriting.RewriteResult`, all with ``rewrite_`` before the name.

    Args:
        rewrite: The rewrite.
        image_range: Least and greatest value of a pixel.
    """
    low, high = image_range
    result = rewrite.result
    values: dict[str, float | None] = dict(rewrite.outcome._asdict())
    for name in values:
        value = values[name]
        if name.startswith("pixel_change") and value is not None:
            values[name] = value / (high - low)
    values |= {name: getattr(result, name) for name in ("loss_before", "loss", "rank", "norm", "relative_norm")}
    values |= {"num_steps": result.num_steps, "seconds": result.seconds}
    return {f"rewrite_{name}": float(value) for name, value in values.items() if value is not None}


def generator_table(rewrite: GeneratorRewrite, image_range: Sequence[float] = (-1.0, 1.0)) -> Table:
    """Return what a rewrite of a generator did to unseen images, to be printed; pixels in % of their range.

    Args:
        rewrite: The rewrite.
        image_range: Least and greatest value of a pixel.
    """
    outcome, result = rewrite.outcome, rewrite.result
    percent = 100 / (image_range[1] - image_range[0])
    pixels_matched, pixels_elsewhere, pixels_unmatched = (
        _number(value, percent)
        for value in (
            outcome.pixel_change_matched,
            outcome.pixel_change_elsewhere,
            outcome.pixel_change_unmatched_images,
        )
    )
    progress = "unknown" if outcome.pixel_progress is None else f"{100 * outcome.pixel_progress:.0f} %"
    rows = [
        ["rank, change of the weight's norm", str(result.rank), f"{100 * result.relative_norm:.1f} %"],
        ["exemplars' loss, before and after", f"{result.loss_before:.4g}", f"{result.loss:.4g}"],
        [
            "unseen images, positions that match the context",
            str(outcome.num_images),
            f"{100 * outcome.matched_positions:.2f} %",
        ],
        ["progress of features, of pixels there", f"{100 * outcome.feature_progress:.0f} %", progress],
        [
            "change of features there, elsewhere",
            f"{outcome.feature_change_matched:.4g}",
            _number(outcome.feature_change_elsewhere),
        ],
        ["change of pixels there, elsewhere, %", pixels_matched, pixels_elsewhere],
        ["… in images where nothing matches, %", pixels_unmatched, ""],
    ]
    return terminal_table(["", "", ""], rows, title=rewrite.problem.block.layer)


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
    folder = Path(folder)
    network = rewrite.problem.block.network
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    state |= {name: tensor.cpu().contiguous() for name, tensor in rewrite.result.params.items()}
    with write_atomically(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    _plot_rule(folder / "rule.png", rewrite, rule, image_range)
    strongest = rewrite.context.responses.flatten(1).amax(dim=1).argsort(descending=True, stable=True)[:SHOWN]
    _plot_images(folder / "strongest.png", rewrite, strongest, image_range)
    _plot_images(folder / "first.png", rewrite, torch.arange(min(2 * SHOWN, len(rewrite.latents))), image_range)
    return [
        f"## Rewrite\n\n{describe(rewrite, image_range)}\n\n"
        f"The rewritten generator is in [{WEIGHTS}]({WEIGHTS}).\n\n"
        "![What is asked for: copied, pasted into, wanted, and the context](rule.png)\n",
        "## Unseen images\n\nThose where the context responds most (outlined where it matches):\n\n"
        "![Before, after, change, context](strongest.png)\n\nThe first ones, whatever they are:\n\n"
        "![Before, after, change, context](first.png)\n",
    ]


def describe(rewrite: GeneratorRewrite, image_range: Sequence[float]) -> str:
    """Tell in sentences what a rewrite did."""
    outcome, result, block = rewrite.outcome, rewrite.result, rewrite.problem.block
    low, high = image_range
    sentences = [
        f"`{block.layer}` was changed by {100 * result.relative_norm:.1f} % of its norm, at rank {result.rank}, in "
        f"{result.num_steps} steps; on the exemplars, features differ from the target by {result.loss:.4g} in place of "
        f"{result.loss_before:.4g} (mean absolute difference).",
        f"On {outcome.num_images} unseen images the context matches at {100 * outcome.matched_positions:.2f} % of "
        f"positions, in {100 * outcome.matched_images:.1f} % of images. There, features made "
        f"{100 * outcome.feature_progress:.0f} % of the wanted change; their mean absolute difference from the mean "
        f"target fell from {outcome.feature_distance_before:.4g} to {outcome.feature_distance:.4g}.",
        f"Mean absolute change of features: {outcome.feature_change_matched:.4g} where it matches, "
        f"{_number(outcome.feature_change_elsewhere)} elsewhere; of pixels, in % of their range: "
        f"{_number(outcome.pixel_change_matched, 100 / (high - low))}, "
        f"{_number(outcome.pixel_change_elsewhere, 100 / (high - low))} elsewhere, and "
        f"{_number(outcome.pixel_change_unmatched_images, 100 / (high - low))} in images where nothing matches.",
        f"The layer's output changed elsewhere by at most {outcome.output_change_elsewhere:.4g} at a position (mean "
        f"absolute over channels); it could not by more than {_number(outcome.output_bound)}.",
    ]
    if outcome.pixel_progress is not None:
        sentences.insert(2, f"Pixels made {100 * outcome.pixel_progress:.0f} % of the wanted change.")
    return " ".join(sentences)


def _plot_rule(
    path: Path, rewrite: GeneratorRewrite, rule: PasteRule | EraseRule, image_range: Sequence[float]
) -> None:
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
    plot_outlined(path, _shown(torch.cat(pictures), image_range), torch.cat(masks), titles)


def _plot_images(path: Path, rewrite: GeneratorRewrite, numbers: Tensor, image_range: Sequence[float]) -> None:
    before, after = (_shown(images, image_range) for images in rewrite.images(rewrite.latents[numbers]))
    size = (before.shape[-2], before.shape[-1])
    matched = resize_mask(rewrite.context.matched[numbers], size).cpu()
    heat_maps = torch.nn.functional.interpolate(rewrite.context.responses[numbers][:, None], size, mode="nearest")
    plot_generated(path, before, after, heat_maps[:, 0].cpu(), matched, [str(int(number)) for number in numbers])


def _shown(images: Tensor, image_range: Sequence[float]) -> Tensor:
    low, high = image_range
    return ((images - low) / (high - low)).clamp(0, 1).cpu()


def _number(value: float | None, factor: float = 1.0) -> str:
    return "unknown" if value is None else f"{factor * value:.4g}"
