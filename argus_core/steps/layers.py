"""The layers of a network, in the order in which its modules were assigned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn
from torch.nn.parameter import is_lazy

from argus_core.errors import ParamsError

__all__ = ["layer_numbers"]

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def layer_numbers(network: nn.Module, named: Mapping[str, nn.Parameter]) -> tuple[dict[str, int], int]:
    """Return the number of the layer of each named parameter, from 0 at the input, and the last number.

    Vectors belong to the layer before them, and parameters that only the loss has to the last one.

    Args:
        network: that has the layers.
        named: parameters of the network and of its loss.

    Raises:
        ParamsError: the network has lazy parameters, of which it is not known whether they are vectors.
    """
    lazy = next((name for name, each in network.named_parameters() if is_lazy(each)), None)
    if lazy is not None:
        raise ParamsError(
            f"the layers of the network are not known before its first input, since {lazy!r} is lazy; give "
            "its module the sizes"
        )
    layers: list[list[nn.Parameter]] = []
    for parameters in _pieces(network):
        if layers and all(each.ndim < 2 for each in parameters):
            layers[-1] += parameters
        else:
            layers.append(parameters)
    numbers: dict[int, int] = {}
    for number, parameters in enumerate(layers):
        for parameter in parameters:
            numbers.setdefault(id(parameter), number)
    last = max(len(layers) - 1, 0)
    return {name: numbers.get(id(each), last) for name, each in named.items()}, last


def _pieces(module: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters of children: of each entry of a list of modules, else of each child."""
    own = list(module.parameters(recurse=False))
    for child in module.children():
        parameters = list(child.parameters())
        is_in_list = isinstance(module, _LISTS) and not isinstance(child, _LISTS)
        if not is_in_list and any(isinstance(each, _LISTS) for each in child.modules()):
            pieces = list(_pieces(child))
        else:
            pieces = [parameters] if parameters else []
        if pieces and own:  # tokens and positions, which act on what comes in
            pieces[0] = own + pieces[0]
            own = []
        yield from pieces
    if own:
        yield own
