"""The examples keep their word: each runs as a user would run it, learns, and loads again by name."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
import torch
from click.testing import CliRunner
from programs import run_program
from torch import nn
from torch.utils.data import DataLoader

import argus_core
from argus_core import cli
from argus_core.config import read_config
from argus_core.registry import discovery
from argus_core.registry.registry import isolated_registry
from argus_core.storage import CheckpointFile

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
CONFIGS = sorted(path.name for path in EXAMPLES.glob("*.toml"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, with what is installed registered and nothing else."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    with isolated_registry() as registry:
        registry.update(discovery.scan())
        yield tmp_path
    torch.set_num_threads(threads)  # which a configuration may have changed


def train(config: str, *options: str) -> float:
    """Train by the command line into the folder ``run``; return the best accuracy that it tells."""
    arguments = ["train", str(EXAMPLES / config), "--run-dir", "run", "--device", "cpu", *options]
    result = CliRunner().invoke(cli.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    best = re.search(r"^best val_accuracy: (\S+) \(epoch \d+\)$", result.output, re.MULTILINE)
    assert best is not None
    return float(best[1])


def digits(split: str) -> torch.utils.data.TensorDataset:
    dataset: torch.utils.data.TensorDataset = argus_core.resolve("dataset", "digits").load()(split=split)
    return dataset


@pytest.mark.parametrize("config", CONFIGS)
def test_config_reaches_97_percent_and_its_checkpoint_the_same_to_the_last_digit(
    config: str, folder: Path
) -> None:
    best = train(config)
    assert best >= 0.97
    model = argus_core.load_model(folder / "run/checkpoints/best.safetensors", optimizer=None)
    loader = DataLoader(digits("val"), batch_size=32)
    assert model.validate(loader, metrics=["accuracy"])["val_accuracy"] == best


def test_tutorial_shows_the_numbers_of_its_example_up_to_rounding(folder: Path) -> None:
    page = (EXAMPLES.parent / "docs/tutorial/first-run.md").read_text("utf-8")
    row = re.compile(r"^epoch \d/3  train_loss (\S+)  val_loss (\S+)  val_accuracy (\S+)", re.MULTILINE)
    train("digits.toml", "--set", "num_epochs=3")
    epochs = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    printed = [[epoch[name] for name in ("train_loss", "val_loss", "val_accuracy")] for epoch in epochs]
    shown = [[*map(float, match.groups())] for match in row.finditer(page)]
    # Another processor adds in another order: at most a few of 359 images change sides.
    assert np.allclose(shown, printed, atol=0.01)


def test_checkpoint_of_the_ema_example_predicts_with_the_averaged_weights(folder: Path) -> None:
    train("digits_sam_ema.toml", "--set", "num_epochs=1")
    checkpoint = folder / "run/checkpoints/best.safetensors"
    with CheckpointFile(checkpoint) as file:
        stored = file.read()
    averages = under("ema/averages/", stored)
    network: nn.Module = argus_core.resolve("nn_module", "cnn").load()(classes=10)
    network.load_state_dict(averages)
    images = digits("val")[:8][0]
    with torch.no_grad():
        expected = network.eval()(images).softmax(1)
    assert not torch.equal(averages["classifier.1.weight"], stored["nn/classifier.1.weight"])
    assert torch.equal(argus_core.load_model(checkpoint).predict(images), expected)


def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


# Projects.


@pytest.mark.filterwarnings("ignore:the run that resumes")  # of a schedule that is over, as the pages say
@pytest.mark.parametrize(("project", "run", "metric", "within"), [
    ("finetune", "finetune", "val_accuracy", (0.92, 1.0)),
    ("imbalance", "balanced", "val_balanced_accuracy", (0.92, 1.0)),
    ("segmentation", "unet", "val_loss", (0.0, 0.075)),
    ("tabular", "diabetes", "val_mae", (0.0, 47.4)),
    ("text", "short", "val_loss", (0.0, 2.1)),
])  # fmt: skip
def test_project_does_what_its_page_says_and_reaches_its_quality(
    project: str, run: str, metric: str, within: tuple[float, float], folder: Path
) -> None:
    """The page trains, tests and resumes, and predicts on new files; the text's run is a shorter one."""
    pages.run(pages.PROJECTS[project])
    values = values_of(folder / f"examples/{project}/runs/{run}", metric)
    best = min(values) if within[0] == 0.0 else max(values)
    assert within[0] <= best <= within[1]
    if project in PERCENT:
        told = re.findall(
            r"\b(\d+) %", pages.PROJECTS[project].read_text("utf-8").partition("## The project")[0]
        )
        found = [
            100 * reached(folder / f"examples/{project}/runs/{name}", what) for name, what in PERCENT[project]
        ]
        assert np.allclose(found, [*map(float, told)], atol=1.5)


