"""Several processes: what they tell each other, and metrics over what all of them have seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from planned_runs import small_model
from torch import distributed, multiprocessing

from argus_core import ArgusError, ConflictError, Metric
from argus_core.metrics import Accuracy
from argus_core.metrics.values import compute_all
from argus_core.tensors.processes import gather, process_count

CPU = torch.device("cpu")
SHARES = [(32,), (5, 1, 7), (19,)]  # of three processes, in batches
DATA = batches(tuple(size for share in SHARES for size in share))


class Extremes(Metric):
    """Keeps the largest value, the smallest in each column, and the last of each process."""

    name = "extremes"
    several = True
    states = {"largest": "max", "smallest": "min", "seen": "sum"}

    def update(self, step_output: Mapping[str, Any]) -> None:
        prediction = step_output["prediction"]
        self.largest = max(self.largest, prediction.max().item())
        self.smallest = torch.minimum(torch.as_tensor(self.smallest), prediction.amin(0))
        self.seen = self.seen + torch.tensor([len(prediction), 1])

    def compute(self) -> dict[str, float]:
        samples, updates = self.seen
        smallest = {f"smallest_{column}": value for column, value in enumerate(self.smallest)}
        return {"largest": self.largest, "samples": samples, "updates": updates, **smallest}


def run_in_processes(function: Callable[..., Any], folder: Path, count: int) -> list[Any]:
    """Return what ``function(rank)`` returns in each of several processes of one run."""
    multiprocessing.start_processes(  # type: ignore[no-untyped-call]
        _run, (function, folder, count), nprocs=count, start_method="fork"
    )
    return [json.loads((folder / str(rank)).read_text()) for rank in range(count)]


def _run(rank: int, function: Callable[[int], Any], folder: Path, count: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    (folder / str(rank)).write_text(json.dumps(function(rank)))
    distributed.destroy_process_group()


def values(loader: list[Any]) -> dict[str, float]:
    torch.manual_seed(0)
    with small_model() as model:
        return model.validate(loader, metrics=["accuracy", ("top_k_accuracy", {"k": 2}), Extremes()])


def validate_a_share(rank: int) -> dict[str, float]:
    return values(DATA)  # of whose batches each process takes its slices


def test_metrics_are_of_what_all_processes_have_seen(tmp_path: Path) -> None:
    expected = values(DATA)
    assert expected["val_extremes_samples"] == 64
    del expected["val_extremes_updates"]  # of each process
    for found in run_in_processes(validate_a_share, tmp_path, 3):
        assert found.pop("val_extremes_updates") == 13
        assert found == pytest.approx(expected, rel=1e-6)


def compute_twice(rank: int) -> list[float]:
    metric = Accuracy()
    metric.reset()
    found = []
    for _ in range(2):
        if rank == 0:  # the other has no samples at all
            metric.update({"prediction": torch.eye(4), "target": torch.tensor([0, 1, 2, 0])})
        found += [compute_all([metric], "val", CPU)["val_accuracy"], float(metric.count)]
    return found


def test_a_metric_keeps_its_own_state_and_need_not_have_any(tmp_path: Path) -> None:
    assert run_in_processes(compute_twice, tmp_path, 2) == [[0.75, 4, 0.75, 8], [0.75, 0, 0.75, 0]]


def compute_others(rank: int) -> str:
    metric = Accuracy(name=f"accuracy_{rank}")
    metric.reset()
    try:
        compute_all([metric], "val", CPU)
    except ConflictError as error:
        return str(error)
    return "nothing"


def test_processes_with_other_metrics_are_refused(tmp_path: Path) -> None:
    messages = run_in_processes(compute_others, tmp_path, 2)
    assert messages[0] == (
        "process 1 computes the metrics accuracy_1, and this one accuracy_0; "
        "give all processes the same metrics"
    )
    assert messages[1].startswith("process 0 computes the metrics accuracy_0, and this one accuracy_1")


def gather_odd_things(rank: int) -> bool:
    whole = torch.arange(6.0).reshape(2, 3)
    given = {
        "parts": [part.t() for part in whole.split(1)] * rank,  # share their memory, and are not contiguous
        "half": torch.full((), rank, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 2, dtype=torch.int64),
        "flags": whole > rank,
        "plain": (float("inf"), 2**70, b"ab", None, "é"),
    }
    found = gather(given, CPU)
    parts = [[list(part.shape) for part in each["parts"]] for each in found]
    return (
        process_count() == 2
        and parts == [[], [[3, 1], [3, 1]]]
        and torch.equal(found[1]["parts"][1], whole[1:].t())
        and [each["half"].item() for each in found] == [0, 1]
        and found[0]["half"].dtype == torch.bfloat16
        and found[0]["empty"].shape == (0, 2)
        and torch.equal(found[1]["flags"], whole > 1)
        and found[0]["plain"] == given["plain"]
    )


def test_processes_tell_each_other_tensors_and_plain_data_of_any_size(tmp_path: Path) -> None:
    assert run_in_processes(gather_odd_things, tmp_path, 2) == [True, True]


def test_one_process_hears_itself() -> None:
    value = {"a": [torch.zeros(2)]}
    assert gather(value, CPU)[0] is value
    assert process_count() == 1


def test_what_is_no_plain_data_is_not_told() -> None:
    from argus_core.tensors.processes import _pack

    with pytest.raises(ArgusError, match=r"value\['metric'\] is a function"):
        _pack({"metric": test_one_process_hears_itself})
