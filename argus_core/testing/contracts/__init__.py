"""The contract of each kind, a module each."""
