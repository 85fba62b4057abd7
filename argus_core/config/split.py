"""The key ``split`` of the section ``[data]``, and keys of that section that exclude each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from argus_core.errors import ConfigError, near
from argus_core.registry.factory import described

__all__ = ["PARTS", "check_data", "read_split"]

PARTS = ("val", "test")
"""The parts that a split makes, besides training data."""

_KEYS = (*PARTS, "seed", "stratify", "val_params")
_MOST = 2**31 - 1
_MOST_SEED = 2**32 - 1  # numpy's


def read_split(value: Any, where: str) -> dict[str, Any]:
    """Return a split with its defaults.

    Raises:
        ConfigError: it makes no part, or a value is not one that its key takes.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {described(value)}; give a table such as {{ val = 0.2 }}")
    for key in value:
        if key not in _KEYS:
            hint = near(str(key), _KEYS) or f"; it takes {', '.join(_KEYS)}"
            raise ConfigError(f"{where} has {key!r}{hint}")
    shares = {part: value[part] for part in PARTS if part in value}
    if not shares:
        raise ConfigError(f"{where} has neither val nor test; give a share of train, such as {{ val = 0.2 }}")
    for part, share in shares.items():
        _check_share(share, f"{where}.{part}")
    total = sum(share for share in shares.values() if isinstance(share, float))
    if total >= 1:
        raise ConfigError(
            f"{where} gives {' + '.join(map(str, shares.values()))} of train away, which leaves no sample to "
            "train on; give shares with a sum below 1"
        )
    seed, stratify, params = value.get("seed", 0), value.get("stratify", False), value.get("val_params")
    if type(seed) is not int or not 0 <= seed <= _MOST_SEED:
        raise ConfigError(f"{where}.seed is {described(seed)}; give a whole number from 0 to 2**32 - 1")
    if not isinstance(stratify, bool):
        raise ConfigError(f"{where}.stratify is {described(stratify)}; give true or false")
    if params is not None and not isinstance(params, Mapping):
        raise ConfigError(f"{where}.val_params is {described(params)}; give a table of parameters of train")
    return {**shares, "seed": seed, "stratify": stratify, **({"val_params": dict(params)} if params else {})}


def check_data(data: Mapping[str, Any], source: str) -> None:
    """Check the keys of ``[data]`` that exclude each other.

    Args:
        data: the keys that are given, without defaults.
        source: the beginning of messages.

    Raises:
        ConfigError: two of them do.
    """
    for part in PARTS:
        if part in data and part in data.get("split", ()):
            raise ConfigError(
                f"{source}: [data] has both {part} and split.{part}, which are two sources of the same "
                "data; leave one out"
            )
    if "sampler" in data and data.get("shuffle"):
        raise ConfigError(
            f"{source}: [data] has a sampler and shuffle = true; the sampler decides the order: leave "
            "shuffle out, or set shuffle = false"
        )
    if data.get("num_workers", 0) == 0:
        for key in ("persistent_workers", "prefetch_factor"):
            if data.get(key):
                raise ConfigError(
                    f"{source}: [data] {key} is {described(data[key])}, and num_workers is 0, so there are "
                    f"no workers; set num_workers to 1 or more, or leave {key} out"
                )


def _check_share(share: Any, where: str) -> None:
    is_count = type(share) is int and 1 <= share <= _MOST
    is_share = type(share) is float and 0 < share < 1
    if not is_count and not is_share:
        raise ConfigError(
            f"{where} is {described(share)}; give a share of train between 0 and 1, such as 0.2, or a whole "
            "number of samples"
        )


read_split.takes = "a table of `val`, `test`, `seed`, `stratify`, `val_params`"  # type: ignore[attr-defined]
