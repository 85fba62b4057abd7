"""The tutorial's package for every slot, as its reader makes it: files, wheel, install, train by name.

All of it is taken from the page. Run by ``tox run -e plugins`` alone, since it installs and uninstalls.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest
from processes import argus, output_of, pip

from argus_core.steps.hooks import StepHooks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = pages.DOCS / "tutorial" / "first-plugin.md"
SECTION = PAGE.read_text("utf-8").partition("\n### A package for every slot\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
FILES = {named[1]: block for _, block in BLOCKS if (named := re.match(r"# ([\w./-]+\.(?:py|toml))\n", block))}
(COMMANDS,) = (block for language, block in BLOCKS if language == "console")
(OUTPUT,) = (block for language, block in BLOCKS if language == "output")
PROJECT = tomllib.loads(FILES["argus-slots/pyproject.toml"])["project"]
STRATEGIES = PROJECT["entry-points"]["argus_core.step"]
Trained = tuple[str, dict[str, tuple[list[str], list[str]]]]
SLOTS = {name for name in vars(StepHooks) if not name.startswith("_")}

# Trains with each strategy of the package, chosen by name, validates, saves and loads; a strategy that can be
# asked about a full memory gets one. Prints where the package is, and for each strategy its slots and those
# that were called.
REACHED = """
import json, sys, torch, argus_core
from argus_core.steps.hooks import StepHooks

class Hungry(torch.nn.Linear):
    def forward(self, input):
        if len(input) > 2:
            raise torch.OutOfMemoryError("three samples are too many")
        return super().forward(input)

def note(frame, event, argument):
    if event == "call" and frame.f_globals.get("__name__") == "argus_slots":
        reached.add(frame.f_code.co_name)

argus_core.register("nn_module", "small", torch.nn.Linear)
argus_core.register("nn_module", "hungry", Hungry)
slots = [slot for slot in vars(StepHooks) if not slot.startswith("_")]
found = {{}}
for name in {names}:
    has = [slot for slot in slots if hasattr(argus_core.resolve("step", name).load(), slot)]
    hungry = "out_of_memory" in has
    data = [(torch.randn(n, 4), torch.randint(3, (n,))) for n in ([3] if hungry else [8, 8, 5])]
    reached = set()
    sys.setprofile(note)
    model = argus_core.Model({{
        "nn_module": ("hungry" if hungry else "small", {{"in_features": 4, "out_features": 3}}),
        "loss": "CrossEntropyLoss", "optimizer": ("SGD", {{"lr": 0.1}}), "step": name, "device": "cpu",
    }})
    model.fit(data, val_loader=[(input[:2], target[:2]) for input, target in data])
    model.predict(data[0][0][:2])
    model.save("model.safetensors", optimizer_state=True)
    argus_core.load_model("model.safetensors")
    sys.setprofile(None)
    found[name] = [has, [slot for slot in slots if slot in reached]]
print(json.dumps([sys.modules["argus_slots"].__file__, found]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write the page's files, run its pip commands, and take the package away again afterwards."""
    root = tmp_path_factory.mktemp("tutorial")
    for path, text in FILES.items():
        file = root / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    for line in COMMANDS.splitlines():
        if line.startswith("$ python -m pip"):
            # Not from an index, where a stranger's package may have the name, nor with tools from there.
            verb, *arguments = shlex.split(line)[4:]
            offline = ["--no-index", *(["--no-build-isolation"] if verb == "wheel" else [])]
            pip(verb, *offline, *arguments, folder=root)
    yield root
    pip("uninstall", "--yes", PROJECT["name"])


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    """Return what a fresh process found: see `REACHED`."""
    file, found = json.loads(output_of(REACHED.format(names=[*STRATEGIES]), folder))
    return file, found


def test_the_package_is_installed_and_not_found_in_a_folder(trained: Trained) -> None:
    assert "site-packages" in trained[0]


def test_its_names_are_listed_as_the_page_says(folder: Path) -> None:
    expected = [line.split() for line in COMMANDS.splitlines() if PROJECT["name"] in line.split()]
    listed = [line.split() for line in argus("list", "step", folder=folder).splitlines()]
    assert [line for line in listed if PROJECT["name"] in line] == expected
    assert sorted(line[1] for line in expected) == sorted(STRATEGIES)


def test_training_with_all_of_them_prints_what_the_page_says(folder: Path) -> None:
    printed = output_of("import runpy; runpy.run_path('train_slots.py')", folder)
    assert pages.difference(OUTPUT, printed) is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_slot_of_a_strategy_chosen_by_name_is_reached(name: str, trained: Trained) -> None:
    has, reached = trained[1][name]
    assert reached == has


def test_together_they_reach_every_slot_that_there_is(trained: Trained) -> None:
    assert set().union(*(reached for _, reached in trained[1].values())) == SLOTS
