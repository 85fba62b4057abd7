"""Tensors in data files, in each format."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from argus_core.data.files import SUFFIXES, check_writable, is_data_file, read_dataset, write_tensors
from argus_core.errors import ArgusError

INPUT = np.arange(6, dtype=np.float64).reshape(3, 2)
TARGET = np.array([0, 1, 2], dtype=np.uint16)


def read(path: Path) -> tuple[Tensor, ...]:
    return read_dataset(path).tensors


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("data", "is_file"),
    [("a.npy", True), ("b/c.NPZ", True), ("x.csv", True), ("digits", False), ("a.toml", False)],
)
def test_data_file_is_told_from_a_name_by_its_suffix(data: str, is_file: bool) -> None:
    assert is_data_file(data) is is_file


# Reading.


def test_npy_file_holds_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", INPUT)
    [input] = read(tmp_path / "a.npy")
    assert input.dtype == torch.float32
    assert input.tolist() == INPUT.tolist()


def test_npz_file_holds_inputs_and_targets(tmp_path: Path) -> None:
    input, target = read(save_npz(tmp_path / "a.npz", target=TARGET, input=INPUT))
    assert (input.tolist(), target.tolist()) == (INPUT.tolist(), TARGET.tolist())
    assert (input.dtype, target.dtype) == (torch.float32, torch.int64)


def test_single_array_is_the_input_whatever_its_name(tmp_path: Path) -> None:
    [input] = read(save_npz(tmp_path / "a.npz", images=INPUT))
    assert input.tolist() == INPUT.tolist()


def test_safetensors_file_holds_inputs_and_targets(tmp_path: Path) -> None:
    tensors = {"input": torch.ones(3, 2, dtype=torch.float16), "target": torch.tensor([1.0, 0.5, 0.0])}
    save_file(tensors, tmp_path / "a.safetensors")
    input, target = read(tmp_path / "a.safetensors")
    assert (input.dtype, target.dtype) == (torch.float32, torch.float32)
    assert target.tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("text", "input", "target"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]], None),
        ("a,b\n1,2.5\n3,4\n", [[1, 2.5], [3, 4]], None),
        ("target,a,b\n7,1,2\n8,3,4\n", [[1, 2], [3, 4]], [7, 8]),
        ("a, target ,b\n1,7.5,2\n3,8,4\n", [[1, 2], [3, 4]], [7.5, 8.0]),
        ("\ufeffa,b\n\n1,2\n\n3,4\n", [[1, 2], [3, 4]], None),
    ],
)
def test_csv_file_holds_a_sample_on_each_line(tmp_path: Path, text: str, input: Any, target: Any) -> None:
    tensors = read(write(tmp_path / "a.csv", text))
    assert tensors[0].dtype == torch.float32
    assert [tensor.tolist() for tensor in tensors] == ([input] if target is None else [input, target])


@pytest.mark.parametrize(("cells", "dtype"), [("7\n8", torch.int64), ("7\n8.5", torch.float32)])
def test_target_column_without_points_holds_whole_numbers(
    tmp_path: Path, cells: str, dtype: torch.dtype
) -> None:
    rows = "".join(f"1,{cell}\n" for cell in cells.split())
    _, target = read(write(tmp_path / "a.csv", "a,target\n" + rows))
    assert target.dtype == dtype


def test_whole_numbers_of_inputs_stay_as_they_are(tmp_path: Path) -> None:
    [input] = read(save_npz(tmp_path / "a.npz", input=TARGET))
    assert input.dtype == torch.uint16


def test_arrays_in_another_byte_order_are_read(tmp_path: Path) -> None:
    [input] = read(save_npz(tmp_path / "a.npz", input=INPUT.astype(">f8")[::-1]))
    assert input.tolist() == INPUT[::-1].tolist()


def test_boolean_targets_stay_boolean(tmp_path: Path) -> None:
    _, target = read(save_npz(tmp_path / "a.npz", input=INPUT, target=TARGET > 0))
    assert target.dtype == torch.bool


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_file_is_told(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ArgusError, match=rf"no data file '.*a\{suffix}'; check the path"):
        read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folder_is_no_data_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").mkdir()
    with pytest.raises(ArgusError, match=r"is a directory; it must be an ordinary file"):
        read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"PK\x03\x04garbage", b"\x93NUMPY\x01\x00\x10\x00garbage"]
)
def test_damaged_file_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(ArgusError, match="does not hold plain arrays of numbers"):
        read(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_pickled_objects_are_never_read(tmp_path: Path, name: str) -> None:
    save: Callable[..., Any] = np.save if name.endswith("y") else np.savez
    save(tmp_path / name, np.array([{"a": 1}], dtype=object))
    with pytest.raises(
        ArgusError, match="does not hold plain arrays of numbers .*Python objects, which are never read"
    ):
        read(tmp_path / name)


def test_arrays_of_strings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgusError, match="does not hold plain arrays of numbers"):
        read(save_npz(tmp_path / "a.npz", input=np.array(["a", "b"])))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3\n", "line 2 is not 2 numbers with commas between"),
        ("a,b\n1,x\n", "line 2 is not 2 numbers"),
        ("target\n1\n", "there is no column of inputs"),
        ("a,b\n1,\0\n", "line 2 is not 2 numbers|does not hold plain arrays"),
    ],
)
def test_csv_file_of_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ArgusError, match=message):
        read(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize("text", ["", "a,b\n"])
def test_csv_file_without_samples_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArgusError, match="holds .*; give one or more samples, as many of each"):
        read(write(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"input": INPUT, "target": TARGET[:2]},
            "holds 3 of input and 2 of target; give one or more samples",
        ),
        ({"images": INPUT, "labels": TARGET}, "holds images, labels; name its arrays input and target"),
        ({"input": INPUT, "target": TARGET, "weight": TARGET}, "name its arrays input and target"),
        ({"input": np.float64(3)}, "holds 0 of input; give one or more samples"),
        ({}, "holds nothing; name its arrays"),
    ],
)
def test_arrays_that_make_no_samples_are_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgusError, match=message):
        read(save_npz(tmp_path / "a.npz", **arrays))


def test_missing_numpy_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", INPUT)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ArgusError, match=r"files in \.npy and \.npz need numpy: pip install numpy"):
        read(tmp_path / "a.npy")


# Writing.

TENSORS = {"prediction": torch.tensor([[0.1, 0.9], [0.8, 0.2]]), "target": torch.tensor([1, 0])}


def test_npz_file_takes_all_tensors(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.npz", TENSORS)
    with np.load(tmp_path / "a.npz") as written:
        assert {name: written[name].tolist() for name in written.files} == {
            name: tensor.tolist() for name, tensor in TENSORS.items()
        }


def test_npy_file_takes_the_first_tensor(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.npy", TENSORS)
    assert np.load(tmp_path / "a.npy").tolist() == TENSORS["prediction"].tolist()


def test_safetensors_file_takes_all_tensors(tmp_path: Path) -> None:
    tensors = {**TENSORS, "prediction": TENSORS["prediction"].mT}  # not contiguous
    write_tensors(tmp_path / "a.safetensors", tensors)
    written = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())


def test_csv_file_takes_a_sample_on_each_line(tmp_path: Path) -> None:
    write_tensors(
        tmp_path / "a.csv",
        {"prediction": torch.tensor([[0.5, 1.0], [2.0, 0.25]]), "target": TENSORS["target"]},
    )
    text = (tmp_path / "a.csv").read_text("utf-8")
    assert text == "prediction_0,prediction_1,target\n0.5,1.0,1\n2.0,0.25,0\n"


def test_csv_file_has_a_single_number_in_a_column_without_an_index(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.csv", {"prediction": torch.tensor([[0.5], [2.0]])})
    assert (tmp_path / "a.csv").read_text("utf-8") == "prediction\n0.5\n2.0\n"


def test_csv_file_cannot_hold_lengths_that_differ(tmp_path: Path) -> None:
    with pytest.raises(
        ArgusError, match=r"cannot hold predictions and targets of different lengths; write an \.npz"
    ):
        write_tensors(tmp_path / "a.csv", {"prediction": torch.ones(4), "target": torch.ones(2)})


def test_dtype_that_numpy_lacks_is_widened(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.npy", {"prediction": torch.tensor([0.5, 2.0], dtype=torch.bfloat16)})
    assert np.load(tmp_path / "a.npy").dtype == np.float32


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_can_be_read_by_others(tmp_path: Path, suffix: str) -> None:
    write_tensors(tmp_path / f"a{suffix}", TENSORS)
    plain = write(tmp_path / "plain", "")
    assert (tmp_path / f"a{suffix}").stat().st_mode == plain.stat().st_mode


def test_other_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ArgusError, match=r"cannot write '.*a\.txt'; give a name that ends in one of \.npy, \.npz"
    ):
        check_writable(tmp_path / "a.txt")


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgusError, match=r"cannot write '.*': there is no folder '.*nowhere'; make it first"):
        check_writable(tmp_path / "nowhere" / "a.npz")


def test_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(ArgusError, match=r"cannot write .*: it is a folder; nothing was left behind; give"):
        write_tensors(tmp_path / "a.npz", TENSORS)
