"""Requirements: what to install for a missing component, and the command that installs it."""

from __future__ import annotations

from collections.abc import Sequence

from argus_core.registry.metadata import is_name, is_version, normalised

__all__ = ["PUBLISHED", "is_own", "pip_install", "requirement"]

_MOST_INSTALLED = 50

_OWN_PLUGINS: dict[str, dict[str, str]] = {
    "argus-compat": {},
    "argus-example": {
        "loss": "focal",
        "nn_module": "cnn",
        "step": "gradient_centralization",
        "transform": "temperature_softmax",
    },
    "argus-optuna": {"command": "sweep"},
    "argus-plots": {"callback": "confusion_matrix curves"},
    "argus-sklearn": {"config": "digits", "dataset": "breast_cancer diabetes digits wine"},
    "argus-tensorboard": {"callback": "tensorboard"},
    "argus-timm": {"nn_module": "timm"},
    "argus-torchmetrics": {},
    "argus-torchvision": {
        "collate": "CutMix MixUp",
        "dataset": "CIFAR10 CIFAR100 FakeData FashionMNIST ImageFolder KMNIST MNIST",
        "reader": "image",
    },
}

PUBLISHED: dict[tuple[str, str], str] = {
    (kind, name): provider
    for provider, kinds in _OWN_PLUGINS.items()
    for kind, names in kinds.items()
    for name in names.split()
}
"""The package that provides a name of this project's own plugins, by kind and name.

Names that a plugin takes from a library, such as hundreds of networks, are left out.
"""


def requirement(provider: str, version: str | None) -> str | None:
    """Return the argument of ``pip install`` for a package, quoted for a shell; None for any other text.

    pip also takes addresses, paths and options, which a hostile file may give as the name of a package.
    """
    if not is_name(provider):
        return None
    return _quoted(f"{provider}=={version}" if version and is_version(version) else provider)


def is_own(provider: str) -> bool:
    """Return whether a package is one of this project's plugins, which are on no index yet."""
    return normalised(provider) in _OWN_PLUGINS


def pip_install(requirements: Sequence[str]) -> str:
    """Return the command that installs packages, or the first of them, and one for this project's plugins.

    Args:
        requirements: names of packages, or results of `requirement`.
    """
    names = {each: normalised(each.strip("'").partition("==")[0]) for each in requirements}
    own = [name for name in names.values() if name in _OWN_PLUGINS]
    others = [each for each, name in names.items() if name not in _OWN_PLUGINS]
    commands = [f"pip install {' '.join(others[:_MOST_INSTALLED])}"] if others else []
    rest = len(others) - _MOST_INSTALLED
    if rest > 0:
        commands[0] += f", and {rest:,} more packages, listed once these are installed"
    if own:
        folders = " ".join(f"-e plugins/{name}" for name in own)
        commands.append(f"in a checkout of argus_core: pip install -e . {folders}")
    return "; ".join(commands)


def _quoted(text: str) -> str:
    """Return text quoted as one word for a shell."""
    return "'" + text.replace("'", "'\"'\"'") + "'"
