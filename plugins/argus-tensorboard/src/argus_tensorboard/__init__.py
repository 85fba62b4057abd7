"""TensorBoard for argus_core: a plugin whose callback is imported on first use."""
