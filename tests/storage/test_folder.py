"""Checkpoints in folders of shards: what several processes write, any number reads; strange folders are "
"refused."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import crafted
from numbered import load, numbered, run_of, save
from together import results, save_numbered, split, written

from argus_core import ArgusError, CheckpointError, CorruptCheckpointError, UnsafeCheckpointError
from argus_core.errors import ParamsError
from argus_core.storage import CheckpointFile, linux, open_stored, read_header, write
from argus_core.storage.folder_manifest import MANIFEST, shard_name
from argus_core.storage.folder_replacement import remove_folder
from argus_core.storage.pieces import Box, Piece, whole
from argus_core.tensors.processes import saving_group

TENSORS = {
    "w": torch.arange(7 * 5 * 3, dtype=torch.float32).reshape(7, 5, 3),
    "half": torch.arange(9, dtype=torch.bfloat16),
    "complex": torch.arange(8).reshape(4, 2) * torch.tensor(1 + 2j, dtype=torch.complex128),
    "float8": torch.arange(6, dtype=torch.float32).reshape(3, 2).to(torch.float8_e4m3fn),
    "step": torch.tensor(3),
    "short": torch.ones(1, 4),
    "none": torch.empty(0, 3),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.sharded"


@pytest.fixture(scope="module")
def by_three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that three processes wrote."""
    path = tmp_path_factory.mktemp("three") / "model.sharded"
    assert written(path, [split(TENSORS, rank, 3) for rank in range(3)], {"run": "old"}) == [None] * 3
    return path


@pytest.fixture
def folder(by_three: Path, path: Path) -> Path:
    """Return a copy of that folder, to be changed."""
    return Path(shutil.copytree(by_three, path))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8) if tensor.numel() and tensor.dim() else tensor


def assert_whole(path: Path) -> None:
    with open_stored(path) as stored:
        found = stored.read()
    assert found.keys() == TENSORS.keys()
    assert all(found[name].dtype is each.dtype for name, each in TENSORS.items())
    assert all(torch.equal(bits(found[name]), bits(each)) for name, each in TENSORS.items())


# Written and read


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_process_reads_what_others_wrote(path: Path, count: int) -> None:
    assert written(path, [split(TENSORS, rank, count) for rank in range(count)], {}) == [None] * count
    assert sorted(os.listdir(path)) == [*(shard_name(number, count) for number in range(count)), MANIFEST]
    assert_whole(path)


def read_part(rank: int, path: Path, count: int) -> list[bool]:
    found = []
    with open_stored(path) as stored:
        for name, given in split(TENSORS, rank, count).items():
            box = given.box if isinstance(given, Piece) else None
            [part] = stored.read_parts({name: box}).values()
            expected = given.tensor if isinstance(given, Piece) else given
            found.append(torch.equal(bits(part), bits(expected)))
    return found


@pytest.mark.parametrize("count", [2, 4])
def test_each_of_several_processes_reads_its_own_part(by_three: Path, tmp_path: Path, count: int) -> None:
    assert results(read_part, tmp_path / "meeting", count, by_three, count) == [[True] * len(TENSORS)] * count


def test_any_box_of_a_tensor_is_read(by_three: Path) -> None:
    tensor = TENSORS["w"]
    boxes = [Box((a, b, c), (7 - a, 4 - b, 2)) for a in range(7) for b in range(3) for c in range(2)]
    with open_stored(by_three) as stored:
        for box in boxes:
            part = stored.read_parts({"w": box})["w"]
            assert torch.equal(part, tensor[box.inside(whole(tensor.shape))])


def test_box_outside_of_its_tensor_is_refused(by_three: Path) -> None:
    with open_stored(by_three) as stored, pytest.raises(ParamsError, match=r"does not lie in 'w'"):
        stored.read_parts({"w": Box((6, 0, 0), (2, 5, 3))})


def test_parts_over_several_chunks_are_read_and_verified(path: Path) -> None:
    big = torch.arange(6 * 2**20, dtype=torch.int32).reshape(-1, 2**10)
    write(path, {"big": big}, {})
    with open_stored(path) as stored:
        for box in (Box((1000, 0), (3000, 2**10)), Box((5, 3), (6000, 11))):
            part = stored.read_parts({"big": box})["big"]
            assert torch.equal(part, big[box.inside(whole(big.shape))])
    with (path / shard_name(0, 1)).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    with open_stored(path) as stored:
        stored.read_parts({"big": Box((0, 0), (1000, 2**10))})  # of other chunks
        with pytest.raises(CorruptCheckpointError, match="tensor 'big' is damaged"):
            stored.read_parts({"big": Box((5000, 0), (1, 2**10))})


