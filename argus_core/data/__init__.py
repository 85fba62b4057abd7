"""Data: datasets, their loaders, the order of samples, arrays in files."""
