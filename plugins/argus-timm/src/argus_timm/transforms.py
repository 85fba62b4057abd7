"""timm's preprocessing of images, kind ``transform``."""

from __future__ import annotations

import re
from typing import Any

import timm
from timm.data import create_transform, resolve_data_config

from argus_core import ParamsError
from argus_core.authors import FileParam
from argus_timm.names import check_model_name

__all__ = ["timm_transform"]

_MOST_CHANGES = 100  # of one image
_COUNTS = re.compile(r"-[nwd](\d+)")  # of layers, chains and their depth, as timm reads them


def timm_transform(
    model_name: str, is_training: bool = False, use_test_size: bool = False, **kwargs: Any
) -> Any:
    """Build the transform from an image of PIL to the tensor (channels, height, width) for a network.

    Size, crop, interpolation, mean and deviation are those of the network's weights in timm.

    Args:
        model_name: the name of the network.
        is_training: whether to augment images: random crops, flips, changes of colour.
        use_test_size: whether to use the image size of the weights' test, if it differs.
        **kwargs: further parameters of `timm.data.create_transform`: ``auto_augment``, or ``input_size``,
            ``mean`` and ``std`` instead of those of the weights.
    """
    _check_counts(kwargs.get("auto_augment"))
    name = check_model_name("transform 'timm_transform'", model_name)
    known = timm.get_pretrained_cfg(name)
    config = resolve_data_config(
        pretrained_cfg=known.to_dict() if known is not None else {}, use_test_size=use_test_size
    )
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    return create_transform(**{**config, **given}, is_training=is_training)


def _check_counts(auto_augment: object) -> None:
    counts = [int(digits[:9]) for digits in _COUNTS.findall(str(auto_augment))]
    if any(count > _MOST_CHANGES for count in counts):
        raise ParamsError(
            f"transform 'timm_transform' has auto_augment={auto_augment!r}; the numbers after n, w and d are "
            f"{_MOST_CHANGES} at most; give smaller ones"
        )


timm_transform.file_params = {  # type: ignore[attr-defined]
    "re_count": FileParam("sets how many rectangles are erased", most=1000),
    "tf_preprocessing": FileParam("imports tensorflow", values=(False,), in_configuration=True),
}
