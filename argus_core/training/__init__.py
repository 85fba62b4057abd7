"""Training: the loop over batches, fit, validation and resuming."""
