"""A run of several processes in a run directory: the first process has the directory, the others follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import distributed

from argus_core.config import Config
from argus_core.config.changes import with_params
from argus_core.errors import ConfigError
from argus_core.parallel.ending import ending_together
from argus_core.parallel.group import close_group, launcher_store, open_group, own_device
from argus_core.parallel.options import is_number
from argus_core.parallel.single import Single
from argus_core.runs.directory import RunDirectory
from argus_core.tensors.device import resolve_devices
from argus_core.tensors.processes import gather, is_first, process_count
from argus_core.tensors.single_process import is_restarted, started_processes

__all__ = [
    "FollowedDirectory",
    "earlier_start",
    "in_group_on",
    "in_one_group",
    "meet",
    "note_start",
    "of_the_first",
    "shared_choices",
]

_RUN = "argus/run_dir"  # in the launcher's store, which survives restarts


class FollowedDirectory(RunDirectory):
    """The run directory for a process that is not the first: it reads there, and changes nothing."""

    @contextmanager
    def held(self) -> Iterator[None]:
        yield

    def check(self, overwrite: bool) -> None:
        pass

    def check_held(self) -> None:
        pass

    def create(self, config: str, versions: Mapping[str, Any]) -> None:
        pass

    def settle(self) -> None:
        pass

    def give_up(self, discard: bool) -> str:
        return ""

    def change_config(self, text: str) -> None:
        pass

    def change_versions(self, versions: Mapping[str, Any]) -> None:
        pass

    def write_test(self, values: Mapping[str, float]) -> None:
        pass


@contextmanager
def in_one_group(read: Callable[[], Config]) -> Iterator[None]:
    """Open the group of the processes that a launcher has started, and close it after the block.

    Args:
        read: returns the configuration; called in a run of several processes only.
    """
    if started_processes() == 1:
        yield
        return
    config = read()
    options = with_params(config.model.get("parallel", "auto"))[1]
    timeout = options.get("timeout")  # the engine, which is built in the group, refuses other values
    with in_group_on(config.model["device"], timeout if is_number(timeout) else Single.timeout):
        yield


@contextmanager
def in_group_on(given: Any, timeout: float = Single.timeout) -> Iterator[None]:
    """Open the group of processes, each on its own device, and close it after the block.

    A group that is open stays so. If the block fails in one process, all end. Of several that fail for the
    same reason, such as a file that is missing, one says so.

    Args:
        given: the device that the user chooses.
        timeout: seconds that an operation may take.
    """
    is_open = distributed.is_initialized()
    open_group(own_device(resolve_devices(given), given)[0], timeout)
    failed = True
    try:
        with ending_together():
            yield
        failed = False
    finally:
        if not is_open:
            close_group(failed)


def shared_choices(config: Config | None, given: Config) -> Config:
    """Return the configuration with the run directory and the seed of the first process.

    Args:
        config: of the first process, in which they are chosen.
        given: as this process has read it.
    """
    if process_count() == 1:
        assert config is not None
        return config
    own = {} if config is None else {key: config.fit[key] for key in ("run_dir", "seed")}
    first = gather(own, _device())[0]
    return replace(given, fit={**given.fit, **first}) if config is None else config


def of_the_first(choice: bool) -> bool:
    """Return the choice of the first process; each must call this."""
    return choice if process_count() == 1 else bool(gather(choice, _device())[0])


def meet() -> None:
    """Wait until all processes are here."""
    if process_count() > 1:
        distributed.barrier()


def note_start(directory: RunDirectory) -> None:
    """Note the run directory for the processes of a restart."""
    store = launcher_store()
    if store is not None and is_first():
        with suppress(Exception):
            store.set(_RUN, json.dumps(str(directory.root)))


def earlier_start() -> RunDirectory | None:
    """Return the run directory of the processes before a restart; ``None`` without a restart."""
    store = launcher_store()
    if store is None or not is_restarted():
        return None
    try:
        return RunDirectory(Path(json.loads(store.get(_RUN)))) if store.check([_RUN]) else None
    except RuntimeError as error:
        raise ConfigError(f"the launcher's store is lost: {error}; start the run again") from error


def _device() -> Any:
    """Return a device on which the group of the run sends messages."""
    return resolve_devices("cpu" if distributed.get_backend() == "gloo" else "auto")[0]