def test_file_gives_parts_too(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", TENSORS, {})
    with open_stored(tmp_path / "a.safetensors") as stored:
        part = stored.read_parts({"w": Box((1, 2, 0), (2, 3, 1)), "half": None})
    assert torch.equal(part["w"], TENSORS["w"][1:3, 2:5, :1])
    assert torch.equal(part["half"], TENSORS["half"])


def test_pieces_of_any_form_are_stored_where_they_make_up_the_tensor(path: Path) -> None:
    tensor = torch.arange(20).reshape(4, 5)
    boxes = [Box((0, 0), (4, 2)), Box((0, 2), (1, 3)), Box((1, 2), (3, 3))]
    columns = [Box((0, 0), (4, 2)), Box((0, 2), (4, 2)), Box((0, 4), (4, 1))]
    pieces = [
        {
            name: Piece(tensor[box.inside(whole((4, 5)))].clone(), (4, 5), box.offset)
            for name, box in named.items()
        }
        for named in ({"odd": odd, "columns": column} for odd, column in zip(boxes, columns, strict=True))
    ]
    assert written(path, pieces, {}) == [None] * 3
    places = json.loads((path / MANIFEST).read_text())["argus"]["tensors"]
    assert "split" not in places["odd"]
    assert places["columns"]["split"] == 1
    with open_stored(path) as stored:
        assert all(torch.equal(each, tensor) for each in stored.read().values())
        assert torch.equal(stored.read_parts({"odd": Box((0, 1), (3, 3))})["odd"], tensor[:3, 1:4])


def test_whole_tensors_are_shared_out_and_tied_ones_stored_once(path: Path) -> None:
    tensors: dict[str, Any] = {f"t{index}": torch.full((1000,), float(index)) for index in range(8)}
    tensors["tied"] = tensors["t3"]
    assert written(path, [dict(tensors)] * 2, {}) == [None] * 2
    sizes = [(path / shard_name(number, 2)).stat().st_size for number in range(2)]
    assert max(sizes) < 1.1 * min(sizes)
    with open_stored(path) as stored:
        found = stored.read()
    assert found["tied"] is found["t3"]
    assert all(torch.equal(found[name], each) for name, each in tensors.items())


def test_one_memory_may_hold_pieces_of_several_tensors(path: Path) -> None:
    memory = torch.arange(4)
    pieces = [
        {"short": Piece(memory, (4,), (0,)), "long": Piece(memory, (8,), (0,))},
        {"short": Piece(memory[:0], (4,), (4,)), "long": Piece(memory.clone(), (8,), (4,))},
    ]
    assert written(path, [*pieces], {}) == [None] * 2
    with open_stored(path) as stored:
        found = stored.read()
    assert torch.equal(found["short"], memory)
    assert torch.equal(found["long"], torch.cat([memory, memory]))


def test_manifest_does_not_grow_with_processes_times_tensors(tmp_path: Path) -> None:
    tensors = {f"layers.{index}.weight": torch.ones(16, 2) for index in range(200)}
    sizes = []
    for count in (1, 4):
        path = tmp_path / f"{count}.sharded"
        assert written(path, [split(tensors, rank, count) for rank in range(count)], {}) == [None] * count
        sizes.append((path / MANIFEST).stat().st_size)
    assert sizes[1] < sizes[0] + 200


def test_channels_last_and_aliases_come_back(path: Path) -> None:
    image = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write(path, {"a": image, "b": image}, {})
    with open_stored(path) as stored:
        found = stored.read()
    assert found["a"] is found["b"]
    assert found["a"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found["a"], image)


def test_shard_is_a_safetensors_file(by_three: Path) -> None:
    from safetensors.torch import load_file

    found = load_file(by_three / shard_name(1, 3))
    assert torch.equal(found["w"], TENSORS["w"][3:6])
    with CheckpointFile(by_three / shard_name(1, 3)) as file:
        assert torch.equal(file.read(["w"])["w"], TENSORS["w"][3:6])


def test_header_of_a_folder_needs_no_shard_but_its_size(folder: Path) -> None:
    header = read_header(folder)
    assert header.manifest["run"] == "old"
    assert {name: entry.shape for name, entry in header.entries.items()} == {
        name: tuple(tensor.shape) for name, tensor in TENSORS.items()
    }
    assert header.file_size == sum(file.stat().st_size for file in folder.iterdir())


# Processes that do not fit together


def test_tensors_that_differ_between_processes_are_refused(path: Path) -> None:
    for other in ({"a": torch.ones(3), "b": torch.ones(1)}, {"a": torch.ones(4)}, {"a": torch.ones(3).int()}):
        raised = written(path, [{"a": torch.ones(3)}, other], {})
        assert all(isinstance(error, ParamsError) for error in raised)
        assert "process 1 saves other tensors than the first one" in str(raised[0])
    assert not path.exists()


@pytest.mark.parametrize("offsets", [(0, 1), (0, 3)])
def test_pieces_with_holes_or_overlaps_are_refused(path: Path, offsets: tuple[int, ...]) -> None:
    pieces = [{"a": Piece(torch.ones(2, 2), (4, 2), (offset, 0))} for offset in offsets]
    raised = written(path, [*pieces], {})
    assert all(isinstance(error, ParamsError | CheckpointError) for error in raised)
    assert "do not make up a tensor" in str(raised[0]) or "does not lie in a tensor" in str(raised[1])
    assert not path.exists()


def fail_in_one(rank: int, path: Path) -> None:
    if rank == 1:
        import resource

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    write(path, {f"t{index}": torch.randn(500_000) for index in range(4)}, {}, saving_group())


def test_full_disk_of_one_process_is_told_by_all(folder: Path) -> None:
    raised = results(fail_in_one, folder.parent / "meeting", 2, folder)
    assert re.search(f"process 1 failed: .*{os.strerror(errno.EFBIG)}", str(raised[0]))
    assert f"{os.strerror(errno.EFBIG)}; the checkpoint that was there is untouched" in str(raised[1])
    assert_whole(folder)
    assert os.listdir(folder.parent) == [folder.name]


def test_value_that_is_no_tensor_is_refused_when_written(path: Path) -> None:
    with pytest.raises(ParamsError, match="'a' is of type bytes"):
        write(path, {"a": b"bytes"}, {})  # type: ignore[dict-item]
    assert not path.exists()


def test_piece_is_refused_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"give the whole tensor, or a name that ends in \.sharded"):
        write(tmp_path / "a.safetensors", {"a": Piece(torch.ones(2), (4,), (0,))}, {})


