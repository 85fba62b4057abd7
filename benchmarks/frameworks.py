"""The other frameworks: the same updates with the same tracking, each in its own idiom, and the network."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import warnings
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import torch
from torch import nn

__all__ = ["FRAMEWORKS", "MLP", "installed"]

Make = Callable[[nn.Module, nn.Module, list[Any], bool], Callable[[], object]]
"""Takes network, loss, batches and whether accuracy is tracked; returns what is measured."""


class MLP(nn.Module):
    """16-32-outputs."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, outputs))

    def forward(self, input: torch.Tensor) -> Any:
        return self.layers(input)


class NotInstalled(Exception):
    """A framework cannot be imported."""


def imported(name: str) -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise NotInstalled(str(error)) from error


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.01)


def pytorch_argus() -> Make:
    try:
        importlib.metadata.version("pytorch-argus")
    except importlib.metadata.PackageNotFoundError as error:  # argus-compat has a module of the same name
        raise NotInstalled(str(error)) from error
    argus = imported("argus")
    logging.getLogger("argus").setLevel(logging.ERROR)

    class Net(argus.Model):  # type: ignore[misc, name-defined]
        nn_module = nn.Identity
        loss = nn.Identity
        optimizer = torch.optim.SGD

        def build_nn_module(self, *_: object) -> nn.Module:
            return self.params["network"]

        def build_loss(self, *_: object) -> nn.Module:
            return self.params["criterion"]

    def make(network: nn.Module, loss: nn.Module, batches: list[Any], accuracy: bool) -> Callable[[], object]:
        model = Net(
            {
                "nn_module": {},
                "loss": {},
                "optimizer": {"lr": 0.01},
                "device": "cpu",
                "network": network,
                "criterion": loss,
            }
        )
        model.logger.setLevel(logging.ERROR)
        return lambda: model.fit(
            batches, num_epochs=1, metrics=["accuracy"] if accuracy else [], metrics_on_train=True
        )

    return make


def ignite() -> Make:
    engine, metrics = imported("ignite.engine"), imported("ignite.metrics")

    def make(network: nn.Module, loss: nn.Module, batches: list[Any], accuracy: bool) -> Callable[[], object]:
        trainer = engine.create_supervised_trainer(
            network,
            sgd(network),
            loss,
            output_transform=lambda x, y, y_pred, loss: {
                "y_pred": y_pred.detach(),
                "y": y,
                "loss": loss.item(),
            },
        )
        mean = metrics.Average(output_transform=lambda output: output["loss"])
        mean.attach(trainer, "loss")
        if accuracy:
            share = metrics.Accuracy(output_transform=lambda output: (output["y_pred"], output["y"]))
            share.attach(trainer, "accuracy")
        return lambda: trainer.run(batches, max_epochs=1)

    return make


def fabric() -> Make:
    lightning = imported("lightning_fabric")

    def make(network: nn.Module, loss: nn.Module, batches: list[Any], accuracy: bool) -> Callable[[], object]:
        fabric = lightning.Fabric(accelerator="cpu", devices=1)
        wrapped, optimizer = fabric.setup(network, sgd(network))
        return lambda: loop(wrapped, loss, optimizer, fabric.backward, batches, accuracy)

    return make


def accelerate() -> Make:
    library = imported("accelerate")

    def make(network: nn.Module, loss: nn.Module, batches: list[Any], accuracy: bool) -> Callable[[], object]:
        accelerator = library.Accelerator(cpu=True)
        wrapped, optimizer = accelerator.prepare(network, sgd(network))
        return lambda: loop(wrapped, loss, optimizer, accelerator.backward, batches, accuracy)

    return make


