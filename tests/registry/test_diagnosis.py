"""Every rung of the ladder of errors says what is wrong and what to do, and imports nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from argus_core.errors import (
    AmbiguousNameError,
    ArgusError,
    BlockedPluginError,
    ConfigError,
    UnknownNameError,
    near,
)
from argus_core.registry.diagnosis import Missing, missing_action, missing_message
from argus_core.registry.registry import Registry
from argus_core.registry.requirements import PUBLISHED, is_own, requirement

pytestmark = pytest.mark.torchfree

Scan = Callable[[], Registry]

OPTIMIZERS = """
    ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax LBFGS Muon NAdam RAdam RMSprop Rprop SGD SparseAdam
""".split()


@pytest.fixture
def registry(fake_distribution, scan_registry: Scan) -> Registry:
    optimizers = {name: f"torch.optim:{name}" for name in OPTIMIZERS}
    fake_distribution("argus-torch", "0.1.0", {"optimizer": optimizers})
    entry_points = {
        "nn_module": {"unet": "medseg:UNet", "linknet": "medseg:LinkNet", "both": "medseg:Both"},
        "loss": {"focal": "medseg:Focal", "both": "medseg:BothLoss"},
        "removed": {"nn_module.vnet": "unet"},
    }
    fake_distribution("medseg", "2.1", entry_points, {"medseg": "raise SystemExit"})
    fake_distribution("plain", "0.3")
    return scan_registry()


LADDER = """
optimiser Adam
    no kind 'optimiser'; did you mean 'optimizer'?
optimizer adamm
    no optimizer named 'adamm'; did you mean 'Adam' or 'AdamW'? (15 known: argus list optimizer)
optimizer torch.optim.SGD
    no optimizer named 'torch.optim.SGD'; did you mean 'SGD'? (15 known: argus list optimizer)
optimizer torch.optim:SGD
    no optimizer named 'torch.optim:SGD'; did you mean 'SGD'? (15 known: argus list optimizer)
optimizer zzz
    no optimizer named 'zzz' (15 known: argus list optimizer); install its package, or register \
your own: argus_core.register, in a script or a file for --parts
optimizer focal
    no optimizer named 'focal'; there is a loss of that name (15 known: argus list optimizer)
metric both
    no metric named 'both'; there is a loss and an nn_module of that name (no installed package has one: \
argus list metric)
loss SGD
    no loss named 'SGD'; there is an optimizer of that name (2 known: argus list loss)
command sweep
    no command named 'sweep'; in a checkout of argus_core: pip install -e . -e plugins/argus-optuna \
(no installed package has one: argus list command)
dataset digits
    no dataset named 'digits'; in a checkout of argus_core: pip install -e . -e plugins/argus-sklearn \
(no installed package has one: argus list dataset)
nn_module vnet
    nn_module 'vnet' was removed from medseg 2.1; use 'unet'
nn_module medseg/vnet
    nn_module 'vnet' was removed from medseg 2.1; use 'unet'
nn_module MedSeg/unett
    no nn_module named 'unett' in medseg 2.1; did you mean 'unet'? (3 known: argus list nn_module)
nn_module medseg/focal
    no nn_module named 'focal' in medseg 2.1; there is a loss of that name (3 known: argus list nn_module)
metric medseg/dice
    no metric named 'dice' in medseg 2.1 (it has no metric: argus list metric)
metric plain/dice
    no metric named 'plain/dice': plain 0.3 is installed but declares no components (see: argus list metric)
metric mdseg/dice
    no metric named 'mdseg/dice': the package 'mdseg' is not installed; did you mean 'medseg'?
metric faraway/dice
    no metric named 'faraway/dice': the package 'faraway' is not installed; pip install faraway
nn_module mdseg/unet
    no nn_module named 'mdseg/unet': the package 'mdseg' is not installed; did you mean 'medseg/unet'?
nn_module Argus_Timm/resnet18
    no nn_module named 'Argus_Timm/resnet18': the package 'Argus_Timm' is not installed; in a checkout of \
argus_core: pip install -e . -e plugins/argus-timm
metric medsag/dice.a1_in1k
    no metric named 'medsag/dice.a1_in1k': the package 'medsag' is not installed; did you mean 'medseg'?
dataset train.csv
    no dataset named 'train.csv': it is a path; give the name of a dataset (argus list dataset), \
and the path as one of its parameters
nn_module weights.pth
    no nn_module named 'weights.pth': it is a path; give the name of an nn_module (argus list nn_module), \
and the path as one of its parameters
dataset new/images.npy
    no dataset named 'new/images.npy': it is a path; give the name of a dataset (argus list dataset), \
