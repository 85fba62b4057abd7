"""What a file may set: every parameter of every component is in the table of the documentation."""

from __future__ import annotations

from pathlib import Path

from argus_core.testing import check_file_param_table

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "file-parameters.md"

# What the parameters are that their types do not show to be plain.
REVIEWED = {
    "adjust_lr_fn": "a listed word",
    "algo": "a listed word",
    "cache_dir": "where fetched weights are kept; where none are fetched it counts for nothing",
    "conv_mode": "a listed word",
    "mars_type": "a listed word",
    "memory_save_mode": "a listed word",
    "model_name": "a name that timm lists; addresses and folders are refused",
    "momentum_dtype": "the name of a dtype",
    "ns_coefficients": "numbers, or a listed word",
    "preconditioner_update_probability": "a number",
    "pretrained": "a flag; `load_model` fetches nothing, whatever it is",
    "pretrained_cfg_overlay": (
        "what timm knows of weights; where none are fetched, as in `load_model`, files and "
        "addresses in it count for nothing"
    ),
    "sgdp.lr": "a number",
    "timm.**kwargs": "what the network's class takes; `checkpoint_path` and `pretrained_cfg` are refused",
    "timm_transform.**kwargs": "what timm's transforms take: numbers, flags, words",
}


def test_the_table_of_what_files_may_set_has_every_parameter() -> None:
    check_file_param_table(PAGE, "argus-timm", REVIEWED)
