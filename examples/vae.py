"""A variational auto-encoder on digits: several outputs, a loss of its own, and any step strategies.

The encoder maps an image x to a normal distribution q(z|x) of codes z, the decoder a code to an image. The
loss of a sample is that of its reconstruction and how far q is from a standard normal (Kingma and Welling
2014, arXiv:1312.6114, with the weight beta of Higgins et al. 2017)::

    -log p(x|z) + beta * KL(q(z|x) || N(0, I)),    z = mean + exp(log_variance / 2) * noise

The noise is part of the batch. A batch that is cut into micro-batches is cut together with its noise, and a
strategy that takes gradients twice, such as ``sam``, takes them of one and the same function.

Run it with ``python examples/vae.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

import argus_core
from argus_core.metrics import MAE

PARAMS = {
    "nn_module": ("auto-encoder", {"code": 8, "hidden": 128}),
    "beta": 1.0,
    "optimizer": ("AdamW", {"lr": 3e-3}),
    "prediction_transform": "images",
    "step": [
        ("amp", {"dtype": "bfloat16"}),
        ("accumulate", {"steps": 2}),
        ("clip_grad_norm", {"max_norm": 10.0}),
        ("ema", {"decay": 0.99}),
    ],
    "device": "cpu",  # quicker than a GPU on a network this small
}


class Output(NamedTuple):
    """What the network returns, all (batch, ...) and float."""

    image: Tensor  # (batch, 64), logits of the pixels; after prediction_transform the pixels, 0 to 1
    mean: Tensor  # (batch, code)
    log_variance: Tensor  # (batch, code)


@argus_core.register("nn_module", "auto-encoder")
class AutoEncoder(nn.Module):
    """Takes images (batch, 64) in 0 to 1 to `Output`; without noise (batch, code) by the mean code."""

    def __init__(self, code: int = 8, hidden: int = 128) -> None:
        super().__init__()
        self.code = code
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 2 * code))
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, 64))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        # Under amp a layer's output is in half precision, of which exp() would leave two digits.
        mean, log_variance = self.encoder(images).to(images).chunk(2, dim=1)
        code = mean if noise is None else mean + (log_variance / 2).exp() * noise
        return Output(self.decoder(code).to(images), mean, log_variance)


@argus_core.register("transform", "images")
class Images:
    """Makes pixels of their logits."""

    def __call__(self, output: Output) -> Output:
        return output._replace(image=output.image.sigmoid())


class VAE(argus_core.Model, name="digits-vae"):
    """Takes batches (images, noise) and a param of its own: ``beta``, the weight of the divergence."""

    def forward_loss(self, batch: Any) -> tuple[Output, Tensor, Tensor]:
        images, noise = batch
        output = self.nn_module(images, noise)
        reconstruction = binary_cross_entropy_with_logits(output.image, images, reduction="none").sum(1)
        variance = output.log_variance.exp()
        divergence = 0.5 * (output.mean.square() + variance - 1 - output.log_variance).sum(1)
        return output, images, (reconstruction + self.params["beta"] * divergence).mean()

    def sample(self, count: int) -> Tensor:
        """Return images (count, 64) in 0 to 1 of codes drawn from a standard normal."""
        module = self.get_nn_module()
        self.eval()
        with torch.no_grad(), self.evaluation():  # with the weights that strategies evaluate with
            images: Tensor = module.decoder(torch.randn(count, module.code, device=self.device)).sigmoid()
        return images


class ReconstructionError(argus_core.Metric):
    """The mean absolute error of a pixel."""

    name = "reconstruction_error"
    better = "min"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.error = MAE()

    def reset(self) -> None:
        self.error.reset()

    def update(self, step_output: Mapping[str, Any]) -> None:
        image = step_output["prediction"].image
        self.error.update({"prediction": image, "target": step_output["target"]})

    def compute(self) -> float:
        return self.error.compute()


def make_loader(split: str, batch_size: int, shuffle: bool = False) -> DataLoader[Any]:
    """Return a loader of (images (batch, 64) in 0 to 1, noise (batch, 8))."""
    digits = argus_core.resolve("dataset", "digits").load()(split=split, flat=True)

    def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return torch.stack([image for image, _ in samples]), torch.randn(len(samples), 8)

    return DataLoader(digits, batch_size, shuffle=shuffle, collate_fn=collate)


def draw(images: Tensor) -> str:
    """Return images (count, 64) in 0 to 1 side by side, as text."""
    shades = " .:-=+*#%@"
    rows = images.clamp(0, 0.999).reshape(-1, 8, 8).transpose(0, 1)  # row, image, column
    return "\n".join(
        "  ".join("".join(2 * shades[int(10 * pixel)] for pixel in line) for line in row.tolist())
        for row in rows
    )


def main(num_epochs: int = 40, file_path: str | Path = "runs/vae.safetensors") -> VAE:
    """Train, save, load by name and draw what the loaded model imagines; return the trained model."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_loader = make_loader("train", batch_size=32, shuffle=True)
    val_batches = list(make_loader("val", batch_size=64))  # drawn once: the same noise in each epoch
    model = VAE(PARAMS)
    model.fit(train_loader, val_batches, num_epochs, metrics=[ReconstructionError()], callbacks=["progress"])
    model.save(file_path)

    loaded = argus_core.load_model(file_path, optimizer=None)
    print("loaded again:", loaded.validate(val_batches, metrics=[ReconstructionError()]))
    images = val_batches[0][0][:6]
    print(draw(images), draw(loaded.predict(images).image), draw(loaded.sample(6)), sep="\n\n")
    return model


if __name__ == "__main__":
    main()
