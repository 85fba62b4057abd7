"""``argus predict``: predict with a checkpoint on files, or for a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from argus_core.cli.examples import examples
from argus_core.cli.launching_command import LaunchingCommand, in_all_processes
from argus_core.cli.output import echo
from argus_core.errors import ArgusError
from argus_core.runs.best_checkpoint import checkpoint_at
from argus_core.runs.outputs import check_output
from argus_core.storage import read_header
from argus_core.storage.file import open_file
from argus_core.storage.forms import is_folder

__all__ = ["command"]

_ARRAYS, _TABLE = Path("predictions.npz"), Path("predictions.csv")


@click.command(
    "predict",
    cls=LaunchingCommand,
    epilog=examples(
        "argus predict runs/digits/checkpoints/best.safetensors 'new/*.npy' --top 3",
        "argus predict runs/digits/checkpoints/best.safetensors new images.npy --output answers.jsonl",
        "argus predict runs/digits/checkpoints/best.safetensors digits --param split=val --metric accuracy",
        "argus predict runs/digits/checkpoints/best.safetensors images.npy --output arrays.npz",
        "argus predict runs/digits/checkpoints/best.safetensors photos/ --nproc-per-node 4",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True)
@click.option("--output", type=click.Path(path_type=Path),
              help="Write to PATH: .csv, .jsonl, .npz or .parquet for a table, and .npz, .npy, .csv or "
              ".safetensors for arrays.  [default: predictions.csv or predictions.npz]")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Overwrite the output if it exists.")
@click.option(
    "--resume", is_flag=True, help="Continue where an interrupted prediction on the same files ended."
)
@click.option("--top", type=click.IntRange(1), default=1, show_default=True, metavar="COUNT",
              help="Give this many classes for each sample, the likeliest first.")  # fmt: skip
@click.option("--all-classes", is_flag=True, help="Give the probability of each class in a column.")
@click.option(
    "--reader", metavar="NAME", help="Read all files by this reader; by default the suffix decides."
)
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE",
              help="Set a parameter of the dataset, or of the reader of --reader; repeatable.")  # fmt: skip
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Change the data of the checkpoint, as data.val.transform=...; repeatable.")  # fmt: skip
@click.option("--device", default="auto", show_default=True,
              help="Predict on this device: auto, cpu, cuda, cuda:1, ...")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1, 2**31 - 1), default=32, show_default=True,
              metavar="COUNT", help="Predict this many samples at a time.")  # fmt: skip
@click.option("--num-workers", type=click.IntRange(0, 1024), default=0, show_default=True, metavar="COUNT",
              help="Read files in this many processes.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="Compute a metric from the targets in DATA; repeatable.")  # fmt: skip
def command(
    checkpoint: Path, data: tuple[str, ...], output: Path | None, overwrite: bool, **options: Any
) -> None:
    """Predict with CHECKPOINT for each sample of DATA.

    CHECKPOINT is a checkpoint, or a run directory, which stands for its best checkpoint.

    DATA is a file, a folder or a pattern, or several: images (argus-torchvision), .csv, .parquet, .txt, .npy,
    .npz and .safetensors. The command prepares their samples as the validation data of the run were, and
    writes a table with the file, the row in it, the class and its probability, or the predicted values.
    Columns of tables are matched by the names of the features. The command skips what it cannot read, and
    lists that in a second table.

    DATA may also be the name of a dataset; or one .npy, .npz or .safetensors file with arrays "input" and
    perhaps "target", or a .csv file, whose column "target" is the target. The command then writes arrays, in
    the order of the samples. With --metric, it also prints the loss and each metric, with all digits. They
    equal those of training if --batch-size does. The step strategy compile is not used; this affects only
    speed and rounding.
    """
    params = _parameters(options.pop("params"))
    with in_all_processes(options["device"]) as is_first:
        checkpoint = checkpoint_at(checkpoint)
        _check_header(checkpoint)
        if _takes_arrays(checkpoint, data, output, options):
            if options["top"] > 1 or options["all_classes"] or options["changes"]:
                raise click.UsageError(
                    "--top, --all-classes and --set are for a table; give --output a name that ends in .csv "
                    "or .jsonl"
                )
            _predict_arrays(checkpoint, data[0], params, output or _ARRAYS, overwrite, options, is_first)
            return
        from argus_core.cli.predict_files import predict_files  # lazy: it imports torch

        if options.pop("metrics"):
            raise click.UsageError(
                "--metric is for a dataset, or for one file of arrays; use argus test for others"
            )
        predict_files(checkpoint, data, output or _TABLE, overwrite, params, is_first=is_first, **options)


def _takes_arrays(checkpoint: Path, data: tuple[str, ...], output: Path | None, options: Any) -> bool:
    """Return whether DATA is the name of a dataset or a single file of arrays to write arrays for."""
    if len(data) != 1 or options["reader"] is not None or options["resume"]:
        return False
    from argus_core.data.files import SUFFIXES, is_data_file
    from argus_core.prediction.sources import is_pattern
    from argus_core.registry.registry import names

    [each], suffix = data, "" if output is None else output.suffix.lower()
    if each in names("dataset") or options["metrics"]:
        return True
    if not is_data_file(each):
        return not (is_pattern(each) or Path(each).exists() or Path(each).suffix or each.endswith("/"))
    if is_pattern(each) or Path(each).is_dir() or suffix in (".jsonl", ".parquet"):
        return False
    if Path(each).suffix.lower() != ".csv" and suffix in ("", *SUFFIXES) and suffix != ".csv":
        return True
    from argus_core.checkpoint.formats import open_checkpoint

    with open_checkpoint(checkpoint) as saved:
        known = saved.data()
    return not (known.classes or known.feature_names or known.target_names)


def _predict_arrays(
    checkpoint: Path,
    data: str,
    params: dict[str, Any],
    output: Path,
    overwrite: bool,
    options: Any,
    is_first: bool,
) -> None:
    if is_first:
        check_output(output, checkpoint, Path(data), overwrite=overwrite)
    from argus_core.data import files as data_files  # imports torch, as do those below
    from argus_core.data.datasets import make_loader
    from argus_core.model.loading import load_model
    from argus_core.runs.prediction import for_evaluation, predict_all

    data_files.check_writable(output)
    metrics = options["metrics"]
    dataset = _dataset(data, params, needs_targets=bool(metrics))
    unused: dict[str, Any] = {"optimizer": None} if metrics else {"optimizer": None, "loss": None}
    model = load_model(checkpoint, device=options["device"], change_params_func=for_evaluation, **unused)
    loader = make_loader(dataset, options["batch_size"], num_workers=options["num_workers"])
    tensors, measured = predict_all(model, loader, list(metrics))
    if not is_first:
        return
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