def skorch() -> Make:
    library, callbacks = imported("skorch"), imported("skorch.callbacks")

    class Batches:
        """skorch's iterator over batches that are there already."""

        def __init__(self, dataset: Any, **_: object) -> None:
            self.batches = dataset

        def __iter__(self) -> Any:
            return iter(self.batches)

        def __len__(self) -> int:
            return len(self.batches)

    def correct(net: Any, X: Any, y: Any) -> float:
        return float((torch.as_tensor(net.predict(X)) == torch.as_tensor(y)).float().mean())

    def make(network: nn.Module, loss: nn.Module, batches: list[Any], accuracy: bool) -> Callable[[], object]:
        scoring = callbacks.BatchScoring(correct, name="accuracy", on_train=True)
        kind = library.NeuralNetClassifier if accuracy else library.NeuralNetRegressor
        net = kind(
            network,
            criterion=type(loss),
            optimizer=torch.optim.SGD,
            lr=0.01,
            train_split=None,
            iterator_train=Batches,
            verbose=0,
            dataset=lambda X, y: X,
            callbacks=[scoring] if accuracy else None,
        )
        net.initialize()
        return lambda: net.partial_fit(batches, None, epochs=1)

    return make


def lightning() -> Make:
    library = imported("pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Module(library.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, network: nn.Module, loss: nn.Module, accuracy: bool) -> None:
            super().__init__()
            self.network, self.criterion, self.has_accuracy = network, loss, accuracy

        def training_step(self, batch: Any, number: int) -> Any:
            input, target = batch
            prediction = self.network(input)
            loss = self.criterion(prediction, target)
            size = target.shape[0]
            self.log("loss", loss, on_step=False, on_epoch=True, batch_size=size)
            if self.has_accuracy:
                right = (prediction.argmax(1) == target).float().mean()
                self.log("accuracy", right, on_step=False, on_epoch=True, batch_size=size)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.network)

    quiet = dict.fromkeys(
        (f"enable_{each}" for each in ("checkpointing", "progress_bar", "model_summary")), False
    )

    def make(network: nn.Module, loss: nn.Module, batches: list[Any], accuracy: bool) -> Callable[[], object]:
        module = Module(network, loss, accuracy)

        def run() -> None:
            trainer = library.Trainer(accelerator="cpu", devices=1, max_epochs=1, logger=False, **quiet)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trainer.fit(module, batches)

        return run

    return make


def poutyne() -> Make:
    library = imported("poutyne")

    def make(network: nn.Module, loss: nn.Module, batches: list[Any], accuracy: bool) -> Callable[[], object]:
        metrics = ["accuracy"] if accuracy else None
        model = library.Model(network, sgd(network), loss, batch_metrics=metrics)
        return lambda: model.fit_generator(batches, epochs=1, verbose=False)

    return make


def loop(
    network: nn.Module,
    loss_function: nn.Module,
    optimizer: torch.optim.Optimizer,
    backward: Callable[[torch.Tensor], object],
    batches: list[Any],
    accuracy: bool,
) -> tuple[float, float]:
    """Make the updates as the frameworks ask for that leave the loop to their users."""
    network.train()
    total, right, count = 0.0, 0, 0
    for input, target in batches:
        optimizer.zero_grad()
        prediction = network(input)
        loss = loss_function(prediction, target)
        backward(loss)
        optimizer.step()
        samples = target.shape[0]
        total += loss.item() * samples
        if accuracy:
            right += (prediction.argmax(1) == target).sum().item()
        count += samples
    return total / count, right / count


FRAMEWORKS: dict[str, Callable[[], Make]] = {
    "pytorch-argus": pytorch_argus,
    "ignite": ignite,
    "Lightning": lightning,
    "Lightning Fabric": fabric,
    "accelerate": accelerate,
    "skorch": skorch,
    "poutyne": poutyne,
}


def installed(names: Iterable[str] = FRAMEWORKS) -> dict[str, Make]:
    """Return the frameworks of these names that can be imported, and print the rest."""
    found = {}
    for name in names:
        try:
            found[name] = FRAMEWORKS[name]()
        except NotInstalled as error:
            print(f"{name}: not installed ({error})")
    return found
