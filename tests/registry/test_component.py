"""A component is declared, then loaded, broken or blocked; only loading imports."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import importlib
import sys

import pytest

from argus_core.errors import BlockedPluginError, BrokenPluginError, SpecError, UnknownNameError
from argus_core.registry import component as components
from argus_core.registry.component import KINDS, Component, check_kind, check_name, where_defined

pytestmark = pytest.mark.torchfree

ORIGIN = ("medseg", "2.1")


def declared(target: str, blocked_by: str = "") -> Component:
    return Component.declared("loss", "focal", ORIGIN, target, blocked_by)


class Focal:
    """A factory."""


def test_a_declared_component_says_where_it_comes_from() -> None:
    component = declared("medseg.losses:Focal")
    assert (component.kind, component.name, component.provider, component.version, component.target) == (
        "loss",
        "focal",
        "medseg",
        "2.1",
        "medseg.losses:Focal",
    )
    assert component.qualified_name == "medseg/focal"
    assert component.origin == "medseg 2.1"
    assert component.error is None


def test_a_component_of_this_process_has_no_provider() -> None:
    component = Component.in_process("loss", "focal", Focal)
    assert (component.provider, component.version, component.qualified_name) == (None, None, "focal")
    assert component.target == f"{__name__}:Focal"
    assert component.origin == "this process"
    assert component.state == "loaded"
    assert component.load() is Focal


def test_a_component_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        declared("medseg:Focal").name = "other"  # type: ignore[misc]


def test_components_of_the_same_fields_are_equal_in_whatever_state() -> None:
    first, second = declared("collections:Counter"), declared("collections:Counter")
    first.load()
    assert first == second
    assert hash(first) == hash(second)
    assert "_life" not in repr(first)
    assert copy.deepcopy(first) == first


def test_loading_gives_the_target_and_changes_the_state() -> None:
    component = declared("collections:Counter")
    assert component.state == "declared"
    assert component.load() is collections.Counter
    assert component.state == "loaded"


def test_a_target_may_be_an_attribute_of_an_attribute() -> None:
    assert declared("collections:Counter.fromkeys").load() == collections.Counter.fromkeys


def test_a_module_is_imported_by_loading_and_not_before(fake_distribution) -> None:
    fake_distribution("medseg", modules={"medseg.losses": "class Focal: pass"})
    component = declared("medseg.losses:Focal")
    assert "medseg" not in sys.modules
    assert component.load().__name__ == "Focal"
    assert "medseg.losses" in sys.modules


def test_after_a_reload_the_new_object_is_the_factory(fake_distribution) -> None:
    fake_distribution("medseg", modules={"medseg": "class Focal: pass"})
    component = declared("medseg:Focal")
    old = component.load()
    importlib.reload(sys.modules["medseg"])
    assert component.load() is sys.modules["medseg"].Focal
    assert component.load() is not old


RAISING = {
    "raise RuntimeError('no licence\\nfound')": "RuntimeError: no licence;",
    "raise SystemExit(3)": "SystemExit: 3;",
    "raise BaseException": "BaseException;",
    "raise GeneratorExit": "GeneratorExit;",
    "def f(:": "SyntaxError: invalid syntax;",
    "class Odd(Exception):\n    def __str__(self): 1 / 0\nraise Odd": "Odd: <.*failed>;",
    "": "AttributeError: module 'medseg' has no attribute 'Focal';",
    "Focal = 3": "TypeError: 'medseg:Focal' is of type int, not a callable;",
}


@pytest.mark.parametrize(("source", "cause"), RAISING.items(), ids=RAISING.values())
def test_any_failure_to_load_says_provider_version_and_cause(
    fake_distribution, source: str, cause: str
) -> None:
    fake_distribution("medseg", modules={"medseg": source})
    component = declared("medseg:Focal")
    start = "^loss 'focal' of medseg 2.1 cannot be loaded from 'medseg:Focal': (medseg.)?"
    with pytest.raises(BrokenPluginError, match=start + cause + " upgrade or reinstall medseg$") as caught:
        component.load()
    assert component.state == "broken"
    assert component.error is caught.value.__cause__


def test_a_failure_is_kept_and_not_tried_again(fake_distribution) -> None:
    fake_distribution(
        "medseg", modules={"medseg": "import sys\nsys.tries = sys.__dict__.get('tries', 0) + 1\n1 / 0"}
    )
    component = declared("medseg:Focal")
    for _ in range(2):
        with pytest.raises(BrokenPluginError, match="ZeroDivisionError") as caught:
            component.load()
        assert caught.value.__cause__ is component.error
    assert sys.__dict__.pop("tries") == 1


def test_an_absent_dependency_is_named_as_what_to_install(fake_distribution) -> None:
    fake_distribution("medseg", modules={"medseg": "import no_such_library.part"})
    with pytest.raises(
        BrokenPluginError, match=r"; install the package that provides 'no_such_library', or upgrade medseg$"
    ):
        declared("medseg:Focal").load()


def test_an_absent_module_of_its_own_is_the_providers_fault() -> None:
    with pytest.raises(BrokenPluginError, match=r"No module named 'medseg'; upgrade or reinstall medseg$"):
        declared("medseg:Focal").load()


@pytest.mark.parametrize(
    "target", ["medseg", "medseg:", "not-a-module", ":Focal", "../../x:y", ".relative:Focal"]
)
def test_a_target_of_another_form_is_broken(target: str) -> None:
    with pytest.raises(BrokenPluginError, match=r"loss 'focal' of medseg 2.1 cannot be loaded from "):
        declared(target).load()


def test_an_interrupt_is_the_users_and_passes(fake_distribution) -> None:
    fake_distribution("medseg", modules={"medseg": "raise KeyboardInterrupt"})
    component = declared("medseg:Focal")
    with pytest.raises(KeyboardInterrupt):
        component.load()
    assert component.state == "declared"


def test_strict_raises_what_the_plugin_raised(fake_distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_distribution("medseg", modules={"medseg": "raise SystemExit(3)"})
    monkeypatch.setenv("ARGUS_STRICT_PLUGINS", "1")
    component = declared("medseg:Focal")
    with pytest.raises(SystemExit) as caught:
        component.load()
    assert caught.value.code == 3
    assert component.error is caught.value
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("value", "strict"), [("1", True), ("0", False), ("", False)])
def test_strict_is_switched_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str, strict: bool
) -> None:
    monkeypatch.setenv("ARGUS_STRICT_PLUGINS", value)
    assert components.is_strict() is strict


@pytest.mark.parametrize(
    ("variable", "action"),
    [("ARGUS_PLUGINS", "add medseg to"), ("ARGUS_DISABLE_PLUGINS", "remove medseg from")],
)
def test_a_blocked_component_names_the_variable_and_what_to_change(variable: str, action: str) -> None:
    component = declared("sys:exit", blocked_by=variable)
    assert component.state == "blocked"
    message = f"loss 'focal' of medseg 2.1 is switched off by {variable}; {action} {variable} and start again"
    with pytest.raises(BlockedPluginError, match=f"^{message}$"):
        component.load()


def test_a_name_that_torch_lacks_says_which_torch_has_it(
    fake_distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("torch", "2.8.0+cpu")
    monkeypatch.setitem(components.ADDED_IN, "collections:Muon", "2.9")
    component = Component.declared("optimizer", "Muon", ("argus-torch", "0.1.0"), "collections:Muon")
    message = r"^optimizer 'Muon' needs torch>=2.9 \(installed: 2.8.0\); pip install 'torch>=2.9'$"
    with pytest.raises(BrokenPluginError, match=message):
        component.load()


def test_a_name_that_a_newer_torch_gave_up_is_just_broken(
    fake_distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("torch", "2.10.1")
    monkeypatch.setitem(components.ADDED_IN, "collections:Muon", "2.9")
    with pytest.raises(BrokenPluginError, match="no attribute 'Muon'"):
        Component.declared("optimizer", "Muon", ("argus-torch", "0.1.0"), "collections:Muon").load()


def test_a_torch_that_fails_to_import_is_just_broken(
    fake_distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("torch", "2.8.0")
    fake_distribution("medseg", modules={"medseg": "raise AttributeError('half a torch')"})
    monkeypatch.setitem(components.ADDED_IN, "medseg:Focal", "2.9")
    with pytest.raises(BrokenPluginError, match="AttributeError: half a torch"):
        declared("medseg:Focal").load()


def test_a_component_gives_its_factory_and_nothing_else() -> None:
    component = declared("collections:Counter")
    assert component.gives(collections.Counter)
    assert not component.gives(Focal)
    assert Component.in_process("loss", "focal", Focal).gives(Focal)


def test_asking_for_another_factory_imports_nothing(fake_distribution) -> None:
    fake_distribution("medseg", modules={"medseg": ""})
    assert not declared("medseg:Focal").gives(collections.Counter)
    assert "medseg" not in sys.modules


def test_a_namesake_in_a_plugin_that_breaks_is_not_given(fake_distribution) -> None:
    fake_distribution("medseg", modules={"medseg.losses": "class Focal: pass", "medseg.api": "1 / 0"})
    component = declared("medseg.api:Focal")
    factory = importlib.import_module("medseg.losses").Focal
    assert not component.gives(factory)
    assert component.state == "broken"
    assert not component.gives(factory)


def test_a_blocked_component_gives_nothing() -> None:
    assert not declared("collections:Counter", blocked_by="ARGUS_PLUGINS").gives(collections.Counter)


def test_what_is_re_exported_is_declared_by_its_package(fake_distribution) -> None:
    fake_distribution(
        "medseg",
        modules={"medseg": "from medseg.losses import Focal", "medseg.losses": "class Focal: pass"},
    )
    factory = importlib.import_module("medseg").Focal
    assert declared("medseg:Focal").declares(factory)
    assert declared("medseg.losses:Focal").declares(factory)
    assert not declared("medseg.api:Focal").declares(factory)
    assert not declared("medseg:Other").declares(factory)


def test_a_namesake_that_is_another_object_is_not_declared(fake_distribution) -> None:
    fake_distribution("medseg", modules={"medseg": "class Focal: pass", "medseg.losses": "class Focal: pass"})
    assert not declared("medseg:Focal").declares(importlib.import_module("medseg.losses").Focal)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_kind(kind: str) -> None:
    check_kind(kind)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("optimiser", r"^no kind 'optimiser'; did you mean 'optimizer'\? \(15 kinds: argus list\)$"),
        (3, r"^no kind 3 \(15 kinds: argus list\)$"),
        (["loss"], r"^no kind \['loss'\]; did you mean 'loss'\? "),
    ],
)
def test_an_unknown_kind_is_refused_with_near_ones(kind: object, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        check_kind(kind)


@pytest.mark.parametrize("name", ["", "a/b", " a", "a ", "a b", "a\tb", "a\u2003b", "\n"])
def test_a_name_that_could_not_be_written_is_refused(name: str) -> None:
    with pytest.raises(
        SpecError, match="cannot name a loss; give a name that is not empty, without '/' and spaces"
    ):
        check_name("loss", name)


@pytest.mark.parametrize("name", [None, 3, b"focal", ("focal",)])
def test_a_name_that_is_not_a_string_is_refused(name: object) -> None:
    with pytest.raises(SpecError, match=r"the name of loss .* is of type \w+; give a string"):
        check_name("loss", name)


def test_where_a_callable_is_defined_is_its_name_or_its_types() -> None:
    assert where_defined(Focal) == f"{__name__}:Focal"
    assert where_defined(functools.partial(Focal)) == "functools:partial"
    assert where_defined("".join).startswith("builtins:")
