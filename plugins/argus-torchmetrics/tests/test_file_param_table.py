"""What a file may set: every parameter of every component is in the table of the documentation."""

from __future__ import annotations

from pathlib import Path

from argus_core.testing import check_file_param_table

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "file-parameters.md"

# What the parameters are that their types do not show to be plain.
REVIEWED = {
    "aggregation": "a listed word",
    "backend": "one of two packages by name",
    "box_format": "a listed word",
    "cache_sessions": "a flag",
    "device": "the name of a device",
    "empty_target_action": "a listed word",
    "feature": "a number or a listed word",
    "inputs": "where in the step output arguments come from",
    "lang": "the name of a language",
    "metric_func": "the name of a function of torchmetrics.functional.audio",
    "mode": "a listed word",
    "multioutput": "a listed word",
    "name": "what the values are called",
    "prompts": "words that images are compared with",
    "rouge_keys": "listed words",
}


def test_the_table_of_what_files_may_set_has_every_parameter() -> None:
    check_file_param_table(PAGE, "argus-torchmetrics", REVIEWED)
