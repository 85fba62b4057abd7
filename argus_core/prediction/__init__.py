"""Prediction on files: their samples are read, prepared as in validation, and written to a table."""
