"""What a checkpoint callback may delete: files that it wrote, in this run or the one it resumes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from networks import batches, make_model
from rewritten import changed_callback, changed_progress

import argus_core
from argus_core import ArgusError, ConflictError, Model, UnsafeCheckpointError
from argus_core.callbacks.written import WrittenFiles, run_of
from argus_core.errors import ArgusWarning
from argus_core.training.newest import find_checkpoint

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

pytestmark = pytest.mark.usefixtures("net_registry")

DATA = batches()


def keep(folder: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    return "checkpoint", {"dir_path": str(folder), "optimizer_state": True, **options}


def fit(num_epochs: int, *callbacks: Any, **options: Any) -> Model:
    model = make_model()
    model.fit(DATA, num_epochs=num_epochs, callbacks=list(callbacks), **options)
    return model


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def hostile(folder: Path, saved: Any) -> Path:
    """Return a checkpoint of one epoch whose callback says that it wrote ``saved``."""
    fit(1, keep(folder))

    path = folder / "model-000.safetensors"
    return changed_callback(path, "checkpoint", lambda state: {**state, "saved": saved})


@pytest.mark.parametrize(
    "saved",
    [
        *(["../thesis.tex"], ["../../thesis.tex"], ["a/../../thesis.tex"], ["sub/model.safetensors"], [".."]),
        *([""], ["x\0y"], [5], [None], ["a" * 300], "thesis.tex", {"thesis.tex": 1}, 5, None),
    ],
)
def test_names_that_lie_elsewhere_are_refused_and_nothing_is_deleted(saved: Any, tmp_path: Path) -> None:
    path = hostile(tmp_path / "run", saved)
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(
        UnsafeCheckpointError,
        match=r"model-000.safetensors: the stored state of callback 'checkpoint' is not .* 'saved' is .*; it "
        "must be a list of plain file names; do not trust this file",
    ):
        fit(3, keep(tmp_path / "run", max_saves=1), resume=path)
    assert (tmp_path / "thesis.tex").exists()


def test_absolute_paths_are_refused(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("years")
    path = hostile(tmp_path / "run", [str(thesis)])
    with pytest.raises(UnsafeCheckpointError, match="'saved' is"):
        fit(3, keep(tmp_path / "run", max_saves=1), resume=path)
    assert thesis.exists()


def test_files_that_are_no_checkpoints_of_the_run_stay(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    fit(1, keep(other))
    path = hostile(run, ["notes.txt", "folder", "link", "foreign.safetensors", "fifo", "cut.safetensors"])
    (run / "notes.txt").write_text("mine")
    (run / "folder").mkdir()
    (run / "link").symlink_to(run / "model-000.safetensors")
    os.mkfifo(run / "fifo")
    shutil.copy(other / "model-000.safetensors", run / "foreign.safetensors")
    (run / "cut.safetensors").write_bytes(path.read_bytes()[:100])
    before = set(os.listdir(run))
    fit(3, keep(run, max_saves=1), resume=path)
    assert set(os.listdir(run)) == before | {"model-002.safetensors"}


@pytest.mark.parametrize("name", ["model-001.safetensors", "model-001-not-finite.safetensors"])
def test_nothing_is_written_through_a_link(name: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "thesis.tex")

    @argus_core.on_epoch_complete
    def spoil(state: Any) -> None:
        if state.epoch == 1:
            state.model.nn_module.out.bias.data.fill_(float("nan"))

    with pytest.raises(
        ArgusError, match=f"checkpoint cannot write .*{name}: it is a link; remove it, or make"
    ):
        fit(2, keep(tmp_path / "run"), spoil)
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_folder_that_is_a_link_to_a_larger_disk_works(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    fit(2, keep(tmp_path / "run", max_saves=1))
    fit(4, keep(tmp_path / "run", max_saves=1), resume=tmp_path / "run")
    assert names(tmp_path / "disk") == ["model-003.safetensors"]


def test_a_folder_that_is_a_link_leads_to_nothing_that_is_deleted(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    options = {"file_format": "best/model-{epoch:03d}.safetensors", "max_saves": 1}
    fit(2, keep(run, **options))
    (run / "best").rename(elsewhere)
    (run / "best").symlink_to(elsewhere)
    fit(3, keep(run, **options), resume=elsewhere / "model-001.safetensors")
    assert names(elsewhere) == ["model-001.safetensors", "model-002.safetensors"]


def test_a_resumed_run_deletes_its_own_files_in_folders_too(tmp_path: Path) -> None:
    options = {"file_format": "best/model-{epoch:03d}.safetensors", "max_saves": 2}
    fit(2, keep(tmp_path, **options))
    fit(4, keep(tmp_path, **options), resume=tmp_path / "best")
    assert names(tmp_path) == ["best/model-002.safetensors", "best/model-003.safetensors"]


def test_a_run_is_known_by_its_checkpoints(tmp_path: Path) -> None:
    fit(1, keep(tmp_path / "a"))
    fit(2, keep(tmp_path / "a"), ("checkpoint", {"dir_path": str(tmp_path / "b")}), resume=tmp_path / "a")
    fit(1, keep(tmp_path / "c"))
    a = [run_of(path) for path in (tmp_path / "a").iterdir()]
    assert len(a) == 2
    assert {*a, *(run_of(path) for path in (tmp_path / "b").iterdir())} == {a[0]}
    assert run_of(tmp_path / "c" / "model-000.safetensors") not in (None, a[0])


def test_a_run_that_resumes_into_the_folder_of_another_leaves_its_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        fit(2, keep(folder, max_saves=2))
    fit(4, keep(b, max_saves=2), resume=a)
    assert names(b) == [f"model-{epoch:03d}.safetensors" for epoch in range(4)]
    assert f"{b} holds model-000.safetensors, which another run wrote; a save under that name" in caplog.text


def test_the_same_cell_run_twice_warns_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(3, keep(tmp_path, max_saves=1))
    (first,) = {run_of(path) for path in tmp_path.iterdir()}
    fit(3, keep(tmp_path, max_saves=1))
    assert names(tmp_path) == ["model-002.safetensors"]
    assert run_of(tmp_path / "model-002.safetensors") != first
    assert caplog.text.count("which another run wrote") == 1


def test_of_several_runs_in_a_folder_the_one_that_saved_last_is_resumed(tmp_path: Path) -> None:
    fit(4, keep(tmp_path))
    fit(2, keep(tmp_path))
    with pytest.warns(ArgusWarning, match="holds checkpoints of 2 runs; the run that saved last is resumed"):
        assert find_checkpoint(tmp_path) == tmp_path / "model-001.safetensors"


def test_a_file_that_another_has_replaced_since_is_not_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @argus_core.on_event("checkpoint_saved")
    def replace(state: Any) -> None:
        if state.epoch == 0:
            other = tmp_path / "other"
            other.write_text("of somebody else")
            other.replace(state.checkpoint_path)

    fit(3, keep(tmp_path, max_saves=1), replace)
    assert names(tmp_path) == ["model-000.safetensors", "model-002.safetensors"]
    assert "could not delete" in caplog.text


def test_files_that_are_gone_are_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = WrittenFiles(tmp_path)
    (tmp_path / "a").write_text("")
    files.add("a")
    (tmp_path / "a").unlink()
    files.add("b")
    files.delete_old(1, make_model().logger)
    assert files.names == ["b"]
    assert not caplog.text


def test_a_checkpoint_without_a_run_resumes_and_deletes_none_of_the_earlier_files(tmp_path: Path) -> None:
    fit(2, keep(tmp_path))
    path = changed_progress(tmp_path / "model-001.safetensors", lambda progress: progress, run={"epoch": 1})
    fit(4, keep(tmp_path, max_saves=1), resume=path)
    assert names(tmp_path) == ["model-000.safetensors", "model-001.safetensors", "model-003.safetensors"]


@pytest.mark.parametrize("name", [5, None, "x", ["a"], "../../x", "0" * 33])
def test_an_identifier_that_argus_core_does_not_write_is_none(name: Any, tmp_path: Path) -> None:
    fit(1, keep(tmp_path))
    path = changed_progress(tmp_path / "model-000.safetensors", lambda progress: progress, run={"id": name})
    fit(2, keep(tmp_path), resume=path)
    run = run_of(tmp_path / "model-001.safetensors")
    assert run is not None
    assert run != name


def test_two_callbacks_whose_files_have_one_name_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log.txt"
    log.write_text("of before")
    callbacks = [
        ("logging_to_file", {"file_path": str(log)}),
        keep(tmp_path / "a", max_saves=1),
        ("monitor_checkpoint", {"dir_path": str(tmp_path / "b" / ".." / "a"), "monitor": "train_loss",
                                "file_format": "model-{epoch:03d}.safetensors"}),
    ]  # fmt: skip
    with pytest.raises(
        ConflictError,
        match=r"checkpoint with file_format='model-\{epoch:03d\}.safetensors' and monitor_checkpoint .* "
        "may write files of the same name .*; give one of them another file_format or dir_path",
    ):
        fit(1, *callbacks)
    assert log.read_text() == "of before"
    assert not (tmp_path / "a").exists()


def test_callbacks_whose_names_differ_share_a_folder(tmp_path: Path) -> None:
    best = ("monitor_checkpoint", {"dir_path": str(tmp_path), "monitor": "train_loss", "max_saves": 1})
    fit(3, keep(tmp_path, max_saves=1), best, keep(tmp_path, every="4up", max_saves=1))
    assert len(names(tmp_path)) == 3


def test_checkpoints_of_validation_and_of_training_do_not_share_names(tmp_path: Path) -> None:
    with pytest.raises(
        ConflictError, match=f"may write files of the same name in {tmp_path}, and would overwrite"
    ):
        fit(1, keep(tmp_path), val_loader=DATA, val_callbacks=[keep(tmp_path, max_saves=1)])
    assert names(tmp_path) == []


@pytest.mark.parametrize("other", ["metrics_jsonl", "logging_to_csv", "logging_to_file"])
@pytest.mark.parametrize("where", ["callbacks", "val_callbacks"])
def test_table_has_one_writer(other: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    table = ("metrics_jsonl", {"file_path": str(tmp_path / "table")})
    second = (other, {"file_path": str(tmp_path / "link" / "table")})
    callbacks = {"callbacks": [], "val_callbacks": []}
    callbacks[where].append(second)
    with pytest.raises(ConflictError, match="both write .*table; give one of them another file_path"):
        fit(1, table, *callbacks["callbacks"], val_loader=DATA, val_callbacks=callbacks["val_callbacks"])
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["metrics_jsonl", "logging_to_csv", "logging_to_file"])
def test_table_does_not_have_the_name_of_a_checkpoint(name: str, tmp_path: Path) -> None:
    table = (name, {"file_path": str(tmp_path / "model-007.safetensors")})
    with pytest.raises(ConflictError, match=f"{name} writes .*, which checkpoint .* give one of them"):
        fit(1, table, keep(tmp_path))
    assert names(tmp_path) == []


def test_log_may_have_two_writers(tmp_path: Path) -> None:
    log = ("logging_to_file", {"file_path": str(tmp_path / "log.txt"), "append": True})
    fit(1, log, val_loader=DATA, val_callbacks=[log])
    assert "val complete" in (tmp_path / "log.txt").read_text("utf-8")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written_is_refused_before_the_first_update(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    seen: list[Any] = []
    with pytest.raises(
        ArgusError, match=f"checkpoint cannot write '{tmp_path}': Permission denied; make room"
    ):
        fit(1, keep(tmp_path), argus_core.on_iteration_complete(seen.append))
    assert seen == []


@pytest.mark.skipif(fcntl is None, reason="no locks")
def test_files_that_killed_writers_left_unfinished_are_removed_though_their_names_never_come_again(
    tmp_path: Path,
) -> None:
    left = tmp_path / ".model-004-000321.safetensors.1-0123abcd.tmp"
    others = [tmp_path / name for name in (".notes.txt.1-0123abcd.tmp", "model-004-000321.safetensors.tmp")]
    held = tmp_path / ".model-004-000322.safetensors.1-0123abcd.tmp"
    for path in (left, *others, held):
        path.write_bytes(b"half")
    with held.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as a writer that is at work does
        fit(1, keep(tmp_path, every="1up", max_saves=1))
    assert not left.exists()
    assert all(path.exists() for path in (*others, held))


def test_files_where_sub_folders_may_be_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.md").touch()
    fit(1, keep(tmp_path, file_format="step-{epoch}/{step}.safetensors"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.md", "step-0"]


@pytest.mark.skipif(fcntl is None, reason="no locks")
def test_what_killed_writers_left_is_removed_in_sub_folders_but_not_by_a_link(tmp_path: Path) -> None:
    name = ".1.safetensors.1-0123abcd.tmp"
    for folder in ("run/step-1", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_bytes(b"half")
    (tmp_path / "run" / "step-2").symlink_to(tmp_path / "elsewhere")
    fit(1, keep(tmp_path / "run", file_format="step-{epoch}/{step}.safetensors"))
    assert not (tmp_path / "run" / "step-1" / name).exists()
    assert (tmp_path / "elsewhere" / name).exists()


@pytest.mark.parametrize("file_format", ["notes.txt", "model-{epoch}.safetensors"])
def test_file_that_no_run_has_written_is_not_overwritten(file_format: str, tmp_path: Path) -> None:
    model = make_model()
    path = tmp_path / file_format.format(epoch=0)
    path.write_text("mine") if path.suffix == ".txt" else model.save(path)
    before = path.read_bytes()
    callback = argus_core.callbacks.Checkpoint(tmp_path, file_format=file_format)
    with pytest.raises(
        ArgusError, match=f"{path}, and the file there was not written by a run; move it away"
    ):
        model.fit(batches(), callbacks=[callback])
    assert path.read_bytes() == before
