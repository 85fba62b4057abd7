"""torchvision for argus_core; its parts are found by name, so nothing is imported here."""
