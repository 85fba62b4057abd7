"""The engine `fsdp`: each process holds shards of all parameters, and torch's `fully_shard` gathers them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

from argus_core.errors import BuildError, ParamsError
from argus_core.parallel.batch_norm import synchronise
from argus_core.parallel.engine import AbstractParallel, buffers_of
from argus_core.parallel.group import control_group
from argus_core.parallel.options import check_flags, check_number
from argus_core.parallel.piecewise import BuiltInPieces, build_in_pieces
from argus_core.parallel.reducer import sum_gradients
from argus_core.parallel.shards import gathered, local, messages, not_a_view, part_of, piece_of, shard_of
from argus_core.parallel.units import check_units, find_units, members_of
from argus_core.registry.factory import initial_values_wanted
from argus_core.storage.pieces import Piece
from argus_core.tensors.processes import all_agree, gather
from argus_core.tensors.rng import Generators, random_state, set_random_state

if TYPE_CHECKING:
    from argus_core.abstract_model import AbstractModel

__all__ = ["FSDP"]

_LONGEST = 300  # characters of a reason
_DTYPES = {"bfloat16": torch.bfloat16}


class FSDP(AbstractParallel):
    """Each process holds a shard of every parameter, its gradient and the optimizer's state (FSDP2).

    Blocks of the network, the units, are gathered before their forward and backward pass and released after
    them; gradients are added and split while backward runs.

    Args:
        units: the blocks: class names, or patterns of the names of modules, or a list of them; by default the
            outermost blocks whose class occurs several times.
        mixed_precision: ``"bfloat16"``: parameters are gathered, and the network runs, in bfloat16, while
            shards, sums of gradients and the optimizer's state stay in float32.
        reshard_after_forward: whether a unit is released after its forward pass and gathered again for
            backward; otherwise it stays until then, which takes more memory and fewer messages.
        sharded_already: see `AbstractParallel`.
        timeout: see `AbstractParallel`, in seconds.
        sync_batchnorm: see `DDP`.
    """

    name: ClassVar[str] = "fsdp"
    conflicts: Mapping[str, str] = {
        "optimizer:LBFGS": "it works on all parameters as one flat vector, of which each process has parts",
        "optimizer:Rprop": "it writes to single numbers of gradients, which shards do not allow",
        "optimizer:Adafactor": "it factors whole matrices, of which each process has some rows",
        "optimizer:Muon": "it makes whole matrices orthogonal, of which each process has some rows",
        "optimizer:SparseAdam": "sparse gradients cannot be split into shards",
        "optimizer:SGD (fused)": "torch's fused SGD does not take shards",
        "channels_last": "shards have the ordinary memory format",
        "halve_on_oom": (
            "a process whose memory is full leaves the others waiting for its next forward pass"
        ),
    }

    builds_on_meta = True
    equal_forwards = True
    is_sharded = True

    def __init__(
        self,
        units: str | Sequence[str] | None = None,
        mixed_precision: str | None = None,
        reshard_after_forward: bool = True,
        sharded_already: bool = False,
        timeout: float = 30.0,
        sync_batchnorm: bool = False,
    ) -> None:
        _check(units, mixed_precision)
        check_number("fsdp", "timeout", timeout)
        flags = {"sharded_already": sharded_already, "sync_batchnorm": sync_batchnorm}
        check_flags("fsdp", reshard_after_forward=reshard_after_forward, **flags)
        super().__init__(sharded_already, timeout)
        self.sync_batchnorm = sync_batchnorm
        self.units = [units] if isinstance(units, str) else None if units is None else [*units]
        self.mixed_precision = mixed_precision
        self.reshard_after_forward = reshard_after_forward
        self._root: Any = None  # the network, once it is sharded
        self._syncs: bool | None = None  # whether backward adds gradients, as last set
        self._units: dict[str, Any] = {}
        self._others: list[nn.Parameter] = []  # of the loss, whole in each process
        self._pieces: BuiltInPieces | None = None  # until they are in their places
        self._whole_since = ""  # the reason why the network was built whole

    # Building.

    def build_network(self, model: AbstractModel, build: Callable[[], Any]) -> Any:
        """Build the network in pieces, with the first process's random numbers, or whole where that fails."""
        with messages():
            states = gather(random_state(), model.device)[0]
        set_random_state(tree_map(lambda each: each.cpu() if isinstance(each, Tensor) else each, states))
        before = Generators()
        reason = ""
        try:
            self._pieces = build_in_pieces(build, control_group(self.timeout))
        except Exception as error:  # of any type, by the network's code or by torch
            cause = error.__cause__ or error  # of the factory's own sentence
            reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:_LONGEST]
        with messages():
            is_built = all_agree(self._pieces is not None, model.device)
        if is_built:
            if not initial_values_wanted():
                before.restore()
            assert self._pieces is not None
            return self._pieces.network
        before.restore()
        self._pieces, self.builds_on_meta = None, False
        self._whole_since = reason or "it cannot be built on the meta device in another process"
        return build()

    def wrap(self, model: AbstractModel) -> None:
        """Keep a shard of each parameter, with the values of the first process."""
        network = model.get_nn_module()
        pieces, self._pieces, self.builds_on_meta = self._pieces, None, False
        self._others = [*model.loss.parameters()] if isinstance(model.loss, nn.Module) else []
        self._units = find_units(network, self.units)
        check_units(network, self._units, self._others)
        if self.sync_batchnorm:
            synchronise(network, model.device, self.name)
        for parameter in (*(() if pieces else network.parameters()), *self._others):
            distributed.broadcast(parameter.detach(), 0)
        self._shard(network, model.device)
        if pieces:
            network.to_empty(device=model.device)
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    local(parameter).copy_(pieces.rows.pop(name))
                for name, buffer in network.named_buffers():
                    buffer.copy_(pieces.buffers[name])
            pieces.put_attributes()
        for buffer in buffers_of(model):
            distributed.broadcast(buffer, 0)

    def _shard(self, network: nn.Module, device: torch.device) -> None:
        mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
        narrow = _DTYPES.get(self.mixed_precision or "")
        options: dict[str, Any] = {"mesh": mesh, "reshard_after_forward": True}
        wide = torch.float32 if narrow else None
        policy = MixedPrecisionPolicy(narrow, wide)
        for module in (*self._units.values(), network):
            module.register_forward_hook(torch.compiler.disable(not_a_view))  # type: ignore[no-untyped-call]
        try:
            for unit in self._units.values():
                fully_shard(unit, **options, mp_policy=policy)
            fully_shard(network, **options, mp_policy=MixedPrecisionPolicy(narrow, wide, wide))
        except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise BuildError(
                f"parallel 'fsdp': torch cannot shard {type(network).__name__}: {reason}; start the run with "
                "parallel='ddp', or change the network"
            ) from error
        for module in network.modules():
            if isinstance(module, FSDPModule):  # each of them: those of the root alone would average silently
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self._root, self._syncs = network, None

    def traits(self, model: AbstractModel) -> set[str]:
        traits = super().traits(model)
        groups = getattr(model.optimizer, "param_groups", ())
        if isinstance(model.optimizer, torch.optim.SGD) and any(group.get("fused") for group in groups):
            traits.add("optimizer:SGD (fused)")
        return traits

    # An update.

    @contextmanager
    def sync_context(self, last: bool) -> Iterator[None]:
        if last is not self._syncs:  # setting it goes through all modules
            self._root.set_requires_gradient_sync(last)
            self._syncs = last
        # In training the root's parameters are needed again at once. In evaluation no backward releases
        # them, and then the network would have tensors that are not the optimizer's.
        self._keep(True)
        try:
            yield
        finally:
            self._keep(False)

    def _keep(self, keeps: bool) -> None:
        self._root.set_reshard_after_forward(not keeps, recurse=False)
        if not self.reshard_after_forward:
            for unit in self._units.values():
                unit.set_reshard_after_forward(not keeps, recurse=False)

    def reduce_gradients(self, model: AbstractModel) -> None:
        """Add the gradients of the loss's parameters; backward has added the network's."""
        others = [each for each in self._others if each.requires_grad]
        if others:
            sum_gradients(others)

    @contextmanager
    def holding(self, tensors: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
        """Copy values into the shards: torch ignores another ``data`` of theirs silently."""
        own, new = [local(each) for each in tensors], [local(each) for each in values]
        kept = [tensor.clone() for tensor in own]
        try:
            with torch.no_grad():
                for tensor, value in zip(own, new, strict=True):
                    tensor.copy_(value)
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(own, kept, strict=True):
                    tensor.copy_(value)

    def local(self, tensor: Tensor) -> Tensor:
        return local(tensor)

    def total_norm(self, tensors: Sequence[Tensor], norm_type: float) -> Tensor:
        """Return the norm over shards of all processes, and whole tensors once."""
        sharded = [own for each in tensors if isinstance(each, DTensor) and (own := local(each)).numel()]
        whole = [each for each in tensors if not isinstance(each, DTensor)]
        device, dtype = next(((each.device, each.dtype) for each in tensors), (torch.device("cpu"), None))
        is_largest = math.isinf(norm_type)
        found = nn.utils.get_total_norm(sharded, norm_type).to(device, dtype)
        found = found if is_largest else found**norm_type
        distributed.all_reduce(found, distributed.ReduceOp.MAX if is_largest else distributed.ReduceOp.SUM)
        if whole:
            rest = nn.utils.get_total_norm(whole, norm_type).to(found)
            found = torch.maximum(found, rest) if is_largest else found + rest**norm_type
        return found if is_largest else found ** (1 / norm_type)

    # Checkpoints.

    def whole(self, tensor: Tensor) -> Tensor | None:
        return gathered(tensor) if isinstance(tensor, DTensor) else tensor

    def piece(self, tensor: Tensor) -> Tensor | Piece:
        return piece_of(tensor) if isinstance(tensor, DTensor) else tensor

    def shard(self, target: Tensor, part: Tensor) -> Tensor:
        return shard_of(part, cast(DTensor, target))

    def place(self, target: Tensor, value: Tensor) -> Tensor:
        return (
            part_of(value, target)
            if isinstance(target, DTensor) and not isinstance(value, DTensor)
            else value
        )

    # Words.

    def notes(self, model: AbstractModel) -> Iterator[str]:
        count = distributed.get_world_size() if self.several else 1
        yield (
            f"parallel 'fsdp' of {count} processes: each holds a shard of every parameter, its gradient and "
            "the optimizer's state, and reads its slice of every batch"
        )
        network = model.get_nn_module()
        units = self._units or find_units(network, self.units)
        for unit, members in members_of(network, units).items():
            size = sum(each.numel() for each in members.values())
            kind = type(units.get(unit, network)).__name__.removeprefix("FSDP")
            yield f"unit {unit or 'the rest of the network'} ({kind}): {size:,} values, gathered together"
        precision = f", in {self.mixed_precision}" if self.mixed_precision else ""
        again = "before forward and before backward" if self.reshard_after_forward else "before forward"
        yield f"a unit is gathered {again}{precision}; its gradients are added and split while backward runs"
        if self._whole_since:
            yield f"the network was built whole in each process, and then split: {self._whole_since}"
        yield from super().notes(model)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_root": None, "_units": {}, "_others": [], "_pieces": None}


def _check(units: Any, mixed_precision: Any) -> None:
    listed = [units] if isinstance(units, str) else units
    if listed is not None and not (
        isinstance(listed, list | tuple) and listed and all(isinstance(each, str) and each for each in listed)
    ):
        raise ParamsError(
            f"parallel 'fsdp': units is {units!r}; give class names or patterns of names, or leave it out"
        )
    if mixed_precision is not None and mixed_precision not in _DTYPES:
        raise ParamsError(
            f"parallel 'fsdp': mixed_precision is {mixed_precision!r}; give 'bfloat16' or None, or the step "
            "strategy amp"
        )
