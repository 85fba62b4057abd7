"""The engine by itself: phases, events in order, handlers with arguments, states of all phases."""

from __future__ import annotations

from pathlib import Path

import torch
from blobs import Dense, loaders, rounded, seeded

import argus
from argus.callbacks import Callback, attach_callbacks
from argus.engine import Engine, Events, State
from argus.metrics import attach_metrics
from argus.utils import AverageMeter, deep_chunk, deep_to


class EngineModel(argus.Model):
    nn_module = Dense
    optimizer = torch.optim.SGD
    loss = torch.nn.CrossEntropyLoss

    def train_step(self, batch, state):
        step_output = super().train_step(batch, state)
        step_output["samples"] = len(step_output["target"])
        return step_output

    def flipped_step(self, batch, state):
        images, targets = batch
        return self.val_step((images.flip(-1), targets), state)


class Trace(Callback):
    def __init__(self, trace: list) -> None:
        self.trace = trace


def _traced(name):
    def handler(self, state):
        output = state.step_output
        self.trace.append(
            [
                name,
                state.phase,
                state.epoch,
                state.iteration,
                sorted(state.metrics),
                state.batch is None,
                None if output is None else sorted(output),
                sorted(state.phase_states),
                state.stopped,
            ]
        )

    return handler


for _event in Events:
    setattr(Trace, _event.value, _traced(_event.value))


def main(folder: Path) -> dict:
    seeded(11)
    model = EngineModel({"optimizer": {"lr": 0.1}})
    train_loader, val_loader = loaders(shuffle=False)
    trace, notes = [], []
    model.fit(
        train_loader,
        val_loader,
        num_epochs=2,
        metrics=["accuracy"],
        callbacks=[Trace(trace)],
        val_callbacks=[Trace(trace)],
    )
    engine = Engine(model.flipped_step, note="mine")
    engine.add_event_handler(
        Events.ITERATION_COMPLETE, lambda state, out, by: notes.append(state.iteration * by), None, by=2
    )
    attach_metrics(engine, ["accuracy"])
    attach_callbacks(engine, None)
    state = engine.run(val_loader, 5, 7)
    free = State(model.val_step)
    free.update(epoch=4, colour="red")
    meter = AverageMeter()
    for value, count in ((3.0, 1), (5.0, 2), (1.0, 1)):
        meter.update(value, count)
    chunks = deep_chunk([torch.arange(5), {"names": ["a", "b"], "other": torch.ones(5)}, 3], 2)
    moved = deep_to({"x": [torch.ones(2)], "name": "n"}, torch.float64)
    outputs = model.train_step(next(iter(train_loader)), None)
    return {
        "trace": trace,
        "notes": notes,
        "phase": [state.phase, engine.state.note, state.epoch, state.iteration, state.stopped],
        "metrics": rounded(state.metrics),
        "validate": rounded(model.validate(val_loader, metrics=["accuracy"])),
        "free": [free.phase, free.epoch, free.colour, free.metrics, free.stopped],
        "meter": [meter.average, meter.count],
        "chunks": [
            [each[0].tolist(), each[1]["names"], each[1]["other"].tolist(), each[2]] for each in chunks
        ],
        "moved": [str(moved["x"][0].dtype), moved["name"]],
        "output": [sorted(outputs), type(outputs).__name__, outputs["prediction"].requires_grad],
    }
