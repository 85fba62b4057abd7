"""Tensors come back from a checkpoint as they were, and other tools can read it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_data import exactly_equal, plain_values
from safetensors import safe_open
from same_tensors import assert_same

from argus_core.errors import CheckpointError, CorruptCheckpointError, ParamsError
from argus_core.storage import CheckpointFile, read_header, write
from argus_core.storage.crc import CHUNK, ChunkSums, fastest
from argus_core.storage.encoding import decode, encode
from argus_core.storage.entry import STORED_AS, name_problem
from argus_core.storage.payload import pieces, view

DTYPES = sorted(STORED_AS)
NATIVE_DTYPES = [
    name
    for name in DTYPES
    if name in dir(torch)
    and torch.empty(0).dtype
    and name
    in """
    float64 float32 float16 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
    int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool complex64""".split()
]

complex_half = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


def random_bits(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Return a tensor of any bits, NaNs of all kinds among them."""
    bits = torch.randint(0, 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    if dtype is torch.bool:
        bits %= 2
    return bits.view(dtype).reshape(shape)


def round_trip(folder: Path, **tensors: torch.Tensor) -> dict[str, torch.Tensor]:
    write(folder / "a.safetensors", tensors, {})
    with CheckpointFile(folder / "a.safetensors") as file:
        return file.read()


@complex_half
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_bit_by_bit(tmp_path: Path, name: str) -> None:
    dtype = getattr(torch, name)
    tensors = {
        "matrix": random_bits(dtype, 3, 5),
        "turned": random_bits(dtype, 3, 5).t(),
        "scalar": random_bits(dtype, 1)[0],
        "empty": random_bits(dtype, 0, 2),
    }
    back = round_trip(tmp_path, **tensors)
    for key, tensor in tensors.items():
        assert_same(back[key], tensor)


def test_every_dtype_of_torch_is_stored_or_quantized() -> None:
    known = {
        str(value).removeprefix("torch.") for value in vars(torch).values() if isinstance(value, torch.dtype)
    }
    assert {name for name in known if not name.startswith(("qint", "quint"))} == set(DTYPES)


@pytest.mark.parametrize("name", NATIVE_DTYPES)
def test_safetensors_reads_every_dtype_that_it_has(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {"a": random_bits(getattr(torch, name), 3, 5), "b": random_bits(getattr(torch, name), 1)[0]}
    write(path, tensors, {})
    back = safetensors.torch.load_file(path)
    for key, tensor in tensors.items():
        assert_same(back[key], tensor)


def test_safetensors_sees_other_dtypes_as_what_they_are_made_of(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensor = torch.randn(3, dtype=torch.complex128)
    write(path, {"a": tensor}, {})
    assert torch.equal(safetensors.torch.load_file(path)["a"], torch.view_as_real(tensor))


def test_other_tools_see_names_shapes_and_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, {"nn/weight": torch.ones(2, 3), "nn/bias": torch.zeros(())}, {"a": 1})
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == {"nn/weight", "nn/bias"}
        assert file.get_slice("nn/weight").get_shape() == [2, 3]
        assert file.metadata()["format"] == "pt"
        assert json.loads(file.metadata()["argus"])["a"] == 1


def test_every_tensor_lies_at_a_multiple_of_its_width_and_without_holes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    dtypes = ("uint8", "float64", "bool", "float16", "complex128", "int32", "bfloat16")
    write(path, {f"{index}": random_bits(getattr(torch, name), 3) for index, name in enumerate(dtypes)}, {})
    header = read_header(path)
    end = 0
    assert header.payload_start % 8 == 0
    for entry in header.entries.values():
        assert entry.start % entry.alignment == 0
        assert entry.start == end
        end = entry.end
    assert path.stat().st_size == header.payload_start + end == header.file_size


def test_same_tensors_and_manifest_make_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3), "a": torch.zeros(2), "c": torch.zeros(2, dtype=torch.int64)}
    write(tmp_path / "a", tensors, {"x": [1]})
    write(tmp_path / "b", dict(reversed(tensors.items())), {"x": [1]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_checkpoint_without_tensors(tmp_path: Path) -> None:
    assert round_trip(tmp_path) == {}
    assert read_header(tmp_path / "a.safetensors").entries == {}


@given(value=plain_values(), count=st.integers(0, 3))
def test_manifest_comes_back(tmp_path_factory: pytest.TempPathFactory, value: object, count: int) -> None:
    path = tmp_path_factory.mktemp("manifest") / "a.safetensors"
    tensors: dict[str, torch.Tensor] = {f"nn/{index}": torch.ones(index) for index in range(count)}
    manifest = {"params": encode([value, torch.arange(2)], "params", tensors)}
    write(path, tensors, manifest)
    with CheckpointFile(path) as file:
        [back, tensor] = decode(file.header.manifest["params"], file.read(["params/1"]))
    assert exactly_equal(back, value)
    assert tensor.tolist() == [0, 1]


# Layouts


def test_tensor_of_many_chunks(tmp_path: Path) -> None:
    tensor = torch.randint(0, 256, (2 * CHUNK + 5,), dtype=torch.uint8)
    assert_same(round_trip(tmp_path, big=tensor)["big"], tensor)
    assert len(read_header(tmp_path / "a.safetensors").entries["big"].crcs) == 3


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3000, 1000).t(),
        torch.randn(3, 4_000_000)[:, ::2],
        torch.randn(2, 1, 3000, 1000).permute(0, 2, 3, 1),
        torch.randn(1, 1).expand(3000, 1000),
        torch.randn(64, 3).t(),
        torch.randn(10)[::3],
        torch.randn(4, 0, 3).transpose(0, 2),
    ],
    ids=lambda tensor: f"{tuple(tensor.shape)} by {tensor.stride()}",
)
def test_tensors_that_are_not_contiguous(tmp_path: Path, tensor: torch.Tensor) -> None:
    assert all(piece.nbytes <= CHUNK for piece in pieces(tensor))
    back = round_trip(tmp_path, a=tensor)["a"]
    assert torch.equal(back, tensor)
    assert back.is_contiguous()


