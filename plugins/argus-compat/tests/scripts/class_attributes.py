"""A model class with class attributes, callbacks by class, and its best file loaded again."""

from __future__ import annotations

from pathlib import Path

import torch
from blobs import ConvNet, loaders, names, rounded, seeded, weights

from argus import Model, load_model
from argus.callbacks import EarlyStopping, MonitorCheckpoint, ReduceLROnPlateau


class BlobModel(Model):
    nn_module = ConvNet
    optimizer = torch.optim.SGD
    loss = torch.nn.CrossEntropyLoss


def main(folder: Path) -> dict:
    seeded()
    params = {
        "nn_module": {"n_classes": 3, "p_dropout": 0.1},
        "optimizer": {"lr": 0.1, "momentum": 0.9},
        "device": "cpu",
    }
    model = BlobModel(params)
    train_loader, val_loader = loaders()
    callbacks = [
        MonitorCheckpoint(dir_path=folder, monitor="val_accuracy", max_saves=2),
        EarlyStopping(monitor="val_accuracy", patience=4),
        ReduceLROnPlateau(monitor="val_accuracy", factor=0.5, patience=1),
    ]
    metrics = model.fit(
        train_loader,
        val_loader=val_loader,
        num_epochs=12,
        metrics=["accuracy"],
        callbacks=callbacks,
        metrics_on_train=True,
    )
    best = load_model(folder / names(folder)[-1])
    images, _ = next(iter(val_loader))
    return {
        "metrics": rounded(metrics),
        "lr": model.get_lr(),
        "files": names(folder),
        "weights": weights(model),
        "best": rounded(best.validate(val_loader, metrics=["accuracy"])),
        "training": best.nn_module.training,
        "prediction": [round(value, 5) for value in best.predict(images)[0].tolist()],
    }