@pytest.mark.parametrize("project", sorted(path.parent.name for path in EXAMPLES.glob("*/baseline.py")))
def test_baseline_of_a_project_prints_the_numbers_of_its_page(
    project: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / project)
    monkeypatch.delitem(sys.modules, "parts", raising=False)
    runpy.run_path(str(EXAMPLES / project / "baseline.py"))
    sys.modules.pop("parts", None)
    page = pages.PROJECTS[project].read_text("utf-8")
    shown = re.search(r"^\$ python baseline.py\n((?:[^$`].*\n)+)", page, re.MULTILINE)
    assert shown is not None
    printed, expected = capsys.readouterr().out, shown[1]
    number = re.compile(r"\d+\.\d+")
    assert number.sub("", printed) == number.sub("", expected)
    values, theirs = ([*map(float, number.findall(text))] for text in (printed, expected))
    assert np.allclose(values, theirs, rtol=0.02)  # another version of scikit-learn or of Python's help
    table = page.partition("## The project")[0]
    stated = [value for value in number.findall(expected) if f" {value} " in table]
    assert len(stated) >= 2


PERCENT = {
    "finetune": [
        ("scratch", "val_accuracy"), ("finetune", "val_accuracy"),
        ("scratch", "test_accuracy"), ("finetune", "test_accuracy"),
    ],
    "imbalance": [
        ("plain", "val_balanced_accuracy"), ("plain", "test_balanced_accuracy"),
        ("balanced", "val_balanced_accuracy"), ("balanced", "test_balanced_accuracy"),
    ],
}  # fmt: skip
"""The runs and metrics whose values a page states in per cent, in order."""


BASELINES = [("finetune", "scratch.toml", "finetune.toml"), ("imbalance", "plain.toml", "balanced.toml")]


@pytest.mark.parametrize(("project", "baseline", "better"), BASELINES, ids=lambda value: str(value))
def test_baseline_of_a_project_is_its_configuration_but_for_what_the_page_is_about(
    project: str, baseline: str, better: str
) -> None:
    ours = read_config(EXAMPLES / project / better)
    theirs = read_config(EXAMPLES / project / baseline)
    assert ours.fit | {"run_dir": ""} == theirs.fit | {"run_dir": ""}
    differing = {key for key in ours.data if ours.data[key] != theirs.data.get(key)}
    assert differing <= {"sampler", "shuffle"}


def values_of(run: Path, metric: str) -> list[float]:
    records = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
    return [record[metric] for record in records if metric in record]


def reached(run: Path, metric: str) -> float:
    """Return the value of the best checkpoint."""
    if metric.startswith("test_"):
        value: float = json.loads((run / "test.json").read_text("utf-8"))[metric]
        return value
    return max(values_of(run, metric))


