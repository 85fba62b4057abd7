"""Every pair of step strategies trains in two processes as the loop by hand does in one, or is refused."""

from __future__ import annotations

import pytest

from argus_core.testing import Example, check_shared_composition, compositions, examples

EXAMPLES = examples()
REFUSED = {
    ("amp(bfloat16)", "amp(float16)"): "step strategy 'amp' is listed twice",
    ("amp(float16)", "closure"): "does not go with 'amp' (grad_scaler): torch.amp.GradScaler steps without",
    ("closure", "sam"): "both own the slot 'run_procedure'",
}


def labels(subset: tuple[Example, ...]) -> str:
    return "+".join(each.label for each in subset) or "default"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Combine up to two strategies; with ``--long-matrix`` up to three, and ``compile`` with others."""
    if "subset" in metafunc.fixturenames:
        is_long = metafunc.config.getoption("long_matrix")
        subsets = compositions(EXAMPLES, 3 if is_long else 2)
        # It compiles for seconds in each process, and changes no message between them.
        chosen = [each for each in subsets if is_long or len(each) < 2 or not has_compile(each)]
        metafunc.parametrize("subset", chosen, ids=labels)


def has_compile(subset: tuple[Example, ...]) -> bool:
    return any(each.name == "compile" for each in subset)


def test_combination_in_two_processes_equals_the_loop_by_hand_or_is_refused(
    subset: tuple[Example, ...],
) -> None:
    present = {each.label for each in subset}
    expected = [reason for pair, reason in REFUSED.items() if present.issuperset(pair)]
    reason = check_shared_composition(subset)
    assert (reason is not None) == bool(expected)
    assert reason is None or any(each in reason for each in expected)
