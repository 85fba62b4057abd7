"""Iterable datasets: random numbers, workers that share the samples or do not, loaders without a length."""

from __future__ import annotations

import multiprocessing
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from networks import Net
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import argus_core
from argus_core.data.order import epoch_batches, ordered
from argus_core.data.streams import StreamLoader
from argus_core.errors import ArgusError, ArgusWarning

SAMPLES = 24


class Drawn(IterableDataset[Tensor]):
    """Shares its samples among workers; each has numbers of all libraries and of its own generator."""

    def __init__(self) -> None:
        self.own = numpy.random.default_rng(0)

    def __iter__(self) -> Iterator[Tensor]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for index in range(first, SAMPLES, step):
            drawn = random.random(), numpy.random.random(), torch.rand(()).item(), self.own.random()
            yield torch.tensor([float(index), *drawn], dtype=torch.float64)


class Repeated(IterableDataset[Tensor]):
    """Gives every worker all samples."""

    def __iter__(self) -> Iterator[Tensor]:
        return map(torch.tensor, range(SAMPLES))


class Alike(Repeated):
    """Gives the same sample for ever, so that nobody can tell who gives what."""

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.zeros(2) for _ in range(SAMPLES))


class Noise(Repeated):
    """Draws its samples, so that workers need no share."""

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.rand(2) for _ in range(SAMPLES))


class Queued(Repeated):
    """Takes its samples from a queue that all workers share."""

    def __init__(self) -> None:
        self.next = multiprocessing.Value("i", 0)

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            with self.next.get_lock():
                index = self.next.value
                self.next.value += 1
            if index >= SAMPLES:
                return
            yield torch.tensor(index)


class Told(Repeated):
    """Gets its share from a function that sets up the worker."""

    first, step = 0, 1

    def __iter__(self) -> Iterator[Tensor]:
        return map(torch.tensor, range(self.first, SAMPLES, self.step))


