"""State that a model's class keeps beside its parts: saved and loaded with the optimizer's state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Net, batches
from rewritten import rewrite

from argus_core import Model, ParamsError, StateMismatchError, UnsafeCheckpointError, load_model, register
from argus_core.storage import CheckpointFile

pytestmark = pytest.mark.usefixtures("net_registry")


class Counting(Model):
    """Counts its updates and remembers the last batch: ``total`` of it, (features,) float."""

    nn_module = Net
    loss = "CrossEntropyLoss"
    optimizer = "SGD"

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self.updates: dict[Any, Any] = {}
        self.total = torch.zeros(4)

    def forward_loss(self, batch: Any) -> tuple[Any, Any, torch.Tensor]:
        self.updates[0] = self.updates.get(0, 0) + 1
        self.total = batch[0].sum(0)
        return super().forward_loss(batch)

    def extra_state(self) -> dict[str, Any]:
        return {"updates": self.updates, "total": self.total, "shape": (4, None)}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self.updates, self.total = state["updates"], state["total"]
        self.shape = state["shape"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def model(net_registry: None) -> Counting:
    register("model", "counting", Counting)  # in the test's own registry
    torch.manual_seed(0)
    model = Counting({"optimizer": {"lr": 0.1}, "device": "cpu"})
    model.fit(batches())
    return model


def test_extra_state_comes_back_as_it_was(path: Path, model: Counting) -> None:
    model.save(path, optimizer_state=True)
    loaded = load_model(path)
    assert isinstance(loaded, Counting)
    assert loaded.updates == {0: 3}
    assert loaded.shape == (4, None)
    assert torch.equal(loaded.total, model.total)


def test_tensors_of_extra_state_stand_under_a_prefix_of_their_own(path: Path, model: Counting) -> None:
    model.save(path, optimizer_state=True)
    with CheckpointFile(path) as file:
        assert "extra_state/total" in file.header.entries


def test_extra_state_is_kept_only_with_the_optimizers(path: Path, model: Counting) -> None:
    model.save(path)
    loaded = load_model(path)
    assert isinstance(loaded, Counting)
    assert loaded.updates == {}


def test_extra_state_is_not_read_without_the_optimizer(path: Path, model: Counting) -> None:
    model.save(path, optimizer_state=True)
    rewrite(path, lambda manifest: manifest.update(extra_state="not even a state"))
    loaded = load_model(path, optimizer=None)
    assert isinstance(loaded, Counting)
    assert loaded.updates == {}


def test_extra_state_is_kept_when_the_optimizer_gets_other_parameters(path: Path, model: Counting) -> None:
    model.save(path, optimizer_state=True)
    loaded = load_model(path, optimizer={"lr": 0.5})
    assert isinstance(loaded, Counting)
    assert loaded.updates == {0: 3}


def test_a_plain_model_has_none_in_its_file(path: Path) -> None:
    params = {"nn_module": "net", "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.1})}
    Model({**params, "device": "cpu"}).save(path, optimizer_state=True)
    with CheckpointFile(path) as file:
        assert "extra_state" not in file.header.manifest


def test_a_class_that_takes_no_extra_state_refuses_it(path: Path, model: Counting) -> None:
    model.save(path, optimizer_state=True)
    with pytest.raises(
        StateMismatchError,
        match=r"^the file has extra state \(updates, total, shape\), and Model takes none; "
        r"override load_extra_state, or load with optimizer=None$",
    ):
        load_model(path, model_name="Model", nn_module="net", loss="CrossEntropyLoss", optimizer="SGD")


def test_extra_state_that_does_not_fit_is_named(path: Path, model: Counting) -> None:
    model.save(path, optimizer_state=True)
    rewrite(path, lambda manifest: manifest.update(extra_state={"updates": {}}))
    with pytest.raises(
        StateMismatchError,
        match=r"^the stored extra state does not fit Counting: KeyError: 'total'; build it with the "
        r"parameters it was saved with, or load with optimizer=None$",
    ):
        load_model(path)


def test_a_class_may_say_itself_what_does_not_fit(
    path: Path, model: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Counting, state: Mapping[str, Any]) -> None:
        raise StateMismatchError("one of ours")

    model.save(path, optimizer_state=True)
    monkeypatch.setattr(Counting, "load_extra_state", refuse)
    with pytest.raises(StateMismatchError, match=r"^one of ours$"):
        load_model(path)


@pytest.mark.parametrize("value", [5, None, [], {"$tuple": []}])
def test_extra_state_in_a_form_that_nobody_writes_is_refused(path: Path, model: Counting, value: Any) -> None:
    model.save(path, optimizer_state=True)
    rewrite(path, lambda manifest: manifest.update(extra_state=value))
    with pytest.raises(UnsafeCheckpointError, match=r"the manifest's 'extra_state' is not as argus_core"):
        load_model(path)


@pytest.mark.parametrize("returned", [None, 3, [("a", 1)]])
def test_extra_state_that_is_no_dict_is_refused_at_save(
    path: Path, model: Counting, monkeypatch: pytest.MonkeyPatch, returned: Any
) -> None:
    monkeypatch.setattr(Counting, "extra_state", lambda self: returned)
    with pytest.raises(
        ParamsError, match=r"^Counting.extra_state returned .*; return a dict of plain data and tensors$"
    ):
        model.save(path, optimizer_state=True)


def test_extra_state_that_is_not_plain_is_refused_at_save_with_its_place(path: Path, model: Counting) -> None:
    model.updates["rule"] = lambda: None
    with pytest.raises(ParamsError, match=r"extra_state\['updates'\]\['rule'\] is a function"):
        model.save(path, optimizer_state=True)
    assert not path.exists()


def test_extra_state_that_does_not_fit_is_named_when_a_run_goes_on(tmp_path: Path, model: Counting) -> None:
    checkpoint = ("checkpoint", {"dir_path": str(tmp_path), "optimizer_state": True})
    model.fit(batches(), callbacks=[checkpoint])
    rewrite(
        tmp_path / "model-000.safetensors",
        lambda manifest: manifest.update(extra_state={"updates": {}}),
    )
    with pytest.raises(StateMismatchError, match="does not fit Counting: KeyError: 'total'; build it with"):
        model.fit(batches(), num_epochs=2, resume=tmp_path)
