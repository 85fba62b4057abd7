"""What is public is listed, and what is listed is there."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import argus_core

EXPORTED = """
    Model load_model register resolve names isolated_registry Component Callback Metric Engine State
    StepOutput hookimpl on_start on_complete on_epoch_start on_epoch_complete on_iteration_start
    on_iteration_complete on_catch_exception on_event deep_to deep_detach deep_chunk initial_values_wanted
    ArgusError UnknownNameError AmbiguousNameError BrokenPluginError BlockedPluginError MissingPluginError
    SpecError ParamsError BuildError ConflictError ConfigError ArgusWarning
    CheckpointError CorruptCheckpointError UnsafeCheckpointError NewerCheckpointError StateMismatchError
""".split()

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(argus_core.__path__, "argus_core.")
    if not info.name.rpartition(".")[2].startswith("_")
)


def _defined_in(module: ModuleType) -> set[str]:
    """Return the classes and functions that a module defines itself, underscored ones aside."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and _is_definition(value) and value.__module__ == module.__name__
    }


def _is_definition(value: object) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


def test_package_exports_its_public_surface_exactly() -> None:
    assert sorted(argus_core.__all__) == sorted(EXPORTED)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_name_is_there(name: str) -> None:
    assert hasattr(argus_core, name)


def test_exported_names_are_offered_for_completion() -> None:
    assert dir(argus_core) == sorted(EXPORTED)


def test_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'argus_core' has no attribute 'Modle'"):
        argus_core.Modle  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_module_lists_what_it_makes_public(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])  # a package that only holds modules has none
    assert len(listed) == len(set(listed))
    assert all(hasattr(module, public) for public in listed)
    assert _defined_in(module) <= set(listed)


def test_public_packages_are_attributes_before_they_are_imported() -> None:
    code = "import argus_core; argus_core.callbacks.Checkpoint; argus_core.metrics.Accuracy"
    subprocess.run([sys.executable, "-c", code], check=True)
