"""The names are those of torchmetrics' classes, all of them, and each is imported when it is used."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from importlib.metadata import distribution

import pytest
import torchmetrics
from cases import CASES, NEEDS

import argus_core
from argus_torchmetrics import classes
from argus_torchmetrics.catalogue import DOMAINS, OPTIONAL, find
from argus_torchmetrics.metric import TorchMetric

DECLARED = sorted(
    entry.name
    for entry in distribution("argus-torchmetrics").entry_points
    if entry.group == "argus_core.metric"
)
LEFT_OUT = {
    "wrappers": "take other metrics",
    "utilities": "holds no metrics",
    "functional": "holds functions",
}
LEFT_OUT_CLASSES = {"PerceptualPathLength": "takes a generator of images"}


def exported() -> set[str]:
    """Return the metrics of predictions and targets that the installed torchmetrics exports."""
    found = set()
    for domain in DOMAINS:
        module = importlib.import_module(f"torchmetrics.{domain}")
        members = {name: getattr(module, name) for name in module.__all__}
        found |= {
            name
            for name, member in members.items()
            if inspect.isclass(member) and issubclass(member, torchmetrics.Metric)
        }
    return found - LEFT_OUT_CLASSES.keys()


def test_every_exported_class_is_declared() -> None:
    assert exported() - set(DECLARED) == set()


def test_nothing_else_is_declared() -> None:
    assert set(DECLARED) == exported() | set(OPTIONAL)


def test_every_package_of_torchmetrics_is_a_domain_or_left_out_with_a_reason() -> None:
    packages = {module.name for module in pkgutil.iter_modules(torchmetrics.__path__) if module.ispkg}
    assert packages - set(DOMAINS) == LEFT_OUT.keys()


def test_every_declared_metric_has_a_case() -> None:
    assert set(DECLARED) == CASES.keys() | NEEDS.keys()
    assert not CASES.keys() & NEEDS.keys()


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_name_is_a_factory_of_the_class(name: str) -> None:
    component = argus_core.resolve("metric", name)
    assert component.provider == "argus-torchmetrics"
    factory = component.load()
    assert issubclass(factory, TorchMetric)
    assert factory.metric_class is find(name)
    assert factory.metric_class.__name__ == name == factory.__name__
    assert factory is getattr(classes, name)


def test_names_of_values_are_unique() -> None:
    names = [classes.snake_case(name) for name in DECLARED]
    assert len(set(names)) == len(names)


def test_an_unknown_class_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"torchmetrics [\d.]+ has no metric 'F2Score' of"):
        classes.F2Score  # noqa: B018


def test_torchmetrics_is_imported_only_when_a_metric_is_used() -> None:
    program = (
        "import sys, argus_core; assert 'BinaryAUROC' in argus_core.names('metric'); "
        "argus_core.resolve('metric', 'BinaryAUROC'); "
        "assert not {'torchmetrics', 'argus_torchmetrics', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
