"""Files in the place of a ``.pth`` of pytorch-argus that somebody made to run code or to fill the memory."""

from __future__ import annotations

import os
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hostile_checkpoints import Hostile

from argus_core.errors import CorruptCheckpointError, UnsafeCheckpointError

__all__ = ["ARCHIVES", "MARKER", "Gadget", "pickled", "state"]

MIB = 2**20
# What a gadget would leave behind.
MARKER = Path(tempfile.gettempdir(), f"gadget-ran-{os.getpid()}")
OBJECTS = "asks for objects that are not tensors or plain data"
TOO_MUCH = "claims more data than it has"


class Gadget:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {MARKER}",)


def state(**changes: Any) -> dict[str, Any]:
    params = {"nn_module": ("net", {}), "optimizer": ("Adam", {"lr": 0.1}), "device": "cpu"}
    return {"model_name": "Model", "params": params, "nn_state_dict": {}} | changes


def saved(**changes: Any) -> Callable[[Path, Path], None]:
    """Return what saves a state as torch does."""
    return lambda _, path: torch.save(state(**changes), path)


def pickled(program: bytes, name: str = "data.pkl") -> Callable[[Path, Path], None]:
    """Return what writes an archive whose pickle is this program."""

    def make(_: Path, path: Path) -> None:
        torch.save(state(tensor=torch.ones(4)), path)
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        with zipfile.ZipFile(path, "w") as archive:
            for entry, data in entries.items():
                folder, _, file = entry.partition("/")
                archive.writestr(
                    f"{folder}/{name}" if file == "data.pkl" else entry,
                    b"\x80\x02" + program + b"." if file == "data.pkl" else data,
                )

    return make


def number(value: int) -> bytes:
    """Return what puts an integer on the pickle's stack."""
    return b"\x8a\x08" + value.to_bytes(8, "little")


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Return what calls a function in a pickle."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def text(value: str) -> bytes:
    """Return what puts a string on the pickle's stack."""
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def doubled(times: int) -> bytes:
    """Return what encodes a text as hexadecimal digits, and that again and again."""
    program = text("a" * 1000)
    for _ in range(times):
        program = call("_codecs", "encode", program, text("hex"))
    return program


def with_attribute() -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.numel = 5  # type: ignore[method-assign, assignment]
    return parameter


def old_format(value: Any) -> Callable[[Path, Path], None]:
    return lambda _, path: torch.save(state(params=value), path, _use_new_zipfile_serialization=False)


def from_storage(kind: str, key: bytes, count: int) -> bytes:
    """Return what makes a tensor of ``count`` numbers, whose record has this key, in a pickle."""
    storage = (
        b"("
        + text("storage")
        + f"ctorch\n{kind}Storage\n".encode()
        + key
        + text("cpu")
        + number(count)
        + b"tQ"
    )
    hooks = call("collections", "OrderedDict")
    shape = number(count) + b"\x85"
    return call(
        "torch._utils", "_rebuild_tensor_v2", storage, number(0), shape, number(1) + b"\x85", b"\x89", hooks
    )


