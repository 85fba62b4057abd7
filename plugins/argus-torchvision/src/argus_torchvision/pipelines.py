"""Pipelines: sequences of transforms, built from their specs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image
from torchvision.transforms import v2

from argus_core import SpecError
from argus_core.authors import build_component, parse_specs

__all__ = ["Pipeline", "build_pipeline", "build_transforms"]


class Pipeline:
    """Applies transforms to an image, and checks that a batch can contain the result.

    Args:
        transforms: callables of one argument, in order.
    """

    def __init__(self, transforms: list[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        if isinstance(image, Image.Image):
            raise SpecError(
                "transform returns an image, which a batch cannot contain; end it with "
                '"ToImage", ["ToDtype", { dtype = "float32", scale = true }]'
            )
        return image

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transforms!r})"


def build_pipeline(specs: Any) -> Pipeline:
    """Return the pipeline of a dataset's images.

    Args:
        specs: one spec or a list of them; ``None`` for float32 tensors (channels, height, width), 0 to 1.
    """
    if specs is None:
        return Pipeline([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    return Pipeline(build_transforms(specs, "transform"))


def build_transforms(specs: Any, where: str) -> list[Callable[[Any], Any]]:
    """Build the transforms that specs choose, from any package.

    A table with a name, ``{ name = "RandomCrop", size = 32 }``, is a spec too, as in a configuration.

    Args:
        specs: one or several.
        where: their name in messages.
    """
    named = [_named(each) for each in specs] if isinstance(specs, list | tuple) else _named(specs)
    return [
        build_component("transform", (spec.name, spec.params), where)
        for spec in parse_specs("transform", named, where)
    ]


def _named(spec: Any) -> Any:
    """Return a spec, which may be a table, as a name or a tuple."""
    if not isinstance(spec, Mapping) or "name" not in spec:
        return spec
    return (spec["name"], {key: value for key, value in spec.items() if key != "name"})
