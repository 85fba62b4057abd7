"""The text that `Model.explain` returns: each hook of the update with the strategies that implement it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from argus_core.abstract_model import AbstractModel
from argus_core.steps.composition import Composed
from argus_core.steps.hooks import Composition, composition_of

__all__ = ["explain", "group_lines", "unfreezing_lines"]

_LAYOUT: tuple[tuple[str, str], ...] = (
    ("set_up", "set up"),
    ("window_size", "window ─► {window} to one update"),
    ("prepare_batch", "├─ prepare batch"),
    ("split_window", "├─ split window into micro-batches"),
    ("micro_batch_weight", "├─ weight of a micro-batch"),
    ("run_procedure", "├─ procedure"),
    ("", "│  ├─ gradients(): zero_grad, then for each micro-batch"),
    ("sync_context", "│  │  ├─ sync ⟨"),
    ("forward_context", "│  │  ├─   forward ⟨"),
    ("forward_loss", "│  │  ├─     forward and loss ⟩⟩"),
    ("scale_loss", "│  │  ├─ weigh and scale loss"),
    ("backward", "│  │  └─ backward"),
    ("out_of_memory", "│  ├─ out of memory: split smaller?"),
    ("unscale", "│  ├─ unscale"),
    ("transform_gradients", "│  ├─ transform gradients"),
    ("allow_update", "│  ├─ may this update happen?"),
    ("apply_update", "│  └─ apply"),
    ("after_update", "├─ after the update (stepped?)"),
    ("finish_prediction", "├─ finish a prediction"),
    ("evaluation_context", "└─ around validation and prediction ⟨⟩"),
)

_LEGEND = """
—          no strategy adds anything
default    what a plain training loop does
a ─► b     a runs first, then b
a + b      a and b must both agree
⟨ ... ⟩    a context manager is open around what the brackets enclose"""


def explain(model: AbstractModel, composed: Composed) -> str:
    """Return the update of ``model`` as text, one slot per line, with a legend."""
    (window_size,) = composed.implementations("window_size", model)
    size = window_size()
    window = "1 loader batch" if size == 1 else f"{size} loader batches"
    rows = [(text.format(window=window), _members(slot, composed, model)) for slot, text in _LAYOUT]
    width = max(len(text) for text, members in rows if members) + 2
    head = "one optimizer update of " + _title(model)
    drawn = [line for text, members in rows for line in _lines(text, members, width)]
    notes = [*_declared(composed), *group_lines(model.optimizer), *unfreezing_lines(composed)]
    notes += model.parallel.notes(model)
    return "\n".join([head, *drawn, *notes, _LEGEND])


def _declared(composed: Composed) -> Iterator[str]:
    """Yield the conflicts, requirements and orders that the strategies declare about others."""
    for strategy in composed.strategies:
        for trait, reason in strategy.conflicts.items():
            yield f"{strategy.name} does not go with {trait}: {reason}"
        for trait, reason in strategy.requires.items():
            yield f"{strategy.name} needs {trait}: {reason}"


def group_lines(optimizer: Any) -> Iterator[str]:
    """Yield a line for each of several parameter groups: its name, its size and the options that differ."""
    groups = getattr(optimizer, "param_groups", ())
    if len(groups) < 2:
        return
    options = dict.fromkeys(key for group in groups for key in group if key not in ("params", "name"))
    differing = [key for key in options if len({repr(group.get(key)) for group in groups}) > 1]
    for number, group in enumerate(groups):
        size = sum(parameter.numel() for parameter in group["params"])
        values = ", ".join(f"{key} {_value(group.get(key))}" for key in dict.fromkeys(["lr", *differing]))
        yield f"parameter group {group.get('name', number)!r}: {size:,} values, {values}"


def unfreezing_lines(composed: Composed) -> Iterator[str]:
    """Yield a line for each set of parameters that is frozen for a part of the run."""
    for strategy in composed.unfreezing():
        yield from strategy.notes()


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _lines(text: str, members: list[str], width: int) -> Iterator[str]:
    """Yield a slot's lines: its first strategy beside its text, and each other one below."""
    yield f"{text:<{width}}{members[0]}" if members else text
    bars = text.partition("─")[0].replace("├", "│").replace("└", "") if text[0] in "│├└" else ""
    for member in members[1:]:
        yield f"{bars:<{width}}{member}"


def _members(slot: str, composed: Composed, model: AbstractModel) -> list[str]:
    if not slot:
        return []
    if slot == "forward_loss":
        return [f"{type(model).__name__}.forward_loss"]
    names = [f"{strategy.name} ({strategy.provider})" for strategy in composed.members(slot, model)]
    arrow = "+" if composition_of(slot) is Composition.VOTE else "─►"
    return [names[0], *(f"{arrow} {name}" for name in names[1:])] if names else ["—"]


def _title(model: AbstractModel) -> str:
    return f"{type(model).__name__}: {', '.join(_titles(model))}, device {model.device}"


def _titles(model: AbstractModel) -> Iterator[str]:
    for slot, part in model.parts.items():
        if part is not None:
            provider = part.component.provider if part.component is not None else None
            yield f"{slot} {part.name!r}" + (f" ({provider})" if provider else "")
