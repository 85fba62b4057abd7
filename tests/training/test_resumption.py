"""A run that was killed resumes from its checkpoint as if nothing had happened, to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from networks import Batch, batches
from rewritten import changed_progress
from strategies import PARAMS, build, register_all, same_weights
from torch import Tensor, multiprocessing, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

import argus_core
from argus_core import (
    Callback,
    CheckpointError,
    Model,
    ParamsError,
    State,
    StateMismatchError,
    on_iteration_complete,
)
from argus_core.data.epoch_order import EpochOrder
from argus_core.errors import ArgusWarning
from argus_core.metrics import Loss
from argus_core.storage import CheckpointFile, write
from argus_core.training.engine import Engine
from argus_core.training.position import restore_metrics

EPOCHS = 2
UPDATES = 8  # of both epochs: seven batches, two to an update, with a tail of one
WORKERS = {"no workers": (0, False), "workers": (2, False), "persistent workers": (2, True)}


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("nn_module", "noisy", noisy)
        yield


def noisy() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))


class Augmented(Dataset[Any]):
    """Samples that are another in each epoch, by random numbers of Python, numpy and torch."""

    def __init__(self, samples: int = 26) -> None:
        self.inputs, self.targets = batches((samples,))[0]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = random.random() + float(numpy.random.rand()) + torch.rand(4)
        return self.inputs[index] + 0.1 * noise, self.targets[index]


class Witness(Callback):
    """Writes each batch down, and kills the process with the checkpoint of one update."""

    runs_last = True

    def __init__(self, folder: Path, kill_after: int | None) -> None:
        self.path = folder / "order.jsonl"
        self.kill_after = kill_after

    @argus_core.hookimpl(tryfirst=True)
    def iteration_complete(self, state: State) -> None:
        seen = {
            "update": state.epoch * 100 + state.iteration,
            "batch": [input.tolist() for input, _ in state.batch],
        }
        with self.path.open("a") as file:
            file.write(json.dumps(seen) + "\n")

    def checkpoint_saved(self, state: State) -> None:
        if state.global_step == self.kill_after and "every" in str(state.checkpoint_path):
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, workers: tuple[int, bool], kill_after: int | None, resume: bool) -> None:
    """Train in this process, if it resumes from other initial weights and random numbers; keep the result."""
    torch.set_num_threads(1)
    argus_core.resolve("loss", "CrossEntropyLoss")
    torch.manual_seed(99 if resume else 0)
    model = Model(
        {
            **PARAMS,
            "nn_module": "noisy",
            "optimizer": ("AdamW", {"lr": 0.01}),
            "step": [("accumulate", {"steps": 2}), ("ema", {"decay": 0.9})],
        }
    )
    num_workers, persistent = workers
    loader = DataLoader(Augmented(), 4, shuffle=True, num_workers=num_workers, persistent_workers=persistent)
    model.fit(
        loader,
        DataLoader(Augmented(9), 4),
        num_epochs=EPOCHS,
        metrics=["accuracy"],
        metrics_on_train=True,
        callbacks=[
            (
                "checkpoint",
                {"dir_path": str(folder / "every"), "every": "1up", "optimizer_state": True, "max_saves": 1},
            ),
            ("monitor_checkpoint", {"dir_path": str(folder / "best"), "monitor": "val_loss"}),
            ("early_stopping", {"monitor": "val_loss", "patience": 5}),
            ("metrics_jsonl", {"file_path": str(folder / "metrics.jsonl")}),
            ("logging_to_csv", {"file_path": str(folder / "metrics.csv")}),
            Witness(folder, kill_after),
        ],
        lr_scheduler=[
            ("CosineAnnealingLR", {"T_max": 20, "interval": "update"}),
            ("MultiStepLR", {"milestones": [1], "gamma": 0.5}),
        ],
        seed=None if resume else 5,
        resume=folder / "every" if resume else None,
    )
    kept = {
        "nn": model.nn_module.state_dict(),
        "optimizer": model.optimizer.state_dict(),
        "step": model.step_state(),
        "random": torch.get_rng_state(),
    }
    torch.save(kept, folder / "end.pt")


def in_process(*arguments: Any) -> int:
    """Call `train` in a process of its own; return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=train, args=arguments)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def history(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), "time": None} for line in lines]


def rows(folder: Path) -> list[list[str]]:
    return [line.split(",")[1:] for line in (folder / "metrics.csv").read_text().splitlines()]