def test_contiguous_tensors_are_not_copied_whole() -> None:
    tensor = torch.zeros(3 * CHUNK, dtype=torch.uint8)
    parts = list(pieces(tensor))
    assert [part.nbytes for part in parts] == [CHUNK] * 3
    assert parts[0].data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn, torch.complex64, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_comes_back(tmp_path: Path, dtype: torch.dtype, channels: int) -> None:
    image = random_bits(dtype, 2, 4, 5, channels).permute(0, 3, 1, 2)
    volume = random_bits(dtype, 2, 4, 5, 6, channels).permute(0, 4, 1, 2, 3)
    back = round_trip(tmp_path, image=image, volume=volume, plain=torch.zeros(2, 3, 4, 5))
    assert back["image"].stride() == image.stride()
    assert back["volume"].stride() == volume.stride()
    assert back["plain"].is_contiguous()
    assert_same(back["image"], image)
    assert_same(back["volume"], volume)


def test_other_tools_see_channels_last_as_any_tensor(tmp_path: Path) -> None:
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    write(tmp_path / "a", {"image": image}, {})
    assert torch.equal(safetensors.torch.load_file(tmp_path / "a")["image"], image)


def test_conjugated_and_negated_views(tmp_path: Path) -> None:
    tensor = torch.randn(3, dtype=torch.complex64)
    back = round_trip(tmp_path, conjugate=tensor.conj(), negative=tensor.conj().imag)
    assert torch.equal(back["conjugate"], tensor.conj())
    assert torch.equal(back["negative"], -tensor.imag)


def test_parameters_and_subclasses_come_back_as_tensors(tmp_path: Path) -> None:
    class Own(torch.Tensor):
        pass

    parameter = torch.nn.Parameter(torch.ones(2))
    back = round_trip(tmp_path, a=parameter, b=torch.ones(3).as_subclass(Own), c=(parameter * 2))
    assert {type(tensor) for tensor in back.values()} == {torch.Tensor}
    assert not any(tensor.requires_grad for tensor in back.values())


