"""Checkpoints written while training goes on, and those of weights that are not finite."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches, make_model, same_weights

import argus_core
from argus_core import ArgusError, Model, State, load_model, on_iteration_complete
from argus_core.callbacks import background
from argus_core.storage import write

pytestmark = pytest.mark.usefixtures("net_registry")

DATA = batches((4, 3, 5, 2))


def checkpoint(folder: Path, **options: Any) -> Any:
    return ("checkpoint", {"dir_path": str(folder), "every": "1up", "background": True, **options})


class Slow:
    """Writes only when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.error = error
        monkeypatch.setattr("argus_core.storage.forms.write", self)
        monkeypatch.setattr("argus_core.storage.write", self, raising=False)

    def __call__(self, *arguments: Any) -> None:
        self.begun.set()
        assert self.may_end.wait(10)
        if self.error is not None:
            raise self.error
        write(*arguments)


def test_each_file_has_the_weights_of_its_update(tmp_path: Path) -> None:
    seen: dict[int, Any] = {}
    keep = on_iteration_complete(
        lambda state: seen.__setitem__(
            state.global_step,
            {name: value.clone() for name, value in state.model.nn_module.state_dict().items()},
        )
    )
    make_model().fit(DATA, num_epochs=2, callbacks=[keep, checkpoint(tmp_path, optimizer_state=True)])
    for step, expected in seen.items():
        (path,) = tmp_path.glob(f"*-{step:06d}.safetensors")
        stored = load_model(path).nn_module.state_dict()
        assert all(torch.equal(stored[name], expected[name]) for name in expected)


def test_training_goes_on_while_a_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    model = make_model()
    start = {name: value.clone() for name, value in model.nn_module.state_dict().items()}
    writer = background.BackgroundWriter()
    model.save(tmp_path / "model.safetensors", write=writer)
    assert slow.begun.wait(10)
    model.fit(DATA)  # changes the weights in place
    assert not (tmp_path / "model.safetensors").exists()
    slow.may_end.set()
    writer.wait()
    stored = load_model(tmp_path / "model.safetensors").nn_module.state_dict()
    assert all(torch.equal(stored[name], start[name]) for name in start)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.second = torch.nn.Linear(4, 4)
            self.second.weight = self.first.weight

    argus_core.register("nn_module", "tied", Tied)
    writer = background.BackgroundWriter()
    make_model(nn_module="tied").save(tmp_path / "background.safetensors", write=writer)
    writer.wait()
    make_model(nn_module="tied").save(tmp_path / "direct.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("background", "direct")]
    assert abs(sizes[0] - sizes[1]) < 64  # but for the time in the manifest


def test_an_error_shows_at_the_next_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, ArgusError("the disk is full"))
    slow.may_end.set()
    seen: list[int] = []
    keep = on_iteration_complete(lambda state: seen.append(state.global_step))
    with pytest.raises(ArgusError, match="the disk is full"):
        make_model().fit(DATA, callbacks=[keep, checkpoint(tmp_path)])
    assert seen == [1, 2]


def test_a_file_that_could_not_be_written_takes_no_good_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails_the_second_time(path: Path, *arguments: Any) -> None:
        if path.name.endswith("2.safetensors"):
            raise ArgusError("the disk is full")
        write(path, *arguments)

    monkeypatch.setattr("argus_core.storage.write", fails_the_second_time)
    caplog.set_level("INFO")
    with pytest.raises(ArgusError, match="the disk is full"):
        make_model().fit(DATA, callbacks=[checkpoint(tmp_path, max_saves=1)])
    assert [path.name for path in tmp_path.iterdir()] == ["model-000-000001.safetensors"]
    assert "000002" not in caplog.text  # it is not said to be saved


def test_where_no_thread_can_be_started_it_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    keep = ("checkpoint", {"dir_path": str(tmp_path), "background": True, "optimizer_state": True})
    model = make_model()
    model.fit(batches(), num_epochs=2, callbacks=[keep])
    assert same_weights(load_model(tmp_path / "model-001.safetensors"), model)


def test_an_error_shows_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, ArgusError("the disk is full"))
    slow.may_end.set()
    with pytest.raises(ArgusError, match="the disk is full"):
        make_model().fit(DATA, callbacks=[checkpoint(tmp_path, every="1ep")])


def test_the_event_comes_and_old_files_go_when_the_new_one_is_whole(tmp_path: Path) -> None:
    saved: list[str] = []

    @argus_core.on_event("checkpoint_saved")
    def note(state: State) -> None:
        assert state.checkpoint_path is not None
        load_model(state.checkpoint_path)
        saved.append(state.checkpoint_path.name)

    make_model().fit(DATA, callbacks=[checkpoint(tmp_path, max_saves=2), note])
    assert saved == [f"model-000-{step:06d}.safetensors" for step in (1, 2, 3, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == saved[2:]


def test_after_an_exception_the_file_that_is_being_written_is_whole(tmp_path: Path) -> None:
    @on_iteration_complete
    def crash(state: State) -> None:
        if state.global_step == 3:
            raise RuntimeError("the power is out")

    with pytest.raises(RuntimeError, match="the power is out"):
        make_model().fit(DATA, callbacks=[crash, checkpoint(tmp_path)])
    load_model(tmp_path / "model-000-000002.safetensors")


# Weights that are not finite.


@argus_core.on_iteration_complete
def spoil_from_the_third_update(state: State) -> None:
    if state.global_step >= 3:
        with torch.no_grad():
            state.model.nn_module.out.bias.fill_(torch.nan)


def spoiled_run(folder: Path, **options: Any) -> Model:
    model = make_model()
    options = {"dir_path": str(folder), "every": "1up", "optimizer_state": True, **options}
    model.fit(DATA, callbacks=[spoil_from_the_third_update, ("checkpoint", options)])
    return model


def test_weights_that_are_not_finite_rotate_no_good_file_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoiled_run(tmp_path, max_saves=2)
    good = [tmp_path / f"model-000-{step:06d}.safetensors" for step in (1, 2)]
    assert all(load_model(path).is_finite() for path in good)
    assert not load_model(tmp_path / "model-000-000004-not-finite.safetensors").is_finite()
    assert "the weights are not finite after 3 updates; saved" in caplog.text


def test_weights_that_are_not_finite_do_not_take_the_last_ones_place(tmp_path: Path) -> None:
    spoiled_run(tmp_path, file_format="last.safetensors", max_saves=1)
    assert load_model(tmp_path / "last.safetensors").is_finite()


def test_a_run_goes_on_from_the_last_finite_weights(tmp_path: Path) -> None:
    spoiled_run(tmp_path)
    whole, resumed = make_model(), make_model()
    whole.fit(DATA)
    resumed.fit(DATA, resume=tmp_path)
    assert same_weights(resumed, whole)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.bfloat16])
def test_numbers_of_every_kind_may_be_finite_or_not(dtype: torch.dtype) -> None:
    model = make_model()
    model.nn_module.register_buffer("scale", torch.ones(3).to(dtype))
    assert model.is_finite()
    model.nn_module.scale = torch.full((3,), torch.nan).to(dtype)
    assert not model.is_finite()
