"""Pictures of a run for argus_core: a plugin whose callbacks are imported on first use."""