def test_what_is_read_can_be_trained(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(round_trip(tmp_path, a=torch.ones(2))["a"])
    (weight * 2).sum().backward()
    assert weight.grad is not None
    assert weight.is_leaf


# Tied tensors


def test_tied_tensors_are_stored_once_and_come_back_as_one(tmp_path: Path) -> None:
    embedding = torch.nn.Parameter(torch.randn(100, 100))
    back = round_trip(tmp_path, embedding=embedding, head=embedding.detach(), copy=embedding.clone())
    header = read_header(tmp_path / "a.safetensors")
    assert header.aliases == {"head": "embedding"}
    assert set(header.entries) == {"embedding", "copy"}
    assert back["head"] is back["embedding"]
    assert back["copy"] is not back["embedding"]


def test_alias_is_read_alone(tmp_path: Path) -> None:
    tensor = torch.randn(3)
    write(tmp_path / "a", {"b": tensor, "a": tensor}, {})
    with CheckpointFile(tmp_path / "a") as file:
        assert torch.equal(file.read(["a"])["a"], tensor)


def test_views_of_one_memory_that_differ_are_stored_apart(tmp_path: Path) -> None:
    tensor = torch.arange(16.0).reshape(4, 4)
    views = {"whole": tensor, "row": tensor[1], "turned": tensor.t(), "integers": tensor.view(torch.int32)}
    back = round_trip(tmp_path, **views)
    assert read_header(tmp_path / "a.safetensors").aliases == {}
    for name, expected in views.items():
        assert torch.equal(back[name], expected)


def test_empty_tensors_are_not_tied(tmp_path: Path) -> None:
    back = round_trip(tmp_path, a=torch.empty(0), b=torch.empty(0))
    assert back["a"] is not back["b"]


# What is refused


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.eye(2).to_sparse(), "is not a dense tensor but torch.sparse_coo"),
        (torch.empty(2, device="meta"), "is on the meta device and has no values"),
        (torch.nn.LazyLinear(2).weight, "is not initialised yet; run a batch through the model first"),
        (torch.zeros([1] * 65), "has dtype torch.float32 and 65 dimensions, which a checkpoint cannot hold"),
    ],
    ids=["sparse", "meta", "lazy", "dimensions"],
)
def test_tensor_that_cannot_be_stored_is_refused_by_name(tmp_path: Path, tensor: Any, why: str) -> None:
    with pytest.raises(ParamsError, match=f"^tensor 'nn/weight' {why}"):
        write(tmp_path / "a", {"nn/weight": tensor}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_quantized_and_nested_tensors_are_refused_by_name(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    with pytest.raises(
        ParamsError, match=r"^tensor 'q' is quantized \(torch.qint8\); store tensor.int_repr\(\)"
    ):
        write(tmp_path / "a", {"q": quantized}, {})
    nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])
    with pytest.raises(ParamsError, match=r"^tensor 'n' is not a dense tensor but nested"):
        write(tmp_path / "a", {"n": nested}, {})


def test_tensor_without_memory_is_refused_by_name(tmp_path: Path) -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = torch.ones(2)
    with pytest.raises(
        ParamsError, match="^tensor 'a' is a FakeTensor without numbers of its own; convert it"
    ):
        write(tmp_path / "a", {"a": fake}, {})
    with pytest.raises(ParamsError, match="^tensor 'a' is a Tensor without numbers of its own"):
        torch.vmap(lambda row: write(tmp_path / "a", {"a": row}, {}))(torch.ones(2, 2))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        "a\\b",
        "C:/x",
        "a\0",
        "a\nb",
        "\ud800",
    ],
)
def test_name_that_could_do_harm_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParamsError, match="cannot name a tensor in a checkpoint: it .*; rename it"):
        write(tmp_path / "a", {name: torch.ones(1)}, {})


def test_name_of_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="'__metadata__' .* is taken by the format"):
        write(tmp_path / "a", {"__metadata__": torch.ones(1)}, {})


@pytest.mark.parametrize("name", ["a", "nn/0.weight", "nn/größe", "a b", "...", "a..b/..c", "nn/layer:0"])
def test_ordinary_names_are_taken(name: str) -> None:
    assert name_problem(name) is None


def test_manifest_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"manifest\['a'\] is of type tuple, .* encode\(\) it first"):
        write(tmp_path / "a", {}, {"a": (1,)})


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="this could be written but not read again: .* schema 99"):
        write(tmp_path / "a", {}, {"schema": 99})


# Reading a part


def damage(path: Path, name: str) -> None:
    header = read_header(path)
    data = bytearray(path.read_bytes())
    data[header.payload_start + header.entries[name].start] ^= 1
    path.write_bytes(data)


def test_only_the_bytes_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, {"nn/a": torch.ones(3), "optimizer/a": torch.zeros(3)}, {})
    damage(path, "optimizer/a")
    with CheckpointFile(path) as file:
        assert torch.equal(file.read(["nn/a"])["nn/a"], torch.ones(3))
        with pytest.raises(
            CorruptCheckpointError, match=r"a: tensor 'optimizer/a' is damaged \(chunk 1 of 1\)"
        ):
            file.read()


def test_verification_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, {"a": torch.zeros(3, dtype=torch.uint8)}, {})
    damage(path, "a")
    with CheckpointFile(path) as file:
        assert file.read(verify=False)["a"].tolist() == [1, 0, 0]


def test_unknown_tensor_is_named_with_those_near_it(tmp_path: Path) -> None:
    write(tmp_path / "a", {"nn/weight": torch.ones(1)}, {})
    with CheckpointFile(tmp_path / "a") as file:
        with pytest.raises(CheckpointError, match="holds no tensor 'nn/weigth'; did you mean 'nn/weight'"):
            file.read(["nn/weigth"])
        with pytest.raises(CheckpointError, match="holds no tensor 'xyz'; see `argus inspect`"):
            file.read(["xyz"])


def test_tensors_are_read_on_the_cpu_whatever_the_default_device(tmp_path: Path) -> None:
    write(tmp_path / "a", {"a": torch.ones(3)}, {})
    with torch.device("meta"), CheckpointFile(tmp_path / "a") as file:
        assert file.read()["a"].device.type == "cpu"


