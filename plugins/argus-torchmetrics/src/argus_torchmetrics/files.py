"""The parameters of torchmetrics' classes that are not plain values."""

from __future__ import annotations

from collections.abc import Mapping

from argus_core.authors import FUNCTION, OBJECT, READS, FileParam

__all__ = ["FILE_PARAMS"]

_FETCHES = FileParam(
    "names a network to download, or files to read it from", in_configuration=True, writes=True
)

FILE_PARAMS: Mapping[str, FileParam] = {
    "baseline_path": READS,
    "baseline_url": FileParam("names an address to download from", in_configuration=True, writes=True),
    "feature_extractor_weights_path": FileParam("names a file that is unpickled"),
    "model": OBJECT,
    "model_name_or_path": _FETCHES,
    "normalizer": FUNCTION,
    "tokenizer": FUNCTION,
    "user_forward_fn": FUNCTION,
    "user_tokenizer": OBJECT,
}
"""The declarations, by the name of the parameter."""
