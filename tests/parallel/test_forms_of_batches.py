"""Batches that are no pairs of plain tensors train in two processes as in one; and so does a second fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from process_pool import Pool, in_processes
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import argus_core
from argus_core.errors import ParamsError

IGNORED = -100


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, input: Tensor) -> Tensor:
        scores: Tensor = self.layer(input)
        return scores


class Masked(Tensor):
    """A target of a class of its own."""


class Rows(Dataset[Any]):
    def __init__(self, form: str) -> None:
        generator = torch.Generator().manual_seed(1)
        self.form = form
        self.input = torch.randn(12, 4, generator=generator)
        self.target = torch.randint(0, 3, (12,), generator=generator)
        self.target[::3] = IGNORED

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        input, target = self.input[index], self.target[index]
        if self.form == "derived":
            return input, torch.nn.functional.one_hot(target.clamp(0), 3).float().as_subclass(Masked)
        return {"x": input, "y": target} if self.form == "dict" else (input, target, "extra")


class Reading(argus_core.Model):
    nn_module = Scores
    loss = nn.CrossEntropyLoss
    optimizer = torch.optim.SGD

    def forward_loss(self, batch: Any) -> Any:
        if isinstance(batch, dict):
            input, target = batch["x"], batch["y"]
        else:
            input, target = batch[:2]
        prediction = self.nn_module(input)
        return prediction, target, self.loss(prediction, target)


class Regression(Reading):
    loss = nn.MSELoss


def build(form: str, parallel: str) -> argus_core.Model:
    torch.manual_seed(0)
    kind = Regression if form == "derived" else Reading
    return kind({"device": "cpu", "parallel": parallel, "optimizer": {"lr": 0.1}})


def trained(form: str, parallel: str) -> Any:
    model = build(form, parallel)
    model.fit(DataLoader(Rows(form), batch_size=5), num_epochs=1, seed=0)
    weight = model.parallel.whole(model.get_nn_module().layer.weight)  # in the first process
    return None if weight is None else weight.detach().tolist()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("form", ["dict", "triple", "derived"])
def test_other_forms_of_batches_train_as_in_one_process(form: str, parallel: str) -> None:
    alone = torch.tensor(trained(form, "auto"))
    together = in_processes(2, trained, form, parallel)[0]
    torch.testing.assert_close(torch.tensor(together), alone, rtol=0, atol=1e-6)


def tried_again() -> Any:
    model = build("triple", "ddp")
    try:
        model.fit(DataLoader(Rows("triple"), batch_size=5), num_epochs=-1)
    except ParamsError:
        model.fit(DataLoader(Rows("triple"), batch_size=5), num_epochs=1, seed=0)
        return model.parallel.several, model.get_nn_module().layer.weight.detach().tolist()
    raise AssertionError


def test_a_fit_that_is_refused_in_all_processes_can_be_called_again() -> None:
    pool = Pool(2)
    results = pool.run(tried_again)
    pool.close()
    alone = trained("triple", "auto")
    for is_shared, weight in results:
        assert is_shared
        torch.testing.assert_close(torch.tensor(weight), torch.tensor(alone), rtol=0, atol=1e-6)
