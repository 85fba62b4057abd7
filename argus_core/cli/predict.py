"""``argus predict``: predict with a checkpoint for a dataset or a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from argus_core.cli.building_command import BuildingCommand
from argus_core.cli.examples import examples
from argus_core.cli.output import echo
from argus_core.errors import ArgusError
from argus_core.runs.outputs import check_output
from argus_core.storage import read_header
from argus_core.storage.file import open_file
from argus_core.storage.forms import is_folder

__all__ = ["command"]


@click.command(
    "predict",
    cls=BuildingCommand,
    epilog=examples(
        "argus predict runs/digits/checkpoints/best.safetensors digits --param split=val --metric accuracy",
        "argus predict runs/digits/checkpoints/best.safetensors images.npy --output predictions.csv",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("data")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a parameter of the dataset; repeatable.",
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("predictions.npz"), show_default=True,
              help="Write to PATH, which ends in .npz, .npy, .csv or .safetensors.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Overwrite the output if it exists.")
@click.option("--device", default="auto", show_default=True,
              help="Predict on this device: auto, cpu, cuda, cuda:1, ...")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1, 2**31 - 1), default=32, show_default=True,
              metavar="COUNT", help="Predict this many samples at a time.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="Compute a metric from the targets in DATA; repeatable.")  # fmt: skip
def command(
    checkpoint: Path,
    data: str,
    params: tuple[str, ...],
    output: Path,
    overwrite: bool,
    device: str,
    batch_size: int,
    metrics: tuple[str, ...],
) -> None:
    """Predict with CHECKPOINT for each sample of DATA.

    DATA is the name of a dataset, or a file: a .npy file with inputs; a .npz or .safetensors file with an
    array "input" and optionally an array "target"; or a .csv file with a header, where a column "target" is
    the target. Predictions are written in the order of the samples.

    With --metric, the command also prints the loss and each metric, with all digits. They equal those of
    training if --batch-size does. The step strategy compile is not used; this affects only speed and
    rounding.
    """
    values = _parameters(params)
    _check_header(checkpoint)
    check_output(output, checkpoint, Path(data), overwrite=overwrite)
    from argus_core.data import files as data_files  # imports torch, as do those below
    from argus_core.data.datasets import make_loader
    from argus_core.model.loading import load_model
    from argus_core.runs.prediction import predict_all, without_compile

    data_files.check_writable(output)
    dataset = _dataset(data, values, needs_targets=bool(metrics))
    unused: dict[str, Any] = {"optimizer": None} if metrics else {"optimizer": None, "loss": None}
    model = load_model(checkpoint, device=device, change_params_func=without_compile, **unused)
    tensors, measured = predict_all(model, make_loader(dataset, batch_size), list(metrics))
    # Again, since another program may have written there.
    check_output(output, checkpoint, Path(data), overwrite=overwrite)
    data_files.write_tensors(output, tensors)
    for name, value in measured.items():
        echo(f"{name}: {value!r}")
    echo(f"predictions: {output} ({len(next(iter(tensors.values())))} samples)")


def _check_header(checkpoint: Path) -> None:
    """Check what can be checked of a checkpoint before torch is imported, which takes seconds."""
    start = b""
    if not is_folder(checkpoint):
        with open_file(checkpoint) as file:
            start = file.read(2)
    if not start.startswith((b"PK", b"\x80")):  # of pytorch-argus
        read_header(checkpoint)


def _parameters(params: tuple[str, ...]) -> dict[str, Any]:
    from argus_core.config import parse_value  # lazy: --help does not need it

    values = {}
    for param in params:
        key, equals, text = param.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(f"--param {param}: give KEY=VALUE, as in --param split=val")
        values[key.strip()] = parse_value(text.strip(), f"--param {param}")
    return values


def _dataset(data: str, params: dict[str, Any], needs_targets: bool) -> Any:
    from argus_core.data.datasets import build_dataset
    from argus_core.data.files import is_data_file, read_dataset

    if not is_data_file(data):
        return build_dataset((data, params), f"dataset {data!r}")
    if params:
        raise click.UsageError(
            f"--param is for a dataset that is chosen by name, and {data!r} is a file; leave it out"
        )
    dataset = read_dataset(Path(data))
    if needs_targets and len(dataset.tensors) == 1:
        raise ArgusError(
            f"{data!r} has no targets, which --metric needs; leave --metric out, "
            "or give a file with input and target"
        )
    return dataset
