"""Checkpoints that somebody made to do harm: to run code, or to fill the memory. Every checksum is right."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from crafted import Header, crafted, payload_start, with_header

from argus_core.errors import (
    CheckpointError,
    CorruptCheckpointError,
    MissingPluginError,
    StateMismatchError,
    UnsafeCheckpointError,
)

__all__ = ["CHECKPOINTS", "Hostile"]

WEIGHT = "nn/hidden.weight"
MIB = 2**20


class Hostile(NamedTuple):
    """A file that does harm, and how it is refused.

    Attributes:
        make: writes it, given a sound checkpoint of `networks.Net` with the state of Adam.
        error: what loading it raises.
        why: a pattern that the message holds.
    """

    make: Callable[[Path, Path], None]
    error: type[CheckpointError]
    why: str


def manifest(change: Callable[[Header], Any]) -> Callable[[Path, Path], None]:
    """Return what writes the sound checkpoint with its manifest changed."""

    def make(sound: Path, path: Path) -> None:
        path.write_bytes(crafted(sound.read_bytes(), lambda _, manifest: change(manifest)))

    return make


def entry(**changes: Any) -> Callable[[Path, Path], None]:
    """Return what writes the sound checkpoint with another entry for a weight in header and manifest."""

    def make(sound: Path, path: Path) -> None:
        def change(header: Header, manifest: Header) -> None:
            header[WEIGHT].update({key: value for key, value in changes.items() if key != "crc"})
            manifest["tensors"][WEIGHT].update(
                {key: value for key, value in changes.items() if key != "data_offsets"}
            )

        path.write_bytes(crafted(sound.read_bytes(), change))

    return make


def rename(name: str) -> Callable[[Path, Path], None]:
    """Return what writes the sound checkpoint with another name for a weight."""

    def make(sound: Path, path: Path) -> None:
        def change(header: Header, manifest: Header) -> None:
            for table in (header, manifest["tensors"]):
                items = [(name if key == WEIGHT else key, value) for key, value in table.items()]
                table.clear()
                table.update(items)

        path.write_bytes(crafted(sound.read_bytes(), change))

    return make


def header(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    """Return what writes the sound checkpoint with other bytes for a header."""

    def make(sound: Path, path: Path) -> None:
        data = sound.read_bytes()
        start = payload_start(data)
        path.write_bytes(with_header(change(data[8:start].rstrip()), data[start:]))

    return make


def key_twice(header: bytes) -> bytes:
    place = header.index(b'"' + WEIGHT.encode() + b'"')
    return header[:place] + b'"' + WEIGHT.encode() + b'":{"dtype":"U8"},' + header[place:]


def key_twice_in_manifest(sound: Path, path: Path) -> None:
    data = sound.read_bytes()
    twice = crafted(data, lambda header, manifest: manifest.update(schemb=1))
    # The same length, so that only the checksum has to be made right.
    path.write_bytes(with_right_checksum(twice.replace(b'\\"schemb\\"', b'\\"schema\\"')))


def with_right_checksum(data: bytes) -> bytes:
    start, end = data.index(b'"argus":"') + 9, data.index(b'","argus_crc":"')
    text = data[start:end].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    sum_start = end + len(b'","argus_crc":"')
    return data[:sum_start] + f"{zlib.crc32(text):08x}".encode() + data[sum_start + 8 :]


def long_header(sound: Path, path: Path) -> None:
    with path.open("wb") as file:
        file.write((99 * MIB).to_bytes(8, "little") + b'{"__metadata__":{')
        file.truncate(200 * MIB)


def endless_header(sound: Path, path: Path) -> None:
    path.write_bytes((2**64 - 1).to_bytes(8, "little") + b'{"__metadata__":{' + bytes(100))


def file_with_a_hole(sound: Path, path: Path) -> None:
    """Write 2**40 bytes of which the disk holds a few: the rest is read as zeros."""

    def change(header: Header, manifest: Header) -> None:
        weight = manifest["tensors"].pop(WEIGHT)
        manifest["tensors"] = {WEIGHT: weight | {"shape": [2**38], "crc": ["00000000"] * 2**17}}
        header[WEIGHT] = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
        for name in [name for name in header if name not in ("__metadata__", WEIGHT)]:
            del header[name]
        del manifest["optimizer"]

    data = crafted(sound.read_bytes(), change, payload=b"")
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + 2**40)


def sums_of_zeros(size: int) -> list[str]:
    """Return the checksums of so many zeros, block by block."""
    whole, rest = divmod(size, 8 * MIB)
    sums = [f"{zlib.crc32(bytes(8 * MIB)):08x}"] * whole
    return [*sums, f"{zlib.crc32(bytes(rest)):08x}"] if rest else sums


def hole(
    name: str, shape: tuple[int, ...], refer: Callable[[Header], Any] = lambda manifest: None
) -> Callable[[Path, Path], None]:
    """Return what writes the sound checkpoint with a tensor that is all hole, its checksums right.

    Args:
        name: the tensor's; one that is there is replaced.
        shape: of float32.
        refer: changes the manifest so that it names the tensor.
    """
    size = math.prod(shape) * 4

    def make(sound: Path, path: Path) -> None:
        places: dict[str, tuple[int, int]] = {}

        def change(header: Header, manifest: Header) -> None:
            tensors = manifest["tensors"]
            tensors.pop(name, None)
            wide = {key: value for key, value in tensors.items() if value["dtype"] in ("float64", "int64")}
            narrow = {key: value for key, value in tensors.items() if key not in wide}
            places.update({key: tuple(header[key]["data_offsets"]) for key in tensors})
            entry = {"dtype": "float32", "shape": list(shape), "crc": sums_of_zeros(size)}
            manifest["tensors"] = {**wide, **narrow, name: entry}
            refer(manifest)
            metadata, start = header["__metadata__"], 0
            described = {key: header[key] for key in (*wide, *narrow)}
            header.clear()
            header["__metadata__"] = metadata
            for key, value in described.items():
                end = start + places[key][1] - places[key][0]
                header[key] = value | {"data_offsets": [start, end]}
                start = end
            header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, start + size]}

        data = sound.read_bytes()
        first = payload_start(data)
        head = crafted(data, change, payload=b"")
        order = [key for key in places if key != name]
        order.sort(key=lambda key: json.loads(head[8:])[key]["data_offsets"][0])
        payload = b"".join(data[first + places[key][0] : first + places[key][1]] for key in order)
        with path.open("wb") as file:
            file.write(head + payload)
            file.truncate(len(head) + len(payload) + size)

    return make


def slot(name: str, tensor: str) -> Callable[[Header], Any]:
    """Return what gives a weight's slot in the optimizer a tensor."""

    def refer(manifest: Header) -> None:
        manifest["optimizer"]["state"]["hidden.weight"][name] = {"$tensor": tensor}

    return refer


