"""What a study of the inverse direction comes to: of each method, how far the rule is met, and at what cost."""

from dataclasses import dataclass
from typing import NamedTuple

from editable.callbacks.run.replaced_examples import ReplacedExamples
from editable.callbacks.site.set_errors import SetErrors

__all__ = ["Constraint", "InverseDirectionOutcome", "MethodOutcome"]


class Constraint(NamedTuple):
    """How far a layer is from the rule's constraint, relative to what is wanted.

    Attributes:
        before: ‖W₀K* − V*‖ / ‖V*‖ of the unedited layer; of a memory that is read backwards ‖W₀V* − K*‖ / ‖K*‖.
        after: The same after the rewrite, in the forward direction.
        inverse: ‖U₁K* − V*‖ / ‖V*‖ in the inverse direction, before the matrix is inverted back; none forwards.
        warning: Why the rule did not survive; none where it did, or nothing had to.
    """

    before: float
    after: float
    inverse: float | None = None
    warning: str | None = None

    @property
    def survives(self) -> bool | None:
        """Whether a rule that was put into the inverse direction holds forwards; none of a rewrite forwards."""
        return None if self.inverse is None else self.warning is None


@dataclass(frozen=True)
class MethodOutcome:
    """What a method came to; the measures of its rewrite are those of strength 1.

    Attributes:
        label: The method as a reader knows it.
        constraint: How far it is from the rule.
        loss_before: Mean absolute difference of the block's output from its targets inside the mask, before.
        loss: The same after the rewrite.
        output_change: How much the layer's outputs change on other images, relative to what they were.
        relative_norm: ‖Δθ‖ / ‖θ₀‖.
        seconds: Time that the rewrite took.
        errors: By strength, errors on each set of images.
    """

    label: str
    constraint: Constraint
    loss_before: float
    loss: float
    output_change: float
    relative_norm: float
    seconds: float
    errors: dict[float, dict[str, SetErrors]]

    def values(self, strength: float) -> dict[str, float]:
        """Return all figures by name, errors at one strength."""
        survives = self.constraint.survives
        values = {
            "residual_before": self.constraint.before,
            "residual": self.constraint.after,
            "inverse_residual": self.constraint.inverse,
            "survives": None if survives is None else float(survives),
            "loss_before": self.loss_before,
            "loss": self.loss,
            "output_change": self.output_change,
            "relative_norm": self.relative_norm,
            "seconds": self.seconds,
        }
        for name, errors in self.errors[strength].items():
            values[f"{name}_error"] = errors.after / errors.num_images
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class InverseDirectionOutcome:
    """One rule, put into one layer in all ways.

    Sets of images are ``report``, ``exemplars`` (of the rule, with the new concept) and ``held_out`` (further images
    with it, where there are such).

    Attributes:
        layer: Name of the layer.
        num_moment_images: Largest number of the other images, for second moments.
        strengths: Scales on the updates, rising.
        before: Errors of the unedited network on each set.
        methods: What each came to, by its name.
        exemplars: The rule's first ones.
    """

    layer: str
    num_moment_images: int
    strengths: list[float]
    before: dict[str, SetErrors]
    methods: dict[str, MethodOutcome]
    exemplars: ReplacedExamples

    @property
    def reported_strength(self) -> float:
        """The strength whose errors are logged: 1, or the largest."""
        return 1.0 if 1.0 in self.strengths else self.strengths[-1]

    def values(self) -> dict[str, float]:
        """Return what is logged."""
        values: dict[str, float] = {}
        for name, errors in self.before.items():
            values[f"num_{name}_images"] = float(errors.num_images)
            values[f"{name}_error_before"] = errors.before / errors.num_images
        for method, outcome in self.methods.items():
            figures = outcome.values(self.reported_strength)
            values |= {f"{method}_{name}": value for name, value in figures.items()}
        return values
