"""Tensors: batches and their sizes, devices, random numbers, processes."""
