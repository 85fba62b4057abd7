"""Several processes that train one model: the engines by name, and the process group that they share."""
