"""Networks with several outputs: GoogLeNet, Inception and those that segment have auxiliary ones."""

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
        weight: what the loss of an auxiliary output counts; 0.5 is torchvision's own for segmentation, 0.3
            and 0.4 are the papers' for GoogLeNet and Inception.
    """

    def __init__(self, loss: Any = "CrossEntropyLoss", weight: float = 0.5) -> None:
        super().__init__()
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
            raise ParamsError(
                f"weight={weight!r} is no share of a loss; give auxiliary a number of 0 or more"
            )
        self.loss = build_component("loss", loss, "auxiliary's loss")
        self.weight = weight
        self.reduction = getattr(self.loss, "reduction", "mean")

    def divisor(self, target: Tensor) -> float | Tensor:
        """Return what the mean divides by, so that a batch cut into parts adds up to the whole."""
        return mean_divisor(self.loss, (target, target))

    def forward(self, outputs: Any, target: Tensor) -> Tensor:
        """Return the loss, 0-d, of what a network of torchvision returns for images."""
        main, *others = _outputs(outputs)
        loss: Tensor = self.loss(main, target)
        if self.training:
            for other in others:
                loss = loss + self.weight * self.loss(other, target)
        return loss


class MainOutput(nn.Module):
    """The main output of a network: a prediction that metrics understand.

    Args:
        then: the spec of a transform of it, such as ``("Softmax", {"dim": 1})``.
    """

    def __init__(self, then: Any = None) -> None:
        super().__init__()
        self.then = None if then is None else build_component("transform", then, "main_output's then")

    def forward(self, outputs: Any) -> Any:
        """Return the main one of what a network of torchvision returns for images."""
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
            f"the network returned {type(outputs).__name__}, in which no output is the main one; "
            "override forward_loss for it"
        )
    return [each for each in outputs if each is not None]
