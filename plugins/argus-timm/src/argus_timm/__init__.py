"""timm for argus_core: a plugin whose components are imported on first use."""
