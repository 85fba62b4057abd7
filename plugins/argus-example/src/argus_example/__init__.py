"""An example plugin for argus_core; its components are imported on first use."""
