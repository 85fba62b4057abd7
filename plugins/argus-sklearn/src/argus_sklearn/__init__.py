"""scikit-learn's datasets for argus_core: a plugin whose components are imported on first use."""
