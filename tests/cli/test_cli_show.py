"""``argus show`` of components whose own code fails as it is looked at, prints, or has too much to say."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from click.testing import CliRunner, Result

import argus_core
from argus_core.cli import main
from argus_core.registry.file_params import file_params_of

pytestmark = pytest.mark.torchfree

SOURCE = """
class Fails:
    def __repr__(self):
        raise ValueError("no repr")

class Ends:
    def __repr__(self):
        raise SystemExit(7)

class IsNotText:
    def __repr__(self):
        return 3

class Prints:
    def __repr__(self):
        print("printed")
        return "Prints()"

class Forges:
    def __repr__(self):
        return "1)\\nerror: forged\\x1b[31m"

deep = []
for _ in range(100_000):
    deep = [deep]

def fails(a=Fails(), b: "int" = 1): "Says so."
def ends(a=Ends()): ...
def is_not_text(a=IsNotText()): ...
def prints(a=Prints()): ...
def forges(a=Forges()): ...
def nests(a=deep): ...
def is_large(a=10**10_000): ...
def is_long(a=list(range(10**5))): ...
def has_type(a: Fails() = 1): ...
def tells(a=1): ...
tells.__doc__ = "very\\n" * 10**6

class _Documentation:
    def __get__(self, instance, owner=None):
        raise RuntimeError("no documentation")

class Undocumented:
    __doc__ = _Documentation()

    def __init__(self): ...

class _Unsigned:
    @property
    def __signature__(self):
        raise RuntimeError("no signature")

    def __call__(self): ...

class _WithoutAttributes:
    def __getattr__(self, name):
        raise KeyError(name)

    def __call__(self): ...

unsigned = _Unsigned()
without_attributes = _WithoutAttributes()

def itself(a=1): ...
itself.__wrapped__ = itself

print("imported")
"""
NAMES = (
    "fails ends is_not_text prints forges nests is_large is_long has_type tells Undocumented unsigned "
    "without_attributes itself"
).split()


@pytest.fixture(autouse=True)
def installed(fake_distribution: Any, scan_registry: Any) -> None:
    entries = {name: f"odd:{name}" for name in NAMES}
    fake_distribution("odd", "1.0", {"loss": entries}, {"odd": SOURCE})
    scan_registry()


def show(name: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["show", "loss", name, *options], catch_exceptions=False)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("fails", "fails(a=<Fails, which cannot be shown: ValueError>, b: int = 1)"),
        ("ends", "ends(a=<Ends, which cannot be shown: SystemExit>)"),
        ("is_not_text", "is_not_text(a=<IsNotText, which cannot be shown: TypeError>)"),
        ("prints", "prints(a=Prints())"),
        ("forges", r"forges(a=1)\nerror: forged\x1b[31m)"),
        ("nests", "nests(a=<list, which cannot be shown: RecursionError>)"),
        ("is_large", "is_large(a=<int, which cannot be shown: ValueError>)"),
        ("has_type", "has_type(a: <Fails, which cannot be shown: ValueError> = 1)"),
    ],
)
def test_default_or_type_whose_text_fails_leaves_the_others(name: str, signature: str) -> None:
    result = show(name)
    assert (result.exit_code, result.stdout.splitlines()[3]) == (0, signature)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Undocumented", "RuntimeError: no documentation"),
        ("unsigned", "RuntimeError: no signature"),
        ("without_attributes", "KeyError: "),
        ("itself", "ValueError: wrapper loop when unwrapping"),
    ],
)
def test_component_whose_own_code_fails_is_told_in_one_sentence(name: str, told: str) -> None:
    result = show(name)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()[-1:]
    assert line.startswith(f"error: loss '{name}' of odd 1.0 cannot be shown: {told}")
    assert line.endswith("; upgrade or reinstall odd")


@pytest.mark.parametrize("name", ["tells", "is_long"])
def test_what_is_endless_is_cut(name: str) -> None:
    assert len(show(name).stdout) < 2**17
    assert "characters)" in show(name).stdout


def test_what_a_component_prints_is_no_output_of_the_command() -> None:
    result = show("prints", "--json")
    assert json.loads(result.stdout)["parameters"][0]["default"] == "Prints()"
    assert {"imported", "printed"} <= set(result.stderr.splitlines())


def test_component_that_wraps_itself_declares_nothing_of_its_parameters() -> None:
    assert file_params_of(argus_core.resolve("loss", "itself").load()) == {}


def test_json_has_no_numbers_that_json_has_not() -> None:
    def endless() -> dict[str, Any]:
        return {"model": {"nn_module": ["net", {"scale": [math.inf, -math.inf, math.nan, 0.5]}]}}

    argus_core.register("config", "endless", endless)
    result = CliRunner().invoke(main, ["show", "config", "endless", "--json"], catch_exceptions=False)
    configuration = json.loads(result.stdout, parse_constant=pytest.fail)["configuration"]
    assert "inf" in json.dumps(configuration)
