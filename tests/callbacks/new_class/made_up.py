"""Outcomes of new classes that were never run, of round figures."""

import torch

from editable.callbacks.new_class import NewClassOutcome
from editable.callbacks.new_class.outcome import FilterMaps, LogitFigures
from editable.metrics import RocCurve


def filter_figures(negative_weight: float, draw: int, auc: float) -> LogitFigures:
    return LogitFigures("filter", negative_weight, draw, auc, 0.75, 0.5, 0.01, 0.875, 0.25, 0.9, 0.1)


def vector_figures(method: str, draw: int, auc: float) -> LogitFigures:
    return LogitFigures(method, None, draw, auc, 0.5, 0.25, 0.01, 0.875)


def made_up(num_draws: int = 2, **settings) -> NewClassOutcome:
    """Two draws with two filters each, λ = 0 and 0.05, of which the second is kept, and one baseline."""
    figures = []
    for draw in range(num_draws):
        figures += [filter_figures(0.0, draw, 0.5), filter_figures(0.05, draw, 0.75 + draw / 8)]
        figures.append(vector_figures("class vector", draw, 0.625))
    line = torch.tensor([0.0, 1.0], dtype=torch.float64)
    curve = RocCurve(line, line, torch.tensor([torch.inf, 0.0], dtype=torch.float64))
    maps = torch.full((2, 2, 2), 0.5)
    defaults = {
        "name": "blue",
        "layer": "layer4",
        "negatives": "random",
        "negative_weight": 0.05,
        "max_loss": 0.01,
        "num_positives": 1,
        "num_negatives": 100,
        "num_old_test_images": 16,
        "num_new_test_images": 6,
        "accuracy_before": 0.875,
        "figures": figures,
        "curves": {method: [curve] * num_draws for method in ("filter", "class vector")},
        "maps": FilterMaps(torch.zeros(2, 3, 4, 4), [True, False], maps, maps, maps),
        "configuration": None,
    }
    return NewClassOutcome(**{**defaults, **settings})
