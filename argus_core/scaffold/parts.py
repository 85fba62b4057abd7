"""The example components of new packages, one for each kind."""

from __future__ import annotations

from dataclasses import dataclass

from argus_core.errors import SpecError
from argus_core.registry.component import KINDS, check_kind

__all__ = ["MADE_KINDS", "PARTS", "StartingPart", "starting_parts"]


@dataclass(frozen=True)
class StartingPart:
    """A part of a new package.

    Attributes:
        kind: its kind.
        module: the name of its module in the package.
        factory: the name of its class or function in that module.
        noun: the end of the component's name.
        about: a description in one line.
    """

    kind: str
    module: str
    factory: str
    noun: str
    about: str


PARTS: dict[str, StartingPart] = {
    part.kind: part
    for part in (
        StartingPart("nn_module", "networks", "Perceptron", "net", "a classifier with one hidden layer"),
        StartingPart(
            "loss", "losses", "GeneralizedCrossEntropy", "loss", "a cross entropy that tolerates wrong labels"
        ),
        StartingPart(
            "optimizer", "optimizers", "Lion", "optimizer", "changes each weight by the sign of a momentum"
        ),
        StartingPart(
            "transform",
            "transforms",
            "SharpenedSoftmax",
            "transform",
            "probabilities without unlikely classes",
        ),
        StartingPart(
            "step", "steps", "ClipEachGradient", "step", "clips the gradient of each weight by its own norm"
        ),
        StartingPart(
            "metric", "metrics", "BalancedAccuracy", "metric", "the mean of the classes' accuracies"
        ),
        StartingPart("callback", "callbacks", "RememberBest", "callback", "says which epoch was the best"),
        StartingPart(
            "lr_scheduler",
            "schedulers",
            "InverseSquareRootLR",
            "schedule",
            "rises, then falls with 1/sqrt(step)",
        ),
        StartingPart("dataset", "datasets", "spirals", "dataset", "points on two spirals"),
        StartingPart("sampler", "samplers", "by_share", "sampler", "an epoch of a share of the samples"),
        StartingPart("collate", "collation", "NoisyBatch", "collate", "adds noise to the inputs of a batch"),
        StartingPart(
            "reader", "readers", "JSONLinesReader", "reader", "reads rows of numbers in .jsonl files"
        ),
        StartingPart(
            "parallel", "engines", "OneMessage", "engine", "adds the gradients of processes in one message"
        ),
        StartingPart("config", "templates", "classification", "template", "a configuration to start from"),
    )
}
MADE_KINDS = tuple(PARTS)

_ELSEWHERE = {
    "model": "write a subclass of argus_core.Model and declare it beside another part",
    "command": "declare a click command beside another part",
}


def starting_parts(kinds: tuple[str, ...]) -> list[StartingPart]:
    """Return the parts for some kinds, each once, in the order of `KINDS`.

    Raises:
        UnknownNameError: a kind is unknown.
        SpecError: a kind has no template.
    """
    for kind in kinds:
        check_kind(kind)
        if kind not in PARTS:
            raise SpecError(
                f"kind {kind!r} has no template; {_ELSEWHERE[kind]}, or give one of {', '.join(MADE_KINDS)}"
            )
    return [PARTS[kind] for kind in KINDS if kind in kinds]
