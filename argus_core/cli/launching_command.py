"""Commands of several processes, too: with torchrun's options they start themselves in it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from argus_core.cli.building_command import BuildingCommand
from argus_core.errors import ArgusWarning, ConfigError
from argus_core.tensors.single_process import is_first_started, started_processes

__all__ = ["LaunchingCommand", "in_all_processes", "split_arguments"]

_LAUNCHING = "argus_core.launching"
_FLAGS = ("--standalone",)
_VALUES: dict[str, str] = {
    "--nproc-per-node": "Start N processes on this host (also: gpu, cpu, auto).",
    "--nnodes": "The number of hosts, or MIN:MAX.",
    "--node-rank": "The number of this host, without a rendezvous.",
    "--rdzv-backend": "c10d, where hosts meet at an endpoint.",
    "--rdzv-endpoint": "The address HOST:PORT of one of the hosts.",
    "--rdzv-id": "A name that all hosts of the run give.",
    "--rdzv-conf": "Further options of the rendezvous.",
    "--max-restarts": "Restart all processes at most so many times after one has died.",
    "--monitor-interval": "Seconds between looks at the processes.",
    "--master-addr": "The address of the first host, without a rendezvous.",
    "--master-port": "Its port.",
    "--local-addr": "The address of this host.",
    "--log-dir": "The folder of the processes' output.",
    "--redirects": "Which output goes to that folder: 0 none, 1 stdout, 2 stderr, 3 both.",
    "--tee": "The same, besides the terminal.",
    "--local-ranks-filter": "The processes whose output is shown.",
}
_METAVARS = {"--nproc-per-node": "N", "--max-restarts": "N", "--nnodes": "N", "--node-rank": "N"}
_TOGETHER = ("--nnodes", "--node-rank", "--rdzv-backend", "--rdzv-endpoint", "--master-addr", "--master-port")


class LaunchingCommand(BuildingCommand):
    """A command that trains or evaluates; with torchrun's options it starts itself in several processes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, about in _VALUES.items():
            metavar = _METAVARS.get(name, "VALUE")
            self.params.append(click.Option([name], metavar=metavar, expose_value=False, help=about))
        about = "All processes are on this host; the default there."
        self.params.append(click.Option(["--standalone"], is_flag=True, expose_value=False, help=about))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if {"--help", "-h"} & {*args}:
            return super().parse_args(ctx, args)
        launching, rest = split_arguments(args)
        ctx.meta[_LAUNCHING] = launching, [*rest]
        return super().parse_args(ctx, rest)

    def invoke(self, ctx: click.Context) -> Any:
        launching, rest = ctx.meta.get(_LAUNCHING, ([], []))
        if not launching:
            return super().invoke(ctx)
        if "WORLD_SIZE" in os.environ:
            raise ConfigError(
                f"{launching[0]} starts processes, and this is one of {os.environ['WORLD_SIZE']} that a "
                "launcher has started; leave the option out"
            )
        _start(str(self.name), launching, rest)


@contextmanager
def in_all_processes(device: str) -> Iterator[bool]:
    """Run the block in all processes that a launcher has started; yield whether this one prints and writes.

    Args:
        device: the user's choice.
    """
    if started_processes() == 1:
        yield True
        return
    from argus_core.runs.together import in_group_on  # imports torch

    with in_group_on(device), warnings.catch_warnings():
        if not is_first_started():
            warnings.simplefilter("ignore", ArgusWarning)
        yield is_first_started()


def split_arguments(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments of torchrun, and the others."""
    launching: list[str] = []
    rest: list[str] = []
    waiting = iter(args)
    for each in waiting:
        name, has_value, _ = each.partition("=")
        name = name.replace("_", "-")
        if each == "--":
            rest += [each, *waiting]
        elif name in _FLAGS:
            launching.append(each)
        elif name in _VALUES:
            launching.append(each)
            if not has_value:
                value = next(waiting, None)
                if value is None:
                    raise ConfigError(f"{each} has no value; give one: {_VALUES[name]}")
                launching.append(value)
        else:
            rest.append(each)
    return launching, rest


def _start(command: str, launching: list[str], rest: list[str]) -> None:
    """Replace this process by the launcher, which starts the command in each process."""
    names = {each.partition("=")[0].replace("_", "-") for each in launching if each.startswith("--")}
    if not names & {*_TOGETHER, "--standalone"}:
        launching = ["--standalone", *launching]
    count = _count(launching)
    threads = max(1, (os.cpu_count() or 1) // count)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    sys.stdout.flush()
    sys.stderr.flush()
    program = [
        sys.executable,
        "-m",
        "argus_core.cli.launcher",
        *launching,
        "-m",
        "argus_core",
        command,
        *rest,
    ]
    os.execv(sys.executable, program)


def _count(launching: list[str]) -> int:
    """Return the number of processes on this host, if it is a number."""
    for number, each in enumerate(launching):
        name, has_value, value = each.partition("=")
        if name.replace("_", "-") == "--nproc-per-node":
            value = value if has_value else launching[number + 1]
            return max(1, int(value)) if value.isdecimal() else 1
    return 1
