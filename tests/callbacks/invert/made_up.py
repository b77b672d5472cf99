"""An outcome of `invert` that no run has come to: a rewrite forwards, and two backwards, of which one survives."""

import torch

from editable.callbacks.invert.outcome import Constraint, InverseDirectionOutcome, MethodOutcome
from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.callbacks.site.set_errors import SetErrors

__all__ = ["made_up"]

CONSTRAINTS = {
    "forwards": Constraint(0.5, 1e-7),
    "kept": Constraint(0.5, 2e-9, 3e-12),
    "lost": Constraint(0.5, 0.4, 3e-12, "the rule is lost on the way back"),
}


def made_up() -> InverseDirectionOutcome:
    """At strength 1 a rewrite corrects six of the eight errors on the exemplars, and makes five on test images."""
    errors = {
        0.5: {"report": SetErrors(100, 10, 12), "exemplars": SetErrors(8, 8, 4)},
        1.0: {"report": SetErrors(100, 10, 15), "exemplars": SetErrors(8, 8, 2)},
        2.0: {"report": SetErrors(100, 10, 60), "exemplars": SetErrors(8, 8, 0)},
    }
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return InverseDirectionOutcome(
        layer="some.layer",
        num_moment_images=123,
        strengths=list(errors),
        before=errors[1.0],
        methods={
            name: MethodOutcome(f"method {name}", constraint, 0.25, 0.125, 0.015, 0.3, 1.5, errors)
            for name, constraint in CONSTRAINTS.items()
        },
        exemplars=ReplacedExamples(images, 1 - images, torch.ones(2, 4, 4), ["a.png", "b.png"]),
    )
