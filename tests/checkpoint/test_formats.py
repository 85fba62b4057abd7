"""One function opens a checkpoint of any format; each format is a class of contents in one list."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from networks import PARAMS, make_model
from rewritten import rewrite

from argus_core import Model
from argus_core.checkpoint.formats import FORMATS, open_checkpoint
from argus_core.checkpoint.legacy import SavedState
from argus_core.errors import CheckpointError, CorruptCheckpointError, UnsafeCheckpointError

pytestmark = pytest.mark.usefixtures("net_registry")


@pytest.fixture(params=["argus_core", "pytorch-argus"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Model]:
    model = make_model()
    if request.param == "argus_core":
        model.save(tmp_path / "model.safetensors")
        return tmp_path / "model.safetensors", model
    state = {"model_name": "Model", "params": PARAMS, "nn_state_dict": model.nn_module.state_dict()}
    torch.save(state, tmp_path / "model.pth")
    return tmp_path / "model.pth", model


def test_contents_of_every_format_are_read_alike(checkpoint: tuple[Path, Model]) -> None:
    path, model = checkpoint
    with open_checkpoint(path) as saved:
        assert saved.model["as"] == "Model"
        assert saved.params() == PARAMS
        assert saved.forms("nn_module")["out.weight"] == "float32[3, 8]"
        torch.testing.assert_close(
            saved.module_state("nn_module"), dict(model.nn_module.state_dict()), rtol=0, atol=0
        )
        assert saved.forms("loss") == saved.module_state("loss") == {}
        assert saved.optimizer_outline() == saved.optimizer_state() == (None, None)
        assert (saved.legacy_state is not None) == (path.suffix == ".pth")


def test_a_file_of_no_format_is_reported_by_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "notes.safetensors").write_text("some notes, which are longer than a header's length")
    with pytest.raises(CorruptCheckpointError, match="notes.safetensors: not an argus checkpoint"):
        open_checkpoint(tmp_path / "notes.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        open_checkpoint(tmp_path / "missing.pth")
    assert FORMATS[-1].is_format_of(tmp_path / "missing.pth")


def test_the_checksum_of_the_whole_file_is_compared_in_every_format(checkpoint: tuple[Path, Model]) -> None:
    with pytest.raises(CorruptCheckpointError, match="the file is not the one asked for"):
        open_checkpoint(checkpoint[0], sha256="0" * 64)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model.safetensors")
    rewrite(tmp_path / "model.safetensors", lambda manifest: manifest.update(modes=3))
    with pytest.raises(UnsafeCheckpointError, match="the manifest's 'modes' is not as argus_core writes it"):
        open_checkpoint(tmp_path / "model.safetensors")
    gc.collect()  # an open file would warn


def test_contents_in_memory_have_the_form_of_pytorch_argus() -> None:
    with pytest.raises(
        CheckpointError, match="the saved state has no valid model_name, params, nn_state_dict"
    ):
        SavedState({"nn_state_dict": {3: torch.ones(1)}})
    with pytest.raises(CheckpointError, match="has no valid model_name, params, nn_state_dict;"):
        SavedState([])  # type: ignore[arg-type]
