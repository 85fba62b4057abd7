"""Predictions for a whole loader are those of the model, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Net, batches
from torch import Tensor, nn

import argus_core
from argus_core import Model
from argus_core.data.files import SUFFIXES, write_tensors
from argus_core.errors import ArgusError, BuildError
from argus_core.runs.prediction import predict_all


class Several(nn.Module):
    """Has several outputs, in a container of the asked kind."""

    def __init__(self, kind: str = "tuple") -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.kind = kind

    def forward(self, input: Tensor) -> Any:
        once, twice = input * self.scale, input * 2
        return {"once": once, "twice": twice} if self.kind == "dict" else (once, [twice])


class Mean(nn.Module):
    """Predicts one number for the whole batch."""

    def forward(self, input: Tensor) -> Tensor:
        return input.mean()


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        for name, network in (("net", Net), ("several", Several), ("mean", Mean)):
            argus_core.register("nn_module", name, network)
        yield


def model(nn_module: Any = "net", **params: Any) -> Model:
    return Model(
        {"nn_module": nn_module, "prediction_transform": ("Softmax", {"dim": 1}), "device": "cpu", **params}
    )


def test_predictions_are_those_of_the_model_in_order() -> None:
    net = model()
    tensors, values = predict_all(net, [input for input, _ in batches()])
    assert torch.equal(tensors["prediction"], torch.cat([net.predict(input) for input, _ in batches()]))
    assert (set(tensors), values) == ({"prediction"}, {})


def note(error: BaseException) -> str:
    (only,) = error.__notes__  # type: ignore[attr-defined]
    return str(only)


@pytest.mark.parametrize(
    ("transform", "raised"),
    [
        (("Flatten", {"start_dim": 10**15}), IndexError),
        (("Flatten", {"start_dim": float("nan")}), TypeError),
        (("Softmax", {"dim": 99}), IndexError),
        (("ReLU", {"inplace": torch.zeros(3)}), RuntimeError),
        (("Unflatten", {"dim": 1, "unflattened_size": (10**9, 10**9)}), RuntimeError),
    ],
)
@pytest.mark.parametrize(
    "predict",
    [
        lambda net: net.predict(torch.zeros(4, 4)),
        lambda net: predict_all(net, batches()),
        lambda net: predict_all(net, batches(), ["accuracy"]),
    ],
    ids=["a batch", "a loader", "a loader with metrics"],
)
def test_exception_of_a_transform_names_it_and_says_how_to_do_without(
    transform: Any, raised: type[Exception], predict: Callable[[Model], Any]
) -> None:
    net = model(prediction_transform=transform, loss="CrossEntropyLoss")
    with pytest.raises(raised) as caught:
        predict(net)
    assert note(caught.value).startswith(f"raised by the prediction transform {transform[0]}, ")
    assert "4) float32" in note(caught.value)
    assert note(caught.value).endswith(
        "; check its parameters; load_model(path, prediction_transform=None) leaves it out"
    )


def test_input_of_another_shape_names_the_layer() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        model().predict(torch.zeros(2, 5))
    assert (
        note(caught.value)
        == "raised by the network's layer 'hidden' (Linear(in_features=4, out_features=8, bias=True)), "
        "from the input (2, 5) float32"
    )


def test_exception_of_a_loader_of_inputs_is_the_loaders() -> None:
    class Broken(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            raise OSError("truncated image")

    with pytest.raises(OSError, match="truncated image") as caught:
        predict_all(model(), torch.utils.data.DataLoader(Broken()))
    assert note(caught.value) == "raised by the loader, in dataset Broken"


def test_known_targets_stand_beside_the_predictions() -> None:
    tensors, _ = predict_all(model(), batches())
    assert torch.equal(tensors["target"], torch.cat([target for _, target in batches()]))
    assert len(tensors["prediction"]) == len(tensors["target"]) == 21


def test_batch_of_one_tensor_in_a_list_is_an_input() -> None:
    tensors, _ = predict_all(model(), [[input] for input, _ in batches()])
    assert set(tensors) == {"prediction"}


def test_metrics_are_those_of_a_validation() -> None:
    net = model(loss="CrossEntropyLoss")
    tensors, values = predict_all(net, batches(), ["accuracy"])
    expected = net.validate(batches(), ["accuracy"])
    assert values == {"loss": expected["val_loss"], "accuracy": expected["val_accuracy"]}
    right = (tensors["prediction"].argmax(1) == tensors["target"]).float().mean()
    assert values["accuracy"] == pytest.approx(float(right))


def test_predictions_are_the_same_with_metrics() -> None:
    net = model(loss="CrossEntropyLoss")
    with_metrics, without = (predict_all(net, batches(), metrics)[0] for metrics in (["accuracy"], None))
    assert all(torch.equal(with_metrics[name], without[name]) for name in ("prediction", "target"))


def test_metrics_need_the_loss() -> None:
    with pytest.raises(BuildError, match="the model has no loss, so it cannot validate"):
        predict_all(model(), batches(), ["accuracy"])


def test_several_outputs_are_named_by_their_place() -> None:
    net = model("several", prediction_transform=None)
    tensors, _ = predict_all(net, [torch.ones(2, 3), torch.zeros(1, 3)])
    assert {name: len(tensor) for name, tensor in tensors.items()} == {"prediction.0": 3, "prediction.1.0": 3}


def test_several_outputs_are_named_by_their_key() -> None:
    net = model(("several", {"kind": "dict"}), prediction_transform=None)
    assert set(predict_all(net, [torch.ones(2, 3)])[0]) == {"prediction.once", "prediction.twice"}


def test_predictions_that_cannot_be_put_together_are_refused() -> None:
    with pytest.raises(
        ArgusError, match=r"cannot be concatenated .*; predict batch by batch with model\.predict"
    ):
        predict_all(model("mean", prediction_transform=None), [torch.ones(2, 3)])


class Sort(nn.Module):
    """Makes a tensor of the asked sort."""

    def __init__(self, sort: str) -> None:
        super().__init__()
        self.sort = sort

    def forward(self, input: Tensor) -> Any:
        turned = torch.complex(input, input).conj()
        sorts: dict[str, Callable[[], Tensor]] = {
            "sparse_coo": input.to_sparse,
            "nested": lambda: torch.nested.nested_tensor([*input]),
            "conj": lambda: turned,
            "neg": lambda: turned.imag,
            "half": lambda: turned.to(torch.complex32),
        }
        return sorts[self.sort]()


@pytest.mark.parametrize("sort", ["sparse_coo", "nested"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_predictions_of_a_sort_that_no_file_holds_are_refused_at_the_first_batch(sort: str) -> None:
    argus_core.register("transform", "sort")(Sort)
    with pytest.raises(
        ArgusError, match=f"prediction is a {sort} tensor, and a file holds dense tensors only; choose"
    ):
        predict_all(model(prediction_transform=("sort", {"sort": sort})), batches())


@pytest.mark.parametrize("sort", ["conj", "neg", "half"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_complex_predictions_are_written_whole(sort: str, suffix: str, tmp_path: Path) -> None:
    argus_core.register("transform", "sort")(Sort)
    net = model(prediction_transform=("sort", {"sort": sort}))
    (input, _), *_ = batches()
    tensors, _ = predict_all(net, [input])
    assert torch.equal(
        tensors["prediction"], net.predict(input).resolve_conj().to(tensors["prediction"].dtype)
    )
    write_tensors(tmp_path / f"predictions{suffix}", tensors)


def test_loader_without_batches_is_refused() -> None:
    with pytest.raises(ArgusError, match="the loader gave no batches; give it data to predict on"):
        predict_all(model(), [])
