"""Files that somebody made to do harm: none runs code or fills the memory, each is refused with a reason."""

from __future__ import annotations

import pickle
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crafted import crafted, payload_start
from hostile_archives import ARCHIVES, MARKER, Gadget
from hostile_checkpoints import CHECKPOINTS, manifest
from loaded_alone import Outcome, load_one, register_net
from networks import batches, make_model
from processes import sent_by

import argus_core
from argus_core.errors import CheckpointError
from argus_core.storage.manifest import MAX_VALUES

pytest.importorskip("resource", reason="the system does not say how much memory a process had")

CASES = CHECKPOINTS | {f"archive: {name}": case for name, case in ARCHIVES.items()}
# Bytes.
MOST = 64 * 2**20
# Whoever takes more than this would be stopped by the system rather than the machine by them.
ENOUGH = 4 * 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def refusals(folder: Path) -> dict[str, Outcome]:
    """Return how each hostile file was refused."""
    sound = [folder / "sound.safetensors", folder / "sound.pth"]
    save_sound(*sound)
    refusals = {}
    for name, case in CASES.items():
        path = folder / f"hostile.{'pth' if name.startswith('archive') else 'safetensors'}"
        case.make(sound[0], path)
        refusals[name] = loaded(path, sound)
        path.unlink()
    return refusals


def loaded(path: Path, sound: list[Path]) -> Outcome:
    [outcome] = sent_by(load_one, path, sound, register_net, ENOUGH)
    return outcome


def save_sound(checkpoint: Path, archive: Path) -> None:
    import torch
    from networks import Net

    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        model = make_model(nn_module=("net", {"classes": 3}), optimizer=("Adam", {"lr": 0.1}))
        model.fit(batches())
        model.save(checkpoint, optimizer_state=True)
        state = {
            "model_name": "Model",
            "params": model.params,
            "nn_state_dict": model.nn_module.state_dict(),
            "optimizer_state_dict": model.optimizer.state_dict(),
        }
        torch.save(state, archive)


@pytest.mark.parametrize("name", CASES)
def test_hostile_file_is_refused_with_a_reason(refusals: dict[str, Outcome], name: str) -> None:
    refusal = refusals[name]
    assert refusal.error is CASES[name].error
    assert issubclass(refusal.error, CheckpointError)
    assert re.search(CASES[name].why, refusal.message)


@pytest.mark.parametrize("name", CASES)
def test_hostile_file_takes_little_memory(refusals: dict[str, Outcome], name: str) -> None:
    assert refusals[name].growth < MOST


@pytest.mark.usefixtures("refusals")
def test_no_hostile_file_runs_code() -> None:
    assert not MARKER.exists()


def test_gadget_would_run_if_it_were_unpickled() -> None:
    pickle.loads(pickle.dumps(Gadget()))
    assert MARKER.exists()
    MARKER.unlink()


def test_largest_growth_is_known(
    refusals: dict[str, Outcome], record_property: Callable[[str, object], None]
) -> None:
    name, refusal = max(refusals.items(), key=lambda item: item[1].growth)
    assert refusal.growth > 0
    record_property(
        f"{len(refusals)} hostile files", f"at most {refusal.growth / 2**20:.0f} MiB more memory ({name})"
    )


VALUES = 2**19
NOTES: dict[str, Any] = {
    "text": "a" * (16 * 2**20 - 20_000),
    "quotation marks": '"' * (8 * 2**20 - 20_000),
    "strings": ["ab"] * (VALUES - 2**16),
    "long strings": ["ab" * 9] * (VALUES // 2),
    "strings and text": [["ab"] * (VALUES // 2), "a" * (7 * 2**20)],
    "names": {f"{index:x}": f"{index:x}" for index in range(VALUES * 2 // 7)},
    "objects": [{f"{index:x}": "ab"} for index in range(VALUES // 10)],
    "lists": [[]] * (VALUES // 3),
}


@pytest.mark.parametrize("note", ["names", "objects", "strings"])
def test_parameters_at_the_limits_of_a_manifest_take_little_memory(folder: Path, note: str) -> None:
    sound = [folder / "sound.safetensors", folder / "sound.pth"]
    if not sound[0].exists():
        save_sound(*sound)
    path = folder / "large.safetensors"
    manifest(lambda manifest: manifest["params"]["nn_module"]["$tuple"][1].update(x=NOTES[note]))(
        sound[0], path
    )
    refusal = loaded(path, sound)
    assert "has no parameter 'x'" in refusal.message
    assert refusal.growth < MOST


# For each the text of an item without what tells it from others, and what it counts (see `manifest`).
ITEMS = {"strings": ('"ab",', 1), "lists": ("[],", 2), "names": ('"0000000":"0000000",', 3)}


@pytest.mark.parametrize(("payload", "name"), [(0, 0), (32 * 2**20, 0), (0, 2**21)])
@pytest.mark.parametrize("item", ITEMS)
def test_the_memory_of_a_manifest_stays_in_proportion_to_the_file(
    folder: Path, item: str, payload: int, name: int, record_property: Callable[[str, object], None]
) -> None:
    sound = [folder / "sound.safetensors", folder / "sound.pth"]
    if not sound[0].exists():
        save_sound(*sound)
    text, values = ITEMS[item]
    most = MAX_VALUES + payload / 64 + (3 * name) / 8 - name / 32
    count = int(0.98 * most / (values + len(text) / 32))
    note: Any = {"strings": ["ab"] * count, "lists": [[]] * count}.get(item)
    if note is None:
        note = {f"{index:07x}": f"{index:07x}" for index in range(count)}
    path = folder / "large.safetensors"
    path.write_bytes(with_many_bytes(sound[0].read_bytes(), note, payload, "a" * name))
    refusal = loaded(path, sound)
    assert "the manifest's 'params' is not as argus_core writes it" in refusal.message
    size = path.stat().st_size
    assert refusal.growth < MOST + 6 * (size - payload) + payload
    record_property(
        f"a manifest of {item} in a file of {size / 2**20:.0f} MiB",
        f"{refusal.growth / 2**20:.0f} MiB more memory",
    )
    path.unlink()


def with_many_bytes(sound: bytes, note: Any, payload: int, name: str) -> bytes:
    """Return a checkpoint with a note in its manifest and one more tensor, of so many bytes and that name."""
    end = len(sound) - payload_start(sound)

    def change(header: Any, manifest: Any) -> None:
        manifest.update(note=note, params=None)
        sums = [f"{zlib.crc32(bytes(min(2**23, payload - start))):08x}" for start in range(0, payload, 2**23)]
        manifest["tensors"][f"nn/more{name}"] = {"dtype": "uint8", "shape": [payload], "crc": sums}
        header[f"nn/more{name}"] = {"dtype": "U8", "shape": [payload], "data_offsets": [end, end + payload]}

    return crafted(sound, change, sound[payload_start(sound) :] + bytes(payload))


@pytest.mark.parametrize("note", NOTES)
def test_manifest_at_its_limits_takes_little_memory(
    folder: Path, note: str, record_property: Callable[[str, object], None]
) -> None:
    sound = [folder / "sound.safetensors", folder / "sound.pth"]
    if not sound[0].exists():
        save_sound(*sound)
    path = folder / "large.safetensors"
    manifest(lambda manifest: manifest.update(note=NOTES[note], params=None))(sound[0], path)
    refusal = loaded(path, sound)
    assert "the manifest's 'params' is not as argus_core writes it" in refusal.message
    assert refusal.growth < MOST
    record_property(f"a manifest of {note} at its limits", f"{refusal.growth / 2**20:.0f} MiB more memory")