# Damaged and strange folders


def refused(path: Path, match: str | None = None, kind: type[CheckpointError] = CheckpointError) -> None:
    with pytest.raises(kind, match=match), open_stored(path) as stored:
        stored.read()


def test_missing_shard_is_refused(folder: Path) -> None:
    (folder / shard_name(1, 3)).unlink()
    refused(folder, "1 of its 3 shards are missing, 00001-of-00003.safetensors", CorruptCheckpointError)
    with pytest.raises(CorruptCheckpointError, match="are missing"):
        read_header(folder)


def test_missing_manifest_is_refused(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    refused(folder, r"holds no manifest\.json", CorruptCheckpointError)


def test_truncated_shard_is_refused_by_the_tensor(folder: Path) -> None:
    shard = folder / shard_name(2, 3)
    os.truncate(shard, shard.stat().st_size - 1)
    refused(folder, "00002-of-00003.safetensors: the file is cut off in tensor '", CorruptCheckpointError)


def test_swapped_shards_are_refused(folder: Path) -> None:
    write_twice = folder.parent / "other.sharded"
    same = {name: torch.ones_like(tensor) for name, tensor in TENSORS.items()}
    assert written(write_twice, [split(same, rank, 3) for rank in range(3)], {"run": "old"}) == [None] * 3
    shutil.copy(write_twice / shard_name(0, 3), folder / shard_name(0, 3))
    refused(
        folder, "is damaged .*or 00000-of-00003.safetensors is of another checkpoint", CorruptCheckpointError
    )
    shutil.copy(write_twice / MANIFEST, folder / MANIFEST)
    refused(folder, "is of another checkpoint", CorruptCheckpointError)


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "foreign file": (lambda folder: (folder / "data.pkl").write_bytes(pickle.dumps({})), "'data.pkl' in it"),
    "another shard": (lambda folder: (folder / shard_name(3, 4)).touch(), "is not one of its shards"),
    "FIFO": (lambda folder: replace_by(folder, os.mkfifo), "is not an ordinary file"),
    "link": (
        lambda folder: replace_by(folder, lambda name: name.symlink_to("/etc/hostname")),
        "not an ordinary",
    ),
    "folder": (lambda folder: replace_by(folder, Path.mkdir), "is not an ordinary file"),
    "manifest link": (
        lambda folder: (
            (folder / MANIFEST).rename(folder.parent / "m")
            and (folder / MANIFEST).symlink_to(folder.parent / "m")
        ),
        "is not an ordinary file",
    ),
}