def choose(slot: str, name: str) -> Callable[[Path, Path], None]:
    """Return what writes the sound checkpoint with another name for a part."""

    def change(manifest: Header) -> None:
        manifest["params"][slot] = {"$tuple": [name, {"command": "touch ran"}]}
        manifest["components"][slot].update({"as": name, "name": name, "entry_point": "os:system"})

    return manifest(change)


def long_name(manifest: Header) -> None:
    manifest["components"]["loss"].update({"as": "a" * 2 * MIB, "name": None})


def one_tensor_many_times(manifest: Header) -> None:
    slots = manifest["optimizer"]["state"]["hidden.weight"]
    slots.update({f"slot{index}": slots["exp_avg"] for index in range(10_000)})


def one_tensor_of_many_names(manifest: Header) -> None:
    slots = manifest["optimizer"]["state"]["hidden.weight"]
    for index in range(10_000):
        manifest["aliases"][f"optimizer/{index}"] = "optimizer/hidden.weight/exp_avg"
        slots[f"slot{index}"] = {"$tensor": f"optimizer/{index}"}


def nested(levels: int) -> Callable[[Header], None]:
    def change(manifest: Header) -> None:
        for _ in range(levels):
            manifest["params"] = [manifest["params"]]

    return change


CHECKPOINTS: dict[str, Hostile] = {
    "key twice in the header": Hostile(header(key_twice), CorruptCheckpointError, "contradicts the manifest"),
    "key twice in the manifest": Hostile(key_twice_in_manifest, CorruptCheckpointError, "'schema' twice"),
    "tensors that overlap": Hostile(
        entry(data_offsets=[0, 128]), CorruptCheckpointError, "contradicts the manifest"
    ),
    "tensor out of the file": Hostile(
        entry(shape=[2**20, 4], crc=["00000000"] * 2, data_offsets=[0, 2**24]),
        CorruptCheckpointError,
        "contradicts the manifest|cut off",
    ),
    "tensor of 2**40 numbers in a file without them": Hostile(
        entry(shape=[2**40], data_offsets=[0, 2**42]),
        UnsafeCheckpointError,
        "too many checksums or too few",
    ),
    "tensor of 2**62 numbers": Hostile(entry(shape=[2**62]), UnsafeCheckpointError, "impossible shape"),
    "tensor of 2**38 numbers in a file with a hole": Hostile(
        file_with_a_hole, StateMismatchError, r"'hidden.weight' is float32\[274877906944\] in the file"
    ),
    "weight that is a hole": Hostile(
        hole(WEIGHT, (2**26, 4)),
        StateMismatchError,
        r"'hidden.weight' is float32\[67108864, 4\] in the file and float32\[",
    ),
    "weight of no network that is a hole": Hostile(
        hole("nn/other", (2**28,)), StateMismatchError, "'other' is not in what was built"
    ),
    "slot of an optimizer that is a hole": Hostile(
        hole("optimizer/hidden.weight/exp_avg", (2**28,)),
        StateMismatchError,
        r"'exp_avg' of 'hidden.weight' is float32\[268435456\] and the parameter float32\[",
    ),
    "unknown slot of an optimizer that is a hole": Hostile(
        hole("optimizer/new", (2**28,), slot("new", "optimizer/new")),
        StateMismatchError,
        "'new' of 'hidden.weight' is float32",
    ),
    "params that are a hole": Hostile(
        hole("params/x", (2**28,), lambda manifest: manifest["params"].update(x={"$tensor": "params/x"})),
        UnsafeCheckpointError,
        "claim 1,073,741,824 bytes, and the disk holds",
    ),
    "state beside the tensors that is a hole": Hostile(
        hole(
            "extra/nn/x",
            (2**28,),
            lambda manifest: manifest["extra"].update(nn={"_extra_state": {"$tensor": "extra/nn/x"}}),
        ),
        UnsafeCheckpointError,
        "claim 1,073,741,824 bytes, and the disk holds",
    ),
    "state of the class that is a hole": Hostile(
        hole(
            "extra_state/x",
            (2**28,),
            lambda manifest: manifest.update(extra_state={"x": {"$tensor": "extra_state/x"}}),
        ),
        UnsafeCheckpointError,
        "claim 1,073,741,824 bytes, and the disk holds",
    ),
    "header of 99 MiB": Hostile(long_header, UnsafeCheckpointError, "the header takes 103,809,024 bytes"),
    "header without end": Hostile(endless_header, CorruptCheckpointError, "cut off in the header"),
    "header as long as is allowed": Hostile(
        header(lambda data: data[:-1] + b',"x":"' + b"a" * (39 * MIB) + b'"}'),
        CorruptCheckpointError,
        "contradicts the manifest",
    ),
    "header of nothing but lists": Hostile(
        header(lambda data: b'{"a":[' + b"[]," * (13 * MIB) + b"1]}"),
        CorruptCheckpointError,
        "holds no manifest",
    ),
    "deep header": Hostile(
        header(lambda data: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        CorruptCheckpointError,
        "holds no manifest",
    ),
    "deep manifest": Hostile(manifest(nested(70)), UnsafeCheckpointError, "more than 64 levels"),
    "very deep manifest": Hostile(manifest(nested(900)), UnsafeCheckpointError, "more than 64 levels"),
    "manifest of 17 MiB": Hostile(
        manifest(lambda manifest: manifest.update(note="a" * (17 * MIB))),
        UnsafeCheckpointError,
        "the manifest takes 17,",
    ),
    "manifest of 17 MiB that is longer in the header": Hostile(
        manifest(lambda manifest: manifest.update(note='"' * (17 * MIB // 2))),
        UnsafeCheckpointError,
        "the manifest takes 17,",
    ),
    "manifest of too many lists": Hostile(
        manifest(lambda manifest: manifest.update(note=[[]] * (2**20 + 1))),
        UnsafeCheckpointError,
        "the manifest holds too many values, names, lists and objects",
    ),
    "name out of the folder": Hostile(rename("../../x"), UnsafeCheckpointError, "could be taken for a path"),
    "name from the root": Hostile(rename("/etc/passwd"), UnsafeCheckpointError, "could be taken for a path"),
    "name with NUL": Hostile(rename("nn/a\0b"), UnsafeCheckpointError, "characters that do not print"),
    "unknown tag": Hostile(
        manifest(lambda manifest: manifest["params"].update(loss={"$object": "os:system"})),
        UnsafeCheckpointError,
        "which argus_core does not write",
    ),
    "entry point for a name": Hostile(choose("loss", "os:system"), MissingPluginError, "'?os:system"),
    "dotted path for a name": Hostile(choose("loss", "os.system"), MissingPluginError, "'?os.system"),
    "path in builtins for a name": Hostile(
        choose("nn_module", "builtins.eval"), MissingPluginError, "builtins.eval"
    ),
    "module for a provider": Hostile(
        choose("optimizer", "subprocess/Popen"), MissingPluginError, "subprocess/Popen"
    ),
    "name of 2 MiB": Hostile(manifest(long_name), UnsafeCheckpointError, "'components' is not as"),
    "optimizer with one tensor many times": Hostile(
        manifest(one_tensor_many_times), UnsafeCheckpointError, "'optimizer' is not as"
    ),
    "optimizer with one tensor under many names": Hostile(
        manifest(one_tensor_of_many_names), UnsafeCheckpointError, "'optimizer' is not as"
    ),
    "state of other sizes": Hostile(
        manifest(lambda manifest: manifest["params"]["nn_module"]["$tuple"][1].update(classes=5)),
        StateMismatchError,
        "does not fit",
    ),
}
