"""One scan finds what packages declare, without importing any of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from argus_core.errors import BrokenPluginError
from argus_core.registry.discovery import Index, Removal, scan, scan_builtins, switches_without_effect

pytestmark = pytest.mark.torchfree

NETS = {"nn_module": {"unet": "medseg.nets:UNet", "linknet": "medseg.nets:LinkNet"}}


def states(index: Index) -> dict[str | None, str]:
    return {component.provider: component.state for component in index.components}


def test_a_scan_finds_every_component_of_every_kind(fake_distribution) -> None:
    fake_distribution("medseg", "2.1", {**NETS, "loss": {"focal": "medseg.losses:Focal"}})
    found = [
        (each.kind, each.qualified_name, each.version, each.target)
        for each in scan(fake_distribution.path).components
    ]
    assert found == [
        ("nn_module", "medseg/unet", "2.1", "medseg.nets:UNet"),
        ("nn_module", "medseg/linknet", "2.1", "medseg.nets:LinkNet"),
        ("loss", "medseg/focal", "2.1", "medseg.losses:Focal"),
    ]


def test_a_scan_imports_nothing(fake_distribution) -> None:
    fake_distribution("medseg", entry_points=NETS, modules={"medseg.nets": "raise SystemExit"})
    scan(fake_distribution.path)
    assert "medseg" not in sys.modules


def test_what_is_on_sys_path_is_scanned(fake_distribution) -> None:
    fake_distribution("medseg-of-this-test", entry_points=NETS)
    assert "medseg-of-this-test" in states(scan())


def test_a_target_is_spelled_without_spaces_and_extras(fake_distribution) -> None:
    fake_distribution("medseg", entry_points={"loss": {"focal": "medseg.losses : Focal [gpu]"}})
    assert scan(fake_distribution.path).components[0].target == "medseg.losses:Focal"


def test_a_target_of_another_form_is_kept_and_fails_when_loaded(fake_distribution) -> None:
    fake_distribution("medseg", entry_points={"loss": {"focal": "medseg/losses.py"}})
    (component,) = scan(fake_distribution.path).components
    with pytest.raises(BrokenPluginError, match=r"ValueError: 'medseg/losses.py' is not 'module:attribute'"):
        component.load()


def test_a_removed_name_is_found_with_its_replacement(fake_distribution) -> None:
    fake_distribution("medseg", "2.1", {"removed": {"nn_module.unet": "unet_v2", "loss.a.b": "other/c"}})
    assert scan(fake_distribution.path).removals == (
        Removal("nn_module", "unet", "medseg", "2.1", "unet_v2"),
        Removal("loss", "a.b", "medseg", "2.1", "other/c"),
    )


WRONG = [
    ("[argus_core.optimiser]\na = b:c", "there is no kind 'optimiser'; did you mean 'optimizer'?"),
    ("[argus_core.loss]\na/b = b:c", "'a/b' cannot name a loss; give"),
    ("[argus_core.loss]\na b = b:c", "'a b' cannot name a loss; give"),
    ("[argus_core.loss]\na", "it has no value"),
    ("[argus_core.removed]\nunet = unet_v2", "there is no kind 'unet'"),
    ("[argus_core.removed]\nloss = unet_v2", "'' cannot name a loss; give"),
    ("[argus_core.loss]\na = b:c\na = b:d", "its name is declared twice"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG)
def test_a_wrong_declaration_is_a_problem_and_the_others_stand(
    fake_distribution, text: str, reason: str
) -> None:
    folder = fake_distribution("medseg", "2.1")
    (folder / "medseg-2.1.dist-info/entry_points.txt").write_text(
        f"{text}\n[argus_core.metric]\ndice = m:Dice\n"
    )
    index = scan(fake_distribution.path)
    (problem,) = index.problems
    group, name = text.partition("]")[0].strip("["), text.splitlines()[1].partition(" =")[0]
    assert str(problem).startswith(
        f"medseg 2.1: entry point {name!r} of group {group!r} is ignored, {reason}"
    )
    assert index.components[-1].name == "dice"


def test_unreadable_metadata_is_a_problem_and_the_others_stand(fake_distribution) -> None:
    fake_distribution("medseg", entry_points=NETS)
    folder = fake_distribution("broken")
    (folder / "broken-1.0.dist-info/entry_points.txt").write_bytes(b"\xff")
    index = scan(fake_distribution.path)
    assert [problem.origin for problem in index.problems] == ["broken"]
    assert len(index.components) == 2


def test_strict_raises_the_first_problem(fake_distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_distribution("medseg", entry_points={"optimiser": {"a": "b:c"}})
    monkeypatch.setenv("ARGUS_STRICT_PLUGINS", "1")
    with pytest.raises(
        BrokenPluginError, match=r"^medseg 1\.0: entry point 'a' .*or unset ARGUS_STRICT_PLUGINS$"
    ):
        scan(fake_distribution.path)


@pytest.fixture
def three(fake_distribution) -> list[str]:
    for name in ("argus-torch", "Med_Seg", "other"):
        fake_distribution(name, entry_points={"loss": {"focal": "collections:Counter"}})
    return fake_distribution.path


LISTS = [
    ({}, set()),
    ({"ARGUS_PLUGINS": ""}, {"med-seg", "other"}),
    ({"ARGUS_PLUGINS": "med.seg"}, {"other"}),
    ({"ARGUS_PLUGINS": " Other , MED_SEG ,"}, set()),
    ({"ARGUS_DISABLE_PLUGINS": ""}, set()),
    ({"ARGUS_DISABLE_PLUGINS": "Med-Seg"}, {"med-seg"}),
    ({"ARGUS_DISABLE_PLUGINS": "argus-torch,other"}, {"other"}),
    ({"ARGUS_PLUGINS": "other,med-seg", "ARGUS_DISABLE_PLUGINS": "other"}, {"other"}),
]


@pytest.mark.parametrize(("environment", "blocked"), LISTS)
def test_the_lists_of_the_environment_block_plugins_and_never_built_ins(
    three: list[str], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], blocked: set[str]
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    found = states(scan(three))
    assert {provider for provider, state in found.items() if state == "blocked"} == blocked


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, []),
        ({"ARGUS_PLUGINS": ""}, []),
        ({"ARGUS_PLUGINS": "med.seg, OTHER,argus-torch,", "ARGUS_DISABLE_PLUGINS": "other"}, []),
        (
            {"ARGUS_DISABLE_PLUGINS": "Med_Sge,zzz"},
            [
                "ARGUS_DISABLE_PLUGINS has 'med-sge', which is not installed; did you mean 'med-seg'?",
                "ARGUS_DISABLE_PLUGINS has 'zzz', which is not installed",
            ],
        ),
        (
            {"ARGUS_PLUGINS": "plain"},
            ["ARGUS_PLUGINS has 'plain', which declares no components in version 3.0"],
        ),
        ({"ARGUS_PLUGINS": "left-out"}, []),
    ],
)
def test_what_a_list_of_the_environment_names_in_vain_is_told(
    three: list[str], fake_distribution, monkeypatch: pytest.MonkeyPatch, environment: dict, told: list[str]
) -> None:
    fake_distribution("plain", "3.0")
    fake_distribution("left-out", entry_points={"losss": {"focal": "collections:Counter"}})
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert [*switches_without_effect(scan(fake_distribution.path))] == told


def test_a_scan_reads_the_projects_pins(fake_distribution) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n"loss.focal" = "medseg"\n')
    assert scan(fake_distribution.path).pins.providers == {("loss", "focal"): "medseg"}


def test_pins_that_cannot_be_read_are_kept_as_a_record(fake_distribution) -> None:
    Path("pyproject.toml").write_text("[tool.argus.prefer")
    assert "is not TOML" in scan(fake_distribution.path).pins.fault


def test_the_built_ins_alone_can_be_scanned(three: list[str]) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n"loss.focal" = "other"\n')
    index = scan_builtins()
    assert states(index) == {"argus-torch": "declared"}
    assert not index.pins.providers


def test_scanning_and_listing_import_neither_torch_nor_a_plugin(fake_distribution) -> None:
    folder = fake_distribution("medseg", entry_points=NETS, modules={"medseg.nets": "raise SystemExit"})
    script = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from argus_core.registry import registry\n"
        "assert 'unet' in registry.names('nn_module')\n"
        "registry.components(); registry.resolve('nn_module', 'medseg/unet')\n"
        "try: registry.resolve('optimizer', 'medsegg/adamm')\n"
        "except registry.diagnosis.UnknownNameError: pass\n"
        "assert not {'torch', 'numpy', 'medseg'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
