"""The contract of a configuration template."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

from argus_core.config import SECTIONS, build_template, complete_config, resolved_toml, specs_of
from argus_core.config.template import read_layers
from argus_core.registry.registry import resolve
from argus_core.testing.comparison import difference
from argus_core.testing.contract import FIRST_CHECKS, Contract, expect

__all__ = ["ConfigContract"]

# The code of a new process, which must not have imported torch before, unlike a fork of the server.
_PROGRAM = """
import json, sys
from pathlib import Path
from argus_core.config.template import read_layers

template = json.load(sys.stdin)
sections = read_layers({"template": template}, "template")
json.dump([sections, "torch" in sys.modules], sys.stdout)
"""
_PATIENCE = 300.0  # seconds


class ConfigContract(Contract):
    """The contract of a template: it returns the same valid configuration each time, without torch."""

    kind = "config"
    options = MappingProxyType({"complete": True})
    checks = (
        *FIRST_CHECKS,
        "return_the_same_again",
        "set_known_keys",
        "choose_installed_components",
        "leave_the_run_directory_to_the_file",
        "be_read_without_torch_in_a_fresh_process",
    )
    essential = (*Contract.essential, "set_known_keys")

    @property
    def document(self) -> dict[str, Any]:
        """A configuration that contains only the template."""
        return {"template": [self.name, dict(self.params)]}

    def be_built(self) -> None:
        self.template = build_template(self.component, self.params)

    def return_the_same_again(self) -> None:
        again = build_template(self.component, self.params)
        problem = difference(again, self.template, where="its configuration")
        expect(problem is None, f"built again {problem}; let its values depend only on its parameters")

    def set_known_keys(self) -> None:
        self.sections = read_layers(self.document, "a file")
        if self.options["complete"]:
            config = complete_config(self.document, Path("a-file.toml"))
            resolved_toml(config)

    def choose_installed_components(self) -> None:
        for kind, name in self._chosen_parts():
            component = resolve(kind, name)
            expect(
                component.provider is not None or not self.reload,
                f"it chooses {kind} {name!r}, which is registered only in this process; publish that too",
            )

    def leave_the_run_directory_to_the_file(self) -> None:
        expect(
            "run_dir" not in self.sections["fit"],
            "its [fit] has 'run_dir', so two files with this template would write to one run directory; "
            "leave it out, and each run is kept in runs/ under the name of its file",
        )

    def be_read_without_torch_in_a_fresh_process(self) -> None:
        with tempfile.TemporaryDirectory() as folder:  # an empty folder, so only installed packages are found
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM],
                cwd=folder, input=json.dumps(self.document["template"]),
                capture_output=True, text=True, encoding="utf-8", timeout=_PATIENCE, check=False,
            )  # fmt: skip
        lines = done.stderr.strip().splitlines()
        expect(done.returncode == 0, f"in a new process it raised {lines[-1] if lines else 'nothing'}")
        sections, has_torch = json.loads(done.stdout.splitlines()[-1])
        problem = difference(sections, json.loads(json.dumps(self.sections)), where="its configuration")
        expect(problem is None, f"in a new process {problem}; let its values depend only on its parameters")
        expect(
            not has_torch,
            "its module imports torch, which makes argus show slow; keep the template in a module that needs "
            "no torch",
        )

    def _chosen_parts(self) -> Iterator[tuple[str, str]]:
        yield from (("model", name) for name in [self.sections["model"].get("name")] if name)
        for section, keys in SECTIONS.items():
            for key, known in keys.items():
                value = self.sections[section].get(key)
                if known.kind and value is not None and (section == "data" or not isinstance(value, dict)):
                    yield from ((known.kind, spec.name) for _, spec in specs_of(known.kind, value, key))
