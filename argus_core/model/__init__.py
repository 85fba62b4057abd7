"""A model: its parts, chosen by name, saved and loaded."""
