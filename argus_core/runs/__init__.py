"""Runs from a configuration: the run directory, training, resuming and prediction."""