def test_tensors_come_to_the_device(tmp_path: Path) -> None:
    write(tmp_path / "a", {"a": torch.ones(3)}, {})
    with CheckpointFile(tmp_path / "a") as file:
        assert file.read(device="meta")["a"].device.type == "meta"


def test_more_than_may_wait_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argus_core.storage.reader._MOST_WAITING", 2**20)
    tensors = {f"{index}": torch.randn(100_000) for index in range(10)}
    back = round_trip(tmp_path, **tensors)
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor)


def test_tensor_that_the_memory_does_not_hold_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    write(tmp_path / "a", {"a": torch.ones(3)}, {})
    with CheckpointFile(tmp_path / "a") as file:
        monkeypatch.setattr(torch, "empty", refuse)
        with pytest.raises(CheckpointError, match="tensor 'a' takes 12 bytes, more than there is memory for"):
            file.read()


def test_systems_that_read_at_one_position_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "preadv", raising=False)
    tensors = {f"{index}": torch.randn(200_000) for index in range(10)}
    back = round_trip(tmp_path, **tensors)
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor)


def test_machine_with_other_numbers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", {"a": torch.ones(3)}, {})
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(CheckpointError, match="checkpoints hold little-endian numbers"):
        write(tmp_path / "b", {"a": torch.ones(3)}, {})
    with CheckpointFile(tmp_path / "a") as file, pytest.raises(CheckpointError, match="little-endian"):
        file.read()


def test_the_module_has_no_other_names() -> None:
    import argus_core.storage

    with pytest.raises(AttributeError, match="no attribute 'wriet'"):
        argus_core.storage.wriet  # type: ignore[attr-defined]  # noqa: B018


# One and the same file


def test_open_checkpoint_stays_the_one_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, {"a": torch.ones(3)}, {"run": 1})
    with CheckpointFile(path) as file:
        write(path, {"a": torch.zeros(3)}, {"run": 2})
        assert file.header.manifest["run"] == 1
        assert torch.equal(file.read()["a"], torch.ones(3))


def test_sha256_pins_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, {"a": torch.ones(3)}, {})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_header(path, sha256=digest.upper()) == read_header(path)
    write(path, {"a": torch.zeros(3)}, {})
    with pytest.raises(
        CorruptCheckpointError, match=f"is not the one asked for: its SHA-256 is .*, not {digest}"
    ):
        read_header(path, sha256=digest)
    with pytest.raises(CheckpointError, match="sha256='abc' is not 64 hexadecimal digits"):
        read_header(path, sha256="abc")


# Parts of it


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_sums_do_not_depend_on_how_a_stream_is_cut(data: bytes, cuts: list[int]) -> None:
    import argus_core.storage.crc as crc

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crc, "CHUNK", 7)
        whole, cut = ChunkSums(), ChunkSums()
        whole.add(memoryview(data))
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
            cut.add(memoryview(data)[start:end])
        assert whole.finish() == cut.finish()
        assert len(whole.finish()) == math.ceil(len(data) / 7)


@given(st.binary(max_size=5000), st.integers(0, 2**32 - 1))
def test_fastest_sum_is_that_of_zlib(data: bytes, before: int) -> None:
    assert fastest()(memoryview(data), before) == zlib.crc32(data, before)


def test_sums_are_taken_without_zlib_ng_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "fast", {"a": torch.ones(3)}, {})
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    fastest.cache_clear()
    try:
        assert fastest() is zlib.crc32
        write(tmp_path / "slow", {"a": torch.ones(3)}, {})
        assert (tmp_path / "slow").read_bytes() == (tmp_path / "fast").read_bytes()
        with CheckpointFile(tmp_path / "fast") as file:
            assert_same(file.read()["a"], torch.ones(3))
    finally:
        fastest.cache_clear()


def test_zlib_ng_is_imported_by_nobody_who_only_builds_or_inspects(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {"a": torch.ones(3)}, {})
    script = (
        "import sys, argus_core.storage; argus_core.Model; "
        f"argus_core.storage.read_header({str(tmp_path / 'a.safetensors')!r}); "
        "assert 'argus_core.model' in sys.modules and 'zlib_ng' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_bytes_keep_their_tensor_alive() -> None:
    part = view(torch.full((1000,), 7, dtype=torch.uint8))
    assert bytes(part) == b"\7" * 1000


def test_header_is_read_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path, {"a": torch.ones(3)}, {"params": encode([torch.float32, (1,)], "params", {})})
    program = (
        "import sys\n"
        "from argus_core.storage import read_header\n"
        "from argus_core.storage.encoding import describe\n"
        "print(describe(read_header(sys.argv[1]).manifest['params']))\n"
        "assert not {'torch', 'numpy', 'safetensors'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout == "['torch.float32', (1,)]\n"
