"""torchmetrics for argus_core: a plugin whose metrics are imported on first use."""