and the path as one of its parameters
dataset ~/new
    no dataset named '~/new': it is a path; give the name of a dataset (argus list dataset), \
and the path as one of its parameters
dataset new/photos/cats
    no dataset named 'new/photos/cats': it is a path; give the name of a dataset (argus list dataset), \
and the path as one of its parameters
"""
LINES = LADDER.strip().splitlines()


@pytest.mark.parametrize(("asked", "message"), [*zip(LINES[::2], LINES[1::2], strict=True)])
def test_an_unknown_name_says_what_to_do(registry: Registry, asked: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=f"^{re.escape(message.strip())}$"):
        registry.resolve(*asked.split())
    assert "medseg" not in sys.modules


def test_a_published_name_that_its_package_lacks_is_not_to_be_installed_again(
    registry: Registry, fake_distribution, scan_registry: Scan
) -> None:
    fake_distribution("argus-sklearn", "0.0.1", {"dataset": {"wine": "argus_sklearn.datasets:wine"}})
    with pytest.raises(UnknownNameError, match=r"^no dataset named 'digits' \(1 known"):
        scan_registry().resolve("dataset", "digits")


def test_what_is_to_be_installed_for_a_name_has_it() -> None:
    declared: dict[tuple[str, str], str] = {}
    for file in (Path(__file__).parents[2] / "plugins").glob("*/pyproject.toml"):
        project = tomllib.loads(file.read_text("utf-8"))["project"]
        for group, entries in project.get("entry-points", {}).items():
            kind = group.removeprefix("argus_core.")
            declared.update(((kind, name), project["name"]) for name in entries)
    assert PUBLISHED.items() <= declared.items()
    assert all(is_own(provider) for provider in declared.values())
    few = {key for key in declared if key[0] in ("callback", "collate", "command", "config", "dataset")}
    assert few <= PUBLISHED.keys()


def test_an_ambiguous_name_lists_all_with_versions_and_how_to_choose(
    registry: Registry, fake_distribution, scan_registry: Scan
) -> None:
    fake_distribution("other", "1.0", {"nn_module": {"unet": "other:UNet"}})
    scan_registry()
    message = (
        "nn_module 'unet' is provided by other 1.0 and medseg 2.1; "
        "write 'other/unet' or 'medseg/unet', or pin one, "
        'as in "nn_module.unet" = "other" under [tool.argus.prefer] in pyproject.toml'
    )
    with pytest.raises(AmbiguousNameError, match=f"^{re.escape(message)}$"):
        registry.resolve("nn_module", "unet")


@pytest.mark.parametrize(
    ("name", "provider", "reason"),
    [
        ("unet", "faraway", "is not installed; pin it to 'medseg'"),
        ("unet", "plain", "does not provide it in version 0.3; pin it to 'medseg'"),
        ("vnet", "faraway", "is not installed; install faraway or remove the pin"),
    ],
)
def test_a_pin_to_a_provider_without_the_name_is_an_error(
    registry: Registry, scan_registry: Scan, name: str, provider: str, reason: str
) -> None:
    Path("pyproject.toml").write_text(f'[tool.argus.prefer]\n"nn_module.{name}" = "{provider}"\n')
    scan_registry()
    message = rf"^\[tool.argus.prefer\] in .*pyproject.toml pins nn_module '{name}' to '{provider}', which "
    with pytest.raises(ConfigError, match=message + reason):
        registry.resolve("nn_module", name)


@pytest.mark.parametrize("name", ["unet", "medseg/unet"])
def test_a_blocked_name_says_which_variable_blocks_it(
    registry: Registry, scan_registry: Scan, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ARGUS_DISABLE_PLUGINS", "medseg")
    scan_registry()
    message = (
        r"^nn_module 'unet' of medseg 2\.1 is switched off by ARGUS_DISABLE_PLUGINS; "
        r"remove medseg from ARGUS_DISABLE_PLUGINS and start again$"
    )
    with pytest.raises(BlockedPluginError, match=message):
        registry.resolve("nn_module", name)


def test_blocked_names_are_not_suggested(
    registry: Registry, scan_registry: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_PLUGINS", "")
    scan_registry()
    with pytest.raises(UnknownNameError, match=r"^no optimizer named 'focal' \(15 known"):
        registry.resolve("optimizer", "focal")


def test_names_that_differ_in_case_alone_are_both_suggested() -> None:
    assert near("acuracy", ["accuracy", "Accuracy"]) == "; did you mean 'accuracy' or 'Accuracy'?"
    assert near("ACCURACY", ["accuracy", "Accuracy"]) == "; did you mean 'accuracy' or 'Accuracy'?"


@pytest.mark.parametrize("kind", ["nn_module", "loss", "optimizer", "metric", "model", "parallel"])
def test_every_error_is_one_sentence(registry: Registry, kind: str) -> None:
    with pytest.raises(ArgusError) as caught:
        registry.resolve(kind, "nothing-like-it")
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")


CNN = ("nn_module", "argus-example/cnn", "0.1.0", "argus-example is not installed")
UNET = ("nn_module", "medseg/unet", "2.1", "medseg is not installed")
FOCAL = ("loss", "medseg/focal", "2.1", "medseg is not installed")
DICE = ("metric", "other/dice", None, "other is not installed")
MINE = ("loss", "mine", None, "not registered")
YOURS = ("metric", "yours", None, "not registered")


def test_one_missing_component_says_what_to_install() -> None:
    message = (
        "not available here: nn_module 'medseg/unet' (medseg is not installed); pip install 'medseg==2.1'"
    )
    assert missing_message([UNET]) == message


def test_all_missing_components_are_listed_with_one_command() -> None:
    assert missing_message([UNET, FOCAL, DICE]) == (
        "not available here: nn_module 'medseg/unet' (medseg is not installed), loss 'medseg/focal' "
        "(medseg is not installed), metric 'other/dice' (other is not installed); "
        "pip install 'medseg==2.1' 'other'"
    )


def test_a_plugin_of_this_project_is_installed_from_a_checkout_and_others_from_the_index() -> None:
    checkout = "in a checkout of argus_core: pip install -e . -e plugins/argus-example"
    assert missing_action([CNN]) == checkout
    assert missing_action([CNN, UNET]) == f"pip install 'medseg==2.1'; {checkout}"


@pytest.mark.parametrize(
    ("parts", "action"),
    [
        ([MINE], "(not registered); for loss 'mine' import the code that registers it, or "),
        ([UNET, MINE], "; pip install 'medseg==2.1'; for loss 'mine' import the code that registers it, or "),
        ([MINE, YOURS], "; for loss 'mine' and metric 'yours' import the code that registers them, or "),
    ],
)
def test_what_was_registered_in_a_process_has_to_be_registered_again(
    parts: list[Missing], action: str
) -> None:
    assert action in missing_message(parts)
    assert missing_message(parts).endswith(" in a plugin")


@pytest.mark.parametrize(
    ("provider", "version", "expected"),
    [
        ("medseg", "2.1", "'medseg==2.1'"),
        ("Med_Seg.x", None, "'Med_Seg.x'"),
        ("medseg", "2.1 --index-url=https://a.invalid", "'medseg'"),
        ("medseg", "2.1 @ https://a.invalid/x.whl", "'medseg'"),
    ],
)
def test_a_name_with_a_version_is_what_pip_installs(
    provider: str, version: str | None, expected: str
) -> None:
    assert requirement(provider, version) == expected


ODD = [
    "git+https://a.invalid",
    "medseg @ https:",
    "--index-url=https:",
    "-rrequirements.txt",
    ".",
    "medseg\n",
    "",
    "?",
    " ",
    "\x1b[31m",
    "médseg",
    "m" * 1000,
]


@pytest.mark.parametrize("provider", ODD)
def test_what_is_not_a_name_is_nothing_to_install(provider: str) -> None:
    assert requirement(provider, "1.0") is None
    action = missing_action([("loss", f"{provider}/focal", "1.0", "named in the file"), UNET])
    assert action.startswith("pip install 'medseg==2.1'; for loss ")
    assert action.endswith(" ask the author of the file which package to install; the file does not say")


@pytest.mark.parametrize("provider", [each for each in ODD if each])
def test_a_provider_that_cannot_be_a_name_is_not_to_be_installed(registry: Registry, provider: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.resolve("loss", f"{provider}/focal")
    assert "pip install" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_thousands_of_missing_components_are_a_message_of_some() -> None:
    parts = [("step", f"package-{index}/step", "1.0", "named in the file") for index in range(5000)]
    message = missing_message([*parts, *(("loss", f"mine{index}", None, "") for index in range(5000))])
    assert "step 'package-19/step' (named in the file), 9,980 more; " in message
    assert "'package-49==1.0', and 4,950 more packages, listed once these are installed; " in message
    assert message.endswith("loss 'mine19' and 4,980 more import the code that registers them, or publish "
                            "them in a plugin")  # fmt: skip
    assert len(message) < 5000


def test_long_names_are_not_compared_since_that_takes_time_by_their_square() -> None:
    long, other = "ab" * 500_000, "ab" * 499_999 + "ba"
    assert near(long, [other, "ab"]) == ""
    assert near(long, [long]) == f"; did you mean {long!r}?"
    assert near("ab" * 90, ["ab" * 89 + "ba"]) != ""
