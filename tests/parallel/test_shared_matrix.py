"""Every pair of step strategies trains in two processes as the loop by hand does in one, or is refused."""

from __future__ import annotations

import pytest
from refusals import check_refusal, labels

from argus_core.testing import Example, check_shared_composition, compositions, examples

EXAMPLES = examples()


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
    check_refusal(subset, check_shared_composition(subset))
