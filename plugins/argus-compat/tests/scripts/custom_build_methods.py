"""Build methods of one's own: another head on a network, rates by layer, an order of building."""

from __future__ import annotations

from pathlib import Path

import torch
from blobs import ConvNet, loaders, rounded, seeded, weights

from argus import Model
from argus.model.build import cast_nn_module, cast_optimizer, choose_attribute_from_dict


class TransferModel(Model):
    nn_module = ConvNet
    optimizer = torch.optim.Adam
    loss = torch.nn.CrossEntropyLoss

    def build_nn_module(self, nn_module_meta, nn_module_params):
        if nn_module_meta is None:
            raise ValueError("a network is needed")
        nn_module, nn_module_params = choose_attribute_from_dict(nn_module_meta, nn_module_params)
        network = cast_nn_module(nn_module)(**nn_module_params)
        network.classifier = torch.nn.Linear(network.classifier.in_features, self.params["num_classes"])
        return network

    def build_optimizer(self, optimizer_meta, optim_params):
        optimizer, optim_params = choose_attribute_from_dict(optimizer_meta, optim_params)
        optimizer = cast_optimizer(optimizer)
        body = list(self.nn_module.features.parameters())
        known = {id(parameter) for parameter in body}
        head = [each for each in self.nn_module.parameters() if id(each) not in known]
        groups = [
            {"params": body, "lr": optim_params["lr"] * 0.01},
            {"params": head, "lr": optim_params["lr"]},
        ]
        rest = {name: value for name, value in optim_params.items() if name != "lr"}
        return optimizer(params=groups, **rest)


class BuiltFromNothing(Model):
    """No class attribute says anything: the methods know."""

    def build_nn_module(self, nn_module_meta, nn_module_params):
        return ConvNet(**nn_module_params)

    def build_loss(self, loss_meta, loss_params):
        return torch.nn.CrossEntropyLoss(label_smoothing=loss_params["smoothing"])

    def build_optimizer(self, optimizer_meta, optim_params):
        return super().build_optimizer(optimizer_meta, ("SGD", optim_params))


class LossFirst(Model):
    nn_module = ConvNet
    optimizer = torch.optim.SGD
    loss = torch.nn.CrossEntropyLoss

    def __init__(self, params):
        order = ("nn_module", "loss", "device", "optimizer", "prediction_transform")
        super().__init__(params, build_order=order)

    def build_optimizer(self, optimizer_meta, optim_params):
        self.seen = [type(self.loss).__name__, str(self.device)]
        return super().build_optimizer(optimizer_meta, optim_params)


class Recorder(Model):
    nn_module = {"conv": ConvNet}

    def __init__(self, params):
        self.calls = []
        super().__init__(params)

    def build_nn_module(self, meta, params):
        self.calls.append(["nn_module", sorted(meta), repr(params)])
        return super().build_nn_module(meta, params)

    def build_optimizer(self, meta, params):
        self.calls.append(["optimizer", "Adam" in meta, repr(params)])
        return super().build_optimizer(meta, params)

    def build_loss(self, meta, params):
        self.calls.append(["loss", "MSELoss" in meta, repr(params)])
        return super().build_loss(meta, params)

    def build_device(self, meta, param):
        self.calls.append(["device", str(meta), repr(param)])
        return super().build_device(meta, param)

    def build_prediction_transform(self, meta, params):
        self.calls.append(["prediction_transform", repr(meta()), repr(params)])
        return super().build_prediction_transform(meta, params)


def main(folder: Path) -> dict:
    result = {}
    cases = {
        "transfer": (
            TransferModel,
            {"nn_module": {"n_classes": 9}, "optimizer": {"lr": 0.01, "betas": (0.8, 0.9)}, "num_classes": 3},
        ),
        "nothing": (
            BuiltFromNothing,
            {"nn_module": {"n_classes": 3}, "optimizer": {"lr": 0.1}, "loss": {"smoothing": 0.1}},
        ),
        "loss first": (LossFirst, {"nn_module": {"n_classes": 3}, "optimizer": {"lr": 0.1}}),
        "recorder": (
            Recorder,
            {
                "nn_module": ("conv", {"n_classes": 3}),
                "optimizer": ("Adam", {"lr": 0.1}),
                "loss": "CrossEntropyLoss",
            },
        ),
    }
    for case, (model_class, params) in cases.items():
        seeded(5)
        model = model_class(params)
        train_loader, val_loader = loaders()
        metrics = model.fit(train_loader, val_loader, num_epochs=1, metrics=["accuracy"])
        result[case] = {
            "lr": model.get_lr(),
            "metrics": rounded(metrics),
            "weights": weights(model),
            "seen": [getattr(model, "seen", None), getattr(model, "calls", None)],
        }
    return result
