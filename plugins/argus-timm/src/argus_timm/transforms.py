"""timm's preprocessing of images, kind ``transform``."""

from __future__ import annotations

from typing import Any

import timm
from timm.data import create_transform, resolve_data_config

from argus_core.authors import FileParam
from argus_timm.names import check_model_name

__all__ = ["timm_transform"]


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
    name = check_model_name("transform 'timm_transform'", model_name)
    known = timm.get_pretrained_cfg(name)
    config = resolve_data_config(
        pretrained_cfg=known.to_dict() if known is not None else {}, use_test_size=use_test_size
    )
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    return create_transform(**{**config, **given}, is_training=is_training)


timm_transform.file_params = {  # type: ignore[attr-defined]
    "tf_preprocessing": FileParam("imports tensorflow", values=(False,), in_configuration=True)
}
