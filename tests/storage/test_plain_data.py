"""What is plain data, and what the message says of what is not."""

from __future__ import annotations

import functools
import pathlib
import sys
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import pytest
from hypothesis import given
from plain_data import plain_values

from argus_core.errors import ParamsError
from argus_core.storage.plain_data import MAX_LEVELS, check_plain

pytestmark = pytest.mark.torchfree

Point = namedtuple("Point", "x y")


class Weights:
    """Called like a function."""

    def __call__(self) -> None: ...


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def numpy() -> Any:
    return pytest.importorskip("numpy")


def refused(value: object, match: str) -> None:
    with pytest.raises(ParamsError, match=match):
        check_plain(value)


@given(plain_values())
def test_plain_data_pass(value: object) -> None:
    check_plain(value)


def test_tensors_dtypes_and_devices_pass(torch: Any) -> None:
    check_plain([torch.ones(2), torch.float16, torch.device("cuda:1"), torch.tensor(1, dtype=torch.bool)])


def test_numpy_arrays_and_scalars_of_numbers_pass(numpy: Any) -> None:
    check_plain(
        [numpy.arange(3), numpy.zeros(2, complex), numpy.float16(1), numpy.bool_(True), numpy.uint64(3)]
    )


@pytest.mark.parametrize("function", [len, refused, lambda: None, "".join, functools.partial(len)])
def test_function_is_refused_with_the_path_to_it(function: object) -> None:
    refused(
        {"loss": {"weight_fn": function}},
        r"^params\['loss'\]\['weight_fn'\] is a function; register it and choose it by name: a "
        r"checkpoint keeps no code, so give the name, and let the constructor choose by it$",
    )


def test_class_is_refused() -> None:
    refused(
        {"nn_module": Weights},
        r"^params\['nn_module'\] is the class Weights; register it by argus_core\.register\('nn_module', "
        r"'Weights', Weights\) and choose it by name: \{'nn_module': 'Weights'\}$",
    )


def test_kind_of_a_prediction_transform_is_told() -> None:
    refused(
        {"prediction_transform": (Weights(), {})},
        r"an object of the class Weights; register the class by argus_core\.register\('transform', 'Weights'",
    )


def test_callable_object_is_refused() -> None:
    refused([Weights()], r"^params\[0\] is an object of the class Weights; register the class and choose")


def test_an_optimizer_that_is_built_is_refused_with_its_name(torch: Any) -> None:
    refused(
        {"optimizer": torch.optim.SGD([torch.zeros(1)])},
        r"is an object of the class SGD; choose it by name: \{'optimizer': 'SGD'\}$",
    )


@pytest.mark.parametrize(
    ("value", "plain"), [(OrderedDict(), "dict"), (defaultdict(list), "dict"), (Point(1, 2), "tuple")]
)
def test_subclass_of_plain_data_is_refused_since_it_would_come_back_as_another_type(
    value: object, plain: str
) -> None:
    refused(
        {"a": (value,)}, rf"^params\['a'\]\[0\] is of type \w+, which would come back as {plain}; convert it"
    )


@pytest.mark.parametrize("value", [{1, 2}, 1j, object(), range(3), bytearray()])
def test_anything_else_is_refused_with_what_is_plain(value: object) -> None:
    refused(value, rf"^params is of type {type(value).__name__}; plain data are numbers, strings, booleans")


@pytest.mark.parametrize("key", [b"a", pathlib.PurePosixPath(), (1, (2, b"b")), frozenset()])
def test_key_of_another_type_is_refused(key: object) -> None:
    refused({"a": {key: 1}}, r"^params\['a'\] has the key .* of type \w+; keys are strings, numbers")


def test_the_caller_says_what_the_value_is_called() -> None:
    with pytest.raises(ParamsError, match=r"^the state of 'ema'\[0\] is of type set"):
        check_plain([set()], where="the state of 'ema'")


@pytest.mark.parametrize("around", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_nesting_is_limited(around: Any) -> None:
    value: object = 1
    for _ in range(MAX_LEVELS):
        value = around(value)
    check_plain(value)
    refused(around(value), rf"is nested deeper than {MAX_LEVELS} levels, or holds itself")


def test_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    refused(value, "or holds itself .*; make it flatter")


@pytest.mark.parametrize(
    "value", [2**14_000, -(2**14_000), (2**20_000,), {2**14_000: 1}, {(1, 2**14_000): 1}]
)
def test_integer_that_no_message_could_hold_is_refused(value: object) -> None:
    refused({"a": value}, r"^params\['a'\].* (of 14,001 bits|of 20,001 bits|the key of too many bits)")


@pytest.mark.parametrize("value", [{"k" * 1001: 1}, [{("k" * 1001, 2): 1}]], ids=["by itself", "in a tuple"])
def test_key_that_is_too_long_is_refused(value: Any) -> None:
    with pytest.raises(ParamsError, match="has a key of 1,001 characters; give it at most 1,000") as caught:
        check_plain(value)
    assert len(str(caught.value)) < 200
    check_plain({"k" * 1000: 1})


def test_key_may_not_be_nested_without_end() -> None:
    key: tuple[object, ...] = ()
    for _ in range(MAX_LEVELS):
        key = (key,)
    refused({key: 1}, "has the key .* of type tuple")


def test_parameter_is_refused(torch: Any) -> None:
    refused(
        [torch.nn.Parameter(torch.ones(1))],
        r"is of type Parameter, which would come back as Tensor; give its",
    )


def test_tensor_that_requires_grad_is_refused(torch: Any) -> None:
    refused(
        {"w": torch.ones(1, requires_grad=True)}, r"^params\['w'\] requires grad, and would come back without"
    )


def test_module_is_refused(torch: Any) -> None:
    refused({"nn_module": torch.nn.ReLU()}, r"is an object of the class ReLU; register the class")


def test_tensor_without_values_is_refused(torch: Any) -> None:
    refused(
        {"weight": torch.empty(2, device="meta")},
        r"^params\['weight'\] is on the meta device and has no values",
    )


def test_sparse_tensor_is_refused(torch: Any) -> None:
    refused([torch.eye(2).to_sparse()], r"is not a dense tensor but torch.sparse_coo; store its parts")


def test_numpy_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    check_plain({"a": [1]})
    refused(object(), "is of type object")


def test_array_of_anything_but_numbers_is_refused(numpy: Any) -> None:
    refused([numpy.array(["a"])], r"^params\[0\] is of type ndarray and dtype <U1; plain data are")
    refused([numpy.array([object()])], r"dtype object; plain data are")


def test_array_in_another_byte_order_is_refused(numpy: Any) -> None:
    order = ">" if sys.byteorder == "little" else "<"
    refused([numpy.zeros(2, f"{order}f4")], rf"dtype {order}f4; plain data are")


def test_numpy_scalar_without_a_torch_dtype_is_refused(numpy: Any) -> None:
    refused([numpy.longdouble(1)], r"is of type longdouble and dtype float\d+; plain data are")
    refused([numpy.datetime64("2020-01-01")], r"is of type datetime64 and dtype datetime64.*; plain data are")
