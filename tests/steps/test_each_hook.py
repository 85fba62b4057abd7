"""For each hook a test that a plugin's implementation is called when it should be, with what it is promised.

`test_every_hook_has_a_test` holds this file to the hooks that there are; tests/test_docs.py does so with the
documentation. What strategies do together is tested in `test_slots.py` and `test_composition.py`.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from networks import batches
from strategies import CUT, build, given, same_weights, weights
from torch import Tensor, nn

import argus_core
from argus_core import Model, State, hookimpl, on_event, on_iteration_complete
from argus_core.callbacks.hooks import RunHooks
from argus_core.steps.hooks import Closure, StepHooks
from argus_core.steps.update import Update

pytestmark = pytest.mark.usefixtures("strategies_registry")

DATA = batches((6, 6))
HOOKS = [name for hooks in (RunHooks, StepHooks) for name in vars(hooks) if not name.startswith("_")]


def test_every_hook_has_a_test() -> None:
    assert [name.removeprefix("test_hook_") for name in globals() if name.startswith("test_hook_")] == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_the_test_of_a_hook_implements_it_with_all_its_arguments(hook: str) -> None:
    found = list(ast.walk(ast.parse(inspect.getsource(globals()[f"test_hook_{hook}"]))))
    if hook in vars(RunHooks):
        calls = [ast.unparse(node) for node in found if isinstance(node, ast.Call)]
        assert any(call.startswith(f"heard('{hook}', ") for call in calls)
    else:
        (method,) = [node for node in found if isinstance(node, ast.FunctionDef) and node.name == hook]
        expected = list(inspect.signature(getattr(StepHooks, hook)).parameters)
        assert [argument.arg for argument in method.args.args] == expected


# Events of a run: a callback sees the state.


class Heard(list[Any]):
    """What a callback of one event sees in each state that it gets."""

    callback: Any


def heard(event: str, look: Callable[[State], Any]) -> Heard:
    """Return what will be seen at an event, by its ``callback``."""
    seen = Heard()
    seen.callback = on_event(event)(lambda state: seen.append(look(state)))
    return seen


def fit(seen: Heard, *others: Any, steps: Any = (), **options: Any) -> Heard:
    """Train for two epochs of two updates and return what was seen."""
    model = build(*steps)
    model.fit(DATA, callbacks=[*others, seen.callback], **{"num_epochs": 2, **options})
    return seen


def raise_in_the_second_update(raising: Callable[[], Any]) -> Any:
    def at(state: State) -> None:
        if state.global_step == 2:
            raising()

    return on_iteration_complete(at)


def test_hook_start() -> None:
    seen = heard(
        "start", lambda state: (state.global_step, state.engine.num_epochs, state.engine.num_batches)
    )
    assert fit(seen) == [(0, 2, 2)]


def test_hook_complete() -> None:
    seen = heard("complete", lambda state: (state.epoch, state.global_step, "train_loss" in state.metrics))
    assert fit(seen) == [(1, 4, True)]


def test_hook_epoch_start() -> None:
    seen = heard("epoch_start", lambda state: (state.epoch, state.global_step, state.phase))
    assert fit(seen) == [(0, 0, "train"), (1, 2, "train")]


def test_hook_epoch_complete() -> None:
    seen = heard("epoch_complete", lambda state: (state.epoch, sorted(state.metrics)))
    assert fit(seen, val_loader=DATA) == [(0, ["train_loss", "val_loss"]), (1, ["train_loss", "val_loss"])]


def test_hook_iteration_start() -> None:
    seen = heard("iteration_start", lambda state: (state.iteration, state.global_step, len(state.batch[1])))
    assert fit(seen, num_epochs=1) == [(0, 0, 6), (1, 1, 6)]


def test_hook_iteration_complete() -> None:
    seen = heard("iteration_complete", lambda state: (state.global_step, sorted(state.step_output)))
    keys = ["loss", "prediction", "target"]
    assert fit(seen, num_epochs=1) == [(1, keys), (2, keys)]


def test_hook_catch_exception() -> None:
    seen = heard("catch_exception", lambda state: (state.global_step, type(state.exception)))
    with pytest.raises(ZeroDivisionError):
        fit(seen, raise_in_the_second_update(lambda: 1 // 0))
    assert seen == [(2, ZeroDivisionError)]


@pytest.mark.usefixtures("usual_signals")
def test_hook_interrupted() -> None:
    seen = heard("interrupted", lambda state: state.global_step)
    with pytest.raises(KeyboardInterrupt):
        fit(seen, raise_in_the_second_update(lambda: signal.raise_signal(signal.SIGINT)))
    assert seen == [2]


def test_hook_update_skipped() -> None:
    seen = heard("update_skipped", lambda state: (state.iteration, state.global_step, state.updates_skipped))
    assert fit(seen, steps=[("veto", {"updates": [1]})], num_epochs=1) == [(1, 1, 1)]


def test_hook_validation_start() -> None:
    seen = heard("validation_start", lambda state: (state.phase, state.epoch, "val_loss" in state.metrics))
    assert fit(seen, val_loader=DATA, num_epochs=1) == [("train", 0, False)]


def test_hook_validation_iteration_complete() -> None:
    seen = heard(
        "validation_iteration_complete",
        lambda state: (state.phase, state.epoch, state.phase_states["val"].iteration),
    )
    assert fit(seen, val_loader=DATA[:2], num_epochs=2) == [
        ("train", 0, 0), ("train", 0, 1), ("train", 1, 0), ("train", 1, 1)
    ]  # fmt: skip


def test_hook_validation_complete() -> None:
    seen = heard("validation_complete", lambda state: (state.phase, state.epoch, "val_loss" in state.metrics))
    assert fit(seen, val_loader=DATA, num_epochs=1) == [("train", 0, True)]


def test_hook_measured_midway() -> None:
    seen = heard("measured_midway", lambda state: (state.midway.phase, state.midway.global_step))
    assert fit(seen, val_loader=DATA, num_epochs=1, log_every="1up", validate_every="1up") == [
        ("train", 1), ("val", 1), ("train", 2)
    ]  # fmt: skip


def test_hook_checkpoint_saved(tmp_path: Path) -> None:
    seen = heard("checkpoint_saved", lambda state: (state.checkpoint_path.is_file(), state.epoch))
    assert fit(seen, ("checkpoint", {"dir_path": tmp_path})) == [(True, 0), (True, 1)]


def test_hook_resumed(tmp_path: Path) -> None:
    keep = ("checkpoint", {"dir_path": tmp_path, "optimizer_state": True})
    seen = heard("resumed", lambda state: state.global_step)
    assert fit(seen, keep) == []
    assert fit(seen, keep, num_epochs=3, resume=tmp_path) == [4]


# Slots of the update: a strategy gets what its slot promises.


def train_with(strategy: Any, *steps: Any) -> Model:
    """Make one update under a strategy and return the model."""
    model = build(given(strategy), *steps)
    model.fit(DATA[:1])
    return model


def test_hook_set_up() -> None:
    class SetUp:
        @hookimpl
        def set_up(self, model: Model) -> None:
            self.device = model.device
            self.parameters = list(model.nn_module.parameters())

    strategy = SetUp()
    model = train_with(strategy)
    assert strategy.device == torch.device("cpu")
    assert [*map(id, strategy.parameters)] == [*map(id, model.nn_module.parameters())]


def test_hook_window_size() -> None:
    class Pairs:
        @hookimpl
        def window_size(self) -> int:
            return 2

    model = build(given(Pairs()))
    seen = heard("iteration_complete", lambda state: len(state.batch))
    model.fit([*DATA, DATA[0]], callbacks=[seen.callback])
    assert seen == [2, 1]


def test_hook_prepare_batch() -> None:
    class Prepared:
        @hookimpl
        def prepare_batch(self, batch: Any, device: torch.device) -> Any:
            self.given = batch, device
            return torch.zeros_like(batch[0]), batch[1]

    strategy = Prepared()
    prediction = build(given(strategy)).train_step(DATA[0])["prediction"]
    assert len(prediction.unique(dim=0)) == 1
    (input, target), device = strategy.given
    assert torch.equal(input, DATA[0][0])
    assert torch.equal(target, DATA[0][1])
    assert device == torch.device("cpu")


def test_hook_split_window() -> None:
    class Halves:
        @hookimpl
        def split_window(self, window: Sequence[Any]) -> Sequence[Any]:
            self.sizes = [len(target) for _, target in window]
            return [half for batch in window for half in argus_core.deep_chunk(batch, 2)]

    strategy = Halves()
    model, plain = build(given(strategy), *CUT[:1]), build(*CUT[:1])
    for each in (model, plain):
        each.fit(DATA)
    assert strategy.sizes == [6, 6]
    assert same_weights(model, plain, 1e-6)


def test_hook_micro_batch_weight() -> None:
    class FirstOnly:
        sizes: ClassVar[list[int]] = []

        @hookimpl
        def micro_batch_weight(self, micro_batch: Any) -> float | torch.Tensor:
            self.sizes.append(len(micro_batch[1]))
            return 1.0 if len(self.sizes) == 1 else 0.0

    model = train_with(FirstOnly(), ("microbatch", {"chunks": 2}))
    alone = build()
    alone.train_step(tuple(part[:3] for part in DATA[0]))
    assert FirstOnly.sizes == [3, 3]
    assert torch.allclose(weights(model), weights(alone), atol=1e-6)


def test_hook_sync_context() -> None:
    class Sync:
        last: ClassVar[list[bool]] = []

        @hookimpl
        def sync_context(self, last: bool) -> AbstractContextManager[Any]:
            self.last.append(last)
            return contextlib.nullcontext()

    train_with(Sync(), ("microbatch", {"chunks": 3}))
    assert Sync.last == [False, False, True]


def test_hook_forward_context() -> None:
    class Forward:
        entered = 0

        @hookimpl
        def forward_context(self) -> AbstractContextManager[Any]:
            self.entered += 1
            return contextlib.nullcontext()

    strategy = Forward()
    model = train_with(strategy, ("microbatch", {"chunks": 3}))
    assert strategy.entered == 3
    model.val_step(DATA[0])
    model.predict(DATA[0][0])
    assert strategy.entered == 5


def test_hook_evaluation_context() -> None:
    class Evaluation:
        events: ClassVar[list[str]] = []

        @hookimpl
        def evaluation_context(self) -> AbstractContextManager[Any]:
            return self.held()

        @contextlib.contextmanager
        def held(self) -> Iterator[None]:
            self.events.append("begin")
            yield
            self.events.append("end")

    model = train_with(Evaluation())
    assert Evaluation.events == []
    model.validate(DATA)
    assert Evaluation.events == ["begin", "end"]


def test_hook_finish_prediction() -> None:
    class Finish:
        @hookimpl
        def finish_prediction(self, prediction: Any) -> Any:
            return {"logits": prediction}

    model = train_with(Finish(), ("microbatch", {"chunks": 3}))
    for prediction in (
        model.predict(DATA[0][0]),
        model.val_step(DATA[0])["prediction"],
        model.train_step(DATA[0])["prediction"],
    ):
        assert prediction["logits"].shape == (len(DATA[0][0]), 3)


def test_hook_scale_loss() -> None:
    class Doubled:
        @hookimpl
        def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
            self.loss = loss
            return 2 * loss

    strategy = Doubled()
    model = build(given(strategy))
    reported = model.train_step(DATA[0])["loss"]
    plain = build()
    plain.train_step(DATA[0])
    assert strategy.loss.item() == pytest.approx(reported)
    assert torch.allclose(gradients(model), 2 * gradients(plain))


def gradients(model: Model) -> Tensor:
    """Return all gradients in one vector."""
    given = [parameter.grad for parameter in model.nn_module.parameters()]
    return torch.cat([each.flatten() for each in given if each is not None])


def test_hook_backward() -> None:
    class Negative:
        @hookimpl
        def backward(self, loss: torch.Tensor) -> None:
            (-loss).backward()  # type: ignore[no-untyped-call]

    plain = build()
    plain.train_step(DATA[0])
    assert torch.allclose(gradients(train_with(Negative())), -gradients(plain))


def test_hook_out_of_memory() -> None:
    class Hungry(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            if len(input) > 3:
                raise torch.OutOfMemoryError("four samples are too many")
            return super().forward(input)

    class Smaller:
        chunks = 1

        @hookimpl
        def split_window(self, window: Sequence[Any]) -> Sequence[Any]:
            return [part for batch in window for part in argus_core.deep_chunk(batch, self.chunks)]

        @hookimpl
        def out_of_memory(self) -> bool:
            self.chunks *= 2
            return self.chunks < 4

    argus_core.register("nn_module", "hungry", Hungry)
    network = ("hungry", {"in_features": 4, "out_features": 3})
    strategy = Smaller()
    output = build(given(strategy), nn_module=network).train_step(DATA[0])
    assert (len(output["prediction"]), strategy.chunks) == (6, 2)
    with pytest.raises(torch.OutOfMemoryError):
        build(given(Smaller()), nn_module=network).train_step(batches((60,))[0])


def test_hook_unscale() -> None:
    class Halved:
        calls = 0

        @hookimpl
        def unscale(self, optimizer: torch.optim.Optimizer) -> None:
            self.calls += 1
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad /= 2

    plain, strategy = build(), Halved()
    plain.train_step(DATA[0])
    model = train_with(strategy, ("microbatch", {"chunks": 3}))
    assert torch.allclose(gradients(model), gradients(plain) / 2, atol=1e-7)
    assert strategy.calls == 1


def test_hook_transform_gradients() -> None:
    class Zero:
        @hookimpl
        def transform_gradients(self, parameters: tuple[nn.Parameter, ...]) -> None:
            self.parameters = parameters
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad.zero_()

    strategy = Zero()
    model = train_with(strategy)
    assert [*map(id, strategy.parameters)] == [*map(id, model.nn_module.parameters())]
    assert torch.equal(weights(model), weights(build()))


def test_hook_allow_update() -> None:
    class Never:
        @hookimpl
        def allow_update(
            self, loss: torch.Tensor, parameters: tuple[nn.Parameter, ...]
        ) -> bool | torch.Tensor:
            self.loss, self.count = loss.item(), len(parameters)
            return torch.tensor(False)

    strategy = Never()
    model = build(given(strategy))
    output = model.train_step(DATA[0])
    assert output.stepped is False
    assert (strategy.loss, strategy.count) == (pytest.approx(output["loss"]), 4)
    assert torch.equal(weights(model), weights(build()))


def test_hook_run_procedure() -> None:
    class Twice:
        @hookimpl
        def run_procedure(self, update: Update) -> bool:
            losses = [float(update.gradients()) for _ in range(2)]
            self.losses, self.micro_batches = losses, len(update.micro_batches)
            return update.apply()

    strategy, plain = Twice(), build()
    plain.train_step(DATA[0])
    model = train_with(strategy)
    assert strategy.losses[0] == strategy.losses[1]
    assert strategy.micro_batches == 1
    assert torch.equal(weights(model), weights(plain))


def test_hook_apply_update() -> None:
    class Rehearsal:
        @hookimpl
        def apply_update(self, optimizer: torch.optim.Optimizer, closure: Closure | None) -> bool:
            self.given = optimizer, closure
            return False

    strategy = Rehearsal()
    model = build(given(strategy))
    assert model.train_step(DATA[0]).stepped is False
    assert strategy.given == (model.optimizer, None)


def test_hook_after_update() -> None:
    class Followed:
        @hookimpl
        def after_update(self, model: Model, stepped: bool) -> None:
            self.given.append((model, stepped))

        def __init__(self) -> None:
            self.given: list[Any] = []

    strategy = Followed()
    model = build(given(strategy), ("veto", {"updates": [1]}))
    model.fit(DATA)
    assert strategy.given == [(model, True), (model, False)]


class Counted:
    """Counts updates."""

    def __init__(self) -> None:
        self.updates = 0

    @hookimpl
    def after_update(self, stepped: bool) -> None:
        self.updates += stepped


def test_hook_state_dict(tmp_path: Path) -> None:
    class Kept(Counted):
        @hookimpl
        def state_dict(self) -> dict[str, Any]:
            return {"updates": self.updates, "half": torch.full((1,), 0.5)}

        @hookimpl
        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.loaded = state

    strategy = Kept()
    train_with(strategy).save(tmp_path / "model.safetensors", optimizer_state=True)
    argus_core.load_model(tmp_path / "model.safetensors")
    assert strategy.loaded["updates"] == 1
    assert torch.equal(strategy.loaded["half"], torch.full((1,), 0.5))


def test_hook_load_state_dict(tmp_path: Path) -> None:
    class Restored(Counted):
        events: ClassVar[list[Any]] = []

        @hookimpl
        def state_dict(self) -> dict[str, Any]:
            return {"updates": self.updates}

        @hookimpl
        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.events.append(state)

        @hookimpl
        def set_up(self, model: Model) -> None:
            self.events.append("set up")

    train_with(Restored()).save(tmp_path / "model.safetensors", optimizer_state=True)
    Restored.events.clear()
    argus_core.load_model(tmp_path / "model.safetensors").train_step(DATA[0])
    assert Restored.events == [{"updates": 1}, "set up"]
