"""The engine `ddp`: each process holds the whole model; torch's DistributedDataParallel adds gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from torch import distributed

from argus_core.parallel.batch_norm import synchronise
from argus_core.parallel.engine import AbstractParallel, buffers_of, parameters_of
from argus_core.parallel.options import check_flags, check_number
from argus_core.parallel.reducer import Reducer

if TYPE_CHECKING:
    from argus_core.abstract_model import AbstractModel

__all__ = ["DDP"]

_OF_WAITING = (
    "with sync_batchnorm a process whose memory is full leaves the others waiting for its next forward pass"
)


class DDP(AbstractParallel):
    """Each process holds the whole model and runs its slice of every batch; they add up their gradients.

    `torch.nn.parallel.DistributedDataParallel` adds gradients while backward runs. Where it cannot, they are
    added after backward: in the first update, which shows which parameters get gradients, for parameters of
    the loss, and with ``microbatch`` that halves its parts when memory is full.

    Args:
        sharded_already: see `AbstractParallel`.
        timeout: see `AbstractParallel`, in seconds.
        bucket_cap_mb: the size of the parts, in MiB, in which gradients are added; ``None``: torch's own.
        sync_batchnorm: whether batch norm takes the statistics of all processes in training, by torch's
            `SyncBatchNorm`, which works on a GPU alone.
    """

    name: ClassVar[str] = "ddp"
    conflicts: Mapping[str, str] = {
        "optimizer:SparseAdam": "sparse gradients become dense when processes add them"
    }

    def __init__(
        self,
        sharded_already: bool = False,
        timeout: float = 30.0,
        bucket_cap_mb: float | None = None,
        sync_batchnorm: bool = False,
    ) -> None:
        check_number("ddp", "timeout", timeout)
        if bucket_cap_mb is not None:
            check_number("ddp", "bucket_cap_mb", bucket_cap_mb)
        check_flags("ddp", sharded_already=sharded_already, sync_batchnorm=sync_batchnorm)
        super().__init__(sharded_already, timeout)
        self.bucket_cap_mb = bucket_cap_mb
        # Each forward pass adds up statistics, so every process must make as many.
        self.sync_batchnorm = self.equal_forwards = sync_batchnorm
        if sync_batchnorm:
            self.conflicts = {**type(self).conflicts, "halve_on_oom": _OF_WAITING}
        self._reducer: Reducer | None = None

    def wrap(self, model: AbstractModel) -> None:
        """Give all processes the values of the first."""
        network = model.get_nn_module()
        if self.sync_batchnorm:
            synchronise(network, model.device, self.name)
        for tensor in (*parameters_of(model), *buffers_of(model)):
            distributed.broadcast(tensor.detach(), 0)

    def start(self, model: AbstractModel, overlap: bool) -> None:
        if self._reducer is not None:
            self._reducer.leave()
        self._reducer = Reducer(model.get_nn_module(), parameters_of(model), self.bucket_cap_mb)
        self._reducer.allow_overlap(overlap)

    def sync_context(self, last: bool) -> AbstractContextManager[None]:
        assert self._reducer is not None
        return self._reducer.armed(last)

    def reduce_gradients(self, model: AbstractModel) -> None:
        assert self._reducer is not None
        self._reducer.finish()

    def leave(self) -> None:
        super().leave()
        if self._reducer is not None:
            self._reducer.leave()
            self._reducer = None

    def notes(self, model: AbstractModel) -> Iterator[str]:
        count = distributed.get_world_size() if self.several else 1
        yield (
            f"parallel 'ddp' of {count} processes: each holds the whole model and reads its slice of every "
            "batch; gradients are added while backward runs, the divisor of the loss before it"
        )
        yield from super().notes(model)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_reducer": None}
