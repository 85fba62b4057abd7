"""A model loaded with each of the options."""

from __future__ import annotations

from pathlib import Path

import torch
from blobs import ConvNet, Dense, loaders, seeded, weights

from argus import Model, load_model


class FirstModel(Model):
    nn_module = {"conv": ConvNet, "dense": Dense}


class SecondModel(Model):
    nn_module = {"conv": ConvNet, "dense": Dense}


class FixedModel(Model):
    nn_module = ConvNet
    optimizer = torch.optim.Adam
    loss = torch.nn.CrossEntropyLoss
    prediction_transform = {"softmax": torch.nn.Softmax, "sharp": torch.nn.Softmin}


def parts(model: Model) -> dict:
    return {
        "class": type(model).__name__,
        "params": repr(model.params),
        "built": [type(part).__name__ for part in (model.nn_module, model.optimizer, model.loss)],
        "transform": repr(model.prediction_transform),
        "ready": [model.train_ready(), model.predict_ready(), model.nn_module.training],
        "lr": model.optimizer.param_groups[0]["lr"] if model.optimizer is not None else None,
        "state": len(model.optimizer.state) if model.optimizer is not None else None,
        "weights": weights(model)[:20],
        "device": str(model.device),
    }


def zero_classifier(nn_state_dict, optimizer_state_dict):
    nn_state_dict["classifier.weight"][:] = 0
    nn_state_dict["classifier.bias"][:] = 1
    return nn_state_dict, None


def main(folder: Path) -> dict:
    seeded(8)
    params = {
        "nn_module": ("conv", {"n_classes": 3, "p_dropout": 0.5}),
        "optimizer": ("Adam", {"lr": 0.01}),
        "loss": ("CrossEntropyLoss", {"label_smoothing": 0.1}),
        "device": "cpu",
        "mine": {"tuple": (1, 2), 3: "three"},
    }
    model = FirstModel(params)
    fixed = FixedModel(
        {
            "nn_module": {"n_classes": 3},
            "optimizer": {"lr": 0.01},
            "prediction_transform": ("softmax", {"dim": 1}),
        }
    )
    for each in (model, fixed):
        each.logger.disabled = True
        each.fit(loaders(shuffle=False)[0])
    path, plain, own = folder / "model.pth", folder / "plain.pth", str(folder / "fixed.pth")
    model.save(path, optimizer_state=True)
    model.save(str(plain))
    fixed.save(own, optimizer_state=True)

    def more_dropout(params):
        params["nn_module"] = ("conv", {"n_classes": 3, "p_dropout": 0.9})
        return params

    def read(file_path):
        state = torch.load(file_path, map_location="cpu", weights_only=True)
        state["params"]["read"] = type(file_path).__name__
        return state

    loaded = {
        "as saved": load_model(path),
        "path as text": load_model(str(path)),
        "without optimizer state": load_model(plain),
        "for prediction": load_model(path, optimizer=None, loss=None),
        "without transform": load_model(path, prediction_transform=None),
        "other parameters": load_model(path, nn_module=("conv", {"n_classes": 3, "p_dropout": 0.1})),
        "other parameters of the only network": load_model(own, nn_module={"n_classes": 3, "p_dropout": 0.3}),
        "other parameters of the loss": load_model(own, loss={"label_smoothing": 0.2}),
        "other loss": load_model(path, loss="NLLLoss"),
        "other transform": load_model(own, prediction_transform=("sharp", {"dim": 0})),
        "transform left out": load_model(own, prediction_transform=None),
        "rate of a file without state": load_model(plain, optimizer=("SGD", {"lr": 0.5})),
        "rate of a file with state": load_model(own, optimizer={"lr": 0.5}),
        "device": load_model(path, device=torch.device("cpu")),
        "change_params_func": load_model(path, change_params_func=more_dropout),
        "change_state_dict_func": load_model(
            path, optimizer=("SGD", {"lr": 0.1}), change_state_dict_func=zero_classifier
        ),
        "state_load_func": load_model(path, state_load_func=read),
        "another class": load_model(path, model_name="SecondModel"),
        "keys of my own": load_model(path, mine=7, new="value"),
        "all at once": load_model(
            file_path=path,
            nn_module=("conv", {"n_classes": 3}),
            optimizer=None,
            loss=None,
            device="cpu",
            model_name="SecondModel",
            state_load_func=read,
            change_params_func=lambda params: {**params, "changed": True},
            change_state_dict_func=zero_classifier,
        ),
    }
    result = {name: parts(each) for name, each in loaded.items()}
    trained_on = loaded["as saved"]
    trained_on.logger.disabled = True
    trained_on.fit(loaders(shuffle=False)[0])
    result["trained on"] = weights(trained_on)
    for name, error, options in (
        ("no class", ImportError, {"model_name": "NowhereModel"}),
        ("no file", FileNotFoundError, {"file_path": folder / "nothing.pth"}),
    ):
        try:
            load_model(**{"file_path": path, **options})
        except error:
            result[name] = error.__name__
    return result
