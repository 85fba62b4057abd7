"""Data files of any origin: one sentence each, within the memory that their values take, and no waiting."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from argus_core.data.files import SUFFIXES, read_dataset
from argus_core.errors import ArgusError

INPUT = np.arange(12, dtype=np.float64).reshape(4, 3)
TARGET = np.arange(4)


def read(path: Path) -> tuple[Tensor, ...]:
    return read_dataset(path).tensors


def npy(array: Any = INPUT) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npy_claiming(descr: str = "<f8", shape: str = "(4, 3)", order: str = "False", data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def write_npz(path: Path, *members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of two members of one name
        for name, content in members:
            archive.writestr(name, content)
    return path


def write_safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2, 2), start: int = 0, end: int = 16) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


# What is at the path.


@pytest.mark.parametrize("sort", ["FIFO", "link", "socket", "device", "directory"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_ordinary_files_are_read(tmp_path: Path, suffix: str, sort: str) -> None:
    path = tmp_path / f"a{suffix}"
    if sort == "FIFO":
        os.mkfifo(path)
    elif sort == "link":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    elif sort == "socket":
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(str(path))
    elif sort == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    what = "FIFO" if sort == "link" else sort
    with pytest.raises(ArgusError, match=f"data file '.*a.*' is a {what}; it must be an ordinary file"):
        read(path)


def test_path_that_cannot_be_is_refused() -> None:
    for path in (Path("a\0.npy"), Path("a\ud800.npy")):
        with pytest.raises(ArgusError, match="holds a character that no path can hold; leave"):
            read(path)


# What it claims.


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ("(1000000000000, 3)", r"its array takes 24,000,000,000,000 bytes, and it has 0"),
        ("(4611686018427387904, 3)", "its array takes 110,680,464,442,257,309,696 bytes"),
        ("(-1, 3)", "the shape of an array is impossible"),
        (f"({2**63}, 0)", "the shape of an array is impossible"),
        (f"({'1, ' * 65})", "the shape of an array is impossible"),
        ("(4, 3.0)", "its header is not one of .npy"),
        ("4", "its header is not one of .npy"),
        ("(" * 3000, "its header is not one of .npy"),
        ("(" + "9" * 5000 + ",)", "its header is not one of .npy"),
        ("(4, 3), 'more': 1", "its header is not one of .npy"),
        ("__import__('os').system('exit 3')", "its header is not one of .npy"),
    ],
)
def test_shape_is_compared_with_the_file_before_memory_is_taken(
    tmp_path: Path, shape: str, problem: str
) -> None:
    (tmp_path / "a.npy").write_bytes(npy_claiming(shape=shape))
    with pytest.raises(
        ArgusError, match=rf"a\.npy does not hold plain arrays of numbers \({problem}"
    ) as caught:
        read(tmp_path / "a.npy")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
    write_npz(tmp_path / "a.npz", ("input.npy", npy_claiming(shape=shape)))
    with pytest.raises(
        ArgusError, match=r"a\.npz does not hold plain arrays of numbers \((?s:.*)\); write it again"
    ):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", ["()", "(0, 3)", "(4, 0)", f"({2**62}, 0)"])
def test_array_without_samples_or_numbers_is_refused(tmp_path: Path, shape: str) -> None:
    (tmp_path / "a.npy").write_bytes(npy_claiming(shape=shape, data=bytes(8)))
    with pytest.raises(ArgusError, match=r"a\.npy holds 0 of input; give one or more samples"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize("descr", ["|O", "|V8", "<U4", "|S4", "<M8[s]", "<m8[s]", "<f16", "<c32"])
def test_only_numbers_are_read(tmp_path: Path, descr: str) -> None:
    (tmp_path / "a.npy").write_bytes(npy_claiming(descr, data=bytes(500)))
    with pytest.raises(
        ArgusError, match=r"plain arrays of numbers \(it holds .*, which are n(ever read|ot numbers)\)"
    ):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "array",
    [np.zeros(3, dtype=[("a", "f4"), ("b", "i4")]), np.zeros(3, dtype=[("ä", "f4")]), np.array([None, {}])],
    ids=["fields", "fields named in Unicode", "objects"],
)
def test_fields_and_objects_are_refused(tmp_path: Path, array: Any) -> None:
    (tmp_path / "a.npy").write_bytes(npy(array))
    with pytest.raises(ArgusError, match=r"a\.npy does not hold plain arrays of numbers \(it"):
        read(tmp_path / "a.npy")


def test_pickle_in_an_archive_is_never_read(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    for name in ("input.npy", "input", "data.pkl"):
        write_npz(tmp_path / "a.npz", (name, pickle.dumps(Planted())))
        with pytest.raises(ArgusError, match="does not hold plain arrays of numbers"):
            read(tmp_path / "a.npz")
    (tmp_path / "a.npy").write_bytes(npy(np.array([Planted()], dtype=object)))
    with pytest.raises(ArgusError, match="Python objects, which are never read"):
        read(tmp_path / "a.npy")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("dtype", [*"<i2 >i4 <u8 >f2 <f4 >f8 <c8 >c16 |b1 |i1 |u1".split()])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_in_any_byte_order_and_layout_are_read(tmp_path: Path, dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(24).reshape(4, 3, 2) % 7, dtype=dtype, order=order)
    np.savez(tmp_path / "stored.npz", input=array, target=TARGET)
    np.savez_compressed(tmp_path / "deflated.npz", input=array, target=TARGET)
    (tmp_path / "a.npy").write_bytes(npy(array))
    for name in ("stored.npz", "deflated.npz", "a.npy"):
        assert read(tmp_path / name)[0].tolist() == array.tolist()


def test_array_of_many_blocks_is_read_whole(tmp_path: Path) -> None:
    array = np.arange(700_001, dtype="<f4")  # more than 2 MiB, and not a whole number of blocks
    np.savez_compressed(tmp_path / "a.npz", input=array)
    assert torch.equal(read(tmp_path / "a.npz")[0], torch.arange(700_001, dtype=torch.float32))


def test_targets_beyond_64_bits_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", input=INPUT, target=np.full(4, 2**64 - 1, dtype=np.uint64))
    with pytest.raises(ArgusError, match="a target is beyond the integers of 64 bits with a sign"):
        read(tmp_path / "a.npz")


def test_bytes_that_are_not_booleans_become_booleans(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy_claiming("|b1", "(3,)", data=b"\0\1\2"))
    write_safetensors(tmp_path / "a.safetensors", {"input": entry("BOOL", (3,), 0, 3)}, b"\0\1\2")
    for name in ("a.npy", "a.safetensors"):
        assert read(tmp_path / name)[0].view(torch.uint8).tolist() == [0, 1, 1]


# Archives.


def flagged(content: bytes, flag: int) -> bytes:
    """Return an archive with a flag set in the local and central headers of all members."""
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = content.find(signature)
        while start >= 0:
            content = content[: start + place] + bytes([flag]) + content[start + place + 1 :]
            start = content.find(signature, start + 4)
    return content


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("input.npy", npy()), ("input.npy", npy())], "it has two arrays of one name"),
        ([("inner.npz", npy())], "it holds 'inner.npz', which is not an array"),
        ([("input.npy", npy() + b"more")], r"an array takes \d+ bytes, and 'input.npy' has \d+"),
        ([("input.npy", npy()[:-1])], r"an array takes \d+ bytes, and 'input.npy' has \d+"),
        ([("input.npy", b"")], "its header is not one of .npy"),
        ([("input.npy", npy()), ("target.npy", npy_claiming(shape="(2**40,)"))], "its header is not one of"),
    ],
)
def test_archive_of_other_things_is_refused(tmp_path: Path, members: Any, problem: str) -> None:
    with pytest.raises(ArgusError, match=rf"a\.npz does not hold plain arrays of numbers \({problem}"):
        read(write_npz(tmp_path / "a.npz", *members))


def test_nested_archive_is_refused(tmp_path: Path) -> None:
    inner = write_npz(tmp_path / "inner.npz", ("input.npy", npy())).read_bytes()
    for name in ("inner.zip", "input.npy"):
        with pytest.raises(ArgusError, match="does not hold plain arrays of numbers"):
            read(write_npz(tmp_path / "a.npz", (name, inner)))


def test_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", ("input.npy", npy()))
    path.write_bytes(flagged(path.read_bytes(), 1))
    with pytest.raises(ArgusError, match="'input' in it is encrypted"):
        read(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_member_that_numpy_would_not_compress_so_is_refused(tmp_path: Path, compression: int) -> None:
    with pytest.raises(ArgusError, match="'input' in it is compressed in a way that numpy never uses"):
        read(write_npz(tmp_path / "a.npz", ("input.npy", npy()), compression=compression))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_member_is_refused(tmp_path: Path, compression: int) -> None:
    path = write_npz(tmp_path / "a.npz", ("input.npy", npy(np.arange(999.0))), compression=compression)
    content = bytearray(path.read_bytes())
    content[500] ^= 16
    path.write_bytes(content)
    with pytest.raises(ArgusError, match=r"does not hold plain arrays of numbers \((Bad CRC-32|Error -3)"):
        read(path)


def test_path_out_of_the_folder_is_only_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    [input] = read(write_npz(folder / "a.npz", ("../../evil.npy", npy())))
    assert input.tolist() == INPUT.tolist()
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.npz"]


def test_names_of_many_arrays_are_not_all_told(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", *((f"{'x' * 99}{index}.npy", npy()) for index in range(200)))
    with pytest.raises(
        ArgusError, match=r"holds x+, .* and 195 more; name its arrays input and target"
    ) as caught:
        read(path)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_endless_table_of_contents_is_not_read(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", *((f"{index}.npy", b"") for index in range(25_000)))
    with pytest.raises(ArgusError, match="its table of contents takes more than 1,048,576 bytes"):
        read(path)


# Memory.


def test_archive_that_expands_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    array = np.zeros((20, 2**20), dtype=np.float32)  # 80 MiB
    np.savez_compressed(tmp_path / "a.npz", input=array)
    with pytest.raises(
        ArgusError,
        match=r"a\.npz expands to 83,886,080 bytes, and the disk holds .*; write it without compression",
    ):
        read(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "a.npz", input=array[:10])  # what is small may expand to any multiple
    assert read(tmp_path / "a.npz")[0].shape == (10, 2**20)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_holes_take_no_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        path.write_bytes(npy_claiming(shape=f"({2**37}, 1)"))
    else:
        write_safetensors(path, {"input": entry("F64", (2**37, 1), 0, 2**40)})
    os.truncate(path, path.stat().st_size + 2**40)
    with pytest.raises(ArgusError, match=r"expands to 1,099,511,627,776 bytes, and the disk holds"):
        read(path)


def test_reading_takes_no_second_copy(tmp_path: Path) -> None:
    array = np.ones((2**23, 1))  # 64 MiB, which make 32 in memory
    target = np.ones(2**23, dtype=np.int64)  # 64 MiB
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", input=array, target=target)
    save_file({"input": torch.from_numpy(array)}, tmp_path / "a.safetensors")
    code = (
        "import sys, numpy, resource; from pathlib import Path\n"
        "from argus_core.data.files import read_dataset\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    read_dataset(Path(path))\n"
        "    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) // 1024)"
    )
    paths = [str(tmp_path / name) for name in ("a.npy", "a.safetensors", "a.npz")]
    result = subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True)
    one, other, both = map(int, result.stdout.split())
    assert one < 32 + 16
    assert other < 32 + 16
    assert both < 32 + 64 + 16


# Safetensors.


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"input": entry(end=2**40)}, r"an array takes 16 bytes, and its place has [\d,]+"),
        ({"input": entry(shape=(2**40, 2**40))}, r"an array takes [\d,]+ bytes, and its place has 16"),
        ({"input": entry(shape=(2, -2))}, "the shape of an array is impossible"),
        ({"input": entry(shape=(2, True))}, "the shape of an array is impossible"),
        ({"input": entry(start=-16, end=0)}, "its arrays do not follow each other"),
        ({"input": entry(start=4, end=20)}, "its arrays do not follow each other"),
        ({"input": entry(dtype="F4")}, "its header does not say where an array is"),
        ({"input": entry(), "target": entry()}, "its arrays do not follow each other"),
        ({"input": {**entry(), "data_offsets": [0]}}, "its header does not say where an array is"),
        ({"input": []}, "its header does not say where an array is"),
        ([], "its header is not a table"),
        (b"[" * 100_000, "maximum recursion|nested|RecursionError"),
        (b"1" * 5000, "Exceeds the limit"),
        (b'{"input": 1, "input": 2}', "its header has two entries of one name"),
        (b"\xff\xfe\xff", "codec can't decode|decode"),
        (b" " * 2**21, "its header would take 2,097,152 bytes"),
    ],
)
def test_safetensors_file_of_other_claims_is_refused(tmp_path: Path, header: Any, problem: str) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", header, bytes(16))
    with pytest.raises(
        ArgusError, match=rf"safetensors does not hold plain arrays of numbers \(.*({problem})"
    ):
        read(path)


def test_every_dtype_of_safetensors_with_a_name_in_torch_is_read(tmp_path: Path) -> None:
    dtypes = [
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.uint32,
        torch.complex64,
        torch.int8,
    ]
    for dtype in dtypes:
        tensor = torch.tensor([[0.5, 1.0], [2.0, 4.0]]).to(dtype)
        save_file({"input": tensor}, tmp_path / "a.safetensors", metadata={"a": "b"})
        [input] = read(tmp_path / "a.safetensors")
        assert input.tolist() == tensor.to(input.dtype).tolist()


# Tables.


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"1," * 2_200_000, r"line 1 has more than 4,194,304 characters"),
        (b"1,2\n" + b"\0" * 2**23, r"line 2 has more than 4,194,304 characters"),
        (b'a,b\n1,"2\n' + b"3\n" * 2**21, "field larger than field limit|has more than"),
        (b'"1\n",' * 2**20, "has more than 4,194,304 characters"),
        (b'1,"2', "unexpected end of data"),
        (b"1,2\n3,\0\n", "line 2 is not 2 numbers with commas between"),
        (b"a,b\n1,1e400\n", "a number on line 2 is beyond the largest that a computer has"),
        (b"a,target\n1,36893488147419103232\n", "the target on line 2 does not fit into 64 bits"),
        (b"target,target\n1,2\n", "two of its columns are named target"),
        ("1,2\n".encode("utf-16"), "codec can't decode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_table_of_other_things_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ArgusError, match=rf"a\.csv does not hold plain arrays of numbers \(.*({problem})"):
        read(tmp_path / "a.csv")


def test_quoted_newline_in_a_header_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf"a\r\nb",target\r\n1,"2"\r\n3,4\r\n')
    input, target = read(tmp_path / "a.csv")
    assert (input.tolist(), target.tolist()) == ([[1.0], [3.0]], [2, 4])


# Anything.


SOUND: dict[str, Callable[[Path], object]] = {
    ".npy": lambda path: path.write_bytes(npy(np.asfortranarray(INPUT.astype(">f4")))),
    ".npz": lambda path: np.savez_compressed(path, input=INPUT, target=TARGET),
    ".safetensors": lambda path: save_file(
        {"input": torch.from_numpy(INPUT), "target": torch.from_numpy(TARGET)}, path
    ),
    ".csv": lambda path: path.write_text("a,target\n" + "1.5,2\n" * 20, "utf-8"),
}
TOKENS = [
    *(
        b"9" * 40,
        b"-1",
        b"True",
        b"None",
        b"'O'",
        b"'|V8'",
        b"[('a', '<f4')]",
        b"(" * 300,
        b"\0",
        b'"',
        b"\xff",
    ),
    *(b"{", b"[", b"nan", b"1e999", b"\xff\xff\xff\xff", b"PK\x01\x02", b"BOOL", b"\n", b","),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = {suffix: tmp_path_factory.mktemp("sound") / f"a{suffix}" for suffix in SOUND}
    for suffix, write in SOUND.items():
        write(paths[suffix])
    return paths


@settings(deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_file_is_read_or_refused_in_one_line(sound: dict[str, Path], suffix: str, data: Any) -> None:
    content = sound[suffix].read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        new = data.draw(st.sampled_from(TOKENS) | st.binary(max_size=4))
        content = content[:place] + new + content[place + data.draw(st.sampled_from([0, 1, len(new), 100])) :]
    path = sound[suffix].with_name(f"damaged{suffix}")
    path.write_bytes(content)
    problem = ""
    try:
        read(path)
    except ArgusError as error:
        problem = str(error)
    assert "\n" not in problem
    assert len(problem) < 400 + len(str(path))
