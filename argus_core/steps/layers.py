"""The layers of a network, in the order in which its modules were assigned."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

__all__ = ["layers_of"]

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def layers_of(network: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of each layer from input to output; vectors belong to the layer before them."""
    layers: list[list[nn.Parameter]] = []
    for parameters in _pieces(network):
        if layers and all(each.ndim < 2 for each in parameters):
            layers[-1] += parameters
        else:
            layers.append(parameters)
    return layers


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
