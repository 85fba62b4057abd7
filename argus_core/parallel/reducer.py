"""The sum of gradients over all processes, by `DistributedDataParallel` or after backward."""

import warnings
from typing import Any

# Without postponed annotations: torch compares those of a communication hook with its own classes.
import torch
from torch import Tensor, distributed, nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

from argus_core.errors import BuildError

__all__ = ["Reducer", "sum_gradients"]

_Gradients = list[Tensor | None]


class Reducer:
    """The gradients of one network in all processes.

    The first update adds gradients after backward and learns which parameters have some. From then on a
    `DistributedDataParallel` adds those of the network during backward; the network itself stays the object
    that the user's code knows, with its names: its ``forward`` takes the way through the wrapper.

    Args:
        network: on its device.
        parameters: of network and loss, in one order in all processes; those that require grad may change
            between two updates.
        bucket_cap_mb: of the wrapper.

    Attributes:
        group: of the processes.
    """

    def __init__(
        self, network: nn.Module, parameters: list[nn.Parameter], bucket_cap_mb: float | None
    ) -> None:
        self._network = network
        self.group: Any = distributed.group.WORLD
        self._all = parameters
        self._bucket_cap_mb = bucket_cap_mb
        self._own = {id(each) for each in network.parameters()}
        self._route = _route_of(network)
        self._by_hand = False
        self._elements = 0
        self._added = 0
        self._under_way: list[Any] = []
        self._done: dict[int, Any] = {}  # by bucket: its place in memory, and a future with it
        self._begin()

    def _begin(self) -> None:
        """Begin with the parameters that require grad now, of which the next update shows which get one."""
        self._flags = [each.requires_grad for each in self._all]
        self._parameters = [each for each in self._all if each.requires_grad]
        self._others = [each for each in self._parameters if id(each) not in self._own]
        self._is_learned = False
        self._route.target = None

    def armed(self, last: bool) -> "_Armed":
        """Return the context of a forward and backward, in which gradients are added if it is the last."""
        if last and self._flags != [each.requires_grad for each in self._all]:
            self._begin()
        return _Armed(self, last)

    def allow_overlap(self, allowed: bool) -> None:
        """Say whether gradients may be added during backward; else they are added after it."""
        self._by_hand = not allowed

    def finish(self) -> None:
        """Add what backward has not added."""
        added, self._added = self._added, 0
        under_way, self._under_way = self._under_way, []
        for work in under_way:
            work.wait()
        if not added:
            self._add_all()
        elif added != self._elements:
            raise BuildError(
                "some parameters got no gradient in this update, though they had one in the first; give "
                "every parameter a gradient in each update, or freeze those that have none"
            )
        elif self._others:
            sum_gradients(self._others)

    def leave(self) -> None:
        """Give the network its own forward back."""
        self._route.target = None
        self._under_way.clear()
        self._done.clear()

    def _add_all(self) -> None:
        used = sum_gradients(self._parameters)
        if self._is_learned or self._by_hand:
            return
        self._is_learned = True
        inside = [each for each in self._parameters if id(each) in self._own]
        is_used = {id(each): each.grad is not None for each in self._parameters}
        is_sparse = any(each.grad is not None and each.grad.layout is not torch.strided for each in inside)
        if used and inside and all(is_used[id(each)] for each in inside) and not is_sparse:
            self._wrap(inside)

    def _wrap(self, inside: list[nn.Parameter]) -> None:
        options: dict[str, Any] = {}
        if self._bucket_cap_mb is not None:
            options["bucket_cap_mb"] = self._bucket_cap_mb
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the option has another name in the newest torch
            self._done.clear()
            wrapper = DistributedDataParallel(
                _Inner(self._network, self._route),
                broadcast_buffers=False,
                gradient_as_bucket_view=True,  # what is added to a bucket after backward is in the gradients
                **options,
            )
        wrapper.register_comm_hook(self, _add)
        self._elements = sum(each.numel() for each in inside)
        self._route.target = wrapper


