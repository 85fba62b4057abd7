"""Operations with a component, which give the same result in this process and in a fresh one.

A fresh process has imported only `argus_core` before an operation looks a name up.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from argus_core.callbacks import on_iteration_complete
from argus_core.callbacks.state import State
from argus_core.checkpoint.formats import open_checkpoint
from argus_core.data.collation import build_collate
from argus_core.data.datasets import build_dataset, make_loader
from argus_core.data.order import OrderedLoader
from argus_core.data.samplers import build_sampler
from argus_core.model.loading import load_model
from argus_core.model.model import Model
from argus_core.prediction.readers import build_reader
from argus_core.registry.part import KIND_OF_PART
from argus_core.testing import probe as probe  # registers the models that files name
from argus_core.testing.engine_jobs import train_in_group

__all__ = [
    "OPERATIONS",
    "batch_of",
    "evaluate",
    "fit",
    "fitted",
    "order_of_indices",
    "predict",
    "predictable",
    "samples",
    "samples_of_file",
    "seeded_samples",
    "train",
    "validate",
]

SEED = 1


@contextmanager
def predictable() -> Iterator[None]:
    """Compute on one thread and from one seed in a ``with`` block, so that results are exactly repeatable."""
    threads, state = torch.get_num_threads(), random.getstate()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            random.seed(SEED)
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(state)


def predict(file: Path, input: Any) -> Any:
    """Return the prediction of the model in a file."""
    with predictable():
        return _loaded(file).predict(input)


def evaluate(file: Path, batch: Any) -> Any:
    """Return prediction and loss of the model in a file."""
    with predictable():
        output = _loaded(file).val_step(batch)
        return output["prediction"], output["loss"]


def train(file: Path, batches: Sequence[Any]) -> Any:
    """Return the weights of the model in a file after further training, and its predictions."""
    with predictable():
        model = _loaded(file)
        for batch in batches:
            model.train_step(batch)
        return dict(model.get_nn_module().state_dict()), model.predict(batches[0][0])


def validate(file: Path, batches: Sequence[Any], metrics: Any) -> dict[str, float]:
    """Return the values of metrics over batches."""
    with predictable():
        return _loaded(file).validate(batches, metrics=metrics)


def fit(file: Path, batches: Sequence[Any], folder: Path, options: dict[str, Any]) -> Any:
    """Return the learning rates and weights of a run that resumes from the newest file in a folder."""
    with predictable():
        return fitted(_loaded(file), batches, resume=folder, **options)


def samples(spec: Any, count: int) -> Any:
    """Return the length of a dataset, if it has one, and its first and last samples."""
    dataset: Any = build_dataset(spec, "the dataset")
    if not hasattr(dataset, "__len__"):
        return None, list(itertools.islice(dataset, count))
    length = len(dataset)
    chosen = sorted({*range(min(count, length)), length - 1})
    return length, [dataset[index] for index in chosen]


def seeded_samples(spec: Any, count: int) -> Any:
    """Return `samples` from the seed of `predictable`."""
    with predictable():
        return samples(spec, count)


def order_of_indices(spec: Any, dataset: Any) -> list[list[int]]:
    """Return the batches of indices that a sampler gives in the second epoch of a run."""
    places: Any = range(len(dataset))
    with predictable():
        sampler = build_sampler(spec, dataset, "the sampler")
        loader = OrderedLoader(make_loader(places, 4, sampler=sampler), SEED, "train")
        _, order = ([batch.tolist() for batch in loader.epoch_batches(epoch, 0)] for epoch in (0, 1))
    return order


def batch_of(spec: Any, samples: list[Any]) -> Any:
    """Return the batch that a collate function makes of samples."""
    with predictable():
        return build_collate(spec, "collate")(samples)


def samples_of_file(spec: Any, path: str, columns: Any) -> list[tuple[Any, Any]]:
    """Return the name and the value of each sample that a reader gives of a file."""
    reader = build_reader(spec, "the reader")
    reader.columns = columns
    return [(name, load()) for name, load in reader.samples(path)]


def fitted(model: Model, batches: Sequence[Any], **options: Any) -> Any:
    """Return the learning rate of each update of a run, and the weights after it."""
    rates: list[Any] = []

    @on_iteration_complete
    def keep(state: State) -> None:
        rates.append(state.model.get_lr())

    callbacks = [*options.pop("callbacks", ()), keep]
    model.fit(batches, batches, callbacks=callbacks, metrics=["mse"], metrics_on_train=True, **options)
    return rates, dict(model.get_nn_module().state_dict())


def _loaded(file: Path) -> Model:
    """Return the model in a file that a check wrote, with all parameters as the check's author set them."""
    with open_checkpoint(file) as saved:
        params = saved.params()
    own = {slot: value[1] for slot, value in params.items() if slot in KIND_OF_PART and _has_params(value)}
    return load_model(file, device="cpu", **own, **({"step": params["step"]} if params.get("step") else {}))


def _has_params(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


OPERATIONS: dict[str, Callable[..., Any]] = {
    operation.__name__: operation
    for operation in (
        predict,
        evaluate,
        train,
        validate,
        fit,
        seeded_samples,
        order_of_indices,
        batch_of,
        samples_of_file,
        train_in_group,
    )
}
