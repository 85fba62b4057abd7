"""Descriptions of parameters of optimizers that timm does not document."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

__all__ = ["documentation"]

_HEADING = "Args:\n"
_DECOUPLED = "whether weight decay acts on the weights themselves, as in AdamW, and not on the gradient"
_MEANINGS = {
    "beta2_cap": "upper limit of the decay of the running average of the squared gradient",
    "betas": "decays of the running averages of the gradient and of its square",
    "betas_1d": "betas of vectors, such as biases; by default those of matrices",
    "bias_correction": "whether to make up for running averages that begin at zero",
    "capturable": "whether an update can be captured in a CUDA graph",
    "caution": "whether to leave out the parts of an update that point against the gradient",
    "clip_exp": "the update is clipped to the number of updates so far to this power; None clips nothing",
    "clipping_threshold": "root mean square above which an update is scaled down; None scales nothing",
    "corrected_weight_decay": "whether decoupled weight decay is multiplied by lr / max_lr as the lr changes",
    "dampening": "share of a gradient that does not enter the momentum",
    "decay_offset": "how many updates the schedule of decay_rate begins late",
    "decay_rate": "the squared gradient's average decays by 1 - updates ** -decay_rate",
    "decoupled": _DECOUPLED,
    "decoupled_decay": _DECOUPLED,
    "delta": "cosine between weights and gradient below which the update is projected",
    "differentiable": "whether autograd may pass through an update",
    "eps": "added to the denominator, for numerical stability",
    "foreach": "whether to update many tensors in one call; None decides by device",
    "gamma": "strength of the variance reduction",
    "lr": "learning rate",
    "lr_1d_factor": "factor of lr for vectors, such as biases",
    "mars_type": "'adamw' or 'lion': what the variance reduction is combined with",
    "maximize": "whether to maximise the loss",
    "min_dim_size_to_factor": "smallest length of two dimensions whose second moment is kept in factors",
    "momentum": "decay of the running average of the gradient",
    "momentum_dtype": "dtype of the running average of the gradient",
    "nesterov": "whether to use Nesterov's momentum",
    "optimize_1d": "whether the variance reduction is used for vectors, too; else AdamW is",
    "precond_init_scale": "what the preconditioner begins with, a multiple of the identity",
    "precond_lr": "learning rate of the preconditioner",
    "unscaled_wd": "whether weight decay is not multiplied by lr",
    "wd_ratio": "factor of weight decay where the update is projected",
    "weight_decay": "weight decay",
}


def documentation(cls: type, parameters: Iterable[str]) -> str:
    """Return timm's documentation of an optimizer, with descriptions of the other parameters."""
    # Not inspect.getdoc of __init__, which falls back to that of object.
    docs = (cls.__doc__, getattr(vars(cls).get("__init__"), "__doc__", None))
    text = "\n\n".join(inspect.cleandoc(doc) for doc in docs if doc)
    missing = [name for name in parameters if not _is_described(name, text)]
    lines = "".join(f"    {name}: {_MEANINGS[name]}\n" for name in missing if name in _MEANINGS)
    if not lines:
        return text
    before, heading, after = text.partition(_HEADING)
    return f"{before}{heading}{lines}{after}" if heading else f"{text}\n\n{_HEADING}{lines}".strip()


def _is_described(name: str, text: str) -> bool:
    """Return whether a line begins with the name of a parameter, optionally its type, and a colon."""
    return re.search(rf"^ *{name}\b[^:\n]*:", text, re.MULTILINE) is not None
