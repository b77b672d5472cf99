"""The rewrites that a run is to try: every combination of layers, routes, solvers, ranks and strengths."""

from dataclasses import dataclass

from editable.callbacks.rewrite.trials import TrialSettings
from editable.callbacks.run.titles import title_of
from editable.callbacks.site.site import Route
from editable.errors import UserError, require_at_least, require_choice, require_finite, require_once
from editable.rewriting import Solver

__all__ = ["Candidates"]


@dataclass(frozen=True)
class Candidates:
    """All combinations of what a rewrite can be made of; its length is their number, strengths included.

    Args:
        layers: Names of the layers.
        solvers: The solvers, each once.
        ranks: Numbers of directions; a solver that makes its own is tried with the first alone.
        strengths: Scales s on the update, θ₀ + s·Δθ; each combination is solved once for all.
        routes: Where keys come from; a solver that has none is tried with the first alone.

    Raises:
        UserError: If there is no layer, anything is there twice, a route is unknown, or a rank is below 1.
    """

    layers: list[str]
    solvers: list[Solver]
    ranks: list[int]
    strengths: list[float]
    routes: list[Route]

    def __post_init__(self) -> None:
        """Check what is given."""
        if not self.layers:
            raise UserError("rewrite.layers is empty: name at least one layer")
        for route in self.routes:
            require_choice(Route, **{"rewrite.routes": route})
        require_at_least(1, **{"rewrite.ranks": self.ranks})
        require_finite(**{"rewrite.strengths": self.strengths})
        tried = {name: getattr(self, name) for name in ("layers", "ranks", "strengths", "routes")}
        tried["solvers"] = [title_of(solver) for solver in self.solvers]
        require_once(**{f"rewrite.{name}": some for name, some in tried.items()})

    @property
    def combinations(self) -> list[TrialSettings]:
        """All combinations of layer, solver, route and rank; each is tried at every strength."""
        return [
            TrialSettings(layer, position, rank, route)
            for layer in self.layers
            for position, solver in enumerate(self.solvers)
            for route in (self.routes if solver.uses_keys else self.routes[:1])
            for rank in (self.ranks if solver.uses_rank else self.ranks[:1])
        ]

    def __len__(self) -> int:
        """Return the number of rewrites, strengths included."""
        return len(self.combinations) * len(self.strengths)

    def solver(self, settings: TrialSettings) -> Solver:
        """Return the solver of a combination."""
        return self.solvers[settings.solver]

    def label(self, settings: TrialSettings) -> str:
        """Return how its solver is called, with the route where there are several."""
        solver = self.solver(settings)
        several = len(self.routes) > 1 and solver.uses_keys
        return f"{title_of(solver)} by {settings.route}" if several else title_of(solver)