def replace_by(folder: Path, make: Callable[[Path], object]) -> None:
    (folder / shard_name(0, 3)).unlink()
    make(folder / shard_name(0, 3))


@pytest.mark.parametrize("name", STRANGE)
def test_strange_folder_is_refused_and_not_overwritten(folder: Path, name: str) -> None:
    make, match = STRANGE[name]
    make(folder)
    refused(folder, match, UnsafeCheckpointError)
    if name != "another shard":
        with pytest.raises(CheckpointError, match="not part of a checkpoint; move it away"):
            write(folder, TENSORS, {})
        with pytest.raises(OSError, match="not part of a checkpoint"):
            remove_folder(folder)


def test_file_where_a_folder_belongs_is_refused(path: Path) -> None:
    path.write_bytes(b"mine")
    with pytest.raises(CheckpointError, match=r"a file is there, and checkpoints in \.sharded are folders"):
        write(path, TENSORS, {})
    assert path.read_bytes() == b"mine"


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())["argus"]
    change(manifest)
    text = json.dumps(manifest, separators=(",", ":"))
    (folder / MANIFEST).write_text(f'{{"argus_crc":"{zlib.crc32(text.encode()):08x}","argus":{text}}}\n')


CRAFTED: dict[str, Callable[[dict[str, Any]], object]] = {
    "path of a shard": lambda manifest: manifest["folder"].update(files=["../../etc/passwd"]),
    "path for a place": lambda manifest: manifest["tensors"]["step"].update(shard="../x"),
    "place beyond the shards": lambda manifest: manifest["tensors"]["step"].update(shard=3),
    "place true": lambda manifest: manifest["tensors"]["step"].update(shard=True),
    "split of a number": lambda manifest: manifest["tensors"].update(
        step={"dtype": "int64", "shape": [], "split": 0}
    ),
    "name out of a folder": lambda manifest: manifest["tensors"].update({"../a": manifest["tensors"]["w"]}),
    "another split": lambda manifest: manifest["tensors"]["w"].update(split=1),
    "another dtype": lambda manifest: manifest["tensors"]["w"].update(dtype="int32"),
    "another shape": lambda manifest: manifest["tensors"]["w"].update(shape=[7, 3, 5]),
    "tensor of no shard": lambda manifest: manifest["tensors"].update(
        x={"dtype": "int8", "shape": [1], "shard": 0}
    ),
    "no place": lambda manifest: manifest["tensors"].update(x={"dtype": "int8", "shape": [1]}),
    "memory": lambda manifest: manifest["tensors"].update(x={"dtype": "int8", "shape": [2**40], "shard": 0}),
    "other save": lambda manifest: manifest["folder"].update(save="0" * 32),
    "no shards": lambda manifest: manifest["folder"].update(shards=[]),
    "shard of a negative size": lambda manifest: manifest["folder"]["shards"].__setitem__(
        0, [-1, "00000000"]
    ),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_manifest_is_refused(folder: Path, name: str) -> None:
    change_manifest(folder, CRAFTED[name])
    refused(folder)


def test_crafted_offsets_are_refused(folder: Path) -> None:
    shard = folder / shard_name(0, 3)
    shard.write_bytes(
        crafted(shard.read_bytes(), lambda _, manifest: manifest["offsets"].update(w=[1, 0, 0]))
    )
    data = shard.read_bytes()
    header = data[: 8 + int.from_bytes(data[:8], "little")]
    listed = [len(data), f"{zlib.crc32(header):08x}"]
    change_manifest(folder, lambda manifest: manifest["folder"]["shards"].__setitem__(0, listed))
    refused(folder, "holds another piece of 'w' than the manifest says", UnsafeCheckpointError)


def test_sparse_shards_may_not_fill_the_memory(folder: Path) -> None:
    os.truncate(folder / shard_name(0, 3), 2**33)
    refused(folder)


def test_sha256_is_for_files(folder: Path) -> None:
    for read in (open_stored, read_header):
        with pytest.raises(CheckpointError, match="sha256 pins one file"):
            read(folder, "0" * 64)


def test_path_without_a_checkpoint_is_told_with_near_ones(folder: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no checkpoint at .*modle\.sharded; did you mean 'model\.sharded'"
    ):
        open_stored(folder.with_name("modle.sharded"))


# Replaced


def test_reader_keeps_the_save_that_it_opened(folder: Path) -> None:
    with open_stored(folder) as stored:
        write(folder, {"w": torch.zeros(2)}, {})
        assert all(torch.equal(bits(each), bits(TENSORS[name])) for name, each in stored.read().items())
    with open_stored(folder) as stored:
        assert torch.equal(stored.read()["w"], torch.zeros(2))


def test_folder_without_exchange_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "exchange", lambda *_: False)
    write(folder, {"w": torch.zeros(2)}, {})
    assert os.listdir(folder.parent) == [folder.name]
    assert read_header(folder).entries.keys() == {"w"}


