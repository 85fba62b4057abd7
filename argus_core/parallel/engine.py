"""The abstract engine of several processes that train one model; components of kind ``parallel`` are engines.

::

    build_order   nn_module ─► loss ─► device ─► parallel: wrap(model) ─► optimizer ─► prediction_transform
    compiled      set_up of the step strategies ─► start(model)
    update        for each micro-batch: sync_context(last)⟨ forward ─► loss ─► backward ⟩ ; reduce_gradients
    checkpoint    whole(tensor) for each tensor, in one order in all processes; place(target, tensor)

Each process reads its slice of the global batch. The framework starts backward with the share that a
micro-batch has in the *global* window, so an engine **adds** gradients and never averages them. Every
process runs as many updates as all others, and in each calls `reduce_gradients` as often; a process without
samples runs a copied sample of weight 0. Strategies (clipping, SAM, averages, scaling) see reduced
gradients, equal in all processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, distributed, nn

from argus_core.storage.pieces import Piece
from argus_core.tensors.processes import process_count
from argus_core.tensors.swapped import swapped
from argus_core.tensors.wholes import Whole

if TYPE_CHECKING:  # a model imports this module
    from argus_core.abstract_model import AbstractModel

__all__ = ["AbstractParallel", "buffers_of", "parameters_of"]


class AbstractParallel(ABC):
    """Abstract engine: how the processes of a run share one model and add up its gradients.

    An engine of a package is a class with an entry point in the group ``argus_core.parallel``; the params of
    the spec are the arguments of its constructor, which only checks and keeps them. A model makes one
    engine, before its parts are built. In a run of one process no engine is asked: `Single` takes its place.

    Args:
        sharded_already: whether loaders without indices (iterable datasets, and loaders whose sampler knows
            of the processes) give each process its own part of a global batch. An ordinary DataLoader's
            batch is global in any case, and each process reads its slice.
        timeout: the seconds that a process waits for the others before the run ends.

    Attributes:
        name: the name in messages and in ``explain``.
        conflicts: traits of the model and of step strategies that the engine refuses, each with the reason:
            the traits of `Model.traits` (``optimizer:LBFGS``, ``fused_optimizer``, ``needs_closure``), the
            names of strategies and the traits that they declare.
        sync_batchnorm: whether batch norm's statistics in training are those of all processes.
        builds_on_meta: whether `build_network` builds on torch's meta device, and `wrap` gives values, from
            the seed; the parameters then have no values before that.
        equal_forwards: whether every process must make the same number of forward passes, in evaluation too:
            the framework then adds copied micro-batches of weight 0 where a process has fewer.
        is_sharded: whether parameters, gradients and the optimizer's state are parts of tensors
            (``DTensor``).
        exchange: the small reduction before each update; see `Exchange`.
        silent: for each loader batch of the current window, whether it is a copied sample of weight 0.
        wholes: for each loader batch of the next update, the facts about the batch of all processes; empty
            where they are not known.
    """

    name: ClassVar[str]
    conflicts: Mapping[str, str] = MappingProxyType({})
    sync_batchnorm: bool = False
    builds_on_meta: bool = False
    equal_forwards: bool = False
    is_sharded: bool = False
    exchange: Any = None
    wholes: Sequence[Whole] = ()

    def __init__(self, sharded_already: bool = False, timeout: float = 30.0) -> None:
        self.sharded_already = sharded_already
        self.timeout = timeout
        self.silent: Sequence[bool] = ()

    @property
    def several(self) -> bool:
        """True in a run of several processes, unless this is the engine of one."""
        return process_count() > 1

    # Building.

    def build_network(self, model: AbstractModel, build: Callable[[], Any]) -> Any:
        """Return the network that ``build`` returns; the processes have met already.

        With `builds_on_meta` it may be on the meta device.
        """
        return build()

    @abstractmethod
    def wrap(self, model: AbstractModel) -> None:
        """Give the processes one network, equal or in parts; called before the optimizer is built.

        ``model.nn_module`` and ``model.loss`` are on ``model.device``, or on the meta device with
        `builds_on_meta`. They must keep their class, attributes and state-dict names for user code, so an
        engine changes them in place.

        Raises:
            BuildError: the engine cannot take the network; the message says which part and why.
        """

    def start(self, model: AbstractModel, overlap: bool) -> None:  # noqa: B027
        """Prepare for updates; called whenever the step strategies have been set up.

        Args:
            model: whose optimizer, if it has one, holds the final parameters.
            overlap: whether gradients may be added during backward. Otherwise a process may start its
                backward over, as memory is full, and all add their gradients in `reduce_gradients`.
        """

    def traits(self, model: AbstractModel) -> set[str]:
        """Return traits that step strategies may conflict with or require, such as ``parallel:NAME``."""
        return {f"parallel:{self.name}"}

    # An update.

    def sync_context(self, last: bool) -> AbstractContextManager[Any]:
        """Return the context of a micro-batch's forward and backward.

        Args:
            last: whether it is the last one of its window; the gradients of the others stay in the process.
        """
        return nullcontext()

    @abstractmethod
    def reduce_gradients(self, model: AbstractModel) -> None:
        """Make every gradient the sum over all processes; called after the last backward of a window.

        A gradient that is ``None`` in all processes stays ``None``. An engine whose backward adds gradients
        by itself adds the others here, such as those of the loss's parameters.
        """

    def begin_evaluation(self, model: AbstractModel) -> None:
        """Make all processes evaluate the same network, before a validation of all of them.

        Buffers, such as the statistics of batch normalisation, become those of the first process.
        """
        for buffer in buffers_of(model):
            distributed.broadcast(buffer, 0)

    def holding(self, tensors: Sequence[Tensor], values: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Let parameters and buffers hold other values while the block runs, such as averages in evaluation.

        Args:
            tensors: parameters or buffers, on the device.
            values: of the same shapes, and shards where ``tensors`` are.
        """
        return swapped(tensors, values)

    def local(self, tensor: Tensor) -> Tensor:
        """Return the part of a parameter, gradient or state that this process holds, in the same memory.

        Where an operation works on single numbers, the parts are enough, and much faster than shards.
        """
        return tensor

    def total_norm(self, tensors: Sequence[Tensor], norm_type: float) -> Tensor:
        """Return the norm of gradients, or of tensors of their form, over all of them and all processes.

        Every process calls it, with the same tensors or its shards of them.
        """
        return nn.utils.get_total_norm(tensors, norm_type)

    # Checkpoints.

    def whole(self, tensor: Tensor) -> Tensor | None:
        """Return a tensor of the model's, the optimizer's or a strategy's state in full.

        Every process calls it for the same tensors in the same order. Processes other than the first may
        return ``None``: they write nothing.
        """
        return tensor

    def piece(self, tensor: Tensor) -> Tensor | Piece:
        """Return the part of a tensor that this process writes into a folder of shards, or a whole tensor."""
        return tensor

    def shard(self, target: Tensor, part: Tensor) -> Tensor:
        """Return the shard that has the place of ``target``, from the part of this process."""
        return part

    def place(self, target: Tensor, value: Tensor) -> Tensor:
        """Return the part of a full tensor that takes the place of ``target``: the value itself, or a shard.

        Args:
            target: of the model's state, whose shape or placement the part has.
            value: in full, in every process; it may be on another device.
        """
        return value

    def leave(self) -> None:
        """Drop all references to a process group, as the run has failed: the others' operations fail then."""
        if self.exchange is not None:
            self.exchange.leave()

    # Words.

    def notes(self, model: AbstractModel) -> Iterator[str]:
        """Yield lines for ``model.explain()``: units, what is reduced when, and what is not invariant."""
        modules = model.get_nn_module().modules()
        kinds = {type(each).__name__ for each in modules}
        if any("BatchNorm" in kind for kind in kinds):
            yield (
                "sync_batchnorm: batch norm's statistics are those of all slices; where a process has no "
                "samples, its copied sample counts in them"
                if self.sync_batchnorm
                else "not invariant: batch norm's statistics are those of each process's slice"
            )
        if any("Dropout" in kind for kind in kinds):
            yield "not invariant: dropout, whose masks are drawn in each process"

    def __deepcopy__(self, memo: dict[int, Any]) -> AbstractParallel:
        """Return an engine with the same options, which the copy of a model starts for itself."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        vars(copied).update(self.__getstate__())
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes that a copy has too; an engine leaves out what belongs to one network."""
        return dict(vars(self))


def parameters_of(model: AbstractModel) -> list[nn.Parameter]:
    """Return the parameters of network and loss, frozen ones too, in one order in all processes."""
    network = model.get_nn_module()
    own = model.loss.parameters() if isinstance(model.loss, nn.Module) else ()
    return [*{id(each): each for each in (*network.parameters(), *own)}.values()]


def buffers_of(model: AbstractModel) -> list[Tensor]:
    """Return the buffers of network and loss, in one order in all processes."""
    own = model.loss.buffers() if isinstance(model.loss, nn.Module) else ()
    return [*model.get_nn_module().buffers(), *own]
