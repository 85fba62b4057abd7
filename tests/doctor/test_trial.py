"""A component is tried step by step, and what is wrong is told with the step."""

from __future__ import annotations

import io
from typing import Any

import pytest
from conftest import HAS_TORCH
from installed_plugins import FOLDER, is_like, plugins

from argus_core.doctor.trial import try_component
from argus_core.registry.component import ADDED_IN, Component

pytestmark = pytest.mark.torchfree

# Those that can be tried in the process of the tests: no more than an exception comes of it.
TRIED = ("import", "entry point", "hook")
EXPECTED = [
    (name, expected)
    for name, pyproject in plugins().items()
    for expected in pyproject.get("tool", {}).get("expected", [])
    if expected["sort"] in TRIED and (HAS_TORCH or "strateg" not in name)
]


@pytest.mark.parametrize(
    ("name", "expected"), EXPECTED, ids=[f"{name} {expected['subject']}" for name, expected in EXPECTED]
)
def test_fault_is_found_by_a_trial(
    fake_distribution: Any, monkeypatch: pytest.MonkeyPatch, name: str, expected: dict[str, str]
) -> None:
    monkeypatch.syspath_prepend(FOLDER / name)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    fake_distribution.modules.add(name.replace("-", "_"))  # to be forgotten
    kind, quoted = expected["subject"].split(" ")
    short = quoted.strip("'")
    project = plugins()[name]["project"]
    target = project["entry-points"][f"argus_core.{kind}"][short]
    (finding,) = try_component(Component.declared(kind, short, (name, project["version"]), target))
    assert finding["sort"] == expected["sort"]
    assert is_like(finding["problem"], expected["problem"])
    assert is_like(finding["fix"], expected["fix"])


def test_error_in_what_a_plugin_is_built_on_is_told_with_its_place(fake_distribution: Any) -> None:
    modules = {"medseg": "import older\nclass Focal: ...", "older": "raise RuntimeError('made for others')"}
    fake_distribution("medseg", modules=modules)
    (finding,) = try_component(Component.declared("loss", "focal", ("medseg", "1.0"), "medseg:Focal"))
    assert "RuntimeError: made for others (" in finding["problem"]
    assert finding["problem"].endswith("older/__init__.py:1)")
    assert finding["fix"] == "upgrade or reinstall medseg"


def test_class_that_torch_does_not_have_yet_is_a_note(
    fake_distribution: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distribution("medseg", modules={"medseg": ""})
    monkeypatch.setitem(ADDED_IN, "medseg:New", "99.0")
    component = Component.declared("loss", "New", ("argus-torch", "1.0"), "medseg:New")
    (finding,) = try_component(component)
    assert (finding["sort"], finding["fix"]) == ("", "")
    assert finding["problem"].startswith("loss 'New' needs torch>=99.0 (installed: ")


BUILT = [
    ("def build(): ...", "it is built by a function"),
    (
        "import abc\nclass build(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...",
        "an instance without its __init__ raises TypeError",
    ),
    ("class build(dict): ...", "an instance without its __init__ raises TypeError"),
    (
        (
            "from argus_core import Callback\nclass build(Callback):\n"
            "    name = property(lambda self: self.label)\n    def start(self, state): ..."
        ),
        "an instance without its __init__ raises AttributeError",
    ),
]


@pytest.mark.parametrize(("source", "reason"), BUILT)
def test_hooks_that_are_seen_on_an_instance_only_are_a_note(
    fake_distribution: Any, source: str, reason: str
) -> None:
    fake_distribution("medseg", modules={"medseg": source})
    component = Component.declared("callback", "built", ("medseg", "1.0"), "medseg:build")
    (finding,) = try_component(component)
    assert finding == {
        "sort": "",
        "problem": f"its hooks are not checked: {reason}",
        "fix": "",
    }
