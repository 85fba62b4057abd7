"""The processes of a run share one model: the choice of their engine, their devices and their group."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from argus_core.model.choice import Resolve
from argus_core.parallel.choice import build_engine
from argus_core.parallel.engine import AbstractParallel
from argus_core.parallel.group import add_user, control_group, open_group, own_device, shared_board
from argus_core.parallel.single import Single
from argus_core.registry.file_params import check_file_params
from argus_core.registry.part import Part
from argus_core.registry.spec import parse_spec
from argus_core.tensors.exchange import Exchange

if TYPE_CHECKING:
    from argus_core.abstract_model import AbstractModel

__all__ = ["build_network", "chosen_engine", "share"]


def chosen_engine(params: dict[str, Any], resolve: Resolve) -> AbstractParallel | Single:
    """Return the engine that ``params["parallel"]`` chooses, ``auto`` by default."""
    spec = parse_spec("parallel", params.get("parallel", "auto"), "params['parallel']")
    part = Part("parallel", spec.name, spec.params, resolve("parallel", spec.name))
    check_file_params(part.label, part.factory, part.params)
    return build_engine(part)


def build_network(model: Any, build: Callable[[], Any]) -> Any:
    """Return the network that an engine builds together with other processes."""
    given = model.params.get("device", "auto")
    model.device = own_device(model.build_device(given), given)[0]
    open_group(model.device, model.parallel.timeout)
    engine = model.parallel
    assert not isinstance(engine, Single)  # `build_engine` refuses it
    return engine.build_network(model, build)


def share(model: AbstractModel, device: torch.device, take_weights: Callable[[], None]) -> None:
    """Let the processes of the run share network and loss.

    Args:
        model: on its device, except for a network without values.
        device: of the model.
        take_weights: called for a network that gets its values here, once it has some.
    """
    engine = model.parallel
    awaits_values = engine.builds_on_meta
    open_group(device, engine.timeout)
    add_user(engine)
    board = shared_board(engine.timeout)
    engine.exchange = Exchange(control_group(engine.timeout), engine.equal_forwards, board)
    engine.wrap(model)
    if awaits_values:
        take_weights()
