"""What stands in the event files after a run, read back as TensorBoard reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from torch import Tensor, distributed, multiprocessing, nn
from torch.utils._python_dispatch import TorchDispatchMode

import argus_core
from argus_core import ArgusError, BuildError, Callback, Model, ParamsError, State
from argus_core.config import read_config
from argus_core.errors import ConfigError
from argus_core.files.confinement import confined
from argus_core.registry.factory import build_component
from argus_core.runs.run import train
from argus_tensorboard.callback import TensorBoard

LOADER = [
    (torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed)), torch.arange(4) % 3)
    for seed in range(5)
]


class Net(nn.Module):
    """(batch, 1, 8, 8) -> (batch, 3), with noise in training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.out(self.drop(self.norm(images)).flatten(1))
        return logits


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "net", Net)
        argus_core.register("callback", "tensorboard", TensorBoard)
        yield


def make_model(**params: Any) -> Model:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "nn_module": "net",
        "loss": "CrossEntropyLoss",
        "optimizer": ("SGD", {"lr": 0.1}),
        "prediction_transform": ("Softmax", {"dim": 1}),
        "device": "cpu",
    }
    return Model({**defaults, **params})


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    return events


def scalars(folder: Path, tag: str) -> dict[int, float]:
    """Return the values by step, each of which stands there once."""
    found = [(event.step, event.value) for event in read(folder).Scalars(tag)]
    assert len(dict(found)) == len(found)
    return dict(found)


def texts(folder: Path, tag: str) -> str:
    (event,) = read(folder).Tensors(f"{tag}/text_summary")
    return str(event.tensor_proto.string_val[0].decode())


def fit(folder: Path, model: Model | None = None, /, epochs: int = 2, **params: Any) -> dict[str, float]:
    board = ("tensorboard", {"log_dir": str(folder), **params})
    model = model or make_model()
    return model.fit(LOADER, LOADER[:2], num_epochs=epochs, metrics=["accuracy"], callbacks=[board], seed=0)


def test_metrics_stand_at_the_updates_after_which_they_were_computed(tmp_path: Path) -> None:
    values = fit(tmp_path)
    for tag, name in (
        ("loss/train", "train_loss"),
        ("loss/val", "val_loss"),
        ("accuracy/val", "val_accuracy"),
    ):
        assert list(scalars(tmp_path, tag)) == [5, 10]
        assert scalars(tmp_path, tag)[10] == pytest.approx(values[name])
    assert scalars(tmp_path, "epoch") == {5: 0, 10: 1}
    assert scalars(tmp_path, "updates_skipped") == {5: 0, 10: 0}


def test_the_loss_of_every_so_many_updates_is_that_of_the_update(tmp_path: Path) -> None:
    losses: dict[int, float] = {}

    @argus_core.on_iteration_complete
    def keep(state: State) -> None:
        losses[state.global_step] = state.step_output["loss"]

    board = TensorBoard(tmp_path, every="2up")
    make_model().fit(LOADER, num_epochs=2, callbacks=[board, keep], seed=0)
    expected = {step: losses[step] for step in (2, 4, 6, 8, 10)}
    assert scalars(tmp_path, "loss/update") == pytest.approx(expected)


def test_learning_rate_is_that_of_each_group(tmp_path: Path) -> None:
    class TwoGroups(Model):
        def build_optimizer(self, factory: Any, params: Any) -> Any:
            norm, out = self.nn_module.norm.parameters(), self.nn_module.out.parameters()
            return factory([{"params": norm, "lr": 0.2, "name": "norm\ud800"}, {"params": out}], **params)

    plain = {"interval": "update", "step_size": 5, "gamma": 0.1}
    board = ("tensorboard", {"log_dir": str(tmp_path / "one"), "every": "1up"})
    make_model().fit(LOADER, num_epochs=2, callbacks=[board], lr_scheduler=("StepLR", plain))
    rates = scalars_last(tmp_path / "one", "lr")
    assert rates[1] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(0.01)
    fit(tmp_path / "two", TwoGroups(make_model().params))
    assert scalars(tmp_path / "two", r"lr/norm\ud800")[5] == pytest.approx(0.2)
    assert scalars(tmp_path / "two", "lr/1")[5] == pytest.approx(0.1)


def scalars_last(folder: Path, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in read(folder).Scalars(tag)}


