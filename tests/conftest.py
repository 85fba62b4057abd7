"""What all tests share. It never imports torch by itself: some of them run where torch is not installed."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from argus_core.registry import discovery, metadata
from argus_core.registry.registry import Registry, isolated_registry

HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out, where there is no torch, the files whose tests need it."""
    if HAS_TORCH or collection_path.suffix != ".py":
        return None
    return "pytest.mark.torchfree" not in collection_path.read_text("utf-8") or None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `tox run -e faults` ask for many more trials of each fault, and `tox run -e matrix` for more."""
    parser.addoption("--long-faults", action="store_true", help="make the long versions of the fault tests")
    parser.addoption("--long-matrix", action="store_true", help="combine up to four step strategies")


def pytest_configure(config: pytest.Config) -> None:
    """Let Hypothesis time no example, which says more about the machine, and try more for long faults."""
    from hypothesis import settings

    settings.register_profile("untimed", deadline=None)
    settings.register_profile("long faults", max_examples=2000, deadline=None)
    settings.load_profile("long faults" if config.getoption("long_faults") else "untimed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the fault tests counted, for docs/explanation/what-a-checkpoint-promises.md."""
    if config.getoption("long_faults"):
        terminalreporter.section("faults")
        for report in terminalreporter.stats.get("passed", []):
            for fault, result in report.user_properties:
                terminalreporter.line(f"{fault}: {result}")


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return how many trials to make: the first number, or the second with ``--long-faults``."""
    return lambda short, long: long if request.config.getoption("long_faults") else short


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests that need a GPU where there is none."""
    if item.get_closest_marker("gpu") is not None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """Let signals do what they usually do, here and in programs that the test starts.

    The process that starts the tests may ignore some, as under ``nohup``, and its children inherit that.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):
        usual |= {signal.SIGHUP: signal.SIG_DFL, signal.SIGUSR1: signal.SIG_DFL}
    before = {signum: signal.signal(signum, handler) for signum, handler in usual.items()}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


class FakeDistributions:
    """Makes throw-away distributions, installed as far as anything that reads metadata can tell.

    Called with a name, a version, entry points by kind (``{"loss": {"focal": "medseg.losses:Focal"}}``)
    or by a whole group, which has a dot, and the sources of modules by dotted name, it puts them into a
    folder of their own, first on ``sys.path``, and returns that folder.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path: list[str] = []
        self.modules: set[str] = set()
        self._root = root
        self._monkeypatch = monkeypatch

    def __call__(
        self,
        name: str,
        version: str = "1.0",
        entry_points: Mapping[str, Mapping[str, str]] | None = None,
        modules: Mapping[str, str] | None = None,
    ) -> Path:
        folder = self._root / f"{len(self.path)}-{name}"
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8"
        )
        (metadata / "entry_points.txt").write_text(self._ini(entry_points or {}), "utf-8")
        for module, source in (modules or {}).items():
            self._write(folder, module, source)
        self.path.insert(0, str(folder))
        self._monkeypatch.syspath_prepend(folder)
        return folder

    def _ini(self, entry_points: Mapping[str, Mapping[str, str]]) -> str:
        return "\n".join(
            f"[{kind if '.' in kind else f'argus_core.{kind}'}]\n"
            + "".join(f"{name} = {target}\n" for name, target in targets.items())
            for kind, targets in entry_points.items()
        )

    def _write(self, folder: Path, module: str, source: str) -> None:
        self.modules.add(module.partition(".")[0])
        package = folder
        for part in module.split("."):
            package /= part
            package.mkdir(exist_ok=True)
            (package / "__init__.py").touch()
        (package / "__init__.py").write_text(source, "utf-8")

    def forget(self) -> None:
        """Drop what was imported from them."""
        for module in [name for name in sys.modules if name.partition(".")[0] in self.modules]:
            del sys.modules[module]


@pytest.fixture
def fake_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Make distributions for one test, in a project without pins and an environment without plugin lists."""
    for variable in ("ARGUS_PLUGINS", "ARGUS_DISABLE_PLUGINS", "ARGUS_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(project)
    fake = FakeDistributions(tmp_path / "site", monkeypatch)
    yield fake
    fake.forget()


@pytest.fixture
def scan_registry(fake_distribution: FakeDistributions) -> Iterator[Callable[[], Registry]]:
    """Scan, when called, the distributions that the test has made, and no others.

    The registry that it returns is the active one until the test ends.
    """
    with isolated_registry() as registry:

        def scan() -> Registry:
            registry.update(discovery.scan(fake_distribution.path))
            return registry

        yield scan


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Keep a None for each time that the metadata of all packages are listed to look for some of them."""
    made: list[None] = []

    def listed(path: Any = None) -> Any:
        made.append(None)
        return metadata.all_metadata(path)

    monkeypatch.setattr("argus_core.registry.distributions.all_metadata", listed)
    return made


@pytest.fixture
def small_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with the small configuration alone, and what it names registered."""
    from small_runs import small_config, small_registry

    monkeypatch.chdir(tmp_path)
    small_config(tmp_path)
    with small_registry():
        yield tmp_path


@pytest.fixture
def strategies_registry() -> Iterator[None]:
    """Give a test the built-in components, and those of `strategies`."""
    from strategies import register_all  # needs torch

    with isolated_registry(builtins=True):
        register_all()
        yield


@pytest.fixture
def net_registry() -> Iterator[None]:
    """Give a test the built-in components, and `networks.Net` as nn_module ``net``."""
    from networks import Net  # needs torch

    with isolated_registry(builtins=True) as registry:
        registry.register("nn_module", "net", Net)
        yield
