"""A training step with automatic mixed precision and gradient accumulation, and a metric of one's own."""

from __future__ import annotations

from pathlib import Path

import torch
from blobs import ConvNet, loaders, rounded, seeded, weights

import argus
from argus.callbacks import CosineAnnealingLR, EarlyStopping, MonitorCheckpoint
from argus.metrics import Metric
from argus.utils import deep_chunk, deep_detach, deep_to


class HitRate(Metric):
    name = "hit_rate"
    better = "max"

    def __init__(self, top: int = 1) -> None:
        self.top = top
        if top > 1:
            self.name = f"hit_rate_{top}"

    def reset(self) -> None:
        self.hits = 0
        self.count = 0

    def update(self, step_output: dict) -> None:
        best = step_output["prediction"].topk(self.top, dim=1).indices
        self.hits += (best == step_output["target"].unsqueeze(1)).any(1).sum().item()
        self.count += len(best)

    def compute(self) -> float:
        if self.count == 0:
            raise RuntimeError("no samples")
        return self.hits / self.count


class AccumulatingModel(argus.Model):
    nn_module = ConvNet

    def __init__(self, params: dict) -> None:
        super().__init__(params)
        self.iter_size = int(self.params.get("iter_size", 1))
        self.amp = bool(self.params.get("amp", False))
        self.scaler = torch.amp.GradScaler(self.device.type, growth_interval=5) if self.amp else None

    def train_step(self, batch, state) -> dict:
        self.train()
        self.optimizer.zero_grad()
        for chunk in deep_chunk(batch, self.iter_size):
            input, target = deep_to(chunk, self.device, non_blocking=True)
            with torch.amp.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
                prediction = self.nn_module(input)
                loss = self.loss(prediction, target) / self.iter_size
            if self.amp:
                self.scaler.scale(loss).backward()
            else:
                loss.backward()
        if self.amp:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        prediction = self.prediction_transform(deep_detach(prediction))
        return {"prediction": prediction, "target": deep_detach(target), "loss": loss.item()}


def main(folder: Path) -> dict:
    result = {}
    for amp in (False, True):
        seeded(2)
        params = {
            "nn_module": {"n_classes": 3},
            "optimizer": ("AdamW", {"lr": 0.01}),
            "loss": "CrossEntropyLoss",
            "device": "cpu",
            "iter_size": 3,
            "amp": amp,
        }
        model = AccumulatingModel(params)
        model.set_device("cpu")
        train_loader, val_loader = loaders()
        callbacks = [
            MonitorCheckpoint(dir_path=folder / str(amp), monitor="val_hit_rate", max_saves=3),
            EarlyStopping(monitor="val_hit_rate", patience=30),
            CosineAnnealingLR(4),
        ]
        metrics = model.fit(
            train_loader,
            val_loader=val_loader,
            num_epochs=4,
            metrics=[HitRate(), "hit_rate", HitRate(top=2)],
            callbacks=callbacks,
        )
        result[f"amp {amp}"] = {
            "metrics": rounded(metrics),
            "weights": [] if amp else weights(model),
            "scale": model.scaler.get_scale() if amp else None,
            "lr": round(model.get_lr(), 8),
            "params": repr(model.params),
        }
    return result