def test_folder_that_was_being_replaced_without_exchange_is_restored(folder: Path) -> None:
    folder.rename(folder.with_name(f".{folder.name}.moved"))  # killed at this moment
    with pytest.raises(ParamsError):
        write(folder, {"w": torch.zeros(2, device="meta")}, {})
    write(folder.with_name("next.sharded"), {}, {})
    with pytest.raises(ParamsError, match="could be taken for a path"):
        write(folder, {"../w": torch.zeros(2)}, {})
    write(folder, {"w": torch.zeros(2)}, {})
    assert sorted(os.listdir(folder.parent)) == [folder.name, "next.sharded"]


def test_hidden_files_stay_beside_the_new_shards(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"of the system")
    write(folder, {"w": torch.zeros(2)}, {})
    assert (folder / ".DS_Store").read_bytes() == b"of the system"
    assert read_header(folder).entries.keys() == {"w"}


def test_folder_keeps_its_permissions_and_its_link(folder: Path, tmp_path: Path) -> None:
    folder.chmod(0o700)
    (tmp_path / "link.sharded").symlink_to(folder)
    write(tmp_path / "link.sharded", {"w": torch.zeros(2)}, {})
    assert (tmp_path / "link.sharded").is_symlink()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert read_header(folder).entries.keys() == {"w"}


# Models


@pytest.mark.parametrize("count", [1, 3])
def test_model_saved_by_several_processes_is_loaded_by_one(path: Path, count: int) -> None:
    save_numbered(path, path.parent / "meeting", count, run=1, hidden=50)
    assert run_of(path, hidden=50) == 1


def save_in_background(rank: int, path: Path) -> int:
    from torch import distributed

    from argus_core.callbacks.background import BackgroundWriter

    model, writer, seen = numbered(rank * 0 + 2, hidden=2000), BackgroundWriter(), 0
    for _ in range(3):
        model.save(path, optimizer_state=True, write=writer)
        for _ in range(20):  # training's own collectives go on meanwhile
            vote = torch.ones(1)
            distributed.all_reduce(vote)
            seen += int(vote.item())
    writer.wait()
    return seen


def test_background_saving_has_a_process_group_of_its_own(path: Path) -> None:
    assert results(save_in_background, path.parent / "meeting", 2, path) == [120, 120]
    assert run_of(path, hidden=2000) == 2


def test_nothing_is_unpickled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for name in ("Unpickler", "_Unpickler", "load", "loads", "_load", "_loads"):
        monkeypatch.setattr(pickle, name, refuse)
    save(numbered(1, hidden=20), path)
    assert run_of(path, hidden=20) == 1
    (path / MANIFEST).write_bytes(b"\x80\x05cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ArgusError):
        load(path)
