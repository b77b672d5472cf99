"""Rewrites of several layers at once, one fitted after the other.

``least_squares.py`` takes each layer's keys back to what they were without a concept. What changes one layer alone is
in ``solvers``.
"""
