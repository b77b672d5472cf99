"""Figures: tensors and names in, PNG files out.

One kind of figure a file, on the common ground of ``drawing.py``; no file knows what computed its numbers. Tables of
text are :mod:`editable.tables`.
"""

from editable.visualize.comparison import plot_board, plot_comparison, plot_trade
from editable.visualize.contact_sheet import plot_contact_sheet
from editable.visualize.edits import plot_drawdown, plot_edited_images, plot_success
from editable.visualize.generated import plot_generated, plot_outlined, plot_samples
from editable.visualize.image_edit import plot_image_edit
from editable.visualize.learning_rates import plot_learning_rates
from editable.visualize.rewrites import (
    plot_candidates,
    plot_changed_images,
    plot_few_shots,
    plot_heat_maps,
    plot_layers,
    plot_routes,
)
from editable.visualize.streams import plot_stream

__all__ = [
    "plot_board",
    "plot_candidates",
    "plot_changed_images",
    "plot_comparison",
    "plot_contact_sheet",
    "plot_drawdown",
    "plot_edited_images",
    "plot_few_shots",
    "plot_generated",
    "plot_heat_maps",
    "plot_image_edit",
    "plot_layers",
    "plot_learning_rates",
    "plot_outlined",
    "plot_routes",
    "plot_samples",
    "plot_stream",
    "plot_success",
    "plot_trade",
]
