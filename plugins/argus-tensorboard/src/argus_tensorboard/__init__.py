"""TensorBoard for argus_core; found by name, so nothing is imported here."""
