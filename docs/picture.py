"""Draw ``one-update.svg``, the picture of the first page: which strategies of a real model act in which slot.

``python docs/picture.py`` draws it again; a test fails if the file is not what this draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import argus_core

FILE = Path(__file__).with_name("one-update.svg")
PARAMS = {
    "nn_module": ("cnn", {"classes": 10}),
    "loss": "CrossEntropyLoss",
    "optimizer": ("AdamW", {"lr": 2e-3}),
    "step": [
        ("accumulate", {"steps": 2}),
        ("microbatch", {"size": 16}),
        "amp",
        ("clip_grad_norm", {"max_norm": 1.0}),
        "ema",
    ],
    "device": "cpu",
}
BEFORE = {
    "window_size": "collect a window of loader batches",
    "prepare_batch": "move it to the device",
    "split_window": "split it into micro-batches",
}
EACH = {
    "forward_context": "forward and loss",
    "scale_loss": "weigh and scale the loss",
    "backward": "backward",
}
THEN = {
    "unscale": "unscale gradients",
    "transform_gradients": "change gradients",
    "allow_update": "may this update happen?",
    "apply_update": "optimizer.step()",
    "after_update": "after the update",
}
# Of each strategy: fill and line.
COLOURS = [
    ("#dbeafe", "#1d4ed8"),
    ("#dcfce7", "#15803d"),
    ("#fef3c7", "#b45309"),
    ("#ede9fe", "#6d28d9"),
    ("#ffe4e6", "#be123c"),
]
PLAIN = ("#ffffff", "#6b7280")
INK = "#111827"
WIDTH, TOP, LEFT, BOX, HEIGHT, STEP = 620, 24, 28, 310, 32, 46
MIDDLE, PILL = LEFT + BOX // 2, LEFT + BOX + 60


def drawing() -> str:
    """Return the picture as SVG, on a light ground of its own so that it is legible on a dark page."""
    model = argus_core.Model(PARAMS)
    names = sorted(
        {name for slot in {**BEFORE, **EACH, **THEN} for name in model.step_members(slot)} - {"default"}
    )
    colours = dict(zip(names, COLOURS, strict=True))
    shapes = [*_slots(model, colours, BEFORE, TOP)]
    loop = TOP + len(BEFORE) * STEP
    then = loop + 30 + len(EACH) * STEP + 10
    shapes += [_arrow(loop), _loop(loop, then - STEP + HEIGHT), *_slots(model, colours, EACH, loop + 30, 24)]
    shapes += [_arrow(then), *_slots(model, colours, THEN, then)]
    end = then + len(THEN) * STEP
    legend = "white: what a plain training loop does; colours: the step strategies that you chose"
    shapes.append(f'<text x="{LEFT}" y="{end + 10}" font-size="12.5" fill="{INK}">{legend}</text>')
    return _page(end + 28, shapes)


def _page(height: int, shapes: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' font-family="system-ui, Helvetica, Arial, sans-serif" font-size="14.5">'
    )
    title = "<title>One optimizer update: its slots from top to bottom, and the strategies in them</title>"
    arrow = (
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        f' orient="auto"><path d="M0 0 8 4 0 8z" fill="{PLAIN[1]}"/></marker></defs>'
    )
    size = f'width="{WIDTH - 1}" height="{height - 1}" rx="8"'
    ground = f'<rect x="0.5" y="0.5" {size} fill="#f8fafc" stroke="#cbd5e1"/>'
    return "\n".join([head, title, arrow, ground, *shapes, "</svg>", ""])


def _slots(
    model: argus_core.Model,
    colours: dict[str, tuple[str, str]],
    slots: dict[str, str],
    top: int,
    indent: int = 0,
) -> Iterator[str]:
    """Yield slots from top to bottom, with an arrow from each to the next and the strategies in them."""
    for index, (slot, text) in enumerate(slots.items()):
        y = top + index * STEP
        (name, *_) = [*filter(colours.get, model.step_members(slot)), ""]
        if index:
            yield _arrow(y)
        if name:
            yield _strategy(name, y, LEFT + BOX - indent, colours[name])
        yield _box(LEFT + indent, y, BOX - 2 * indent, 4, colours.get(name, PLAIN))
        yield f'<text x="{MIDDLE}" y="{y + 21}" text-anchor="middle" fill="{INK}">{text}</text>'


def _strategy(name: str, y: int, slot: int, colour: tuple[str, str]) -> str:
    """Return a strategy's name beside its slot, which ends at the abscissa ``slot``."""
    line = f'<path d="M{PILL} {y + HEIGHT // 2}H{slot}" stroke="{colour[1]}" stroke-width="1.5"/>'
    width = WIDTH - PILL - LEFT
    return (
        f"{line}{_box(PILL, y, width, HEIGHT // 2, colour)}"
        f'<text x="{PILL + width // 2}" y="{y + 21}" fill="{INK}" text-anchor="middle"'
        f' font-family="ui-monospace, Consolas, monospace" font-size="14">{name}</text>'
    )


def _arrow(y: int) -> str:
    """Return the arrow that ends at the top of a slot."""
    return f'<path d="M{MIDDLE} {y - STEP + HEIGHT}V{y - 1}" stroke="{PLAIN[1]}" marker-end="url(#arrow)"/>'


def _loop(top: int, bottom: int) -> str:
    """Return the frame around the slots of a micro-batch, with the arrow back to the first of them."""
    frame = f'x="{LEFT}" y="{top}" width="{BOX}" height="{bottom - top}" rx="6"'
    first, last = top + 30 + HEIGHT // 2, bottom - 10 - HEIGHT // 2
    back = f"M{LEFT + 24} {last}H{LEFT + 10}V{first}H{LEFT + 23}"
    return (
        f'<rect {frame} fill="#eef2f7" stroke="{PLAIN[1]}" stroke-dasharray="5 4"/>'
        f'<path d="{back}" fill="none" stroke="{PLAIN[1]}" marker-end="url(#arrow)"/>'
        f'<text x="{LEFT + 24}" y="{top + 20}" font-size="13" fill="{INK}">for each micro-batch</text>'
    )


def _box(x: int, y: int, width: int, radius: int, colour: tuple[str, str]) -> str:
    fill, line = colour
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="{radius}" fill="{fill}"'
        f' stroke="{line}" stroke-width="1.5"/>'
    )


if __name__ == "__main__":
    FILE.write_text(drawing(), "utf-8")