class _Armed:
    """The context of one forward and backward."""

    def __init__(self, reducer: Reducer, last: bool) -> None:
        self._route = reducer._route
        self._is_armed = last and not reducer._by_hand

    def __enter__(self) -> None:
        self._route.is_armed = self._is_armed

    def __exit__(self, *exc: object) -> None:
        self._route.is_armed = False


class _Route:
    """Takes the place of a network's ``forward``: through the wrapper in the last forward of an update.

    Attributes:
        target: the wrapper, if there is one.
        is_armed: whether the next forward goes through it.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.target: DistributedDataParallel | None = None
        self.is_armed = self._is_inside = False

    def own(self, *args: Any, **kwargs: Any) -> Any:
        return type(self._network).forward(self._network, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.is_armed or self._is_inside or self.target is None or not torch.is_grad_enabled():
            return self.own(*args, **kwargs)
        self._is_inside = True
        try:
            return self.target(*args, **kwargs)
        finally:
            self._is_inside = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Route":
        from copy import deepcopy

        copied = _Route.__new__(_Route)
        memo[id(self)] = copied
        copied._network = deepcopy(self._network, memo)
        copied.target, copied.is_armed, copied._is_inside = None, False, False
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "target": None, "is_armed": False}


class _Inner(nn.Module):
    """The network for the wrapper; it calls only its forward, since the network's hooks run around it."""

    def __init__(self, network: nn.Module, route: _Route) -> None:
        super().__init__()
        self.network = network
        self._route = [route]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._route[0].own(*args, **kwargs)


def _route_of(network: nn.Module) -> _Route:
    """Return the way that the network's forward takes, set on the network itself."""
    found = vars(network).get("forward")
    if isinstance(found, _Route):
        return found
    if found is not None:
        raise BuildError(
            f"the network {type(network).__name__} has an attribute forward of its own, which several "
            "processes cannot call through torch's DistributedDataParallel; define forward in its class"
        )
    route = _Route(network)
    network.forward = route
    return route


def _add(state: Reducer, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Begin to add a bucket of gradients over all processes; torch's own hook would average.

    `Reducer.finish` waits. A function that runs once the sum is there would take Python's lock from the
    thread that computes: torch calls it in the thread of the communication.
    """
    buffer = bucket.buffer()
    size = buffer.numel()
    state._added += size
    # Not distributed.all_reduce, whose checks and logging take longer than a small sum.
    state._under_way.append(state.group.allreduce([buffer]))
    place = buffer.data_ptr(), size, buffer.dtype
    kept = state._done.get(bucket.index())
    if kept is None or kept[0] != place:  # torch has made other buckets
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(buffer)
        kept = state._done[bucket.index()] = place, done
    return kept[1]


def sum_gradients(parameters: list[nn.Parameter]) -> bool:
    """Add the gradients of parameters over all processes; return whether any process has one.

    A parameter without a gradient in any process keeps none. Which have one travels with the numbers.
    """
    _densify(parameters)
    groups: dict[Any, list[nn.Parameter]] = {}
    for each in parameters:
        groups.setdefault((each.dtype, each.device), []).append(each)
    found = False
    for (dtype, device), members in groups.items():
        own = [each.grad for each in members]
        flags = torch.tensor([each is not None for each in own], dtype=torch.float32)
        parts = [flags.to(device, dtype)]
        parts += [
            (torch.zeros_like(each) if grad is None else grad).reshape(-1)
            for each, grad in zip(members, own, strict=True)
        ]
        flat = torch.cat([part.detach() for part in parts])
        distributed.all_reduce(torch.view_as_real(flat) if flat.is_complex() else flat)
        used = flat[: len(members)].real.tolist() if flat.is_complex() else flat[: len(members)].tolist()
        sums = torch.split(flat[len(members) :], [each.numel() for each in members])
        for each, grad, is_used, total in zip(members, own, used, sums, strict=True):
            if not is_used:
                continue
            found = True
            if grad is None:
                each.grad = total.view_as(each).clone(memory_format=torch.preserve_format)
            else:
                grad.copy_(total.view(grad.shape))
    return found


def _densify(parameters: list[nn.Parameter]) -> None:
    for each in parameters:
        if each.grad is not None and each.grad.layout is not torch.strided:
            each.grad = each.grad.to_dense()
