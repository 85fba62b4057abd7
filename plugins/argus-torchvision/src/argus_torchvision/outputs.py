"""Networks with several outputs, such as GoogLeNet, Inception and segmentation networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from argus_core import BuildError, ParamsError
from argus_core.authors import build_component, mean_divisor

__all__ = ["AuxiliaryLoss", "MainOutput"]


class AuxiliaryLoss(nn.Module):
    """The loss of the main output and, in training, a share of the loss of each auxiliary one.

    Args:
        loss: the spec of the loss of one output.
        weight: the factor of an auxiliary loss: 0.5 for segmentation in torchvision, 0.3 and 0.4 in the
            papers of GoogLeNet and Inception.
    """

    def __init__(self, loss: Any = "CrossEntropyLoss", weight: float = 0.5) -> None:
        super().__init__()
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
            raise ParamsError(f"weight of loss auxiliary is {weight!r}; give a number of at least 0")
        self.loss = build_component("loss", loss, "auxiliary's loss")
        self.weight = weight
        self.reduction = getattr(self.loss, "reduction", "mean")

    def divisor(self, target: Tensor) -> float | Tensor:
        """Return the divisor of the mean, so that the losses of parts of a batch add up."""
        return mean_divisor(self.loss, (target, target))

    def forward(self, outputs: Any, target: Tensor) -> Tensor:
        """Return the loss, 0-d, of the output of one of torchvision's networks."""
        main, *others = _outputs(outputs)
        loss: Tensor = self.loss(main, target)
        if self.training:
            for other in others:
                loss = loss + self.weight * self.loss(other, target)
        return loss


class MainOutput(nn.Module):
    """The main output of a network, as the prediction for metrics.

    Args:
        then: the spec of a transform of it, such as ``("Softmax", {"dim": 1})``.
    """

    def __init__(self, then: Any = None) -> None:
        super().__init__()
        self.then = None if then is None else build_component("transform", then, "main_output's then")

    def forward(self, outputs: Any) -> Any:
        """Return the main output of one of torchvision's networks."""
        main = _outputs(outputs)[0]
        return main if self.then is None else self.then(main)


def _outputs(outputs: Any) -> list[Tensor]:
    """Return a network's outputs, the main one first, without those that are None."""
    if isinstance(outputs, Mapping) and "out" in outputs:
        outputs = [outputs["out"], *(value for key, value in outputs.items() if key != "out")]
    elif isinstance(outputs, Tensor):
        return [outputs]
    if not isinstance(outputs, list | tuple) or not outputs or not isinstance(outputs[0], Tensor):
        raise BuildError(
            f"the network returned a {type(outputs).__name__} without a main output; "
            "override forward_loss for it"
        )
    return [each for each in outputs if each is not None]