def order(folder: Path) -> dict[int, Any]:
    """Return the batches of each update; the last one counts, of an update that was made again."""
    lines = (json.loads(line) for line in (folder / "order.jsonl").read_text().splitlines())
    return {line["update"]: line["batch"] for line in lines}


def assert_equal(one: Any, other: Any) -> None:
    """Check two nestings of dicts, lists and tensors for equality to the bit."""
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert one == other


@pytest.fixture(scope="module", params=WORKERS)
def whole_run(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[int, bool], Path]:
    """Return how many workers, and the folder of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "noisy", noisy)
        assert in_process(folder, WORKERS[request.param], None, False) == 0
    return WORKERS[request.param], folder


@pytest.mark.parametrize("update", range(1, UPDATES + 1))
def test_a_run_killed_after_any_update_ends_as_the_whole_run(
    update: int, whole_run: tuple[tuple[int, bool], Path], tmp_path: Path
) -> None:
    workers, whole = whole_run
    assert in_process(tmp_path, workers, update, False) == -signal.SIGKILL
    assert in_process(tmp_path, workers, None, True) == 0
    assert_equal(torch.load(tmp_path / "end.pt"), torch.load(whole / "end.pt"))
    assert history(tmp_path) == history(whole)
    assert rows(tmp_path) == rows(whole)
    assert order(tmp_path) == order(whole)
    best = [sorted(path.name for path in (folder / "best").iterdir()) for folder in (tmp_path, whole)]
    assert best[0] == best[1]


def test_the_order_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    for name, workers in WORKERS.items():
        (tmp_path / name).mkdir()
        assert in_process(tmp_path / name, workers, None, False) == 0
    first, *others = (torch.load(tmp_path / name / "end.pt") for name in WORKERS)
    for other in others:
        assert_equal(other, first)


# In process, for what does not need one of its own.


def saved(folder: Path, loader: Any, epochs: int = 1, every: str = "1ep", **options: Any) -> Model:
    model = build(**options)
    checkpoint = ("checkpoint", {"dir_path": str(folder), "every": every, "optimizer_state": True})
    model.fit(loader, num_epochs=epochs, callbacks=[checkpoint])
    return model


def test_a_list_of_batches_goes_on_in_mid_epoch(tmp_path: Path) -> None:
    data = batches((4, 3, 5, 2))
    whole = build()
    whole.fit(data, num_epochs=2)
    saved(tmp_path, data, every="3up")
    resumed, seen = build(), []
    keep = on_iteration_complete(lambda state: seen.append((state.epoch, state.iteration)))
    resumed.fit(data, num_epochs=2, resume=tmp_path, callbacks=[keep])
    assert seen == [(0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert same_weights(resumed, whole)


def test_a_folder_gives_the_newest_and_skips_damaged_files(tmp_path: Path) -> None:
    data = batches()
    saved(tmp_path, data, epochs=2)
    newest = tmp_path / "model-001.safetensors"
    resumed = build()
    resumed.fit(data, num_epochs=2, resume=tmp_path)
    assert same_weights(resumed, argus_core.load_model(newest))
    newest.write_bytes(newest.read_bytes()[:-9])
    again = build()
    with pytest.warns(ArgusWarning, match=r"model-001.safetensors is skipped: .*"):
        again.fit(data, num_epochs=1, resume=tmp_path)
    assert same_weights(again, argus_core.load_model(tmp_path / "model-000.safetensors"))


@pytest.mark.parametrize("background", [False, True])
def test_the_file_that_a_run_goes_on_from_counts_among_its_files(tmp_path: Path, background: bool) -> None:
    options = {"dir_path": str(tmp_path), "optimizer_state": True, "max_saves": 2, "background": background}
    build().fit(batches(), num_epochs=3, callbacks=[("checkpoint", options)])
    build().fit(batches(), num_epochs=6, callbacks=[("checkpoint", options)], resume=tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["model-004.safetensors", "model-005.safetensors"]


def test_the_events_of_a_run_that_goes_on(tmp_path: Path) -> None:
    data, seen = batches((4, 3, 5, 2)), []
    saved(tmp_path, data, every="3up")

    class Note(Callback):
        def start(self, state: State) -> None:
            seen.append(("start", state.global_step))

        def resumed(self, state: State) -> None:
            seen.append(("resumed", state.global_step))

        def epoch_start(self, state: State) -> None:
            seen.append(("epoch_start", state.epoch))

    build().fit(data, num_epochs=2, resume=tmp_path, callbacks=[Note()])
    assert seen == [("start", 3), ("resumed", 3), ("epoch_start", 1)]


def test_a_run_that_had_stopped_early_stays_stopped(tmp_path: Path) -> None:
    data = batches()
    stop = ("early_stopping", {"monitor": "train_loss", "patience": 1, "better": "max"})
    checkpoint = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    build().fit(data, num_epochs=9, callbacks=[stop, checkpoint])
    states: list[State] = []
    build().fit(data, num_epochs=9, callbacks=[stop, argus_core.on_complete(states.append)], resume=tmp_path)
    assert states[0].epoch == 1


class Stream(IterableDataset[Batch]):
    def __iter__(self) -> Iterator[Any]:
        return iter(batches((4, 3, 5, 2)))


class Special(DataLoader[Batch]):
    """A subclass, which a run does not change."""


@pytest.mark.parametrize(("kind", "expected"), [(Special, [0, 1, 2, 3]), (DataLoader, [3])])
def test_a_loader_that_cannot_skip_begins_its_epoch_anew_and_says_so(
    kind: Any, expected: list[int], tmp_path: Path
) -> None:
    saved(tmp_path, kind(Stream(), batch_size=None), every="3up")
    seen: list[Any] = []
    keep = on_iteration_complete(lambda state: seen.append(state.iteration))
    told = r"train loader \(Special\) cannot continue in the middle of an epoch, so"
    with pytest.warns(ArgusWarning, match=told) if kind is Special else nullcontext():
        build().fit(kind(Stream(), batch_size=None), resume=tmp_path, callbacks=[keep])
    assert seen == expected


class Remembering(Sampler[int]):
    """Gives another order each time that it is asked, whatever seed and epoch are."""

    times = 0

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        Remembering.times += 1
        return iter([(index + Remembering.times) % self.samples for index in range(self.samples)])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (
            lambda: DataLoader(Augmented(), 4, sampler=Remembering(26)),
            r"other data, or BatchSampler over Remembering draws from what neither seed nor epoch decides",
        ),
        (
            lambda samples=[26, 27]: DataLoader(Augmented(samples.pop(0)), 4, shuffle=True),
            "other data, or BatchSampler over RandomSampler",
        ),
    ],
    ids=["a sampler that remembers", "a sample more"],
)
def test_another_order_of_as_many_batches_begins_the_epoch_anew_and_is_told(
    make: Any, why: str, tmp_path: Path
) -> None:
    saved(tmp_path, make(), every="3up")
    seen: list[Any] = []
    keep = on_iteration_complete(lambda state: seen.append(state.iteration))
    with pytest.warns(
        ArgusWarning,
        match=rf"\(OrderedLoader\) gives another order of batches \({why}.*\), so epoch 1 starts over",
    ):
        build().fit(make(), resume=tmp_path / "model-000-000003.safetensors", callbacks=[keep])
    assert seen == list(range(7))


def test_another_order_of_the_epochs_to_come_is_told(tmp_path: Path) -> None:
    saved(tmp_path, DataLoader(Augmented(), 4, sampler=Remembering(26)))
    with pytest.warns(
        ArgusWarning,
        match=r"changed: the train loader gives another order of batches \(other data, .* so samples",
    ):
        build().fit(DataLoader(Augmented(), 4, sampler=Remembering(26)), num_epochs=2, resume=tmp_path)


@pytest.mark.parametrize(("every", "name"), [("3up", "model-000-000003"), ("1ep", "model-000")])
def test_a_run_whose_samples_had_numbers_by_their_indices_goes_on_and_is_told(
    every: str, name: str, tmp_path: Path
) -> None:
    def as_before(progress: dict[str, Any]) -> dict[str, Any]:
        order = EpochOrder(loader().batch_sampler, progress["loader"]["seed"], as_tensors=False)
        digest = blake2b(b"".join(repr(batch.indices).encode() for batch in order), digest_size=16)
        return {**progress, "loader": {**progress["loader"], "order": digest.hexdigest()}}

    def loader() -> DataLoader[Any]:
        return DataLoader(Augmented(), 4, shuffle=True)

    saved(tmp_path, loader(), every=every)
    path = changed_progress(tmp_path / f"{name}.safetensors", as_before)
    with pytest.warns(ArgusWarning) as caught:
        build().fit(loader(), num_epochs=2, resume=path)
    (warning,) = caught
    assert str(warning.message).endswith(
        "has changed: the random numbers of a sample followed from its index and follow from its position in "
        "the epoch's order, so random augmentation differs from here on"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"optimizer": ("SGD", {"lr": 0.01, "momentum": 0.9})},
            r"params\['optimizer'\] was .* and is .*0.01.*, which",
        ),
        ({"step": "ema"}, r"params\['step'\] was .* and is .*, which holds from now on"),
    ],
)
def test_what_has_changed_is_told_before_the_run_goes_on(tmp_path: Path, changed: Any, message: str) -> None:
    data = batches()
    saved(tmp_path, data)
    torch.manual_seed(0)
    model = Model({**PARAMS, "step": [], **changed})
    with pytest.warns(ArgusWarning, match=rf"the run that resumes from .* has changed: {message}"):
        model.fit(data, num_epochs=2, resume=tmp_path)
    assert model.get_lr() == changed.get("optimizer", PARAMS["optimizer"])[1]["lr"]


def test_other_data_and_other_versions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, batches())
    monkeypatch.setattr("argus_core.training.changes.version_of", lambda name: "9.9")
    with pytest.warns(
        ArgusWarning, match=r"an epoch had 3 batches and has 2, .*; argus was .* and is 9.9, so results"
    ):
        build().fit(batches((3, 3)), num_epochs=2, resume=tmp_path)


def test_another_type_of_device_is_told(tmp_path: Path) -> None:
    """The checkpoint is one that a run on a CUDA device writes, but for its tensors, which know no device."""
    saved(tmp_path, batches((4, 3, 5, 2)), every="3up")
    path = tmp_path / "model-000-000003.safetensors"
    with CheckpointFile(path) as file:
        tensors, manifest = file.read(), dict(file.header.manifest)
    for key in ("tensors", "aliases"):
        manifest.pop(key)
    on_cuda = {**manifest["progress"], "device": "cuda"}
    params = {**manifest["params"], "device": "cuda"}
    write(path, tensors, {**manifest, "params": params, "progress": on_cuda})
    whole, resumed = build(), build()
    whole.fit(batches((4, 3, 5, 2)))
    with pytest.warns(ArgusWarning) as told:
        resumed.fit(batches((4, 3, 5, 2)), resume=path)
    (message,) = [str(each.message) for each in told]
    assert message == (
        f"the run that resumes from {path} has changed: it trained on cuda and trains on cpu, so results "
        "differ in rounding and random numbers"
    )
    assert same_weights(resumed, whole)


def test_in_mid_epoch_other_data_or_windows_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, batches((4, 3, 5, 2)), every="3up")
    with pytest.raises(
        StateMismatchError, match=r"middle of an epoch of 4 batches, and the loader has 3 now; resume"
    ):
        build().fit(batches(), resume=tmp_path)
    with pytest.raises(
        StateMismatchError, match=r"with 1 loader batches to one update, and there are 2 now; resume"
    ):
        build(("accumulate", {"steps": 2})).fit(batches((4, 3, 5, 2)), resume=tmp_path)


def test_refusal_in_mid_epoch_names_the_checkpoint_of_an_epochs_end(tmp_path: Path) -> None:
    loader = batches((4, 3, 5, 2))
    saved(tmp_path, loader, epochs=3)
    (tmp_path / "model-002.safetensors").rename(tmp_path / "of-another-run.safetensors")
    common = {"dir_path": str(tmp_path), "optimizer_state": True}
    updates = ("checkpoint", {**common, "every": "3up", "file_format": "up-{step}.safetensors"})
    build().fit(loader, num_epochs=1, callbacks=[updates, ("checkpoint", common)])
    end = tmp_path / "model-000.safetensors"
    (tmp_path / "model-001.safetensors").unlink()
    middle = tmp_path / "up-3.safetensors"
    with pytest.raises(StateMismatchError, match=f"num_epochs=1.*, or resume from {end}, the end of an"):
        build().fit(batches(), num_epochs=3, resume=middle)


def test_another_network_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, batches())
    for optimizer in ("SGD", "Adam"):  # which is told before another optimizer, and without a warning
        model = build(nn_module=("net", {"hidden": 9}), optimizer=optimizer)
        with pytest.raises(
            StateMismatchError, match="the stored state does not fit nn_module 'net': 'hidden.weight' is"
        ):
            model.fit(batches(), num_epochs=2, resume=tmp_path)


def test_a_checkpoint_without_the_state_of_its_run_is_refused(tmp_path: Path) -> None:
    build().save(tmp_path / "model.safetensors", optimizer_state=True)
    with pytest.raises(CheckpointError, match=r"model.safetensors holds no position of a run; give one that"):
        build().fit(batches(), resume=tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no checkpoint that a run can resume from \(1 in all"):
        build().fit(batches(), resume=tmp_path)


def test_state_that_a_callback_cannot_take_is_refused_with_its_name(tmp_path: Path) -> None:
    class Fickle(Callback):
        name = "fickle"

        def start(self, state: State) -> None: ...

        def state_dict(self) -> dict[str, Any]:
            return {"count": 1}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            raise KeyError("total")

    checkpoint = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    build().fit(batches(), callbacks=[checkpoint, Fickle()])
    with pytest.raises(
        StateMismatchError, match="state does not fit callback fickle: KeyError: 'total'; leave the"
    ):
        build().fit(batches(), num_epochs=2, resume=tmp_path, callbacks=[Fickle()])


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, batches())
    with pytest.raises(
        StateMismatchError,
        match="trained with optimizer 'SGD', whose state 'Adam' cannot load; resume with",
    ):
        build(optimizer="Adam").fit(batches(), num_epochs=2, resume=tmp_path)


@pytest.mark.parametrize("path", [5, True, "", b"runs"])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ParamsError, match="fit takes a path for resume, such as 'runs/a', not"):
        build().fit(batches(), resume=path)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("loader", None, "'progress' is not as argus_core writes it; do not trust this file"),
        ("counters", {"epoch": "x"}, "'progress' is not as argus_core writes it"),
        ("counters", {"updates_in_epoch": -3}, "'progress' is not as argus_core writes it"),
        ("loader", {"seed": "x"}, "'progress' is not as argus_core writes it"),
        ("loader", {"seed": -(2**63) - 1}, "'progress' is not as argus_core writes it"),
        ("loader", {"seed": {"$int": hex(2**64)}}, "'progress' is not as argus_core writes it"),
        ("counters", {"global_step": 2**63 - 1}, "'progress' is not as argus_core writes it"),
        ("running", {"loss": 1}, "'progress' is not as argus_core writes it"),
        ("metrics", {"epoch": 0.5}, "'progress' is not as argus_core writes it"),
        ("metrics", {"$dict": [[5, 0.5]]}, "'progress' is not as argus_core writes it"),
        (
            "rng",
            {"python": {}},
            "does not fit the generators of random numbers: KeyError: .*; resume from",
        ),
    ],
)
def test_progress_that_nobody_writes_is_refused(
    section: str, change: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    saved(tmp_path, batches())
    path = tmp_path / "model-000.safetensors"
    with CheckpointFile(path) as file:
        tensors, manifest = file.read(), dict(file.header.manifest)
    for key in ("tensors", "aliases"):
        manifest.pop(key)
    progress = dict(manifest["progress"])
    progress[section] = change if change is None or "$dict" in change else {**progress[section], **change}
    write(path, tensors, {**manifest, "progress": progress})
    with pytest.raises(CheckpointError, match=message):
        build().fit(batches(), num_epochs=2, resume=path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("missed", 5),
        ("missed", {"event": "start", "callbacks": []}),
        ("missed", {"event": "epoch_complete", "callbacks": [5]}),
        ("missed", {"event": "epoch_complete"}),
        ("stepped", 1),
    ],
)
def test_a_place_in_a_run_that_there_is_not_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    saved(tmp_path, batches())
    path = changed_progress(tmp_path / "model-000.safetensors", lambda progress: {**progress, key: value})
    with pytest.raises(CheckpointError, match="'progress' is not as argus_core writes it; do not trust"):
        build().fit(batches(), num_epochs=2, resume=path)


@pytest.mark.parametrize("every", ["3up", "4up", "1ep"])
def test_a_checkpoint_of_a_version_that_knew_no_places_goes_on_as_it_did(every: str, tmp_path: Path) -> None:
    def as_before(progress: dict[str, Any]) -> dict[str, Any]:
        new = {"missed", "stepped"}
        progress = {key: value for key, value in progress.items() if key not in new}
        counters = {key: value for key, value in progress["counters"].items() if key != "epoch_begun"}
        loader = {key: value for key, value in progress["loader"].items() if key != "order"}
        return {**progress, "counters": counters, "loader": loader}

    data, whole, resumed = batches((4, 3, 5, 2)), build(), build()
    whole.fit(data, num_epochs=2)
    saved(tmp_path, data, every=every)
    (path,) = tmp_path.iterdir()
    resumed.fit(data, num_epochs=2, resume=changed_progress(path, as_before))
    assert same_weights(resumed, whole)


def test_the_state_of_callbacks_of_the_validation_is_kept_too(tmp_path: Path) -> None:
    class Tally(Callback):
        def __init__(self) -> None:
            self.epochs = 0

        def epoch_complete(self, state: State) -> None:
            self.epochs += 1

        def state_dict(self) -> dict[str, Any]:
            return {"epochs": self.epochs}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.epochs = state_dict["epochs"]

    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    build().fit(batches(), batches(), num_epochs=2, callbacks=[keep], val_callbacks=[Tally()])
    tally = Tally()
    build().fit(batches(), batches(), num_epochs=3, val_callbacks=[tally], resume=tmp_path)
    assert tally.epochs == 3


def test_a_stored_metric_changes_nothing_but_its_state(tmp_path: Path) -> None:
    loss = Loss()
    engine = Engine(lambda batch, state: {}, build(), metrics=[loss])
    progress = engine.snapshot()
    progress["running"] = {"loss": {"update": 1}}
    restore_metrics(engine.metrics, progress)
    assert callable(loss.update)


def test_state_that_a_metric_cannot_take_is_refused_with_its_name(tmp_path: Path) -> None:
    class Fickle(Loss):
        def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
            raise KeyError("median")

    engine = Engine(lambda batch, state: {}, build(), metrics=[Fickle()])
    with pytest.raises(
        StateMismatchError, match="state does not fit metric loss: KeyError: 'median'; leave the metric out"
    ):
        restore_metrics(engine.metrics, engine.snapshot())


def test_the_best_of_another_metric_is_no_measure(tmp_path: Path) -> None:
    def callbacks(monitor: str) -> list[Any]:
        return [
            ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True}),
            ("monitor_checkpoint", {"dir_path": str(tmp_path / monitor), "monitor": monitor}),
            ("early_stopping", {"monitor": monitor, "patience": 1}),
        ]

    data = batches()
    build().fit(data, data, metrics=["accuracy"], callbacks=callbacks("val_accuracy"))
    states: list[State] = []
    more = [*callbacks("val_loss"), argus_core.on_complete(states.append)]
    build().fit(data, data, num_epochs=3, metrics=["accuracy"], callbacks=more, resume=tmp_path)
    assert len(list((tmp_path / "val_loss").iterdir())) == 2  # the loss falls in each epoch
    assert states[0].epoch == 2


def test_a_folder_with_a_damaged_checkpoint_names_it(tmp_path: Path) -> None:
    build().save(tmp_path / "best.safetensors", optimizer_state=True)
    (tmp_path / "last.safetensors").write_bytes((tmp_path / "best.safetensors").read_bytes()[:200])
    with (
        pytest.warns(ArgusWarning, match=rf"^{tmp_path}/last.safetensors is skipped: (?!{tmp_path})"),
        pytest.raises(
            CheckpointError,
            match="cannot be resumed: last.safetensors cannot be read, and best.safetensors holds no "
            "state of a run; restore another copy of last.safetensors, or start",
        ),
    ):
        build().fit(batches(), resume=tmp_path)


@pytest.mark.parametrize("names", [("b", "a"), ("a", "b", "c"), ("a", "other")])
def test_data_with_other_classes_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.arange(8) % 2)
    data.classes = ["a", "b"]  # type: ignore[attr-defined]
    loader = DataLoader(data, 4)
    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    build().fit(loader, num_epochs=1, callbacks=[keep])
    build().fit(loader, num_epochs=2, resume=tmp_path)
    data.classes = names  # type: ignore[attr-defined]
    with pytest.raises(
        StateMismatchError, match="the training data (is|has) .*; give data with the same classes"
    ):
        build().fit(loader, num_epochs=3, resume=tmp_path)
