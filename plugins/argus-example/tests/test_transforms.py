from __future__ import annotations

import pytest
import torch

from argus_core import ParamsError
from argus_example.transforms import TemperatureSoftmax

LOGITS = torch.tensor([[0.0, 1.0, 3.0], [2.0, -1.0, 0.5]])


def test_temperature_of_one_is_softmax() -> None:
    torch.testing.assert_close(TemperatureSoftmax()(LOGITS), LOGITS.softmax(dim=1))


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
def test_temperature_divides_the_logits(temperature: float) -> None:
    expected = torch.softmax(LOGITS / temperature, dim=1)
    torch.testing.assert_close(TemperatureSoftmax(temperature)(LOGITS), expected)


@pytest.mark.parametrize("temperature", [0, -1.0])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ParamsError, match=f"temperature is {temperature}; give a number above 0"):
        TemperatureSoftmax(temperature)