@pytest.mark.parametrize("project", sorted(pages.PROJECTS))
def test_project_has_at_most_30_lines_of_code_of_its_own(project: str) -> None:
    source = (EXAMPLES / project / "parts.py").read_text("utf-8")
    strings = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    documented = {line for node in strings for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = [
        line
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#") and number not in documented
    ]
    assert len(lines) <= 30


def test_every_project_has_a_page() -> None:
    assert {path.parent.name for path in EXAMPLES.glob("*/parts.py")} == {*pages.PROJECTS}


# Scripts.


def load_script(name: str) -> Any:
    """Import a script afresh, so that what it registers is in the test's own registry."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUN = """
import runpy, sys, warnings
warnings.simplefilter("error")
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_runs_as_it_stands_and_ends_with_pictures(script: str, folder: Path) -> None:
    done = run_program(RUN, str(EXAMPLES / script), folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert all("@@" in line or "%%" in line or "##" in line for line in done.stdout.splitlines()[-5:-2])
    assert (folder / "runs" / script).with_suffix(".safetensors").exists()


# The variational auto-encoder.


@pytest.fixture
def vae() -> Any:
    return load_script("vae")


def same_batches(script: Any, split: str = "val", batch_size: int = 64) -> list[Any]:
    """Return the batches of a script's loader, with the same noise in each call."""
    torch.manual_seed(7)
    return list(script.make_loader(split, batch_size))


def test_vae_learns_to_reconstruct(vae: Any) -> None:
    errors = [
        vae.main(num_epochs).validate(same_batches(vae), metrics=[vae.ReconstructionError()])
        for num_epochs in (1, 8)
    ]
    assert errors[1]["val_loss"] < errors[0]["val_loss"] - 2
    assert errors[1]["val_reconstruction_error"] < 0.8 * errors[0]["val_reconstruction_error"]


def test_vae_loaded_by_name_gives_every_output_as_before(vae: Any, folder: Path) -> None:
    model = vae.main(1)
    images = same_batches(vae)[0][0]
    ours, loaded = (each.predict(images) for each in (model, argus_core.load_model("runs/vae.safetensors")))
    assert loaded._fields == ("image", "mean", "log_variance")
    assert all(map(torch.equal, ours, loaded))


def test_vae_loaded_by_name_has_its_beta(vae: Any) -> None:
    vae.VAE({**vae.PARAMS, "beta": 0.25}).save("vae.safetensors")
    assert argus_core.load_model("vae.safetensors").params["beta"] == 0.25


def test_beta_weighs_the_divergence(vae: Any) -> None:
    batch = same_batches(vae)[0]

    def loss(beta: float) -> float:
        torch.manual_seed(0)
        model = vae.VAE({**vae.PARAMS, "beta": beta, "step": None})
        value: float = model.val_step(batch)["loss"]
        return value

    divergence = loss(1.0) - loss(0.0)
    assert divergence > 0
    assert loss(3.0) == pytest.approx(loss(0.0) + 3 * divergence, rel=1e-5)


def test_vae_in_micro_batches_takes_the_steps_of_whole_batches(vae: Any) -> None:
    cut = [("accumulate", {"steps": 2}), ("microbatch", {"size": 7}), ("clip_grad_norm", {"max_norm": 0.5})]
    torch.manual_seed(0)
    model = in_float64(vae, cut)
    twin = in_float64(vae, None)
    twin.nn_module.load_state_dict(model.nn_module.state_dict())
    batches = [(images.double(), noise.double()) for images, noise in same_batches(vae, batch_size=30)][:5]
    model.fit(batches, num_epochs=3)
    for window in [batches[0:2], batches[2:4], batches[4:]] * 3:
        twin.optimizer.zero_grad()
        _, _, loss = twin.forward_loss(tuple(map(torch.cat, zip(*window, strict=True))))
        loss.backward()
        assert nn.utils.clip_grad_norm_(twin.nn_module.parameters(), 0.5) > 0.5
        twin.optimizer.step()
    for ours, theirs in zip(model.nn_module.parameters(), twin.nn_module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def in_float64(vae: Any, steps: Any) -> Any:
    model = vae.VAE({**vae.PARAMS, "optimizer": ("SGD", {"lr": 0.05, "momentum": 0.9}), "step": steps})
    model.nn_module.double()
    return model


@pytest.mark.parametrize("step", [["sam", "ema"], ["finite_guard", ("clip_grad_value", {"clip_value": 1.0})]])
def test_vae_trains_with_other_strategies_by_name(vae: Any, step: list[Any]) -> None:
    torch.manual_seed(0)
    model = vae.VAE({**vae.PARAMS, "step": step})
    batches = same_batches(vae)
    before = model.validate(batches)["val_loss"]
    assert model.fit(batches, batches, num_epochs=3)["val_loss"] < before - 5


def test_vae_samples_with_the_averaged_weights(vae: Any) -> None:
    model = vae.main(1)
    torch.manual_seed(0)
    sampled = model.sample(4)
    torch.manual_seed(0)
    with torch.no_grad():
        unaveraged = model.nn_module.decoder(torch.randn(4, 8)).sigmoid()
    assert sampled.shape == (4, 64)
    assert not torch.equal(sampled, unaveraged)


# The generative adversarial network.


@pytest.fixture
def gan() -> Any:
    return load_script("gan")


def test_gan_learns_to_make_images_like_those_of_the_data(gan: Any) -> None:
    torch.manual_seed(0)
    batches = same_batches(gan, batch_size=400)
    before = gan.GAN(gan.PARAMS).validate(batches, metrics=[gan.FrechetDistance()])
    after = gan.main(15).validate(batches, metrics=[gan.FrechetDistance()])
    assert after["val_frechet_distance"] < 0.4 * before["val_frechet_distance"]


def test_discriminator_of_the_gan_comes_to_guess(gan: Any) -> None:
    batches = same_batches(gan, batch_size=400)
    early, late = (gan.main(num_epochs).validate(batches)["val_loss"] for num_epochs in (1, 30))
    assert early < 0.45
    assert 0.5 < late < 0.8  # log 2 = 0.69 is pure guessing


def test_frechet_distance_of_gaussians_is_that_of_their_formula(gan: Any) -> None:
    torch.manual_seed(0)
    one = torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    other = torch.randn(400, 6, dtype=torch.float64) + 0.5
    c, d = (torch.cov(each.T, correction=0) for each in (one, other))
    root = torch.linalg.eigvals(c @ d).real.sqrt().sum()
    expected = (one.mean(0) - other.mean(0)).square().sum() + c.trace() + d.trace() - 2 * root
    assert gan.frechet_distance(one, other) == pytest.approx(float(expected), rel=1e-9)


def test_gan_loaded_by_name_makes_the_same_images(gan: Any) -> None:
    model = gan.main(1)
    noise = torch.randn(5, 16)
    loaded = argus_core.load_model("runs/gan.safetensors", optimizer=None)
    assert torch.equal(loaded.predict(noise), model.predict(noise))


def test_gan_goes_on_where_it_was_after_loading(gan: Any) -> None:
    model = gan.main(2)
    loaded = argus_core.load_model("runs/gan.safetensors")
    batches = same_batches(gan, "train", 64)[:5]
    for each in (model, loaded):
        each.fit(batches, seed=0)  # dropout
    ours, theirs = (each.nn_module.state_dict() for each in (model, loaded))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_gan_loads_without_its_optimizers_and_saves_again(gan: Any) -> None:
    gan.main(1)
    loaded = argus_core.load_model("runs/gan.safetensors", optimizer=None)
    assert loaded.discriminator_optimizer is None
    loaded.save("again.safetensors", optimizer_state=True)
    assert argus_core.load_model("again.safetensors").optimizer is None


def test_gan_refuses_the_state_of_another_discriminator_optimizer(gan: Any) -> None:
    model = gan.GAN(gan.PARAMS)
    model.discriminator_optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})
    model.save("gan.safetensors", optimizer_state=True)
    with pytest.raises(
        argus_core.StateMismatchError,
        match=r"^the stored extra state does not fit GAN: ValueError: loaded state dict has a different "
        r"number of parameter groups; build it with .* or load with optimizer=None$",
    ):
        argus_core.load_model("gan.safetensors")


def test_set_device_takes_the_state_of_both_optimizers_to_the_parameters(gan: Any) -> None:
    model = gan.GAN(gan.PARAMS)
    model.fit(same_batches(gan)[:1])
    model.nn_module.double()  # a second device is not everywhere; another dtype is another place, too
    model.set_device("cpu")
    for optimizer in (model.optimizer, model.discriminator_optimizer):
        assert {slots["exp_avg"].dtype for slots in optimizer.state.values()} == {torch.float64}


@pytest.mark.gpu
def test_gan_goes_on_on_another_device(gan: Any) -> None:
    model = gan.GAN(gan.PARAMS)
    batches = same_batches(gan)
    model.fit(batches)
    model.set_device("cuda")
    for optimizer in (model.optimizer, model.discriminator_optimizer):
        assert {slots["exp_avg"].device.type for slots in optimizer.state.values()} == {"cuda"}
    model.fit(batches)
