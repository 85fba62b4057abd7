"""Folders of shards: kill -9 of one or of all processes while they save together, and changed at random.

``tox run -e faults`` makes many more trials; docs/explanation/what-a-checkpoint-promises.md has its figures.
"""

from __future__ import annotations

import json
import pickle
import random
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from numbered import load, numbered, run_of, save
from together import group, save_numbered
from torch import distributed

from argus_core import ArgusError, CheckpointError
from argus_core.storage.folder_manifest import MANIFEST
from argus_core.tensors.processes import saving_group

Trials = Callable[[int, int], int]
Record = Callable[[str, object], None]

HIDDEN = 4000


# Killed


def save_on(rank: int, connection: Connection, path: Path) -> None:
    models = [numbered(1), numbered(2)]
    saving_group()
    distributed.barrier()  # a process that is killed before the others have met it lets them wait
    for index in range(1000):
        connection.send("begin")
        save(models[index % 2], path)
        connection.send("end")


@pytest.mark.parametrize("killed", ["one", "all"])
def test_killed_while_saving_together_leaves_the_old_or_the_new_folder(
    killed: str, tmp_path: Path, trials: Trials, record_property: Record
) -> None:
    rng, seen, count = random.Random(killed), Counter[str](), trials(6, 200)
    path = tmp_path / "model.sharded"
    for _ in range(count):
        save(numbered(0), path)
        with group(save_on, tmp_path.parent / f"{tmp_path.name}-meeting", 2, path) as members:
            for _, connection in members:
                assert connection.recv() == "begin"
            time.sleep(rng.uniform(0, 0.3))
            chosen = members if killed == "all" else [rng.choice(members)]
            for process, _ in chosen:
                process.kill()
            for process, _ in members:
                process.join(20)  # the other one notices
                assert not process.is_alive()
            said = "begin"
            with suppress(EOFError):
                while True:
                    said = members[0][1].recv()
        found = run_of(path)
        assert found in (0, 1, 2)
        left = len([*tmp_path.glob(".*.tmp")])
        save(numbered(0, hidden=4), path)
        assert [*tmp_path.iterdir()] == [path]
        seen.update({"amid a save": said == "begin", "a new folder": found > 0, "temporaries swept": left})
    record_property(f"kill -9 of {killed} of 2 processes, {count} times: none lost, none torn", dict(seen))


# Changed at random

Files = dict[str, bytes]


def changed_bytes(rng: random.Random, files: Files) -> None:
    name = rng.choice(sorted(files))
    data = bytearray(files[name])
    # Headers, which are short, as often as tensors.
    start = rng.randrange(min(len(data), rng.choice([600, 6000, len(data)])))
    kind = rng.randrange(4)
    if kind == 0:
        data[start] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[start : start + rng.randrange(1, 5000)] = rng.randbytes(rng.randrange(0, 50))
    elif kind == 2:
        del data[start:]
    else:
        data[start:start] = rng.randbytes(rng.randrange(1, 50))
    files[name] = bytes(data)


def changed_files(rng: random.Random, files: Files) -> None:
    one, other = rng.sample(sorted(files), 2)
    kind = rng.randrange(4)
    if kind == 0:
        files[one], files[other] = files[other], files[one]
    elif kind == 1:
        files[one] = files[other]
    elif kind == 2:
        del files[one]
    else:
        files[rng.choice(["a.pkl", "00002-of-00002.safetensors", "00000-of-00001.safetensors", ".x"])] = (
            files[one]
        )


VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2,
    2**62,
    1.5,
    "",
    "../x",
    "float64",
    [],
    {},
    [[1, "00000000"]],
    {"split": 0},
]


def places(tree: Any) -> list[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key in keys] + [place for key in keys for place in places(tree[key])]


def crafted_manifest(rng: random.Random, files: Files) -> None:
    """Change values of the manifest, whose checksum is right again."""
    manifest = json.loads(files[MANIFEST])["argus"]
    for _ in range(rng.randrange(1, 3)):
        section = rng.choice([*manifest, "tensors", "folder", "aliases"])
        node, key = rng.choice(
            [(manifest, section), *places(manifest[section])] if section in manifest else [(manifest, "x")]
        )
        if rng.random() < 0.2 and isinstance(node, dict) and key in node:
            node[rng.choice(["nn/hidden.weight", "shard", "split", "../y"])] = node.pop(key)
        elif rng.random() < 0.2 and key != "x":
            del node[key]
        else:
            node[key] = rng.choice(VALUES)
    text = json.dumps(manifest, separators=(",", ":"))
    files[MANIFEST] = f'{{"argus_crc":"{zlib.crc32(text.encode()):08x}","argus":{text}}}\n'.encode()


def put(folder: Path, files: Files) -> None:
    for file in folder.iterdir():
        file.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_changed_folders_load_right_or_are_refused(
    tmp_path: Path, trials: Trials, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count = tmp_path / "model.sharded", trials(400, 10_000)
    save_numbered(path, tmp_path / "meeting", 2, run=1, hidden=200)
    sound = {file.name: file.read_bytes() for file in path.iterdir()}
    rng, seen = random.Random(0), Counter[str]()
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    for _ in range(count):
        files, change = (
            dict(sound),
            rng.choice([changed_bytes, changed_bytes, changed_files, crafted_manifest]),
        )
        change(rng, files)
        put(path, files)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if change is crafted_manifest:  # which may say other things, rightly
                    load(path)
                else:
                    assert run_of(path, hidden=200) == 1
        except CheckpointError:
            seen["refused"] += 1
        except ArgusError:
            assert change is crafted_manifest  # names other components, for example
            seen["refused"] += 1
        else:
            assert change is crafted_manifest or {**files, ".x": b""} == {**sound, ".x": b""}
            seen["loaded"] += 1
    put(path, sound)
    assert run_of(path, hidden=200) == 1
    assert torch.is_tensor(load(path).nn_module.state_dict()["out.bias"])
    record_property(f"{count} changed folders: right or refused", dict(seen))


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("unpickled")
