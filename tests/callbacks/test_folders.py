"""Checkpoint callbacks that write folders of shards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import batches, make_model

from argus_core import ArgusError, load_model

pytestmark = pytest.mark.usefixtures("net_registry")

DATA = batches((4, 3, 5, 2))


def checkpoint(folder: Path, **options: Any) -> Any:
    params = {"dir_path": str(folder), "every": "2up", "max_saves": 2, "optimizer_state": True, **options}
    return ("checkpoint", {"file_format": "m-{step:06d}.sharded", **params})


def trained(**options: Any) -> Any:
    model = make_model(optimizer=("Adam", {"lr": 0.1}))
    model.fit(DATA, seed=1, **options)
    return model


@pytest.mark.parametrize("background", [False, True])
def test_run_resumes_from_its_folders_and_deletes_old_ones(tmp_path: Path, background: bool) -> None:
    torch.manual_seed(0)
    whole = trained(num_epochs=3)
    torch.manual_seed(0)
    trained(num_epochs=2, callbacks=[checkpoint(tmp_path, background=background)])
    assert sorted(os.listdir(tmp_path)) == ["m-000006.sharded", "m-000008.sharded"]
    resumed = trained(num_epochs=3, callbacks=[checkpoint(tmp_path, background=background)], resume=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["m-000010.sharded", "m-000012.sharded"]
    for model in (resumed, load_model(tmp_path / "m-000012.sharded")):
        states = model.nn_module.state_dict(), whole.nn_module.state_dict()
        assert all(map(torch.equal, states[0].values(), states[1].values()))


def test_folder_with_files_of_others_is_refused_and_kept(tmp_path: Path) -> None:
    trained(num_epochs=1, callbacks=[checkpoint(tmp_path)])
    (tmp_path / "m-000002.sharded" / "notes.txt").touch()
    with pytest.raises(ArgusError, match="the file there was not written by a run; move it away"):
        trained(num_epochs=2, callbacks=[checkpoint(tmp_path)], resume=tmp_path / "m-000004.sharded")
    assert (tmp_path / "m-000002.sharded" / "notes.txt").exists()