def test_histograms_are_of_the_weights_and_the_gradients(tmp_path: Path) -> None:
    model = make_model()
    fit(tmp_path, model, histograms="2ep")
    events = read(tmp_path)
    names = [name for name, _ in model.nn_module.named_parameters()]
    assert set(events.Tags()["histograms"]) == {
        f"{kind}/{name}" for kind in ("weights", "gradients") for name in names
    }
    for tag, tensor in (
        ("weights/out.weight", model.nn_module.out.weight),
        ("gradients/out.weight", model.nn_module.out.weight.grad),
    ):
        (histogram,) = events.Histograms(tag)
        values = histogram.histogram_value
        assert histogram.step == 10
        assert values.num == tensor.numel() == 192
        assert values.min == pytest.approx(tensor.min().item())
        assert values.max == pytest.approx(tensor.max().item())
        assert values.sum == pytest.approx(tensor.sum().item(), rel=1e-4, abs=1e-6)


def test_weights_that_are_not_finite_or_narrow_have_histograms(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.narrow = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
            self.broken = nn.Parameter(torch.tensor([float("nan"), 1.0, float("inf"), 2.0]))
            self.lost = nn.Parameter(torch.full((2,), float("nan")))
            self.empty = nn.Parameter(torch.zeros(0))
            self.turned = nn.Parameter(torch.tensor([3 + 4j]))

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :3] + self.narrow[0].float()

    argus_core.register("nn_module", "odd", Odd)
    fit(tmp_path, make_model(nn_module="odd"), histograms="10up")
    events = read(tmp_path)
    sizes = {tag: events.Histograms(tag)[0].histogram_value.num for tag in events.Tags()["histograms"]}
    assert sizes == {
        "weights/narrow": 4,
        "gradients/narrow": 4,
        "weights/broken": 2,
        "weights/turned": 1,
    }
    assert events.Histograms("weights/turned")[0].histogram_value.max == 5
    assert scalars(tmp_path, "not_finite/weights/broken") == {10: 0.5}
    assert scalars(tmp_path, "not_finite/weights/lost") == {10: 1}


def test_the_graph_is_that_of_the_network(tmp_path: Path) -> None:
    fit(tmp_path, graph=True)
    operations = {node.op for node in _graph(tmp_path).node}
    assert {"aten::dropout", "aten::linear", "aten::batch_norm"} <= operations


def test_the_graph_of_a_network_of_shards_is_refused(tmp_path: Path) -> None:
    state: Any = SimpleNamespace(
        phase="train", model=SimpleNamespace(parallel=SimpleNamespace(is_sharded=True))
    )
    with pytest.raises(BuildError, match="has graph=True in a run of shards.* leave graph out"):
        TensorBoard(tmp_path, graph=True).start(state)
    assert not list(tmp_path.iterdir())


def _graph(folder: Path) -> Any:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = read(folder).Graph()
    assert isinstance(graph, GraphDef)
    return graph


