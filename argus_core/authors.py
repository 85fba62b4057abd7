"""The surface for authors of plugins that go deeper than one part: commands, templates, trackers, searches.

`argus_core` has what every part needs, `argus_core.testing` its checks, and this module all that a plugin may
import besides. Other modules of the package may change with any release.

Names are imported on first use: a command is listed, and its help is shown, without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers; at run time __getattr__ imports on first use
    from argus_core.callbacks import Checkpoint as Checkpoint
    from argus_core.callbacks import EarlyStopping as EarlyStopping
    from argus_core.callbacks import LoggingToCSV as LoggingToCSV
    from argus_core.callbacks.cadence import Cadence as Cadence
    from argus_core.callbacks.cadence import parse_cadence as parse_cadence
    from argus_core.callbacks.epoch_report import EpochRecord as EpochRecord
    from argus_core.callbacks.epoch_report import EpochReport as EpochReport
    from argus_core.callbacks.epoch_report import plain_metrics as plain_metrics
    from argus_core.callbacks.epoch_report import update_loss as update_loss
    from argus_core.callbacks.log import LineFormatter as LineFormatter
    from argus_core.callbacks.monitor import Monitor as Monitor
    from argus_core.callbacks.monitor import check_monitor as check_monitor
    from argus_core.callbacks.monitor import monitored_value as monitored_value
    from argus_core.checkpoint.formats import open_checkpoint as open_checkpoint
    from argus_core.checkpoint.legacy import check_legacy_state as check_legacy_state
    from argus_core.cli import main as main
    from argus_core.cli.examples import examples as examples
    from argus_core.cli.output import echo as echo
    from argus_core.cli.output import echo_json as echo_json
    from argus_core.cli.table import print_table as print_table
    from argus_core.cli.torch_command import TorchCommand as TorchCommand
    from argus_core.config import SECTIONS as SECTIONS
    from argus_core.config import Config as Config
    from argus_core.config import complete_config as complete_config
    from argus_core.config import read_config as read_config
    from argus_core.config import read_document as read_document
    from argus_core.errors import near as near
    from argus_core.files.confinement import confined as confined
    from argus_core.files.confinement import opener as opener
    from argus_core.files.ordinary_files import open_ordinary as open_ordinary
    from argus_core.files.output_files import checked_path as checked_path
    from argus_core.files.output_files import make_folder as make_folder
    from argus_core.files.output_files import making_files as making_files
    from argus_core.files.output_files import place_to_write as place_to_write
    from argus_core.files.output_files import writing as writing
    from argus_core.hooks import hookspec as hookspec
    from argus_core.metrics import Accuracy as Accuracy
    from argus_core.metrics import MeanMetric as MeanMetric
    from argus_core.metrics import Reduction as Reduction
    from argus_core.model.choice import choose as choose
    from argus_core.registry.factory import build_component as build_component
    from argus_core.registry.factory import build_many as build_many
    from argus_core.registry.factory import call_factory as call_factory
    from argus_core.registry.factory import check_params as check_params
    from argus_core.registry.file_params import FUNCTION as FUNCTION
    from argus_core.registry.file_params import OBJECT as OBJECT
    from argus_core.registry.file_params import READS as READS
    from argus_core.registry.file_params import WRITES as WRITES
    from argus_core.registry.file_params import FileParam as FileParam
    from argus_core.registry.part import KIND_OF_PART as KIND_OF_PART
    from argus_core.registry.part import Part as Part
    from argus_core.registry.registry import components as components
    from argus_core.registry.spec import Spec as Spec
    from argus_core.registry.spec import parse_spec as parse_spec
    from argus_core.registry.spec import parse_specs as parse_specs
    from argus_core.runs.directory import RunDirectory as RunDirectory
    from argus_core.runs.run import Result as Result
    from argus_core.runs.run import build_model as build_model
    from argus_core.runs.run import resume as resume
    from argus_core.runs.run import train as train
    from argus_core.runs.series import run_series as run_series
    from argus_core.steps.output import Window as Window
    from argus_core.steps.reduction import mean_divisor as mean_divisor
    from argus_core.steps.update import Update as Update
    from argus_core.steps.weights import Weights as Weights
    from argus_core.storage.replacement import replacement as replacement
    from argus_core.storage.stored import COUNT as COUNT
    from argus_core.storage.stored import Rule as Rule
    from argus_core.storage.stored import check_state as check_state
    from argus_core.tensors.batch import deep_map as deep_map
    from argus_core.tensors.device import resolve_devices as resolve_devices
    from argus_core.tensors.processes import is_first as is_first
    from argus_core.text import one_line as one_line
    from argus_core.training.fit import build_metrics as build_metrics
    from argus_core.training.interruption import check_interruption as check_interruption

_EXPORTS: dict[str, tuple[str, ...]] = {
    "errors": ("near",),
    "hooks": ("hookspec",),
    "text": ("one_line",),
    "files.confinement": (
        "confined",
        "opener",
    ),
    "files.ordinary_files": ("open_ordinary",),
    "registry.factory": (
        "build_component",
        "build_many",
        "call_factory",
        "check_params",
    ),
    "registry.file_params": (
        "FUNCTION",
        "OBJECT",
        "READS",
        "WRITES",
        "FileParam",
    ),
    "registry.part": (
        "KIND_OF_PART",
        "Part",
    ),
    "registry.registry": ("components",),
    "registry.spec": (
        "Spec",
        "parse_spec",
        "parse_specs",
    ),
    "storage.replacement": ("replacement",),
    "storage.stored": (
        "COUNT",
        "Rule",
        "check_state",
    ),
    "tensors.batch": ("deep_map",),
    "tensors.device": ("resolve_devices",),
    "tensors.processes": ("is_first",),
    "steps.output": ("Window",),
    "steps.reduction": ("mean_divisor",),
    "steps.update": ("Update",),
    "steps.weights": ("Weights",),
    "callbacks": (
        "Checkpoint",
        "EarlyStopping",
        "LoggingToCSV",
    ),
    "callbacks.cadence": (
        "Cadence",
        "parse_cadence",
    ),
    "callbacks.epoch_report": (
        "EpochRecord",
        "EpochReport",
        "plain_metrics",
        "update_loss",
    ),
    "callbacks.log": ("LineFormatter",),
    "callbacks.monitor": (
        "Monitor",
        "check_monitor",
        "monitored_value",
    ),
    "files.output_files": (
        "checked_path",
        "make_folder",
        "making_files",
        "place_to_write",
        "writing",
    ),
    "metrics": (
        "Accuracy",
        "MeanMetric",
        "Reduction",
    ),
    "config": (
        "SECTIONS",
        "Config",
        "complete_config",
        "read_config",
        "read_document",
    ),
    "checkpoint.formats": ("open_checkpoint",),
    "checkpoint.legacy": ("check_legacy_state",),
    "training.fit": ("build_metrics",),
    "training.interruption": ("check_interruption",),
    "model.choice": ("choose",),
    "runs.directory": ("RunDirectory",),
    "runs.run": (
        "Result",
        "build_model",
        "resume",
        "train",
    ),
    "runs.series": ("run_series",),
    "cli": ("main",),
    "cli.examples": ("examples",),
    "cli.output": (
        "echo",
        "echo_json",
    ),
    "cli.table": ("print_table",),
    "cli.torch_command": ("TorchCommand",),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module 'argus_core.authors' has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f"argus_core.{module}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return __all__
