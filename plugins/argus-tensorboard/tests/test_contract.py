from __future__ import annotations

from argus_core.testing import ComponentUnderTest


def test_part_keeps_the_contract_of_its_kind(argus_component: ComponentUnderTest) -> None:
    argus_component.check()