def test_the_graph_changes_nothing_in_the_run(tmp_path: Path) -> None:
    drawn, plain = make_model(), make_model()
    assert fit(tmp_path / "a", drawn, graph=True, histograms="1up", samples="1up") == fit(
        tmp_path / "b", plain
    )
    for one, other in zip(
        drawn.nn_module.state_dict().values(), plain.nn_module.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_a_network_that_cannot_be_traced_is_told_and_trains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Fickle(Net):
        def forward(self, images: Tensor) -> Tensor:
            if torch.jit.is_tracing():
                raise RuntimeError("not\ntoday")
            return super().forward(images)

    argus_core.register("nn_module", "fickle", Fickle)
    with caplog.at_level(logging.WARNING):
        fit(tmp_path, make_model(nn_module="fickle"), graph=True)
    assert "tensorboard cannot draw the graph of Fickle: not today" in caplog.text
    assert list(scalars(tmp_path, "loss/train")) == [5, 10]


def test_images_have_frames_of_right_and_wrong(tmp_path: Path) -> None:
    fit(tmp_path, samples="2ep", max_samples=3)
    (event,) = read(tmp_path).Images("samples/images")
    assert event.step == 10
    assert (event.width, event.height) == (3 * 10, 10)
    table = texts(tmp_path, "samples/table").splitlines()
    assert table[0] == "| sample | predicted | target |"
    assert [line.split("|")[3].strip() for line in table[2:]] == ["0", "1", "2"]


def test_samples_are_of_training_where_nothing_is_validated(tmp_path: Path) -> None:
    model = make_model(step=("accumulate", {"steps": 3}))
    board = ("tensorboard", {"log_dir": str(tmp_path), "samples": "1ep", "max_samples": 99})
    model.fit(LOADER, callbacks=[board])
    (event,) = read(tmp_path).Images("samples/images")
    assert event.width == 4 * 10


def test_samples_may_be_drawn_in_another_way(tmp_path: Path) -> None:
    class Own(TensorBoard):
        def draw_samples(self, writer: Any, input: Any, prediction: Any, target: Any, step: int) -> None:
            assert (input.shape, prediction.shape, target.shape) == ((4, 1, 8, 8), (4, 3), (4,))
            writer.add_image("own", input[0], step)

    make_model().fit(LOADER, callbacks=[Own(tmp_path, samples="5up")])
    assert [event.step for event in read(tmp_path).Images("own")] == [5]


def test_params_are_hyperparameters_of_the_metrics(tmp_path: Path) -> None:
    fit(tmp_path, make_model(step=["finite_guard", ("clip_grad_norm", {"max_norm": 2.0})]))
    content = read(tmp_path).summary_metadata
    data = {tag: metadata.plugin_data.content for tag, metadata in content.items() if "hparams" in tag}
    start = plugin_data_pb2.HParamsPluginData.FromString(data["_hparams_/session_start_info"])
    found = {
        key: value.number_value or value.string_value
        for key, value in start.session_start_info.hparams.items()
    }
    assert found["optimizer"] == "SGD"
    assert found["optimizer.lr"] == 0.1
    assert found["step"] == "finite_guard, clip_grad_norm"
    assert found["step.clip_grad_norm.max_norm"] == 2.0
    assert found["num_epochs"] == 2
    experiment = plugin_data_pb2.HParamsPluginData.FromString(data["_hparams_/experiment"]).experiment
    assert {info.name.tag for info in experiment.metric_infos} == {"loss/train", "loss/val", "accuracy/val"}
    end = plugin_data_pb2.HParamsPluginData.FromString(data["_hparams_/session_end_info"]).session_end_info
    assert end.status == 1  # success


def test_hyperparameters_may_be_left_out(tmp_path: Path) -> None:
    fit(tmp_path, hparams=False)
    assert not any("hparams" in tag for tag in read(tmp_path).summary_metadata)


class Ends(Callback):
    """Raises something, or ends as a signal does, in the seventh update."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def iteration_complete(self, state: State) -> None:
        if state.global_step == 7:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("power cut"), KeyboardInterrupt()])
def test_what_was_written_before_an_exception_is_kept(tmp_path: Path, error: BaseException) -> None:
    board = TensorBoard(tmp_path, every="1up")
    with pytest.raises(type(error)):
        make_model().fit(LOADER, num_epochs=2, callbacks=[Ends(error), board])
    assert list(scalars(tmp_path, "loss/update")) == [1, 2, 3, 4, 5, 6, 7]  # the seventh is done
    assert list(scalars(tmp_path, "loss/train")) == [5]
    assert board._writer is None


def test_an_exception_before_it_starts_is_not_its_own(tmp_path: Path) -> None:
    class Fails(Callback):
        @argus_core.hookimpl(tryfirst=True)
        def start(self, state: State) -> None:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        make_model().fit(LOADER, callbacks=[Fails(), TensorBoard(tmp_path / "a")])
    assert not (tmp_path / "a").exists()


def losses_of(folder: Path) -> tuple[dict[int, float], dict[int, float]]:
    return scalars(folder, "loss/update"), scalars(folder, "loss/train")


def test_event_files_of_a_later_time_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("9999999999.host.1.0", "x", f"{'9' * 5000}"[:200]):
        (tmp_path / f"events.out.tfevents.{name}").touch()
    make_model().fit(LOADER, callbacks=[TensorBoard(tmp_path)])
    assert caplog.text.count("has event files of a later time than this computer's clock; TensorBoard") == 1


def test_a_resumed_run_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    def run(folder: str, *more: Any, resume: Any = None) -> None:
        board = ("tensorboard", {"log_dir": str(tmp_path / folder), "every": "1up", "samples": "1ep"})
        saving = {"dir_path": str(tmp_path / "saved" / folder), "every": "4up", "optimizer_state": True}
        callbacks = [board, ("checkpoint", saving), *more]
        make_model().fit(LOADER, num_epochs=3, callbacks=callbacks, seed=0, resume=resume)

    run("whole")
    with pytest.raises(RuntimeError):
        run("cut", Ends(RuntimeError("power cut")))  # in update 7, after the checkpoint of update 4
    assert 6 in scalars(tmp_path / "cut", "loss/update")
    run("cut", resume=tmp_path / "saved" / "cut")
    assert len(list((tmp_path / "cut").iterdir())) == 2
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")
    assert [event.step for event in read(tmp_path / "cut").Images("samples/images")] == [5, 10, 15]


def test_a_run_of_its_own_hides_what_the_folder_held(tmp_path: Path) -> None:
    fit(tmp_path, epochs=3)
    fit(tmp_path, epochs=1)
    assert list(scalars(tmp_path, "loss/train")) == [5]


class Reads(TorchDispatchMode):
    """Counts how often a value is read from a tensor, which waits for its device."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def reads_in(run: Callable[[], Any]) -> int:
    with Reads() as reads:
        run()
    return reads.count


def test_nothing_is_read_from_the_device_between_what_is_written(tmp_path: Path) -> None:
    board = ("tensorboard", {"log_dir": str(tmp_path), "every": "3up"})
    without, with_it = (
        reads_in(lambda callbacks=callbacks: make_model().fit(LOADER, num_epochs=2, callbacks=callbacks))
        for callbacks in ([], [board])
    )
    assert with_it - without == 3  # updates 3, 6 and 9


def write_in_processes(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    board = TensorBoard(folder / "board", every="1up", histograms="1ep", samples="1ep", graph=True)
    model = make_model()  # `fit` takes one process; an engine of one's own is one's own business
    argus_core.Engine(model.train_step, model, callbacks=[board]).run(LOADER, 2)
    distributed.destroy_process_group()


def test_of_several_processes_the_first_writes(tmp_path: Path) -> None:
    multiprocessing.start_processes(write_in_processes, (tmp_path,), nprocs=2, start_method="fork")
    assert len(list((tmp_path / "board").iterdir())) == 1
    assert list(scalars(tmp_path / "board", "loss/update")) == [*range(1, 11)]


def test_board_does_not_leave_a_run_directory_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "board").symlink_to(tmp_path / "elsewhere")
    for way in ("board", "board/inner"):
        with (
            confined(tmp_path / "run"),
            pytest.raises(ConfigError, match="board.* is a symbolic link; a run"),
        ):
            fit(tmp_path / "run" / way)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_steps_of_ones_own_need_no_loss_and_no_optimizer(tmp_path: Path) -> None:
    class Own(Model):
        def train_step(self, batch: Any, state: Any = None) -> Any:
            return {"prediction": batch[0], "target": batch[1], "loss": 2.0}

    fit(tmp_path, Own({"nn_module": "net", "loss": "CrossEntropyLoss", "device": "cpu"}), every="1up")
    assert set(scalars(tmp_path, "loss/update").values()) == {2.0}
    assert "lr" not in read(tmp_path).Tags()["scalars"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"every": "often"},
            "tensorboard has every='often'; give epochs, updates, minutes or hours, such as '2ep'",
        ),
        ({"histograms": 3}, "callback 'tensorboard': histograms is 3, a number; give a string"),
        ({"histograms": "3"}, "tensorboard has histograms='3'; give epochs, updates, minutes or hours"),
        ({"samples": "0up"}, "tensorboard has samples='0up'"),
        ({"max_samples": 0}, "max_samples of tensorboard is 0; give an integer of at least 1"),
        ({"max_samples": True}, "max_samples of tensorboard is True; give an integer"),
        ({"log_dir": ""}, "tensorboard takes a path for log_dir"),
        ({"log_dir": "s3://bucket/a"}, "log_dir='s3://bucket/a', which is an address; give a path on this"),
        ({"log_dir": "ram://a"}, "log_dir='ram://a', which is an address"),
        ({"histogram": "1ep"}, "did you mean 'histograms'"),
    ],
)
def test_wrong_parameters_are_told(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        build_component("callback", ("tensorboard", {"log_dir": "a", **params}), "callbacks")


def small_config(folder: Path) -> Path:
    """Write a configuration, register the data set that it names, and return its path."""
    argus_core.register("dataset", "images", lambda: [(images[0], 0) for images, _ in LOADER])
    config = folder / "net.toml"
    config.write_text(
        '[model]\nnn_module = "net"\nloss = "CrossEntropyLoss"\noptimizer = ["SGD", { lr = 0.1 }]\n'
        'device = "cpu"\n[data]\ntrain = "images"\n[fit]\nnum_threads = 1\n',
        "utf-8",
    )
    return config


def test_without_a_folder_of_its_own_it_writes_into_the_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        train(read_config(config, ['callbacks=["tensorboard"]', f"run_dir=runs/{name}"]))
        assert "loss/train" in read(tmp_path / "runs" / name / "tensorboard").Tags()["scalars"]
    assert not [*tmp_path.glob("**/events.out*")][2:]


def test_nothing_is_due_where_nothing_is_wanted(tmp_path: Path) -> None:
    fit(tmp_path, every=None)
    assert "loss/update" not in read(tmp_path).Tags()["scalars"]


def test_minutes_count_from_the_last_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 10_000, 20))
    monkeypatch.setattr("argus_core.tensors.clock.time.monotonic", lambda: float(next(seconds)))
    make_model().fit(LOADER, callbacks=[TensorBoard(tmp_path, every="0.5min")])
    assert 0 < len(scalars(tmp_path, "loss/update")) < 5


