"""Parameters are compared with the types of a factory's signature, and lists stand for tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy
import pytest
import torch
from networks import Net, batches, make_model
from torch import Tensor, nn

import argus_core
from argus_core import ParamsError, load_model
from argus_core.registry.arguments import arguments_for
from argus_core.registry.factory import call_factory
from argus_core.registry.registry import components


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        yield


def annotated(
    switch: bool = False,
    count: int | None = None,
    rate: float = 0.1,
    text: str = "",
    folder: Path | None = None,
    choice: Literal["a", "b"] = "a",
    weight: Tensor | None = None,
    number_or_tensor: float | Tensor = 0.1,
    other: Callable[[], int] | int = 3,
) -> None: ...


def plain(switch=False, rate=0.1, padding=0, text="a", **others): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("switch", "no", "switch is 'no', a string; give true or false"),
        ("switch", 2, "switch is 2, a number; give true or false"),
        ("switch", 0.5, "switch is 0.5, a number; give true or false"),
        ("count", "3", "count is '3', a string; give an integer"),
        ("rate", "1e-3 ", "rate is '1e-3 ', a string; give a number"),
        ("text", 3, "text is 3, a number; give a string"),
        ("text", True, "text is True, a boolean; give a string"),
        ("folder", 3, "folder is 3, a number; give a path"),
        ("choice", 1.5, "choice is 1.5, a number; give a string"),
        ("weight", "none", "weight is 'none', a string; give a list of numbers, or a tensor"),
        ("weight", 3, "weight is 3, a number; give a list of numbers, or a tensor"),
        (
            "weight",
            [1, [2]],
            r"weight is \[1, \[2\]\], which cannot become a tensor \(.*\); give a list of",
        ),
        ("weight", ["a"], r"weight is \['a'\], which cannot become a tensor"),
        ("number_or_tensor", "fast", "number_or_tensor is 'fast', a string; give a number"),
    ],
)
def test_value_of_another_type_is_told_with_what_is_taken(name: str, value: Any, problem: str) -> None:
    with pytest.raises(ParamsError, match=f"^loss 'x': {problem}"):
        arguments_for("loss 'x'", annotated, {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("switch", value) for value in (True, 0, 1, None)),
        *(("count", value) for value in (3, None, 2.0, [1], True)),
        *(("rate", value) for value in (1, 0.5, float("inf"), torch.tensor(1.0), False)),
        *(("text", value) for value in ("", None)),
        *(("folder", value) for value in ("a", Path("a"))),
        *(("other", value) for value in ("anything", True, [1])),
        ("number_or_tensor", [1.0]),
        ("unknown", "no"),
    ],
)
def test_value_that_may_be_meant_is_left_as_it_is(name: str, value: Any) -> None:
    assert arguments_for("loss 'x'", annotated, {name: value})[name] is value


def test_defaults_of_others_tell_no_types() -> None:
    left = {"switch": "batch", "rate": "auto", "padding": "same", "text": 3, "more": "no"}
    assert arguments_for("loss 'x'", plain, left) == left


def test_default_of_a_part_of_torch_tells_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "__module__", "torch.optim.plain")
    for name, value in (("switch", "no"), ("rate", "auto"), ("rate", True)):
        with pytest.raises(ParamsError, match=f"{name} is "):
            arguments_for("loss 'x'", plain, {name: value})
    left = {"padding": "same", "text": 3, "more": "no"}
    assert arguments_for("loss 'x'", plain, left) == left


class Exact:
    exact_types = True

    def __init__(self, rate: float = 1.0, switch=False) -> None:  # type: ignore[no-untyped-def]
        self.rate = rate


@pytest.mark.parametrize(("name", "value"), [("rate", True), ("rate", [1.0]), ("switch", "no")])
def test_annotations_and_defaults_hold_where_a_class_says_that_they_are_exact(name: str, value: Any) -> None:
    class Inherits(Exact):
        """Has the same signature."""

    class Other(Exact):
        def __init__(self, rate: float = 1.0, switch=False) -> None:  # type: ignore[no-untyped-def]
            self.rate = rate

    for kind in (Exact, Inherits):
        with pytest.raises(ParamsError, match=f"loss 'x': {name} is "):
            arguments_for("loss 'x'", kind, {name: value})
    assert arguments_for("loss 'x'", Other, {name: value}) == {name: value}


BUILTIN = [
    component
    for component in components()
    if component.provider == "argus-torch" and component.target.startswith("argus_core.")
]


@pytest.mark.parametrize("component", BUILTIN, ids=lambda component: component.name)
def test_built_in_part_takes_no_list_for_a_number_or_a_flag(component: argus_core.Component) -> None:
    factory = component.load()
    needed: dict[str, Any] = {"dir_path": "a", "file_path": "a", "steps": 2, "chunks": 2}
    needed |= {"max_norm": 1.0, "clip_value": 1.0}
    parameters = inspect.signature(factory, eval_str=True).parameters
    for name, parameter in parameters.items():
        if parameter.annotation in (int, float, bool):
            params = {each: value for each, value in needed.items() if each in parameters} | {name: [1]}
            with pytest.raises(ParamsError, match=name):
                call_factory(f"{component.kind} {component.name!r}", factory, (), params)


def test_part_of_torch_takes_no_boolean_for_a_number() -> None:
    with pytest.raises(ParamsError, match="optimizer 'AdamW': lr is True, a boolean; give a number"):
        make_model(optimizer=("AdamW", {"lr": True}))


@pytest.mark.parametrize("value", [10**400, [0.9, -(10**400)], {"a": ({"b": 10**400},)}])
def test_integer_beyond_all_floats_is_refused(value: Any) -> None:
    with pytest.raises(
        ParamsError, match=r"optimizer 'AdamW': (lr|betas) is an integer of 1,3\d\d bits, larger than the"
    ):
        arguments_for("optimizer 'AdamW'", torch.optim.AdamW, {"lr" if value == 10**400 else "betas": value})


def test_rate_beyond_all_floats_is_refused_when_the_model_is_built() -> None:
    with pytest.raises(ParamsError, match="optimizer 'AdamW': lr is an integer of 1,329 bits"):
        make_model(optimizer=("AdamW", {"lr": 10**400}))


def test_text_is_no_switch_of_an_optimizer() -> None:
    with pytest.raises(
        ParamsError, match="optimizer 'AdamW': amsgrad is 'None', a string; give true or false"
    ):
        make_model(optimizer=("AdamW", {"amsgrad": "None"}))


@pytest.mark.parametrize(
    ("name", "value"), [("reduction", [1]), ("ignore_index", [[1]]), ("label_smoothing", {})]
)
def test_part_of_torch_takes_no_list_for_a_number_or_a_string(name: str, value: Any) -> None:
    with pytest.raises(ParamsError, match=rf"loss 'CrossEntropyLoss': {name} is [\[{{].*; give a"):
        make_model(loss=("CrossEntropyLoss", {name: value}))


# Lists for tensors.


def losses_that_take_tensors() -> list[tuple[str, str]]:
    with argus_core.isolated_registry(builtins=True):
        found = []
        for component in components("loss"):
            for name in ("weight", "pos_weight"):
                if arguments_for("", component.load(), {name: [1.0]})[name] != [1.0]:
                    found.append((component.name, name))
    return found


def test_every_loss_of_torch_with_weights_is_found() -> None:
    known = (
        "BCELoss BCEWithLogitsLoss CrossEntropyLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss".split()
    )
    assert {(name, "weight") for name in known} <= set(losses_that_take_tensors())
    assert ("BCEWithLogitsLoss", "pos_weight") in losses_that_take_tensors()


@pytest.mark.parametrize("given", [[1, 2, 5], (1.0, 2.0, 5.0), numpy.array([1.0, 2.0, 5.0])], ids=repr)
@pytest.mark.parametrize(
    ("loss", "name"),
    [
        each for each in losses_that_take_tensors() if each[0] != "LinearCrossEntropyLoss"
    ],  # it is a layer, too
)
def test_list_of_weights_is_a_tensor_of_the_default_dtype(loss: str, name: str, given: Any) -> None:
    model = make_model(loss=(loss, {name: given}))
    weight = getattr(model.loss, name)
    assert torch.equal(weight, torch.tensor([1.0, 2.0, 5.0]))
    assert list(model.params["loss"][1][name]) == list(given)


def test_weights_in_a_list_train_as_those_in_a_tensor_do() -> None:
    def trained(weight: Any) -> dict[str, float]:
        return make_model(loss=("CrossEntropyLoss", {"weight": weight})).fit(batches(), num_epochs=2, seed=0)

    assert trained([1, 2, 5]) == trained(torch.tensor([1.0, 2.0, 5.0]))


def test_params_stay_as_they_were_given_through_a_checkpoint(tmp_path: Path) -> None:
    make_model(loss=("CrossEntropyLoss", {"weight": [1, 2, 5]})).save(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors", device="cpu")
    assert loaded.params["loss"] == ("CrossEntropyLoss", {"weight": [1, 2, 5]})
    assert loaded.loss.weight.tolist() == [1, 2, 5]


OFFSET = torch.tensor(0.0)


class Picked(nn.Module):
    """A part of another package that takes indices."""

    def __init__(self, columns: Tensor, scale: Tensor | None = None, offset: Tensor = OFFSET) -> None:
        super().__init__()
        self.columns, self.scale, self.offset = columns, scale, offset


@pytest.mark.parametrize(
    ("name", "given", "dtype"),
    [
        ("columns", [0, 2], torch.int64),
        ("columns", numpy.array([0, 2], dtype="int32"), torch.int32),
        ("columns", [[0, 2], [1, 1]], torch.int64),
        ("scale", [1, 0.5], torch.float32),
        ("scale", numpy.array([1.0, 0.5]), torch.float32),
        ("offset", [1, 2], torch.float32),
    ],
)
def test_integers_for_a_tensor_of_another_package_stay_integers_unless_its_default_is_of_floats(
    name: str, given: Any, dtype: torch.dtype
) -> None:
    assert arguments_for("", Picked, {name: given})[name].dtype is dtype


def test_integers_for_weights_that_a_class_derived_from_torchs_passes_on_are_floats() -> None:
    class Smooth(nn.CrossEntropyLoss):
        def __init__(self, weight: Tensor | None = None, classes: Tensor | None = None) -> None:
            super().__init__(weight=weight)

    class Same(nn.NLLLoss):
        pass

    arguments = arguments_for("", Smooth, {"weight": [1, 2], "classes": [0, 1]})
    assert (arguments["weight"].dtype, arguments["classes"].dtype) == (torch.float32, torch.int64)
    assert arguments_for("", Same, {"weight": [1, 2]})["weight"].dtype is torch.float32


def test_plugin_that_annotates_a_tensor_takes_a_list() -> None:
    class Weighted(nn.Module):
        def __init__(
            self, weight: Tensor, mask: Tensor | None = None, sizes: list[int] | Tensor = ()
        ) -> None:  # type: ignore[assignment]
            super().__init__()
            self.weight, self.mask, self.sizes = weight, mask, sizes

    arguments = arguments_for("", Weighted, {"weight": [[1, 2], [3, 4]], "mask": [True, False], "sizes": [1]})
    assert torch.equal(arguments["weight"], torch.tensor([[1, 2], [3, 4]]))
    assert torch.equal(arguments["mask"], torch.tensor([True, False]))
    assert arguments["sizes"] == [1]
