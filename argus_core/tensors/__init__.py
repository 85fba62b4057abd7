"""Functions on tensors: batches and their sizes, devices, random number generators, processes."""