def share(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    info.dataset.first, info.dataset.step = info.id, info.num_workers  # type: ignore[attr-defined]


def share_nothing(worker: int) -> None:
    pass


class Jitter:
    """A collation with a generator of its own."""

    def __init__(self) -> None:
        self.own = random.Random()

    def __call__(self, samples: list[Tensor]) -> Tensor:
        return torch.stack(samples) + self.own.random()


def stream(dataset: Any, seed: int = 0, phase: str = "train", **more: Any) -> StreamLoader:
    made = ordered(DataLoader(dataset, 4, **more), seed, phase)
    assert isinstance(made, StreamLoader)
    return made


def values(loader: Any, epoch: int = 0, skip: int = 0) -> list[Any]:
    return [batch.tolist() for batch in epoch_batches(loader, epoch, skip)]


@pytest.mark.parametrize(
    "options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}], ids=str
)
def test_an_epochs_numbers_follow_from_seed_phase_epoch_and_worker(options: dict[str, Any]) -> None:
    loader = stream(Drawn(), **options)
    epochs = [values(loader, epoch) for epoch in range(3)]
    assert [each[0] for batch in epochs[0] for each in batch] != []
    again = stream(Drawn(), **options)
    assert values(again, 2) == epochs[2]
    assert values(again, 1, skip=4) == epochs[1][4:]
    others = [
        *epochs,
        values(stream(Drawn(), seed=1, **options)),
        values(stream(Drawn(), phase="val", **options)),
    ]
    for place in range(1, 5):
        numbers = [sample[place] for epoch in others for batch in epoch for sample in batch]
        # The generator that the dataset holds gives each worker the same: it may shuffle what they share.
        workers = options.get("num_workers", 1) if place == 4 else 1
        assert len(set(numbers)) == len(others) * SAMPLES // workers


@pytest.mark.parametrize("options", [{}, {"num_workers": 1, "persistent_workers": True}], ids=str)
def test_a_generator_of_the_collation_is_seeded_in_each_epoch(options: dict[str, Any]) -> None:
    loader, again = (stream(Drawn(), collate_fn=Jitter(), **options) for _ in range(2))
    values(loader, 0)
    assert values(loader, 1) == values(again, 1)


def test_a_generator_of_the_collation_draws_different_numbers_in_each_worker() -> None:
    batches = values(stream(Alike(), collate_fn=Jitter(), num_workers=2, worker_init_fn=share_nothing))
    assert len({str(batch) for batch in batches}) == len(batches)


def test_one_worker_gives_the_batches_that_none_gives() -> None:
    assert values(stream(Drawn())) == values(stream(Drawn(), num_workers=1))


def test_the_runs_own_random_numbers_do_not_change() -> None:
    def drawn(loader: Any) -> list[Any]:
        random.seed(0), numpy.random.seed(0), torch.manual_seed(0)
        draws = []
        for _ in loader:
            draws.append((random.random(), numpy.random.randn(), torch.rand(()).item()))
        return [*draws, random.random(), numpy.random.randn(), torch.rand(()).item()]

    assert drawn(stream(Drawn())) == drawn(range(SAMPLES // 4))


def test_a_dataset_is_told_the_epoch() -> None:
    class Shuffled(Repeated):
        epoch = -1

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[Tensor]:
            return (torch.tensor(self.epoch) for _ in range(4))

    for workers in (0, 1):
        loader = stream(Shuffled(), num_workers=workers, persistent_workers=workers > 0)
        assert [values(loader, epoch) for epoch in (0, 3)] == [[[0] * 4], [[3] * 4]]


def test_workers_that_all_give_everything_are_told_once() -> None:
    loader = stream(Repeated(), num_workers=2)
    with pytest.warns(
        ArgusWarning,
        match="^each of the 2 workers of the train loader gives all samples of the iterable dataset "
        "Repeated, so each sample comes 2 times in an epoch; let its __iter__ give each worker a part",
    ) as caught:
        given = values(loader) + values(loader)
    assert len(given) == 4 * SAMPLES // 4
    assert len(caught) == 1


def test_workers_with_one_batch_each_are_told_too() -> None:
    loader = ordered(DataLoader(Repeated(), SAMPLES, num_workers=2), 0, "val")
    with pytest.warns(ArgusWarning, match="2 workers of the val loader gives all samples"):
        values(loader)


@pytest.mark.parametrize(
    ("dataset", "more"),
    [
        (Drawn(), {}),
        (Alike(), {}),
        (Noise(), {}),
        (Queued(), {"multiprocessing_context": "fork"}),
        (Told(), {"worker_init_fn": share}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_workers_that_share_or_draw_the_samples_raise_no_alarm(dataset: Any, more: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(values(stream(dataset, num_workers=2, **more))) == SAMPLES // 4 * (
            2 if isinstance(dataset, Alike | Noise) else 1
        )


def test_a_failing_collation_of_a_stream_names_the_sample() -> None:
    class Odd(Repeated):
        def __iter__(self) -> Iterator[Any]:
            return iter([torch.zeros(2), torch.zeros(2), torch.zeros(3)])

    for workers in (0, 1):
        with pytest.raises(
            ArgusError, match=r"^samples number 0 .* and number 2 of the batch differ: Tensor of "
        ):
            values(stream(Odd(), num_workers=workers))


def stop(samples: list[Any]) -> Any:
    return next(iter(()))


def test_a_collation_that_raises_stop_iteration_does_not_end_a_stream_in_silence() -> None:
    with pytest.raises(ArgusError, match="the collate_fn stop raised StopIteration"):
        values(stream(Repeated(), collate_fn=stop))


PARAMS = {
    "nn_module": ("net", {}),
    "loss": "CrossEntropyLoss",
    "optimizer": ("SGD", {"lr": 0.1}),
    "device": "cpu",
}


class Endless(Drawn):
    """Gives samples of three classes without an end, other ones in each worker."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            target = random.randrange(3)
            yield torch.randn(4) + 0.1 * numpy.random.random() + self.own.random(), target


@pytest.fixture
def net() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        yield


def stop_after(updates: int) -> Any:
    def stop(state: Any) -> None:
        state.stopped = state.global_step == updates

    return argus_core.on_iteration_complete(stop)


@pytest.mark.usefixtures("net")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_over_a_stream_without_an_end_resumes_exactly_at_any_update(
    workers: int, tmp_path: Path
) -> None:
    def fit(updates: int, **more: Any) -> Any:
        loader = DataLoader(Endless(), 4, num_workers=workers, persistent_workers=workers > 0)
        model = argus_core.Model(PARAMS)
        callbacks = [("checkpoint", {"dir_path": str(tmp_path), "every": "2up", "optimizer_state": True})]
        schedule = ("ExponentialLR", {"gamma": 0.9, "interval": "update"})
        model.fit(
            loader,
            lr_scheduler=schedule,
            callbacks=[*callbacks, ("progress", {}), stop_after(updates)],
            **more,
        )
        return model.get_nn_module().state_dict()

    whole = fit(6, seed=0)
    for path in tmp_path.glob("*.safetensors"):
        if not path.name.endswith("000002.safetensors"):
            path.unlink()
    resumed = fit(6, resume=tmp_path)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.usefixtures("net")
def test_a_run_that_stops_in_a_stream_without_an_end_continues_its_epoch(tmp_path: Path) -> None:
    def fit(updates: int, **more: Any) -> tuple[int, Any]:
        torch.manual_seed(1)  # of the initial weights
        model, epochs = argus_core.Model(PARAMS), []
        keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
        epoch = argus_core.on_iteration_complete(lambda state: epochs.append(state.epoch))
        model.fit(DataLoader(Endless(), 4), callbacks=[keep, epoch, stop_after(updates)], **more)
        return len(epochs), model.get_nn_module().state_dict()

    _, whole = fit(6, seed=0)
    for path in tmp_path.iterdir():
        path.unlink()
    fit(2, seed=0)
    made, resumed = fit(6, resume=tmp_path)
    assert made == 4
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.usefixtures("net")
def test_another_number_of_workers_starts_the_epoch_over_and_is_told(tmp_path: Path) -> None:
    callbacks = [
        ("checkpoint", {"dir_path": str(tmp_path), "every": "2up", "optimizer_state": True}),
        stop_after(3),
    ]
    argus_core.Model(PARAMS).fit(DataLoader(Endless(), 4), callbacks=callbacks)
    with pytest.warns(
        ArgusWarning,
        match=r"train loader \(StreamLoader\) gives another order of batches \(the number of workers decides "
        r"which samples are in a batch\), so epoch 1 starts over",
    ):
        argus_core.Model(PARAMS).fit(
            DataLoader(Endless(), 4, num_workers=2), callbacks=[stop_after(4)], resume=tmp_path
        )


class Long(Repeated):
    """Says that it has another number of samples than it has."""

    def __init__(self, length: int, samples: int = SAMPLES) -> None:
        self.length = length
        self.samples = samples

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return ((torch.full((4,), float(index)), index % 3) for index in range(first, self.samples, step))


class Other:
    """A loader of one's own."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return iter(DataLoader(Long(SAMPLES), 4))


@pytest.mark.usefixtures("net")
@pytest.mark.parametrize(
    ("loader", "name"),
    [
        (lambda length: DataLoader(Long(4 * length), 4), "Long"),
        (Other, "Other"),
    ],
    ids=["a dataset", "a loader"],
)
@pytest.mark.parametrize("length", [3, 9])
def test_a_wrong_length_is_told_and_all_batches_count(loader: Any, name: str, length: int) -> None:
    seen: list[int] = []
    count = argus_core.on_iteration_complete(lambda state: seen.append(state.iteration))
    with pytest.warns(
        ArgusWarning,
        match=rf"^the length of the loader \({name}\) is {length}, and it gave 6 batches; correct __len__ of "
        "its dataset or sampler, since progress, schedules and resuming count on it$",
    ):
        argus_core.Model(PARAMS).fit(loader(length), callbacks=[count, ("progress", {})])
    assert len(seen) == 6


def test_a_last_batch_of_each_worker_is_no_wrong_length() -> None:
    loader = stream(Long(SAMPLES - 2, SAMPLES - 2), num_workers=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(values_of(loader)) == len(loader)
    loader = ordered(DataLoader(Long(SAMPLES, SAMPLES), 5, num_workers=2), 0, "train")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (len(values_of(loader)), len(loader)) == (6, 5)  # type: ignore[arg-type]


def values_of(loader: Any) -> list[Any]:
    return [target.tolist() for _, target in epoch_batches(loader, 0)]