def many_keys(of: Callable[[int], bytes]) -> Callable[[Path, Path], None]:
    """Return what writes a network of many tensors of one record of 4 MiB, by keys for one name.

    Args:
        of: returns what puts a key on the pickle's stack.
    """

    def make(_: Path, path: Path) -> None:
        tensors = b"".join(text(f"w{index}") + from_storage("Float", of(index), MIB) for index in range(500))
        state = text("model_name") + text("Model") + text("params") + b"}" + text("nn_state_dict") + b"}("
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02}(" + state + tensors + b"uu.")
            archive.writestr("a/version", b"3")
            archive.writestr("a/data/" + "a" * 16, bytes(4 * MIB))
            archive.writestr("a/data/0", bytes(4 * MIB))
            archive.writestr("a/data/1", bytes(8))

    return make


def in_other_cases(index: int) -> bytes:
    return text("".join("aA"[index >> bit & 1] for bit in range(16)))


def as_tensor(index: int) -> bytes:
    """Return what makes a tensor that is shown as 0, and is no other one's equal."""
    return from_storage("Long", text("1"), 1).replace(number(1) + b"\x85", b")")


def deflated(_: Path, path: Path) -> None:
    """Write a little that unpacks to a quarter of a gigabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a/data.pkl", pickle.dumps(state(), 2))
        archive.writestr("a/version", b"3")
        archive.writestr("a/data/0", bytes(256 * MIB))


def patched(*changes: tuple[bytes, int, bytes]) -> Callable[[Path, Path], None]:
    """Return what writes a sound archive with bytes changed at an offset from the last of some others."""

    def make(_: Path, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", pickle.dumps(state(), 2))
        data = bytearray(path.read_bytes())
        for found, offset, new in changes:
            start = data.rindex(found) + offset
            data[start : start + len(new)] = new
        path.write_bytes(data)

    return make


def two_directories(_: Path, path: Path) -> None:
    """Write an archive in which zipfile finds stored entries, and torch deflated ones of the same names."""
    deflated(_, path)
    bomb = path.read_bytes()[:-22]
    with zipfile.ZipFile(path) as archive:
        start, names = archive.start_dir, archive.namelist()
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, pickle.dumps(state(), 2))
    harmless = bytearray(path.read_bytes())
    own_start = harmless.index(b"PK\1\2")
    # zipfile takes the place of the table for where it should be, less what stands before the archive.
    place = own_start
    for name in names:
        (offset,) = struct.unpack_from("<L", harmless, place + 42)
        struct.pack_into("<L", harmless, place + 42, offset - own_start + start)
        place += 46 + len(name)
    struct.pack_into("<L", harmless, len(harmless) - 6, start)
    path.write_bytes(bomb + harmless)


def many_entries(_: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(45_000):
            archive.writestr(zipfile.ZipInfo(f"{index}"), b"")


def laughs() -> list[Any]:
    """Return a list of 2**60 lists, which takes a few hundred bytes."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


def nested(levels: int) -> bytes:
    return b"]" * levels + b"a" * (levels - 1)


def circle() -> list[Any]:
    value: list[Any] = []
    value += [value, value]
    return value


def expanded(count: int) -> torch.Tensor:
    return torch.ones(1, dtype=torch.float64).expand(count)


def slots(**tensors: torch.Tensor) -> dict[str, Any]:
    return {"state": {0: tensors}, "param_groups": [{"params": [0, 1, 2, 3]}]}


MANY = {f"slot{index}": torch.ones(1) for index in range(3)}
ONE_OFTEN = dict.fromkeys((f"slot{index}" for index in range(100_000)), torch.ones(1000, dtype=torch.float64))

ARCHIVES: dict[str, Hostile] = {
    "gadget in an archive": Hostile(saved(params=Gadget()), UnsafeCheckpointError, OBJECTS),
    "gadget in the old format": Hostile(
        old_format(Gadget()), CorruptCheckpointError, "older than torch 1.6's archive format"
    ),
    **{
        f"gadget in a pickle of protocol {protocol}": Hostile(
            lambda _, path, protocol=protocol: path.write_bytes(pickle.dumps(Gadget(), protocol)),
            CorruptCheckpointError,
            "older than torch 1.6|not an argus checkpoint",
        )
        for protocol in (0, 2, 5)
    },
    "gadget under another case": Hostile(
        pickled(pickle.dumps(Gadget(), 2)[2:-1], "DATA.PKL"), UnsafeCheckpointError, OBJECTS
    ),
    "gadget by stacked names": Hostile(
        pickled(pickle.dumps(Gadget(), 4)[2:-1]),
        UnsafeCheckpointError,
        "does not hold tensors and plain data",
    ),
    "bytearray of 2**40 bytes": Hostile(
        pickled(call("__builtin__", "bytearray", number(2**40))), UnsafeCheckpointError, OBJECTS
    ),
    "tensor of 2**40 numbers": Hostile(
        pickled(call("torch", "FloatTensor", number(2**40))), UnsafeCheckpointError, OBJECTS
    ),
    "codec upon codec, which doubles a text each time": Hostile(
        pickled(doubled(30)), UnsafeCheckpointError, OBJECTS
    ),
    "codec that takes the square of a text's length": Hostile(
        pickled(call("_codecs", "encode", text("\u4e00" * 20_000), text("punycode"))),
        UnsafeCheckpointError,
        OBJECTS,
    ),
    "parameter with an attribute in the place of a method": Hostile(
        saved(nn_state_dict={"weight": with_attribute()}), UnsafeCheckpointError, OBJECTS
    ),
    "storage of 2**40 numbers": Hostile(
        pickled(call("torch", "FloatStorage", number(2**40))),
        UnsafeCheckpointError,
        "does not hold tensors and plain data",
    ),
    "one record under many keys: other cases": Hostile(
        many_keys(in_other_cases), UnsafeCheckpointError, TOO_MUCH
    ),
    "one record under many keys: tensors": Hostile(many_keys(as_tensor), UnsafeCheckpointError, TOO_MUCH),
    **{
        f"dict whose {name} is a number": Hostile(
            pickled(
                b"}("
                + text("model_name")
                + text("Model")
                + text("params")
                + b"}"
                + text("nn_state_dict")
                + call("collections", "OrderedDict")
                + b"}"
                + text(name)
                + b"K\x05sbu"
            ),
            UnsafeCheckpointError,
            "holds objects that are not tensors or plain data",
        )
        for name in ("values", "keys")
    },
    "storage of 2**31 bytes without data": Hostile(
        pickled(
            b"}("
            + text("model_name")
            + text("Model")
            + text("nn_state_dict")
            + b"}"
            + text("params")
            + b"}"
            + text("a")
            + call("torch.storage", "UntypedStorage", number(2**31))
            + b"su"
        ),
        UnsafeCheckpointError,
        "not (hold )?tensors (and|or) plain data",
    ),
    "deflated archive": Hostile(deflated, UnsafeCheckpointError, "is compressed or encrypted"),
    "encrypted archive": Hostile(
        patched((b"PK\1\2", 8, b"\1"), (b"PK\3\4", 6, b"\1")),
        UnsafeCheckpointError,
        "is compressed or encrypted",
    ),
    "archive that claims 4 GiB": Hostile(
        patched((b"PK\1\2", 20, b"\xfe\xff\xff\xff\xfe\xff\xff\xff")), UnsafeCheckpointError, TOO_MUCH
    ),
    "archive with two tables of contents": Hostile(
        two_directories, CorruptCheckpointError, "table of contents is not where it should be"
    ),
    "archive of 45,000 entries": Hostile(many_entries, UnsafeCheckpointError, "the table of contents of"),
    "pickle of 5 MiB": Hostile(
        pickled(b"]" + b"N0" * (5 * MIB // 2)), UnsafeCheckpointError, "and 4,194,304 is the most"
    ),
    "pickle of a million lists": Hostile(
        pickled(b"](" + b"]" * 10**6 + b"e"), UnsafeCheckpointError, "more objects than it has data"
    ),
    "network with stride 0": Hostile(
        saved(nn_state_dict={"hidden.weight": expanded(2**40)}), UnsafeCheckpointError, TOO_MUCH
    ),
    "params with stride 0": Hostile(
        saved(params={"weight": [expanded(2**40)]}), UnsafeCheckpointError, TOO_MUCH
    ),
    "optimizer with stride 0": Hostile(
        saved(optimizer_state_dict=slots(exp_avg=expanded(2**40))), UnsafeCheckpointError, TOO_MUCH
    ),
    "optimizer with one tensor many times": Hostile(
        saved(optimizer_state_dict=slots(**ONE_OFTEN)), UnsafeCheckpointError, TOO_MUCH
    ),
    "list of 2**60 lists": Hostile(saved(params={"a": laughs()}), UnsafeCheckpointError, TOO_MUCH),
    "list that holds itself": Hostile(
        saved(params={"a": circle()}), UnsafeCheckpointError, "something that holds itself"
    ),
    "deep list": Hostile(
        pickled(
            b"}(X\x0a\0\0\0model_nameX\5\0\0\0ModelX\6\0\0\0params"
            + nested(20_000)
            + b"X\x0d\0\0\0nn_state_dict}u"
        ),
        UnsafeCheckpointError,
        "has more than 64 levels",
    ),
}
