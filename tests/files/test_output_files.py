"""Output files whose paths a user gives: the next action fits the system's reason."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from argus_core.errors import ArgusError
from argus_core.files.output_files import writing

pytestmark = pytest.mark.torchfree


@pytest.mark.parametrize(
    ("number", "action"),
    [
        (errno.ENOENT, "restore its folder"),
        (errno.ESTALE, "restore its folder"),
        (errno.EACCES, "let this user write there"),
        (errno.EROFS, "make its disk writable"),
        (errno.EMFILE, r"raise the limit of open files \(ulimit -n\)"),
        (errno.ENOSPC, "make room there"),
    ],
)
def test_next_action_fits_the_reason(tmp_path: Path, number: int, action: str) -> None:
    reason = os.strerror(number)
    with (
        pytest.raises(
            ArgusError, match=f"^csv cannot write '{tmp_path}': {reason}; {action} or choose another path$"
        ),
        writing("csv", tmp_path),
    ):
        raise OSError(number, reason)
