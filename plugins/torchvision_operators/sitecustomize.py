"""For tests alone: with this folder on PYTHONPATH, torchvision can be imported in any process."""

from torchvision_operators import declare_missing_operators

declare_missing_operators()
