"""Solvers of a rewrite: by formula, by gradient descent in a low-rank space, and the baselines."""

from editable.rewriting.solvers.base import Progress, Solution, Solver
from editable.rewriting.solvers.closed_form import (
    ClosedForm,
    LowRankUpdate,
    closed_form_update,
    least_squares_memory,
)
from editable.rewriting.solvers.descent import Descent
from editable.rewriting.solvers.fine_tuning import FineTuning
from editable.rewriting.solvers.fourier_closed_form import FourierClosedForm
from editable.rewriting.solvers.lambda_descent import LambdaDescent
from editable.rewriting.solvers.projected_descent import ProjectedDescent, project_change
from editable.rewriting.solvers.smooth_descent import SmoothDescent

__all__ = [
    "ClosedForm",
    "Descent",
    "FineTuning",
    "FourierClosedForm",
    "LambdaDescent",
    "LowRankUpdate",
    "Progress",
    "ProjectedDescent",
    "SmoothDescent",
    "Solution",
    "Solver",
    "closed_form_update",
    "least_squares_memory",
    "project_change",
]
