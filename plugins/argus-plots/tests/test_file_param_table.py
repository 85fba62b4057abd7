"""What a file may set: every parameter of every component is in the table of the documentation."""

from __future__ import annotations

from pathlib import Path

from argus_core.testing import check_file_param_table

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "file-parameters.md"


def test_the_table_of_what_files_may_set_has_every_parameter() -> None:
    check_file_param_table(PAGE, "argus-plots", {"classes": "names"})
