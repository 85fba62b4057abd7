"""The mode of each submodule, training or evaluation, stays what its network or its user made it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches
from strategies import build, register_all
from torch import Tensor, nn

import argus_core
from argus_core import Model, State, load_model, on_epoch_start, on_iteration_complete
from argus_core.errors import UnsafeCheckpointError
from argus_core.storage import CheckpointFile, write


class Frozen(nn.Module):
    """Its backbone is frozen, running statistics too."""

    def __init__(self, asleep: bool = True) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        if asleep:
            self.backbone.requires_grad_(False).eval()

    def forward(self, input: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(input))
        return logits


class Deciding(Frozen):
    """Keeps the backbone asleep by a ``train`` of its own, as long as it is told to."""

    def __init__(self) -> None:
        super().__init__(asleep=False)
        self.frozen = True

    def train(self, mode: bool = True) -> Deciding:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


class Perceptual(nn.Module):
    """A loss with a part in evaluation mode, and itself in it if so chosen."""

    def __init__(self, whole: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False).eval()
        self.train(not whole)
        self.features.eval()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = nn.functional.cross_entropy(self.features(logits), target)
        return loss


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        register_all()
        argus_core.register("nn_module", "frozen")(Frozen)
        argus_core.register("nn_module", "deciding")(Deciding)
        argus_core.register("loss", "perceptual")(Perceptual)
        yield


def make(*steps: Any, nn_module: Any = "frozen", **params: Any) -> Model:
    return build(*steps, nn_module=nn_module, **params)


def seen(layer: nn.Module) -> int:
    """Return how many batches a normalisation layer has taken into its statistics."""
    return int(layer.num_batches_tracked)  # type: ignore[arg-type]


def asleep(module: nn.Module) -> list[str]:
    return [name for name, each in module.named_modules() if not each.training]


ASLEEP = ["backbone", "backbone.0", "backbone.1", "backbone.2"]


@pytest.mark.parametrize("nn_module", ["frozen", "deciding"])
@pytest.mark.parametrize("val", [None, batches()], ids=["alone", "validated"])
@pytest.mark.parametrize("steps", [[], ["ema"], ["sam"], [("accumulate", {"steps": 2})]], ids=str)
def test_a_part_in_evaluation_mode_stays_there_through_training_and_validation(
    nn_module: str, val: Any, steps: list[Any]
) -> None:
    model = make(*steps, nn_module=nn_module)
    model.fit(batches(), val, num_epochs=3)
    assert seen(model.nn_module.backbone[1]) == 0
    assert seen(model.nn_module.head[1]) == 9
    assert asleep(model.nn_module) == ASLEEP


@pytest.mark.parametrize(
    "between", ["validate", "predict", "val_step", "eval", "evaluation", "save", "set_device"]
)
def test_nothing_between_updates_wakes_it(tmp_path: Path, between: str) -> None:
    model, batch = make(), batches()[0]
    arguments = {
        "validate": (batches(),),
        "predict": (batch[0],),
        "val_step": (batch,),
        "save": (tmp_path / "a.safetensors",),
        "set_device": ("cpu",),
    }
    for _ in range(2):
        model.train_step(batch)
        result = getattr(model, between)(*arguments.get(between, ()))
        if between == "evaluation":
            with result:
                model.predict(batch[0])
    model.train_step(batch)
    assert asleep(model.nn_module) == ASLEEP
    assert seen(model.nn_module.backbone[1]) == 0


def test_a_validation_leaves_the_mode_that_it_found() -> None:
    model = make()
    model.validate(batches())
    assert model.nn_module.training
    model.eval()
    model.validate(batches())
    assert not model.nn_module.training


def test_a_failed_validation_leaves_the_mode_that_it_found() -> None:
    @on_iteration_complete
    def fail(state: State) -> None:
        raise KeyError("stop")

    model = make()
    with pytest.raises(KeyError, match="stop"):
        model.fit(batches(), batches(), val_callbacks=[fail])
    assert asleep(model.nn_module) == ASLEEP


def test_in_evaluation_mode_every_part_is() -> None:
    model = make()
    model.eval()
    assert asleep(model.nn_module) == [name for name, _ in model.nn_module.named_modules()]
    model.train()
    assert asleep(model.nn_module) == ASLEEP


def test_a_part_that_a_callback_puts_in_evaluation_mode_stays_there() -> None:
    @on_epoch_start
    def freeze(state: State) -> None:
        if state.epoch == 1:
            state.model.nn_module.head[1].eval()

    model = make()
    model.fit(batches(), batches(), num_epochs=4, callbacks=[freeze])
    assert seen(model.nn_module.head[1]) == 3
    assert asleep(model.nn_module) == [*ASLEEP, "head.1"]


def test_a_part_that_a_callback_wakes_up_trains_from_there() -> None:
    @on_epoch_start
    def wake(state: State) -> None:
        if state.epoch == 2:
            state.model.nn_module.backbone.train()

    model = make()
    model.fit(batches(), batches(), num_epochs=4, callbacks=[wake])
    assert seen(model.nn_module.backbone[1]) == 6
    assert asleep(model.nn_module) == []


def test_a_train_method_of_the_network_decides_each_time_anew() -> None:
    @on_epoch_start
    def thaw(state: State) -> None:
        state.model.nn_module.frozen = state.epoch < 2
        state.model.train()

    model = make(nn_module="deciding")
    model.fit(batches(), batches(), num_epochs=4, callbacks=[thaw])
    assert seen(model.nn_module.backbone[1]) == 6


def test_a_train_method_that_thaws_in_mid_epoch_holds_after_the_next_validation() -> None:
    @on_epoch_start
    def thaw(state: State) -> None:
        state.model.nn_module.frozen = state.epoch < 1

    model = make(nn_module="deciding")
    model.fit(batches(), batches(), num_epochs=3, callbacks=[thaw])
    assert seen(model.nn_module.backbone[1]) == 3


def test_a_train_method_holds_in_the_very_first_update() -> None:
    model = make(nn_module="deciding")
    model.train_step(batches()[0])
    assert seen(model.nn_module.backbone[1]) == 0


def test_a_train_method_of_an_inner_module_or_of_an_instance_holds_too() -> None:
    def patched() -> nn.Module:
        network = Frozen(asleep=False)
        network.backbone.train = lambda mode=True: nn.Module.train(network.backbone, False)  # type: ignore
        return network

    argus_core.register("nn_module", "wrapped")(lambda: nn.Sequential(Deciding()))
    argus_core.register("nn_module", "patched")(patched)
    for name, path in (("wrapped", "0.backbone.1"), ("patched", "backbone.1")):
        model = make(nn_module=name)
        model.fit(batches(), batches(), num_epochs=2)
        assert seen(model.nn_module.get_submodule(path)) == 0


def test_a_part_put_to_sleep_by_hand_stays_so_beside_a_train_method() -> None:
    model = make(nn_module="deciding")
    model.nn_module.head[1].eval()
    model.fit(batches(), batches(), num_epochs=2)
    assert seen(model.nn_module.head[1]) == 0


def test_a_network_that_is_in_evaluation_mode_as_a_whole_trains_as_a_whole() -> None:
    argus_core.register("nn_module", "pretrained")(lambda: Frozen(asleep=False).eval())
    model = make(nn_module="pretrained")
    model.fit(batches(), batches(), num_epochs=2)
    assert asleep(model.nn_module) == []
    assert seen(model.nn_module.backbone[1]) == 6


@pytest.mark.parametrize("whole", [False, True])
def test_parts_of_the_loss_keep_their_mode_too(whole: bool) -> None:
    model = make(loss=("perceptual", {"whole": whole}))
    start = asleep(model.loss)
    model.fit(batches(), batches(), num_epochs=2)
    assert asleep(model.loss) == start
    assert ("" in start) is whole
    assert seen(model.loss.features[1]) == 0


def test_a_module_that_is_added_later_trains() -> None:
    model = make()
    model.validate(batches())
    model.eval()
    model.nn_module.head.append(nn.BatchNorm1d(3))
    model.set_part("optimizer")
    model.fit(batches(), batches(), num_epochs=2)
    assert seen(model.nn_module.head[2]) == 6
    assert asleep(model.nn_module) == ASLEEP


def test_a_copy_keeps_the_modes_and_leaves_the_original_alone() -> None:
    model = make()
    model.eval()
    copied = copy.deepcopy(model)
    copied.fit(batches())
    assert asleep(copied.nn_module) == ASLEEP
    assert not model.nn_module.training


def test_several_devices_change_no_mode() -> None:
    model = make()
    model.eval()
    model.move_to([torch.device("cpu"), torch.device("cpu")])
    assert not model.nn_module.training
    model.train_step(batches()[0])
    assert asleep(model.get_nn_module()) == ASLEEP


def test_a_loaded_model_is_in_evaluation_mode_and_trains_as_the_saved_one(tmp_path: Path) -> None:
    model = make(loss="perceptual")
    model.nn_module.head[1].eval()
    model.nn_module.backbone[2].train()
    model.loss.features[0].train()
    model.save(tmp_path / "a.safetensors", optimizer_state=True)
    loaded = load_model(tmp_path / "a.safetensors")
    assert asleep(loaded.nn_module) == [name for name, _ in model.nn_module.named_modules()]
    loaded.fit(batches(), batches())
    assert asleep(loaded.nn_module) == [*ASLEEP[:3], "head.1"]
    assert asleep(loaded.loss) == asleep(model.loss)


def test_modes_are_saved_as_they_are_in_training_from_evaluation_mode_too(tmp_path: Path) -> None:
    model = make()
    model.nn_module.head[1].eval()
    model.predict(batches()[0][0])
    model.save(tmp_path / "a.safetensors")
    model.train()
    assert load_model(tmp_path / "a.safetensors").module_modes() == model.module_modes()
    assert model.module_modes() == {"nn_module": ["backbone", "head.1"], "loss": []}


def test_a_file_without_modes_leaves_them_to_the_network(tmp_path: Path) -> None:
    make().save(tmp_path / "a.safetensors", write=without_modes)
    loaded = load_model(tmp_path / "a.safetensors")
    loaded.train()
    assert asleep(loaded.nn_module) == ASLEEP


def without_modes(path: Path, tensors: Any, manifest: dict[str, Any]) -> None:
    del manifest["modes"]
    write(path, tensors, manifest)


@pytest.mark.parametrize("modes", [3, {"nn_module": "backbone"}, {"nn_module": [1]}], ids=str)
def test_modes_of_another_form_are_refused(tmp_path: Path, modes: Any) -> None:
    def forge(path: Path, tensors: Any, manifest: dict[str, Any]) -> None:
        write(path, tensors, manifest | {"modes": modes})

    make().save(tmp_path / "a.safetensors", write=forge)
    with pytest.raises(UnsafeCheckpointError, match="'modes' is not as argus_core writes it"):
        load_model(tmp_path / "a.safetensors")


def test_a_resumed_run_keeps_what_was_put_to_sleep_by_hand(tmp_path: Path) -> None:
    @on_epoch_start
    def freeze(state: State) -> None:
        if state.epoch == 1:
            state.model.nn_module.head[1].eval()
            state.model.nn_module.backbone[2].train()

    keep = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    whole, first, second = make(), make(), make()
    expected = whole.fit(batches(), batches(), num_epochs=4, callbacks=[freeze], seed=0)
    first.fit(batches(), batches(), num_epochs=2, callbacks=[freeze, keep], seed=0)
    resumed = second.fit(batches(), batches(), num_epochs=4, callbacks=[freeze, keep], resume=tmp_path)
    assert resumed == expected
    assert asleep(second.nn_module) == asleep(whole.nn_module) == [*ASLEEP[:3], "head.1"]


def test_the_usual_network_adds_next_to_nothing_to_a_file(tmp_path: Path) -> None:
    build().save(tmp_path / "a.safetensors")
    with CheckpointFile(tmp_path / "a.safetensors") as file:
        assert file.header.manifest["modes"] == {"nn_module": [], "loss": []}
