"""Every metric that can be built here has torchmetrics' own value, however the data come."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, Case, Data, cut
from torch import Tensor, distributed, multiprocessing
from torch.utils._python_dispatch import TorchDispatchMode

from argus_core.metrics.values import compute_all
from argus_core.registry.factory import build_component
from argus_core.storage.encoding import decode, encode
from argus_torchmetrics.catalogue import find
from argus_torchmetrics.inputs import Inputs
from argus_torchmetrics.metric import TorchMetric
from argus_torchmetrics.params import suited

# Of torch, said once in a process.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")

each_metric = pytest.mark.parametrize("name", sorted(CASES))
CPU = torch.device("cpu")


def build(name: str, **params: Any) -> TorchMetric:
    metric: TorchMetric = build_component("metric", (name, {**CASES[name].params, **params}), "metrics")
    metric.reset()
    return metric


def feed(metric: TorchMetric, batches: list[Data]) -> TorchMetric:
    for prediction, target in batches:
        metric.update({"prediction": prediction, "target": target, "loss": 0.0})
    return metric


def of_torchmetrics(name: str) -> Any:
    """Return what torchmetrics computes of all data in one pass."""
    metric_class = find(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*will save all")
        metric = metric_class(**suited(metric_class, CASES[name].params))
    for arguments in arguments_of(metric, CASES[name].draw()):
        metric.update(**arguments)
    return metric.compute()


def arguments_of(metric: Any, data: Data) -> list[dict[str, Any]]:
    return Inputs.of("", metric, None).read({"prediction": data[0], "target": data[1]})


def random_sizes(case: Case, seed: int) -> list[int]:
    """Return sizes of batches, unequal unless there is but one way to cut."""
    randomness, left, sizes = random.Random(seed), case.samples, []
    while left:
        most = max(min(left, case.samples // 2), case.smallest)
        size = randomness.randint(case.smallest, most)
        size = left if left - size < case.smallest else size
        sizes.append(size)
        left -= size
    return sizes


def assert_same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@each_metric
def test_value_is_that_of_one_pass_however_the_data_are_cut(name: str) -> None:
    case, expected = CASES[name], of_torchmetrics(name)
    for seed in range(2):
        metric = feed(build(name), cut(case.draw(), random_sizes(case, seed)))
        metric.compute()
        assert_same(metric.value, expected)


@each_metric
def test_value_is_the_same_with_half_of_the_updates_in_a_process_before(name: str) -> None:
    case = CASES[name]
    first, *rest = cut(case.draw(), [case.samples // 2, case.samples - case.samples // 2])
    before, after = feed(build(name), [first]), build(name)
    tensors: dict[str, Tensor] = {}
    stored = json.loads(json.dumps(encode(before.state_dict(), "running", tensors)))
    after.load_state_dict(decode(stored, tensors))
    for metric in (before, after):
        feed(metric, rest)
        metric.compute()
    assert_same(after.value, before.value)


class Waits(TorchDispatchMode):
    """Counts the operations for which a GPU would have to be waited for."""

    # Their results are Python numbers, or tensors whose size depends on values.
    OPERATIONS = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
        "equal",
        "bincount",
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function.overloadpacket.__name__ in self.OPERATIONS
        self.count += self._is_masked(function.overloadpacket.__name__, args)
        return function(*args, **(kwargs or {}))

    def _is_masked(self, operation: str, args: Any) -> bool:
        indices = args[1] if operation == "index" else []
        return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)


def waits_in(update: Any, *args: Any, **kwargs: Any) -> int:
    with Waits() as waits:
        update(*args, **kwargs)
    return waits.count


@each_metric
def test_an_update_waits_no_more_often_than_torchmetrics_without_its_checks(name: str) -> None:
    case, metric_class = CASES[name], find(name)
    params = suited(metric_class, case.params)
    metric = build(name)
    if hasattr(metric.metric, "validate_args"):
        params["validate_args"] = False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*will save all")
        plain = metric_class(**params)
    first, second = cut(case.draw(), [case.samples // 2, case.samples - case.samples // 2])
    plain.update(**arguments_of(plain, first)[0])
    feed(metric, [first])
    expected = waits_in(plain.update, **arguments_of(plain, second)[0])
    assert waits_in(feed, metric, [second]) == expected


def compute_shares(rank: int, folder: Path, names: list[str]) -> None:
    """Compute all metrics at once in one of two processes, each of which has seen a part of the data."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    metrics = []
    for name in names:
        case = CASES[name]
        sizes = [size for size in (case.samples // 3, case.samples - case.samples // 3) if size]
        shares = cut(case.draw(), sizes)
        metrics.append(feed(build(name), shares[rank : rank + 1]))
    values = compute_all(metrics, "val", CPU)
    kept = [feed(metric, []).state_dict() for metric in metrics]
    again = compute_all(metrics, "val", CPU)
    torch.save((values, again, [metric.value for metric in metrics], len(kept)), folder / f"{rank}.pt")
    distributed.destroy_process_group()


# Long in computing, and like StructuralSimilarityIndexMeasure in their states.
LONG = {"HausdorffDistance", "SpatialCorrelationCoefficient", "VisualInformationFidelity"}


def test_two_processes_compute_what_one_does_for_all_metrics_at_once(tmp_path: Path) -> None:
    names = sorted(CASES.keys() - LONG)
    multiprocessing.start_processes(  # type: ignore[no-untyped-call]
        compute_shares, (tmp_path, names), nprocs=2, start_method="fork"
    )
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert_same(other, one)
    values, again, computed, _ = one
    assert_same(again, values)
    expected = {name: of_torchmetrics(name) for name in names}
    different = [
        name for name, value in zip(names, computed, strict=True) if not is_same(value, expected[name])
    ]
    assert different == []


def is_same(found: Any, expected: Any) -> bool:
    try:
        assert_same(found, expected)
    except AssertionError:
        return False
    return True


def compute_alone(rank: int, folder: Path, names: list[str]) -> None:
    """Compute where the other process has seen nothing."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    metrics = [feed(build(name), [] if rank else [CASES[name].draw()]) for name in names]
    torch.save(compute_all(metrics, "val", CPU), folder / f"{rank}.pt")
    distributed.destroy_process_group()


# Of each way in which states are reduced: sum, cat, None of tensors and of lists, max and min, a mean.
REDUCTIONS = """MulticlassF1Score BinaryAUROC PearsonCorrCoef NormalizedRootMeanSquaredError RetrievalMAP
PeakSignalNoiseRatio ConcordanceCorrCoef MeanAbsoluteError SQuAD ROUGEScore""".split()


def test_a_process_may_have_seen_nothing(tmp_path: Path) -> None:
    multiprocessing.start_processes(  # type: ignore[no-untyped-call]
        compute_alone, (tmp_path, REDUCTIONS), nprocs=2, start_method="fork"
    )
    alone = [feed(build(name), [CASES[name].draw()]) for name in REDUCTIONS]
    expected: Mapping[str, float] = compute_all(alone, "val", CPU)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found == pytest.approx(dict(expected), rel=1e-5, nan_ok=True)
