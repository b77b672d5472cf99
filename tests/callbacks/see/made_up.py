"""An outcome of `see` that no run has come to: two exemplars, of which all figures are known."""

import torch

from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.callbacks.see.outcome import ExemplarMaps, SeeingOutcome, SeenRewrite
from editable.rewriting import ContextMatches
from editable.rewriting.inverse.reconstruction import Reconstruction
from editable.rewriting.inverse.trace_back import Traced

__all__ = ["STEPS", "made_up"]

STEPS = (0, 10, 15)
RESTARTS = 3


def reconstruction(found: torch.Tensor, original: float, manipulated: float) -> Reconstruction:
    """The loss of the item at position i falls 10 ** (i + 1) times; at the end it is so near to both."""
    progress = torch.linspace(0, 1, STEPS[-1] + 1, dtype=torch.float64)
    losses = 10.0 ** -(progress[:, None] * torch.arange(1, len(found) + 1))
    near = {
        name: progress[list(STEPS), None].expand(-1, len(found)) * level
        for name, level in (("original", original), ("manipulated", manipulated))
    }
    return Reconstruction(found, losses, torch.tensor(STEPS), near, losses[-1].expand(RESTARTS, -1))


def traced(*shape: int) -> Traced:
    found = torch.rand(4, *shape, generator=torch.Generator().manual_seed(len(shape)))
    return Traced(reconstruction(found, 1.0, 0.25), reconstruction(found, 0.25, 1.0))


def made_up() -> SeeingOutcome:
    rewrite = SeenRewrite(
        layer="layer",
        block=["layer", "relu"],
        edited=None,
        solver="ClosedForm",
        strength=1.0,
        weight=torch.zeros(3, 2, 1, 1),
        relative_norm=0.25,
        loss_before=0.5,
        loss=0.125,
        target_keys=torch.tensor([[1.0], [5.0]], dtype=torch.float64),
        keys=torch.tensor([[-2.0], [7.0]], dtype=torch.float64),
        directions=torch.tensor([[1.0], [0.0]], dtype=torch.float64),
        num_open_dimensions=0,
        condition_before=3.0,
        condition=2.0,
    )
    images, maps = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.eye(2).expand(2, 2, 2)
    by_network, by_kind = {"before": maps, "after": -maps}, {"original": maps, "manipulated": 2 * maps}
    matches = ContextMatches(torch.cat([maps, -maps]), torch.ones(4), torch.arange(4), {}, (4, 4))
    return SeeingOutcome(
        rewrite,
        ReplacedExamples(images, 1 - images, torch.ones(2, 4, 4), ["a.png", "b.png"]),
        "unedited",
        {"keys": traced(2), "features": traced(2, 2, 2), "images": traced(3, 4, 4)},
        "standin",
        "a made-up distance",
        ExemplarMaps(matches, {"before": by_kind, "after": by_kind}, maps, by_network, by_kind),
    )
