"""argus-compat is not used beside pytorch-argus."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = "import argus; print(argus.Model.__name__)"


def run(*folders: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_it_refuses_to_work_beside_pytorch_argus_and_says_what_to_do(tmp_path: Path) -> None:
    metadata = tmp_path / "pytorch_argus-1.1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: pytorch-argus\nVersion: 1.1.0\n")
    refused = run(tmp_path)
    assert refused.returncode == 1
    sentence = refused.stderr.splitlines()[-1]
    assert sentence.startswith(
        "ImportError: pytorch-argus 1.1.0 is installed beside argus-compat, and both contain "
        "the import package argus, so their files may be mixed; keep one of them."
    )
    assert "pip uninstall -y pytorch-argus argus-compat && pip install argus-compat." in sentence
    assert sentence.endswith("pip uninstall -y pytorch-argus argus-compat && pip install pytorch-argus")


def test_alone_it_works(tmp_path: Path) -> None:
    allowed = run(tmp_path)
    assert (allowed.stdout, allowed.stderr) == ("Model\n", "")
