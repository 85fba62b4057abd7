"""Plain data comes back from JSON as what it was, and nothing else comes out of JSON."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_data import exactly_equal, plain_values

from argus_core.errors import CheckpointError, CorruptCheckpointError, ParamsError, UnsafeCheckpointError
from argus_core.storage.encoding import decode, describe, encode, tensor_names

pytestmark = pytest.mark.torchfree

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "$tuple $dict $float $int $bytes $path $dtype $device $scalar $tensor $ndarray $new".split()
            ),
            inner
            | st.sampled_from(
                ["inf", "0x10", "YQ==", "float32", "cpu", "int", ["int8", 300], ["float32", {}]]
            ),
            min_size=1,
            max_size=2,
        )
    ),
    max_leaves=8,
)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def numpy() -> Any:
    return pytest.importorskip("numpy")


def through_json(value: object, tensors: dict[str, Any] | None = None) -> Any:
    tensors = {} if tensors is None else tensors
    return decode(json.loads(json.dumps(encode(value, "params", tensors), allow_nan=False)), tensors)


@given(plain_values())
def test_plain_data_come_back_exactly(value: object) -> None:
    assert exactly_equal(through_json(value), value)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ((1, "a"), {"$tuple": [1, "a"]}),
        ({1: "a"}, {"$dict": [[1, "a"]]}),
        ({"$tuple": 1}, {"$dict": [["$tuple", 1]]}),
        (math.inf, {"$float": "inf"}),
        (2**64, {"$int": "0x10000000000000000"}),
        (b"a", {"$bytes": "YQ=="}),
        (Path("runs/a"), {"$path": "runs/a"}),
    ],
)
def test_tags(value: object, encoded: object) -> None:
    assert encode(value, "params", {}) == encoded


def test_the_longest_number_comes_back() -> None:
    value = -(2**14_000 - 1)
    assert through_json(value) == value


def test_a_number_that_python_would_not_print_is_refused_both_ways() -> None:
    with pytest.raises(
        ParamsError, match="^params is an integer of 14,001 bits, and 14,000 is the most; give"
    ):
        encode(2**14_000, "params", {})
    with pytest.raises(UnsafeCheckpointError, match="holds .*0x1000.*, which argus_core does not write"):
        decode({"$int": "0x1" + "0" * 3500}, {})


def test_the_order_of_a_dict_is_kept() -> None:
    assert list(through_json({"stem": 1, "body": 2, "a": 3})) == ["stem", "body", "a"]


def test_a_path_of_another_system_comes_back_as_a_path_of_this_one() -> None:
    assert through_json(PureWindowsPath("runs\\a")) == Path("runs/a")


def test_what_is_not_plain_is_refused_with_the_path_to_it() -> None:
    with pytest.raises(ParamsError, match=r"^params\['loss'\]\[0\] is a function"):
        encode({"loss": (len,)}, "params", {})


def test_tensors_are_put_aside_by_names_that_tell_where_they_were(torch: Any) -> None:
    tensors: dict[str, Any] = {}
    value = {"loss": {"weight": torch.arange(3)}, "means": (torch.ones(()), [torch.zeros(2), 0.5])}
    encoded = encode(value, "params", tensors)
    assert sorted(tensors) == ["params/loss/weight", "params/means/0", "params/means/1/0"]
    assert encoded["loss"] == {"weight": {"$tensor": "params/loss/weight"}}
    assert tensor_names(encoded) == ["params/loss/weight", "params/means/0", "params/means/1/0"]
    decoded = decode(encoded, tensors)
    assert torch.equal(decoded["loss"]["weight"], torch.arange(3))
    assert isinstance(decoded["means"], tuple)


@pytest.mark.parametrize(
    "keys", [("", "%"), (".", "..", "..."), ("a/b", "a%2Fb", "a"), (1, "1"), ("\0", "\ud800", "é")]
)
def test_any_keys_give_tensors_names_of_their_own_that_can_be_stored(
    torch: Any, keys: tuple[Any, ...]
) -> None:
    from argus_core.storage.entry import name_problem

    tensors: dict[str, Any] = {}
    value = {key: {"w": torch.tensor(index)} for index, key in enumerate(keys)}
    encoded = encode(value, "params", tensors)
    assert len(tensors) == len(keys)
    assert [name_problem(name) for name in tensors] == [None] * len(keys)
    decoded = decode(encoded, tensors)
    assert {key: item["w"].item() for key, item in decoded.items()} == {key: i for i, key in enumerate(keys)}


def test_two_tensors_of_one_name_are_refused(torch: Any) -> None:
    tensors = {"params/w": torch.ones(1)}
    with pytest.raises(ParamsError, match="two tensors would be stored as 'params/w'"):
        encode({"w": torch.ones(1)}, "params", tensors)


def test_dtypes_and_devices_come_back(torch: Any) -> None:
    value = [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.device("cuda", 1), torch.device("cpu")]
    assert encode(value, "", {})[3:] == [{"$device": "cuda:1"}, {"$device": "cpu"}]
    assert through_json(value) == value


@pytest.mark.parametrize(
    "name",
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 "
    "complex64 complex128".split(),
)
def test_arrays_come_back_with_their_dtype(torch: Any, numpy: Any, name: str) -> None:
    array = numpy.arange(6).reshape(2, 3).astype(name)
    back = through_json(array)
    assert back.dtype == array.dtype
    assert (back == array).all()


def test_arrays_of_any_layout_come_back(torch: Any, numpy: Any) -> None:
    array = numpy.arange(12.0).reshape(3, 4)
    read_only = array.copy()
    read_only.flags.writeable = False
    for value in (array.T, array[::-1, ::2], read_only, numpy.array(3.0), numpy.zeros((0, 2))):
        back = through_json(value)
        assert back.shape == value.shape
        assert (back == value).all()


@given(data=st.data())
def test_numpy_scalars_come_back_with_their_dtype(data: Any) -> None:
    numpy = pytest.importorskip("numpy")
    name = data.draw(st.sampled_from("int8 int64 uint8 uint64 float16 float32 float64 bool".split()))
    dtype = numpy.dtype(name)
    bits = data.draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
    value = numpy.frombuffer(bits, dtype)[0] if name != "bool" else numpy.bool_(bits[0] % 2)
    back = through_json(value)
    assert type(back) is type(value)
    assert exactly_equal(back.item(), value.item())


@pytest.mark.parametrize(
    "encoded",
    [
        {"$module": "os"},
        {"$tuple": [1], "$dict": []},
        {"$tuple": [1], "a": 1},
        {"$tuple": "ab"},
        {"$dict": ["ab"]},
        {"$dict": [[1, 2, 3]]},
        {"$dict": [[[], 1]]},
        {"$dict": [[1, 2], [1, 3]]},
        {"$dict": [[{"$int": hex((2**61 - 1) * count)}, 0] for count in range(8, 8 + 257)]},
        {"$dict": [[{"$tuple": [{"$int": hex((2**61 - 1) * count)}]}, 0] for count in range(8, 8 + 257)]},
        {"$float": "1.0"},
        {"$int": "10"},
        {"$int": 10},
        {"$bytes": "!"},
        {"$device": "no such device"},
        {"$device": "spaceship:1"},
        {"$device": "cuda:255"},
        {"$device": "cuda:256"},
        {"$device": "cpu:999"},
        {"$scalar": ["object", 1]},
        {"$scalar": ["float32", "1"]},
        {"$scalar": ["float32"]},
        {"$scalar": ["int8", 300]},
        {"$scalar": [["int8"], 1]},
    ],
)
def test_what_encode_does_not_write_is_refused(torch: Any, numpy: Any, encoded: object) -> None:
    with pytest.raises(
        UnsafeCheckpointError, match=r"the manifest holds .*, which argus_core does not write"
    ):
        decode({"a": [encoded]}, {})


def test_a_dtype_is_not_an_attribute_of_torch(torch: Any) -> None:
    for name in ("float33", "nn", "load", "_dynamo"):
        with pytest.raises(CheckpointError, match=rf"torch .* has no dtype '{name}'; upgrade torch"):
            decode({"$dtype": name}, {})
    assert torch.float16 is decode({"$dtype": "float16"}, {})


def test_missing_tensor_is_corruption() -> None:
    with pytest.raises(
        CorruptCheckpointError, match="names the tensor 'params/w', which the checkpoint does not hold"
    ):
        decode({"$tensor": "params/w"}, {})


@given(json_values)
def test_decode_and_describe_take_any_json(encoded: Any) -> None:
    pytest.importorskip("torch")
    with contextlib.suppress(CheckpointError):
        decode(encoded, {})
    json.dumps(describe(encoded))


def test_numpy_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    for encoded in ({"$scalar": ["float32", 1.0]}, {"$ndarray": "params/w"}):
        with pytest.raises(CheckpointError, match="holds numpy arrays or scalars; pip install numpy"):
            decode(encoded, {})


def test_decode_imports_nothing() -> None:
    before = set(sys.modules)
    decode({"$path": "os"}, {})
    with pytest.raises(UnsafeCheckpointError, match=r"\$object"):
        decode({"$object": "antigravity"}, {})
    assert set(sys.modules) == before


def test_describe_shows_each_tag() -> None:
    encoded = {
        "tuple": {"$tuple": [1, {"$float": "nan"}]},
        "dict": {"$dict": [[1, "a"], [{"$tuple": [1, 2]}, "b"], ["$c", "c"]]},
        "int": {"$int": "0x10"},
        "bytes": {"$bytes": "YWI="},
        "path": {"$path": "runs/a"},
        "dtype": {"$dtype": "float32"},
        "device": {"$device": "cuda:0"},
        "scalar": {"$scalar": ["float32", 0.5]},
        "tensor": {"$tensor": "params/w"},
        "array": {"$ndarray": "params/v"},
    }
    assert describe(encoded) == {
        "tuple": (1, "nan"),
        "dict": {"1": "a", "(1, 2)": "b", "'$c'": "c"},
        "int": "0x10",
        "bytes": "<2 bytes>",
        "path": "runs/a",
        "dtype": "torch.float32",
        "device": "cuda:0",
        "scalar": 0.5,
        "tensor": "<tensor params/w>",
        "array": "<ndarray params/v>",
    }


def test_describe_escapes_what_would_act_on_a_terminal() -> None:
    assert describe({"a\x1b[2J": "b\x07"}) == {"a\\x1b[2J": "b\\x07"}


def test_describe_shows_what_decode_refuses_as_it_is() -> None:
    for encoded in ({"$module": "os"}, *({"$dict": [pair]} for pair in ("a", "ab", None, 1, [1], {"a": 1}))):
        assert describe(encoded) == encoded
