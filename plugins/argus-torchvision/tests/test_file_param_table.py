"""What a file may set: every parameter of every component is in the table of the documentation."""

from __future__ import annotations

from pathlib import Path

from argus_core.testing import check_file_param_table

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "file-parameters.md"

# What the parameters are that their types do not show to be plain.
REVIEWED = {
    "**kwargs": (
        "what the network's class takes: numbers and flags; what takes a class or a function "
        "refuses all that a file can hold"
    ),
    "clamping_mode": "a listed word",
    "classes": "names of classes",
    "dtype": "names of dtypes",
    "fill": "numbers",
    "format": "a listed word",
    "interpolation": "a listed word",
    "labels_getter": "a listed word",
    "loss": "the spec of a part, held to the same file",
    "mode": "a listed word",
    "norm_layer": "takes a class, so it refuses all that a file can hold",
    "policy": "a listed word",
    "target_transform": "specs of parts, each held to the same file",
    "then": "the spec of a part, held to the same file",
    "transform": "specs of parts, each held to the same file",
    "transforms": "specs of parts, each held to the same file",
    "weights": "a name that torchvision lists for the network; `load_model` fetches nothing, whatever it is",
    "weights_backbone": "as `weights`",
}


def test_the_table_of_what_files_may_set_has_every_parameter() -> None:
    check_file_param_table(PAGE, "argus-torchvision", REVIEWED)
