"""`Model` and its parts: chosen by name, built, saved and loaded."""
