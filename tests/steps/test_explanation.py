"""The drawing of one update."""

from __future__ import annotations

import re
from typing import Any

import pytest
from strategies import CLIP, CUT, PARAMS, Record, Veto, build, given

from argus_core import Model
from argus_core.registry.distributions import version_of
from argus_core.steps.explanation import _LAYOUT
from argus_core.steps.strategy import SLOTS

pytestmark = pytest.mark.usefixtures("strategies_registry")


def line(drawing: str, start: str) -> str:
    """Return the strategies in the slot whose line starts so, which stand one below the other."""
    joined = re.sub(r"\n[│ ]*(?=(?:─►|\+) \w)", " ", drawing.partition("\n\n")[0])
    (found,) = [each for each in joined.splitlines() if each.lstrip("│├└─ ").startswith(start)]
    return found.lstrip("│├└─ ").removeprefix(start).strip()


def builtin() -> str:
    return f"(argus-torch {version_of('argus-torch')})"


def test_every_slot_has_a_line_but_those_of_saved_state() -> None:
    assert {slot for slot, _ in _LAYOUT} - {"", "forward_loss"} == {*SLOTS} - {
        "state_dict",
        "load_state_dict",
    }


def test_the_first_line_says_what_is_trained() -> None:
    first = build(prediction_transform=("Softmax", {"dim": 1})).explain().splitlines()[0]
    provider = r" (argus-torch)"
    assert first == (
        f"one optimizer update of Model: nn_module 'net', loss 'CrossEntropyLoss'{provider}, "
        f"optimizer 'SGD'{provider}, prediction_transform 'Softmax'{provider}, device cpu"
    )


def test_each_strategy_stands_in_its_slots_with_its_package() -> None:
    drawing = build("amp", *CUT, CLIP).explain()
    package = r"(argus-torch "
    assert line(drawing, "window ─► 2 loader batches to one update").startswith(f"accumulate {package}")
    assert line(drawing, "split window into micro-batches").startswith(f"microbatch {package}")
    assert line(drawing, "forward ⟨").startswith(f"amp {package}")
    assert line(drawing, "transform gradients").startswith(f"clip_grad_norm {package}")
    assert line(drawing, "procedure").startswith(f"default {package}")
    assert line(drawing, "forward and loss ⟩⟩") == "Model.forward_loss"
    assert line(drawing, "may this update happen?") == "—"


def test_a_strategy_of_this_process_says_so() -> None:
    drawing = build(given(Veto([]))).explain()
    assert line(drawing, "may this update happen?") == "own_veto (registered in process)"


def test_several_in_one_slot_stand_in_their_order_and_votes_add_up() -> None:
    own = "(registered in process)"
    drawing = build(given(Record()), "ema", given(Veto([]))).explain()
    assert line(drawing, "after the update (stepped?)") == f"ema {builtin()} ─► own_record {own}"
    assert line(drawing, "may this update happen?") == f"own_record {own} + own_veto {own}"


def test_strategies_in_one_slot_stand_below_each_other_and_the_tree_goes_on_beside_them() -> None:
    lines = build(given(Record()), "ema", given(Veto([]))).explain().splitlines()
    after, votes = (
        next(index for index, each in enumerate(lines) if start in each)
        for start in ("after the", "may this")
    )
    column = lines[after].index("ema ")
    assert lines[after + 1] == f"{'│':<{column}}─► own_record (registered in process)"
    assert lines[votes + 1] == f"{'│  │':<{column}}+ own_veto (registered in process)"


def test_a_drawing_fits_a_terminal_of_80_columns() -> None:
    drawing = build(*CUT, CLIP).explain().partition("\n\n")[0].splitlines()[1:]
    assert max(map(len, drawing)) <= 80


def test_a_forward_loss_of_ones_own_is_named() -> None:
    class Detector(Model):
        def forward_loss(self, batch: Any) -> Any:
            raise NotImplementedError

    assert line(Detector(PARAMS).explain(), "forward and loss ⟩⟩") == "Detector.forward_loss"


def test_the_listed_order_changes_nothing() -> None:
    assert build("amp", *CUT, CLIP).explain() == build(CLIP, *CUT[::-1], "amp").explain()


def test_explaining_runs_nothing() -> None:
    record, veto = Record(), Veto([])
    build(given(record), given(veto)).explain()
    assert record.events == []
    assert veto.asked == 0


def test_what_the_strategies_do_not_go_with_stands_below_the_drawing() -> None:
    below = build("closure").explain().splitlines()[len(_LAYOUT) + 1 :]
    assert below[0].startswith("closure does not go with grad_scaler: torch.amp.GradScaler steps without")
    assert below[1].startswith("closure does not go with ignores_closure: it moves the weights without")


def test_what_a_strategy_needs_stands_below_the_drawing() -> None:
    class Needy(Veto):
        requires = {"optimizer:SGD": "it counts on momentum"}

    assert "\nown_needy needs optimizer:SGD: it counts on momentum\n" in build(given(Needy([]))).explain()


def test_every_sign_of_the_drawing_is_in_its_legend() -> None:
    drawing, legend = build(given(Record()), "ema", given(Veto([]))).explain().split("\n\n")
    signs = set(re.findall(r"─►|[⟨⟩]|—|(?<= )\+(?= )|\bdefault\b", drawing))
    assert signs == {"─►", "⟨", "⟩", "—", "+", "default"}
    assert all(sign in legend for sign in signs)
