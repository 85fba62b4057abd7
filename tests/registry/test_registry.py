"""What is registered in process comes first, then pins, then the one provider that has the name."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus_core.errors import (
    AmbiguousNameError,
    BrokenPluginError,
    ConfigError,
    ConflictError,
    SpecError,
    UnknownNameError,
)
from argus_core.registry import registry as registry_module
from argus_core.registry.component import KINDS, Component
from argus_core.registry.discovery import Index
from argus_core.registry.registry import (
    Registry,
    active,
    component_of,
    components,
    isolated_registry,
    names,
    register,
    rescan,
    resolve,
)

pytestmark = pytest.mark.torchfree


class Focal:
    """A factory."""


class Dice:
    """Another factory."""


def make_class(name: str) -> type:
    """Return a new class of that name, as a notebook cell that is run again does."""
    return type(name, (), {"__module__": "notebook"})


# In process.


def test_a_factory_is_registered_by_a_call() -> None:
    with isolated_registry():
        assert register("loss", "focal", Focal) is Focal
        assert resolve("loss", "focal").load() is Focal


def test_a_factory_is_registered_by_a_decorator() -> None:
    with isolated_registry():
        assert register("loss", "focal")(Focal) is Focal
        assert resolve("loss", "focal").load() is Focal


def test_the_same_name_in_two_kinds_is_two_components() -> None:
    with isolated_registry():
        register("loss", "focal", Focal)
        register("metric", "focal", Dice)
        assert resolve("loss", "focal").load() is Focal
        assert resolve("metric", "focal").load() is Dice


def test_a_different_object_under_a_taken_name_is_refused() -> None:
    with isolated_registry():
        register("loss", "focal", Focal)
        message = (
            f"^loss 'focal' is taken by {__name__}:Focal of this process; "
            "choose another name, or replace it here with override=True$"
        )
        with pytest.raises(ConflictError, match=message):
            register("loss", "focal", Dice)
        assert resolve("loss", "focal").load() is Focal


def test_the_same_module_and_qualname_again_replaces_quietly(caplog: pytest.LogCaptureFixture) -> None:
    first, second = make_class("Net"), make_class("Net")
    with isolated_registry(), caplog.at_level(logging.DEBUG):
        register("nn_module", "net", first)
        assert resolve("nn_module", "net").load() is first
        register("nn_module", "net", second)
        assert resolve("nn_module", "net").load() is second
    assert not caplog.records


def test_callables_without_a_name_are_the_same_only_when_they_are_one_object() -> None:
    partial = functools.partial(Focal)
    with isolated_registry():
        register("loss", "focal", partial)
        register("loss", "focal", partial)
        with pytest.raises(ConflictError, match="taken by functools:partial of this process"):
            register("loss", "focal", functools.partial(Focal))


def test_an_override_replaces_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with isolated_registry(), caplog.at_level(logging.INFO):
        register("loss", "focal", Focal)
        register("loss", "focal", override=True)(Dice)
        assert resolve("loss", "focal").load() is Dice
    assert caplog.messages == [
        f"loss 'focal' is now {__name__}:Dice, in place of {__name__}:Focal of this process"
    ]


def test_an_override_of_nothing_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with isolated_registry(), caplog.at_level(logging.INFO):
        register("loss", "focal", Focal, override=True)
    assert not caplog.records


@pytest.mark.parametrize("factory", [None, 3, "medseg:Focal"])
def test_what_cannot_be_called_is_refused(factory: object) -> None:
    with (
        isolated_registry(),
        pytest.raises(SpecError, match=r"loss 'focal' is .*; register a class or a function"),
    ):
        register("loss", "focal", factory)  # type: ignore[type-var]


def test_an_unknown_kind_is_refused() -> None:
    with (
        isolated_registry(),
        pytest.raises(UnknownNameError, match=r"no kind 'losss'; did you mean 'loss'\?"),
    ):
        register("losss", "focal", Focal)


WORDS = st.text(min_size=1).filter(lambda text: "/" not in text and not any(map(str.isspace, text)))


@given(kind=st.sampled_from(KINDS), name=WORDS)
def test_any_name_without_slash_and_spaces_is_found_again(kind: str, name: str) -> None:
    with isolated_registry():
        register(kind, name, Focal)
        assert resolve(kind, name).qualified_name == name
        assert names(kind) == [name]


@given(kind=st.sampled_from(KINDS), parts=st.tuples(st.text(), st.sampled_from("/ \t\n\u00a0"), st.text()))
def test_no_name_with_slash_or_space_is_registered(kind: str, parts: tuple[str, str, str]) -> None:
    with isolated_registry() as registry, pytest.raises(SpecError, match="cannot name"):
        register(kind, "".join(parts), Focal)
    assert registry.components() == []


@given(kind=st.sampled_from(KINDS), name=st.text(min_size=1))
def test_any_unknown_name_is_an_unknown_name(kind: str, name: str) -> None:
    with isolated_registry(), pytest.raises(UnknownNameError, match=f"no {kind} named "):
        resolve(kind, name)


@pytest.mark.parametrize("name", ["", None, 3, ["focal"], ("focal", {})])
def test_what_is_no_name_is_not_looked_up(name: object) -> None:
    with isolated_registry(), pytest.raises(SpecError, match="is not a name of loss; give a string"):
        resolve("loss", name)  # type: ignore[arg-type]


# Declared by installed packages.

MEDSEG = {"nn_module": {"unet": "medseg.nets:UNet"}, "loss": {"focal": "medseg.losses:Focal"}}


@pytest.fixture
def medseg(fake_distribution, scan_registry) -> Registry:
    modules = {"medseg.nets": "class UNet: pass", "medseg.losses": "class Focal: pass"}
    fake_distribution("medseg", "2.1", MEDSEG, modules)
    return scan_registry()


def test_a_declared_name_is_found_without_an_import(medseg: Registry) -> None:
    component = resolve("nn_module", "unet")
    assert (component.provider, component.version, component.state) == ("medseg", "2.1", "declared")
    assert "medseg" not in sys.modules
    assert component.load().__name__ == "UNet"
    assert resolve("nn_module", "unet") is component


@pytest.mark.parametrize("name", ["medseg/unet", "MedSeg/unet", "MEDSEG/unet"])
def test_a_qualified_name_is_found_however_the_provider_is_spelled(medseg: Registry, name: str) -> None:
    assert resolve("nn_module", name) is resolve("nn_module", "unet")


@pytest.fixture
def shared(fake_distribution, scan_registry) -> Registry:
    """Two plugins and the built-ins have one short name; a second is had by a plugin and the built-ins."""
    fake_distribution(
        "argus-torch", "0.1", {"loss": {"focal": "collections:Counter", "dice": "collections:deque"}}
    )
    fake_distribution("medseg", "2.1", {"loss": {"focal": "medseg:Focal", "dice": "medseg:Dice"}})
    fake_distribution("other", "1.0", {"loss": {"focal": "other:Focal", "tversky": "other:Tversky"}})
    return scan_registry()


@pytest.mark.parametrize("name", ["focal", "dice"])
def test_a_shared_short_name_is_ambiguous_built_ins_included(shared: Registry, name: str) -> None:
    with pytest.raises(AmbiguousNameError, match=r"medseg 2.1 and argus-torch 0.1; write "):
        resolve("loss", name)


def test_a_shared_name_is_found_qualified(shared: Registry) -> None:
    assert resolve("loss", "other/focal").provider == "other"
    assert resolve("loss", "argus-torch/focal").provider == "argus-torch"


def test_a_pin_decides_who_is_meant(shared: Registry, scan_registry) -> None:
    Path("pyproject.toml").write_text(
        '[tool.argus.prefer]\n"loss.focal" = "other"\n"loss.dice" = "argus_torch"\n'
    )
    scan_registry()
    assert resolve("loss", "focal").provider == "other"
    assert resolve("loss", "dice").provider == "argus-torch"
    assert names("loss") == ["dice", "focal", "tversky"]


def test_names_lists_a_shared_name_by_its_qualified_names(shared: Registry) -> None:
    assert names("loss") == [
        "argus-torch/dice",
        "argus-torch/focal",
        "medseg/dice",
        "medseg/focal",
        "other/focal",
        "tversky",
    ]


def test_every_listed_name_is_found(shared: Registry) -> None:
    register("loss", "mine", Focal)
    assert {resolve("loss", name).kind for name in names("loss")} == {"loss"}


def test_a_wrong_pin_leaves_the_qualified_names_listed(shared: Registry, scan_registry) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n"loss.tversky" = "medseg"\n')
    scan_registry()
    assert "other/tversky" in names("loss")
    with pytest.raises(ConfigError, match=r"which does not provide it|which is not installed"):
        resolve("loss", "tversky")


def test_blocked_providers_do_not_make_a_name_ambiguous(
    shared: Registry, scan_registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_PLUGINS", "")
    scan_registry()
    assert resolve("loss", "focal").provider == "argus-torch"
    assert names("loss") == ["dice", "focal"]
    states = {component.qualified_name: component.state for component in components("loss")}
    assert states["medseg/focal"] == "blocked"
    assert states["argus-torch/focal"] == "declared"


def test_a_blocked_name_can_be_registered(
    medseg: Registry, scan_registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "medseg")
    scan_registry()
    register("loss", "focal", Focal)
    assert resolve("loss", "focal").load() is Focal


def test_one_broken_plugin_leaves_the_others_working(
    medseg: Registry, fake_distribution, scan_registry
) -> None:
    fake_distribution("broken", "0.1", {"loss": {"bad": "broken:Bad"}}, {"broken": "raise SystemExit('bye')"})
    scan_registry()
    bad = resolve("loss", "bad")
    with pytest.raises(
        BrokenPluginError, match=r"loss 'bad' of broken 0.1 cannot be loaded .*SystemExit: bye"
    ):
        bad.load()
    assert resolve("loss", "bad").state == "broken"
    assert isinstance(resolve("loss", "bad").error, SystemExit)
    assert resolve("loss", "focal").load().__name__ == "Focal"
    assert names("loss") == ["bad", "focal"]


# In process above what is declared.


def test_a_declared_name_is_taken(medseg: Registry) -> None:
    with pytest.raises(ConflictError, match=r"^loss 'focal' is taken by medseg.losses:Focal of medseg 2.1; "):
        register("loss", "focal", Focal)


def test_an_override_comes_before_what_is_declared(
    medseg: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve("loss", "focal").provider == "medseg"
    with caplog.at_level(logging.INFO):
        register("loss", "focal", Focal, override=True)
    assert resolve("loss", "focal").load() is Focal
    assert resolve("loss", "medseg/focal").provider == "medseg"
    assert names("loss") == ["focal"]
    assert caplog.messages == [
        f"loss 'focal' is now {__name__}:Focal, in place of medseg.losses:Focal of medseg 2.1"
    ]


def test_an_overriding_class_may_be_registered_again(medseg: Registry) -> None:
    first, second = make_class("Net"), make_class("Net")
    register("loss", "focal", first, override=True)
    register("loss", "focal", second)
    assert resolve("loss", "focal").load() is second


REGISTERING = (
    "from argus_core.registry import registry\n@registry.register('loss', 'focal')\nclass Focal: pass\n"
)


@pytest.mark.parametrize(
    ("target", "modules"),
    [
        ("medseg.losses:Focal", {"medseg.losses": REGISTERING}),
        ("medseg:Focal", {"medseg": "from medseg.losses import Focal", "medseg.losses": REGISTERING}),
    ],
    ids=["where it is defined", "where it is re-exported"],
)
def test_a_plugin_may_register_what_it_also_declares(
    fake_distribution, scan_registry, target: str, modules: dict[str, str]
) -> None:
    fake_distribution("medseg", "2.1", {"loss": {"focal": target}}, modules)
    scan_registry()
    component = resolve("loss", "focal")
    factory = component.load()
    assert resolve("loss", "focal") is component
    assert component_of("loss", factory) is component
    assert [each.provider for each in components("loss")] == ["medseg"]


def test_a_plugin_that_is_imported_under_an_override_is_not_broken_by_it(
    fake_distribution, scan_registry
) -> None:
    fake_distribution("medseg", "2.1", {"loss": {"focal": "medseg:Focal"}}, {"medseg": REGISTERING})
    scan_registry()
    register("loss", "focal", Dice, override=True)
    assert resolve("loss", "medseg/focal").load().__name__ == "Focal"
    assert resolve("loss", "focal").load() is Dice


# Lists.


def test_components_are_sorted_by_kind_name_and_provider(shared: Registry) -> None:
    register("nn_module", "zebra", Focal)
    register("loss", "focal", Focal, override=True)
    assert [(each.kind, each.qualified_name) for each in components()] == [
        ("nn_module", "zebra"),
        ("loss", "argus-torch/dice"),
        ("loss", "medseg/dice"),
        ("loss", "focal"),
        ("loss", "argus-torch/focal"),
        ("loss", "medseg/focal"),
        ("loss", "other/focal"),
        ("loss", "other/tversky"),
    ]
    assert [each.name for each in components("nn_module")] == ["zebra"]


@pytest.mark.parametrize("list_kind", [names, components])
def test_an_unknown_kind_is_not_listed(list_kind) -> None:
    with isolated_registry(), pytest.raises(UnknownNameError, match="no kind 'nn_modul'"):
        list_kind("nn_modul")


# From a factory back to its component.


def test_a_registered_factory_leads_to_its_component() -> None:
    with isolated_registry():
        register("loss", "focal", Focal)
        assert component_of("loss", Focal) is resolve("loss", "focal")
        assert component_of("metric", Focal) is None
        assert component_of("loss", Dice) is None


def test_a_declared_factory_leads_to_its_entry_point(medseg: Registry) -> None:
    component = resolve("nn_module", "unet")
    assert component_of("nn_module", component.load()) is component


def test_an_entry_point_comes_before_a_registration_of_the_same_object(medseg: Registry) -> None:
    declared = resolve("loss", "focal")
    register("loss", "mine", declared.load())
    assert component_of("loss", declared.load()) is declared


def test_looking_for_a_factory_imports_no_other_plugin(medseg: Registry) -> None:
    assert component_of("nn_module", Focal) is None
    assert "medseg" not in sys.modules


# Isolated, scanned, rescanned.


def test_an_isolated_registry_holds_only_what_is_registered_inside() -> None:
    with isolated_registry() as registry:
        assert registry.components() == []
        register("loss", "focal", Focal)
        assert registry is active()
        assert registry.resolve("loss", "focal").load() is Focal


def test_isolated_registries_nest_and_end_with_an_exception() -> None:
    with isolated_registry() as outer:
        register("loss", "focal", Focal)
        with pytest.raises(ZeroDivisionError), isolated_registry() as inner:  # noqa: PT012
            assert inner.names("loss") == []
            1 / 0  # noqa: B018
        assert active() is outer
        assert names("loss") == ["focal"]


def test_an_isolated_registry_may_have_the_built_ins_without_pins(shared: Registry) -> None:
    Path("pyproject.toml").write_text('[tool.argus.prefer]\n"loss.MSELoss" = "other"\n')
    with isolated_registry(builtins=True):
        assert {component.provider for component in components("loss")} == {"argus-torch"}
        assert resolve("loss", "MSELoss").provider == "argus-torch"


@pytest.fixture
def unscanned(fake_distribution, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A process that has not looked anything up; the list gets an item for every scan."""
    scans: list[int] = []
    scan = registry_module.scan

    def counted() -> Index:
        scans.append(1)
        return scan(fake_distribution.path)

    monkeypatch.setattr(registry_module, "scan", counted)
    monkeypatch.setattr(registry_module, "_process", None)
    return scans


