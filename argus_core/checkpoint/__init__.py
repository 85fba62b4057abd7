"""Checkpoints: the state of a model and a run, saved to a file and restored from it."""
