"""Runs the scripts on the ``argus`` that is installed here and writes down what they found.

With pytorch-argus 1.1.0 installed in place of argus-compat, ``python make.py`` writes ``results.json``
and the ``.pth`` files beside it. With the name of another file it writes that, and no ``.pth``.
"""

from __future__ import annotations

import hashlib
import json
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "scripts"
KEPT = {"loading": ["model.pth", "fixed.pth"]}


def main() -> None:
    sys.path.insert(0, str(SCRIPTS))
    torch.set_num_threads(1)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "results.json"
    results = {}
    for script in sorted(SCRIPTS.glob("*.py")):
        if script.stem == "blobs":
            continue
        with tempfile.TemporaryDirectory() as folder:
            results[script.stem] = runpy.run_path(str(script))["main"](Path(folder))
            for name in KEPT.get(script.stem, []) if len(sys.argv) == 1 else []:
                shutil.copy(Path(folder) / name, HERE / name)
    text = json.dumps(results, indent=1, sort_keys=True)
    target.write_text(text + "\n")
    print(target, hashlib.sha256(text.encode()).hexdigest())


if __name__ == "__main__":
    main()