def test_the_first_look_up_scans_and_later_ones_do_not(unscanned: list[int], fake_distribution) -> None:
    fake_distribution("medseg", entry_points=MEDSEG)
    assert unscanned == []
    for _ in range(3):
        assert resolve("nn_module", "unet").provider == "medseg"
        names("loss")
    assert unscanned == [1]


def test_threads_that_look_up_first_share_one_scan(unscanned: list[int], fake_distribution) -> None:
    fake_distribution("medseg", entry_points=MEDSEG)
    start, found = threading.Barrier(8), []

    def look_up() -> None:
        start.wait()
        found.append(resolve("nn_module", "unet"))

    threads = [threading.Thread(target=look_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unscanned == [1]
    assert len({id(component) for component in found}) == 1


def test_a_rescan_finds_new_packages_and_keeps_registrations(unscanned: list[int], fake_distribution) -> None:
    register("loss", "mine", Focal)
    assert names("nn_module") == []
    fake_distribution("medseg", entry_points=MEDSEG)
    assert names("nn_module") == []
    rescan()
    assert names("nn_module") == ["unet"]
    assert resolve("loss", "mine").load() is Focal


def test_a_rescan_tries_a_mended_plugin_again(unscanned: list[int], fake_distribution) -> None:
    entry_points = {"loss": {"focal": "medseg:Focal"}}
    folder = fake_distribution("medseg", entry_points=entry_points, modules={"medseg": "raise RuntimeError"})
    with pytest.raises(BrokenPluginError, match="RuntimeError"):
        resolve("loss", "focal").load()
    (folder / "medseg/__init__.py").write_text("class Focal: mended = True")
    rescan()
    assert resolve("loss", "focal").load().mended


def test_a_rescan_before_the_first_look_up_does_not_scan(unscanned: list[int]) -> None:
    rescan()
    assert unscanned == []


def test_a_registry_of_an_index_stands_by_itself() -> None:
    component = Component.declared("loss", "focal", ("medseg", "2.1"), "medseg:Focal")
    registry = Registry(Index((component,)))
    assert registry.resolve("loss", "focal") is component


def test_importing_the_registry_imports_no_torch_and_scans_nothing() -> None:
    script = (
        "import sys\n"
        "from argus_core.registry import registry\n"
        "assert registry._process is None\n"
        "assert not {'torch', 'numpy', 'pluggy', 'safetensors'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


@pytest.mark.parametrize("name", ["/focal", "medseg/", "/"])
def test_half_a_qualified_name_is_unknown(name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"no loss named '{name}'; write provider/name"):
        resolve("loss", name)
