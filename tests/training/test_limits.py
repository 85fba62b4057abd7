"""An epoch is as long as its limit says, for schedules, checkpoints and resumed runs too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networks import batches, make_model, same_weights
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from argus_core import Model, ParamsError, State, on_epoch_complete
from argus_core.storage import read_header

pytestmark = pytest.mark.usefixtures("net_registry")

DATA = TensorDataset(*batches((20,))[0])


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(DATA, 2, **options)


def run(train: Any = None, *callbacks: Any, **options: Any) -> tuple[Model, list[State]]:
    model, ends = make_model(), list[Any]()
    note = on_epoch_complete(lambda s: ends.append((s.iteration + 1, s.phase_states["val"].iteration + 1)))
    model.fit(
        loader(shuffle=True) if train is None else train,
        loader(),
        callbacks=[note, *callbacks],
        seed=0,
        **options,
    )
    return model, ends


@pytest.mark.parametrize(
    ("limits", "step", "steps"),
    [
        ({"limit_train": 3, "limit_val": 4}, None, (3, 4)),
        ({"limit_train": 0.3, "limit_val": 0.01}, None, (3, 1)),
        ({"limit_train": 1.0, "limit_val": 1}, None, (10, 1)),
        ({"limit_train": 99, "limit_val": 99}, None, (10, 10)),
        ({"limit_train": 2}, ("accumulate", {"steps": 3}), (2, 10)),
        ({"limit_train": 0.5}, ("accumulate", {"steps": 3}), (2, 10)),  # of four updates
    ],
)
def test_epoch_has_as_many_steps_as_its_limit(limits: Any, step: Any, steps: tuple[int, int]) -> None:
    model, ends = make_model(**({"step": step} if step else {})), list[Any]()
    note = on_epoch_complete(lambda s: ends.append((s.iteration + 1, s.phase_states["val"].iteration + 1)))
    model.fit(loader(), loader(), 2, callbacks=[note], **limits)
    assert ends == [steps, steps]


def test_each_limited_epoch_takes_the_beginning_of_its_own_order() -> None:
    seen: list[Any] = []

    @on_epoch_complete
    def note(state: State) -> None:
        seen.append(state.batch[0].tolist())

    run(None, note, num_epochs=3, limit_train=1)
    assert len({str(each) for each in seen}) == 3


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield DATA[0]


def test_loader_without_a_length_is_limited_to_a_number() -> None:
    endless = DataLoader(Endless(), 2)
    _, ends = run(endless, num_epochs=2, limit_train=3)
    assert ends == [(3, 10), (3, 10)]
    with pytest.raises(
        ParamsError,
        match=r"^limit_train is 0\.5, a share of an epoch, and the loader has no length; gi",
    ):
        run(endless, limit_train=0.5)


@pytest.mark.parametrize(("stop", "workers"), [*((stop, 0) for stop in range(1, 7)), (2, 2), (3, 2)])
def test_limited_run_that_ended_at_an_update_continues_exactly(
    stop: int, workers: int, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "limit_train": 3,
        "limit_val": 0.2,
        "lr_scheduler": ("StepLR", {"step_size": 1}),
    }
    keep = ("checkpoint", {"dir_path": str(tmp_path), "every": "1up", "optimizer_state": True})
    whole, _ = run(num_updates=7, **options)
    run(loader(shuffle=True, num_workers=workers), keep, num_updates=stop, **options)
    resumed, _ = run(loader(shuffle=True, num_workers=workers), resume=tmp_path, num_updates=7, **options)
    assert same_weights(whole, resumed)


def test_resumed_epoch_ends_at_its_new_limit(tmp_path: Path) -> None:
    keep = ("checkpoint", {"dir_path": str(tmp_path), "every": "1up", "optimizer_state": True})
    run(None, keep, num_updates=4, limit_train=6)
    _, ends = run(resume=tmp_path, num_epochs=2, limit_train=2)
    assert [updates for updates, _ in ends] == [4, 2]


def test_schedule_and_checkpoint_count_limited_epochs(tmp_path: Path) -> None:
    once = ("OneCycleLR", {"max_lr": 0.1, "total_steps": 6, "interval": "update"})
    run(None, ("checkpoint", {"dir_path": str(tmp_path)}), num_epochs=2, limit_train=3, lr_scheduler=once)
    steps = [read_header(path).manifest["run"]["global_step"] for path in sorted(tmp_path.iterdir())]
    assert steps == [3, 6]


@pytest.mark.parametrize("value", [0, -1, 0.0, 1.5, float("nan"), True, "10%", "500up", 2**31])
@pytest.mark.parametrize("name", ["limit_train", "limit_val"])
def test_limit_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ParamsError, match=rf"^{name} is .*; give a whole number from 1 to 2\*\*31 - 1, or"):
        run(**{name: value})