@pytest.mark.parametrize(
    "run",
    [
        lambda board: make_model().validate(LOADER, callbacks=[board]),
        lambda board: make_model().fit(LOADER, LOADER, val_callbacks=[board]),
    ],
)
def test_a_validation_is_not_followed(tmp_path: Path, run: Callable[[TensorBoard], Any]) -> None:
    with pytest.raises(BuildError, match="tensorboard is used in a validation; list it"):
        run(TensorBoard(tmp_path))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgusError, match="tensorboard cannot write '.*file/run': .*choose another path"):
        fit(tmp_path / "file" / "run")


def test_it_can_be_used_again(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    for epochs in (1, 2):
        make_model().fit(LOADER, num_epochs=epochs, callbacks=[board])
    assert list(scalars(tmp_path, "loss/train")) == [5, 10]


def test_numbers_of_numpy_and_tensors_among_the_metrics_are_written(tmp_path: Path) -> None:
    @argus_core.on_epoch_complete
    def add(state: State) -> None:
        state.metrics["gap"] = np.float32(2.5)  # type: ignore[assignment]
        state.metrics["val_own_thing"] = torch.tensor(3.0)  # type: ignore[assignment]

    make_model().fit(LOADER, callbacks=[add, TensorBoard(tmp_path)])
    assert scalars(tmp_path, "gap") == {5: 2.5}
    assert scalars(tmp_path, "own_thing/val") == {5: 3.0}


def test_event_files_go_with_their_run(tmp_path: Path) -> None:
    def fail(state: State) -> None:
        raise ArgusError("planned")

    def files() -> list[str]:
        return sorted(path.name for path in (tmp_path / "run" / "tensorboard").iterdir())

    changes = ['callbacks=["tensorboard"]', "num_epochs=1", f"run_dir={tmp_path / 'run'}"]
    config = read_config(small_config(tmp_path), changes)
    train(config)
    first = files()
    with pytest.raises(ArgusError, match="planned"):
        train(config, overwrite=True, callbacks=[argus_core.on_event("iteration_start")(fail)])
    assert files() == first
    (tmp_path / "run" / "tensorboard" / "notes.md").touch()
    train(config, overwrite=True)
    assert len(files()) == 2
    assert first[0] not in files()


def test_the_curves_of_validation_sets_are_grouped_by_metric(tmp_path: Path) -> None:
    board = ("tensorboard", {"log_dir": str(tmp_path), "samples": "1ep"})
    sets = {"clean": LOADER[:2], "noisy": LOADER[2:]}
    values = make_model().fit(LOADER, sets, metrics=["accuracy"], callbacks=[board], seed=0)
    for name in sets:
        for metric in ("loss", "accuracy"):
            (value,) = scalars(tmp_path, f"{metric}/val_{name}").values()
            assert value == pytest.approx(values[f"val_{name}_{metric}"])


def test_a_dry_run_writes_its_events_elsewhere(tmp_path: Path) -> None:
    for board in (("tensorboard", {"log_dir": str(tmp_path / "a")}), TensorBoard(tmp_path / "a")):
        make_model().fit(LOADER, LOADER[:2], callbacks=[board], dry_run=True)
    assert [*tmp_path.iterdir()] == []


def test_values_of_the_middle_of_an_epoch_are_written_once(tmp_path: Path) -> None:
    make_model().fit(
        LOADER, LOADER[:2], 1, callbacks=[TensorBoard(tmp_path)], validate_every="2up", log_every="1up"
    )
    assert list(scalars(tmp_path, "loss/val")) == [2, 4, 5]
    for tag in ("loss/running", "updates_per_second/running", "lr"):
        assert list(scalars(tmp_path, tag)) == [1, 2, 3, 4, 5]
    assert scalars(tmp_path, "loss/running")[5] == scalars(tmp_path, "loss/train")[5]
