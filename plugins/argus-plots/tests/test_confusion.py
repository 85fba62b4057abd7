"""The picture of the confusion matrix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from torch import Tensor, distributed, multiprocessing, nn
from torch.utils.data import DataLoader, TensorDataset

import argus_core
from argus_core import Model, ParamsError
from argus_plots import confusion
from argus_plots.confusion import ConfusionMatrix
from argus_plots.drawing import draw_matrices


class Told(nn.Module):
    """Predicts what its input says: (batch, ...) -> (batch, 3, ...), one-hot."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, classes: Tensor) -> Tensor:
        return nn.functional.one_hot(classes, 3).movedim(-1, 1) * self.scale


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "told", Told)
        argus_core.register("nn_module", "identity", lambda: nn.Linear(1, 1))
        yield


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list to which the arguments of each drawing are added."""
    calls: list[Any] = []

    def draw(*arguments: Any) -> Any:
        calls.append(arguments)
        return draw_matrices(*arguments)

    monkeypatch.setattr(confusion, "draw_matrices", draw)
    return calls


def fit(
    callback: ConfusionMatrix, val_loader: Any, loss: Any = "CrossEntropyLoss", network: str = "told"
) -> None:
    model = Model({"nn_module": network, "loss": loss, "optimizer": ("SGD", {"lr": 0.0}), "device": "cpu"})
    loader = next(iter(val_loader.values())) if isinstance(val_loader, dict) else val_loader
    model.fit(loader, val_loader, num_epochs=2, callbacks=callback)


def test_counts_are_those_of_the_newest_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = drawn(monkeypatch)
    batches = [
        (torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])),
        (torch.tensor([0]), torch.tensor([2])),
    ]
    fit(ConfusionMatrix(tmp_path / "a.png", classes=["cat", "dog", "$bird"]), batches)
    assert calls == [({"val": [[1, 0, 0], [0, 1, 1], [1, 0, 1]]}, ["cat", "dog", "$bird"], "epoch 2")]
    assert imread(str(tmp_path / "a.png")).size


def test_each_validation_set_has_its_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = drawn(monkeypatch)
    one, two = (torch.tensor([0, 1]), torch.tensor([0, 1])), (torch.tensor([2, 2]), torch.tensor([0, 2]))
    fit(ConfusionMatrix(tmp_path / "a.png"), {"clean": [one], "noisy": [two, two]})
    assert calls[-1][0] == {
        "val_clean": [[1, 0, 0], [0, 1, 0], [0, 0, 0]],
        "val_noisy": [[0, 0, 2], [0, 0, 0], [0, 0, 2]],
    }


def test_ignored_targets_and_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = drawn(monkeypatch)
    batch = (torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0, -100], [1, 2]]))
    fit(ConfusionMatrix(tmp_path / "a.png", ignore_index=2), [batch])
    assert calls[-1][0] == {"val": [[1, 0, 0], [0, 0, 1], [0, 0, 0]]}


def test_binary_predictions_are_compared_with_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = drawn(monkeypatch)

    class Same(nn.Module):
        """(batch, 1) -> (batch,)"""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits: Tensor) -> Tensor:
            return logits.squeeze(1) * self.scale

    argus_core.register("nn_module", "same", Same)
    batch = (torch.tensor([[-1.0], [2.0], [0.3]]), torch.tensor([0.0, 1.0, 0.0]))
    fit(ConfusionMatrix(tmp_path / "a.png", threshold=0), [batch], "BCEWithLogitsLoss", "same")
    assert calls[-1][0] == {"val": [[1, 1], [0, 1]]}


def test_regression_is_refused_in_one_sentence(tmp_path: Path) -> None:
    batch = (torch.randn(4, 1), torch.randn(4, 3))
    argus_core.register("nn_module", "wide", lambda: nn.Linear(1, 3))
    with pytest.raises(ParamsError, match=r"got predictions \(4, 3\) and targets \(4, 3\); it takes"):
        fit(ConfusionMatrix(tmp_path / "a.png"), [batch], "MSELoss", "wide")


def test_other_number_of_names_is_refused(tmp_path: Path) -> None:
    batch = (torch.tensor([0, 1]), torch.tensor([0, 1]))
    with pytest.raises(ParamsError, match="has 2 names, and the network predicts 3 classes; name each"):
        fit(ConfusionMatrix(tmp_path / "a.png", classes=["a", "b"]), [batch])


def test_other_number_of_targets_is_refused_in_one_sentence(tmp_path: Path) -> None:
    argus_core.register("nn_module", "wide", lambda: nn.Linear(1, 1))
    with (
        pytest.warns(UserWarning, match="target size"),
        pytest.raises(ParamsError, match=r"predictions \(4, 1\) and targets \(4, 3\)"),
    ):
        fit(ConfusionMatrix(tmp_path / "a.png"), [(torch.randn(4, 1), torch.randn(4, 3))], "MSELoss", "wide")


def test_names_are_those_of_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = drawn(monkeypatch)

    class Animals(TensorDataset):
        classes = ("cat", "dog", "bird")

    loader = DataLoader(Animals(torch.tensor([0, 1]), torch.tensor([0, 2])))
    fit(ConfusionMatrix(tmp_path / "a.png"), loader)
    assert calls[-1][1] == ["cat", "dog", "bird"]


@pytest.mark.parametrize("classes", ["cat", [1, 2]])
def test_names_are_a_list(classes: Any) -> None:
    with pytest.raises(ParamsError, match=r"classes of confusion_matrix is .*; give a list of names"):
        ConfusionMatrix("a.png", classes=classes)


def test_many_classes_are_drawn_without_names() -> None:
    counts = [[int(row == column) for column in range(100)] for row in range(100)]
    axis = draw_matrices({"val": counts}, [*map(str, range(100))], "epoch 1").axes[0]
    assert not axis.texts
    assert "0" not in [label.get_text() for label in axis.get_yticklabels()][50:]


def test_many_sets_are_drawn_in_rows_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = drawn(monkeypatch)
    batch = (torch.tensor([0]), torch.tensor([0]))
    fit(ConfusionMatrix(tmp_path / "a.png"), {f"set{number}": [batch] for number in range(100)})
    matrices, _, title = calls[-1]
    assert list(matrices) == [f"val_set{number}" for number in range(12)]
    assert title == "epoch 2; 88 more validation sets are not drawn"
    height, width, _ = imread(str(tmp_path / "a.png")).shape
    assert max(height, width) <= 3200


class Row(list[int]):
    """A row that counts how often it is gone through."""

    count = 0

    def __iter__(self) -> Iterator[int]:
        self.count += 1
        return super().__iter__()


def test_rows_are_not_gone_through_for_each_cell() -> None:
    counts: list[list[int]] = [Row([1] * 100) for _ in range(100)]
    draw_matrices({"val": counts}, [*map(str, range(100))], "epoch 1")
    assert all(row.count < 10 for row in counts if isinstance(row, Row))


def test_run_without_validation_draws_nothing(tmp_path: Path) -> None:
    model = Model(
        {"nn_module": "told", "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1}), "device": "cpu"}
    )
    model.fit(
        [(torch.tensor([0]), torch.tensor([0]))], num_epochs=1, callbacks=ConfusionMatrix(tmp_path / "a.png")
    )
    assert not (tmp_path / "a.png").exists()


def draw_in_processes(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=3)
    with pytest.MonkeyPatch.context() as monkeypatch:
        calls = drawn(monkeypatch)
        several = (torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2]))
        fit(ConfusionMatrix(folder / "a.png"), [several, (torch.tensor([0]), torch.tensor([2]))])
    distributed.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps([matrices for matrices, *_ in calls]))


def test_counts_of_several_processes_are_added(tmp_path: Path) -> None:
    multiprocessing.start_processes(draw_in_processes, (tmp_path,), nprocs=3, start_method="fork")
    calls = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    assert calls == [[{"val": [[1, 0, 0], [0, 1, 1], [1, 0, 1]]}], [], []]
