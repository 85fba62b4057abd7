"""The parameters of torchmetrics' classes that are not plain values."""

from __future__ import annotations

from collections.abc import Mapping

from argus_core.authors import FUNCTION, OBJECT, READS, FileParam

__all__ = ["FILE_PARAMS"]

_FETCHES = FileParam(
    "names a network to download, or files to read it from", in_configuration=True, writes=True
)
_PROCESSES = FileParam("starts so many processes", most=256)
_ORDER = FileParam("sets how much is computed", most=1000)
_LENGTH = FileParam("sets how much is computed and kept", most=10**6)

FILE_PARAMS: Mapping[str, FileParam] = {
    "baseline_path": READS,
    "baseline_url": FileParam("names an address to download from", in_configuration=True, writes=True),
    "feature_extractor_weights_path": FileParam("names a file that is unpickled"),
    "model": OBJECT,
    "model_name_or_path": _FETCHES,
    "n_bins": _LENGTH,
    "n_char_order": _ORDER,
    "n_gram": _ORDER,
    "n_processes": _PROCESSES,
    "n_word_order": _ORDER,
    "normalizer": FUNCTION,
    "num_classes": _LENGTH,
    "num_groups": _LENGTH,
    "num_labels": _LENGTH,
    "num_outputs": _LENGTH,
    "num_threads": _PROCESSES,
    "subsets": FileParam("sets how much is computed", most=10_000),
    "thresholds": _LENGTH,
    "tokenizer": FUNCTION,
    "user_forward_fn": FUNCTION,
    "user_tokenizer": OBJECT,
}
"""The declarations, by the name of the parameter."""
