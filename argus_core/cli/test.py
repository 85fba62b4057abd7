"""``argus test``: evaluate a checkpoint on the validation and test sets of its run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from argus_core.cli.examples import examples
from argus_core.cli.launching_command import LaunchingCommand, in_all_processes
from argus_core.cli.options import AS_JSON
from argus_core.cli.output import counted, echo, echo_json
from argus_core.cli.table import print_table
from argus_core.runs.outputs import check_output

if TYPE_CHECKING:
    from argus_core.runs.evaluation import SetResult

__all__ = ["command"]

_SHARES = ("precision", "recall", "f1")


@click.command(
    "test",
    cls=LaunchingCommand,
    epilog=examples(
        "argus test runs/digits/checkpoints/best.safetensors",
        "argus test runs/digits/checkpoints/best.safetensors --metric mse --csv results.csv",
        "argus test runs/digits --nproc-per-node 2",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--on", "sets", multiple=True, metavar="SET",
              help="Evaluate on this set alone: val, test, or val_NAME of several; repeatable.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME",
              help="Compute this metric, too; repeatable.")  # fmt: skip
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Change the data, as in data.test.root=photos; repeatable.")  # fmt: skip
@click.option("--device", default="auto", show_default=True,
              help="Evaluate on this device: auto, cpu, cuda, cuda:1, ...")  # fmt: skip
@click.option("--csv", "table", type=click.Path(path_type=Path), metavar="PATH",
              help="Write the results to PATH as CSV.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Overwrite the CSV file if it exists.")
@AS_JSON
def command(
    checkpoint: Path,
    sets: tuple[str, ...],
    metrics: tuple[str, ...],
    changes: tuple[str, ...],
    device: str,
    table: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Evaluate CHECKPOINT on the validation and test sets of its run.

    CHECKPOINT is a checkpoint of argus train, or a run directory, which stands for its best checkpoint. The
    command builds the datasets that the checkpoint names, and computes the metrics of the run. They have all
    the digits of the run if its validation was not limited. For a classifier, a table has the results of each
    class.
    """
    with in_all_processes(device) as is_first:
        if table is not None and is_first:
            check_output(table, checkpoint, overwrite=overwrite)
        from argus_core.runs.evaluation import evaluate  # imports torch

        results = evaluate(checkpoint, changes, metrics, sets, device)
        if is_first:
            _report(checkpoint, results, table, overwrite, as_json)


def _report(
    checkpoint: Path, results: Mapping[str, SetResult], table: Path | None, overwrite: bool, as_json: bool
) -> None:
    if as_json:
        sets_of = {name: _record(each) for name, each in results.items()}
        echo_json({"checkpoint": str(checkpoint), "sets": sets_of})
    else:
        for name, result in results.items():
            _print(name, result)
    if table is not None:  # last, so that a full disk loses no result
        check_output(table, checkpoint, overwrite=overwrite)  # another program may have written there
        _write_csv(table, results)
        echo(f"results: {table}", err=as_json)


def _print(name: str, result: SetResult) -> None:
    size = "" if result.samples is None else f" ({counted(result.samples, 'sample')})"
    echo(
        f"{name}: {'a part of train' if result.spec is None else json.dumps(result.spec, default=str)}{size}"
    )
    echo(*(f"{metric}: {value!r}" for metric, value in result.metrics.items()))
    if result.classes:
        rows = [
            [label, str(each.targets), *(_short(getattr(each, share)) for share in _SHARES)]
            for label, each in result.classes
        ]
        print_table(["class", "targets", *_SHARES], rows)


def _short(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.4f}"


def _record(result: SetResult) -> dict[str, Any]:
    return {
        "data": result.spec,
        "samples": result.samples,
        "metrics": result.metrics,
        "classes": [
            {"class": label} | {key: None if value != value else value for key, value in asdict(each).items()}
            for label, each in result.classes
        ],
    }


def _rows(results: Mapping[str, SetResult]) -> Iterator[tuple[Any, ...]]:
    for name, result in results.items():
        yield from ((name, "", metric, value) for metric, value in result.metrics.items())
        for label, each in result.classes:
            yield from ((name, label, key, value) for key, value in asdict(each).items())


def _write_csv(path: Path, results: Mapping[str, SetResult]) -> None:
    import csv  # lazy, to keep start-up fast
    import io

    from argus_core.storage.replacement import replacement

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("set", "class", "name", "value"))
    writer.writerows(_rows(results))
    with replacement(path, "file") as file:
        file.write(text.getvalue().encode("utf-8", "surrogatepass"))
