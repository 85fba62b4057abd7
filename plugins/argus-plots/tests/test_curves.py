"""The picture of a run's curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

import argus_core
from argus_core import ArgusError, BuildError, Callback, CheckpointError, Model, ParamsError, State
from argus_core.config import read_config
from argus_core.runs.run import resume, train
from argus_example.networks import CNN
from argus_plots import curves
from argus_plots.curves import Curves
from argus_plots.drawing import draw_curves
from argus_plots.series import Curve, Series
from argus_sklearn.datasets import digits

LOADER = [
    (torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)), torch.arange(4) % 3)
    for seed in range(3)
]
CONFIG = """
[model]
nn_module = ["cnn", {{ classes = 10, width = 4 }}]
loss = "CrossEntropyLoss"
optimizer = ["SGD", {{ lr = 0.01, groups = [ {{ match = "*bias", lr = 0.1 }} ] }}]
device = "cpu"
[data]
train = ["digits", {{ split = "train" }}]
val = ["digits", {{ split = "val" }}]
batch_size = 512
val_batch_size = 512
[fit]
num_epochs = {epochs}
metrics = ["accuracy"]
callbacks = [["curves", {{ {options} }}]]
run_dir = "run"
seed = 0
"""


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("callback", "curves", Curves)
        argus_core.register("dataset", "digits", digits)
        argus_core.register("nn_module", "cnn", CNN)
        argus_core.register("nn_module", "net", torch.nn.Linear)
        yield


def make_model() -> Model:
    return Model({"nn_module": ("net", {"in_features": 8, "out_features": 3}), "loss": "CrossEntropyLoss",
                  "optimizer": ("SGD", {"lr": 0.1}), "device": "cpu"})  # fmt: skip


def callbacks(folder: Path, **options: Any) -> list[Any]:
    return [
        ("metrics_jsonl", {"file_path": folder / "metrics.jsonl"}),
        Curves(folder / "curves.png", **options),
    ]


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def test_run_directory_gets_the_picture_and_a_resumed_run_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits.toml").write_text(CONFIG.format(epochs=1, options=""), "utf-8")
    train(read_config(Path("digits.toml")))
    first = Path("run/curves.png").read_bytes()
    assert imread("run/curves.png").shape[2] == 4
    resume(Path("run"), ["num_epochs=2"])
    assert Path("run/curves.png").read_bytes() != first
    assert [path.name for path in Path("run").glob(".*.tmp")] == []


def test_file_outside_of_the_run_directory_is_not_written_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits.toml").write_text(CONFIG.format(epochs=1, options=""), "utf-8")
    train(read_config(Path("digits.toml")))
    thesis = tmp_path / "thesis.png"
    thesis.write_bytes(b"mine")
    Path("run/curves.png").unlink()
    Path("run/curves.png").symlink_to(thesis)
    with pytest.raises(ArgusError, match=r"curves\.png is a symbolic link"):
        resume(Path("run"), ["num_epochs=2"])
    assert thesis.read_bytes() == b"mine"


def test_picture_has_a_panel_for_each_metric_with_both_phases_and_the_best_epoch() -> None:
    phases = {"train": Curve([3, 6], [2.0, 1.0]), "val": Curve([3, 6], [2.5, 2.0])}
    series = Series(
        [3, 6], {"loss": phases, "accuracy": {"val": Curve([3, 6], [0.5, 0.75])}}, [Curve([3, 6], [1, 0.1])]
    )
    figure = draw_curves(series, ("val_accuracy", 6))
    assert titles(figure) == ["loss", "accuracy", "learning rate"]
    loss = figure.axes[0]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "val"]
    assert [line.get_ydata().tolist() for line in loss.lines[:2]] == [[2.0, 1.0], [2.5, 2.0]]  # type: ignore[union-attr]
    assert [line.get_xdata().tolist() for line in loss.lines[:2]] == [[1, 2], [1, 2]]  # type: ignore[union-attr]
    assert list(loss.lines[2].get_xdata()) == [2, 2]  # type: ignore[arg-type]
    assert loss.get_xlabel() == "epoch"
    assert figure.get_suptitle() == "best val_accuracy: epoch 2"


def test_values_within_epochs_are_drawn_over_updates() -> None:
    series = Series([10], {"loss": {"val": Curve([5, 10], [2.0, 1.0])}})
    axis = draw_curves(series).axes[0]
    assert axis.get_xlabel() == "update"
    assert axis.lines[0].get_xdata().tolist() == [5, 10]  # type: ignore[union-attr]


def test_many_metrics_are_cut_and_counted() -> None:
    series = Series([1], {f"class_{number}": {"val": Curve([1], [0.5])} for number in range(100)})
    figure = draw_curves(series)
    assert len(figure.axes) == 23
    assert figure.get_suptitle() == "77 more metrics are in the file metrics.jsonl"


def test_rates_over_a_wide_range_have_a_logarithmic_axis() -> None:
    axis = draw_curves(Series([1, 2], {}, [Curve([1, 2], [1.0, 1e-5])])).axes[0]
    assert axis.get_yscale() == "log"


@pytest.mark.parametrize("name", ["$x$_{", "a\x1b[31m", "精度", "%s", "x" * 300, "_hidden"])
def test_name_of_a_metric_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    @argus_core.on_event("epoch_complete")
    def measure(state: State) -> None:
        state.metrics[name] = 1.0

    make_model().fit(LOADER, num_epochs=1, callbacks=[measure, *callbacks(tmp_path)])
    assert imread(str(tmp_path / "curves.png")).size


def test_run_whose_values_are_all_nan_has_a_picture(tmp_path: Path) -> None:
    @argus_core.on_event("epoch_complete")
    def measure(state: State) -> None:
        state.metrics["x"] = float("nan")

    make_model().fit(LOADER, num_epochs=2, callbacks=[measure, *callbacks(tmp_path, interval=0)])
    assert imread(str(tmp_path / "curves.png")).size


class Looks(Callback):
    """Counts at each epoch's end whether there is a picture."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen = path, [False]

    def iteration_start(self, state: State) -> None:
        if state.iteration == 0:
            self.seen.append(self.path.exists())


