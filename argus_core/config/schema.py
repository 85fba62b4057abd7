"""The schema of configuration files: every key of every section, its values and its default.

A spec (the choice of a component) in any form is parsed to a name or a tuple ``(name, {params})``::

    loss = "CrossEntropyLoss"
    optimizer = ["AdamW", { lr = 2e-3 }]
    nn_module = { name = "cnn", classes = 10 }

A section may also be named after a plugin's command, as ``[sweep]`` is: only that command parses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from argus_core.callbacks.cadence import DURATIONS, is_cadence, is_time
from argus_core.callbacks.limit import LIMITS, is_limit
from argus_core.config.init_from import read_init_from
from argus_core.config.specs import read_sets, read_spec, read_specs
from argus_core.config.split import read_split
from argus_core.errors import ConfigError, ParamsError, near
from argus_core.files.ordinary_files import as_path
from argus_core.registry.factory import described
from argus_core.registry.registry import components
from argus_core.registry.requirements import PUBLISHED

__all__ = [
    "BATCH_SIZE",
    "EXTENDS",
    "MOST_WORKERS",
    "SECTIONS",
    "TEMPLATE",
    "Key",
    "Sections",
    "check_section",
    "plain_model",
    "read_value",
    "unknown_key",
]

BATCH_SIZE = 32
"""The default number of samples in a batch."""

MOST_WORKERS = 256
"""The most worker processes that load data: each takes tens of megabytes."""

_MOST = 2**31 - 1  # of counts, the largest that torch's loops take on every system
_MOST_DIMENSIONS = 64  # of a tensor in torch
_MOST_THREADS = 1024
_MOST_AHEAD = 1024

EXTENDS = "extends"
TEMPLATE = "template"
"""The key before all sections that chooses the template of a file."""

Sections = dict[str, dict[str, Any]]
"""The values of each section by key, specs in their parsed form; sections of commands are unparsed."""

Read = Callable[[Any, str], Any]


@dataclass(frozen=True)
class Key:
    """One key of a section.

    Attributes:
        about: a short description.
        read: returns the parsed value; raises `ConfigError`.
        default: the value of an omitted key.
        required: whether the key is required.
        kind: the kind of the components that it chooses; "" if it chooses none.
        is_table: whether its value is a table, of which single values can be changed.
    """

    about: str
    read: Read
    default: Any = None
    required: bool = False
    kind: str = ""
    is_table: bool = False

    def check(self, value: Any, where: str) -> None:
        """Check a value that was given in Python; ``where`` is the beginning of the message.

        Raises:
            ParamsError: the key does not take it.
        """
        try:
            self.read(value, where)
        except ConfigError as error:
            raise ParamsError(str(error)) from None

    @property
    def takes(self) -> str:
        """A short description of the accepted values; "" for components."""
        return str(getattr(self.read, "takes", ""))


def read_value(sections: Sections, section: str, key: str, value: Any, source: str) -> Any:
    """Return the parsed ``value`` of ``key`` in ``section``; ``source`` is the beginning of messages."""
    where = f"{source}: [{section}] {key}"
    known = SECTIONS[section].get(key)
    own = section == "model" and not plain_model(sections)
    if known is None:
        if own:
            return value
        raise ConfigError(f"{source}: {unknown_key(section, key)}")
    if own and isinstance(value, dict) and "name" not in value:
        return value  # parameters of a part that the model class fixes
    return known.read(value, where)


def unknown_key(section: str, key: str) -> str:
    """Return the end of a message about a key that ``section`` does not have."""
    if key in (TEMPLATE, EXTENDS):
        return f"[{section}] has {key!r}, which belongs at the top of the file, before all sections"
    elsewhere = next((name for name, keys in SECTIONS.items() if key in keys), None)
    if elsewhere is not None:
        return f"[{section}] has {key!r}, which belongs under [{elsewhere}]"
    if key in ("lr", "learning_rate", "momentum", "weight_decay"):
        return f"[{section}] has {key!r}, a parameter of the optimizer: optimizer = ['Adam', {{ lr = 0.1 }}]"
    hint = near(key, SECTIONS[section]) or f"; it takes {', '.join(SECTIONS[section])}"
    return f"[{section}] has {key!r}{hint}"


def plain_model(sections: Sections) -> bool:
    """Return whether the model is a plain `Model`, whose keys are all in this schema."""
    return sections["model"].get("name", "Model") in ("Model", "argus-torch/Model")


def check_section(name: str, section: Any, source: str) -> None:
    """Raise `ConfigError` unless the section is known and a table."""
    if name in SECTIONS and isinstance(section, dict):
        return
    commands = () if name in SECTIONS else _commands()
    if name in commands and isinstance(section, dict):
        return
    if name in SECTIONS or name in commands:
        raise ConfigError(
            f"{source}: {name!r} is {described(section)}; write it as [{name}] with its keys below"
        )
    elsewhere = next((known for known, keys in SECTIONS.items() if name in keys), None)
    if elsewhere is not None:
        raise ConfigError(f"{source}: {name!r} is outside its section; move it under [{elsewhere}]")
    known = [*SECTIONS, *commands]
    hint = (
        near(name, [*known, TEMPLATE, EXTENDS])
        or f"; the sections are {', '.join(f'[{each}]' for each in known)}"
    )
    raise ConfigError(f"{source} has the section [{name}]{hint}")


def _commands() -> list[str]:
    """Return the names of commands that may have a section; called only for a section that is not built in.

    They include this project's own plugins where not installed, since training does not need them.
    """
    published = {name for kind, name in PUBLISHED if kind == "command"}
    return sorted(published | {component.name for component in components("command")})


@dataclass(frozen=True)
class _Value:
    """A reader of values: `accepts` returns whether a value is allowed; ``takes`` describes such values."""

    takes: str
    accepts: Callable[[Any], bool]

    def __call__(self, value: Any, where: str) -> Any:
        if not self.accepts(value):
            raise ConfigError(f"{where} is {described(value)}; give {self.takes}")
        return value


def _whole(least: int, most: int) -> Read:
    return _Value(
        f"a whole number from {least} to {_written(most)}",
        lambda value: type(value) is int and least <= value <= most,
    )


def _written(number: int) -> str:
    return f"2**{number.bit_length()} - 1" if number >= _MOST else str(number)


def _path(value: Any, where: str) -> Any:
    try:
        path = str(as_path(_TEXT(value, where)))
        return f"./{path}" if path.startswith("~") else path  # not a home folder, here or when read again
    except ValueError as error:
        raise ConfigError(f"{where} is {value!r}, which {error}") from error


def _is_device(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(type(item) is str or (type(item) is int and 0 <= item <= _MOST) for item in items)


def _is_texts(value: Any) -> bool:
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(text, str) and text for text in texts)


def _is_batch_dim(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(map(_is_batch_dim, value.values() if isinstance(value, dict) else value))
    return value == "entries" or (type(value) is int and 0 <= value < _MOST_DIMENSIONS)


_TEXT = _Value("a non-empty string", lambda value: isinstance(value, str) and value != "")
_CADENCE = _Value(DURATIONS, is_cadence)
_TIME = _Value("minutes or hours, such as '90min' or '3h'", is_time)
_LIMIT = _Value(LIMITS, is_limit)
_SWITCH = _Value("true or false", lambda value: isinstance(value, bool))
_PINNED = _Value("true, false or 'auto'", lambda value: isinstance(value, bool) or value == "auto")
_BATCH_DIM = _Value("a dimension below 64 or 'entries', or one for each entry of the batch", _is_batch_dim)
_PATTERNS = _Value("a pattern of parameter names, or a list of them", _is_texts)
_DEVICE = _Value("a device such as 'auto', 'cpu' or 'cuda:0'", _is_device)


def _one(kind: str, about: str, required: bool = False) -> Key:
    return Key(about, read_spec, required=required, kind=kind)


def _several(kind: str, about: str) -> Key:
    return Key(about, read_specs, kind=kind)


SECTIONS: dict[str, dict[str, Key]] = {
    "model": {
        "name": Key("a registered class of model", _TEXT, "Model"),
        "nn_module": _one("nn_module", "the network", required=True),
        "loss": _one("loss", "the loss", required=True),
        "optimizer": _one("optimizer", "the optimizer", required=True),
        "prediction_transform": _one("transform", "what turns the network's output into a prediction"),
        "step": _several("step", "the step strategies"),
        "device": Key("where to train", _DEVICE, "auto"),
        "parallel": _one("parallel", "the engine of a run of several processes; auto if left out"),
        "batch_dim": Key("the dimension of the samples in a batch, where it is not the first", _BATCH_DIM),
        "freeze": Key("patterns of the names of parameters that do not learn", _PATTERNS),
        "init_from": Key(
            "the file of weights to start from, and which to take", read_init_from, is_table=True
        ),
    },
    "data": {
        "train": _one("dataset", "the dataset to train on", required=True),
        "val": Key(
            "the dataset to validate on after each epoch, or a table of several by name",
            read_sets,
            kind="dataset",
        ),
        "test": _one("dataset", "the dataset to measure the best checkpoint on, after training"),
        "split": Key("the shares of train that become val and test", read_split, is_table=True),
        "batch_size": Key("samples in a batch", _whole(1, _MOST), BATCH_SIZE),
        "val_batch_size": Key("samples in a batch of val and test, batch_size if left out", _whole(1, _MOST)),
        "shuffle": Key("whether each epoch has its own order; false with a sampler", _SWITCH, True),
        "sampler": _one("sampler", "the choice and order of training samples"),
        "collate": _one("collate", "the function that makes a batch of samples"),
        "val_collate": _one("collate", "the same for val and test, collate if left out"),
        "drop_last": Key("whether to leave out a smaller last training batch", _SWITCH, False),
        "num_workers": Key("processes that read data", _whole(0, MOST_WORKERS), 0),
        "persistent_workers": Key("whether they stay for the next epoch; true if left out", _SWITCH),
        "prefetch_factor": Key("batches that each reads ahead; 2 if left out", _whole(1, _MOST_AHEAD)),
        "pin_memory": Key(
            "whether batches wait in memory that an accelerator reads faster; auto: on CUDA", _PINNED, "auto"
        ),
    },
    "fit": {
        "num_epochs": Key(
            "the most passes over the training data; 1 without num_updates and max_time", _whole(1, _MOST)
        ),
        "num_updates": Key("the most updates that move the weights", _whole(1, _MOST)),
        "max_time": Key("the most time for the whole run, resumed or not", _TIME),
        "validate_every": Key("how often to validate, besides at the end", _CADENCE, "1ep"),
        "log_every": Key("how often to log the metrics of training so far", _CADENCE),
        "limit_train": Key("the most updates in an epoch", _LIMIT),
        "limit_val": Key("the most batches in a validation", _LIMIT),
        "metrics": _several("metric", "the metrics besides the loss"),
        "metrics_on_train": Key("whether to compute the metrics in training too", _SWITCH, False),
        "callbacks": _several("callback", "callbacks besides those of every run"),
        "val_callbacks": _several("callback", "callbacks for the events of validation"),
        "lr_scheduler": _several("lr_scheduler", "learning-rate schedulers"),
        "monitor": Key(
            "the metric of the best checkpoint; val_loss (of the first set), or train_loss without val", _TEXT
        ),
        "checkpoint_every": Key("how often the last checkpoint is written", _CADENCE, "1ep"),
        "seed": Key(
            "fixes initial weights and the order of samples; drawn if left out", _whole(0, 2**64 - 1)
        ),
        "num_threads": Key(
            "CPU threads of torch; left out, torch decides; 1 for small networks", _whole(1, _MOST_THREADS)
        ),
        "run_dir": Key("the run directory or a pattern of it; runs/ and the file's name if left out", _path),
    },
}
"""Every key by section; a test compares the tables of docs/reference/config.md with it."""
