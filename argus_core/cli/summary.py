"""``argus summary``: the modules of a configuration's or a checkpoint's network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from argus_core.cli.building_command import BuildingCommand
from argus_core.cli.examples import examples
from argus_core.cli.options import AS_JSON, CHANGES
from argus_core.cli.output import echo_json, echo_text
from argus_core.errors import ParamsError

if TYPE_CHECKING:
    from argus_core.model.model import Model

__all__ = ["command"]


@click.command(
    "summary",
    cls=BuildingCommand,
    epilog=examples(
        "argus summary examples/digits.toml",
        "argus summary runs/digits/checkpoints/best.safetensors --input-shape 1,1,8,8 --depth 1",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@CHANGES
@click.option("--input-shape", metavar="N,...", help="Shape of a batch of zeros to run the network on.")
@click.option("--depth", type=click.IntRange(0), help="How deep to go; 0 shows the network alone.")
@AS_JSON
def command(
    file: Path, changes: tuple[str, ...], input_shape: str | None, depth: int | None, as_json: bool
) -> None:
    """Print the modules of a network and their sizes.

    They are listed with output shapes, parameters and FLOPs, and the memory below them.

    FILE is a configuration or a checkpoint. The network of a configuration runs once on a sample of its
    training data; that of a checkpoint needs --input-shape for shapes and FLOPs.
    """
    shape = None if input_shape is None else _shape(input_shape)
    model, input = _of_config(file, changes, shape) if file.suffix == ".toml" else _of_checkpoint(file, shape)
    summary = model.summary(input)
    if as_json:
        echo_json(summary.to_dict())
    else:
        echo_text(summary.table(depth))


def _shape(text: str) -> tuple[int, ...]:
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise ParamsError(f"--input-shape is {text!r}; give positive integers, samples first: 1,3,224,224")
    return tuple(map(int, parts))


def _of_config(file: Path, changes: tuple[str, ...], shape: tuple[int, ...] | None) -> tuple[Model, Any]:
    from argus_core.config import read_config  # lazy: --help does not need it

    config = read_config(file, changes)
    from argus_core.runs.loaders import first_batch  # imports torch, as does the next
    from argus_core.runs.run import build_model

    model = build_model(config, initial_values_wanted=False)
    if shape is not None:
        return model, _zeros(shape)
    batch = first_batch(config)
    return model, batch[0] if isinstance(batch, list | tuple) and batch else batch


def _of_checkpoint(file: Path, shape: tuple[int, ...] | None) -> tuple[Model, Any]:
    from argus_core.model.loading import load_model  # imports torch

    return load_model(file, device="cpu"), None if shape is None else _zeros(shape)


def _zeros(shape: tuple[int, ...]) -> Any:
    import torch  # lazy: --help does not need it

    return torch.zeros(shape)