@pytest.mark.parametrize(("interval", "seen"), [(0, [False, False, True]), (3600, [False, False, False])])
def test_picture_is_drawn_once_an_interval_and_at_the_end(
    tmp_path: Path, interval: float, seen: list[bool]
) -> None:
    looks = Looks(tmp_path / "curves.png")
    make_model().fit(LOADER, num_epochs=2, callbacks=[looks, *callbacks(tmp_path, interval=interval)])
    assert looks.seen == seen
    assert looks.path.exists()


def test_run_that_fails_has_its_picture(tmp_path: Path) -> None:
    @argus_core.on_event("epoch_start")
    def fail(state: State) -> None:
        if state.epoch == 1:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        make_model().fit(LOADER, num_epochs=2, callbacks=[*callbacks(tmp_path), fail])
    assert (tmp_path / "curves.png").exists()


def test_file_that_is_no_such_picture_is_not_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "curves.png"
    mine.write_bytes(b"\x89PNG my own")
    with pytest.raises(
        ArgusError, match=r"curves would replace 'curves\.png', which is not a picture that it drew"
    ):
        make_model().fit(LOADER, num_epochs=1, callbacks=callbacks(tmp_path))
    assert mine.read_bytes() == b"\x89PNG my own"


def test_file_that_is_no_such_picture_is_not_replaced_by_a_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits.toml").write_text(CONFIG.format(epochs=1, options=""), "utf-8")
    train(read_config(Path("digits.toml")), callbacks=[])
    Path("run/curves.png").write_bytes(b"\x89PNG my own")
    with pytest.raises(ArgusError, match=r"curves would replace 'curves\.png'"):
        resume(Path("run"), ["num_epochs=2"])
    assert Path("run/curves.png").read_bytes() == b"\x89PNG my own"


@pytest.mark.parametrize(
    "error", [CheckpointError("no space"), ValueError("of matplotlib"), MemoryError(), OSError("no disk")]
)
def test_picture_that_cannot_be_drawn_ends_no_run(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(curves, "draw_curves", fail)
    model = make_model()
    model.fit(LOADER, num_epochs=3, callbacks=callbacks(tmp_path, interval=0))
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f"curves could not draw curves.png: {str(error) or 'MemoryError'}"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_picture_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    make_model().fit(LOADER, num_epochs=1, callbacks=callbacks(tmp_path))
    first = (tmp_path / "curves.png").read_bytes()
    make_model().fit(LOADER, num_epochs=2, callbacks=callbacks(tmp_path))
    assert (tmp_path / "curves.png").read_bytes() != first


@pytest.mark.parametrize("logged", [False, True])
def test_epochs_before_a_resume_are_drawn_from_the_log(
    tmp_path: Path, logged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Series] = []
    monkeypatch.setattr(
        curves, "draw_curves", lambda series, best: drawn.append(series) or draw_curves(series, best)
    )
    chosen = [
        *callbacks(tmp_path)[not logged :],
        ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True}),
    ]
    make_model().fit(LOADER, num_epochs=1, callbacks=chosen, validate_every="1ep")
    make_model().fit(LOADER, num_epochs=2, callbacks=chosen, resume=tmp_path)
    assert [series.epochs for series in drawn] == [[3], [3, 6] if logged else [6]]


def test_validations_within_an_epoch_are_drawn_without_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Series] = []
    monkeypatch.setattr(
        curves, "draw_curves", lambda series, best: drawn.append(series) or draw_curves(series, best)
    )
    make_model().fit(LOADER, LOADER, num_epochs=1, callbacks=Curves(tmp_path / "a.png"), validate_every="2up")
    assert drawn[0].metrics["loss"]["val"].updates == [2, 3]


def test_validation_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="curves is used in a validation; list it in callbacks of fit"):
        make_model().validate(LOADER, callbacks=Curves(tmp_path / "curves.png"))


@pytest.mark.parametrize("interval", [-1, float("nan"), "1min", True])
def test_interval_is_a_number_of_seconds(interval: Any) -> None:
    with pytest.raises(ParamsError, match=r"interval of curves is .*; give a number of seconds"):
        Curves("curves.png", interval)


def test_other_kinds_of_files_are_refused() -> None:
    with pytest.raises(
        ParamsError, match=r"file_path of curves is 'curves\.pdf'; give a file that ends in \.png"
    ):
        Curves("curves.pdf")
