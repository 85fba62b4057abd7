from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import argus_core
from argus_core import ParamsError
from argus_core.testing import check_component

NAMES = ["CutMix", "MixUp"]
SAMPLES = [(torch.full((3, 8, 8), float(number)), number % 3) for number in range(10)]


def collate(name: str, **params: Any) -> Any:
    return argus_core.resolve("collate", name).load()(num_classes=3, **params)


@pytest.mark.parametrize("name", NAMES)
def test_part_keeps_the_contract_of_its_kind(name: str) -> None:
    check_component("collate", name, reload=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_torchvisions(name: str) -> None:
    torch.manual_seed(0)
    images, targets = collate(name, alpha=0.5)(SAMPLES[:4])
    torch.manual_seed(0)
    mix = getattr(v2, name)(num_classes=3, alpha=0.5)
    stacked = torch.stack([image for image, _ in SAMPLES[:4]])
    expected = mix(stacked, torch.tensor([label for _, label in SAMPLES[:4]]))
    assert torch.equal(images, expected[0])
    assert torch.equal(targets, expected[1])
    torch.testing.assert_close(targets.sum(1), torch.ones(4))


@pytest.mark.parametrize("name", NAMES)
def test_wrong_numbers_are_refused(name: str) -> None:
    factory = argus_core.resolve("collate", name).load()
    with pytest.raises(ParamsError, match=f"collate '{name}': num_classes is 0; give 1 or more"):
        factory(num_classes=0)
    with pytest.raises(ParamsError, match=f"collate '{name}': alpha is 0.0; give a number above 0"):
        factory(num_classes=3, alpha=0.0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_mixes_resumes_exactly(tmp_path: Path, workers: int) -> None:
    def fitted(**options: Any) -> Any:
        loader = DataLoader(SAMPLES, 4, shuffle=True, num_workers=workers, collate_fn=collate("MixUp"))  # type: ignore[arg-type]
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
        with argus_core.isolated_registry(builtins=True):
            argus_core.register("nn_module", "net", lambda: network)
            parts = {"nn_module": "net", "loss": "CrossEntropyLoss", "optimizer": ("SGD", {"lr": 0.01})}
            argus_core.Model({**parts, "device": "cpu"}).fit(loader, num_epochs=2, seed=1, **options)
        return network[1].weight

    keep = {"dir_path": str(tmp_path), "every": "1up", "optimizer_state": True}
    with_files = fitted(callbacks=[("checkpoint", keep)])
    (fourth,) = tmp_path.glob("*-000004.safetensors")
    assert torch.equal(fitted(resume=fourth), with_files)
