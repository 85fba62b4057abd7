"""The components that a checkpoint needs, compared with the installed packages; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from argus_core.checkpoint.records import Record, drift, find, missing, origin_of, records_of
from argus_core.doctor.fault import split_message
from argus_core.errors import ArgusError
from argus_core.registry.component import BUILTIN
from argus_core.registry.diagnosis import missing_action, missing_message
from argus_core.registry.distributions import versions_of
from argus_core.registry.requirements import pip_install, requirement
from argus_core.storage import read_header
from argus_core.storage.encoding import describe

__all__ = ["CheckpointReport", "Need", "examine_checkpoint"]

Versions = Mapping[str, str | None]


class Need(NamedTuple):
    """One component that a checkpoint needs.

    Attributes:
        kind: its kind.
        name: the name in the checkpoint.
        saved: the package and version when it was saved.
        here: the package and version that provides the name now, or ``""``.
        state: ``found``, ``drifted`` (another package or version), ``missing`` or ``unavailable`` (switched
            off, ambiguous, or pinned to a package that lacks it).
        problem: the problem, or ``""``.
        fix: the next action, or ``""``.
    """

    kind: str
    name: str
    saved: str
    here: str
    state: str
    problem: str = ""
    fix: str = ""


class CheckpointReport(NamedTuple):
    """The result of `examine_checkpoint`.

    Attributes:
        needs: all components that the checkpoint needs.
        versions: the versions of argus-torch, torch and Python, as ``(saved, here)`` by name.
        advice: if several components are missing, the command that installs all of them; otherwise ``""``.
    """

    needs: tuple[Need, ...]
    versions: dict[str, tuple[str, str]]
    advice: str


def examine_checkpoint(path: Path) -> CheckpointReport:
    """Return the components that a checkpoint needs, and which of them are missing or have drifted.

    Only the header is read and checked; nothing that it names is imported.

    Raises:
        CheckpointError: the file cannot be read, or was not written by argus_core.
    """
    manifest = read_header(path).manifest
    records = records_of(manifest, path)
    here = versions_of({record["provider"] or "" for _, record in records} | {BUILTIN, "torch"})
    needs = [_need(kind, record, here) for kind, record in records]
    lacking = [missing(*each) for each, need in zip(records, needs, strict=True) if need.state == "missing"]
    advice = missing_message(lacking) if len(lacking) > 1 else ""
    return CheckpointReport(tuple(needs), _versions(manifest, here), advice)


def _need(kind: str, record: Record, here: Versions) -> Need:
    saved = origin_of(record["provider"], record["version"])
    try:
        component = find(kind, record)
    except ArgusError as error:
        return Need(kind, record["as"], saved, "", "unavailable", *split_message(str(error)))
    if component is None:
        fix = missing_action([missing(kind, record)])
        return Need(kind, record["as"], saved, "", "missing", _absence(record, here), fix)
    if drift(kind, record, component) is None:
        return Need(kind, record["as"], saved, component.origin, "found")
    problem = f"was provided by {saved}, and now by {component.origin}"
    wanted = requirement(record["provider"] or "", record["version"])
    fix = f"{pip_install([wanted]) if wanted else 'install or register the original'} if results differ"
    return Need(kind, record["as"], saved, component.origin, "drifted", problem, fix)


def _absence(record: Record, here: Versions) -> str:
    """Return the reason that no installed package provides a component."""
    provider, version = record["provider"], record["version"]
    if not provider:
        return f"was registered in the process that saved it, {record['entry_point'] or record['as']}"
    if here[provider] is None:
        return f"is provided by {provider} {version}, which is not installed"
    return f"is provided by {provider} {version}, but not by the installed {provider} {here[provider]}"


def _versions(manifest: Mapping[str, Any], installed: Versions) -> dict[str, tuple[str, str]]:
    import platform  # lazy, to keep start-up fast

    saved = manifest.get("versions")
    saved = saved if isinstance(saved, Mapping) else {}
    here = {"argus": installed[BUILTIN], "torch": installed["torch"], "python": platform.python_version()}
    return {key: (str(describe(saved.get(key, "unknown"))), here[key] or "none") for key in here}
