"""Groups that are nearly ours are told, and other projects' are not."""

from __future__ import annotations

from typing import Any

import pytest

from argus_core.doctor.declarations import declarations

pytestmark = pytest.mark.torchfree

MEANT = [
    ("argus-core.loss", "argus_core.loss"),
    ("argus_cor.loss", "argus_core.loss"),
    ("arguscore.losses", "argus_core.loss"),
    ("Argus_Core.Loss", "argus_core.loss"),
    ("argus_core:loss", "argus_core.loss"),
    ("argus_core_loss", "argus_core.loss"),
    ("argus-core-lr-scheduler", "argus_core.lr_scheduler"),
    ("argus.nn_module", "argus_core.nn_module"),
    ("argus-torch.step", "argus_core.step"),
    ("argus_core", "argus_core.<kind>"),
]
OTHERS = [
    "console_scripts",
    "pytest11",
    "argus.plugins",
    "torch.loss",
    "mlflow.model_flavor",
    "kedro.datasets",
    "lightning.pytorch.callbacks_factory",
    "argo.step",
    "core.metric",
    "argcomplete",
    "",
]


def faults_of(fake_distribution: Any, group: str) -> list[tuple[str, str, str]]:
    folder = fake_distribution("medseg")
    (folder / "medseg-1.0.dist-info/entry_points.txt").write_text(f"[{group}]\na = b:c\n", "utf-8")
    return [(each.sort, each.subject, each.problem) for each in declarations(fake_distribution.path)]


@pytest.mark.parametrize(("group", "meant"), MEANT)
def test_group_that_is_nearly_ours_is_a_fault(fake_distribution: Any, group: str, meant: str) -> None:
    problem = f"is not read by argus_core; did you mean {meant!r}?"
    assert faults_of(fake_distribution, group) == [("group", f"entry point group {group!r}", problem)]


@pytest.mark.parametrize("group", OTHERS)
def test_group_of_another_project_is_none(fake_distribution: Any, group: str) -> None:
    assert faults_of(fake_distribution, group) == []
