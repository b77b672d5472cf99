"""Figures: tensors in, PNG files out."""

from editable.visualize.comparison import plot_comparison
from editable.visualize.edits import plot_drawdown, plot_edited_images, plot_learning_rates, plot_success

__all__ = ["plot_comparison", "plot_drawdown", "plot_edited_images", "plot_learning_rates", "plot_success"]
