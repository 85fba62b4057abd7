"""The units of a network for the engine `fsdp`: blocks whose parameters are gathered together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.parameter import is_lazy

from argus_core.errors import BuildError, near

__all__ = ["check_units", "find_units", "members_of"]

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_SHOWN = 3
_ONE = "start the run with parallel='ddp', or change the network"


def find_units(network: nn.Module, patterns: Sequence[str] | None) -> dict[str, nn.Module]:
    """Return the blocks of a network that are units, by name, each inner one before those around it.

    Args:
        network: the whole, which is a unit in any case and not among those returned.
        patterns: class names or patterns of names, as in a state dict; by default the outermost blocks whose
            class occurs several times, as in a transformer. A block has submodules.

    Raises:
        BuildError: a pattern matches nothing, or a container that has no forward pass of its own.
    """
    if patterns is None:
        return dict(_repeated(network))
    modules = {name: module for name, module in network.named_modules() if name}
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        matching = {name: each for name, each in modules.items() if _fits(pattern, name, each)}
        if not matching:
            known = [*dict.fromkeys([*(_class(each) for each in modules.values()), *modules])]
            raise BuildError(
                f"parallel 'fsdp': units has {pattern!r}, which matches no class and no name of a module of "
                f"{_class(network)}{near(pattern, known)}; give class names, or patterns of names"
            )
        for name, module in matching.items():
            if isinstance(module, _CONTAINERS):
                raise BuildError(
                    f"parallel 'fsdp': units has {pattern!r}, which matches {name!r}, a {_class(module)}; it "
                    f"has no forward pass at which its parameters could be gathered; give {name + '.*'!r}"
                )
        found |= matching
    inner_first = sorted(found.items(), key=lambda item: -item[0].count("."))
    return {name: module for name, module in inner_first if any(True for _ in module.parameters())}


def _fits(pattern: str, name: str, module: nn.Module) -> bool:
    return pattern == _class(module) or fnmatchcase(name, pattern)


def _class(module: nn.Module) -> str:
    return type(module).__name__


def _repeated(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the outermost blocks whose class occurs several times."""
    counts = Counter(type(module) for module in network.modules())

    def visit(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            path = f"{prefix}.{name}".lstrip(".")
            is_block = any(True for _ in child.children()) and any(True for _ in child.parameters())
            is_container = isinstance(child, (*_CONTAINERS, nn.Sequential))
            if is_block and not is_container and counts[type(child)] > 1:
                yield path, child
            else:
                yield from visit(path, child)

    yield from visit("", network)


def members_of(network: nn.Module, units: Mapping[str, nn.Module]) -> dict[str, dict[str, nn.Parameter]]:
    """Return the parameters of each unit by name, without those of units inside it; ``""`` is the rest."""
    taken: set[int] = set()
    members: dict[str, dict[str, nn.Parameter]] = {}
    for unit, module in (*units.items(), ("", network)):
        own = dict(module.named_parameters(unit))
        members[unit] = {name: each for name, each in own.items() if id(each) not in taken}
        taken |= {id(each) for each in own.values()}
    return members


def check_units(network: nn.Module, units: Mapping[str, nn.Module], others: Sequence[nn.Parameter]) -> None:
    """Check that a network can be split into shards.

    Args:
        network: before it is split.
        units: its blocks.
        others: parameters of the loss.

    Raises:
        BuildError: it cannot; the message names the parameter and the reason.
    """
    names = dict(network.named_parameters(remove_duplicate=False))
    for name, parameter in names.items():
        _check_parameter(name, parameter)
    shared = {id(each) for each in others}
    for name, parameter in names.items():
        if id(parameter) in shared:
            raise BuildError(
                f"parallel 'fsdp': the loss uses the network's parameter {name!r}, which is whole only while "
                f"the network's forward pass runs; {_ONE}"
            )
    for name, module in network.named_modules():
        if getattr(module, "sparse", False) is True and isinstance(module, nn.Embedding | nn.EmbeddingBag):
            raise BuildError(
                f"parallel 'fsdp': {name!r} has sparse gradients, of which no shards can be made; build it "
                "with sparse=False"
            )
    _check_ties(network, units)
    for unit, members in members_of(network, units).items():
        dtypes = {each.dtype for each in members.values()}
        if len(dtypes) > 1:
            listed = ", ".join(sorted(str(each).removeprefix("torch.") for each in dtypes))
            raise BuildError(
                f"parallel 'fsdp': the parameters of {unit or 'the rest of the network'!r} have several "
                f"dtypes ({listed}), and those of one unit are gathered as one; name a unit for each in "
                "units, or build the network in one dtype"
            )


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    reason = ""
    if is_lazy(parameter):
        reason = "has no shape yet, as it belongs to a lazy layer; give the layer its sizes"
    elif parameter.ndim == 0:
        reason = "has no dimension to split; give it the shape (1,)"
    elif parameter.is_complex():
        reason = f"is complex, and gradients of shards are added as real numbers; {_ONE}"
    elif not parameter.is_contiguous():
        reason = "is not contiguous in memory, as shards are; call contiguous() where it is made"
    if reason:
        raise BuildError(f"parallel 'fsdp': the parameter {name!r} {reason}")


def _check_ties(network: nn.Module, units: Mapping[str, nn.Module]) -> None:
    """Raise for a parameter with names in two units: one is not gathered when the other needs it."""
    owner: dict[int, tuple[str, str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        unit = next((each for each in units if name.startswith(each + ".")), "")
        first, where = owner.setdefault(id(parameter), (name, unit))
        if where != unit:
            within = " and ".join(repr(each) if each else "the rest of the network" for each in (where, unit))
            shown = [*units][:_SHOWN]
            raise BuildError(
                f"parallel 'fsdp': {first!r} and {name!r} are one parameter in two units ({within}), which "
                "are not gathered at the same time; give units that keep them together (now "
                f"{', '.join(shown)}{'...' if len(units) > _SHOWN else ''})"
            )
