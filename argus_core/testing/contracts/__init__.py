"""The contracts of the kinds, one module each."""
