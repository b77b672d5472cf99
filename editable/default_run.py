"""Default run placeholder."""
