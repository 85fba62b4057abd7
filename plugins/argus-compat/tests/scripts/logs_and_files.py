"""Logs, CSV files, checkpoints, function callbacks, metrics of several values, and a run that fails."""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path

import torch
from blobs import Dense, loaders, names, rounded, seeded

import argus
from argus.callbacks import (
    Checkpoint,
    LoggingToCSV,
    LoggingToFile,
    MonitorCheckpoint,
    on_catch_exception,
    on_complete,
    on_epoch_complete,
    on_epoch_start,
    on_iteration_complete,
    on_iteration_start,
    on_start,
)
from argus.metrics import CategoricalAccuracy, Metric


class LoggedModel(argus.Model):
    nn_module = Dense
    optimizer = torch.optim.SGD
    loss = torch.nn.CrossEntropyLoss
    prediction_transform = torch.nn.Softmax


class PerClass(Metric):
    """Puts a value for each class among the metrics, by a handler of its own."""

    name = "per_class"
    better = "max"

    def reset(self):
        self.right = torch.zeros(3)
        self.count = torch.zeros(3)

    def update(self, step_output):
        target = step_output["target"]
        self.count += target.bincount(minlength=3)
        self.right += target[step_output["prediction"].argmax(1) == target].bincount(minlength=3)

    def compute(self):
        return (self.right / self.count).tolist()

    def epoch_complete(self, state):
        values = self.compute()
        for index, value in enumerate(values):
            state.metrics[f"{state.phase}_class_{index}"] = value
        state.metrics[f"{state.phase}_{self.name}"] = sum(values) / 3
        state.metrics["images"] = self.count.sum().item()


def make() -> LoggedModel:
    seeded(9)
    return LoggedModel({"optimizer": {"lr": 0.05}, "prediction_transform": {"dim": 1}})


def lines(path: Path) -> list[str]:
    """Return the lines of a log without those of files, which say it in other words."""
    return [line for line in path.read_text().splitlines() if not re.search(r"saved|removed", line)]


def files_told(path: Path) -> int:
    """Return how many lines of a log tell of a file that was saved."""
    return sum("saved" in line for line in path.read_text().splitlines())


def rates(path: Path) -> list[list]:
    """Return the rates of each row as they are written, and how many characters they have."""
    with path.open(newline="") as file:
        return [[row["lr"], len(row["lr"])] for row in csv.DictReader(file)]


def main(folder: Path) -> dict:
    train_loader, val_loader = loaders()
    order = []
    marks = [
        decorator(lambda state, name=decorator.__name__: order.append([name, state.epoch, state.iteration]))
        for decorator in (on_start, on_epoch_start, on_epoch_complete, on_complete)
    ]
    callbacks = [
        LoggingToFile(folder / "log.txt", formatter="%(levelname)s %(message)s"),
        LoggingToCSV(folder / "log.csv"),
        LoggingToCSV(folder / "bare.csv", separator=";", write_header=False),
        Checkpoint(folder / "all", file_format="{epoch}-{val_per_class:.4f}.pth", period=2),
        Checkpoint(folder / "last", max_saves=1),
        MonitorCheckpoint(folder / "best", monitor="val_per_class", max_saves=2, optimizer_state=True),
        *marks,
    ]
    model = make()
    metrics = model.fit(
        train_loader,
        val_loader,
        num_epochs=4,
        metrics=[PerClass(), CategoricalAccuracy()],
        callbacks=callbacks,
    )
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    failing, failed = make(), []

    @on_iteration_start
    def break_down(state):
        if state.epoch == 1:
            raise ValueError("out of paper")

    @on_iteration_complete
    def talk(state):
        state.logger.info("step %d", state.iteration)

    @on_catch_exception
    def note(state):
        failed.append([type(state.exception).__name__, state.epoch, state.iteration])

    caught = None
    log = LoggingToFile(folder / "failing.txt", formatter="%(message)s")
    try:
        failing.fit(
            train_loader,
            num_epochs=3,
            callbacks=[
                log,
                Checkpoint(folder / "failing", save_after_exception=True),
                talk,
                break_down,
                note,
            ],
        )
    except ValueError as error:
        caught = str(error)
    log.append = True
    failing.set_lr(1 / 30)
    failing.fit(train_loader, num_epochs=1, callbacks=[log, LoggingToCSV(folder / "one_rate.csv")])
    failing.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 2 / 3})
    failing.fit(train_loader, num_epochs=1, callbacks=[log, LoggingToCSV(folder / "two_rates.csv")])
    saved = torch.load(folder / "best" / names(folder / "best")[-1], weights_only=True)
    by_hand = logging.FileHandler(folder / "by_hand.txt")
    model.logger.addHandler(by_hand)
    model.save(folder / "by_hand.pth", optimizer_state=True)
    by_hand.close()
    return {
        "metrics": rounded(metrics),
        "log": lines(folder / "log.txt"),
        "columns": list(rows[0]),
        "csv": [
            [row["epoch"], row["lr"], *[round(float(v), 6) for v in list(row.values())[3:]]] for row in rows
        ],
        "rates": [rates(folder / "one_rate.csv"), rates(folder / "two_rates.csv")],
        "bare": [len(line.split(";")) for line in lines(folder / "bare.csv")],
        "files": [names(folder / each) for each in ("all", "last", "best", "failing")],
        "files told": [files_told(folder / f"{log}.txt") for log in ("log", "failing", "by_hand")],
        "order": order,
        "caught": caught,
        "failed": failed,
        "failing log": [line for line in lines(folder / "failing.txt") if line.startswith(("step", "train"))],
        "saved": [sorted(saved), saved["model_name"], repr(saved["params"])],
        "logger": [
            isinstance(model.logger, logging.Logger),
            model.logger.level,
            model.logger is failing.logger,
        ],
    }
