"""A class that a trained classifier has never seen, from a few images: its filter, baselines, negatives, calibration.

Start with ``class_filter.py``. The network with the new class is :mod:`editable.models.added.grown_network`.
"""
