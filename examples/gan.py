"""A generative adversarial network on digits: two networks, two optimizers and a ``train_step`` of its own.

The discriminator D learns to tell images of the data from those that the generator G makes of noise z, and G
learns to mislead it (Goodfellow et al. 2014, arXiv:1406.2661). One update is a step of each::

    D minimises  -log D(x) - log(1 - D(G(z)))
    G minimises  -log D(G(z))         the non-saturating loss of their section 3

Both optimizers are chosen by name and stored in the checkpoint, so a loaded model trains on where it was.

Run it with ``python examples/gan.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

import argus_core

PARAMS = {
    "nn_module": ("generator-and-discriminator", {"noise": 16, "hidden": 128}),
    "optimizer": ("Adam", {"lr": 2e-3, "betas": (0.5, 0.999)}),
    "discriminator_optimizer": ("Adam", {"lr": 2e-3, "betas": (0.5, 0.999)}),
    "device": "cpu",  # quicker than a GPU on networks this small
}


@argus_core.register("nn_module", "generator-and-discriminator")
class GeneratorAndDiscriminator(nn.Module):
    """Makes images (batch, 64) in 0 to 1 of noise (batch, noise), and tells real ones: logits (batch, 1)."""

    def __init__(self, noise: int = 16, hidden: int = 128) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(noise, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 64), nn.Sigmoid(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Linear(64, hidden), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, noise: Tensor) -> Tensor:
        images: Tensor = self.generator(noise)
        return images


class GAN(argus_core.Model, name="digits-gan"):
    """Takes batches of (images, noise); ``optimizer`` moves the generator alone."""

    discriminator_optimizer: Any = None  # as it stays when the model is loaded with optimizer=None

    def build_optimizer(self, factory: Any, params: Any) -> Any:
        name, its_params = self.params["discriminator_optimizer"]
        build = argus_core.resolve("optimizer", name).load()
        self.discriminator_optimizer = build(self.nn_module.discriminator.parameters(), **its_params)
        return factory(self.nn_module.generator.parameters(), **params)

    def train_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]:
        if not self.nn_module.training:
            self.train()
        images, noise = argus_core.deep_to(batch, self.device)
        generated = self.nn_module(noise)
        self.discriminator_optimizer.zero_grad()
        self.discriminator_loss(images, generated.detach()).backward()
        self.discriminator_optimizer.step()
        self.optimizer.zero_grad()
        logits = self.nn_module.discriminator(generated)
        loss = binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
        loss.backward()
        self.optimizer.step()
        return argus_core.StepOutput(self, [(generated, images)], loss.detach(), len(images), stepped=True)

    def val_step(self, batch: Any, state: Any = None) -> Mapping[str, Any]:
        self.eval()
        images, noise = argus_core.deep_to(batch, self.device)
        with torch.no_grad():
            generated = self.nn_module(noise)
            loss = self.discriminator_loss(images, generated)
        return argus_core.StepOutput(self, [(generated, images)], loss, len(images), stepped=True)

    def discriminator_loss(self, images: Tensor, generated: Tensor) -> Tensor:
        """Return the mean over both halves: log 2 = 0.69 where no discriminator could tell them apart."""
        logits = self.nn_module.discriminator(torch.cat([images, generated]))
        is_real = torch.cat([torch.ones(len(images), 1), torch.zeros(len(generated), 1)]).to(logits)
        return binary_cross_entropy_with_logits(logits, is_real)

    # What Model does for its own optimizer, for the second one.

    def extra_state(self) -> dict[str, Any]:
        if self.discriminator_optimizer is None:
            return {}
        return {"discriminator_optimizer": self.discriminator_optimizer.state_dict()}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])

    def set_device(self, device: Any) -> None:
        super().set_device(device)
        if self.discriminator_optimizer is not None:  # loading its own state moves it to the parameters
            self.discriminator_optimizer.load_state_dict(self.discriminator_optimizer.state_dict())


class FrechetDistance(argus_core.Metric):
    """How far generated images (the prediction) are from real ones (the target), as two Gaussians of pixels.

    ``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))`` of their means m and covariances C (Dowson and Landau 1982);
    Heusel et al. 2017 (arXiv:1706.08500) take it of a classifier's features. 0.09 from train to val digits.
    """

    name = "frechet_distance"
    better = "min"

    def reset(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def update(self, step_output: Mapping[str, Any]) -> None:
        self.pairs.append((step_output["prediction"], step_output["target"]))

    def compute(self) -> float:
        ours, real = (torch.cat(images).double() for images in zip(*self.pairs, strict=True))
        return frechet_distance(ours, real)


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Return the distance of two sets of images, each (samples, pixels)."""
    gap = (one.mean(0) - other.mean(0)).square().sum()
    # The covariance is A^T A, and tr((C C')^(1/2)) the nuclear norm of A A'^T.
    a, b = ((images - images.mean(0)) / len(images) ** 0.5 for images in (one, other))
    return float(gap + a.square().sum() + b.square().sum() - 2 * torch.linalg.matrix_norm(a @ b.T, "nuc"))


def make_loader(split: str, batch_size: int, shuffle: bool = False) -> DataLoader[Any]:
    """Return a loader of (images (batch, 64) in 0 to 1, noise (batch, 16))."""
    digits = argus_core.resolve("dataset", "digits").load()(split=split, flat=True)

    def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return torch.stack([image for image, _ in samples]), torch.randn(len(samples), 16)

    return DataLoader(digits, batch_size, shuffle=shuffle, drop_last=shuffle, collate_fn=collate)


def draw(images: Tensor) -> str:
    """Return images (count, 64) in 0 to 1 side by side, as text."""
    shades = " .:-=+*#%@"
    rows = images.clamp(0, 0.999).reshape(-1, 8, 8).transpose(0, 1)  # row, image, column
    return "\n".join(
        "  ".join("".join(2 * shades[int(10 * pixel)] for pixel in line) for line in row.tolist())
        for row in rows
    )


def main(num_epochs: int = 60, file_path: str | Path = "runs/gan.safetensors") -> GAN:
    """Train, save, load by name and draw what the loaded model makes of noise; return the trained model."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_loader = make_loader("train", batch_size=64, shuffle=True)
    val_batches = list(make_loader("val", batch_size=400))  # drawn once: the same noise in each epoch
    model = GAN(PARAMS)
    print("before training:", model.validate(val_batches, metrics=[FrechetDistance()]))
    model.fit(train_loader, val_batches, num_epochs, metrics=[FrechetDistance()], callbacks=["progress"])
    model.save(file_path, optimizer_state=True)

    generator = argus_core.load_model(file_path, optimizer=None)
    print(draw(generator.predict(torch.randn(6, 16))))
    return model


if __name__ == "__main__":
    main()
