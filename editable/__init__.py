"""Editable neural networks: train them, edit them, rewrite them, and measure what an edit costs."""
