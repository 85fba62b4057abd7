"""Data: datasets, data loaders and their workers, the order of samples, and data files."""
