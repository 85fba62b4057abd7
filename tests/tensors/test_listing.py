"""The tensors in a nested value."""

from __future__ import annotations

import torch

from argus_core.tensors.listing import tensors_in


def test_tensors_are_found_in_anything_nested() -> None:
    a, b, c = torch.zeros(1), torch.ones(1), torch.ones(2)
    assert [*tensors_in({"a": a, "rest": [b, (c, 3, None)]})] == [a, b, c]
