"""A run: its directory, and what a configuration makes of it."""
